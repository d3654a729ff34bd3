"""Several nodes and several roles: Ray or not, prefill apart from decode, adapters."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """How the engine is spread."""

"""How the cluster hands out accelerators: whole, in parts, by device plugin or by claims (DRA)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuOptions:
    """How accelerators are asked for."""

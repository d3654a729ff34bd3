"""Who may call the model, and how: keys, a gateway or an Ingress."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessOptions:
    """How clients reach the model."""

"""What stands between the cluster and the world: proxies, certificates, mirrors, pull secrets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """How pods reach what is outside."""

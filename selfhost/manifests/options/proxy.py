"""The proxy of target hybrid: which requests may leave, to whom, at what cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyOptions:
    """What target hybrid sends away."""

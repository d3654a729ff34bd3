"""Typical numbers and a spread -> the ranges of an estimate."""

from __future__ import annotations

from dataclasses import replace

from selfhost.throughput.steady import Served
from selfhost.throughput.types import Range, Traffic

# What the 95th of 100 requests waits, over the mean wait: an exponential tail (-ln 0.05).
_TAIL = 3.0


def around_range(typical: float, spread: float, least: float = 0.0) -> Range:
    """So far from the typical number to both sides, and not below `least`, the roofline."""
    return Range(
        low=max(typical / (1 + spread), min(least, typical)), typical=typical, high=typical * (1 + spread)
    )


def first_range(served: Served, spread: float) -> Range:
    """From a request that finds the engine free to one of 20 that waits longest."""
    wait = served.first_seconds - served.alone_seconds
    high = served.alone_seconds * (1 + spread) + (wait if served.saturated else _TAIL * wait) * (1 + spread)
    return Range(
        low=served.alone_seconds / (1 + spread) * 1e3, typical=served.first_seconds * 1e3, high=high * 1e3
    )


def offered_range(output: float, spread: float, traffic: Traffic, served: Served, least: float) -> Range:
    """Of what arrives no more is answered; an engine that keeps up answers all of it.

    Args: `least` is the share of the typical time per token that no engine goes below.
    """
    found = around_range(output, spread)
    found = replace(found, high=max(output, min(found.high, output / least if least > 0 else found.high)))
    if traffic.request_rate is None:
        return found
    offered = traffic.request_rate * traffic.output_tokens
    low = found.low if served.saturated or served.requests_per_second <= 0 else min(found.typical, offered)
    return Range(low=low, typical=min(found.typical, offered), high=min(found.high, offered))

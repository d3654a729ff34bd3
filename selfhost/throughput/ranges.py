"""Typical numbers and a spread -> the ranges of an estimate."""

from __future__ import annotations

from dataclasses import replace

from selfhost.throughput.steady import Served
from selfhost.throughput.types import Estimate, Range, Traffic

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


def open_range(
    found: Estimate, traffic: Traffic, faster: Served, slower: Served, *, copies: int, least: float
) -> Estimate:
    """The ranges under arrivals, by the same queue with steps at both ends of their range.

    Near what the engine can serve, a step that takes a little longer means many more requests under way, and beyond it
    not all of what arrives is answered.

    Args:
        found: the estimate.
        traffic: its load, a rate.
        faster, slower: what one copy gives with the quickest and the slowest steps.
        copies: of the whole deployment.
        least: seconds per token that no engine goes below, with as many requests under way as the quickest steps leave.
    """
    first, token, speed = found.ttft_ms, found.tpot_ms, found.output_tokens_per_second
    answered = slower.requests_per_second * copies * traffic.output_tokens
    behind = slower.saturated and not found.saturated
    note = "With steps at the slow end of their range it falls behind this rate, and the queue grows."
    return replace(
        found,
        ttft_ms=replace(first, high=max(first.high, first_range(slower, 0.0).high)),
        tpot_ms=Range(
            low=min(token.low, max(faster.token_seconds, least) * 1e3),
            typical=token.typical,
            high=max(token.high, slower.token_seconds * 1e3),
        ),
        output_tokens_per_second=replace(speed, low=min(speed.low, answered)),
        notes=(*found.notes, note) if behind else found.notes,
    )


def offered_range(output: float, spread: float, traffic: Traffic, served: Served, least: float) -> Range:
    """Of what arrives no more is answered; an engine that keeps up answers all of it.

    Args: `least` is the share of the typical time per token that no engine goes below.
    """
    low, high = output / (1 + spread), output * (1 + spread)
    high = max(output, min(high, output / least if least > 0 else high))
    if traffic.request_rate is None:
        return Range(low=low, typical=output, high=high)
    offered = traffic.request_rate * traffic.output_tokens
    if not served.saturated and served.requests_per_second > 0:
        low = min(output, offered)
    return Range(low=low, typical=min(output, offered), high=min(high, offered))

"""A node in a few hundred bytes: what /api/v1/summary answers and the fleet view reads."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

from selfhost.errors import MalformedAnswerError, SelfhostError
from selfhost.strict import decode, encode, parse

SUMMARY_SCHEMA = "selfhost/summary/v1"
# Checks in a summary, worst first; ours: what a row of the fleet view and its tooltip have room for.
MOST_CHECKS = 5

# As selfhost.health has them; named again since this stands below it in the layers.
SummaryLevel = Literal["ok", "warn", "critical", "unknown", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSummary:
    """One check that is not well: code, index of the GPU (None for node or engine), a sentence, what to do."""

    code: str
    level: SummaryLevel
    gpu: int | None
    message: str
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSummary:
    """One GPU. `up` is false once it is lost, needs a reset or does not answer; a reading that is missing is None."""

    index: int
    uuid: str
    name: str
    up: bool
    utilization_ratio: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_celsius: int | None = None
    power_watts: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSummary:
    """One engine. Generated tokens a second are over the last observations; None before there are two."""

    name: str
    running: int | None = None
    waiting: int | None = None
    kv_usage_ratio: float | None = None
    tokens_per_second: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A node at one moment.

    Args:
        at: Unix time of the observation it rests on, by the node's clock.
        verdict: of the node.
        checks: the worst that are not well, at most five.
        interval_seconds: how often the node is observed, None where it is not said.
    """

    schema: str
    host: str
    at: float
    verdict: SummaryLevel
    checks: tuple[CheckSummary, ...]
    gpus: tuple[GpuSummary, ...]
    engines: tuple[EngineSummary, ...]
    interval_seconds: float | None = field(default=None, metadata={"later": True})


def write_summary(summary: Summary) -> bytes:
    """A summary as one line of JSON."""
    text = json.dumps(encode(summary), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode() + b"\n"


def read_summary(text: str) -> Summary:
    """What a node answered.

    Raises:
        MalformedAnswerError: not JSON, another version, or unknown or missing fields.
    """

    def refuse(sentence: str) -> SelfhostError:
        return MalformedAnswerError(
            f"the summary {sentence}" if sentence.startswith(("is", "nests")) else sentence,
            hint="Run the same release of selfhost on the node and here.",
        )

    data = parse(text, refuse)
    if data.get("schema") != SUMMARY_SCHEMA:
        raise refuse(f"is not a {SUMMARY_SCHEMA}")
    summary = decode(Summary, data, "summary", refuse)
    assert isinstance(summary, Summary)
    return summary

"""A smoke test as JSON: what `selfhost test --json` and the events of a deployment hold."""

from __future__ import annotations

from selfhost.deploy.figures import MemoryFigures
from selfhost.deploy.smoke.types import Smoke
from selfhost.observation import Missing, Reading


def facts_of(found: Smoke) -> dict[str, object]:
    """Everything of it, unknown figures as null."""
    stream = found.stream
    return {
        "passed": found.passed,
        "checks": [
            {
                "code": check.code,
                "verdict": check.verdict,
                "because": check.because,
                "seconds": None if check.seconds is None else round(check.seconds, 4),
            }
            for check in found.checks
        ],
        "stream": None
        if stream is None
        else {
            "first_token_seconds": _short(stream.first_token_seconds),
            "inter_token_seconds": _short(stream.inter_token_seconds),
            "slowest_gap_seconds": _short(stream.slowest_gap_seconds),
            "tokens_per_second": _short(stream.tokens_per_second),
            "tokens": stream.tokens,
            "counted": stream.counted,
        },
        "memory": None if found.memory is None else facts_of_memory(found.memory),
    }


def facts_of_memory(memory: MemoryFigures) -> dict[str, object]:
    """Memory next to the plan's prediction, in bytes on one GPU."""
    return {
        "terms": [
            {
                "name": term.name,
                "predicted_bytes": term.predicted_bytes,
                "actual_bytes": _value(term.actual),
                "error_bytes": term.error_bytes,
                "error_ratio": _short(term.error_ratio),
                "because": term.because,
            }
            for term in memory.terms
        ],
        "kv_tokens_predicted": memory.kv_tokens_predicted,
        "kv_tokens": _value(memory.kv_tokens),
        "kv_tokens_error_ratio": _short(memory.kv_tokens_error_ratio),
    }


def _value(reading: Reading[int]) -> int | None:
    return None if isinstance(reading, Missing) else reading


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 6)

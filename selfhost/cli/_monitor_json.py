"""What `selfhost monitor --json` prints: the observation as it is recorded, with the verdict of its checks."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from selfhost.health.types import Health
from selfhost.observation import Observation
from selfhost.strict import encode

if TYPE_CHECKING:
    from selfhost.plan import Plan

SCHEMA_NAME, VERSION = "monitor", 1


def facts(observation: Observation, health: Health, *, answers: bool, plan: Plan | None) -> dict[str, object]:
    """The object without its schema.

    Args:
        observation: what was seen.
        health: what the checks said of it.
        answers: nothing is lost or unusable: the exit code is 0.
        plan: adds what the plan predicted of the memory, and what was seen of it.
    """
    made: dict[str, object] = {
        "at": observation.at,
        "answers": answers,
        "verdict": health.verdict,
        "node": _finite(encode(observation.node)),
        "engines": _finite(encode(observation.engines)),
        "engines_looked_for": observation.engines_looked_for,
    }
    if plan is not None:
        from selfhost.cli._monitor_memory import memory_facts

        made["memory"] = _finite(memory_facts(observation, plan))
    return made


def one_line(facts_: dict[str, object]) -> str:
    """The whole object in one line, for a stream."""
    import json

    return json.dumps({"schema": f"selfhost/{SCHEMA_NAME}/v{VERSION}", **facts_}, allow_nan=False)


def _finite(value: object) -> object:
    """The same without NaN and infinity, which JSON has not: such a reading is a missing one."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not isfinite(value):
        return {"missing": f"not a number: {value}", "code": None}
    return value

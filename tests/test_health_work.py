"""A busy GPU without signs of work is unknown, unless it works after all or an engine can tell."""

from __future__ import annotations

from typing import Any

import pytest

from selfhost.health.baseline import Baseline, GpuBaseline
from selfhost.health.types import Check
from selfhost.observation import EngineSnapshot, Missing
from tests.health_samples import ABSENT, NOW, gpu, identity, judge, node, polls, seen

SPIN: dict[str, Any] = {"utilization_ratio": 1.0, "power_watts": 118.0}
LIMIT: dict[str, Any] = {"power_limit_watts": 700.0}
BAND = Baseline(
    schema="selfhost/baseline/v1",
    host="gpu-3",
    learnt_at=NOW - 1000,
    driver=None,
    gpus=(
        GpuBaseline(
            uuid=identity().uuid,
            index=0,
            name="H100",
            pci_address="0",
            busy_low_watts=300.0,
            busy_high_watts=500.0,
            busy_samples=60,
        ),
    ),
)


def one(quick: dict[str, Any], rare: dict[str, Any] | None = None, **context: Any) -> Check:
    (check,) = judge(polls(3, quick=quick, rare=rare or LIMIT), **context)["gpu-work"]
    return check


def test_busy_at_a_sixth_of_its_limit_is_unknown() -> None:
    check = one(SPIN)
    assert (check.level, check.gpu, check.action) == ("unknown", 0, "check_application")
    assert "at 118 of 700 W" in check.message
    assert "100 % busy" in check.message


def test_idle_tensor_cores_and_memory_tell_more_than_power() -> None:
    idle = {"tensor_activity_ratio": 0.0, "memory_activity_ratio": 0.01}
    assert "tensor cores 0 % and memory 1 % active" in one(SPIN | idle).message
    assert one(SPIN | {"tensor_activity_ratio": 0.3, "memory_activity_ratio": 0.4}).level == "ok"
    assert one(SPIN | {"tensor_activity_ratio": 0.0, "memory_activity_ratio": 0.4}).level == "ok"


def test_a_learnt_band_is_held_against_the_power() -> None:
    assert "at 180 W of a learnt 300–500 W" in one(SPIN | {"power_watts": 180.0}, baseline=BAND).message
    assert one(SPIN | {"power_watts": 210.0}, baseline=BAND).level == "ok"


@pytest.mark.parametrize(
    ("quick", "rare"),
    [
        ({"utilization_ratio": 0.5, "power_watts": 118.0}, LIMIT),
        ({"utilization_ratio": 1.0, "power_watts": 420.0}, LIMIT),
        ({"utilization_ratio": 1.0, "power_watts": ABSENT}, LIMIT),
        ({"utilization_ratio": 1.0, "power_watts": 118.0}, {"power_limit_watts": ABSENT}),
        ({"utilization_ratio": ABSENT, "power_watts": 118.0}, LIMIT),
    ],
)
def test_work_idleness_and_what_cannot_be_told_are_well(quick: dict[str, Any], rare: dict[str, Any]) -> None:
    assert one(quick, rare).level == "ok"


def test_one_look_asks_for_another() -> None:
    (check,) = judge(polls(1, quick=SPIN, rare=LIMIT))["gpu-work"]
    assert (check.level, check.wants_history) == ("unknown", True)


def test_an_engine_whose_tokens_can_be_read_is_judged_by_its_own_check() -> None:
    spinning = node(gpu(at=NOW - 2, quick=SPIN, rare=LIMIT)), node(gpu(at=NOW, quick=SPIN, rare=LIMIT))
    engine = EngineSnapshot(
        name="m", url="http://e", engine="vllm", at=NOW, gpu_uuids=(identity().uuid,), generation_tokens=5
    )
    for tokens, level in ((5, "ok"), (Missing(missing="refused"), "unknown")):
        history = seen(*spinning, engines=(_with(engine, tokens),), engines_looked_for=True)
        assert judge(history)["gpu-work"][0].level == level


def _with(engine: EngineSnapshot, tokens: Any) -> EngineSnapshot:
    from dataclasses import replace

    return replace(engine, generation_tokens=tokens)

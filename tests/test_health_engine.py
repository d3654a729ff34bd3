"""Verdicts on engines beside their GPUs, from plain observations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from selfhost.health import Baseline, Check, Context, GpuBaseline
from selfhost.health.baseline import SCHEMA as BASELINE
from selfhost.health.checks import checkers
from selfhost.health.checks.engines import CHECKS
from selfhost.health.engine import engine_up
from selfhost.health.engine_bound import engine_bound
from selfhost.health.engine_drift import memory_drift
from selfhost.health.engine_power import busy_power
from selfhost.health.engine_skew import engine_skew
from selfhost.health.engine_wedged import engine_wedged
from selfhost.health.memory_plan import MemoryTerm, memory_plan, memory_terms
from selfhost.observation import (
    CacheConfig,
    EngineSnapshot,
    FastReadings,
    GpuIdentity,
    GpuProcess,
    GpuSnapshot,
    Missing,
    NodeSnapshot,
    Observation,
    SlowReadings,
    StartupMemory,
)
from selfhost.observation.reading import NOT_READ
from selfhost.units import GIB, MIB
from tests import plans

NOW = 1_700_000_000.0
URL = "http://127.0.0.1:8000"
NOT_SUPPORTED = Missing(missing="not supported by this board", code=3)
FAILED = Missing(missing="unknown error", code=999)
SILENT = Missing(missing="no request was sent")
UNANSWERED = Missing(missing="no answer within 2.0 s")


def gpu(index: int = 0, *, at: float = NOW, slow: dict[str, Any] | None = None, **fast: Any) -> GpuSnapshot:
    values: dict[str, Any] = {
        "utilization_ratio": 0.98, "power_watts": 540.0, "sm_clock_mhz": 1800, "temperature_celsius": 60,
        "tensor_activity_ratio": NOT_SUPPORTED, "memory_activity_ratio": NOT_SUPPORTED, "clock_reasons": 0,
        "memory_used_bytes": 70 * GIB,
    }  # fmt: skip
    slow_values: dict[str, Any] = {"pcie_generation": 5, "pcie_width": 16, "processes": ()}
    return GpuSnapshot(
        identity=GpuIdentity(
            index=index,
            uuid=f"GPU-{index}",
            pci_address=f"00000000:0{index}:00.0",
            name="NVIDIA H100 80GB HBM3",
            sm_clock_max_mhz=1980,
        ),
        fast_at=at,
        slow_at=at,
        fast=FastReadings(**(values | fast)),
        slow=SlowReadings(**(slow_values | (slow or {}))),
    )


def engine(at: float = NOW, **changes: Any) -> EngineSnapshot:
    values: dict[str, Any] = {
        "name": "m", "url": URL, "engine": "vllm", "at": at, "gpu_uuids": ("GPU-0",), "health_status": 200,
        "metrics_age_seconds": 0.0, "running": 4, "waiting": 12, "kv_usage_ratio": 0.4, "preemptions": 0,
        "prompt_tokens": 1000, "generation_tokens": 5000, "requests_finished": 10, "sleeping": False,
        "canary_seconds": SILENT, "model": "m",
    }  # fmt: skip
    return EngineSnapshot(**(values | changes))


def look(at: float, engines: tuple[EngineSnapshot, ...], gpus: tuple[GpuSnapshot, ...]) -> Observation:
    node = NodeSnapshot(host="node-1", gpus=gpus)
    return Observation(schema="x", at=at, node=node, engines=engines, engines_looked_for=True)


def history(
    *,
    seconds: float = 40,
    step: float = 2,
    per_look: Any = lambda index: ({}, {}),
    gpus: int = 1,
) -> tuple[Observation, ...]:
    """Looks every `step` seconds until now; `per_look(seconds since the first)` gives (engine's, GPUs') changes."""
    found = []
    count = int(seconds / step) + 1
    for number in range(count):
        at = NOW - (count - 1 - number) * step
        of_engine, of_gpu = per_look(number * step)
        uuids = tuple(f"GPU-{index}" for index in range(gpus))
        seen = engine(at, **({"gpu_uuids": uuids} | of_engine))
        found.append(look(at, (seen,), tuple(gpu(index, at=at, **of_gpu) for index in range(gpus))))
    return tuple(found)


def only(checks: list[Check]) -> Check:
    (check,) = checks
    assert check.source
    assert check.engine == (None if check.level == "skipped" and check.engine is None else URL)
    return check


def learnt(low: float = 460.0, high: float = 610.0, count: int = 1) -> Context:
    band = {"busy_low_watts": low, "busy_high_watts": high, "busy_samples": 20}
    rows = tuple(
        GpuBaseline(uuid=f"GPU-{index}", index=index, name="H100", pci_address="x", **band)  # type: ignore[arg-type]
        for index in range(count)
    )
    baseline = Baseline(schema=BASELINE, host="node-1", learnt_at=NOW - 9999, driver="580", gpus=rows)
    return Context(now=NOW, baseline=baseline)


BARE = Context(now=NOW)


# Wedged.


def test_wedged_by_power_says_all_its_numbers() -> None:
    check = only(
        engine_wedged(
            history(seconds=41, step=1, per_look=lambda _: ({"running": 0}, {"power_watts": 118.0})), learnt()
        )
    )
    assert (check.level, check.action) == ("critical", "restart_engine")
    assert check.message == (
        "m: wedged for 41 s: 12 waiting, 0 tokens, GPUs 98 % busy at 118 W of a learnt 460–610 W"
    )
    assert "/health 200" in check.evidence
    assert not check.wants_history


def test_wedged_by_gpm_needs_no_band() -> None:
    def at(_: float) -> Any:
        return {}, {"tensor_activity_ratio": 0.0, "memory_activity_ratio": 0.001, "power_watts": 300.0}

    check = only(engine_wedged(history(per_look=at), BARE))
    assert check.level == "critical"
    assert "at 300 W, tensor cores 0 % and memory 0 % active" in check.message


def test_samples_that_reach_back_to_the_last_token_do_not_hide_it() -> None:
    def at(seconds: float) -> Any:
        worked = seconds <= 30  # GPM compares with the poll before, when tokens still flowed
        gpm = {"tensor_activity_ratio": 0.4 * worked, "memory_activity_ratio": 0.5 * worked}
        return {"generation_tokens": int(min(seconds, 30))}, gpm

    check = only(engine_wedged(history(seconds=60, step=5, per_look=at), BARE))
    assert check.level == "critical"
    assert "wedged for 30 s" in check.message


@pytest.mark.parametrize(("code", "says"), [(15, "is lost"), (16, "must be reset")])
def test_an_engine_that_stands_still_because_a_gpu_is_gone(code: int, says: str) -> None:
    whole = history(gpus=2, per_look=lambda _: ({}, {"power_watts": 540.0}))
    node = whole[-1].node
    gone = replace(node.gpus[1], fault=Missing(missing="gone", code=code))
    seen = (*whole[:-1], replace(whole[-1], node=replace(node, gpus=(node.gpus[0], gone))))
    check = only(engine_wedged(seen, learnt(count=2)))
    assert (check.level, check.action) == ("critical", "restart_engine")
    assert says in check.message
    assert "gpu 1" in check.message
    other = replace(gone, fault=Missing(missing="unknown error", code=999))
    seen = (*whole[:-1], replace(whole[-1], node=replace(node, gpus=(node.gpus[0], other))))
    assert only(engine_wedged(seen, learnt(count=2))).level != "critical"


@pytest.mark.parametrize(
    ("of_engine", "of_gpu", "level", "says"),
    [
        ({}, {"power_watts": 540.0}, "ok", "at work"),  # a long prefill: power in its band
        ({}, {"power_watts": 118.0, "tensor_activity_ratio": 0.3}, "ok", "tensor cores 30 %"),
        ({}, {"power_watts": 118.0, "tensor_activity_ratio": 0.0, "memory_activity_ratio": 0.4}, "ok", "memory 40 %"),
        ({}, {"power_watts": 118.0, "utilization_ratio": 0.6}, "ok", "not wedged: GPUs 60 % busy"),
        ({}, {"power_watts": 90.0, "utilization_ratio": 0.02}, "warn", "stuck outside the GPUs"),
        ({}, {"power_watts": FAILED}, "unknown", "power of gpu 0"),
        ({}, {"utilization_ratio": FAILED}, "unknown", "utilization of gpu 0"),
        ({"gpu_uuids": Missing(missing="2 engines")}, {"power_watts": 118.0}, "unknown", "2 engines"),
        ({"waiting": FAILED}, {"power_watts": 118.0}, "unknown", "--canary"),
        ({"running": 0, "waiting": 0}, {"power_watts": 540.0}, "ok", "idle"),
        ({"running": 0, "waiting": 0}, {"power_watts": 118.0}, "unknown", "a one-token request would tell"),
        ({"running": 0, "waiting": 0, "canary_seconds": UNANSWERED}, {"power_watts": 118.0}, "critical",
         "a one-token request unanswered"),
        ({"waiting": FAILED, "canary_seconds": UNANSWERED}, {"power_watts": 118.0}, "critical", "wedged"),
        ({"sleeping": True}, {"power_watts": 118.0}, "ok", "asleep"),
        ({"generation_tokens": FAILED, "prompt_tokens": FAILED}, {"power_watts": 118.0}, "unknown", "counter"),
        ({"metrics_age_seconds": FAILED}, {"power_watts": 118.0}, "unknown", "cannot be read"),
    ],
)  # fmt: skip
def test_each_leg(of_engine: dict[str, Any], of_gpu: dict[str, Any], level: str, says: str) -> None:
    check = only(engine_wedged(history(per_look=lambda _: (of_engine, of_gpu)), learnt()))
    assert (check.level, says in check.message) == (level, True), check.message


def test_without_a_band_it_says_how_to_learn_one() -> None:
    check = only(engine_wedged(history(per_look=lambda _: ({}, {"power_watts": 118.0})), BARE))
    assert check.level == "unknown"
    assert "`selfhost health --learn`" in check.message


def test_the_band_is_learnt_from_what_was_seen_before() -> None:
    def at(seconds: float) -> Any:
        stuck = seconds > 60
        tokens = 5000 + 100 * int(min(seconds, 60))
        return {"generation_tokens": tokens}, {"power_watts": 120.0 if stuck else 500.0 + seconds}

    seen = history(seconds=110, per_look=at)
    (band,) = busy_power(seen, seen[-1].engines[0])
    assert 500 <= band.low_watts < band.median_watts < band.high_watts <= 560
    assert band.samples == 30
    check = only(engine_wedged(seen, BARE))
    assert check.level == "critical"
    assert "wedged for 50 s" in check.message
    assert busy_power(seen[:4], seen[-1].engines[0]) == ()


def test_one_look_asks_for_more_and_stops_once_tokens_move() -> None:
    stuck = history(per_look=lambda _: ({}, {"power_watts": 118.0}))
    first = only(engine_wedged(stuck[:1], learnt()))
    assert (first.level, first.wants_history) == ("unknown", True)
    five = only(engine_wedged(stuck[:3], learnt()))
    assert (five.level, five.wants_history) == ("unknown", True)
    ten = only(engine_wedged(stuck[:6], learnt()))
    assert (ten.level, ten.wants_history) == ("critical", False)
    moving = history(per_look=lambda at: ({"generation_tokens": int(at)}, {"power_watts": 118.0}))
    check = only(engine_wedged(moving[:2], learnt()))
    assert (check.level, check.wants_history) == ("ok", False)
    assert "1.0 generated a second" in check.message
    working = history(per_look=lambda _: ({}, {"tensor_activity_ratio": 0.5}))
    assert only(engine_wedged(working[:1], BARE)).level == "ok"


def test_a_pause_after_tokens_is_given_thirty_seconds() -> None:
    def at(seconds: float) -> Any:
        return {"generation_tokens": int(min(seconds, 20))}, {"power_watts": 118.0}

    assert only(engine_wedged(history(seconds=40, per_look=at), learnt())).level == "ok"
    check = only(engine_wedged(history(seconds=52, per_look=at), learnt()))
    assert check.level == "critical"
    assert "for 32 s" in check.message


def test_a_request_that_just_came_after_a_quiet_time_is_no_wedge() -> None:
    def at(seconds: float) -> Any:
        return {"waiting": int(seconds > 30), "running": 0}, {"power_watts": 118.0}

    check = only(engine_wedged(history(seconds=40, per_look=at), learnt()))
    assert check.level == "ok"
    assert "no token for 8 s" in check.message


def test_a_restart_of_the_engine_is_movement() -> None:
    seen = history(
        per_look=lambda at: ({"generation_tokens": 5000 if at < 36 else 0}, {"power_watts": 118.0})
    )
    assert only(engine_wedged(seen, learnt())).level == "ok"


def test_a_repeated_scrape_counts_once_and_an_old_one_says_nothing() -> None:
    def at(seconds: float) -> Any:
        return {"metrics_age_seconds": seconds}, {"power_watts": 118.0}

    check = only(engine_wedged(history(seconds=12, per_look=at), learnt()))
    assert (check.level, check.wants_history) == ("unknown", True)
    check = only(engine_wedged(history(seconds=40, per_look=at), learnt()))
    assert check.level == "unknown"
    assert "its metrics are 40 s old" in check.message


def test_two_gpus_of_which_one_spins_are_wedged_and_one_at_work_is_not() -> None:
    def looks(*watts: float) -> tuple[Observation, ...]:
        return tuple(
            look(
                one.at,
                one.engines,
                tuple(
                    replace(seen, fast=replace(seen.fast, power_watts=value))
                    for seen, value in zip(one.node.gpus, watts, strict=True)
                ),
            )
            for one in history(gpus=2)
        )

    assert only(engine_wedged(looks(118.0, 130.0), learnt(count=2))).level == "critical"
    assert only(engine_wedged(looks(118.0, 530.0), learnt(count=2))).level == "ok"


# Up.


def test_an_engine_that_answered_before_does_not_load_now() -> None:
    dead = {"health_status": FAILED, "metrics_age_seconds": 60.0, "pids": (7,)}
    seen = history(per_look=lambda seconds: ({"pids": (7,)} if seconds < 20 else dead, {}))
    assert only(engine_up(seen, BARE)).level == "critical"


@pytest.mark.parametrize(
    ("changes", "level", "action"),
    [
        ({}, "ok", "none"),
        ({"health_status": 503}, "critical", "restart_engine"),
        ({"health_status": 503, "engine": "sglang"}, "warn", "check_application"),
        ({"health_status": 401}, "warn", "check_application"),
        ({"health_status": UNANSWERED}, "warn", "check_application"),
        ({"health_status": FAILED, "metrics_age_seconds": FAILED}, "critical", "check_application"),
        ({"health_status": FAILED, "metrics_age_seconds": FAILED, "pids": (7,)}, "warn", "check_application"),
        ({"metrics_age_seconds": Missing(missing="HTTP 404: no metrics here")}, "warn", "fix_configuration"),
        ({"metrics_age_seconds": Missing(missing="HTTP 404: no metrics"), "engine": "sglang"}, "ok", "none"),
        ({"metrics_age_seconds": 60.0}, "warn", "check_application"),
        ({"metrics_age_seconds": NOT_READ, "health_status": NOT_READ}, "unknown", "none"),
    ],
)
def test_up(changes: dict[str, Any], level: str, action: str) -> None:
    check = only(engine_up((look(NOW, (engine(**changes),), ()),), BARE))
    assert (check.level, check.action) == (level, action)


def test_one_late_answer_is_no_hang() -> None:
    late: dict[str, Any] = {"health_status": UNANSWERED}
    once = history(per_look=lambda seconds: ({}, {}))[:-1]
    once += (look(NOW, (engine(**late),), ()),)
    assert only(engine_up(once, BARE)).level == "warn"
    assert only(engine_up(once, BARE)).wants_history
    twice = history(per_look=lambda seconds: (late, {}))
    assert (only(engine_up(twice, BARE)).level, only(engine_up(twice, BARE)).action) == (
        "critical", "restart_engine",
    )  # fmt: skip


@pytest.mark.parametrize("checker", CHECKS, ids=lambda checker: checker.__name__)
def test_without_engines_every_check_is_skipped(checker: Any) -> None:
    assert only(checker((look(NOW, (), ()),), BARE)).level == "skipped"
    assert checker in checkers()


# What binds it.


@pytest.mark.parametrize(
    ("of_engine", "of_gpu", "level", "says"),
    [
        ({"waiting": 0}, {}, "ok", "not bound: no queue (0 waiting, 4 running, KV cache 40 % full)"),
        ({"kv_usage_ratio": 0.98}, {}, "ok", "bound by its KV cache: 12 waiting"),
        ({}, {"utilization_ratio": 0.2}, "warn",
         "bound by the host: 12 waiting, 4 running, KV cache 40 % full, GPUs 20 % busy"),
        ({}, {"tensor_activity_ratio": 0.6, "memory_activity_ratio": 0.3}, "ok", "bound by computation"),
        ({}, {"tensor_activity_ratio": 0.1, "memory_activity_ratio": 0.8}, "ok", "bound by memory bandwidth"),
        ({}, {"tensor_activity_ratio": 0.1, "memory_activity_ratio": 0.2}, "ok", "communication or kernel launches"),
        ({}, {"clock_reasons": 0x4, "sm_clock_mhz": 1485}, "ok",
         "bound by power: at the power limit 100 % of the time, clocks 25 % below the highest"),
        ({}, {}, "ok", "bound by the GPUs"),
        ({}, {"utilization_ratio": FAILED}, "unknown", "cannot be read"),
        ({}, {"utilization_ratio": NOT_SUPPORTED}, "skipped", "cannot be read"),
        ({"gpu_uuids": FAILED}, {}, "unknown", "which GPUs"),
        ({"gpu_uuids": FAILED, "kv_usage_ratio": 1.0}, {}, "ok", "KV cache"),
        ({"waiting": FAILED}, {}, "unknown", "whether requests wait"),
        ({"sleeping": True}, {}, "ok", "asleep"),
    ],
)  # fmt: skip
def test_bound(of_engine: dict[str, Any], of_gpu: dict[str, Any], level: str, says: str) -> None:
    check = only(engine_bound(history(per_look=lambda _: (of_engine, of_gpu)), BARE))
    assert (check.level, says in check.message) == (level, True), check.message


def test_kv_bound_with_rising_preemptions_is_a_warning() -> None:
    seen = history(per_look=lambda at: ({"kv_usage_ratio": 0.99, "preemptions": int(at)}, {}))
    check = only(engine_bound(seen, BARE))
    assert (check.level, check.action) == ("warn", "fix_configuration")
    assert "40 requests put back in 40 s" in check.message


def test_batch_bound_by_the_plan() -> None:
    plan = plans.plan()
    places = plan.memory.max_num_seqs
    check = only(
        engine_bound(history(per_look=lambda _: ({"running": places}, {})), Context(now=NOW, plan=plan))
    )
    assert f"all {places} places" in check.message


# Skew.


def skewed(gpus: int = 4, slow: dict[str, Any] | None = None, **odd: Any) -> tuple[Observation, ...]:
    return tuple(
        look(one.at, one.engines, (*one.node.gpus[:-1], gpu(gpus - 1, at=one.at, slow=slow, **odd)))
        for one in history(seconds=4, gpus=gpus)
    )


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        (skewed(sm_clock_mhz=900), "gpu 3 with SM clock 900 MHz against 1800 MHz"),
        (skewed(temperature_celsius=85), "gpu 3 with temperature 85 °C against 60 °C"),
        (skewed(clock_reasons=0x40), "gpu 3 with hardware thermal slowdown"),
        (skewed(slow={"pcie_width": 8, "pcie_generation": 5}), "gpu 3 with PCIe width x8 against x16"),
        (skewed(gpus=2, sm_clock_mhz=900), "gpu 1 with SM clock 900 MHz against 1800 MHz"),
    ],
)
def test_the_slow_rank_is_named(seen: tuple[Observation, ...], says: str) -> None:
    check = only(engine_skew(seen, BARE))
    assert (check.level, says in check.message) == ("warn", True), check.message
    once = only(engine_skew(seen[-1:], BARE))
    assert (once.level, once.wants_history) == ("unknown", True)


def test_even_ranks_and_what_cannot_be_compared() -> None:
    assert only(engine_skew(history(gpus=4), BARE)).level == "ok"
    assert only(engine_skew(history(), BARE)).level == "skipped"
    idle = history(gpus=2, per_look=lambda _: ({}, {"utilization_ratio": 0.0}))
    assert only(engine_skew(idle, BARE)).level == "skipped"
    missing = history(gpus=2, per_look=lambda _: ({}, {"sm_clock_mhz": NOT_SUPPORTED}))
    assert only(engine_skew(missing, BARE)).level == "ok"


def test_power_is_compared_where_the_plan_says_the_ranks_work_together() -> None:
    seen = skewed(gpus=2, power_watts=200.0)
    assert only(engine_skew(seen, BARE)).level == "ok"
    check = only(engine_skew(seen, Context(now=NOW, plan=plans.plan(tensor=2))))
    assert "gpu 1 with power 200 W against 540 W" in check.message


# Memory against the plan: TP 2 of H100, 30.5 GiB of weights a rank, blocks of 2 MiB.

PLAN = plans.plan()
BLOCK = PLAN.memory.kv_block_tokens * PLAN.memory.kv_bytes_per_token
BLOCKS = PLAN.memory.kv_blocks or 0
PREDICTED = {term.name: term.predicted_bytes for term in memory_terms(PLAN, engine(), ())}
TOTAL = PREDICTED["total"] or 0


def served(held: int = TOTAL, blocks: int = BLOCKS, **changes: Any) -> tuple[Observation, ...]:
    cache = CacheConfig(gpu_blocks=blocks, block_tokens=16, kv_dtype="auto")
    values: dict[str, Any] = {"cache": cache, "pids": (7, 8), "gpu_uuids": ("GPU-0", "GPU-1")}
    processes = [(GpuProcess(pid=7, memory_bytes=held - GIB),), (GpuProcess(pid=8, memory_bytes=held),)]
    gpus = tuple(gpu(index, slow={"processes": processes[index]}) for index in range(2))
    return (look(NOW, (engine(**(values | changes)),), gpus),)


def judged(seen: tuple[Observation, ...]) -> Check:
    return only(memory_plan(seen, Context(now=NOW, plan=PLAN)))


def test_terms_on_the_fullest_gpu() -> None:
    (seen,) = served(held=TOTAL + GIB // 2, blocks=BLOCKS - 100)
    terms = {term.name: term for term in memory_terms(PLAN, seen.engines[0], seen.node.gpus)}
    apart = ["weights", "activations", "CUDA graphs", "outside torch", "CUDA context"]
    assert list(terms) == ["KV cache", *apart, "all but KV cache", "total"]
    assert all(terms[name].predicted_bytes and isinstance(terms[name].actual, Missing) for name in apart)
    told = [terms[name].predicted_bytes or 0 for name in apart]
    assert sum(told) == terms["all but KV cache"].predicted_bytes
    assert terms["KV cache"].actual == (BLOCKS - 100) * BLOCK
    assert terms["total"].error_bytes == GIB // 2
    assert terms["all but KV cache"].actual == TOTAL + GIB // 2 - (BLOCKS - 100) * BLOCK
    share = PLAN.memory.gpu_memory_bytes
    assert share is not None
    # The engine's share of the card, and the CUDA context outside it: 522 MiB on Hopper and 1,045 for NCCL.
    assert int(share * 0.92) + 1567 * MIB - TOTAL == pytest.approx(0, abs=100 * MIB)


def test_memory_as_planned_and_not() -> None:
    check = judged(served())
    assert check.level == "ok"
    assert "total" in check.evidence
    less = judged(served(held=TOTAL - 2 * GIB))  # activations that no request has needed yet
    assert less.level == "ok"
    more = judged(served(held=TOTAL + 2 * GIB))
    assert (more.level, more.action) == ("warn", "fix_configuration")
    assert "+2.00 GiB" in more.message
    scarce = judged(served(blocks=BLOCKS - 2048))
    assert scarce.level == "warn"
    assert scarce.message.startswith("m: its memory is not the plan's: KV cache ")
    assert "beyond the plan's certainty of 1.00 GiB" in scarce.message


def test_memory_with_a_leg_missing() -> None:
    assert judged(served(cache=CacheConfig())).level == "unknown"
    assert judged(served(gpu_uuids=FAILED)).level == "unknown"
    hidden = GpuProcess(pid=7, memory_bytes=NOT_SUPPORTED)
    used = served()[0]
    gpus = tuple(gpu(i, memory_used_bytes=TOTAL, slow={"processes": (hidden,)}) for i in range(2))
    assert judged((replace(used, node=replace(used.node, gpus=gpus)),)).level == "ok"
    gpus = tuple(gpu(i, memory_used_bytes=NOT_SUPPORTED) for i in range(2))  # unified memory
    assert judged((replace(used, node=replace(used.node, gpus=gpus)),)).level == "ok"
    assert judged(served(engine="sglang")).level == "skipped"
    assert judged(served(sleeping=True)).level == "skipped"
    other = judged(served(cache=CacheConfig(gpu_blocks=BLOCKS, block_tokens=16, kv_dtype="fp8")))
    assert other.level in ("unknown", "ok")
    assert only(memory_plan(served(), BARE)).level == "skipped"


def test_another_block_size_is_the_same_memory() -> None:
    cache = CacheConfig(gpu_blocks=BLOCKS // 2, block_tokens=32, kv_dtype="auto")
    (seen,) = served(cache=cache)
    (kv, *_) = memory_terms(PLAN, seen.engines[0], seen.node.gpus)
    assert kv.actual == BLOCKS // 2 * 2 * BLOCK


def test_a_startup_log_tells_every_term() -> None:
    startup = StartupMemory(
        weights_bytes=31 * GIB,
        activation_bytes=2 * GIB,
        graphs_bytes=GIB,
        non_torch_bytes=GIB,
        kv_available_bytes=GIB,
    )
    (seen,) = served(startup=startup)
    terms = {term.name: term for term in memory_terms(PLAN, seen.engines[0], seen.node.gpus)}
    assert terms["weights"].error_bytes == GIB // 2
    assert terms["weights"].error_ratio == pytest.approx(0.5 / 30.5)
    assert terms["activations"].error_bytes == 0
    assert terms["outside torch"].error_bytes == -GIB
    assert "Model loading took" in terms["weights"].because
    heavy = judged(served(startup=replace(startup, weights_bytes=40 * GIB)))
    assert (heavy.level, heavy.action) == ("warn", "fix_configuration")
    assert "weights 40.00 GiB, 30.50 GiB predicted (+9.50 GiB" in heavy.message


def test_a_term_without_a_prediction_has_no_error() -> None:
    term = MemoryTerm(name="x", predicted_bytes=None, actual=5, because="")
    assert (term.error_bytes, term.error_ratio) == (None, None)
    assert MemoryTerm(name="x", predicted_bytes=0, actual=5, because="").error_ratio is None


# Drift.


def growing(sizes: Any, *, step: float = 10.0, count: int = 61) -> tuple[Observation, ...]:
    return tuple(
        look(
            at,
            (engine(at, pids=(7,)),),
            (gpu(at=at, slow={"processes": (GpuProcess(pid=7, memory_bytes=sizes(n)),)}),),
        )
        for n in range(count)
        for at in [NOW - (count - 1 - n) * step]
    )


def test_drift() -> None:
    leak = only(memory_drift(growing(lambda n: 60 * GIB + n * 10 * MIB), BARE))
    assert leak.level == "warn"
    assert "0.59 GiB on gpu 0" in leak.message
    assert "3.52 GiB an hour" in leak.message
    flat = only(memory_drift(growing(lambda n: 60 * GIB + (n % 2) * 500 * MIB), BARE))
    assert flat.level == "ok"
    step = only(memory_drift(growing(lambda n: 60 * GIB + (n > 20) * GIB), BARE))
    assert step.level == "ok"
    short = only(memory_drift(growing(lambda n: 60 * GIB + n * 10 * MIB, count=10), BARE))
    assert short.level == "skipped"
    assert "5 minutes" in short.message

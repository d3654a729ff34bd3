"""The exporter: every name, both formats, dcgm-exporter's names, and an HTTP server that nothing holds up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics import parser as openmetrics_parser

from selfhost.errors import MalformedAnswerError
from selfhost.exporter import Exporter
from selfhost.exporter.exporter import XidCounts
from selfhost.exporter.families import EngineExtra, Judged, families
from selfhost.exporter.page import Page
from selfhost.exporter.summarise import summarise, tokens_per_second
from selfhost.exporter.text import exposition, sample_line
from selfhost.health import Check, Health
from selfhost.metrics import CLOCK_REASONS, DCGM_LABELS, GPU_LABELS, HELD_DOWN_REASONS, METRICS, metric_names
from selfhost.monitor import Poller, Sources
from selfhost.observation import (
    BootTotals,
    CacheConfig,
    EccCounts,
    EngineSnapshot,
    FastReadings,
    GpuProcess,
    GpuSnapshot,
    MigInstance,
    Missing,
    NodeSnapshot,
    NvLink,
    NvmlState,
    Observation,
    RemappedRows,
    SlowReadings,
    XidEvent,
)
from selfhost.observation.node import SCHEMA
from selfhost.observation.summary import read_summary, write_summary
from tests import plans
from tests.monitoring import GIB, FakeReader, edges, identity, samples, value

QUICK = Sources(interval_seconds=0.05, slow_every=2, discover_engines=False)
parse_openmetrics: Callable[[str], Iterator[Metric]] = openmetrics_parser.text_string_to_metric_families
LOST = Missing(missing="GPU is lost", code=15)
UUID = identity(0).uuid


def rich_gpu() -> GpuSnapshot:
    """Every reading there is, no two of the same value."""
    held = {field: 10.0 + number for number, field in enumerate(HELD_DOWN_REASONS.values())}
    return GpuSnapshot(
        identity=replace(
            identity(0),
            serial="165302",
            minor=3,
            vbios="96.00",
            architecture="Hopper",
            compute_capability="9.0",
            pcie_max_generation=5,
            pcie_max_width=16,
        ),
        fast_at=1000.0,
        slow_at=1000.0,
        pod="llm-0",
        namespace="llm",
        container="vllm",
        fast=FastReadings(
            memory_used_bytes=70 * GIB,
            memory_free_bytes=9 * GIB,
            memory_reserved_bytes=1 * GIB,
            utilization_ratio=0.93,
            memory_busy_ratio=0.41,
            temperature_celsius=58,
            memory_temperature_celsius=66,
            power_watts=512.5,
            energy_joules=1234.5,
            sm_clock_mhz=1755,
            memory_clock_mhz=2619,
            clock_reasons=0x4 | 0x1000,
            recovery_action=0,
            sm_activity_ratio=0.51,
            tensor_activity_ratio=0.22,
            memory_activity_ratio=0.33,
            graphics_activity_ratio=0.77,
            pcie_sent_bytes_per_second=3e9,
            pcie_received_bytes_per_second=4e9,
            nvlink_sent_bytes=101,
            nvlink_received_bytes=102,
            pcie_sent_bytes=103,
            pcie_received_bytes=104,
            held_down=BootTotals(**held),
        ),
        slow=SlowReadings(
            power_limit_watts=700.0,
            fan_ratio=0.45,
            encoder_ratio=0.02,
            decoder_ratio=0.03,
            margin_celsius=21,
            performance_state=2,
            pcie_generation=4,
            pcie_width=8,
            pcie_replays=7,
            persistence=True,
            ecc_enabled=False,
            ecc=EccCounts(
                volatile_corrected=11,
                volatile_uncorrected=12,
                aggregate_corrected=13,
                aggregate_uncorrected=14,
            ),
            remapped=RemappedRows(corrected=15, uncorrected=16, pending=True, failed=False),
            retired_pending=False,
            mig_enabled=True,
            mig=(
                MigInstance(
                    uuid="MIG-1",
                    gpu_instance=3,
                    compute_instance=0,
                    profile="3g.40gb",
                    memory_total_bytes=40 * GIB,
                    memory_used_bytes=30 * GIB,
                    pod="other",
                    namespace="llm",
                    container="c",
                ),
            ),
            nvlinks=(NvLink(index=4, active=True, crc_errors=1, replay_errors=2, recovery_errors=3),),
            processes=(
                GpuProcess(
                    pid=77, memory_bytes=68 * GIB, name='vl"l\\m\n', pod="p", namespace="n", container="c"
                ),
                GpuProcess(
                    pid=77, memory_bytes=68 * GIB, name='vl"l\\m\n', pod="p", namespace="n", container="c"
                ),
                GpuProcess(pid=78, memory_bytes=Missing(missing="not told")),
            ),
        ),
    )


def rich_engine() -> EngineSnapshot:
    return EngineSnapshot(
        name="Qwen/Qwen3-32B",
        url="http://127.0.0.1:8000",
        engine="vllm",
        at=1000.0,
        model="Qwen/Qwen3-32B",
        gpu_uuids=(UUID,),
        health_status=200,
        metrics_age_seconds=0.0,
        running=3,
        waiting=2,
        kv_usage_ratio=0.6,
        preemptions=5,
        prompt_tokens=1000,
        generation_tokens=2000,
    )


def rich(*gpus: GpuSnapshot) -> Observation:
    node = NodeSnapshot(
        host="gpu-3",
        driver_version="580.95.05",
        nvml_version="13.580.95.05",
        cuda_version="13.0",
        device_count=1,
        nvml=NvmlState(poll_seconds=0.012, failed_calls=4),
        gpus=gpus or (rich_gpu(),),
    )
    return Observation(schema=SCHEMA, at=1000.0, node=node, engines=(rich_engine(),), engines_looked_for=True)


CHECKS = (
    Check(code="gpu-lost", level="ok", gpu=0, message="m", source="s"),
    Check(code="engine-wedged", level="warn", message="m", source="s", engine="a"),
    Check(code="engine-wedged", level="critical", message="m", source="s", engine="b"),
    Check(code="fabric", level="skipped", message="m", source="s"),
    Check(code="ecc", level="unknown", gpu=0, message="m", source="s"),
)


def judged() -> Judged:
    return Judged(
        checks=CHECKS,
        verdict="critical",
        gpus_expected=8,
        xids={(UUID, 79): 2},
        engines={
            "http://127.0.0.1:8000": EngineExtra(
                wedged=False, predicted=(("KV cache", 10),), actual=(("KV cache", 9),)
            )
        },
        engine_fresh_seconds=10.0,
    )


def page(seen: Observation, *, dcgm: bool = False, form: str = "text") -> str:
    found = families(seen, judged())
    made = Page(found, seen.node if dcgm else None, {UUID: 79})
    return made.answer(form, packed=False, age_seconds=1.5).decode()  # type: ignore[arg-type]


def test_every_name_of_the_table_and_no_other() -> None:
    assert set(samples(page(rich()))) == metric_names()
    assert set(samples(page(rich(), dcgm=True))) == metric_names(dcgm=True)


@pytest.mark.parametrize("dcgm", [False, True])
def test_both_formats_say_the_same(dcgm: bool) -> None:
    text, other = page(rich(), dcgm=dcgm), page(rich(), dcgm=dcgm, form="openmetrics")
    assert other.endswith("# EOF\n")
    assert other.count("# EOF") == 1
    read = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_openmetrics(other)
        for sample in family.samples
    }
    plain = {
        (name, tuple(sorted(labels.items()))): number
        for name, rows in samples(text).items()
        for labels, number in rows
    }
    assert read == plain
    series = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(series) == len(set(series)), "no series stands twice"


def test_text_is_prometheus_clients_own() -> None:
    found = families(rich(), judged())
    registry = CollectorRegistry()
    registry.register(type("Found", (), {"collect": lambda self: found})())
    assert exposition(found, "text").encode() == generate_latest(registry)
    write: Callable[[CollectorRegistry], bytes] = openmetrics.generate_latest
    assert (exposition(found, "openmetrics") + "# EOF\n").encode() == write(registry)


def test_a_page_on_a_terminal_moves_no_cursor() -> None:
    line = sample_line("a", {"b": 'm\x1b[2J\x9b\u202e\r\n"\\'}, 1.0)
    assert line == 'a{b="m\ufffd[2J\ufffd\ufffd\ufffd\\n\\"\\\\"} 1.0\n'


def test_form_of_the_exposition() -> None:
    """What promtool asks: help and type once before the samples, which stand together."""
    for form in ("text", "openmetrics"):
        seen: list[str] = []
        for line in page(rich(), dcgm=True, form=form).splitlines():
            if line.startswith("# TYPE"):
                seen.append(line.split()[2])
            elif not line.startswith("#"):
                name = re.split(r"[{ ]", line)[0]
                bases = (name, name.removesuffix("_total"), name.removesuffix("_info"))
                assert seen[-1] in bases
        assert len(seen) == len(set(seen))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_naming(metric) -> None:  # type: ignore[no-untyped-def]
    """promtool's rules: counters alone end in _total, base units only, no type in the name, nothing abbreviated."""
    name = metric.name
    assert name.endswith("_total") == (metric.kind == "counter")
    for wrong in ("milliseconds", "percent", "kilo", "mega", "mib", "_mhz", "_gauge", "_counter", "minutes"):
        assert wrong not in name
    assert not re.search(r"_(count|sum|bucket)$", name)
    for label in metric.labels:
        assert re.fullmatch(r"[a-z][a-z_]*", label)
        assert label not in ("le", "quantile", "job", "instance_")


def test_values_are_in_their_units() -> None:
    text = page(rich(), dcgm=True)
    assert value(text, "selfhost_gpu_sm_clock_hertz") == 1_755_000_000
    assert value(text, "selfhost_gpu_utilization_ratio") == 0.93
    assert value(text, "selfhost_gpu_row_remap_pending") == 1
    assert value(text, "selfhost_gpu_row_remap_failed") == 0
    assert value(text, "selfhost_gpu_clock_reason_active", reason="power_cap") == 1
    assert value(text, "selfhost_gpu_clock_reason_active", reason="hw_thermal") == 0
    assert value(text, "selfhost_gpu_clock_reason_active", reason="0x1000") == 1
    assert value(text, "selfhost_gpu_clock_held_down_seconds_total", reason="hw_power_brake") == 18.0
    assert value(text, "selfhost_gpu_nvlink_errors_total", link="4", kind="replay") == 2
    assert (
        value(text, "selfhost_gpu_process_memory_bytes", pid="77", process='vl"l\\m\n', pod="p") == 68 * GIB
    )
    assert value(text, "selfhost_gpu_xid_errors_total", xid="79") == 2
    assert value(text, "selfhost_nvml_poll_age_seconds") == 1.5
    assert value(text, "selfhost_check_level", code="engine-wedged", gpu="") == 2
    assert value(text, "selfhost_check_level", code="ecc", gpu="0") == 3
    assert value(text, "selfhost_health_level") == 2
    assert value(text, "selfhost_gpus_expected") == 8
    assert not [labels for labels, _ in samples(text)["selfhost_check_level"] if labels["code"] == "fabric"]
    info = samples(text)["selfhost_gpu_info"][0][0]
    assert info["architecture"] == "Hopper"
    assert set(info) == {*GPU_LABELS, "serial", "vbios", "architecture", "compute_capability"}


def test_dcgm_names_and_units() -> None:
    text = page(rich(replace(rich_gpu(), slow=replace(rich_gpu().slow, mig=()))), dcgm=True)
    expected = {
        "DCGM_FI_DEV_GPU_UTIL": 93,
        "DCGM_FI_DEV_MEM_COPY_UTIL": 41,
        "DCGM_FI_DEV_FB_USED": 70 * 1024,
        "DCGM_FI_DEV_FB_FREE": 9 * 1024,
        "DCGM_FI_DEV_FB_RESERVED": 1024,
        "DCGM_FI_DEV_SM_CLOCK": 1755,
        "DCGM_FI_DEV_MEM_CLOCK": 2619,
        "DCGM_FI_DEV_GPU_TEMP": 58,
        "DCGM_FI_DEV_MEMORY_TEMP": 66,
        "DCGM_FI_DEV_POWER_USAGE": 512.5,
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 1_234_500,
        "DCGM_FI_DEV_ENC_UTIL": 2,
        "DCGM_FI_DEV_DEC_UTIL": 3,
        "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": 7,
        "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": 15,
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": 16,
        "DCGM_FI_DEV_ROW_REMAP_FAILURE": 0,
        "DCGM_FI_DEV_XID_ERRORS": 79,
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": 12,
        "DCGM_FI_DEV_POWER_VIOLATION": 10e9,
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": 0.22,
        "DCGM_FI_PROF_DRAM_ACTIVE": 0.33,
        "DCGM_FI_PROF_SM_ACTIVE": 0.51,
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE": 0.77,
        "DCGM_FI_PROF_PCIE_TX_BYTES": 3e9,
        "DCGM_FI_PROF_PCIE_RX_BYTES": 4e9,
    }
    for name, wanted in expected.items():
        assert value(text, name) == pytest.approx(wanted), name
    labels = samples(text)["DCGM_FI_DEV_GPU_UTIL"][0][0]
    assert labels == {
        "gpu": "0",
        "UUID": UUID,
        "pci_bus_id": "00000000:18:00.0",
        "device": "nvidia3",
        "modelName": "NVIDIA H100 80GB HBM3",
        "Hostname": "gpu-3",
        "hostname": "gpu-3",
        "DCGM_FI_DRIVER_VERSION": "580.95.05",
        "namespace": "llm",
        "pod": "llm-0",
        "container": "vllm",
    }
    assert set(DCGM_LABELS) < set(labels)
    assert (
        "# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter\nDCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{" in text
    )
    assert "_total{" not in "".join(line for line in text.splitlines() if line.startswith("DCGM"))
    assert "# TYPE DCGM_FI_DEV_GPU_UTIL gauge\n" in text
    other = page(rich(), dcgm=True, form="openmetrics")
    assert "# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION unknown\n" in other
    xid = samples(text)["DCGM_FI_DEV_XID_ERRORS"][0][0]
    assert xid["err_code"] == "79"
    assert xid["err_msg"]


@pytest.mark.parametrize("percent", [7, 29, 58, 100])
def test_a_whole_per_cent_stays_one(percent: int) -> None:
    gpu = rich_gpu()
    busy = replace(gpu, fast=replace(gpu.fast, utilization_ratio=percent / 100, energy_joules=1.001))
    lines = page(rich(busy), dcgm=True).splitlines()
    values = {line.partition("{")[0]: line.rpartition(" ")[2] for line in lines}
    assert values["DCGM_FI_DEV_GPU_UTIL"] == f"{percent}.0"
    assert values["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"] == "1001.0"


def test_dcgm_names_are_those_of_its_default_list() -> None:
    """etc/default-counters.csv of dcgm-exporter 4.5.3-4.8.2 (read 2026-11-21), but for NVLink bandwidth and vGPU."""
    device = (
        "SM_CLOCK MEM_CLOCK GPU_TEMP MEMORY_TEMP POWER_USAGE TOTAL_ENERGY_CONSUMPTION PCIE_REPLAY_COUNTER GPU_UTIL "
        "MEM_COPY_UTIL ENC_UTIL DEC_UTIL XID_ERRORS FB_FREE FB_USED FB_RESERVED CORRECTABLE_REMAPPED_ROWS "
        "UNCORRECTABLE_REMAPPED_ROWS ROW_REMAP_FAILURE"
    )
    profiling = "GR_ENGINE_ACTIVE PIPE_TENSOR_ACTIVE DRAM_ACTIVE PCIE_TX_BYTES PCIE_RX_BYTES"
    wanted = {f"DCGM_FI_DEV_{name}" for name in device.split()}
    wanted |= {f"DCGM_FI_PROF_{name}" for name in profiling.split()}
    whole = rich(replace(rich_gpu(), slow=replace(rich_gpu().slow, mig=())))
    assert wanted <= set(samples(page(whole, dcgm=True)))


def test_dcgm_names_under_mig() -> None:
    text = page(rich(), dcgm=True)
    for name, size in (("DCGM_FI_DEV_FB_USED", 30), ("DCGM_FI_DEV_FB_FREE", 10)):
        [(labels, number)] = samples(text)[name]
        assert number == size * 1024
        assert labels["GPU_I_PROFILE"] == "3g.40gb"
        assert labels["GPU_I_ID"] == "3"
        assert labels["pod"] == "other"


def test_what_is_missing_has_no_series() -> None:
    text = page(
        rich(GpuSnapshot(identity=replace(identity(0), memory_total_bytes=Missing(missing="unified"))))
    )
    names = {name for name in samples(text) if name.startswith("selfhost_gpu_")}
    assert names == {"selfhost_gpu_up", "selfhost_gpu_info", "selfhost_gpu_xid_errors_total"}
    assert "NaN" not in text


def test_lost_gpu_keeps_its_labels_and_nothing_stale() -> None:
    before, after = page(rich(), dcgm=True), page(rich(replace(rich_gpu(), fault=LOST)), dcgm=True)
    assert samples(before)["selfhost_gpu_up"] == [(samples(after)["selfhost_gpu_up"][0][0], 1.0)]
    assert samples(after)["selfhost_gpu_up"][0][1] == 0
    assert set(samples(after)["selfhost_gpu_up"][0][0]) == set(GPU_LABELS)
    assert samples(before)["selfhost_gpu_info"] == samples(after)["selfhost_gpu_info"]
    left = {name for name in samples(after) if name.startswith(("selfhost_gpu_", "DCGM"))}
    assert left == {
        "selfhost_gpu_up", "selfhost_gpu_info", "selfhost_gpu_xid_errors_total", "selfhost_gpu_memory_total_bytes",
        "selfhost_gpu_pcie_link_generation_max", "selfhost_gpu_pcie_link_lanes_max",
    }  # fmt: skip


def test_engine_that_is_down() -> None:
    seen = rich()
    dead = replace(
        rich_engine(),
        metrics_age_seconds=60.0,
        health_status=Missing(missing="refused"),
        gpu_uuids=Missing(missing="?"),
    )
    text = page(replace(seen, engines=(dead,)))
    assert value(text, "selfhost_engine_up") == 0
    assert value(text, "selfhost_engine_healthy") == 0
    assert "selfhost_engine_requests_running" not in samples(text)
    assert "selfhost_engine_gpus" not in samples(text)


def test_clock_reasons_are_single_bits() -> None:
    assert all(bit & (bit - 1) == 0 for bit in CLOCK_REASONS)
    assert set(HELD_DOWN_REASONS.values()) == set(BootTotals.__slots__)


def test_xids_are_counted_once() -> None:
    counts = XidCounts()
    first = tuple(XidEvent(at=float(number), xid=13, uuid="a") for number in range(3))
    counts.take(first)
    counts.take(first)
    assert counts.counts == {("a", 13): 3}
    # The oldest fell out of the observation, two equal ones came.
    later = (*first[1:], XidEvent(at=2.0, xid=13, uuid="a"), XidEvent(at=9.0, xid=79, uuid="b"))
    counts.take(later)
    assert counts.counts == {("a", 13): 4, ("b", 79): 1}
    counts.take((XidEvent(at=20.0, xid=63, uuid=None),))
    assert counts.last == {"a": 13, "b": 79}


# --- summary


def test_summary() -> None:
    health = Health(
        verdict="critical",
        checks=tuple(replace(CHECKS[2], code=f"c{number}") for number in range(7)) + CHECKS[:1],
    )
    lost = replace(rich_gpu(), identity=identity(1), fault=LOST)
    older = replace(rich(), at=970.0, engines=(replace(rich_engine(), at=970.0, generation_tokens=500),))
    found = summarise((older, rich(rich_gpu(), lost)), health)
    assert read_summary(write_summary(found).decode()) == found
    assert found.verdict == "critical"
    assert [check.code for check in found.checks] == ["c0", "c1", "c2", "c3", "c4"]
    assert [(gpu.up, gpu.temperature_celsius) for gpu in found.gpus] == [(True, 58), (False, None)]
    assert found.gpus[1].memory_total_bytes == 80 * GIB
    assert found.engines[0].tokens_per_second == 50
    assert len(write_summary(found)) < 4096


def test_tokens_per_second() -> None:
    def seen(*rows: tuple[float, int, float]) -> tuple[Observation, ...]:
        return tuple(
            replace(
                rich(),
                at=at,
                engines=(replace(rich_engine(), at=at, generation_tokens=tokens, metrics_age_seconds=age),),
            )
            for at, tokens, age in rows
        )

    url = rich_engine().url
    assert tokens_per_second(url, seen((0, 100, 0))) is None
    assert tokens_per_second(url, seen((0, 100, 0), (5, 200, 0))) == 20
    # Over the last half minute only.
    assert tokens_per_second(url, seen((0, 0, 0), (40, 100, 0), (50, 110, 0), (80, 140, 0))) == 1
    # Metrics that were not read anew are of the time they were read at.
    assert tokens_per_second(url, seen((0, 100, 0), (5, 200, 0), (10, 200, 5))) == 20
    # Nothing was read for an hour and more; what came before it is no part of the last half minute.
    assert tokens_per_second(url, seen((0, 100, 0), (5000, 200, 0), (5005, 300, 0))) == 20
    # Started anew.
    assert tokens_per_second(url, seen((0, 900, 0), (5, 10, 0), (10, 60, 0))) == 10


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("{}", "is not a selfhost/summary/v1"),
        ("<html>", "is not JSON"),
        ('{"schema":"selfhost/summary/v1"}', "summary.host is missing"),
    ],
)
def test_summaries_that_are_none(text: str, wanted: str) -> None:
    with pytest.raises(MalformedAnswerError, match=wanted):
        read_summary(text)


# --- what the checks add


def test_wedged_engine_and_the_memory_plan() -> None:
    """The engine's check and the plan's terms end in the engine's series."""
    plan = plans.plan()
    exporter = Exporter(Poller(QUICK, edges=edges(FakeReader())), plan=plan)
    gpu = replace(
        rich_gpu(),
        fast=replace(
            rich_gpu().fast,
            utilization_ratio=1.0,
            tensor_activity_ratio=0.0,
            memory_activity_ratio=0.0,
            clock_reasons=0,
        ),
    )
    history: tuple[Observation, ...] = ()
    for second in range(0, 60, 5):
        at = 1000.0 + second
        seen = rich(replace(gpu, fast_at=at, slow_at=at))
        history += (
            replace(
                seen, at=at, engines=(replace(rich_engine(), at=at, cache=CacheConfig(gpu_blocks=1000)),)
            ),
        )
        exporter.observed(history[-1], history)
    assert exporter.failure is None
    text = exporter.metrics(None, packed=False)[0].decode()
    assert value(text, "selfhost_engine_wedged") == 1
    assert value(text, "selfhost_check_level", code="engine-wedged") == 2
    predicted = {row["term"]: size for row, size in samples(text)["selfhost_engine_memory_predicted_bytes"]}
    assert predicted["KV cache"] == plan.memory.kv_available_bytes
    actual = {row["term"]: size for row, size in samples(text)["selfhost_engine_memory_actual_bytes"]}
    assert set(actual) <= set(predicted)
    assert "KV cache" in actual


def test_an_exporter_without_a_plan_predicts_nothing() -> None:
    exporter = Exporter(Poller(QUICK, edges=edges(FakeReader())))
    exporter.observed(rich(), (rich(),))
    text = exporter.metrics(None, packed=False)[0].decode()
    assert "selfhost_engine_memory_predicted_bytes" not in samples(text)
    assert "selfhost_gpus_expected" not in samples(text)

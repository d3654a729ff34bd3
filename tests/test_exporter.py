"""The exporter: every name, both formats, dcgm-exporter's names, and an HTTP server that nothing holds up."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parse_text

from selfhost.errors import MalformedAnswerError, UsageError
from selfhost.exporter import Exporter, Server, parse_listen
from selfhost.exporter.exporter import XidCounts
from selfhost.exporter.families import EngineExtra, Judged, families
from selfhost.exporter.page import Page, form_of
from selfhost.exporter.summarise import summarise, tokens_per_second
from selfhost.exporter.text import exposition
from selfhost.health import Baseline, Check, GpuBaseline, Health
from selfhost.metrics import CLOCK_REASONS, DCGM_LABELS, GPU_LABELS, HELD_DOWN_REASONS, METRICS, metric_names
from selfhost.monitor import Poller, Sources
from selfhost.observation import (
    BootTotals,
    EccCounts,
    EngineAddress,
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
from tests.fakes import nvml
from tests.monitoring import GIB, FakeReader, edges, identity

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


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Samples by name, as prometheus_client's parser reads them, but for the `_total` that it adds to counters."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in parse_text(text):
        for sample in family.samples:
            name = sample.name.removesuffix("_total") if sample.name.startswith("DCGM") else sample.name
            found.setdefault(name, []).append((sample.labels, sample.value))
    return found


def value(text: str, name: str, **labels: str) -> float:
    fitting = [number for own, number in samples(text)[name] if labels.items() <= own.items()]
    assert len(fitting) == 1, (name, labels, fitting)
    return fitting[0]


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


# --- HTTP


class Running:
    """An exporter over a fake reader, and a client that says what it wants."""

    def __init__(self, reader: FakeReader | Missing, host: str = "127.0.0.1", **options: object) -> None:
        sources = replace(QUICK, engines=(EngineAddress(url="http://127.0.0.1:8000"),))
        self.poller = Poller(sources, edges=edges(reader))
        self.exporter = Exporter(self.poller, **options)  # type: ignore[arg-type]
        self.server = Server(self.exporter, host, 0)

    def start(self) -> None:
        self.poller.start()
        self.server.start()

    def ask(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        where = urlsplit(self.server.url)
        with closing(http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)) as connection:
            connection.request(method, path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read()

    def until_ready(self) -> None:
        end = time.monotonic() + 10
        while self.ask("/readyz")[0] != 200:
            assert time.monotonic() < end
            time.sleep(0.02)


@pytest.fixture
def running() -> Iterator[list[Running]]:
    made: list[Running] = []
    yield made
    for one in made:
        one.server.stop()
        one.poller.stop()


@pytest.fixture
def served(running: list[Running]) -> Running:
    running.append(Running(FakeReader(), dcgm_names=True))
    running[0].start()
    running[0].until_ready()
    return running[0]


def test_paths(served: Running) -> None:
    status, headers, body = served.ask("/metrics")
    assert status == 200
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = samples(body.decode())
    assert [number for _, number in found["selfhost_gpu_up"]] == [1, 1]
    assert found["selfhost_gpu_utilization_ratio"][1][0]["pod"] == "llm-0"
    assert found["selfhost_engine_up"][0][1] == 1
    assert 0 <= found["selfhost_nvml_poll_age_seconds"][0][1] < 5
    assert set(found) <= metric_names(dcgm=True)
    status, headers, body = served.ask("/api/v1/summary")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert read_summary(body.decode()).host == "gpu-3"
    assert served.ask("/healthz")[::2] == (200, b"ok\n")
    assert served.ask("/")[0] == 200
    assert served.ask("/metrics?name[]=x")[0] == 200
    assert served.ask("/nothing")[0] == 404
    assert served.ask("/../etc/passwd")[0] == 404


def test_methods(served: Running) -> None:
    status, headers, body = served.ask("/metrics", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 1000
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        status, headers, _ = served.ask("/metrics", method)
        assert (status, headers["allow"]) == (405, "GET, HEAD")
    assert served.ask("/metrics", "BREW")[0] == 501


def test_formats_and_compression(served: Running) -> None:
    prometheus = (
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
        "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    )
    status, headers, body = served.ask("/metrics", headers={"Accept": prometheus, "Accept-Encoding": "gzip"})
    assert status == 200
    assert headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert headers["content-encoding"] == "gzip"
    text = gzip.decompress(body).decode()
    assert {sample.name for family in parse_openmetrics(text) for sample in family.samples} <= metric_names(
        dcgm=True
    )
    assert len(body) < len(text) / 4
    assert "content-encoding" not in served.ask("/metrics", headers={"Accept-Encoding": "gzip;q=0, br"})[1]


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, "text"),
        ("*/*", "text"),
        ("text/html", "text"),
        ("application/openmetrics-text", "openmetrics"),
        ("application/openmetrics-text; version=1.0.0", "openmetrics"),
        ("application/openmetrics-text; version=nonsense", "text"),
        ("text/plain; version=x", "text"),
    ],
)
def test_format_that_is_chosen(accept: str | None, form: str) -> None:
    assert form_of(accept) == form


def test_before_the_first_observation(running: list[Running]) -> None:
    reader = FakeReader(hang_at=0)
    running.append(Running(reader))
    one = running[0]
    one.start()
    time.sleep(0.2)
    status, _, body = one.ask("/readyz")
    assert status == 503
    assert b"nvmlDeviceGetTemperature" in body
    assert one.ask("/healthz")[0] == 200
    status, _, body = one.ask("/metrics")
    assert status == 200
    assert value(body.decode(), "selfhost_nvml_up") == 0
    assert "selfhost_nvml_poll_age_seconds" not in samples(body.decode())
    reader.let_go.set()
    one.until_ready()


def test_without_nvml(running: list[Running]) -> None:
    running.append(Running(Missing(missing="no libnvidia-ml.so.1", code=12)))
    running[0].start()
    running[0].until_ready()
    text = running[0].ask("/metrics")[2].decode()
    assert value(text, "selfhost_nvml_up") == 0
    assert value(text, "selfhost_engine_up") == 1


def test_baseline_and_lost_gpu(running: list[Running]) -> None:
    gpus = tuple(
        GpuBaseline(uuid=identity(n).uuid, index=n, name="H100", pci_address=identity(n).pci_address)
        for n in range(2)
    )
    baseline = Baseline(schema="selfhost/baseline/v1", host="gpu-3", learnt_at=0.0, driver=None, gpus=gpus)
    reader = FakeReader()
    running.append(Running(reader, baseline=baseline))
    one = running[0]
    one.start()
    one.until_ready()
    labels = samples(one.ask("/metrics")[2].decode())["selfhost_gpu_up"][1][0]
    reader.gpus[1] = replace(reader.gpus[1], fault=LOST)
    end = time.monotonic() + 5
    while (text := one.ask("/metrics")[2].decode()) and value(text, "selfhost_gpu_up", gpu="1") != 0:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert (labels, 0.0) in samples(text)["selfhost_gpu_up"]
    assert value(text, "selfhost_gpus_expected") == 2
    assert value(text, "selfhost_health_level") == 2
    assert read_summary(one.ask("/api/v1/summary")[2].decode()).verdict == "critical"


def test_a_hung_call_holds_up_no_answer(served: Running) -> None:
    reader = FakeReader(hang_at=1)
    served.poller._observer.nvml._reader = reader  # the call under way is that of this one from now on
    end = time.monotonic() + 5
    while reader.current_call is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    for path in ("/metrics", "/healthz", "/api/v1/summary", "/readyz"):
        began = time.monotonic()
        assert served.ask(path)[0] == 200
        assert time.monotonic() - began < 0.5
    reader.let_go.set()


def test_a_check_that_fails_takes_no_readings_along(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Health:
        raise RuntimeError("ours")

    monkeypatch.setattr("selfhost.exporter.exporter.assess", broken)
    end = time.monotonic() + 5
    while served.exporter.failure is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    served.poller.wait(served.poller.wait(0, 1) + 1, 5)
    text = served.ask("/metrics")[2].decode()
    assert value(text, "selfhost_health_level") == 3
    assert len(samples(text)["selfhost_gpu_up"]) == 2


def test_slow_clients_do_not_use_it_up(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfhost.exporter.server.READ_SECONDS", 0.6)
    where = urlsplit(served.server.url)
    address = (where.hostname, where.port)
    slow = [socket.create_connection(address, timeout=5) for _ in range(64)]
    try:
        for one in slow:
            one.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        time.sleep(0.2)
        # All slots are taken: one more is told so at once.
        began = time.monotonic()
        status, _, body = served.ask("/healthz")
        assert (status, body) == (503, b"too many connections\n")
        assert time.monotonic() - began < 1
        # A byte now and then does not keep a slot.
        end = time.monotonic() + 5
        while served.ask("/healthz")[0] != 200:
            assert time.monotonic() < end
            for one in slow[:8]:
                with suppress(OSError):
                    one.send(b"x")
            time.sleep(0.1)
    finally:
        for one in slow:
            one.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/9\r\n\r\n",
        b"GET " + b"a" * 70000 + b"\r\n",
    ],
)
def test_requests_that_are_none(served: Running, request_bytes: bytes) -> None:
    where = urlsplit(served.server.url)
    with socket.create_connection((where.hostname, where.port), timeout=5) as connection:
        try:
            connection.sendall(request_bytes)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(4096)
        except OSError:
            answer = b""
    assert b"Traceback" not in answer
    assert served.ask("/healthz")[0] == 200


def test_every_interface_takes_both_families(running: list[Running]) -> None:
    running.append(Running(FakeReader(), host=""))
    running[0].start()
    port = urlsplit(running[0].server.url).port
    hosts = ["127.0.0.1", *(["::1"] if socket.has_dualstack_ipv6() else [])]
    for host in hosts:
        with closing(http.client.HTTPConnection(host, port, timeout=5)) as connection:
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 200


def test_address_in_use(served: Running) -> None:
    port = urlsplit(served.server.url).port
    assert port is not None
    with pytest.raises(UsageError, match=f"127.0.0.1:{port} cannot be listened on"):
        Server(served.exporter, "127.0.0.1", port)
    with pytest.raises(UsageError, match="cannot be listened on"):
        Server(served.exporter, "no.such.host.invalid", 0)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (":9835", ("", 9835)),
        ("9835", ("", 9835)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:9835", ("::1", 9835)),
        ("localhost:80", ("localhost", 80)),
    ],
)
def test_listen(text: str, wanted: tuple[str, int]) -> None:
    assert parse_listen(text) == wanted


@pytest.mark.parametrize("text", ["", ":", "a", ":70000", "::1", "::1:9835", "host:٣", "host:-1"])
def test_listen_refusals(text: str) -> None:
    with pytest.raises(UsageError, match="not an address"):
        parse_listen(text)


def test_scrapes_leave_nothing_behind(served: Running) -> None:
    """Two thousand scrapes, a hundred of them over HTTP; scripts/bench_monitor.py does ten thousand over HTTP."""

    def scrape(count: int) -> None:
        for number in range(count):
            accept = f"application/openmetrics-text;version=1.{number}.0" if number % 2 else None
            served.exporter.metrics(accept, packed=number % 3 == 0)
        for _ in range(count // 20):
            served.ask("/metrics", headers={"Accept-Encoding": "gzip"})

    scrape(400)
    served.poller.stop()
    tracemalloc.start()
    try:
        scrape(100)
        before = tracemalloc.get_traced_memory()[0]
        scrape(2000)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 200_000
    assert len([one for one in threading.enumerate() if "process_request" in one.name]) <= 2


SERVE = """
import sys
from selfhost.exporter import serve
from selfhost.monitor import Poller, Sources
serve(Poller(Sources(interval_seconds=0.2, discover_engines=False, kernel_log=False)), "127.0.0.1", 0,
      announce=lambda url: print(url, flush=True))
"""


@pytest.mark.skipif(nvml.compiler() is None, reason="no C compiler to build the fake NVML with")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_whose_nvml_hangs(tmp_path: Path, number: signal.Signals) -> None:
    """The real pynvml in a call that takes a minute: every path answers, and a signal ends the process."""
    scenario = tmp_path / "now.scenario"
    nvml.rewrite(scenario, nvml.expand(nvml.scenario("healthy")))
    environment = nvml.environment_for(nvml.build(tmp_path), scenario) | {"PATH": "/usr/bin:/bin"}
    root = Path(__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", SERVE],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=root,
    ) as process:
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], 20)[0]
            where = urlsplit(process.stdout.readline().strip())

            def ask(path: str) -> tuple[int, str, float]:
                began = time.monotonic()
                with closing(http.client.HTTPConnection("127.0.0.1", where.port, timeout=10)) as connection:
                    connection.request("GET", path)
                    answer = connection.getresponse()
                    body = answer.read().decode()
                return answer.status, body, time.monotonic() - began

            end = time.monotonic() + 15
            while ask("/readyz")[0] != 200:
                assert time.monotonic() < end
                time.sleep(0.05)
            assert value(ask("/metrics")[1], "selfhost_nvml_up") == 1
            nvml.rewrite(
                scenario,
                nvml.expand(nvml.scenario("healthy")) + "\ndelay_us.nvmlDeviceGetFieldValues = 60000000\n",
            )
            end = time.monotonic() + 15
            slowest = 0.0
            while value((got := ask("/metrics"))[1], "selfhost_nvml_up") != 0:
                slowest = max(slowest, got[2])
                assert time.monotonic() < end
                time.sleep(0.1)
            for path in ("/metrics", "/api/v1/summary", "/healthz", "/readyz", "/"):
                status, _, seconds = ask(path)
                assert status == 200
                slowest = max(slowest, seconds)
            assert slowest < 1
            text = ask("/metrics")[1]
            assert value(text, "selfhost_nvml_poll_age_seconds") > 4
            assert {up for _, up in samples(text)["selfhost_gpu_up"]} == {0.0}
            assert "selfhost_gpu_temperature_celsius" not in samples(text)
            assert json.loads(ask("/api/v1/summary")[1])["verdict"] == "critical"
            began = time.monotonic()
            process.send_signal(number)
            out, error = process.communicate(timeout=10)
            assert time.monotonic() - began < 2
            assert (process.returncode, out, error) == (0, "", "")
        finally:
            process.kill()

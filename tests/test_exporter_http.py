"""The exporter over HTTP: every path, clients of every kind, and an NVML that hangs."""

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
from prometheus_client.core import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser

from selfhost.errors import UsageError
from selfhost.exporter import Exporter, Server, parse_listen
from selfhost.exporter.page import form_of
from selfhost.health import Baseline, GpuBaseline, Health
from selfhost.metrics import metric_names
from selfhost.monitor import Poller, Sources
from selfhost.observation import (
    EngineAddress,
    Missing,
)
from selfhost.observation.summary import read_summary
from tests.fakes import nvml
from tests.monitoring import FakeReader, edges, identity, samples, value

QUICK = Sources(interval_seconds=0.05, slow_every=2, discover_engines=False)
parse_openmetrics: Callable[[str], Iterator[Metric]] = openmetrics_parser.text_string_to_metric_families
LOST = Missing(missing="GPU is lost", code=15)
UUID = identity(0).uuid


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


@pytest.mark.parametrize(
    "line", [b"PRI * HTTP/2.0", b"GET /healthz HTTP/x", b"\x16\x03\x01\x02", b"POST /healthz"]
)
def test_a_request_that_is_none_is_told_so(line: bytes, served: Running) -> None:
    where = urlsplit(served.server.url)
    with socket.create_connection((where.hostname, where.port), timeout=5) as one:
        one.sendall(line + b"\r\n\r\n")
        assert re.match(rb"HTTP/1.1 (400|505) ", one.recv(4096))


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
    for name in ("a" * 300, "ü..b"):
        with pytest.raises(UsageError, match="no name of a host"):
            Server(served.exporter, name, 0)


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
def test_a_process_whose_nvml_hangs(tmp_path: Path, nvml_builds: Path, number: signal.Signals) -> None:
    """The real pynvml in a call that takes a minute: every path answers, and a signal ends the process."""
    scenario = tmp_path / "now.scenario"
    nvml.rewrite(scenario, nvml.expand(nvml.scenario("healthy")))
    environment = nvml.environment_for(nvml.build(nvml_builds), scenario) | {"PATH": "/usr/bin:/bin"}
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

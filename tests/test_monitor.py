"""The poller, its watchdog, one-shots and recordings, over a machine that does what a test says."""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Never

import pytest

from selfhost.errors import OutputError
from selfhost.monitor import Poller, Recorder, RecordingError, Sources, observe_once, replay, watch_once
from selfhost.monitor.compose import hung_after_seconds, nvml_state
from selfhost.monitor.edges import Edges
from selfhost.monitor.history import Ring
from selfhost.monitor.nvml_thread import MOST_XIDS, NvmlView
from selfhost.monitor.recording import without_credentials
from selfhost.observation import (
    EngineAddress,
    EngineSnapshot,
    GpuSnapshot,
    Missing,
    NodeSnapshot,
    Observation,
    XidEvent,
    known,
)
from selfhost.observation.node import SCHEMA
from tests.monitoring import Driver, FakeReader, answer, edges, identity

QUICK = Sources(interval_seconds=0.05, slow_every=2, discover_engines=False)


Start = Callable[[Sources, Edges], Poller]


def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.01)


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts pollers and stops them after the test."""
    pollers: list[Poller] = []

    def begin(sources: Sources, machine: Edges) -> Poller:
        poller = Poller(sources, edges=machine)
        pollers.append(poller)
        poller.start()
        return poller

    yield begin
    for poller in pollers:
        poller.stop()


def test_once_everything() -> None:
    reader = FakeReader(xids=[XidEvent(at=5.0, xid=13)])
    seen = observe_once(QUICK, deadline_seconds=5, edges=edges(reader))
    assert seen.schema == SCHEMA
    assert [gpu.identity.index for gpu in seen.node.gpus] == [0, 1]
    assert seen.node.nvml.fault is None
    assert seen.node.nvml.stuck_call is None
    assert seen.node.device_count == 2
    assert seen.node.host == "gpu-3"
    assert [event.xid for event in seen.node.xids] == [13]
    processes = seen.node.gpus[1].slow.processes
    assert known(processes)
    assert processes[0].name == "p1001"
    assert seen.node.gpus[1].pod == "llm-0"
    assert reader.closed
    assert len(reader.threads) == 1
    assert threading.get_ident() not in reader.threads


def test_once_when_a_call_hangs() -> None:
    reader = FakeReader(count=3, hang_at=1)
    began = time.monotonic()
    seen = observe_once(QUICK, deadline_seconds=1.5, edges=edges(reader))
    assert time.monotonic() - began < 2.5
    assert seen.node.nvml.stuck_call == "nvmlDeviceGetTemperature"
    assert seen.node.nvml.stuck_seconds > 0.5
    assert seen.node.nvml.fault is not None
    assert "nvmlDeviceGetTemperature has not returned" in seen.node.nvml.fault.missing
    # What was read before it hung is there.
    assert [gpu.fast.temperature_celsius for gpu in seen.node.gpus] == [50]
    assert seen.node.gpus[0].fault is None
    reader.let_go.set()


def test_once_when_starting_nvml_hangs() -> None:
    let_go = threading.Event()

    def opening() -> Missing:
        let_go.wait(60)
        return Missing(missing="late", code=999)

    engine = EngineAddress(url="http://127.0.0.1:8000")
    seen = observe_once(replace(QUICK, engines=(engine,)), deadline_seconds=1.5, edges=edges(opening))
    assert seen.node.nvml.stuck_call == "nvmlInitWithFlags"
    assert seen.node.gpus == ()
    # An engine is seen all the same.
    assert seen.engines[0].health_status == 200
    assert seen.engines_looked_for
    let_go.set()


def test_once_without_nvml() -> None:
    fault = Missing(missing="no libnvidia-ml.so.1", code=12)
    seen = observe_once(
        replace(QUICK, discover_engines=True),
        deadline_seconds=5,
        edges=edges(fault, find=lambda pids: (EngineAddress(url="http://127.0.0.1:8000", pids=(7,)),)),
    )
    assert seen.node.nvml.fault == fault
    assert seen.engines[0].pids == (7,)
    assert seen.engines[0].health_status == 200


def test_search_is_given_the_processes_on_the_gpus() -> None:
    asked: list[tuple[int, ...]] = []

    def find(pids: tuple[int, ...]) -> tuple[EngineAddress, ...]:
        asked.append(pids)
        return ()

    seen = observe_once(
        replace(QUICK, discover_engines=True), deadline_seconds=5, edges=edges(FakeReader(), find=find)
    )
    assert asked == [(1000, 1001)]
    assert seen.engines_looked_for
    assert seen.engines == ()


def test_process_exits_while_nvml_hangs() -> None:
    program = """
import sys, time
from dataclasses import replace
from tests.monitoring import FakeReader, edges
from selfhost.monitor import Sources, observe_once
seen = observe_once(Sources(discover_engines=False), deadline_seconds=1, edges=edges(FakeReader(hang_at=0)))
print(seen.node.nvml.stuck_call)
"""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    assert done.stdout.strip() == "nvmlDeviceGetTemperature"
    assert done.stderr == ""
    assert time.monotonic() - began < 15


def test_lanes(start: Start) -> None:
    reader = FakeReader()
    start(QUICK, edges(reader))
    until(lambda: len(reader.polls) >= 5)
    assert reader.polls[0] == {"static", "fast", "slow"}
    assert reader.polls[1:5] == [{"fast"}, {"fast", "slow"}, {"fast"}, {"fast", "slow"}]


def test_names_of_processes_stay_between_slow_lanes(start: Start) -> None:
    reader = FakeReader()
    poller = start(replace(QUICK, slow_every=50), edges(reader))
    until(lambda: len(reader.polls) >= 4)
    processes = poller.latest().node.gpus[0].slow.processes
    assert known(processes)
    assert processes[0].name == "p1000"
    assert poller.latest().node.gpus[0].namespace == "llm"


def test_poller_goes_on_while_nvml_hangs(start: Start) -> None:
    engine = EngineAddress(url="http://127.0.0.1:8000")
    reader = FakeReader()
    poller = start(replace(QUICK, engines=(engine,)), edges(reader))
    poller.wait(3, 5)
    assert poller.ready
    reader.hang_at = 1
    until(lambda: poller.latest().node.nvml.stuck_seconds >= 1)
    seen = poller.latest()
    assert seen.node.nvml.stuck_call == "nvmlDeviceGetTemperature"
    count = poller.wait(0, 1)
    assert poller.wait(count, 5) > count  # observations go on
    began = time.monotonic()
    poller.latest()
    poller.history()
    assert time.monotonic() - began < 0.1
    threads = [thread for thread in threading.enumerate() if thread.name == "selfhost-nvml"]
    assert len(threads) == 1
    reader.hang_at = None
    reader.let_go.set()
    until(lambda: poller.latest().node.nvml.stuck_call is None)
    assert poller.latest().node.nvml.fault is None


def test_stop_leaves_what_hangs(start: Start) -> None:
    reader = FakeReader(hang_at=0)
    poller = start(QUICK, edges(reader))
    until(lambda: reader.current_call is not None)
    assert not poller.ready
    began = time.monotonic()
    poller.stop(patience_seconds=0.5)
    assert time.monotonic() - began < 1.5
    assert not reader.closed
    reader.let_go.set()
    until(lambda: reader.closed)


def test_hung_gpus_are_those_not_read_since() -> None:
    now = 1000.0
    gpus = tuple(
        GpuSnapshot(identity=identity(index), fast_at=now - age) for index, age in ((0, 2.0), (1, 40.0))
    )
    view = NvmlView(passes=3, fault=None, gpus=gpus)
    call = ("nvmlDeviceGetPowerUsage", 470.0)

    def at(monotonic: float) -> tuple[list[bool], float, bool]:
        state, found = nvml_state(view, call, hung_after=20.0, stale_after=20.0, now=now, monotonic=monotonic)
        return [gpu.fault is not None for gpu in found], state.stuck_seconds, state.fault is not None

    assert at(470.5) == ([False, False], 0.0, False)
    assert at(480.0) == ([False, False], 10.0, False)  # late is told of, and is no fault yet
    assert at(500.0) == ([False, True], 30.0, True)
    assert hung_after_seconds(5.0) == 15.0
    assert hung_after_seconds(0.5) == 5.0


def test_nvml_is_tried_again(monkeypatch: pytest.MonkeyPatch, start: Start) -> None:
    monkeypatch.setattr("selfhost.monitor.nvml_thread.RETRY_SECONDS", 0.2)
    answers: list[FakeReader | Missing] = [Missing(missing="driver not loaded", code=9), FakeReader()]
    poller = start(QUICK, edges(lambda: answers.pop(0)))
    until(lambda: poller.ready)
    first = poller.history()[0]
    assert first.node.nvml.fault is not None
    assert first.node.nvml.fault.code == 9
    until(lambda: poller.latest().node.nvml.fault is None)
    assert len(poller.latest().node.gpus) == 2


def test_driver_that_was_loaded_anew(monkeypatch: pytest.MonkeyPatch, start: Start) -> None:
    monkeypatch.setattr("selfhost.monitor.nvml_thread.RETRY_SECONDS", 0.2)
    dead, fresh = FakeReader(), FakeReader()
    answers = [dead, fresh]
    poller = start(QUICK, edges(lambda: answers.pop(0)))
    until(lambda: poller.ready)
    dead.driver = Driver(device_count=Missing(missing="uninitialised", code=1))
    dead.gpus = {
        index: replace(gpu, fault=Missing(missing="uninitialised", code=1))
        for index, gpu in dead.gpus.items()
    }
    until(lambda: fresh.polls and all(gpu.fault is None for gpu in poller.latest().node.gpus))
    assert dead.closed


def test_a_gpu_that_is_gone_stays(start: Start) -> None:
    reader = FakeReader()
    poller = start(QUICK, edges(reader))
    until(lambda: len(poller.latest().node.gpus) == 2)
    reader.count, reader.driver = 1, Driver(device_count=1)
    until(lambda: poller.latest().node.device_count == 1 and poller.latest().node.gpus[1].fault is not None)
    gone = poller.latest().node.gpus[1]
    assert gone.identity == identity(1)


def test_a_gpu_that_tells_its_uuid_late(start: Start) -> None:
    nameless = replace(identity(0), uuid="unknown-0")
    fault = Missing(missing="unknown error", code=999)
    reader = FakeReader(gpus={0: GpuSnapshot(identity=nameless, fault=fault)})
    poller = start(QUICK, edges(reader))
    until(lambda: len(poller.latest().node.gpus) == 2)
    assert "unknown-0" in {gpu.identity.uuid for gpu in poller.latest().node.gpus}
    reader.gpus[0] = GpuSnapshot(identity=identity(0))
    until(
        lambda: (
            {gpu.identity.uuid for gpu in poller.latest().node.gpus} == {identity(0).uuid, identity(1).uuid}
        )
    )


def test_edges_that_raise_after_all(start: Start) -> None:
    def broken(*_: object) -> Never:
        raise RuntimeError("ours")

    machine = replace(edges(FakeReader()), kernel_log=broken, join=broken, find_engines=broken, scrape=broken)
    sources = replace(QUICK, discover_engines=True, engines=(EngineAddress(url="http://127.0.0.1:8000"),))
    poller = start(sources, machine)
    poller.wait(3, 5)
    seen = poller.latest()
    assert isinstance(seen.node.kernel_log, Missing)
    assert len(seen.node.gpus) == 2
    assert len(seen.engines) == 1
    assert poller.failure is None


def test_faults_of_ours_end_no_thread(start: Start) -> None:
    class Broken(FakeReader):
        def drain_events(self, at: float) -> tuple[XidEvent, ...]:
            raise RuntimeError("ours")

    poller = start(QUICK, edges(Broken()))
    until(lambda: poller.ready)
    fault = poller.latest().node.nvml.fault
    assert fault is not None
    assert "RuntimeError: ours" in fault.missing
    assert poller.alive


def test_a_listener_that_fails_is_told_of(start: Start) -> None:
    poller = start(QUICK, edges(FakeReader()))

    def broken(observation: Observation, history: tuple[Observation, ...]) -> None:
        raise ZeroDivisionError

    poller.listen(broken)
    until(lambda: poller.failure is not None)
    assert "ZeroDivisionError" in (poller.failure or "")
    assert poller.alive


def test_xids_are_bounded(start: Start) -> None:
    reader = FakeReader(xids=[XidEvent(at=float(number), xid=13) for number in range(MOST_XIDS + 50)])
    poller = start(QUICK, edges(reader))
    until(lambda: bool(poller.latest().node.xids))
    assert len(poller.latest().node.xids) == MOST_XIDS
    assert poller.latest().node.xids[-1].at == MOST_XIDS + 49


def test_a_dead_engine_delays_nobody(start: Start) -> None:
    stuck = threading.Event()

    def scrape(
        address: EngineAddress, timeout: float, now: float, previous: EngineSnapshot | None
    ) -> EngineSnapshot:
        if address.url.endswith("9"):
            stuck.wait(60)
        return answer(address, timeout, now, previous)

    engines = tuple(EngineAddress(url=f"http://127.0.0.1:800{port}") for port in (0, 9))
    poller = start(replace(QUICK, engines=engines), edges(FakeReader(), scrape=scrape))
    poller.wait(5, 5)
    began = time.monotonic()
    poller.wait(poller.wait(0, 1) + 5, 5)
    assert time.monotonic() - began < 2
    alive, dead = poller.latest().engines
    assert alive.health_status == 200
    assert not known(dead.health_status)
    assert len([t for t in threading.enumerate() if t.name == "selfhost-engine"]) <= 3
    stuck.set()


def test_a_gpu_is_not_there_twice_while_the_next_one_hangs(start: Start) -> None:
    nameless = replace(identity(0), uuid="unknown-0")
    fault = Missing(missing="unknown error", code=999)
    reader = FakeReader(gpus={0: GpuSnapshot(identity=nameless, fault=fault)})
    poller = start(QUICK, edges(reader))
    until(lambda: len(poller.latest().node.gpus) == 2)
    reader.hang_at = 1
    reader.gpus[0] = GpuSnapshot(identity=identity(0))
    until(
        lambda: (
            reader.current_call
            and identity(0).uuid in {gpu.identity.uuid for gpu in poller.latest().node.gpus}
        )
    )
    assert [gpu.identity.index for gpu in poller.latest().node.gpus] == [0, 1]
    reader.let_go.set()


def test_processes_of_engines_that_were_named_are_found() -> None:
    asked = threading.Event()

    def scrape(
        address: EngineAddress, timeout: float, now: float, previous: EngineSnapshot | None
    ) -> EngineSnapshot:
        asked.wait(30)  # found while the first answer is still waited for
        return answer(address, timeout, now, previous)

    def find(pids: tuple[int, ...]) -> tuple[EngineAddress, ...]:
        asked.set()
        return tuple(
            EngineAddress(url=f"http://127.0.0.1:800{port}", pids=(1000 + port,), engine="sglang")
            for port in (0, 1, 2)
        )

    engines = tuple(EngineAddress(url=f"http://127.0.0.1:800{port}") for port in (0, 1))
    seen = observe_once(
        replace(QUICK, engines=engines),
        deadline_seconds=5,
        edges=edges(FakeReader(), find=find, scrape=scrape),
    )
    assert [(engine.url[-4:], engine.pids, engine.engine) for engine in seen.engines] == [
        ("8000", (1000,), "sglang"),
        ("8001", (1001,), "sglang"),
    ]


def test_engine_that_went_away_is_kept_for_a_while(monkeypatch: pytest.MonkeyPatch, start: Start) -> None:
    here = [EngineAddress(url="http://127.0.0.1:8000", pids=(5,))]
    sources = replace(QUICK, discover_engines=True)
    poller = start(sources, edges(FakeReader(), find=lambda pids: tuple(here)))
    until(lambda: bool(poller.latest().engines))
    here.clear()
    poller.wait(poller.wait(0, 1) + 5, 5)
    assert poller.latest().engines
    monkeypatch.setattr("selfhost.monitor.engine_watch.FORGET_SECONDS", 0.1)
    until(lambda: not poller.latest().engines)


def test_history_is_bounded() -> None:
    ring = Ring(seconds=10, count=5)
    node = NodeSnapshot(host="h")
    for second in range(20):
        ring.add(Observation(schema=SCHEMA, at=float(second), node=node))
    assert [seen.at for seen in ring.all()] == [15, 16, 17, 18, 19]
    ring.add(Observation(schema=SCHEMA, at=28.5, node=node))
    assert [seen.at for seen in ring.all()] == [19, 28.5]
    # A clock that was set back.
    ring.add(Observation(schema=SCHEMA, at=3.0, node=node))
    assert [seen.at for seen in ring.all()] == [3.0]


def test_watch_once_goes_on_while_a_check_asks() -> None:
    """Requests wait and no token came in the first look: whether the engine is wedged takes a second one."""

    def waiting(
        address: EngineAddress, timeout: float, now: float, previous: EngineSnapshot | None
    ) -> EngineSnapshot:
        seen = answer(address, timeout, now, previous)
        return replace(seen, running=1, waiting=3, generation_tokens=7, prompt_tokens=7)

    sources = replace(QUICK, engines=(EngineAddress(url="http://127.0.0.1:8000"),))
    machine = edges(FakeReader(), scrape=waiting)
    machine = replace(
        machine,
        join=lambda engines, gpus: tuple(
            replace(engine, gpu_uuids=tuple(gpu.identity.uuid for gpu in gpus)) for engine in engines
        ),
    )
    seen = watch_once(sources, deadline_seconds=5, window_seconds=1.0, step_seconds=0.2, edges=machine)
    assert len(seen) >= 2
    assert [one.at for one in seen] == sorted(one.at for one in seen)


def test_watch_once_looks_as_often_as_the_checks_ask() -> None:
    reader = FakeReader()
    seen = watch_once(QUICK, deadline_seconds=5, window_seconds=0.35, step_seconds=0.1, edges=edges(reader))
    assert 1 <= len(seen) <= 4
    assert [one.at for one in seen] == sorted(one.at for one in seen)
    assert reader.closed


# --- recordings


def observations(count: int = 3) -> list[Observation]:
    seen = observe_once(
        replace(QUICK, engines=(EngineAddress(url="http://127.0.0.1:8000"),)),
        deadline_seconds=5,
        edges=edges(FakeReader()),
    )
    return [replace(seen, at=seen.at + number) for number in range(count)]


@pytest.mark.parametrize("name", ["seen.jsonl", "seen.jsonl.gz"])
def test_recording_comes_back(tmp_path: Path, name: str) -> None:
    path, seen = tmp_path / name, observations()
    with Recorder(path) as recorder:
        assert all(recorder.write(one) for one in seen)
    assert list(replay(path)) == seen
    raw = path.read_bytes()
    assert (gzip.decompress(raw) if name.endswith(".gz") else raw).startswith(
        b'{"schema":"selfhost/recording/v1"'
    )
    with pytest.raises(OutputError, match="exists already"):
        Recorder(path)


@pytest.mark.parametrize("name", ["seen.jsonl", "seen.jsonl.gz"])
def test_recorder_that_was_killed(tmp_path: Path, name: str) -> None:
    path, seen = tmp_path / name, observations()
    with Recorder(path) as recorder:
        sizes = [recorder.written for one in seen if recorder.write(one)]
    path.write_bytes(path.read_bytes()[: sizes[1] + 40])
    told: list[str] = []
    assert list(replay(path, on_truncated=told.append)) == seen[:2]
    assert len(told) == 1
    assert "is cut off" in told[0]


def test_recording_whose_last_line_is_whole_but_for_its_end(tmp_path: Path) -> None:
    path, seen = tmp_path / "a.jsonl", observations()
    with Recorder(path) as recorder:
        for one in seen:
            recorder.write(one)
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert list(replay(path)) == seen


def test_recordings_that_are_none(tmp_path: Path) -> None:
    path, seen = tmp_path / "a.jsonl", observations(2)
    with Recorder(path) as recorder:
        for one in seen:
            recorder.write(one)
    header, first, second = path.read_text().splitlines()
    cases = {
        "": "is empty",
        "[]\n": "line 1: is not a JSON object|line 1 is not a JSON object",
        "hello": "cut off in its first line",
        header.replace("/v1", "/v9") + "\n": "is not a selfhost/recording/v1",
        f"{header}\n{{}}\n": r"line 2: observation\.\w+ is missing",
        f"{header}\n{first}\nx\n{second}\n": "line 3 is not JSON",
        f"{header}\n{first.replace('0.5', 'NaN')}\n": "line 2 is not JSON",
        f'{header}\n{first[:-1]},"more":1}}\n': "more is not a field",
    }
    for text, wanted in cases.items():
        path.write_text(text)
        with pytest.raises(RecordingError, match=wanted) as caught:
            list(replay(path))
        assert "\n" not in caught.value.message
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(RecordingError, match="UTF-8"):
        list(replay(path))
    with pytest.raises(RecordingError, match="cannot be read"):
        list(replay(tmp_path / "none.jsonl"))
    (tmp_path / "b.jsonl.gz").write_bytes(b"not gzip at all")
    with pytest.raises(RecordingError, match="gzip"):
        list(replay(tmp_path / "b.jsonl.gz"))


def test_recording_has_an_end(tmp_path: Path) -> None:
    seen = observations(50)
    with Recorder(tmp_path / "a.jsonl", most_bytes=100_000) as recorder:
        written = sum(recorder.write(one) for one in seen)
        assert recorder.full
    assert 0 < written < 50
    assert (tmp_path / "a.jsonl").stat().st_size <= 100_000
    assert len(list(replay(tmp_path / "a.jsonl"))) == written


def test_recording_keeps_no_credentials(tmp_path: Path) -> None:
    url = "http://user:s3cret@127.0.0.1:8000/?key=s3cret"
    seen = observations(1)[0]
    with Recorder(tmp_path / "a.jsonl") as recorder:
        recorder.write(replace(seen, engines=(replace(seen.engines[0], url=url, name=url),)))
    assert "s3cret" not in (tmp_path / "a.jsonl").read_text()
    assert without_credentials("https://u:p@[::1]:8000") == "https://[::1]:8000"
    assert without_credentials("Qwen/Qwen3-32B") == "Qwen/Qwen3-32B"

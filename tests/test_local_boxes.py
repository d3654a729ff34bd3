"""`selfhost up --local` by Compose and by systemd: what is called, where files lie, and what `down` takes away."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from selfhost import local
from selfhost.local import boxes
from selfhost.local.store import root
from tests.conftest import Cli, Ran
from tests.local_servers import KEY, free_port

# Stands for docker and systemctl: notes its words, and remembers whether what it was told to start runs.
TOOL = """#!{python}
import json, pathlib, sys
here = pathlib.Path(__file__).parent
words = sys.argv[1:]
with (here / "calls.jsonl").open("a") as file:
    file.write(json.dumps([pathlib.Path(__file__).name, *words]) + "\\n")
state = here / "runs"
if (here / "refuses").exists() and ("up" in words or "start" in words):
    sys.exit("pull access denied for nobody/nothing")
if "up" in words or "start" in words:
    state.touch()
if "down" in words or "stop" in words:
    state.unlink(missing_ok=True)
if "ps" in words and state.exists():
    print("running 0")
if "show" in words:
    print("active" if state.exists() else "inactive")
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("docker", "systemctl"):
        (folder / name).write_text(TOOL.format(python=sys.executable))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    for name in ("UNITS", "KEYS", "PROGRAMS", "STATE", "CACHE"):
        place = tmp_path / "machine" / name.lower()
        place.mkdir(parents=True)
        monkeypatch.setattr(boxes, name, place)
    return folder


def calls(tools: Path) -> list[list[str]]:
    file = tools / "calls.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def up(cli: Cli, *words: str | Path) -> Ran:
    return cli("up", "--local", "--yes", "--no-smoke-test", "--timeout", "5s", *words)


def test_compose_is_told_and_takes_everything_away(
    cli: Cli, tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boxes, "healthy", lambda address, path: (tools / "runs").exists())
    key = tmp_path / "key"
    key.write_text(f"{KEY}\n")
    ran = up(cli, "--with", "compose", "--api-key-file", key)
    assert ran.code == 0, ran.out + ran.err
    folder = root() / "tiny" / "compose"
    (started,) = (words for words in calls(tools) if "up" in words)
    assert started[:2] == ["docker", "compose"]
    assert started[2:] == [
        "--project-name", "selfhost-tiny", "--file", str(folder / "compose.yaml"), "up", "--detach", "--remove-orphans",
    ]  # fmt: skip
    text = (folder / "compose.yaml").read_text()
    assert str(root() / "tiny" / "weights" / "tiny") in text
    assert KEY not in text
    secret = folder / "secrets" / "api-key"
    assert secret.read_text() == f"{KEY}\n"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    (seen,) = local.status()
    assert (seen.way, seen.phase) == ("compose", "ready")
    again = up(cli, "--with", "compose", "--api-key-file", key)
    assert again.code == 0, again.err
    assert sum("up" in words for words in calls(tools)) == 1
    assert cli("down", "--with-weights").code == 0
    assert any("down" in words and "--volumes" in words for words in calls(tools))
    assert local.status() == ()
    assert not (root() / "tiny").exists()


def test_what_compose_refuses_is_said_in_its_words(cli: Cli, tools: Path) -> None:
    (tools / "refuses").touch()
    ran = up(cli, "--with", "compose")
    assert ran.code == 5
    assert "pull access denied for nobody/nothing" in ran.err
    assert cli("down", "--with-weights").code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="units are installed by root")
def test_units_are_installed_and_removed(
    cli: Cli, tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.fakes.vllm_program import install

    monkeypatch.setattr(boxes, "healthy", lambda address, path: (tools / "runs").exists())
    python = install(tmp_path / "engine")
    monkeypatch.setenv("SELFHOST_VLLM_PYTHON", str(python))
    key = tmp_path / "key"
    key.write_text(f"{KEY}\n")
    strange = boxes.UNITS / "another.service"
    strange.write_text("[Unit]\n")
    ran = up(cli, "--with", "systemd", "--api-key-file", key)
    assert ran.code == 0, ran.out + ran.err
    unit = (boxes.UNITS / "tiny.service").read_text()
    assert str(python.parent / "vllm") in unit
    assert KEY not in unit
    assert (boxes.KEYS / "tiny" / "api-key").read_text() == f"{KEY}\n"
    assert ["systemctl", "start", "--no-block", "tiny.service"] in calls(tools)
    assert cli("down", "tiny", "--with-weights").code == 0
    assert ["systemctl", "stop", "tiny.service"] in calls(tools)
    assert [path.name for path in boxes.UNITS.iterdir()] == ["another.service"]
    assert not (boxes.KEYS / "tiny").exists()


def test_without_compose_it_says_so(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = up(cli, "--with", "compose")
    assert ran.code == 1
    assert "No Docker or Podman with Compose" in ran.err


def test_the_port_is_the_plans(cli: Cli, tools: Path) -> None:
    ran = up(cli, "--with", "compose", "--port", str(free_port()))
    assert ran.code == 1
    assert "listen at 8000" in ran.err

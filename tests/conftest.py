"""Fixtures for every test: a quiet environment and one way to run the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from selfhost.cli import app
from selfhost.cli._errors import run
from tests.fakes import nvml

if TYPE_CHECKING:
    from tests.apiservers import Cluster
    from tests.clusters import ControlPlane

GENTLE = ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "COLUMNS", "NO_COLOR", "FORCE_COLOR")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write golden files again instead of comparing"
    )


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No token, no endpoint, no cache of the machine: a test sees what it sets up itself."""
    for name in GENTLE:
        monkeypatch.delenv(name, raising=False)
    home = tmp_path_factory.mktemp("home")
    for name, value in {"HF_HOME": home / "hf", "XDG_STATE_HOME": home / "state"}.items():
        monkeypatch.setenv(name, str(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a command line left behind."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Ran]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run `selfhost WORDS...` in this process, through the error boundary."""

    def call(*words: str | os.PathLike[str]) -> Ran:
        capfd.readouterr()
        code = run(app, [os.fspath(word) for word in words])
        out, err = capfd.readouterr()
        return Ran(code=code, out=out, err=err)

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return call


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], str]:
    """The text that tests/golden/NAME holds; with --update-golden the text that is given is written there first."""

    def stored(name: str, text: str) -> str:
        path = Path(__file__).parent / "golden" / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return path.read_text(encoding="utf-8")

    return stored


@pytest.fixture(scope="session")
def nvml_builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where builds of the fake NVML are kept; a test that asks for it is skipped without a C compiler."""
    if nvml.compiler() is None:
        pytest.skip("no C compiler (gcc or cc) to build the fake NVML with")
    base = tmp_path_factory.getbasetemp()
    # Workers of pytest-xdist have folders of their own in one that is the run's: they share what one of them compiled.
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "nvml"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def nvml_library(nvml_builds: Path) -> Path:
    """The fake libnvidia-ml.so.1 with every function."""
    return nvml.build(nvml_builds)


@pytest.fixture
def fake_gpus(nvml_builds: Path, tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """From a scenario's name or text to the environment of a process that sees its GPUs.

    The scenario is copied to the file that FAKE_NVML_SCENARIO names, where a test may edit it (`nvml.rewrite`);
    functions under `missing = …` are left out of the library. `nvml.trace` reads what FAKE_NVML_TRACE names.
    """

    def environment(scenario: str) -> dict[str, str]:
        text = scenario if "=" in scenario else nvml.scenario(scenario)
        file = tmp_path / "gpus.scenario"
        nvml.rewrite(file, nvml.expand(text))
        library = nvml.build(nvml_builds, nvml.missing_in(text))
        return {**os.environ, **nvml.environment_for(library, file, tmp_path / "nvml.trace")}

    return environment


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server with the definitions of tests/schemas/, for tests with the mark `tests.apiservers.NEEDED`."""
    from tests.apiservers import serve

    yield from serve(tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """API server, scheduler and controller manager, for tests with the mark `tests.clusters.NEEDED`."""
    from tests.clusters import control_plane

    yield from control_plane(tmp_path_factory.mktemp("plane"))

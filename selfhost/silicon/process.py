"""A request -> the child's answer: one process for one batch of points, killed when its time is over."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from selfhost.errors import ProviderError, UnsupportedError

PYTHON = "SELFHOST_SILICON_PYTHON"
PACKAGE = "0.12.0"  # the one release whose answers were compared; later ones change names and tables
DEADLINE_SECONDS = 60.0  # Ours: a start takes 2 s, thirty times that on a machine that is busy
_INSTALL = f"`pip install 'selfhost[silicon]'` brings them, or {PYTHON} names a Python that has them."
_KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the child says.

    Args:
        package: version of aiconfigurator-core.
        database: release of the engine that the kernels were measured in.
        seconds: one for each point of the request.
    """

    package: str
    database: str
    seconds: tuple[float, ...]


def interpreter(environ: Mapping[str, str]) -> str:
    """The Python that has the tables.

    Raises:
        UnsupportedError: none has.
    """
    named = environ.get(PYTHON)
    if named:
        if not os.path.isfile(named):
            raise UnsupportedError(f"{PYTHON} names {named}, which is no file.", hint=_INSTALL)
        return named
    if find_spec("aiconfigurator_core") is None:
        raise UnsupportedError("The tables of measured kernels are not installed.", hint=_INSTALL)
    return sys.executable


def ask(
    request: Mapping[str, Any],
    *,
    environ: Mapping[str, str] = os.environ,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> Answer:
    """Start the child, ask it once and take its answer.

    Args:
        request: see `request.request_of`; `points` are [decoding, context, prompt, before].
        environ: SELFHOST_SILICON_PYTHON is read; the child gets little of it.
        deadline_seconds: longest wait for all of it.

    Raises:
        UnsupportedError: not installed, another release, or not covered.
        ProviderError: the child was killed, ended or answered what is no answer.
    """
    python = interpreter(environ)
    line = json.dumps({**request, "package": PACKAGE}) + "\n"
    with tempfile.TemporaryDirectory(prefix="selfhost-silicon-") as folder:
        script = Path(folder, "child.py")  # a copy: selfhost may run from inside a zip
        script.write_text(files("selfhost.silicon").joinpath("child.py").read_text("utf-8"), encoding="utf-8")
        told = _run([python, "-I", str(script)], line, folder, environ, deadline_seconds)
    return _read(told, request)


def _run(
    command: list[str], line: str, folder: str, environ: Mapping[str, str], deadline_seconds: float
) -> str:
    env = {name: environ[name] for name in _KEPT if name in environ}
    env |= {"HOME": folder, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=env, cwd=folder, text=True, encoding="utf-8", errors="replace",
        )  # fmt: skip
    except OSError as error:
        raise ProviderError(f"{command[0]} could not be started: {error.strerror}.", hint=_INSTALL) from error
    with child:
        try:
            told, _ = child.communicate(line, timeout=deadline_seconds)
        except subprocess.TimeoutExpired as error:
            child.kill()
            raise ProviderError(
                f"The tables of measured kernels gave no answer in {deadline_seconds:g} s; their process was killed.",
                hint="Leave out --provider silicon.",
            ) from error
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        how = f"signal {-child.returncode}" if child.returncode < 0 else f"exit code {child.returncode}"
        raise ProviderError(
            f"The process with the tables of measured kernels ended with {how}.",
            hint="Leave out --provider silicon.",
        )
    return told


def _read(told: str, request: Mapping[str, Any]) -> Answer:
    try:
        found = json.loads(told)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ProviderError(
            "The process with the tables of measured kernels answered no JSON object.",
            hint="Leave out --provider silicon.",
        )
    if "error" in found:
        _refuse(str(found["error"]), str(found.get("because")), request)
    times = found.get("milliseconds")
    good = (
        isinstance(times, list)
        and len(times) == len(request["points"])
        and all(type(one) in (int, float) and math.isfinite(one) and one > 0 for one in times)
        and isinstance(found.get("database"), str)
        and isinstance(found.get("package"), str)
    )
    if not good or not isinstance(times, list):
        raise ProviderError(
            "The process with the tables of measured kernels answered without a time for each point.",
            hint="Leave out --provider silicon.",
        )
    return Answer(
        package=found["package"], database=found["database"], seconds=tuple(float(one) / 1e3 for one in times)
    )


def _refuse(kind: str, because: str, request: Mapping[str, Any]) -> None:
    if kind == "absent":
        raise UnsupportedError("The tables of measured kernels are not installed.", hint=_INSTALL)
    if kind == "version":
        raise UnsupportedError(
            f"aiconfigurator-core {because} is installed, but only {PACKAGE} was compared with measurements.",
            hint=f"pip install aiconfigurator-core=={PACKAGE}",
        )
    if kind == "uncovered":
        raise UnsupportedError(
            f"The kernel tables do not cover {request['model']} on {request['system']}: {because.rstrip('.')}.",
            hint="Leave out --provider silicon for the roofline.",
        )
    raise ProviderError(
        f"The process with the tables of measured kernels failed: {because.rstrip('.')}.",
        hint="Leave out --provider silicon.",
    )

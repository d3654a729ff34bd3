"""A fake libnvidia-ml.so.1: the real pynvml, nvitop or gpustat reads it, and a scenario file says what they see.

    library = build(directory)                          # compiled once, with gcc or cc
    environment = environment_for(library, scenario)    # for a process that is started with it
    ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)       # or in this process: before nvmlInit, found by its SONAME

Numbers of h100_read.scenario were read from a GPU, those of the others were not. README.md here lists the keys.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SONAME = "libnvidia-ml.so.1"
HERE = Path(__file__).parent
SCENARIOS = HERE / "scenarios"

_FLAGS = (
    "-std=c11",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-pthread",
)
_TRACE_HEADER = struct.Struct("=8sII")


def compiler() -> str | None:
    """The C compiler of this machine: $CC, gcc or cc; None without one."""
    return next(
        (found for name in (os.environ.get("CC"), "gcc", "cc") if name and (found := shutil.which(name))),
        None,
    )


def scenario(name: str) -> str:
    """Text of scenarios/NAME.scenario, as it stands there."""
    return (SCENARIOS / f"{name}.scenario").read_text(encoding="utf-8")


def scenario_names() -> tuple[str, ...]:
    """Every scenario there is, in alphabetical order."""
    return tuple(sorted(path.stem for path in SCENARIOS.glob("*.scenario")))


def build(directory: Path, missing: Collection[str] = ()) -> Path:
    """Compile the library into a folder below `directory`, once for each set of missing functions.

    Args:
        directory: where builds are kept; asking again for the same one costs nothing.
        missing: functions to leave out, so that the library is that of a driver older than they are.

    Raises:
        RuntimeError: there is no compiler, or it refused; with what it said.
    """
    command = compiler()
    if command is None:
        raise RuntimeError("no C compiler: gcc or cc")
    sources = sorted(path for path in HERE.iterdir() if path.suffix in (".c", ".h", ".def"))
    mark = hashlib.sha256(
        b"".join(path.read_bytes() for path in sources) + ",".join(sorted(missing)).encode()
    )
    library = directory / mark.hexdigest()[:16] / SONAME
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    exports = library.with_name(f"exports.map.{os.getpid()}")  # another process may build the same
    hidden = "".join(f" {name};" for name in sorted(missing))
    exports.write_text(f"{{ global: nvml*; local:{hidden} *; }};\n", encoding="utf-8")
    unfinished = library.with_name(f"{SONAME}.{os.getpid()}")
    linking = (f"-Wl,-soname,{SONAME}", f"-Wl,--version-script={exports}", "-o", os.fspath(unfinished))
    ran = subprocess.run(
        [command, *_FLAGS, *linking, *(os.fspath(path) for path in sources if path.suffix == ".c")],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode != 0:
        raise RuntimeError(f"{command} could not compile the fake NVML:\n{ran.stderr}")
    unfinished.replace(library)
    return library


def expand(text: str) -> str:
    """A scenario's text with what it includes in place of its lines `include = …`."""
    return re.sub(
        r"^include\s*=\s*(\S+)\.scenario\s*$",
        lambda found: expand(scenario(found[1])),
        text,
        flags=re.MULTILINE,
    )


def missing_in(text: str) -> tuple[str, ...]:
    """Functions that a scenario's line `missing = …` takes away; they are left out when the library is built."""
    lines = re.findall(r"^\s*missing\s*=([^#\n]*)", expand(text), re.MULTILINE)
    return tuple(name for line in lines for name in line.replace(",", " ").split())


def environment_for(library: Path, scenario_file: Path, trace_file: Path | None = None) -> dict[str, str]:
    """What a process needs in its environment, from its start on, to see the scenario."""
    found = {"LD_LIBRARY_PATH": os.fspath(library.parent), "FAKE_NVML_SCENARIO": os.fspath(scenario_file)}
    return found if trace_file is None else {**found, "FAKE_NVML_TRACE": os.fspath(trace_file)}


def rewrite(path: Path, text: str) -> None:
    """Put another text into a scenario file at once, so that nobody reads half of it."""
    other = path.with_name(f"{path.name}.new")
    other.write_text(text, encoding="utf-8")
    other.replace(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Calls that were made so far. `calls` is by function, then by GPU; None stands for calls without a GPU."""

    calls: Mapping[str, Mapping[int | None, int]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All calls of all functions."""
        return sum(sum(by_gpu.values()) for by_gpu in self.calls.values())

    def of(self, function: str, gpu: int | None = None) -> int:
        """Calls of a function: of one GPU, or all of them."""
        by_gpu = self.calls.get(function, {})
        return sum(by_gpu.values()) if gpu is None else by_gpu.get(gpu, 0)

    def on(self, gpu: int | None) -> int:
        """Calls of every function on one GPU; None for those without a GPU."""
        return sum(by_gpu.get(gpu, 0) for by_gpu in self.calls.values())

    def since(self, earlier: Trace) -> Trace:
        """What was called after `earlier` was read."""
        less = {
            name: {
                gpu: count - earlier.calls.get(name, {}).get(gpu, 0)
                for gpu, count in by_gpu.items()
                if count > earlier.calls.get(name, {}).get(gpu, 0)
            }
            for name, by_gpu in self.calls.items()
        }
        return Trace(calls={name: by_gpu for name, by_gpu in less.items() if by_gpu})


def trace(path: Path) -> Trace:
    """Read the counts that FAKE_NVML_TRACE names; right at any moment, while the process runs and after it was killed.

    Several processes with the same file add up. The file is empty of counts before the first call.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Trace()
    if len(data) < _TRACE_HEADER.size:
        return Trace()
    magic, functions, columns = _TRACE_HEADER.unpack_from(data)
    if magic != b"NVMLCALL":
        return Trace()
    at = _TRACE_HEADER.size
    names = [data[at + 64 * i : at + 64 * (i + 1)].split(b"\0")[0].decode() for i in range(functions)]
    counts = struct.unpack_from(f"={functions * columns}Q", data, at + 64 * functions)
    calls: dict[str, dict[int | None, int]] = {}
    for i, name in enumerate(names):
        row = counts[i * columns : (i + 1) * columns]
        found: dict[int | None, int] = {
            gpu if gpu < columns - 1 else None: n for gpu, n in enumerate(row) if n
        }
        if found:
            calls[name] = found
    return Trace(calls=calls)

"""Pythons that have the kernel tables, as `estimate --provider silicon` sees them: real processes, made-up times.

`install` writes one that speaks the protocol itself, well or badly; `install_package` one that runs the real child over
a package of the real one's names.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGE, DATABASE = "0.12.0", "0.24.0"

_PROGRAM = """#!{python}
import json, os, sys, time
script = json.loads({script!r})
line = sys.stdin.readline()
with open({log!r}, "a") as log:
    start = {{"words": sys.argv[1:], "pid": os.getpid(), "env": dict(os.environ), "asked": json.loads(line)}}
    log.write(json.dumps(start) + "\\n")
time.sleep(script.get("sleep", 0))
if "signal" in script:
    os.kill(os.getpid(), script["signal"])
if "exit" in script:
    sys.exit(script["exit"])
if "say" in script:
    print(script["say"])
    sys.exit()
def milliseconds(decoding, context, prompt, before):
    return 5 + decoding / 64 + decoding * context / 65536 if decoding else 4 + prompt / 64 + prompt * before / 1048576
times = [milliseconds(*point) for point in json.loads(line)["points"]]
print(json.dumps({{"package": "{package}", "database": "{database}", "milliseconds": times}}))
"""

_WRAPPER = """#!{python}
import runpy, sys
sys.path.insert(0, {folder!r})
sys.argv = sys.argv[2:]  # without -I
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def decode_seconds(decoding: float, context: float) -> float:
    """What the fake takes for a step of decoding sequences."""
    return (5 + decoding / 64 + decoding * context / 65536) / 1e3


def prompt_seconds(prompt: float, before: float) -> float:
    """What it takes for a step of prompt tokens."""
    return (4 + prompt / 64 + prompt * before / 1048576) / 1e3


@dataclass(frozen=True, slots=True, kw_only=True)
class Fake:
    """A program in the place of a Python, and the record of its starts."""

    python: Path
    log: Path

    @property
    def starts(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def install(folder: Path, **script: Any) -> Fake:
    """Write one.

    Args:
        folder: where to.
        script: `sleep`, seconds before it answers; `exit` or `signal`, how it ends instead; `say`, its answer as it is.
    """
    log = folder / "starts"
    text = _PROGRAM.format(
        python=sys.executable, script=json.dumps(script), log=str(log), package=PACKAGE, database=DATABASE
    )
    return Fake(python=_written(folder / "python", text), log=log)


def install_package(folder: Path, engine: str, *, version: str = PACKAGE) -> Fake:
    """Write one that runs the child it is given, over a package whose `EngineHandle` is made of this code.

    Args:
        folder: where to.
        engine: body of aiconfigurator_core/sdk/engine.py.
        version: what its metadata says.
    """
    sdk = folder / "site" / "aiconfigurator_core" / "sdk"
    sdk.mkdir(parents=True)
    (sdk.parent / "__init__.py").write_text("")
    (sdk / "__init__.py").write_text("")
    (sdk / "engine.py").write_text(engine)
    (sdk / "perf_database.py").write_text(
        "def get_version_slots(system, backend):\n"
        f"    return {{'current': '{DATABASE}'}} if system != 'b60' else None\n"
    )
    metadata = folder / "site" / f"aiconfigurator_core-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: aiconfigurator-core\nVersion: {version}\n"
    )
    text = _WRAPPER.format(python=sys.executable, folder=str(folder / "site"))
    return Fake(python=_written(folder / "python", text), log=folder / "starts")

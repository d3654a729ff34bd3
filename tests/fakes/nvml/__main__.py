"""Run a command that sees the GPUs of a scenario: `python -m tests.fakes.nvml NAME|FILE COMMAND …`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from tests.fakes import nvml


def become(scenario: str, command: list[str]) -> NoReturn:
    """Replace this process by the command, with the scenario in its environment."""
    file = Path(scenario)
    if not file.is_file():
        file = nvml.SCENARIOS / f"{scenario}.scenario"
    builds = Path(tempfile.gettempdir()) / f"fake-nvml-{os.getuid()}"
    library = nvml.build(builds, nvml.missing_in(file.read_text(encoding="utf-8")))
    os.execvpe(command[0], command, {**os.environ, **nvml.environment_for(library, file)})


def main(words: list[str]) -> int:
    """`--list` lists the scenarios; anything else needs a scenario and a command."""
    if words == ["--list"]:
        titles = {name: nvml.scenario(name).splitlines()[0].lstrip("# ") for name in nvml.scenario_names()}
        sys.stdout.writelines(f"{name:18} {title}\n" for name, title in titles.items())
        return 0
    if len(words) < 2:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    become(words[0], words[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

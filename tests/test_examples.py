"""Every folder of examples/ is what its own commands make."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from selfhost.manifests import render, targets
from selfhost.manifests.zipapp import ARCHIVE_FILE
from selfhost.place import NODE_GPUS
from selfhost.plan import read_plan
from tests.conftest import Cli

FOLDER = Path(__file__).parent.parent / "examples"
CASES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
COMMAND = re.compile(r"^\$ selfhost (.+)$", re.MULTILINE)


def files(folder: Path) -> dict[str, str]:
    """Every file but the README and the archive, by its path in the folder."""
    return {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / "README.md" and path.name != ARCHIVE_FILE
    }


@pytest.mark.parametrize("case", CASES)
def test_commands_make_the_files(
    case: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1795435200")  # 2026-11-23
    monkeypatch.chdir(tmp_path)
    commands = COMMAND.findall((FOLDER / case / "README.md").read_text(encoding="utf-8"))
    assert len(commands) >= 2
    for command in commands:
        ran = cli(*shlex.split(command))
        assert ran.code == 0, ran.err
    if request.config.getoption("--update-golden"):
        shutil.rmtree(FOLDER / case / "rendered", ignore_errors=True)
        shutil.copytree(
            tmp_path, FOLDER / case, dirs_exist_ok=True, ignore=shutil.ignore_patterns(ARCHIVE_FILE)
        )
    assert (tmp_path / "rendered" / ARCHIVE_FILE).is_file()
    assert not (FOLDER / case / "rendered" / ARCHIVE_FILE).exists()  # changes with every change of a pull
    assert files(tmp_path) == files(FOLDER / case)


@pytest.mark.parametrize("case", CASES)
def test_the_rendered_plan_is_the_plan(case: str) -> None:
    plan = read_plan(FOLDER / case / "plan.json")
    assert read_plan(FOLDER / case / "rendered" / "plan.json") == plan
    assert render(plan, target="lws" if plan.gpu.count > NODE_GPUS else "kubernetes").documents


def test_the_list_names_every_folder() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\| \[([^]]+)\]", text)) == set(CASES)


def test_the_readme_names_every_target() -> None:
    """The table of targets in the README of the project."""
    text = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    rows = text.partition("| `--target` |")[2].partition("\n\n")[0].splitlines()[2:]
    assert {name for row in rows for name in re.findall(r"`([a-z-]+)`", row.split("|")[1])} == set(targets())


def test_the_chart_of_somebody_else_has_what_the_readme_shows(cli: Cli) -> None:
    assert cli("lint", FOLDER / "chart.yaml").code == 5

"""`selfhost lint` from the command line: what it prints, exit codes, fixes in place and on standard input, SARIF."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

import selfhost.cli
from tests.conftest import Cli

CASES = Path(__file__).parent / "lint" / "cases"
SCHEMA = json.loads(
    (Path(selfhost.cli.__file__).parent / "schemas" / "lint.json").read_text(encoding="utf-8")
)
WRONG = str(CASES / "SH014_wrong.yaml")


def with_stdin(*words: str, text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "selfhost", *words], input=text, capture_output=True, text=True, check=False
    )


def test_a_finding_is_a_line_with_its_place_and_a_fix(cli: Cli) -> None:
    ran = cli("lint", WRONG, "--select", "SH014")
    assert ran.code == 5
    lines = ran.out.splitlines()
    told = "--tensor-parallel-size=2 needs 2 GPUs a pod but 1 GPU requested  [Deployment/llm/llm]"
    assert lines[0] == f"{WRONG}:16  SH014 error  {told}"
    assert lines[1] == "    fix: set nvidia.com/gpu: 2, or change the parallel sizes"
    assert lines[2] == "1 error, 0 warnings in 1 object, 1 engine; docs/lint.md#SH014"


def test_exit_codes(cli: Cli, tmp_path: Path) -> None:
    assert cli("lint", WRONG, "--ignore", "SH014,SH010").code == 0  # warnings alone
    assert cli("lint", WRONG, "--ignore", "SH014,SH010", "--strict").code == 5
    assert cli("lint", WRONG, "--select", "SH044", "--strict").code == 0  # a note
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [\n")
    ran = cli("lint", str(broken))
    assert (ran.code, ran.err) == (1, "")
    assert ran.out.startswith(f"{broken}:1  error  not YAML: ")
    assert cli("lint", str(tmp_path / "nothing.yaml")).code == 1
    assert cli("lint").code == 2
    assert cli("lint", WRONG, "--select", "SH999").code == 2
    assert cli("lint", WRONG, "--engine", "llamafile").code == 2
    assert cli("lint", WRONG, "--fix", "--diff").code == 2
    (tmp_path / "binary.yaml").write_bytes(b"a: \xff\xfe\n")
    ran = cli("lint", str(tmp_path / "binary.yaml"))
    assert (ran.code, "UTF-8" in ran.out) == (1, True)


def test_notes_are_shown_when_asked_for(cli: Cli) -> None:
    quiet, loud = cli("lint", WRONG, "--select", "SH044"), cli("lint", WRONG, "--select", "SH044", "--notes")
    assert "(1 note: --notes)" in quiet.out
    assert "SH044 note" not in quiet.out
    assert "SH044 note" in loud.out


def test_json_follows_its_schema(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("a: [\n")
    (tmp_path / "values.yaml").write_text("a: 1\n")
    for words in ((WRONG, "--json"), (str(CASES), "--format", "json"), (str(tmp_path), "--json")):
        ran = cli("lint", *words)
        jsonschema.validate(json.loads(ran.out), SCHEMA)
        assert ran.err == ""
    facts = json.loads(cli("lint", str(tmp_path), "--json").out)
    assert [each["file"] for each in facts["unread"]] == [str(tmp_path / "broken.yaml")]
    assert [each["file"] for each in facts["skipped"]] == [str(tmp_path / "values.yaml")]


def test_sarif_names_every_rule_and_place(cli: Cli) -> None:
    from selfhost.lint import rules

    log = json.loads(cli("lint", str(CASES), "--format", "sarif").out)
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    ids = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert ids == [rule.code for rule in rules()]
    assert {result["ruleId"] for result in run["results"]} <= set(ids)
    for result in run["results"]:
        assert ids[result["ruleIndex"]] == result["ruleId"]
        (location,) = result["locations"]
        assert location["physicalLocation"]["region"]["startLine"] >= 1
        for fix in result.get("fixes", ()):
            assert fix["artifactChanges"][0]["replacements"]


def test_fix_writes_in_place_and_keeps_comments(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(
        "# mine\n" + (CASES / "SH030_wrong.yaml").read_text().replace("--port=30000", "--port=30000 # theirs")
    )
    ran = cli("lint", str(file), "--fix", "--select", "SH030")
    assert (ran.code, "1 mended" in ran.out) == (0, True)
    text = file.read_text()
    assert text.startswith("# mine\n")
    assert "- --port=30000 # theirs\n            - --host=0.0.0.0\n" in text
    before = text
    assert cli("lint", str(file), "--fix", "--select", "SH030").code == 0
    assert file.read_text() == before


def test_diff_changes_nothing(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text((CASES / "SH030_wrong.yaml").read_text())
    ran = cli("lint", str(file), "--diff", "--select", "SH030")
    assert "+            - --host=0.0.0.0" in ran.out
    assert file.read_text() == (CASES / "SH030_wrong.yaml").read_text()


def test_standard_input() -> None:
    text = (CASES / "SH030_wrong.yaml").read_text()
    ran = with_stdin("lint", "-", "--select", "SH030", text=text)
    assert (ran.returncode, ran.stderr) == (5, "")
    assert ran.stdout.startswith("<stdin>:")
    mended = with_stdin("lint", "-", "--fix", "--select", "SH030", text=text)
    assert mended.returncode == 0
    assert "--host=0.0.0.0" in mended.stdout
    assert "1 mended" in mended.stderr
    assert mended.stdout.replace("            - --host=0.0.0.0\n", "") == text


@pytest.mark.parametrize("form", ["text", "json", "sarif"])
def test_names_of_files_cannot_move_the_cursor(cli: Cli, tmp_path: Path, form: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text((CASES / "SH014_wrong.yaml").read_text().replace("name: llm,", 'name: "\\e[31mred",'))
    ran = cli("lint", str(file), "--format", form)
    assert "\x1b" not in ran.out


def test_folders_are_read_and_hidden_ones_left_alone(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "a.yaml").write_text("a: [")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.yml").write_text((CASES / "SH014_wrong.yaml").read_text())
    (tmp_path / "README.md").write_text("a: [")
    facts = json.loads(cli("lint", str(tmp_path), "--json").out)
    assert facts["summary"]["files"] == 1
    assert facts["findings"]

"""Verdict, exit codes, baseline, learning, suppressions, and `selfhost health` over recordings."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfhost.cli._health_output import WORDS
from selfhost.errors import OutputError
from selfhost.health import (
    LEVELS,
    Baseline,
    BaselineError,
    Check,
    Context,
    GpuBaseline,
    Level,
    assess,
    exit_code,
    learn,
    read_baseline,
    verdict_of,
    worst_first,
    write_baseline,
)
from selfhost.health.suppressions import SuppressionError, read_suppressions
from selfhost.monitor import Recorder
from selfhost.observation import EngineSnapshot, Missing, Observation
from tests.conftest import Cli
from tests.health_samples import ABSENT, NOW, gpu, line, node, polls, seen
from tests.test_cli_json import schema

LOST = seen(
    node(
        gpu(0),
        gpu(1, fault=Missing(missing="GPU is lost", code=15)),
        kernel_log=(line(79, address="0000:19:00"),),
    )
)
WARM = seen(node(gpu(0, rare={"persistence": False}), gpu(1)))
WELL = seen(node(gpu(0), gpu(1)))
NOTHING = seen(node(kernel_driver_version=ABSENT, in_container=True))


def check(level: Level, code: str = "x", gpu: int | None = None) -> Check:
    return Check(code=code, level=level, gpu=gpu, message="m", source="s")


@pytest.fixture(autouse=True)
def own_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def recorded(tmp_path: Path, history: tuple[Observation, ...]) -> Path:
    path = tmp_path / "seen.jsonl"
    with Recorder(path) as recorder:
        for observation in history:
            recorder.write(observation)
    return path


class TestVerdict:
    @given(st.lists(st.sampled_from(LEVELS)))
    def test_it_is_the_worst_and_skipped_makes_none(self, levels: list[Level]) -> None:
        verdict = verdict_of(map(check, levels))
        made = [level for level in levels if level != "skipped"]
        assert verdict == (min(made, key=LEVELS.index) if made else "unknown")

    @given(st.lists(st.tuples(st.sampled_from(LEVELS), st.none() | st.integers(0, 7))))
    def test_worst_first(self, some: list[tuple[Level, int | None]]) -> None:
        ordered = worst_first(check(level, gpu=index) for level, index in some)
        ranks = [LEVELS.index(one.level) for one in ordered]
        assert ranks == sorted(ranks)
        assert len(ordered) == len(some)

    def test_exit_codes(self) -> None:
        assert [exit_code(level, nagios=True) for level in ("ok", "warn", "critical", "unknown")] == [
            0,
            1,
            2,
            3,
        ]
        assert [exit_code(level) for level in ("ok", "warn", "critical", "unknown")] == [0, 5, 5, 5]


class TestBaseline:
    def test_there_and_back(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "baseline.json"
        write_baseline(learn(WELL), path)
        assert read_baseline(path) == learn(WELL)
        assert os.listdir(path.parent) == ["baseline.json"]

    def test_what_is_learnt(self) -> None:
        learnt = learn(WELL)
        assert (learnt.host, learnt.driver, learnt.learnt_at) == ("gpu-3", "580.95.05", NOW)
        assert learnt.gpus[1] == GpuBaseline(
            uuid=gpu(1).identity.uuid,
            index=1,
            name="NVIDIA H100 80GB HBM3",
            pci_address="00000000:19:00.0",
            pcie_generation=5,
            pcie_width=16,
            nvlinks_active=18,
            ecc_enabled=True,
            mig_enabled=False,
        )

    def test_what_is_missing_stays_unknown(self) -> None:
        bare = learn(
            seen(node(gpu(rare={"nvlinks": ABSENT, "ecc_enabled": ABSENT}, who={"pcie_max_width": ABSENT})))
        )
        assert (bare.gpus[0].nvlinks_active, bare.gpus[0].ecc_enabled, bare.gpus[0].pcie_width) == (
            None,
            None,
            None,
        )

    def test_a_lost_gpu_is_not_learnt(self) -> None:
        assert [one.index for one in learn(LOST).gpus] == [0]

    def test_idle_memory(self) -> None:
        idle = learn(seen(node(gpu(quick={"memory_used_bytes": 3 << 20}, rare={"processes": ()}))))
        assert idle.gpus[0].idle_memory_bytes == 3 << 20
        assert learn(WELL, before=idle).gpus[0].idle_memory_bytes == 3 << 20

    def working(self, count: int, tokens: int = 100) -> tuple[Observation, ...]:
        history = polls(count, quick={"power_watts": lambda n: 400.0 + n})
        uuid = history[0].node.gpus[0].identity.uuid
        return tuple(
            replace(
                one,
                engines=(
                    EngineSnapshot(
                        name="m",
                        url="http://e",
                        engine="vllm",
                        at=one.at,
                        generation_tokens=place * tokens,
                        gpu_uuids=(uuid,),
                    ),
                ),
            )
            for place, one in enumerate(history)
        )

    def test_power_while_tokens_flow(self) -> None:
        learnt = learn(self.working(41)).gpus[0]
        assert (learnt.busy_low_watts, learnt.busy_high_watts, learnt.busy_samples) == (403.0, 438.0, 40)

    def test_no_tokens_no_band(self) -> None:
        assert learn(self.working(41, tokens=0)).gpus[0].busy_low_watts is None
        assert learn(self.working(5)).gpus[0].busy_samples == 0

    def test_an_earlier_band_is_kept(self) -> None:
        before = learn(self.working(41))
        assert learn(self.working(3), before=before).gpus[0].busy_low_watts == 403.0

    @pytest.mark.parametrize(
        ("change", "word"),
        [
            (lambda d: d.update(schema="selfhost/baseline/v9"), "selfhost/baseline/v1"),
            (lambda d: d.update(colour="red"), "colour"),
            (lambda d: d.pop("host"), "host"),
            (lambda d: d["gpus"][0].update(pcie_width="16"), "pcie_width"),
            (lambda d: d["gpus"][0].pop("uuid"), "uuid"),
        ],
    )
    def test_other_files_are_refused_by_name(self, change: Any, word: str, tmp_path: Path) -> None:
        path = tmp_path / "b.json"
        write_baseline(learn(WELL), path)
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))
        with pytest.raises(BaselineError, match=word):
            read_baseline(path)

    @pytest.mark.parametrize(
        "text", ["", "[]", "nonsense", "{", '{"a": 1, "a": 2}', '{"schema": NaN}', "[" * 100_000]
    )
    def test_no_baseline_at_all(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "b.json").write_text(text)
        with pytest.raises(BaselineError) as caught:
            read_baseline(tmp_path / "b.json")
        assert caught.value.hint

    def test_it_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError):
            write_baseline(learn(WELL), tmp_path / "file" / "b.json")


ROW = 'code = "persistence"\nuntil = 2027-01-01\nreason = "next image"\n'


class TestSuppressions:
    def rows(self, tmp_path: Path, text: str, name: str = "s.toml") -> Any:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return read_suppressions(tmp_path / name)

    def test_a_finding_is_skipped_with_its_reason(self, tmp_path: Path) -> None:
        rows = self.rows(tmp_path, f"[[suppress]]\n{ROW}")
        health = assess(WARM, Context(now=NOW), rows)
        found = next(one for one in health.checks if one.code == "persistence" and one.gpu == 0)
        assert health.verdict == "ok"
        assert (found.level, found.action) == ("skipped", "none")
        assert "until 2027-01-01 (next image)" in found.message
        assert "would be warn" in found.evidence

    def test_json(self, tmp_path: Path) -> None:
        text = json.dumps({"suppress": [{"code": "x", "until": "2027-01-01", "reason": "r", "gpu": 3}]})
        (row,) = self.rows(tmp_path, text, "s.json")
        assert (row.code, row.gpu, row.until_text) == ("x", "3", "2027-01-01")

    @pytest.mark.parametrize(
        ("gpu_text", "verdict"),
        [("0", "ok"), (f'"{gpu(0).identity.uuid}"', "ok"), ("1", "warn"), ('"GPU-other"', "warn")],
    )
    def test_by_gpu(self, gpu_text: str, verdict: str, tmp_path: Path) -> None:
        rows = self.rows(tmp_path, f"[[suppress]]\ngpu = {gpu_text}\n{ROW}")
        assert assess(WARM, Context(now=NOW), rows).verdict == verdict

    def test_what_has_ended_is_told_and_does_nothing(self, tmp_path: Path) -> None:
        rows = self.rows(tmp_path, "[[suppress]]\n" + ROW.replace("2027-01-01", "2026-01-01"))
        health = assess(WARM, Context(now=NOW), rows)
        assert health.verdict == "warn"
        assert any(one.code == "suppressions" and "2026-01-01" in one.evidence for one in health.checks)

    def test_a_day_counts_whole(self, tmp_path: Path) -> None:
        (row,) = self.rows(tmp_path, f"[[suppress]]\n{ROW}")
        (same,) = self.rows(tmp_path, "[[suppress]]\n" + ROW.replace("2027-01-01", "2027-01-02T00:00:00Z"))
        assert row.until == same.until

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("[[suppress]]\ncode = 'x'\nreason = 'r'\n", "until"),
            ("[[suppress]]\nuntil = 2027-01-01\nreason = 'r'\n", "code"),
            ("[[suppress]]\ncode = 'x'\nuntil = 2027-01-01\n", "reason"),
            ("[[suppress]]\ncode = 'x'\nuntil = 2027-01-01\nreason = ' '\n", "reason"),
            ("[[suppress]]\ncode = 'x'\nuntil = 'soon'\nreason = 'r'\n", "date"),
            ("[[suppress]]\ncode = 'x'\nuntil = 5\nreason = 'r'\n", "date"),
            (f"[[suppress]]\ngpu = true\n{ROW}", "gpu"),
            (f"[[suppress]]\nlevel = 'warn'\n{ROW}", "level"),
            ("suppress = 3\n", "list"),
            ("suppress = [3]\n", "table"),
            ("other = 3\n", "nothing else"),
            ("[[suppress", "TOML"),
        ],
    )
    def test_bad_rows_are_refused_in_one_line(self, text: str, word: str, tmp_path: Path) -> None:
        with pytest.raises(SuppressionError, match=word) as caught:
            self.rows(tmp_path, text)
        assert "\n" not in caught.value.message


class TestCommand:
    @pytest.mark.parametrize(
        ("history", "verdict", "code", "nagios"),
        [(WELL, "ok", 0, 0), (WARM, "warn", 5, 1), (LOST, "critical", 5, 2), (NOTHING, "unknown", 5, 3)],
        ids=["ok", "warn", "critical", "unknown"],
    )
    def test_json_and_codes(
        self, history: tuple[Observation, ...], verdict: str, code: int, nagios: int, cli: Cli, tmp_path: Path
    ) -> None:
        path = recorded(tmp_path, history)
        ran = cli("health", "--replay", path, "--json")
        assert (ran.code, ran.err) == (code, "")
        result = ran.json()
        jsonschema.validate(result, schema("health"))
        assert list(result) == ["schema", "verdict", "checks"]
        assert result["verdict"] == verdict
        levels = [one["level"] for one in result["checks"]]
        assert levels == sorted(levels, key=list(LEVELS).index)
        plain = cli("health", "--replay", path, "--nagios")
        assert (plain.code, plain.out.count("\n")) == (nagios, 1)
        assert plain.out.startswith({"warn": "WARNING", "ok": "OK"}.get(verdict, verdict.upper()) + ": ")
        assert " | critical=" in plain.out
        assert cli("health", "--replay", path, "--json", "--nagios").code == nagios

    def test_text(self, cli: Cli, tmp_path: Path) -> None:
        ran = cli("health", "--replay", recorded(tmp_path, LOST))
        lines = ran.out.splitlines()
        assert lines[0].startswith("CRITICAL  gpu 1 (GPU-")
        assert "→ reboot the node" in ran.out
        assert lines[-1].startswith("critical 2 · ok ")
        assert lines[-1].endswith("exit 5")
        assert max(map(len, lines)) <= 80

    def test_text_of_a_node_that_is_well(self, cli: Cli, tmp_path: Path) -> None:
        ran = cli("health", "--replay", recorded(tmp_path, WELL))
        assert ran.code == 0
        assert ran.out.startswith("OK        gpu-3: ")
        assert "exit" not in ran.out
        assert "Next: selfhost health --learn" in ran.out

    def test_verbose_lists_every_check(self, cli: Cli, tmp_path: Path) -> None:
        path = recorded(tmp_path, WARM)
        every = cli("health", "--replay", path, "--json").json()["checks"]
        out = cli("health", "--replay", path, "-v").out
        assert all(one["code"] in out for one in every)

    def test_fail_on_critical(self, cli: Cli, tmp_path: Path) -> None:
        assert cli("health", "--replay", recorded(tmp_path, WARM), "--fail-on", "critical").code == 0
        (tmp_path / "more").mkdir()
        assert cli("health", "--replay", recorded(tmp_path / "more", LOST), "--fail-on", "critical").code == 5

    def test_a_baseline_is_compared_with(self, cli: Cli, tmp_path: Path) -> None:
        path, baseline = recorded(tmp_path, WELL), tmp_path / "b.json"
        write_baseline(learn(seen(node(gpu(0), gpu(1), gpu(2)))), baseline)
        ran = cli("health", "--replay", path, "--baseline", baseline, "--json")
        assert (ran.code, ran.json()["checks"][0]["code"]) == (5, "gpu-count")
        assert cli("health", "--replay", path, "--baseline", tmp_path / "none.json").code == 1

    def test_a_kernel_log_that_was_named_has_to_be_there(self, cli: Cli, tmp_path: Path) -> None:
        ran = cli("health", "--no-engines", "--kernel-log", tmp_path / "none")
        assert (ran.code, ran.out) == (2, "")
        assert "none cannot be read." in ran.err

    def test_suppressions_are_found_where_they_are_kept(self, cli: Cli, tmp_path: Path) -> None:
        place = tmp_path / "config" / "selfhost" / "suppressions.toml"
        place.parent.mkdir(parents=True)
        place.write_text(f"[[suppress]]\n{ROW}")
        path = recorded(tmp_path, WARM)
        assert cli("health", "--replay", path).code == 0
        assert "suppressed until 2027-01-01" in cli("health", "--replay", path, "-v").out.replace(
            "\n          ", " "
        )
        place.write_text("[[suppress]]\n")
        assert cli("health", "--replay", path).code == 1

    @pytest.mark.parametrize(
        "words", [("--replay", "none.jsonl"), ("--bogus",), ("--window", "x|y"), ("--engine", "ftp://x")]
    )
    def test_errors_are_unknown_to_nagios(self, words: tuple[str, ...], cli: Cli) -> None:
        ran = cli("health", *words, "--nagios")
        assert (ran.code, ran.out.count("\n"), ran.err) == (3, 1, "")
        assert ran.out.startswith("UNKNOWN: ")
        assert ran.out.count("|") == 1
        ran = cli("health", "--nagios", "--json", *words)
        assert (ran.code, ran.out) == (3, "")
        assert json.loads(ran.err)["error"]["exit_code"] == 3

    @pytest.mark.parametrize(
        "words",
        [
            ("--no-engines", "--engine", "http://x"),
            ("--learn", "--replay", "x"),
            ("--force",),
            ("--window", "-1"),
            ("--timeout", "0"),
            ("--fail-on", "ok"),
        ],
    )
    def test_wrong_usage(self, words: tuple[str, ...], cli: Cli) -> None:
        ran = cli("health", *words)
        assert (ran.code, ran.out) == (2, "")

    def test_control_characters_of_others_do_not_reach_the_terminal(self, cli: Cli, tmp_path: Path) -> None:
        evil = seen(node(gpu(0), kernel_log=(line(31, pid=7, process="a\x1b[31m|b\n"),)))
        path = recorded(tmp_path, evil)
        assert "\x1b" not in cli("health", "--replay", path).out
        plain = cli("health", "--replay", path, "--nagios").out
        assert (plain.count("\n"), plain.count("|"), "\x1b" in plain) == (1, 1, False)

    def test_every_action_has_words(self) -> None:
        from typing import get_args

        from selfhost.health import Action

        assert set(WORDS) == set(get_args(Action))


def test_baseline_of_the_type() -> None:
    learnt = learn(WELL)
    assert isinstance(learnt, Baseline)
    assert learnt.gpu(gpu(0).identity.uuid) == learnt.gpus[0]
    assert learnt.gpu("GPU-none") is None


def test_the_same_of_several_gpus_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    from selfhost.cli._health_output import show
    from selfhost.health import Health

    lost = tuple(
        Check(code="gpu-lost", level="critical", gpu=index, message=f"gpu {index} (GPU-{index}…): fell off the bus",
              evidence=f"NVML code 15 of {index}", action="reboot_node", source="s")
        for index in (0, 1, 2, 3)
    )  # fmt: skip
    hot = tuple(
        Check(code=code, level="warn", gpu=5, message=f"gpu 5 (GPU-5…): {says}", evidence=says,
              action="inspect_hardware", source="s")
        for code, says in (("gpu-temperature", "too hot"), ("clock-slowdown", "slowed for heat"))
    )  # fmt: skip
    show(Health(verdict="critical", checks=lost + hot, host="n"), code=5, verbose=False)
    text = capsys.readouterr().out
    assert text.count("fell off the bus") == 1
    assert "gpus 0–3: fell off the bus" in text
    assert "and 2 more like these" in text
    assert text.count("inspect the hardware") == 1
    assert "too hot\n          slowed for heat" in text
    assert "critical 4 · warn 2" in text
    show(Health(verdict="critical", checks=lost + hot, host="n"), code=5, verbose=True)
    assert capsys.readouterr().out.count("fell off the bus") == 4


TROUBLE = Path(__file__).parents[1] / "examples" / "trouble.jsonl.gz"
SILENCE = '[[suppress]]\ncode = "{code}"\nuntil = 2099-01-01\nreason = "known"\n'


def test_a_suppressed_finding_is_still_told_in_a_line(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(SILENCE.format(code="gpu-lost"), encoding="utf-8")
    ran = cli("health", "--replay", TROUBLE, "--suppressions", file)
    assert "suppressed until 2099-01-01 (known)" in ran.out
    assert "no check is called" not in ran.out
    assert "CRITICAL  gpu 5" not in ran.out


def test_a_suppression_of_no_check_is_told(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(SILENCE.format(code="gpu-losst"), encoding="utf-8")
    ran = cli("health", "--replay", TROUBLE, "--suppressions", file)
    assert "no check is called gpu-losst" in ran.out
    assert "CRITICAL  gpu 5" in ran.out


def test_every_check_says_something_on_every_node() -> None:
    """So that a suppression's code can be held against what was said."""
    well = {check.code for check in assess(seen(node(gpu())), Context(now=NOW)).checks}
    nothing = {check.code for check in assess(seen(node()), Context(now=NOW)).checks}
    assert well == nothing


def test_where_nothing_could_be_checked_nothing_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    from selfhost.cli._health_output import show
    from selfhost.health import Health

    skipped = Check(code="x", level="skipped", message="no such thing", source="s")
    show(Health(verdict="unknown", checks=(skipped,), host="n"), code=5, verbose=False)
    text = capsys.readouterr().out
    assert text.startswith("UNKNOWN   nothing could be checked")
    assert "OK" not in text

"""The command line's frame: lazy commands, help without imports, errors, exit codes, completion."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from selfhost import __version__
from selfhost.cli import _errors, app, command_names, summary
from selfhost.cluster import ApiError
from selfhost.errors import ConfigError, SelfhostError, UsageError
from tests.conftest import Cli

HEAVY = {
    "rich",
    "jinja2",
    "huggingface_hub",
    "kubernetes",
    "gguf",
    "numpy",
    "httpx",
    "urllib.request",
    "yaml",
}


def modules_after(*words: str) -> set[str]:
    """Top-level modules loaded once `selfhost WORDS` has run in a fresh interpreter."""
    code = (
        "import sys\nfrom selfhost.cli import main\n"
        f"try:\n    main({list(words)!r})\nexcept SystemExit:\n    pass\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_help_lists_every_command_with_its_own_first_line(cli: Cli) -> None:
    shown = cli("--help")
    assert shown.code == 0
    for name in command_names():
        assert f"  {name} " in shown.out
        assert summary(name).split()[0] in shown.out


def test_help_loads_no_command_and_nothing_heavy() -> None:
    loaded = modules_after("--help")
    assert not loaded & HEAVY
    assert not {f"selfhost.cli.{name}" for name in command_names()} & loaded
    assert "selfhost.catalog" not in loaded


@pytest.mark.parametrize("name", command_names())
def test_every_command_explains_itself(name: str, cli: Cli) -> None:
    shown = cli(name, "--help")
    assert shown.code == 0
    assert "Usage: selfhost " + name in shown.out
    assert max(map(len, shown.out.splitlines())) <= 100
    assert summary(name).endswith(".")


@pytest.mark.parametrize("name", command_names())
def test_every_option_has_a_help_text(name: str) -> None:
    command = app.get_command(click.Context(app), name)
    assert command is not None
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_version_is_the_packages(cli: Cli) -> None:
    assert cli("--version").out == f"selfhost {__version__}\n"
    assert cli("version", "--json").json()["selfhost"] == __version__


def test_without_arguments_the_help_comes_and_the_usage_code(cli: Cli) -> None:
    shown = cli()
    assert (shown.code, shown.out) == (2, "")
    assert "Commands:" in shown.err


@pytest.mark.parametrize(
    "words",
    [
        ["frobnicate"],
        ["version", "--frobnicate"],
        ["version", "extra"],
        ["completion", "csh"],
        ["completion"],
    ],
)
def test_wrong_usage_is_one_error_and_one_hint(words: list[str], cli: Cli) -> None:
    shown = cli(*words)
    assert (shown.code, shown.out) == (2, "")
    error, hint = shown.err.splitlines()
    assert error.startswith("Error: ")
    assert hint.startswith("Hint: `selfhost")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_ask_selfhost(shell: str, cli: Cli) -> None:
    shown = cli("completion", shell)
    assert shown.code == 0
    assert f"_SELFHOST_COMPLETE={shell}_complete" in shown.out


def complete(words: str, number: int) -> list[str]:
    environment = os.environ | {
        "_SELFHOST_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(number)
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "selfhost"], env=environment, capture_output=True, text=True, check=True
    )
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("selfhost size x --kv-dtype fp8", ["fp8", "fp8_e4m3", "fp8_e5m2"]),
        ("selfhost size x --engine v", ["vllm"]),
        ("selfhost size x --engine vllm@", ["vllm@0.32.0"]),
        ("selfhost size x --quant awq", ["awq-int4"]),
        ("selfhost gpus h200", ["h200-nvl-141gb", "h200-sxm-141gb"]),
        ("selfhost render plan.json --target k", ["kserve", "kubernetes"]),
        ("selfhost render plan.json --target l", ["llm-d", "lws"]),
    ],
)
def test_values_complete(words: str, found: list[str]) -> None:
    assert complete(words, len(words.split()) - 1) == found


def test_no_command_has_two_options_of_one_name() -> None:
    def commands(above: click.Command) -> list[click.Command]:
        if not isinstance(above, click.Group):
            return [above]
        context = click.Context(above)
        below = [above.get_command(context, name) for name in above.list_commands(context)]
        return [found for child in below if child is not None for found in commands(child)]

    for command in commands(app):
        flags = [flag for option in command.params for flag in option.opts]
        assert len(flags) == len(set(flags)), command.name


def test_commands_complete() -> None:
    assert complete("selfhost vers", 1) == ["version"]


def failing(error: BaseException) -> click.Command:
    @click.command()
    @click.option("--json", "as_json", is_flag=True)
    def command(as_json: bool) -> None:
        raise error

    return command


def every_error(kind: type[SelfhostError] = SelfhostError) -> list[type[SelfhostError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in every_error(child))]


def made(kind: type[SelfhostError], message: str, hint: str | None) -> SelfhostError:
    known = {
        "field": "num_hidden_layers",
        "short_bytes": 1,
        "status": 500,
        "claims": (),
        "said": "",
        "sent": False,
    }
    asked = inspect.signature(kind).parameters.values()
    more = {one.name: known[one.name] for one in asked if one.name in known and one.default is one.empty}
    return kind(message, hint=hint, **more)


assert issubclass(ApiError, SelfhostError)  # loaded, so that its kinds are among them


@pytest.mark.parametrize("kind", every_error())
def test_every_error_leaves_with_its_documented_code(
    kind: type[SelfhostError], capsys: pytest.CaptureFixture[str]
) -> None:
    code = _errors.run(failing(made(kind, "No such thing.", "Try another.")), [])
    assert code == kind.exit_code
    assert code in _errors.EXIT_CODES
    assert capsys.readouterr() == ("", "Error: No such thing.\nHint: Try another.\n")


def test_json_errors_are_one_object_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert _errors.run(failing(made(ConfigError, "Odd value.", None)), ["--json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err) == {
        "schema": "selfhost/error/v1",
        "error": {
            "kind": "ConfigError", "message": "Odd value.", "hint": None, "field": "num_hidden_layers", "exit_code": 1
        },
    }  # fmt: skip


def test_a_hostile_name_cannot_fake_lines_or_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    _errors.run(failing(UsageError("bad\nHint: run rm\x1b[2J")), [])
    assert capsys.readouterr().err == "Error: bad\\nHint: run rm\\x1b[2J\n"


def test_a_bug_is_one_line_and_a_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert _errors.run(failing(ZeroDivisionError("oops")), []) == 3
    err = capsys.readouterr().err
    assert "Traceback" not in err
    (log,) = (tmp_path / "selfhost").glob("selfhost-bug-*.log")
    assert str(log) in err
    assert "ZeroDivisionError: oops" in log.read_text(encoding="utf-8")


def test_a_bug_without_a_writable_state_directory_still_leaves_a_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocker = tmp_path / "file"
    blocker.touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(blocker))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert _errors.run(failing(ZeroDivisionError("oops")), []) == 3
    (log,) = tmp_path.glob("selfhost-bug-*.log")
    assert str(log) in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_interruption_is_130(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    assert _errors.run(failing(error), []) == 130
    assert capsys.readouterr().err.strip() == "Interrupted."


def test_a_closed_pipe_is_quiet() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "selfhost", "--help"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error_not_a_bug() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "selfhost", "version"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "Error: The output cannot be written: No space left on device.\n"


def test_no_stdout_at_all_is_no_bug() -> None:
    command = f"{sys.executable} -m selfhost.cli gpus h200-sxm-141gb >&-"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("variable", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_can_be_refused(variable: dict[str, str]) -> None:
    import pty

    main, terminal = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", **variable}
    command = [sys.executable, "-m", "selfhost.cli", "gpus", "nope"]
    done = subprocess.run(command, stdout=terminal, stderr=terminal, env=environ, check=False)
    os.close(terminal)
    shown = os.read(main, 4096)
    os.close(main)
    assert done.returncode == 1
    assert shown.startswith(b"Error: ")


def test_ctrl_c_while_the_command_line_loads_is_one_line(tmp_path: Path) -> None:
    """A click that never finishes loading stands for a slow disk."""
    (tmp_path / "click.py").write_text(
        "print('loading', flush=True)\nimport time\ntime.sleep(30)\n", encoding="utf-8"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[1]}"}
    words = [sys.executable, "-m", "selfhost", "version"]
    with subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "Interrupted.\n")


def test_many_options_are_listed_in_groups(cli: Cli) -> None:
    text = cli("render", "--help").out
    titles = re.findall(r"^([A-Z][^\n]*):$", text, re.MULTILINE)
    assert titles[0] == "Options"
    assert "Where the weights come from" in titles
    assert len(titles) == len(set(titles))
    assert all(text.count(f"  {flag} ") == 1 for flag in ("--weights", "--autoscale", "--ray", "--image"))
    assert not re.search(r"^  PLAN$", text, re.MULTILINE)

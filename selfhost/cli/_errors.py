"""The one boundary where errors meet the user: a sentence, a way out, an exit code, and no traceback."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from itertools import pairwise

import click

from selfhost.errors import ConfigError, SelfhostError

# Exit code -> what it means; the documentation prints this table.
EXIT_CODES = {
    0: "The command did what was asked.",
    1: "Something a user can act on: one `Error:` line and, where there is one, a `Hint:` line.",
    2: "Wrong usage: an unknown command or option, a value out of range, options that contradict each other.",
    3: "A bug in selfhost: one line and the path of a log to report.",
    4: "It does not fit: the result says by how many bytes.",
    5: "Not as it should be: a check found faults, and the result names them.",
    130: "Interrupted (Ctrl-C).",
    141: "The reader of the output went away (as in `selfhost gpus | head -1`).",
}
ERROR_SCHEMA = "selfhost/error/v1"


def run(command: click.Command, arguments: Sequence[str]) -> int:
    """Run a click command and turn whatever it raises into lines on stderr and an exit code.

    Args:
        command: the group to run.
        arguments: the words after `selfhost`.

    Returns:
        The process's exit code, one of `EXIT_CODES`.
    """
    as_json = "--json" in arguments or "--output=json" in arguments or _asks_for_json(arguments)
    try:
        if instruction := os.environ.get("_SELFHOST_COMPLETE"):
            from click.shell_completion import shell_complete

            return shell_complete(command, {}, "selfhost", "_SELFHOST_COMPLETE", instruction)
        # Not command.main(): it keeps a closed pipe to itself.
        with command.make_context("selfhost", list(arguments)) as context:
            result = command.invoke(context)
        if sys.stdout is not None:  # None where it was closed before the start (`>&-`)
            sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as leaving:  # --help and --version
        return leaving.exit_code
    except SelfhostError as error:
        field = error.field if isinstance(error, ConfigError) else None
        return _tell(error.message, error.hint, error.exit_code, type(error).__name__, as_json, field=field)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "selfhost"
        return _tell(
            error.format_message(), f"`{where} --help` lists what it takes.", 2, "UsageError", as_json
        )
    except click.ClickException as error:
        return _tell(error.format_message(), None, 1, type(error).__name__, as_json)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return 130
    except BrokenPipeError:
        _abandon_stdout()
        return 141
    except Exception as error:  # the boundary: whatever is left is a bug of ours, or a full disk under stdout
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            _abandon_stdout()
            return _tell(f"The output cannot be written: {error.strerror}.", None, 1, "OutputError", as_json)
        evidence = _write_log(arguments)
        message = f"This is a bug in selfhost ({type(error).__name__})."
        return _tell(message, f"Report it with {evidence}", 3, "Bug", as_json)


def _asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether `--output json` is among the words."""
    return any(pair == ("--output", "json") for pair in pairwise(arguments))


def _tell(
    message: str, hint: str | None, code: int, kind: str, as_json: bool, *, field: str | None = None
) -> int:
    """Print one error on stderr, for people or as one JSON object, and pass its exit code on."""
    try:
        if as_json:
            import json

            error = {"kind": kind, "message": message, "hint": hint, "field": field, "exit_code": code}
            click.echo(json.dumps({"schema": ERROR_SCHEMA, "error": error}), err=True)
        else:
            click.echo(f"{_paint('Error:', 'red')} {_one_line(message)}", err=True)
            if hint:
                click.echo(f"{_paint('Hint:', 'cyan')} {_one_line(_sentence(hint))}", err=True)
    except BrokenPipeError:
        pass
    return code


def _sentence(hint: str) -> str:
    """With a capital in front, except where it begins with a command or a file's name."""
    word = hint.split(maxsplit=1)[0]
    return hint[:1].upper() + hint[1:] if word.islower() and word.isalpha() and word != "selfhost" else hint


def _paint(text: str, colour: str) -> str:
    from selfhost.cli._output import colours

    seen = colours() and sys.stderr is not None and sys.stderr.isatty()
    return click.style(text, fg=colour, bold=True) if seen else text


def _one_line(text: str) -> str:
    """Errors quote what they were given; control characters in it must not move the cursor or fake a line."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _abandon_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's own flush at exit stays quiet."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write_log(arguments: Sequence[str]) -> str:
    """Write the traceback where a user can find it.

    Returns:
        Where it is, or the traceback itself where no directory can be written.
    """
    import platform
    import tempfile
    import traceback
    from pathlib import Path

    from selfhost import __version__

    text = (
        f"selfhost {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"arguments: {list(arguments)!r}\n\n{traceback.format_exc()}"
    )
    for parent in (_state_directory, tempfile.gettempdir):
        try:
            folder = Path(parent())
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                "w", dir=folder, prefix="selfhost-bug-", suffix=".log", delete=False, encoding="utf-8"
            ) as file:
                file.write(text)
        except (OSError, RuntimeError):  # RuntimeError: this user has no home at all
            continue
        return f"the log in {file.name}"
    return f"this, as no log could be written: {text}"


def _state_directory() -> str:
    from pathlib import Path

    return os.path.join(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state", "selfhost")

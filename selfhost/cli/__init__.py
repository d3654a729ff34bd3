"""The command line: a file here is a command, its first line is its help; listing commands imports none."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from selfhost import __version__

# The way through the tool comes first in `--help`; every other command follows by name.
FIRST = (
    "size", "estimate", "plan", "cost", "advise", "report", "up", "deploy", "preflight", "status", "test", "logs",
    "upgrade", "rollback", "scale", "pause", "destroy", "down", "render", "lint", "diff", "migrate", "pull",
    "verify", "bundle", "health", "monitor",
)  # fmt: skip
_HERE = os.path.dirname(__file__)  # pathlib would cost --help a tenth of its time


def command_names() -> list[str]:
    """Names of all commands: the modules of this folder that do not start with an underscore."""
    found = {name[:-3] for name in os.listdir(_HERE) if name.endswith(".py") and not name.startswith("_")}
    return [name for name in FIRST if name in found] + sorted(found.difference(FIRST))


def summary(name: str) -> str:
    """The help line of a command, read from its file's first line without importing it."""
    with open(os.path.join(_HERE, f"{name}.py"), encoding="utf-8") as file:
        return file.readline().strip().strip('"')


class _Commands(click.Group):
    """A group that imports a command's module when, and only when, it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return command_names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in command_names():
            return None
        from importlib import import_module

        command: click.Command = import_module(f"selfhost.cli.{cmd_name}").command
        command.name = cmd_name
        command.short_help = summary(cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary(name)) for name in command_names()])


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: selfhost size Qwen/Qwen3-32B --gpu h100-sxm-80gb --tp 2",
)
@click.version_option(__version__, "-V", "--version", prog_name="selfhost", message="%(prog)s %(version)s")
def app() -> None:
    """From a model's name to a sized, explained plan and manifests the inference engine accepts."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code.

    Args:
        arguments: the words after `selfhost`; None takes the process's own.
    """
    import gc

    from selfhost.cli._errors import run

    gc.set_threshold(50_000)  # a short life of mostly imports: collecting by default costs a tenth of it
    sys.exit(run(app, sys.argv[1:] if arguments is None else list(arguments)))

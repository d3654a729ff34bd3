"""Show the versions of selfhost, Python and what they run on."""

from __future__ import annotations

import click

from selfhost.cli._options import json_option
from selfhost.cli._output import emit_json


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Show the versions of selfhost, Python and what they run on: the lines a bug report needs."""
    import platform

    from selfhost import __version__

    facts = {
        "selfhost": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    if as_json:
        emit_json("version", facts)
        return
    for name, value in facts.items():
        click.echo(f"{name:<9} {value}")

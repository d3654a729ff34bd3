"""What the commands that judge a licence share: what the model is meant for, and whose terms are accepted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., Any])

USES = ("commercial", "internal", "research")


def complete_licence(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from selfhost.catalog.licences import licence_ids

    return [CompletionItem(name) for name in licence_ids() if name.startswith(incomplete.lower())]


def licence_options(function: F) -> F:
    """Give a command `--use` as its argument `use`, and `--accept-licence` as `accept_licence`."""
    function = click.option(
        "--accept-licence",
        multiple=True,
        metavar="ID",
        help="Terms that were read and are met, by the licence's id; repeat for several.",
        shell_complete=complete_licence,
    )(function)
    return click.option(
        "--use",
        "--licence-use",
        "use",
        type=click.Choice(USES),
        default=None,
        help="What the model is for; refuses what the licence does not permit.",
    )(function)

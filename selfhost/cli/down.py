"""Stop what `selfhost up --local` started on this machine, and remove what it made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from selfhost.cli._deploying import Printer
from selfhost.errors import UsageError

if TYPE_CHECKING:
    from selfhost.local import Store


def _complete_name(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from selfhost.local.store import names

    return [CompletionItem(name) for name in names() if name.startswith(incomplete)]


@click.command()
@click.argument("name", required=False, metavar="NAME", shell_complete=_complete_name)
@click.option("--all", "every", is_flag=True, help="Every server of this machine that `selfhost up` started.")
@click.option("--with-weights", is_flag=True, help="Also remove weights that were fetched or made for it.")
@click.option("--dry-run", is_flag=True, help="Say what would be stopped and removed; change nothing.")
@click.option(
    "--output", type=click.Choice(("text", "json")), default="text",
    help="text, or json: one object a line for each thing that happens (docs/json.md).",
)  # fmt: skip
def command(name: str | None, every: bool, with_weights: bool, dry_run: bool, output: str) -> int:
    """Stop the server NAME of this machine; the only one there is if absent. Running requests may finish first.

    Processes and files of anybody else are never touched; what is stopped already is no error. Weights are kept unless
    --with-weights is given. A deployment on a cluster is removed by `selfhost destroy`.
    """
    printer = Printer(as_json=output == "json")
    stores = _meant(name, every=every)
    if not stores:
        from selfhost.deploy.types import Event

        printer(Event(type="done", message="nothing of selfhost is here to stop", facts={"names": []}))
        return 0
    for store in stores:
        _down(store, printer, with_weights=with_weights, dry_run=dry_run)
    printer.flush()
    return 0


def _meant(name: str | None, *, every: bool) -> tuple[Store, ...]:
    """Which servers.

    Raises:
        UsageError: there are several and none was named, or two ways of naming at once.
    """
    from selfhost.local.store import Store, names

    if name is not None:
        if every:
            raise UsageError("--all goes without a NAME.")
        return (Store(name),)
    found = names()
    if len(found) > 1 and not every:
        raise UsageError(
            f"There are {len(found)} servers here.", hint=f"Name one of {', '.join(found[:8])}, or add --all."
        )
    return tuple(Store(one) for one in found)


def _down(store: Store, printer: Printer, *, with_weights: bool, dry_run: bool) -> None:
    from selfhost import local
    from selfhost.deploy.types import Event

    facts: dict[str, object] = {"name": store.name}
    seen = next(iter(local.status(store.name)), None)
    if dry_run:
        words = (
            "is not here"
            if not store.folder.is_dir()
            else f"would be stopped; {store.folder} would be removed"
        )
        printer(Event(type="done", message=f"{store.name} {words}", facts=facts))
        return
    if seen is not None and seen.phase in ("starting", "ready", "unhealthy"):
        printer(Event(type="note", message=f"{store.name}: running requests may finish", facts=facts))
    there = local.down(store, with_weights=with_weights)
    kept = store.weights.is_dir()
    words = "stopped and removed" if there else "was stopped before"
    more = f"; its weights stay in {store.weights} (--with-weights removes them)" if kept else ""
    facts |= {"stopped": there, "weights_kept": str(store.weights) if kept else None}
    printer(Event(type="done", message=f"{store.name} {words}{more}", facts=facts))

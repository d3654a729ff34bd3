"""Remove a deployment with everything that is selfhost's own; weights are kept unless asked."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from selfhost.cli._day_two import name_argument
from selfhost.cli._deploying import (
    Printer,
    Reach,
    agreed,
    cluster_options,
    interruptible,
    labelled,
    namespace_option,
    timeout_option,
    where,
    yes_option,
)

if TYPE_CHECKING:
    from selfhost.cluster import Ref
    from selfhost.deploy.destroy import Found


@click.command()
@name_argument
@click.option("--with-weights", is_flag=True, help="The volumes with the weights too.")
@click.option("--dry-run", is_flag=True, help="Say what would go; change nothing.")
@timeout_option("How long pods may take to end; else their grace period and two minutes.")
@yes_option
@namespace_option
@cluster_options
def command(
    name: str,
    with_weights: bool,
    dry_run: bool,
    timeout: float | None,
    yes: bool,
    namespace: str,
    reach: Reach,
) -> int:
    """Remove NAME: requests in flight are answered first, weights are kept, another owner's objects are left alone.

    It may be interrupted: the same command goes on. Removing what is gone already is no error.
    """
    from selfhost.deploy.canary import canary_name, canary_of
    from selfhost.deploy.destroy import destroy, find
    from selfhost.deploy.types import Event

    printer = Printer(as_json=reach.as_json)
    api = reach.api()
    there = [find(api, namespace, name)]
    if canary_of(api, namespace, name):
        there.insert(0, find(api, namespace, canary_name(name)))
    printer(Event(type="preview", message=_summary(there, with_weights), facts=_facts(there, with_weights)))
    if not reach.as_json:
        _show(there, with_weights)
    nothing = all(found.nothing(with_weights=with_weights) for found in there)
    stop = nothing or dry_run or not (yes or agreed("remove?", as_json=reach.as_json))
    deleted: list[Ref] = []
    if not stop:
        again = f"selfhost destroy {name}{where(namespace)}{' --with-weights' if with_weights else ''}"
        with interruptible(printer, f"`{again}` goes on."):
            for found in there:
                deleted += destroy(
                    api, found, with_weights=with_weights, tell=printer, timeout_seconds=timeout
                )
    ended = "unchanged" if stop else "destroyed"
    words = "nothing was changed" if stop else f"{name} is gone: {_number(len(deleted), 'object')} deleted"
    facts: dict[str, object] = {"ended": ended, "deleted": len(deleted), "exit_code": 0}
    printer.flush()
    if reach.as_json:
        printer(Event(type="done", message=words, facts=facts))
    else:
        labelled("", "Nothing was changed." if stop else f"{words}.")
        kept = [ref for found in there for ref in found.kept(with_weights=with_weights)]
        if kept and not dry_run:
            labelled(
                "Next", f"selfhost destroy {name}{where(namespace)} --with-weights    removes the weights too"
            )
    return 0


def _summary(there: list[Found], with_weights: bool) -> str:
    going = sum(len(found.going(with_weights=with_weights)) for found in there)
    main = there[-1]
    if all(found.nothing(with_weights=with_weights) for found in there):
        return f"nothing of {main.name} is in namespace {main.namespace}" + (
            " but its weights" if main.objects else ""
        )
    revisions = sum(len(found.heads) for found in there)
    also = f" and {_number(revisions, 'revision')}" if revisions else ""
    return f"-{_number(going, 'object')}{also} in namespace {main.namespace}"


def _facts(there: list[Found], with_weights: bool) -> dict[str, object]:
    return {
        "deleted": [_called(ref) for found in there for ref in found.going(with_weights=with_weights)],
        "kept": [_called(ref) for found in there for ref in found.kept(with_weights=with_weights)],
        "foreign": [_called(ref) for found in there for ref in found.foreign],
        "unread": sorted({kind for found in there for kind in found.unread}),
    }


def _show(there: list[Found], with_weights: bool) -> None:
    for found in there:
        going = found.going(with_weights=with_weights)
        if going:
            labelled(found.name if len(there) > 1 else "", f"- {_counted(going)}")
        for ref in found.kept(with_weights=with_weights):
            labelled("Kept", f"{ref} with the weights")
        for ref in found.foreign:
            labelled("Kept", f"{ref}: it is another owner's by now")
        if found.unread:
            kinds = ", ".join(found.unread)
            labelled("", f"{kinds}: may not be listed, so only what the revisions name of them goes")


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _counted(refs: tuple[Ref, ...]) -> str:
    kinds = Counter(ref.kind for ref in refs)
    return ", ".join(kind if count == 1 else f"{count} {kind}" for kind, count in kinds.items())


def _called(ref: Ref) -> str:
    return f"{ref.kind}/{ref.name}"

"""`selfhost status --watch`: a line for each deployment whose state changes, by watches and without asking again."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from selfhost.cli._status_output import state_word
from selfhost.cluster import Ref, Wanted, Watcher
from selfhost.cluster.kinds import DEPLOYMENT, LEADER_WORKER_SET, POD
from selfhost.cluster.types import Object
from selfhost.cluster.values import part, text, texts
from selfhost.deploy.overview import Row, Seen, rows
from selfhost.deploy.revisions import heads
from selfhost.deploy.types import HASH_ANNOTATION, INSTANCE_LABEL, MANAGED_BY, MANAGED_LABEL, Head

if TYPE_CHECKING:
    from selfhost.cluster import Api, Change

# Ours: what changes within this time is told once.
_SETTLE_SECONDS = 0.5
_SILENT_SECONDS = 3600.0


class State:
    """What the watches have told so far, and which of its lines were printed."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[Ref, Object]] = {}
        self.heads: tuple[Head, ...] = ()
        self.stale = True
        self.printed: dict[tuple[str, str], tuple[object, ...]] = {}

    def take(self, change: Change) -> bool:
        """A change; whether it is one. A revision is read again where a plan's hash is new."""
        if change.type == "trouble":
            return False
        kept = self.objects.setdefault(change.kind.name, {})
        before = _hashes(kept)
        if change.type == "listed":
            kept.clear()
        for raw in change.items:
            item = {"apiVersion": change.kind.api_version, "kind": change.kind.name} | raw
            metadata = part(item, "metadata")
            ref = Ref(
                api_version=change.kind.api_version, kind=change.kind.name,
                namespace=text(metadata, "namespace"), name=text(metadata, "name"),
            )  # fmt: skip
            if change.type == "gone":
                kept.pop(ref, None)
            else:
                kept[ref] = item
        self.stale = self.stale or (change.kind.name != POD.name and before != _hashes(kept))
        return True

    def fresh(self) -> tuple[Row, ...]:
        """Deployments that are not as they were printed last, those that are gone included as such."""
        pods = tuple(self.objects.get(POD.name, {}).values())
        workloads = tuple(
            item for kind, kept in self.objects.items() if kind != POD.name for item in kept.values()
        )
        found = []
        for row in rows(Seen(heads=self.heads, workloads=workloads, pods=pods)):
            key = (row.namespace, row.name)
            seen = (row.revision, row.state, row.ready, row.wanted, row.trouble, row.restarts, row.paused)
            if self.printed.get(key) != seen:
                self.printed[key] = seen
                found.append(row)
        return tuple(found)


def follow(api: Api, namespace: str, name: str, *, as_json: bool) -> int:
    """Print changes until it is interrupted.

    Args:
        api: the cluster.
        namespace: of which, every one where empty.
        name: only of this deployment; all where empty.
        as_json: an object a line.
    """
    labels = f"{MANAGED_LABEL}={MANAGED_BY}" + (f",{INSTANCE_LABEL}={name}" if name else "")
    state = State()
    state.heads = heads(api, namespace, name)
    kinds = [DEPLOYMENT, POD]
    if any(head.target == "lws" for head in state.heads):
        kinds.append(LEADER_WORKER_SET)
    wanted = [Wanted(kind=kind, namespace=namespace, labels=labels) for kind in kinds]
    waiting = {kind.name for kind in kinds}
    with Watcher(api, wanted) as watcher:
        while True:
            change = watcher.next(_SILENT_SECONDS)
            until = time.monotonic() + _SETTLE_SECONDS
            while change is not None:
                if change.type == "trouble":
                    click.echo(f"{change.because} It goes on by itself.", err=True)
                elif state.take(change):
                    waiting.discard(change.kind.name)
                change = watcher.next(until - time.monotonic())
            if waiting:
                continue  # before everything was listed once, a pod would seem to be without its deployment
            if state.stale:
                state.heads, state.stale = heads(api, namespace, name), False
            for row in state.fresh():
                _print(row, as_json=as_json)


def _hashes(kept: dict[Ref, Object]) -> dict[Ref, str]:
    return {
        ref: texts(part(item, "metadata"), "annotations").get(HASH_ANNOTATION, "")
        for ref, item in kept.items()
        if ref.kind != POD.name
    }


def _print(row: Row, *, as_json: bool) -> None:
    if as_json:
        from selfhost.cli._status_json import facts_of

        click.echo(json.dumps({"schema": "selfhost/status/v1"} | facts_of((row,)), allow_nan=False))
        return
    at = time.strftime("%H:%M:%S")
    revision = "" if row.revision is None else f"  revision {row.revision}"
    restarts = f"  {row.restarts} restarts" if row.restarts else ""
    click.echo(f"{at}  {row.name:<24} {row.ready}/{row.wanted}  {state_word(row)}{revision}{restarts}")

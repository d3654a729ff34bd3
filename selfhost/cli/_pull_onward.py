"""What a pull on a workstation does besides: other versions of a model, object storage, OCI layouts, other machines."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import click

from selfhost.errors import UnsupportedError, UsageError, VerifyError

if TYPE_CHECKING:
    from selfhost.hub.references import Reference
    from selfhost.hub.remote import Hub
    from selfhost.pull.twins import Twin
    from selfhost.pull.types import Snapshot

_OCI = re.compile(r"(oci|oci-artifact):([^:]+)(?::([A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?")
_FORMS = "Write s3://BUCKET/PREFIX, oci:DIR[:TAG] or oci-artifact:DIR[:TAG]."


def check_destination(destination: str) -> None:
    """Refuse a destination of no known form before anything is pulled.

    Raises:
        UsageError: it has none.
        SelfhostError: what it needs is not installed.
    """
    if _OCI.fullmatch(destination):
        return
    scheme, separator, rest = destination.partition("://")
    if not separator or not rest or not scheme.isalnum():
        raise UsageError(f"--to {destination[:120]!r} is no destination.", hint=_FORMS)
    from selfhost.pull.objects import check_url

    check_url(destination)


def bring_on(snapshot: Snapshot, destination: str, *, limit_rate: int | None, quiet: bool) -> str | None:
    """Write a pulled model into an OCI layout or object storage.

    Returns:
        The command that brings a layout to a registry, None for object storage.
    """
    from selfhost.pull.progress import Progress

    out = None if quiet or sys.stderr is None else sys.stderr
    with Progress(snapshot.lock.total_bytes, out, verb="written") as progress:
        match = _OCI.fullmatch(destination)
        if match is not None:
            from selfhost.pull.oci import write_layout

            return write_layout(
                snapshot,
                Path(match[2]),
                tag=match[3] or snapshot.lock.revision[:12],
                artifact=match[1] == "oci-artifact",
                report=progress.got,
            ).push
        from selfhost.pull.objects import upload

        upload(snapshot, destination, bandwidth=limit_rate, report=progress.got)
        return None


def serve_all(address: str, directory: Path | None, *, allow_gated: bool) -> int:
    """Serve what was pulled before: the model in a directory, or every one in the Hub's cache."""
    import os

    from selfhost.hub.load import cache_directory
    from selfhost.pull.local import snapshot_at, snapshots_in

    if directory is not None:
        found: tuple[Snapshot, ...] = (snapshot_at(directory),)
    else:
        cache = cache_directory(os.environ)
        found = snapshots_in(cache)
        if not found:
            raise VerifyError(
                f"{cache} holds no model that `selfhost pull` brought.",
                hint="name a MODEL, and it is pulled first.",
            )
        if not allow_gated:
            found = without_gate(found)
    return serve_these(address, found, allow_gated=allow_gated)


def without_gate(snapshots: tuple[Snapshot, ...]) -> tuple[Snapshot, ...]:
    """The models without a gate, the others told; all of them where every one has a gate: that is the error."""
    gated = [snapshot for snapshot in snapshots if snapshot.lock.licence.gate in ("auto", "manual")]
    if len(gated) == len(snapshots):
        return snapshots
    for snapshot in gated:
        _tell(f"{snapshot.lock.repo} is gated and left out; --allow-gated serves it too")
    return tuple(snapshot for snapshot in snapshots if snapshot not in gated)


def serve_these(address: str, snapshots: Sequence[Snapshot], *, allow_gated: bool) -> int:
    """Serve verified models until the process is asked to end."""
    from selfhost.pull.local import assure
    from selfhost.pull.progress import Progress
    from selfhost.pull.serve import serve

    host, _, port = address.rpartition(":")
    total = sum(snapshot.lock.total_bytes for snapshot in snapshots)
    with Progress(total, sys.stderr, verb="checked") as progress:
        verified = [assure(snapshot, count=progress.had) for snapshot in snapshots]
    serve(
        verified,
        host=host.strip("[]") or "",
        port=int(port),
        stop=Event(),
        announce=click.echo,
        allow_gated=allow_gated,
    )
    return 0


def find_versions(reference: Reference, hub: Hub, quant: str) -> tuple[Twin, ...]:
    """Quantized versions of a model.

    Raises:
        UnsupportedError: the Hub knows none.
    """
    from selfhost.pull.listing import fresh, patiently
    from selfhost.pull.twins import find_twins

    twins = patiently(lambda: find_twins(fresh(hub), reference.name, quant), notice=_tell, sleep=time.sleep)
    if not twins:
        raise UnsupportedError(
            f"The Hub knows no version of {reference.name} in {quant}.",
            hint="an engine may quantize while it loads: `selfhost size` with --quant says what that needs.",
        )
    return twins


def _tell(text: str) -> None:
    click.echo(text, err=True)

"""Watches: what changes, one object a line, until the client, the time or the server ends it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from tests.fakes.kube.kinds import Kind
from tests.fakes.kube.listing import selector
from tests.fakes.kube.store import Change
from tests.fakes.kube.wire import Object, RefusalError

if TYPE_CHECKING:
    from tests.fakes.kube.handler import Handler, Server

_LONGEST_SECONDS = 3600.0


def serve(
    handler: Handler, fake: Server, kind: Kind, namespace: str, query: dict[str, str], *, partial: bool
) -> None:
    """Stream what changes.

    Raises:
        RefusalError: before the first line.
    """
    test = selector(kind, query)
    store = fake.store
    given = query.get("resourceVersion") or "0"
    if not given.isdecimal():
        raise RefusalError(
            400,
            "BadRequest",
            f'Invalid value: "{given}": strconv.ParseUint: parsing "{given}": invalid syntax',
        )
    seconds = min(float(query.get("timeoutSeconds") or _LONGEST_SECONDS), _LONGEST_SECONDS)
    ends = time.monotonic() + seconds
    bookmarks = query.get("allowWatchBookmarks") in ("true", "1", "True")
    with store.lock:
        version, epoch, oldest = int(given), store.epoch, store.oldest
        lines: list[Object] = []
        if version == 0:
            lines = [_event("ADDED", one, partial=partial) for one in store.all(kind, namespace) if test(one)]
            version = store.version
        fake.open_watches += 1
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    try:
        if version < oldest:
            _write(handler, [_expired(version, oldest)])
            return
        _write(handler, lines)
        next_mark = time.monotonic() + fake.bookmark_seconds
        while not fake.stopped:
            with store.lock:
                if store.epoch != epoch:
                    lines = [_expired(version, store.oldest)]
                else:
                    found = [
                        _told(change, test, partial=partial)
                        for change in store.since(version, kind, namespace)
                    ]
                    lines = [one for one in found if one is not None]
                    version = store.version
                    if not lines and time.monotonic() < ends:
                        left = min(ends, next_mark) - time.monotonic()
                        store.changed.wait(min(max(0.001, left), 1.0))
                over = time.monotonic() >= ends
                if bookmarks and store.epoch == epoch and (over or time.monotonic() >= next_mark):
                    next_mark = time.monotonic() + fake.bookmark_seconds
                    if not list(store.since(version, kind, namespace)):
                        lines.append(_bookmark(kind, store.version, partial=partial))
                        version = store.version
            _write(handler, lines)
            if (over and time.monotonic() >= ends) or store.epoch != epoch:
                break
    except OSError:
        handler.close_connection = True
        return
    finally:
        with store.lock:
            fake.open_watches -= 1
    try:
        handler.wfile.write(b"0\r\n\r\n")
        handler.wfile.flush()
    except OSError:
        handler.close_connection = True


def _told(change: Change, test: Any, *, partial: bool) -> Object | None:
    """What a change is to somebody who sees only what a selector takes."""
    was = change.before is not None and test(change.before)
    fits = change.after is not None and test(change.after)
    if fits:
        assert change.after is not None
        return _event("MODIFIED" if was else "ADDED", change.after, partial=partial)
    if was:
        last = change.after if change.after is not None else change.before
        assert last is not None
        return _event("DELETED", last, partial=partial)
    return None


def _event(name: str, item: Object, *, partial: bool) -> Object:
    if partial:
        item = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}
    return {"type": name, "object": item}


def _bookmark(kind: Kind, version: int, *, partial: bool) -> Object:
    name, api_version = (
        ("PartialObjectMetadata", "meta.k8s.io/v1") if partial else (kind.name, kind.api_version)
    )
    metadata = {"resourceVersion": str(version), "creationTimestamp": None}
    return {"type": "BOOKMARK", "object": {"kind": name, "apiVersion": api_version, "metadata": metadata}}


def _expired(version: int, oldest: int) -> Object:
    words = f"too old resource version: {version} ({oldest})"
    return {"type": "ERROR", "object": RefusalError(410, "Expired", words).body()}


def _write(handler: Handler, lines: list[Object]) -> None:
    for one in lines:
        raw = json.dumps(one, separators=(",", ":")).encode() + b"\n"
        handler.wfile.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
    handler.wfile.flush()

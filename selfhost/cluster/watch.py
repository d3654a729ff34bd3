"""Watches: a thread for each kind lists once and follows what changes, however often the server goes away."""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from selfhost.cluster.answers import error_of
from selfhost.cluster.api import Api, lines_of
from selfhost.cluster.paths import collection_path
from selfhost.cluster.types import ApiError, Change, ExpiredError, ForbiddenError, Kind, Object
from selfhost.cluster.values import json_object, part, text, whole
from selfhost.errors import ClusterError

# client-go asks for 5 to 10 minutes; fewer, longer requests say the same. The server ends a watch after that time.
_WATCH_SECONDS = 3000
_SILENT_SECONDS = 3060.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to watch.

    Args:
        kind: objects of it.
        namespace: in which, every one where empty.
        labels: a label selector.
        fields: a field selector.
    """

    kind: Kind
    namespace: str = ""
    labels: str = ""
    fields: str = ""


class Watcher:
    """Follows several kinds at once; `changes()` hands out what comes. A context manager."""

    def __init__(self, api: Api, wanted: Iterable[Wanted]) -> None:
        self._api = api
        self._wanted = tuple(wanted)
        self._queue: queue.SimpleQueue[Change | ClusterError] = queue.SimpleQueue()
        self._ended = threading.Event()

    def __enter__(self) -> Watcher:
        for one in self._wanted:
            threading.Thread(
                target=self._follow, args=(one,), name=f"watch-{one.kind.plural}", daemon=True
            ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()  # the threads are daemons: a stream that is silent holds nobody up

    def next(self, seconds: float) -> Change | None:
        """The next change, None when none came in that time.

        Raises:
            ClusterError: what is watched is not permitted, or does not exist.
        """
        try:
            found = self._queue.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None
        if isinstance(found, ClusterError):
            raise found
        return found

    def _follow(self, wanted: Wanted) -> None:
        pause = _FIRST_PAUSE_SECONDS
        version = ""
        while not self._ended.is_set():
            try:
                if not version:
                    version = self._list(wanted)
                version = self._stream(wanted, version)
                pause = _FIRST_PAUSE_SECONDS
            except ExpiredError:
                version = ""  # list again: what was missed shows there
            except ForbiddenError as error:
                self._queue.put(error)
                return
            except (ClusterError, OSError) as error:
                if isinstance(error, ApiError) and error.status in (400, 404, 405, 422):
                    self._queue.put(error)
                    return
                words = error.message if isinstance(error, ClusterError) else str(error)
                self._queue.put(Change(kind=wanted.kind, type="trouble", because=words))
                # spread, so that several watches do not come back at the same moment
                self._ended.wait(pause * random.uniform(0.8, 1.2))
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _list(self, wanted: Wanted) -> str:
        found = self._api.list(wanted.kind, wanted.namespace, labels=wanted.labels, fields=wanted.fields)
        self._queue.put(Change(kind=wanted.kind, type="listed", items=found.items))
        return found.resource_version

    def _stream(self, wanted: Wanted, version: str) -> str:
        """Follows one stream to its end, and says where the next goes on from."""
        query = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        query |= {"labelSelector": wanted.labels} if wanted.labels else {}
        query |= {"fieldSelector": wanted.fields} if wanted.fields else {}
        what = f"watch {wanted.kind.plural}"
        path = collection_path(wanted.kind, wanted.namespace)
        with self._api.stream(path, query, what=what, seconds=_SILENT_SECONDS) as response:
            for line in lines_of(response):
                if self._ended.is_set():
                    break
                version = self._take(wanted, what, line.encode()) or version
        return version

    def _take(self, wanted: Wanted, what: str, line: bytes) -> str:
        told: dict[str, Any] = json_object(line)
        item: Object = part(told, "object")
        match text(told, "type"):
            case "ADDED" | "MODIFIED":
                self._queue.put(Change(kind=wanted.kind, type="set", items=(item,)))
            case "DELETED":
                self._queue.put(Change(kind=wanted.kind, type="gone", items=(item,)))
            case "ERROR":
                raise error_of(whole(item, "code") or 500, item, what=what, who=self._api.connection.name)
        return text(part(item, "metadata"), "resourceVersion")

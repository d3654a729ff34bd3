"""Requests to a Kubernetes API server, each counted; what may be asked again is, while the server is away or busy.

Answers are plain JSON: the official client's model classes would drop what they do not know, and take seconds over
some thousands of objects. The connections, TLS and credentials are the official client's.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from selfhost.cluster.answers import ahead_of, error_of
from selfhost.cluster.connect import Connection
from selfhost.cluster.kinds import kind_of, ref_of
from selfhost.cluster.managed import is_old
from selfhost.cluster.paths import collection_path, path_of
from selfhost.cluster.types import AbsentError, ApiError, Applied, Kind, Listed, Object, Ref
from selfhost.cluster.values import json_object, part, parts, text
from selfhost.errors import ClusterError

# Who selfhost is where fields have owners (server-side apply).
MANAGER = "selfhost"
# As kubectl asks for lists (--chunk-size).
_PAGE = 500
_CONNECT_SECONDS = 10.0
_READ_SECONDS = 60.0  # the API server's own limit for a request that is no watch (--request-timeout)
# Ours: an API server that is restarted, or moves to another node, is back within this time.
PATIENCE_SECONDS = 90.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 5.0
_BUSY = frozenset({429, 500, 502, 503, 504})
_MERGE, _APPLY = "application/merge-patch+json", "application/apply-patch+yaml"


class Api:
    """An API server. Safe to use from several threads.

    Args:
        connection: how it is reached.
        patience_seconds: how long a request that fails for the server's sake is repeated.
        sleep: waits between two tries; a test's own, or one that an interruption ends.
        clock: Unix time in seconds, by this machine.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.connection = connection
        self._patience_seconds = patience_seconds
        self._sleep, self._clock = sleep, clock
        self.ahead_seconds = 0.0  # of the server's clock before ours, by the last answer
        self._lock = threading.Lock()
        self._asked: list[str] = []

    @property
    def requests(self) -> tuple[str, ...]:
        """Every request so far, repeated ones too, as `GET /api/v1/nodes`; queries left out."""
        with self._lock:
            return tuple(self._asked)

    def count(self, method: str, path: str) -> None:
        """Remember a request that is not sent from here: a websocket's."""
        with self._lock:
            self._asked.append(f"{method} {path}")

    # -- objects ------------------------------------------------------------------------------------------------

    def get(self, ref: Ref) -> Object | None:
        """An object, None where there is none.

        Raises:
            ClusterError: it cannot be had.
        """
        try:
            return self.ask("GET", path_of(ref), what=f"get {_called(ref)}")
        except AbsentError:
            return None

    def list(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        metadata_only: bool = False,
    ) -> Listed:
        """Objects of a kind.

        Args:
            kind: of what.
            namespace: of which; every one where empty.
            labels: a label selector.
            fields: a field selector.
            metadata_only: names, labels and annotations alone, which costs the server and the network far less.

        Raises:
            ClusterError: it cannot be had; AbsentError where the kind is not served.
        """
        query = {"limit": str(_PAGE)}
        query |= {"labelSelector": labels} if labels else {}
        query |= {"fieldSelector": fields} if fields else {}
        accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1" if metadata_only else None
        found: list[Object] = []
        token = ""
        while True:
            asked = query | ({"continue": token} if token else {})
            page = self.ask(
                "GET",
                collection_path(kind, namespace),
                query=asked,
                what=f"list {kind.plural}{f' in {namespace}' if namespace else ''}",
                accept=accept,
            )
            found += parts(page, "items")
            token = text(part(page, "metadata"), "continue")
            if not token:
                return Listed(
                    items=tuple(found), resource_version=text(part(page, "metadata"), "resourceVersion")
                )

    def apply(self, item: Object, *, dry_run: bool = False, force: bool = False) -> Applied:
        """Server-side apply under selfhost's name: the object is as it says, other owners' fields are left alone.

        Args:
            item: the object, with all that selfhost says of it.
            dry_run: only say what would become of it, admission and defaults included.
            force: take over fields that others own.

        Returns:
            The object as it is, or would be, and whether it was made.

        Raises:
            ConflictError: others own fields that it wants to be different.
            RefusedError: invalid, or refused by admission.
        """
        ref = ref_of(item)
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict", "force": str(force).lower()}
        query |= {"dryRun": "All"} if dry_run else {}
        status, found, date = self._answer(
            "PATCH", path_of(ref), query=query, body=item, kind=_APPLY, what=f"apply {_called(ref)}"
        )
        return Applied(
            object=found, created=status == 201, unchanged=status == 200 and is_old(found, MANAGER, date)
        )

    def create(self, item: Object, *, dry_run: bool = False) -> Object:
        """A new object.

        Raises:
            TakenError: there is one already.
        """
        ref = ref_of(item)
        query = {"fieldManager": MANAGER} | ({"dryRun": "All"} if dry_run else {})
        path = collection_path(kind_of(ref.api_version, ref.kind), ref.namespace)
        return self.ask("POST", path, query=query, body=item, what=f"create {_called(ref)}", again=False)

    def patch(self, ref: Ref, change: Object, *, subresource: str = "") -> Object:
        """Merge a change into an object (RFC 7386); with `metadata.resourceVersion` in it only if nobody was faster.

        Raises:
            TakenError: somebody was.
        """
        path = path_of(ref) + (f"/{subresource}" if subresource else "")
        query = {"fieldManager": MANAGER}
        return self.ask("PATCH", path, query=query, body=change, kind=_MERGE, what=f"change {_called(ref)}")

    def delete(self, ref: Ref, *, uid: str = "", version: str = "", propagation: str = "Background") -> bool:
        """Delete an object.

        Args:
            ref: which.
            uid: only if it is still this very object.
            version: only if nobody has changed it since.
            propagation: what becomes of its dependants: `Background`, `Foreground` or `Orphan`.

        Returns:
            Whether it was there.

        Raises:
            TakenError: another object of that name is there, or it was changed.
        """
        preconditions = {"uid": uid} if uid else {}
        preconditions |= {"resourceVersion": version} if version else {}
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        options |= {"preconditions": preconditions} if preconditions else {}
        try:
            self.ask("DELETE", path_of(ref), body=options, what=f"delete {_called(ref)}")
        except AbsentError:
            return False
        return True

    def log(
        self,
        ref: Ref,
        container: str,
        *,
        previous: bool = False,
        tail_lines: int | None = None,
        since_seconds: int | None = None,
    ) -> str:
        """What a container has written.

        Raises:
            ClusterError: it cannot be had; RefusedError while the container has not begun.
        """
        with self.stream(path_of(ref) + "/log", _log_query(container, previous, tail_lines, since_seconds),
                         what=f"read the log of {_called(ref)}", seconds=_READ_SECONDS) as response:  # fmt: skip
            return bytes(response.read()).decode("utf-8", errors="replace")

    def follow_log(
        self, ref: Ref, container: str, *, tail_lines: int | None = None, seconds: float
    ) -> Iterator[str]:
        """Lines of a container as they come, until it ends.

        Args:
            ref: the pod.
            container: of it.
            tail_lines: how many of what it has written before.
            seconds: how long it may be silent.

        Raises:
            ClusterError: it cannot be had, or no more.
        """
        query = _log_query(container, False, tail_lines, None) | {"follow": "true"}
        with self.stream(
            path_of(ref) + "/log", query, what=f"read the log of {_called(ref)}", seconds=seconds
        ) as found:
            yield from lines_of(found)

    # -- requests -----------------------------------------------------------------------------------------------

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        kind: str = "application/json",
        what: str,
        accept: str | None = None,
        again: bool = True,
    ) -> Object:
        """One request and its answer as JSON; repeated while the server is away, restarted or busy.

        Args:
            method: of HTTP.
            path: with everything but the query.
            query: of the address.
            body: as JSON.
            kind: of the body.
            what: what is asked, for an error: `apply Deployment llm/qwen3-32b`.
            accept: a form of the answer other than plain JSON.
            again: whether it may be repeated when nobody knows if it was carried out.

        Raises:
            ApiError: the server refuses.
            ClusterError: the server does not answer.
        """
        return self._answer(
            method, path, query=query, body=body, kind=kind, what=what, accept=accept, again=again
        )[1]

    def _answer(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        kind: str = "application/json",
        what: str,
        accept: str | None = None,
        again: bool = True,
    ) -> tuple[int, Object, str]:
        until = time.monotonic() + self._patience_seconds
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                status, headers, raw = self._once(method, path, query, body, kind, accept)
            except _NoAnswerError as error:
                if error.final or not (again or not error.sent) or time.monotonic() + pause > until:
                    raise ClusterError(error.message, hint=error.hint) from None
                wait = pause
            else:
                if status < 300:
                    return status, _object(raw, self.connection), headers.get("Date", "")
                said = json_object(raw)
                # 500 of a server that is starting or of a webhook that is away carries details.retryAfterSeconds too
                if status not in _BUSY or not (again or status in (429, 503)):
                    raise error_of(status, said, what=what, who=self.connection.name)
                wait = max(pause, _asked_to_wait(headers, said))
                if time.monotonic() + wait > until:
                    raise error_of(status, said, what=what, who=self.connection.name)
            self._sleep(wait)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _once(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Object | None,
        kind: str,
        accept: str | None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        headers = {"Content-Type": kind} if body is not None else {}
        headers |= {"Accept": accept} if accept else {}
        with self._open(method, path, query, headers, body, _READ_SECONDS) as response:
            self.ahead_seconds = ahead_of(response.headers, self._clock())
            return response.status, response.headers, bytes(response.read())

    @contextmanager
    def stream(self, path: str, query: Mapping[str, str], *, what: str, seconds: float) -> Iterator[Any]:
        """An answer that comes bit by bit: a watch or a log. Not repeated.

        Args:
            path: with everything but the query.
            query: of the address.
            what: what is asked, for an error.
            seconds: how long it may be silent.

        Raises:
            ApiError: the server refuses.
            ClusterError: the server does not answer, or no more.
        """
        try:
            with self._open("GET", path, query, {}, None, seconds) as response:
                if response.status >= 300:
                    raise error_of(
                        response.status, json_object(response.read()), what=what, who=self.connection.name
                    )
                yield response
        except _NoAnswerError as error:
            raise ClusterError(error.message, hint=error.hint) from None

    @contextmanager
    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str],
        body: Object | None,
        seconds: float,
    ) -> Iterator[Any]:
        import urllib3

        self.count(method, path)
        address = f"{self.connection.host}{path}" + (f"?{urlencode(query)}" if query else "")
        sent = True
        try:
            response = self.connection.pool.request(
                method,
                address,
                headers=self.connection.headers() | dict(headers),
                body=None if body is None else json.dumps(body).encode(),
                timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=seconds),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            try:
                yield response
            finally:
                response.close()
        except urllib3.exceptions.NewConnectionError as error:
            sent = False
            raise self._no_way(error, sent=sent) from None
        except urllib3.exceptions.HTTPError as error:
            raise self._no_way(error, sent=sent) from None

    def _no_way(self, error: Exception, *, sent: bool) -> _NoAnswerError:
        host = self.connection.host
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return _NoAnswerError(
                f"The certificate of {host} is not trusted.",
                "Check certificate-authority-data of this cluster in the kubeconfig.",
                sent=sent,
                final=True,
            )
        return _NoAnswerError(
            f"The API server {host} does not answer ({type(error).__name__}).",
            "Check the network, VPN and context: `kubectl cluster-info` answers once they are right.",
            sent=sent,
        )


class _NoAnswerError(Exception):
    """No answer, or one that broke off. `sent`: it may have been carried out; `final`: asking again is no use."""

    def __init__(self, message: str, hint: str, *, sent: bool, final: bool = False) -> None:
        super().__init__(message)
        self.message, self.hint, self.sent, self.final = message, hint, sent, final


def lines_of(response: Any) -> Iterator[str]:
    """Lines of an answer as they come; the last may lack its end."""
    rest = b""
    while piece := response.read1(1 << 16):
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line.decode("utf-8", errors="replace") for line in whole)
    if rest:
        yield rest.decode("utf-8", errors="replace")


def _called(ref: Ref) -> str:
    return f"{ref.kind} {f'{ref.namespace}/' if ref.namespace else ''}{ref.name}"


def _object(raw: bytes, connection: Connection) -> Object:
    found = json_object(raw)
    if not found:
        raise ApiError(
            f"{connection.host} does not answer as a Kubernetes API server.",
            status=200,
            hint="Check the server of this context in the kubeconfig.",
        )
    return found


def _asked_to_wait(headers: Mapping[str, str], said: Object) -> float:
    """Seconds that the server asks to wait, 0 where it does not say."""
    given = headers.get("Retry-After") or str(part(said, "details").get("retryAfterSeconds") or "")
    return float(given) if given.isdecimal() and len(given) < 6 else 0.0


def _log_query(container: str, previous: bool, tail: int | None, since: int | None) -> dict[str, str]:
    query = {"container": container}
    query |= {"previous": "true"} if previous else {}
    query |= {"tailLines": str(tail)} if tail is not None else {}
    query |= {"sinceSeconds": str(since)} if since is not None else {}
    return query

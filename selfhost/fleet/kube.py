"""A Kubernetes API server through the official client's connections: lists, and exporters behind its proxy.

The client reads the kubeconfig, renews tokens and speaks TLS. What comes back is read as plain JSON, since its model
classes take seconds over a thousand nodes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlencode

from selfhost.cluster.connect import Connection
from selfhost.cluster.connect import connect as _connect
from selfhost.cluster.values import json_object, part, text
from selfhost.errors import ClusterError
from selfhost.fleet.http import LARGEST_BODY_BYTES
from selfhost.fleet.poll import PARALLEL_ASKED
from selfhost.fleet.types import FORBIDDEN, LYING, PATH, SLOW, UNREACHABLE, Answer

# As kubectl asks for lists (--chunk-size).
_PAGE = 500
_MOST_PAGES = 200
# Ours.
_LIST_SECONDS = 30.0
# A node's object, with the images that it holds, has some tens of KiB.
_LARGEST_LIST_BYTES = 128 << 20
_CONNECT_SECONDS = 10.0


class Api:
    """The API server, through the official client's connections."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self, path: str, resource: str, **query: str) -> Iterator[dict[str, Any]]:
        """Objects of a list, page by page.

        Raises:
            ClusterError: it cannot be had.
        """
        token = ""
        for _ in range(_MOST_PAGES):
            words = urlencode({**query, "limit": _PAGE, **({"continue": token} if token else {})})
            try:
                until = time.monotonic() + _LIST_SECONDS
                with self._open(f"{path}?{words}", _LIST_SECONDS) as response:
                    body = _body(response, until, _LARGEST_LIST_BYTES)
                    self._check(response.status, body, resource, path)
            except TimeoutError:
                raise ClusterError(
                    f"The API server {self._connection.host} did not list {resource} in {_LIST_SECONDS:g} s."
                ) from None
            page = json_object(body or b"")
            items, metadata = page.get("items"), part(page, "metadata")
            if not isinstance(items, list):
                raise ClusterError(
                    f"{self._connection.host} does not answer as a Kubernetes API server.",
                    hint="Check the server of this context in the kubeconfig.",
                )
            yield from (item for item in items if isinstance(item, dict))
            token = text(metadata, "continue")
            if not token:
                return

    def ask(self, namespace: str, pod: str, port: int, seconds: float) -> Answer:
        """One exporter's summary, through the API server's proxy; raises nothing."""
        started = time.monotonic()
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(pod, safe='')}:{port}/proxy{PATH}"
        try:
            with self._open(path, seconds) as response:
                answer = _whole(response, started + seconds, namespace)
        except ClusterError as error:
            answer = Answer(fault=UNREACHABLE, detail=error.message)
        except TimeoutError:
            answer = Answer(fault=SLOW, detail=f"no whole answer within {seconds:g} s")
        return replace(answer, seconds=time.monotonic() - started)

    @contextmanager
    def _open(self, path: str, seconds: float) -> Iterator[Any]:
        """An answer whose body is still to be read.

        Raises:
            ClusterError: no connection.
            TimeoutError: connected, and no answer in time.
        """
        import urllib3

        try:
            response = self._connection.pool.request(
                "GET",
                f"{self._connection.host}{path}",
                headers=self._connection.headers(),
                timeout=urllib3.Timeout(connect=min(seconds, _CONNECT_SECONDS), read=seconds),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            try:
                yield response
            finally:
                # A body that was read to its end has given its connection back by now; any other ends it.
                response.close()
        except urllib3.exceptions.ReadTimeoutError:
            raise TimeoutError from None
        except urllib3.exceptions.HTTPError as error:
            raise self._no_way(error) from None

    def _no_way(self, error: Exception) -> ClusterError:
        host = self._connection.host
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return ClusterError(
                f"The certificate of {host} is not trusted.",
                hint="Check certificate-authority-data of this cluster in the kubeconfig.",
            )
        return ClusterError(
            f"The API server {host} cannot be reached ({type(error).__name__}).",
            hint="Check the network, VPN and context: `kubectl cluster-info` answers once they are right.",
        )

    def _check(self, status: int, body: bytes | None, resource: str, path: str) -> None:
        if status == 200:
            return
        if status == 401:
            raise ClusterError(
                f"The API server does not accept the credentials of {self._connection.name}.",
                hint="Log in again: `kubectl get nodes` works once they are right.",
            )
        said = text(json_object(body or b""), "message")[:300]
        if status == 403:
            names = path.split("/")
            where = f"in the namespace {names[4]}" if "namespaces" in names else "in the whole cluster"
            raise ClusterError(
                f"No permission to list {resource} {where}{f' ({said})' if said else ''}.",
                hint=f"Give {self._connection.name} a role with the verb list on {resource} {where}.",
            )
        raise ClusterError(
            f"The API server answered {status} for {resource}{f' ({said})' if said else ''}.",
            hint=f"`kubectl get {resource}` asks the same; --nodes reads exporters without an API server.",
        )


def connect(context: str | None, kubeconfig: str | None) -> Api:
    """The API server, with as many connections as exporters are asked at once.

    Raises:
        ClusterError: no client, no kubeconfig, or no such context.
    """
    return Api(_connect(context, kubeconfig, connections=PARALLEL_ASKED))


def _whole(response: Any, until: float, namespace: str) -> Answer:
    """Reads an answer to its end.

    Raises:
        TimeoutError: not by then.
    """
    body = _body(response, until, LARGEST_BODY_BYTES)
    if body is None:
        return Answer(fault=LYING, detail=f"the answer is larger than {LARGEST_BODY_BYTES >> 10} KiB")
    response.release_conn()
    if response.status in (401, 403):
        words = f"no permission to get pods/proxy in the namespace {namespace}"
        return Answer(fault=FORBIDDEN, detail=words)
    # The API server answers with a Status object in the place of a pod that it cannot reach.
    data = json_object(body)
    if response.status != 200 and data.get("kind") == "Status" and data.get("apiVersion") == "v1":
        said = text(data, "message")[:300] or f"the API server answered {response.status}"
        return Answer(fault=UNREACHABLE, detail=f"not reached through the API server: {said}")
    return Answer(status=response.status, body=body, dated=_date(response.headers.get("Date", "")))


def _body(response: Any, until: float, most_bytes: int) -> bytes | None:
    """A body to its end, None where it is larger than that.

    Raises:
        TimeoutError: not by then.
    """
    pieces, size = [], 0
    # A single read of what has come; before urllib3 2, `read` is that.
    read = getattr(response, "read1", response.read)
    while piece := read(1 << 16):
        pieces.append(piece)
        size += len(piece)
        if size > most_bytes:
            return None
        if time.monotonic() > until:
            raise TimeoutError
    return b"".join(pieces)


def _date(value: str) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None

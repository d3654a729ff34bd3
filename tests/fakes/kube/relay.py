"""Logs and port-forwards: what the API server fetches from the kubelet of the pod's node, passed on as it comes."""

from __future__ import annotations

import http.client
import selectors
import socket
import ssl
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from tests.fakes.kube.store import Store
from tests.fakes.kube.wire import Object, RefusalError, at

if TYPE_CHECKING:
    from tests.fakes.kube.handler import Handler


def serve(
    handler: Handler, store: Store, namespace: str, name: str, what: str, query: dict[str, str]
) -> None:
    """Pass a request on to a kubelet, and its answer back.

    Raises:
        RefusalError: there is no such pod or container, it has not begun, or its kubelet does not answer.
    """
    pods, nodes = store.named("v1", "Pod"), store.named("v1", "Node")
    assert pods is not None
    assert nodes is not None
    pod = store.get(pods, namespace, name)
    if what == "log":
        path = _log_path(pod, namespace, name, query)
    else:
        ports = query.get("ports", "")
        path = f"/portForward/{namespace}/{name}" + (f"?port={ports}" if ports else "")
    place = at(pod, "spec", "nodeName")
    if not place:
        if what == "log":
            handler.send(200, "", {}, [])
            return
        raise RefusalError(400, "BadRequest", f"pod {name} does not have a host assigned")
    host, port = _address(store.get(nodes, "", place))
    if what == "log":
        _fetch(handler, host, port, path)
    else:
        _splice(handler, host, port, path)


def _log_path(pod: Object, namespace: str, name: str, query: dict[str, str]) -> str:
    """Where the kubelet has a container's log, after pkg/registry/core/pod/strategy.go (LogLocation)."""
    spec = pod["spec"]
    containers = [str(one["name"]) for one in spec.get("containers") or ()]
    starting = [str(one["name"]) for one in spec.get("initContainers") or ()]
    container = query.get("container") or ""
    if not container:
        if len(containers) + len(starting) > 1:
            choice = f"choose one of: [{' '.join(containers)}]" if not starting else (
                f"choose one of: [{' '.join(containers)}] or one of the init containers: [{' '.join(starting)}]"
            )  # fmt: skip
            raise RefusalError(
                400, "BadRequest", f"a container name must be specified for pod {name}, {choice}"
            )
        container = containers[0]
    if container not in containers + starting:
        raise RefusalError(400, "BadRequest", f"container {container} is not valid for pod {name}")
    names = {
        "follow": "follow", "previous": "previous", "tailLines": "tailLines", "sinceSeconds": "sinceSeconds",
        "timestamps": "timestamps", "limitBytes": "limitBytes", "sinceTime": "sinceTime",
    }  # fmt: skip
    asked = {names[key]: value for key, value in query.items() if key in names}
    address = f"/containerLogs/{quote(namespace)}/{quote(name)}/{quote(container)}"
    return address + (f"?{urlencode(asked)}" if asked else "")


def _address(node: Object) -> tuple[str, int]:
    found = {one["type"]: one["address"] for one in at(node, "status", "addresses") or ()}
    host = found.get("InternalIP") or found.get("Hostname") or "127.0.0.1"
    return host, int(at(node, "status", "daemonEndpoints", "kubeletEndpoint", "Port") or 10250)


def _context() -> ssl.SSLContext:
    """The API server does not check a kubelet's certificate unless it is told to."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # no need to read this machine's certificates
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


def _away(host: str, port: int, path: str, error: OSError) -> RefusalError:
    words = "connect: connection refused" if isinstance(error, ConnectionRefusedError) else str(error)
    return RefusalError(
        500, "", f'Get "https://{host}:{port}{path}": dial tcp {host}:{port}: {words}'
    )  # fmt: skip


def _fetch(handler: Handler, host: str, port: int, path: str) -> None:
    connection = http.client.HTTPSConnection(host, port, timeout=120, context=_context())
    try:
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
        except OSError as error:
            raise _away(host, port, path, error) from None
        if reply.status >= 400:
            words = reply.read().decode("utf-8", errors="replace").strip()
            raise RefusalError(reply.status, "BadRequest" if reply.status == 400 else "", words)
        handler.send_response(200)
        handler.send_header("Content-Type", "text/plain")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while piece := reply.read1(1 << 16):
            handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            handler.wfile.flush()
        handler.wfile.write(b"0\r\n\r\n")
        handler.wfile.flush()
    finally:
        connection.close()


def _splice(handler: Handler, host: str, port: int, path: str) -> None:
    """A connection that is upgraded (websocket): bytes go both ways until one side ends."""
    try:
        plain = socket.create_connection((host, port), timeout=30)
    except OSError as error:
        raise _away(host, port, path, error) from None
    with _context().wrap_socket(plain, server_hostname=host) as there:
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}"]
        skipped = ("host", "authorization", "content-length")
        lines += [
            f"{name}: {value}" for name, value in handler.headers.items() if name.lower() not in skipped
        ]
        there.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        there.settimeout(None)
        handler.close_connection = True
        _both_ways(handler.connection, there)


def _both_ways(here: socket.socket, there: ssl.SSLSocket) -> None:
    with selectors.DefaultSelector() as ready:
        ready.register(here, selectors.EVENT_READ, there)
        ready.register(there, selectors.EVENT_READ, here)
        while True:
            for key, _ in ready.select(timeout=120):
                source, sink = key.fileobj, key.data
                assert isinstance(source, socket.socket)
                try:
                    piece = source.recv(1 << 16)
                    while isinstance(source, ssl.SSLSocket) and source.pending():
                        piece += source.recv(source.pending())
                    if not piece:
                        return
                    sink.sendall(piece)
                except OSError:
                    return

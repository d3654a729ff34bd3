"""A Kubernetes API server on loopback, as far as the fleet view asks one: pods, nodes, and the pods' proxy."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "a-token-that-is-secret"


@dataclass
class Cluster:
    """What the API server has, and how it behaves."""

    pods: list[dict[str, Any]] = field(default_factory=list)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    # pod name -> body, (status, body), or seconds of silence
    answers: dict[str, Any] = field(default_factory=dict)
    forbidden: frozenset[str] = frozenset()
    page: int = 500
    dripping: bool = False
    requests: list[str] = field(default_factory=list)
    port: int = 0

    def kubeconfig(self, path: Path, *, token: str = TOKEN, server: str | None = None) -> str:
        """Writes one with the context `test`."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "c", "cluster": {"server": server or f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
        }
        path.write_text(json.dumps(config), encoding="utf-8")
        return str(path)


def pod(
    name: str, node: str, *, namespace: str = "gpu", phase: str = "Running", ip: str = "10.0.0.1", **more: Any
) -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": namespace,
        "labels": {"app.kubernetes.io/name": "selfhost-monitor"},
    }
    return {
        "metadata": metadata | more,
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": phase, "podIP": ip},
    }


def node(
    name: str, *, gpus: int = 8, ready: str = "True", resource: str = "nvidia.com/gpu", **labels: str
) -> dict[str, Any]:
    condition = {
        "type": "Ready",
        "status": ready,
        "reason": "KubeletNotReady",
        "message": "kubelet stopped posting",
    }
    return {
        "metadata": {"name": name, "labels": labels},
        "status": {
            "capacity": {"cpu": "96", resource: str(gpus)},
            "conditions": [{"type": "DiskPressure", "status": "False"}, condition],
        },
    }


def status(code: int, message: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}


@contextmanager
def api_server(cluster: Cluster) -> Iterator[Cluster]:
    """Serves until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            cluster.requests.append(self.path)
            target = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(target.query).items()}
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._send(401, status(401, "Unauthorized"))
            elif "/proxy/" in target.path:
                self._proxy(target.path)
            elif target.path.endswith("/pods"):
                namespace = target.path.split("/")[4] if "/namespaces/" in target.path else None
                self._list(
                    "pods",
                    [one for one in cluster.pods if namespace in (None, one["metadata"]["namespace"])],
                    query,
                )
            elif target.path == "/api/v1/nodes":
                self._list("nodes", cluster.nodes, query)
            else:
                self._send(404, status(404, "the server could not find the requested resource"))

        def _list(self, resource: str, items: list[dict[str, Any]], query: dict[str, str]) -> None:
            if resource in cluster.forbidden:
                words = (
                    f'{resource} is forbidden: User "jane" cannot list resource "{resource}" in API group ""'
                )
                self._send(403, status(403, words))
                return
            if "labelSelector" in query:
                name, _, value = query["labelSelector"].partition("=")
                items = [one for one in items if one["metadata"]["labels"].get(name) == value]
            start, size = int(query.get("continue", "0")), min(int(query["limit"]), cluster.page)
            more = {"continue": str(start + size)} if start + size < len(items) else {}
            page = {"kind": "List", "metadata": more, "items": items[start : start + size]}
            if cluster.dripping:
                self._drip(json.dumps(page).encode() + b" " * 500)
            else:
                self._send(200, page)

        def _proxy(self, path: str) -> None:
            _, _, _, _, namespace, _, named, _, *rest = path.split("/")
            name, _, port = named.partition(":")
            if "proxy" in cluster.forbidden:
                words = f'pods "{name}" is forbidden: User "jane" cannot get "pods/proxy" in "{namespace}"'
                self._send(403, status(403, words))
                return
            assert (port, "/".join(rest)) == ("9835", "api/v1/summary")
            answer = cluster.answers.get(
                name, (503, status(503, "error trying to reach service: connection refused"))
            )
            if isinstance(answer, float):
                time.sleep(answer)
                answer = (504, "late")
            if isinstance(answer, tuple):
                self._send(*answer)
            elif isinstance(answer, bytes):
                self._drip(answer)
            else:
                self._send(200, answer)

        def _drip(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            for at in range(len(body)):
                try:
                    self.wfile.write(body[at : at + 1])
                except OSError:
                    return
                time.sleep(0.02)

        def _send(self, code: int, body: Any) -> None:
            text = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            try:
                self.wfile.write(text)
            except OSError:
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    cluster.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield cluster
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

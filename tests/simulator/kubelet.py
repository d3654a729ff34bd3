"""The kubelets' HTTPS endpoint: logs of containers and forwarded ports, as an API server asks for them.

After Kubernetes 1.36.2 pkg/kubelet/server/server.go (paths), kubelet_pods.go validateContainerLogStatus (refusals) and
k8s.io/cri-streaming portforward/websocket.go: binary messages, channels 2n for data and 2n+1 for errors, each begun
with its port in two bytes, little end first.
"""

from __future__ import annotations

import shutil
import socket
import struct
import tempfile
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from tests.fakes.tls import make_authority
from tests.simulator.status import Held
from tests.simulator.websocket import Websocket, is_websocket

if TYPE_CHECKING:
    from tests.simulator.pods import PodLife
    from tests.simulator.simulator import Simulator

PROTOCOLS = ("v4.channel.k8s.io", "portforward.k8s.io")
Query = dict[str, str]


class Kubelets:
    """One server for the kubelets of all nodes: a pod's name says on which it is."""

    def __init__(self, sim: Simulator) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="kubelet-"))
        authority = make_authority(self._folder)
        handler = type("Handler", (_Handler,), {"sim": sim})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler, bind_and_activate=False)
        self._server.daemon_threads = True
        self._server.request_queue_size = 128
        self._server.socket = authority.server.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._server.server_bind()
        self._server.server_activate()
        self.port = int(self._server.server_port)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True, name="kubelets"
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    sim: Simulator
    timeout = 60

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass

    def handle(self) -> None:
        with suppress(OSError, ValueError):
            super().handle()

    def do_GET(self) -> None:
        self._route()

    def do_POST(self) -> None:
        self._route()

    def _route(self) -> None:
        target = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(target.query).items()}
        match target.path.strip("/").split("/"):
            case ["containerLogs", namespace, pod, container]:
                life = self._life(namespace, pod)
                if life is not None:
                    self._logs(life, container, query)
            case ["portForward", namespace, pod, *_]:
                life = self._life(namespace, pod)
                if life is not None:
                    ports = parse_qs(target.query).get("port") or parse_qs(target.query).get("ports") or []
                    self._forward(life, [int(one) for text in ports for one in text.split(",")])
            case ["healthz"]:
                self._text(200, "ok")
            case _:
                self._text(404, "404 page not found")

    def _life(self, namespace: str, pod: str) -> PodLife | None:
        life = self.sim.pods.get((namespace, pod))
        if life is None:
            self._text(404, f'pod "{pod}" does not exist')
        elif not self.sim.nodes[life.node].up:
            self.close_connection = True  # its kubelet does not answer
            return None
        return life

    def _logs(self, life: PodLife, container: str, query: Query) -> None:
        held = life.held(container)
        if held is None:
            self._text(404, f'container "{container}" not found in pod "{life.name}"')
            return
        previous = query.get("previous") in ("true", "1")
        refusal = _refusal(held, container, life.name, previous=previous)
        if refusal:
            self._text(400, refusal)
            return
        log = held.previous if previous and (held.running or held.terminated) else held.log
        if log is None:
            self._text(400, f'container "{container}" in pod "{life.name}" is waiting to start - no logs yet')
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        shown, limit = _chosen(log.lines, query), int(query.get("limitBytes", 1 << 40))
        place, stamped = len(log.lines), query.get("timestamps") in ("true", "1")
        self._chunk(_text_of(shown, stamped)[:limit])
        while query.get("follow") in ("true", "1"):
            with log.changed:
                if len(log.lines) == place:
                    if log.ended or life.over or self.sim.closed:
                        break
                    log.changed.wait(0.5)
                new = log.lines[place:]
                place += len(new)
            self._chunk(_text_of(new, stamped))
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, data: bytes) -> None:
        if data:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()

    def _forward(self, life: PodLife, ports: list[int]) -> None:
        self.close_connection = True
        if not is_websocket(self):
            self._text(400, "this kubelet forwards ports over websockets alone")
            return
        self.connection.settimeout(None)
        web = Websocket(self, PROTOCOLS)
        engines: dict[int, socket.socket] = {}
        threads = []
        for index, port in enumerate(ports):
            for channel in (2 * index, 2 * index + 1):
                web.send(bytes((channel,)) + struct.pack("<H", port))
            found = _engine(life, port)
            if found is None:
                said = _unheard(life, port)
                web.send(bytes((2 * index + 1,)) + said.encode())
                continue
            engines[2 * index] = found
            thread = threading.Thread(target=_pump, args=(web, 2 * index, found), daemon=True)
            thread.start()
            threads.append(thread)
        while engines and (message := web.receive()) is not None:
            engine = engines.get(message[0]) if message else None
            if engine is not None and len(message) > 1:
                with suppress(OSError):
                    engine.sendall(message[1:])
        for engine in engines.values():
            with suppress(OSError):
                engine.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(timeout=5)
        web.close()

    def _text(self, status: int, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _unheard(life: PodLife, port: int) -> str:
    """What containerd 2.1 says where nothing listens (internal/cri/server/sandbox_portforward_linux.go)."""
    where = f'"/var/run/netns/cni-{life.uid}"'
    said = f"error forwarding port {port} to pod {life.name}, uid {life.uid}: failed to execute portforward in network "
    said += (
        f"namespace {where}: failed to connect to localhost:{port} inside namespace {where}, IPv4: dial tcp4 "
    )
    said += f"127.0.0.1:{port}: connect: connection refused IPv6 dial tcp6 [::1]:{port}: connect: connection refused "
    return said


def _engine(life: PodLife, port: int) -> socket.socket | None:
    """A connection to whatever listens on a port of a pod."""
    for held in life.known.containers:
        box = held.box
        if box is None or not held.running or not box.listening or box.engine is None:
            continue
        if port in {int(one["containerPort"]) for one in held.spec.get("ports") or ()}:
            made: socket.socket = box.engine.connect()
            return made
    return None


def _pump(web: Websocket, channel: int, engine: socket.socket) -> None:
    with suppress(OSError, ValueError), engine:
        while data := engine.recv(1 << 15):
            web.send(bytes((channel,)) + data)
    # The engine hung up: the kubelet ends the stream, and with its last stream the connection.
    web.close()


def _refusal(held: Held, container: str, pod: str, *, previous: bool) -> str:
    """Why a log cannot be had, or nothing."""
    where = f'container "{container}" in pod "{pod}"'
    if previous:
        return "" if held.last is not None else f"previous terminated {where} not found"
    if held.running or held.terminated is not None or held.last is not None:
        return ""
    reason = held.waiting[0] if held.waiting else ""
    words = {
        "ErrImagePull": "image can't be pulled",
        "ImagePullBackOff": "trying and failing to pull image",
    }
    return f"{where} is waiting to start: {words.get(reason, reason)}"


def _chosen(lines: list[tuple[datetime, str]], query: Query) -> list[tuple[datetime, str]]:
    found = list(lines)
    if "sinceSeconds" in query:
        since = datetime.now(UTC) - timedelta(seconds=int(query["sinceSeconds"]))
        found = [one for one in found if one[0] >= since]
    if "sinceTime" in query:
        since = datetime.fromisoformat(query["sinceTime"])
        found = [one for one in found if one[0] >= since]
    if "tailLines" in query:
        count = int(query["tailLines"])
        found = found[-count:] if count else []
    return found


def _text_of(lines: list[tuple[datetime, str]], stamped: bool) -> bytes:
    return "".join(
        f"{when.strftime('%Y-%m-%dT%H:%M:%S.%f')}000Z {line}\n" if stamped else f"{line}\n"
        for when, line in lines
    ).encode()

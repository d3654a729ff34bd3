"""The real LiteLLM, started as the rendered pod starts it, with two endpoints on loopback: the own model, a closed one.

Names of the rendering (a Service of the cluster, the provider's host) lead to loopback through a forward proxy, which
the process is told of as any is told of one, by its environment; nothing of the configuration is changed.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.e2e.conftest import free_port

START_SECONDS = 120
KEY = "sk-of-the-test"


def litellm_python() -> str | None:
    """The interpreter of the environment that holds LiteLLM, None where there is none."""
    path = os.environ.get("SELFHOST_LITELLM_PYTHON")
    return path if path and Path(path).exists() else None


@dataclass(slots=True)
class Endpoint:
    """A server that speaks OpenAI's protocol, says who it is, and keeps what it was sent."""

    name: str
    port: int
    tls: ssl.SSLContext | None = None
    seen: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    refusal: tuple[int, str] | None = None
    server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                if endpoint.server is None:  # a connection that was kept open
                    self.close_connection = True
                    return
                endpoint.seen.append(body)
                endpoint.keys.append(self.headers.get("Authorization", ""))
                status, answer = 200, _answer(endpoint.name, json.loads(body))
                if endpoint.refusal is not None:
                    status = endpoint.refusal[0]
                    answer = {
                        "error": {"message": endpoint.refusal[1], "type": "BadRequestError", "code": status}
                    }
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        if self.tls is not None:
            self.server.socket = self.tls.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None


def _answer(name: str, body: dict[str, Any]) -> dict[str, Any]:
    usage = {"prompt_tokens": 1000, "completion_tokens": 1000, "total_tokens": 2000}
    common = {"id": "x", "created": 0, "model": body["model"], "usage": usage}
    if "messages" in body:
        message = {"role": "assistant", "content": f"from {name}"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return common | {"object": "chat.completion", "choices": [choice]}
    if "input" in body:
        data = [{"object": "embedding", "index": 0, "embedding": [1.0 if name == "own" else 2.0]}]
        return common | {"object": "list", "data": data}
    choice = {"index": 0, "text": f"from {name}", "finish_reason": "stop", "logprobs": None}
    return common | {"object": "text_completion", "choices": [choice]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status and JSON of an answer."""

    status: int
    body: Any

    @property
    def said(self) -> str:
        return str(self.body["choices"][0]["message"]["content"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """LiteLLM on loopback."""

    port: int
    log: Path
    own: Endpoint
    closed: Endpoint

    def ask(
        self, path: str, body: Any = None, *, key: str | None = KEY, headers: dict[str, str] | None = None
    ) -> Answer:
        head = {"Content-Type": "application/json", **(headers or {})}
        if key is not None:
            head["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data, headers=head)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as got:
                return Answer(status=got.status, body=json.load(got))
        except urllib.error.HTTPError as error:
            text = error.read().decode()
            try:
                return Answer(status=error.code, body=json.loads(text))
            except ValueError:
                return Answer(status=error.code, body=text)

    def chat(
        self, model: str, text: str = "Hello", *, headers: dict[str, str] | None = None, **more: Any
    ) -> Answer:
        body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
        return self.ask("/v1/chat/completions", body, headers=headers)


@dataclass(slots=True)
class Forward:
    """A forward proxy that knows two names, and closes the connection where nobody listens behind one."""

    ports: dict[str, int]
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def start(self) -> None:
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            head = b""
            while b"\r\n\r\n" not in head:
                more = client.recv(65536)
                if not more:
                    return
                head += more
            method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            name = target if method == "CONNECT" else urlsplit(target).netloc
            try:
                behind = socket.create_connection(("127.0.0.1", self.ports[name]))
            except (KeyError, OSError):
                return
            with behind:
                if method == "CONNECT":
                    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                else:
                    behind.sendall(head)
                back = threading.Thread(target=_relay, args=(behind, client), daemon=True)
                back.start()
                _relay(client, behind)
                back.join()


def _relay(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """A certificate for a host that vouches for itself, and its key."""
    key, made = folder / "key.pem", folder / "cert.pem"
    words = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "1",
    ]
    words += [
        "-subj",
        f"/CN={host}",
        "-addext",
        f"subjectAltName=DNS:{host}",
        "-keyout",
        str(key),
        "-out",
        str(made),
    ]
    subprocess.run(words, check=True, capture_output=True)
    return made, key


@contextmanager
def proxy(
    python: str,
    folder: Path,
    files: dict[str, str],
    args: list[str],
    env: dict[str, str],
    *,
    own: str,
    closed: str,
) -> Iterator[Proxy]:
    """Start LiteLLM with rendered files, words and variables; `own` and `closed` are HOST:PORT of the rendering."""
    where = folder / "etc"
    where.mkdir()
    for name, text in files.items():
        (where / name).write_text(text, encoding="utf-8")
    made, key = certificate(folder, closed.partition(":")[0])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(made, key)
    ends = (Endpoint(name="own", port=free_port()), Endpoint(name="closed", port=free_port(), tls=tls))
    forward = Forward(ports={own: ends[0].port, closed: ends[1].port})
    running = Proxy(port=free_port(), log=folder / "log", own=ends[0], closed=ends[1])
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    environment = kept | env | {
        "HOME": str(folder), "SSL_CERT_FILE": str(made), "HTTP_PROXY": forward.url, "HTTPS_PROXY": forward.url,
        "NO_PROXY": "", "AIOHTTP_TRUST_ENV": "True",
    }  # fmt: skip
    words = [word.replace("/etc/litellm", str(where)) for word in args]
    words = [word for word in words if not word.startswith(("--port", "--host"))]
    command = [python, "-m", "litellm.proxy.proxy_cli", *words, f"--port={running.port}", "--host=127.0.0.1"]
    if Path(python).with_name("litellm").exists():
        command[:3] = [str(Path(python).with_name("litellm"))]
    with running.log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, cwd=folder
        )
    try:
        forward.start()
        for end in ends:
            end.start()
        _wait(running, process)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        forward.listener.close()
        for end in ends:
            end.stop()


def _wait(running: Proxy, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, running.log.read_text(encoding="utf-8")[-6000:]
        try:
            if running.ask("/health/readiness", key=None).status == 200:
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        time.sleep(0.3)
    raise AssertionError(
        f"no answer in {START_SECONDS} s:\n" + running.log.read_text(encoding="utf-8")[-6000:]
    )

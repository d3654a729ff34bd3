"""An engine on loopback that answers completions as vLLM, SGLang, TGI, llama.cpp or Ollama do, or wrongly."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.fakes.engine import Script

WORDS = ("one", " two", " three", " four", " five", " six", " seven", " eight", " nine", " ten")


@dataclass(slots=True, kw_only=True)
class Serving:
    """What it serves, and how. Change it while it runs.

    Args:
        model: name of /v1/models.
        key: that clients have to send, None for none.
        open_paths: answered without the key.
        health_path: that answers 200.
        chat: it has a chat template.
        words: pieces of the answer.
        pause_seconds: between two pieces of a stream.
        usage: whether the stream ends with a count.
        at_once: the whole stream in one event.
        call: how a request with tools is answered: `call`, `raw`, `words` or `broken`.
        closing: each answer ends the connection.
        statuses: of paths that answer otherwise, with a message.
        page: of metrics, None for none.
        capabilities: of /api/show.
    """

    model: str = "Qwen/Qwen3-32B"
    key: str | None = None
    open_paths: frozenset[str] = frozenset({"/health", "/metrics", "/ready", "/api/version", "/health/ready"})
    health_path: str = "/health"
    chat: bool = True
    words: tuple[str, ...] = WORDS
    pause_seconds: float = 0.0
    usage: bool = True
    at_once: bool = False
    call: str = "call"
    closing: bool = False
    statuses: dict[str, tuple[int, str]] = field(default_factory=dict)
    page: str | None = field(default_factory=lambda: Script().text())
    capabilities: tuple[str, ...] = ()
    url: str = ""
    port: int = 0
    requests: list[str] = field(default_factory=list)
    connections: int = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # as engines' servers have it: a token is not held back
    serving: Serving

    def setup(self) -> None:
        super().setup()
        self.serving.connections += 1

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass

    def do_GET(self) -> None:
        self._take(None)

    def do_POST(self) -> None:
        self._take(json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0")))))

    def _take(self, body: dict[str, Any] | None) -> None:
        serving, path = self.serving, self.path
        serving.requests.append(f"{self.command} {path}")
        if path in serving.statuses:
            status, message = serving.statuses[path]
            self._json({"error": {"message": message}}, status)
        elif self._locked(path):
            self._json({"error": "Unauthorized"}, 401)
        elif path == serving.health_path:
            self._json({})
        elif path == "/v1/models":
            self._json({"object": "list", "data": [{"id": serving.model, "object": "model"}]})
        elif path == "/metrics" and serving.page is not None:
            self._send(200, serving.page.encode(), "text/plain")
        elif path == "/api/show":
            self._json({"capabilities": list(serving.capabilities)})
        elif body is not None and path in ("/v1/chat/completions", "/v1/completions"):
            self._complete(path, body)
        elif body is not None and path == "/v1/embeddings":
            self._json({"data": [{"embedding": [0.5, -0.5, 0.25]} for _ in body["input"]]})
        elif body is not None and path == "/v1/rerank":
            rows = [{"index": index, "relevance_score": 0.5} for index, _ in enumerate(body["documents"])]
            self._json({"results": rows})
        else:
            self._json({"detail": "Not Found"}, 404)

    def _locked(self, path: str) -> bool:
        key = self.serving.key
        return (
            key is not None
            and path not in self.serving.open_paths
            and self.headers.get("Authorization") != f"Bearer {key}"
        )

    def _complete(self, path: str, body: dict[str, Any]) -> None:
        chat = path == "/v1/chat/completions"
        if chat and not self.serving.chat:
            said = "default chat template is no longer allowed, so you must provide a chat template"
            self._json({"error": {"message": said}}, 400)
        elif body.get("stream"):
            self._stream(chat)
        else:
            words = "".join(self.serving.words)[:20]
            message: dict[str, Any] = {"role": "assistant", "content": words}
            if "tools" in body:
                message = self._called()
            choice = {"message": message} if chat else {"text": words}
            usage = {"completion_tokens": min(body["max_tokens"], len(self.serving.words))}
            choices = [choice | {"index": 0, "finish_reason": "stop"}]
            self._json({"model": self.serving.model, "choices": choices, "usage": usage})

    def _called(self) -> dict[str, Any]:
        how = self.serving.call
        if how in ("call", "broken"):
            given = '{"city": "Paris"}' if how == "call" else '{"city": '
            call = {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": given}}
            return {"role": "assistant", "content": None, "tool_calls": [call]}
        words = '<tool_call>\n{"name": "get_weather"}' if how == "raw" else "It is sunny."
        return {"role": "assistant", "content": words}

    def _stream(self, chat: bool) -> None:
        serving = self.serving
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        words = ("".join(serving.words),) if serving.at_once else serving.words
        for word in words:
            choice = {"delta": {"content": word}} if chat else {"text": word}
            self._event({"choices": [choice | {"index": 0, "finish_reason": None}]})
            time.sleep(serving.pause_seconds)
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if serving.usage:
            self._event({"choices": [], "usage": {"completion_tokens": len(serving.words)}})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _event(self, data: dict[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps(data).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _json(self, data: dict[str, Any], status: int = 200) -> None:
        self._send(status, json.dumps(data).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.serving.closing:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)


def handler_of(serving: Serving) -> type[BaseHTTPRequestHandler]:
    """What answers requests so."""
    return type("Handler", (_Handler,), {"serving": serving})


@contextmanager
def serve(serving: Serving | None = None) -> Iterator[Serving]:
    """Start it on a free port; stop it afterwards."""
    found = serving or Serving()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(found))
    server.daemon_threads = True
    found.port = server.server_port
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

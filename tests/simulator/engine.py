"""The engine of a simulated pod: vLLM's HTTP server as far as clients of a deployment ask it, over any socket.

It checks the API key, answers completions, chats with tools, embeddings and streams, and tells the metrics that a
comparison with the plan reads. `connect` gives a socket to it, `listening` an address on loopback.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from tests.fakes.engine import Script
from tests.simulator.box import Box
from tests.simulator.vllm_log import Start

Object = dict[str, Any]
WORDS = ["The", "capital", "of", "France", "is", "Paris", ",", "which", "lies", "on", "the", "Seine", "."]


@dataclass(slots=True, kw_only=True)
class Served:
    """What it serves and how. Change it while it runs.

    Args:
        model: the name that clients send.
        key: what they have to show, empty for none.
        embeds: whether it is an embedding model, which completes nothing.
        tools: whether it calls tools.
        script: numbers of the metrics page, and paths that hang or fail (tests.fakes.engine).
        first_seconds, token_seconds: until the first token, and between tokens.
        tokens: of an answer, where the request asks for more.
        broken: path -> (status, body) that is answered instead.
        keyless: it lets anybody in although it has a key.
        dimensions: of an embedding.
        requests: what came: (method, path, Authorization).
    """

    model: str
    key: str = ""
    embeds: bool = False
    tools: bool = True
    max_model_len: int = 16384
    script: Script = field(default_factory=Script)
    first_seconds: float = 0.02
    token_seconds: float = 0.002
    tokens: int = 12
    broken: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    keyless: bool = False
    dimensions: int = 8
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)

    @classmethod
    def of(cls, box: Box, start: Start) -> Served:
        """As the arguments and the environment of a container have it."""
        block = 16
        made = cls(
            model=box.option("--served-model-name", start.model),
            key=box.env.get("VLLM_API_KEY", "") or box.option("--api-key"),
            embeds="embed" in (box.option("--task"), box.option("--runner")) or "pooling" in box.words
            or box.option("--runner") == "pooling",
            tools=bool(box.option("--tool-call-parser")) or "--enable-auto-tool-choice" in box.words,
            max_model_len=start.max_model_len,
        )  # fmt: skip
        values = {
            "model": made.model,
            "block_size": block,
            "blocks": start.kv_tokens // block,
            "cache_tokens": start.kv_tokens,
        }
        made.script.values |= values
        return made

    def connect(self) -> socket.socket:
        """A connection to it, without a port."""
        ours, theirs = socket.socketpair()
        threading.Thread(target=_attend, args=(self, theirs), daemon=True, name="engine").start()
        return ours


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "uvicorn", ""
    served: Served

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass

    def do_GET(self) -> None:
        served = self._begin("GET")
        path = self.path.partition("?")[0]
        if self._special(path):
            return
        if path == "/health":
            self._send(served.script.health, b"")
        elif path == "/metrics":
            self._send(served.script.metrics, served.script.text().encode(), "text/plain; version=0.0.4")
        elif path == "/version":
            self._json(200, {"version": "0.32.0"})
        elif path == "/v1/models":
            self._json(200, {"object": "list", "data": [self._card()]})
        else:
            self._json(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        served = self._begin("POST")
        text = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        path = self.path.partition("?")[0]
        if self._special(path):
            return
        try:
            asked = json.loads(text)
        except ValueError:
            self._error(400, "Invalid JSON in the request body", "BadRequestError")
            return
        if asked.get("model") not in (None, served.model):
            self._error(404, f"The model `{asked.get('model')}` does not exist.", "NotFoundError")
        elif path == "/v1/embeddings" and served.embeds:
            self._embed(asked)
        elif path in ("/v1/completions", "/v1/chat/completions") and not served.embeds:
            self._complete(asked, chat=path.endswith("chat/completions"))
        else:
            self._json(404, {"detail": "Not Found"})

    def _begin(self, method: str) -> Served:
        self.served.requests.append((method, self.path, self.headers.get("Authorization")))
        return self.served

    def _special(self, path: str) -> bool:
        """What is answered before anything is looked at."""
        served = self.served
        if path in served.script.hang:
            time.sleep(30)
            self.close_connection = True
            return True
        if path in served.broken:
            status, body = served.broken[path]
            self._send(status, body)
            return True
        guarded = path.startswith("/v1") and served.key and not served.keyless
        if guarded and self.headers.get("Authorization") != f"Bearer {served.key}":
            # vllm 0.32 entrypoints/openai/server_utils.py AuthenticationMiddleware
            self._json(401, {"error": "Unauthorized"})
            return True
        return False

    def _card(self) -> Object:
        return {
            "id": self.served.model, "object": "model", "created": 1764190000, "owned_by": "vllm",
            "root": self.served.model, "parent": None, "max_model_len": self.served.max_model_len,
        }  # fmt: skip

    def _embed(self, asked: Object) -> None:
        given = asked.get("input")
        inputs = given if isinstance(given, list) else [given]
        vector = [round(0.1 * (index + 1), 3) for index in range(self.served.dimensions)]
        data = [
            {"index": index, "object": "embedding", "embedding": vector} for index, _ in enumerate(inputs)
        ]
        usage = {"prompt_tokens": 4 * len(inputs), "total_tokens": 4 * len(inputs)}
        self._json(200, {"object": "list", "model": self.served.model, "data": data, "usage": usage})

    def _complete(self, asked: Object, *, chat: bool) -> None:
        served = self.served
        limit = asked.get("max_completion_tokens") or asked.get("max_tokens") or 16
        count = min(int(limit), max(served.tokens, int(asked.get("min_tokens") or 0)))
        if asked.get("ignore_eos"):
            count = int(limit)
        words = [WORDS[index % len(WORDS)] + " " for index in range(count)]
        called = chat and asked.get("tools") and asked.get("tool_choice") != "none"
        if called and asked.get("tool_choice", "auto") == "auto" and not served.tools:
            text = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
            self._error(400, text, "BadRequestError")
            return
        usage = {"prompt_tokens": 8, "completion_tokens": count, "total_tokens": 8 + count}
        ended = "tool_calls" if called else "length" if count >= int(limit) else "stop"
        if asked.get("stream"):
            self._stream(asked, words, usage, ended, chat=chat)
            return
        time.sleep(served.first_seconds + served.token_seconds * count)
        self._count(count)
        choice: Object = {"index": 0, "finish_reason": ended, "logprobs": None}
        if called:
            choice["message"] = {"role": "assistant", "content": None, "tool_calls": [_call(asked)]}
        elif chat:
            choice["message"] = {"role": "assistant", "content": "".join(words).strip(), "tool_calls": []}
        else:
            choice["text"] = "".join(words)
        kind = "chat.completion" if chat else "text_completion"
        self._json(200, self._answer(kind) | {"choices": [choice], "usage": usage})

    def _answer(self, kind: str) -> Object:
        return {"id": "cmpl-1", "object": kind, "created": 1764190000, "model": self.served.model}

    def _stream(self, asked: Object, words: list[str], usage: Object, ended: str, *, chat: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        kind = "chat.completion.chunk" if chat else "text_completion"
        time.sleep(self.served.first_seconds)
        if chat:
            self._chunk(kind, {"delta": {"role": "assistant", "content": ""}, "finish_reason": None})
        for index, word in enumerate(words):
            last = index == len(words) - 1
            part: Object = {"delta": {"content": word}} if chat else {"text": word}
            self._chunk(kind, part | {"finish_reason": ended if last else None})
            time.sleep(self.served.token_seconds)
        if (asked.get("stream_options") or {}).get("include_usage"):
            self._event(json.dumps(self._answer(kind) | {"choices": [], "usage": usage}))
        self._event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")
        self._count(len(words))

    def _chunk(self, kind: str, part: Object) -> None:
        self._event(json.dumps(self._answer(kind) | {"choices": [{"index": 0} | part]}))

    def _event(self, text: str) -> None:
        data = f"data: {text}\n\n".encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _count(self, tokens: int) -> None:
        values = self.served.script.values
        values["generation_tokens"] += tokens
        values["prompt_tokens"] += 8
        values["finished"] += 1
        values["first_token_seconds"] += self.served.first_seconds

    def _error(self, status: int, message: str, kind: str) -> None:
        error = {"message": message, "type": kind, "param": None, "code": status}
        self._json(status, {"error": error})

    def _json(self, status: int, body: Object) -> None:
        self._send(status, json.dumps(body).encode())

    def _send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _call(asked: Object) -> Object:
    """The first tool, with a value for each argument that it requires."""
    tool = asked["tools"][0]["function"]
    parameters = tool.get("parameters") or {}
    shapes = parameters.get("properties") or {}
    given = {name: _value(shapes.get(name) or {}) for name in parameters.get("required") or shapes}
    function = {"name": tool["name"], "arguments": json.dumps(given)}
    return {"id": "chatcmpl-tool-1", "type": "function", "function": function}


def _value(shape: Object) -> object:
    if shape.get("enum"):
        return cast(object, shape["enum"][0])
    return {"integer": 7, "number": 7.5, "boolean": True, "array": [], "object": {}}.get(
        str(shape.get("type")), "Paris"
    )


def _handler(served: Served) -> type[_Handler]:
    return type("Handler", (_Handler,), {"served": served})


def _attend(served: Served, connection: socket.socket) -> None:
    with suppress(OSError), connection:
        _handler(served)(connection, ("127.0.0.1", 0), cast(Any, None))


@contextmanager
def listening(served: Served) -> Iterator[str]:
    """The same engine on a free port of loopback: its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(served))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

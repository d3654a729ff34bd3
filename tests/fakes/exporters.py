"""Many exporters in one process: every address of 127/8 is a node, which answers as the test said it would.

Three sockets for all of them: one that serves, one that refuses connections, and one whose queue is full, so that a
connection to it never comes about, as with a host that is down.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, cast

GIB = 1 << 30


@dataclass(frozen=True)
class Fleet:
    """The running fake: where each kind of trouble is to be found."""

    port: int
    refusing: int
    full: int
    process: subprocess.Popen[str]

    def url(self, address: str, kind: str = "ok") -> str:
        port = {"refused": self.refusing, "full": self.full}.get(kind, self.port)
        return f"http://{address}:{port}"

    def seen(self) -> int:
        """Connections served so far."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("seen\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@contextmanager
def exporters(kinds: Mapping[str, str]) -> Iterator[Fleet]:
    """Serves until the block ends.

    Args:
        kinds: address to what it does, see `KINDS`; `kind:word` hands it a word.
    """
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(dict(kinds)) + "\n")
            process.stdin.flush()
            port, refusing, full = map(int, process.stdout.readline().split())
            yield Fleet(port, refusing, full, process)
        finally:
            process.kill()


def address(number: int) -> str:
    """The address of the nth node."""
    return f"127.7.{number >> 8}.{number & 255}"


def summary(node: str, /, **changes: Any) -> dict[str, Any]:
    """What a healthy node of eight GPUs says."""
    number = int(node.rpartition(".")[2])
    gpus = [
        {
            "index": index,
            "uuid": f"GPU-{node.replace('.', '-')}-{index}",
            "name": "NVIDIA H100 80GB HBM3",
            "up": True,
            "utilization_ratio": (number % 100) / 100,
            "memory_used_bytes": 70 * GIB,
            "memory_total_bytes": 80 * GIB,
            "temperature_celsius": 55 + index,
            "power_watts": 480.5,
        }
        for index in range(8)
    ]
    engine = {
        "name": "llama-70b",
        "running": 12,
        "waiting": 0,
        "kv_usage_ratio": 0.42,
        "tokens_per_second": 1234.5,
    }
    made = {
        "schema": "selfhost/summary/v1",
        "host": f"node-{node}",
        "at": time.time(),
        "verdict": "ok",
        "checks": [],
        "gpus": gpus,
        "engines": [engine],
    }
    return made | changes


def check(code: str, level: str, message: str, gpu: int | None = None) -> dict[str, Any]:
    return {"code": code, "level": level, "gpu": gpu, "message": message, "action": "reboot_node"}


def _gpus(at: str, **changes: Any) -> dict[str, Any]:
    made = summary(at)
    made["gpus"][5] |= changes
    return made


def _json(body: object, *, dated: float | None = None, status: str = "200 OK") -> bytes:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    date = formatdate(time.time() if dated is None else dated, usegmt=True)
    head = f"HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + text


def _chunked(body: bytes, size: int) -> bytes:
    chunks = (body[at : at + size] for at in range(0, len(body), size))
    joined = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + joined + b"0\r\n\r\n"


# How a node answers, by name; takes its address and the word after the colon.
KINDS: dict[str, Callable[[str, str], bytes]] = {
    "ok": lambda at, _: _json(summary(at)),
    "undated": lambda at, _: b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps(summary(at)).encode(),
    "chunked": lambda at, _: _chunked(json.dumps(summary(at)).encode(), 100),
    "warn": lambda at, _: _json(
        summary(at, verdict="warn", checks=[check("gpu-hot", "warn", "It is 2 °C below its limit.", 3)])
    ),
    "critical": lambda at, _: _json(
        _gpus(at, up=False)
        | {"verdict": "critical", "checks": [check("gpu-lost", "critical", "Fell off the bus (Xid 79).", 5)]}
    ),
    "notjson": lambda _at, _: _json(b"<html>It works!</html>"),
    "notutf8": lambda _at, _: _json(b'{"schema": "\xff"}'),
    "list": lambda _at, _: _json([1, 2]),
    "schema": lambda at, _: _json(summary(at, schema="selfhost/health/v1")),
    "newer": lambda at, _: _json(summary(at, schema="selfhost/summary/v2")),
    "field": lambda at, _: _json(summary(at, later=1)),
    "type": lambda at, _: _json(summary(at, at="now")),
    "nan": lambda at, _: _json(_gpus(at, power_watts=float("nan"))),
    "infinite": lambda at, _: _json(json.dumps(summary(at)).replace("480.5", "1e999").encode()),
    "busy": lambda at, _: _json(_gpus(at, utilization_ratio=1.5)),
    "overfull": lambda at, _: _json(_gpus(at, memory_used_bytes=81 * GIB)),
    "hot": lambda at, _: _json(_gpus(at, temperature_celsius=2000)),
    "negative": lambda at, _: _json(_gpus(at, memory_used_bytes=-1)),
    "power": lambda at, _: _json(_gpus(at, power_watts=1e9)),
    "twice": lambda at, _: _json(_gpus(at, index=4)),
    "calm": lambda at, _: _json(summary(at, checks=[check("gpu-lost", "critical", "Lost.", 5)])),
    "down": lambda at, _: _json(_gpus(at, up=False)),
    "skipped": lambda at, _: _json(summary(at, verdict="skipped")),
    "kv": lambda at, _: _json(summary(at) | {"engines": [summary(at)["engines"][0] | {"kv_usage_ratio": 7}]}),
    "escape": lambda at, _: _json(summary(at, host="\x1b[2Jroot")),
    "host": lambda at, word: _json(summary(at, host=word)),
    "gpu": lambda at, word: _json(_gpus(at, uuid=word)),
    "stale": lambda at, _: _json(summary(at) | {"at": time.time() - 3600}),
    "seldom": lambda at, _: _json(summary(at, interval_seconds=3600) | {"at": time.time() - 3700}),
    "future": lambda at, _: _json(summary(at) | {"at": time.time() + 3600}),
    "clock": lambda at, _: _json(summary(at) | {"at": time.time() - 7200}, dated=time.time() - 7200),
    "404": lambda _at, _: _json(b"not found", status="404 Not Found"),
    "500": lambda _at, _: _json(b"oops", status="500 Internal Server Error"),
    "401": lambda _at, _: _json(b"who?", status="401 Unauthorized"),
    "redirect": lambda _at, _: (
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n"
    ),
    "large": lambda _at, _: _json(b"x" * (2 << 20)),
    "endless": lambda _at, _: b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * (2 << 20),
    "headers": lambda _at, _: b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000,
    "interim": lambda _at, _: b"HTTP/1.1 100 Continue\r\n\r\n" * 5000,
    "tiny": lambda _at, _: _chunked(b"x" * 50_000, 1),
    "badchunk": lambda _at, _: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + b"x" * 500,
    "gzip": lambda _at, _: b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b",
    "lengths": lambda _at, _: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "short": lambda at, _: _json(summary(at))[:-100],
    "ssh": lambda _at, _: b"SSH-2.0-OpenSSH_9.6\r\n",
    "nothing": lambda _at, _: b"",
    "deep": lambda _at, _: _json(b"[" * 500_000),
}
# … and those that are about time: never an answer, a byte now and then, a broken connection.
SLOW_KINDS = ("silent", "drip", "dripbody", "reset")


class _Node(asyncio.Protocol):
    """One connection to one of the nodes."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._at = transport.get_extra_info("sockname")[0]

    def data_received(self, data: bytes) -> None:
        self._got += data
        if b"\r\n\r\n" not in self._got:
            return
        self._server.seen += 1
        kind, _, word = self._server.kinds.get(self._at, "ok").partition(":")
        if kind == "reset":
            raw = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        elif kind in ("drip", "dripbody"):
            answer = KINDS["ok"](self._at, "")
            whole = answer.index(b"\r\n\r\n") + 4 if kind == "dripbody" else 0
            self._transport.write(answer[:whole])
            self._server.drips.add(asyncio.ensure_future(self._drip(answer[whole:])))
        elif kind != "silent":
            self._transport.write(KINDS[kind](self._at, word))
            self._transport.close()

    async def _drip(self, answer: bytes) -> None:
        for at in range(len(answer)):
            if self._transport.is_closing():
                return
            self._transport.write(answer[at : at + 1])
            await asyncio.sleep(0.1)


class _Server:
    def __init__(self, kinds: dict[str, str]) -> None:
        self.kinds = kinds
        self.seen = 0
        self.drips: set[asyncio.Future[None]] = set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        serving = await loop.create_server(lambda: _Node(self), "0.0.0.0", 0, backlog=4096)
        refusing = socket.socket()
        refusing.bind(("0.0.0.0", 0))  # bound, so that nobody else gets it, and not listening
        full = socket.socket()
        full.bind(("0.0.0.0", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(("127.0.0.1", full.getsockname()[1]))
        ports = [one.getsockname()[1] for one in (serving.sockets[0], refusing, full)]
        print(*ports, flush=True)  # noqa: T201 - what the other process reads
        while await loop.run_in_executor(None, sys.stdin.readline):
            print(self.seen, flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(_Server(json.loads(sys.stdin.readline())).run())

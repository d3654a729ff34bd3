"""The server's side of a websocket (RFC 6455), as the kubelet speaks it: binary messages, and a farewell."""

from __future__ import annotations

import base64
import hashlib
import struct
import threading
from http.server import BaseHTTPRequestHandler

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def is_websocket(request: BaseHTTPRequestHandler) -> bool:
    """Whether a request asks for one."""
    return request.headers.get("Upgrade", "").lower() == "websocket"


class Websocket:
    """A connection that was upgraded."""

    def __init__(self, request: BaseHTTPRequestHandler, protocols: tuple[str, ...]) -> None:
        """RefusalError the request.

        Args:
            request: it.
            protocols: that this end speaks, the best first.
        """
        self._in, self._out = request.rfile, request.wfile
        self._lock = threading.Lock()
        self.closed = False
        asked = [one.strip() for one in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        self.protocol = next((one for one in protocols if one in asked), "")
        key = request.headers["Sec-WebSocket-Key"]
        accept = base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()
        lines = [
            "HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accept}",
        ]  # fmt: skip
        if self.protocol:
            lines.append(f"Sec-WebSocket-Protocol: {self.protocol}")
        self._out.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        self._out.flush()

    def send(self, data: bytes, kind: int = BINARY) -> None:
        """One message.

        Raises:
            OSError: nobody is there any more.
        """
        size = len(data)
        if size < 126:
            head = bytes((0x80 | kind, size))
        elif size < 1 << 16:
            head = bytes((0x80 | kind, 126)) + struct.pack(">H", size)
        else:
            head = bytes((0x80 | kind, 127)) + struct.pack(">Q", size)
        with self._lock:
            self._out.write(head + data)
            self._out.flush()

    def receive(self) -> bytes | None:
        """The next message; None at the end."""
        whole = b""
        while True:
            frame = self._frame()
            if frame is None:
                return None
            last, kind, data = frame
            if kind == CLOSE:
                return None
            if kind == PING:
                self.send(data, PONG)
            elif kind != PONG:
                whole += data
                if last:
                    return whole

    def _frame(self) -> tuple[bool, int, bytes] | None:
        try:
            head = self._in.read(2)
            if len(head) < 2:
                return None
            size = head[1] & 0x7F
            if size == 126:
                (size,) = struct.unpack(">H", self._in.read(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", self._in.read(8))
            mask = self._in.read(4) if head[1] & 0x80 else b""
            data = self._in.read(size)
        except (OSError, ValueError, struct.error):
            return None
        if mask and data:
            pad = (mask * (len(data) // 4 + 1))[: len(data)]
            data = (int.from_bytes(data, "big") ^ int.from_bytes(pad, "big")).to_bytes(len(data), "big")
        return bool(head[0] & 0x80), head[0] & 0x0F, data

    def close(self, code: int = 1000) -> None:
        """Say farewell."""
        if not self.closed:
            self.closed = True
            try:
                self.send(struct.pack(">H", code), CLOSE)
            except (OSError, ValueError):
                return

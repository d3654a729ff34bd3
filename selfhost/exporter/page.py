"""/metrics of one observation as bytes: rendered once in each format that is asked for, compressed once, ages added."""

from __future__ import annotations

import threading
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selfhost.exporter.dcgm import dcgm_text
from selfhost.exporter.families import Families
from selfhost.exporter.text import Format, exposition
from selfhost.observation import NodeSnapshot

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

CONTENT_TYPES: dict[Format, str] = {
    "text": "text/plain; version=0.0.4; charset=utf-8",
    "openmetrics": "application/openmetrics-text; version=1.0.0; charset=utf-8",
}
# 31: the gzip format (zlib's manual, deflateInit2). Level 1 is ours: half the time of 6 for a tenth more bytes.
_GZIP_BITS, _LEVEL = 31, 1


@dataclass(slots=True)
class _Body:
    """Bytes up to the ages, and the same compressed, with the compressor ready to go on from there."""

    plain: bytes
    packed: bytes
    compressor: zlib._Compress


class Page:
    """One observation's metrics.

    Args:
        found: families of prometheus_client.
        node: for dcgm-exporter's names, None without them.
        last_xids: last Xid of each GPU, for the same.
    """

    def __init__(self, found: list[Family], node: NodeSnapshot | None, last_xids: dict[str, int]) -> None:
        self._found = found
        self._node = node
        self._last_xids = last_xids
        self._bodies: dict[Format, _Body] = {}
        self._lock = threading.Lock()

    def render(self, form: Format) -> _Body:
        """The body in a format; made when it is first asked for."""
        with self._lock:
            body = self._bodies.get(form)
            if body is None:
                text = exposition(self._found, form)
                if self._node is not None:
                    text += dcgm_text(self._node, self._last_xids, openmetrics=form == "openmetrics")
                plain = text.encode()
                compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_BITS)
                packed = compressor.compress(plain) + compressor.flush(zlib.Z_SYNC_FLUSH)
                body = self._bodies[form] = _Body(plain=plain, packed=packed, compressor=compressor)
            return body

    def answer(self, form: Format, *, packed: bool, age_seconds: float | None) -> bytes:
        """What is sent: the body, how long ago NVML was polled, and the format's end."""
        body = self.render(form)
        tail = _ages(age_seconds, form)
        if form == "openmetrics":
            tail += b"# EOF\n"
        if not packed:
            return body.plain + tail
        with self._lock:
            compressor = body.compressor.copy()
        return body.packed + compressor.compress(tail) + compressor.flush()


def form_of(accept: str | None) -> Format:
    """The format that a client asks for, by prometheus_client's rules."""
    from prometheus_client.exposition import choose_encoder

    try:
        _, content_type = choose_encoder(accept or "")
    except (TypeError, ValueError):  # a version that is no number
        return "text"
    return "openmetrics" if content_type.startswith("application/openmetrics-text") else "text"


def _ages(age_seconds: float | None, form: Format) -> bytes:
    if age_seconds is None:
        return b""
    out = Families()
    out.add("selfhost_nvml_poll_age_seconds", {}, age_seconds)
    return exposition(out.collect(), form).encode()

"""Bytes of a keyboard -> names of keys: signs as they are, escape sequences by name, everything else dropped."""

from __future__ import annotations

import codecs

_SEQUENCES = {
    b"[A": "up", b"[B": "down", b"[C": "right", b"[D": "left", b"OA": "up", b"OB": "down", b"OC": "right",
    b"OD": "left", b"[H": "home", b"[F": "end", b"OH": "home", b"OF": "end", b"[1~": "home", b"[4~": "end",
    b"[7~": "home", b"[8~": "end", b"[5~": "pageup", b"[6~": "pagedown", b"[Z": "backtab",
}  # fmt: skip
_CONTROLS = {
    "\r": "enter",
    "\n": "enter",
    "\t": "tab",
    "\x7f": "backspace",
    "\b": "backspace",
    "\x0c": "redraw",
}
_LONGEST = 32


class Keys:
    """Reads keys out of bytes as they come; a sequence may come in pieces."""

    def __init__(self) -> None:
        self._rest = b""
        self._text = codecs.getincrementaldecoder("utf-8")(errors="ignore")

    @property
    def pending(self) -> bool:
        """An escape sequence has begun; without more bytes soon it was the Escape key."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[str]:
        """Keys that are complete now."""
        data = self._rest + data
        self._rest = b""
        found: list[str] = []
        while data:
            start = data.find(b"\x1b")
            if start < 0:
                found += self._signs(data)
                break
            found += self._signs(data[:start])
            data = data[start + 1 :]
            size = _sequence(data)
            if size is None:
                self._rest = b"\x1b" + data
                break
            if size == 0:
                found.append("escape")
                continue
            name = _SEQUENCES.get(data[:size])
            found += [name] if name else []
            data = data[size:]
        return found

    def flush(self) -> list[str]:
        """No more bytes came: what has begun was the Escape key, and what follows it signs."""
        rest, self._rest = self._rest, b""
        return ["escape", *self._signs(rest[1:])] if rest else []

    def _signs(self, data: bytes) -> list[str]:
        found = []
        for sign in self._text.decode(data):
            name = _CONTROLS.get(sign, sign)
            if len(name) > 1 or name.isprintable():
                found.append(name)
        return found


def _sequence(data: bytes) -> int | None:
    """Bytes of the sequence after an escape: 0 for a lone one, None where the end has not come yet."""
    if not data:
        return None
    if data[:1] == b"O":
        return 2 if len(data) > 1 else None
    if data[:1] != b"[":
        return 0
    for place, byte in enumerate(data[1:_LONGEST], 1):
        if 0x40 <= byte <= 0x7E:  # ECMA-48: the byte that ends a control sequence
            return place + 1
    return None if len(data) < _LONGEST else _LONGEST

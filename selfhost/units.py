"""Sizes in and out: bytes are ints everywhere inside, GiB is 2^30, conversion happens here only."""

from __future__ import annotations

import re

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

_UNITS = {
    "": 1, "b": 1,
    "k": KIB, "kib": KIB, "m": MIB, "mib": MIB, "g": GIB, "gib": GIB, "t": TIB, "tib": TIB,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
}  # fmt: skip
_SIZE = re.compile(r"\s*([0-9]{1,40}(?:\.[0-9]{1,9})?)\s*([a-zA-Z]{0,3})\s*")
_COUNT = re.compile(r"\s*([0-9]{1,40}(?:\.[0-9]{1,6})?)\s*([kKmM]?)\s*")


def parse_size(text: str) -> int:
    """Read a size such as `80GiB`, `80G`, `80GB` (10^9) or plain bytes.

    Returns:
        Bytes.

    Raises:
        ValueError: when the text is not a size.
    """
    match = _SIZE.fullmatch(text)
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"{text!r} is not a size; write bytes or 80GiB, 80GB, 512MiB")
    whole, _, fraction = match[1].partition(".")
    value = int(whole) * unit
    if fraction:
        value += int(fraction) * unit // 10 ** len(fraction)
    return value


def parse_count(text: str) -> int:
    """Read a token count such as `16384`, `16k` (16 x 1024) or `1M` (1024 x 1024).

    Raises:
        ValueError: when the text is not a whole count.
    """
    match = _COUNT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a count; write 16384 or 16k")
    factor = {"": 1, "k": KIB, "m": MIB}[match[2].lower()]
    whole, _, fraction = match[1].partition(".")
    tenths: int = 10 ** len(fraction)
    part, rest = divmod(int(fraction or 0) * factor, tenths)
    if rest:
        raise ValueError(f"{text!r} is not a whole count; write 16384 or 16k")
    return int(whole) * factor + part


def gib(size_bytes: int | float) -> str:
    """Format bytes as GiB with two decimals, for people."""
    return f"{size_bytes / GIB:,.2f}"


def size_text(size_bytes: int) -> str:
    """Bytes in the unit that suits them, for people: `1.25 GiB`, `412 MiB`, `12 KiB`."""
    if size_bytes >= GIB:
        return f"{size_bytes / GIB:.2f} GiB"
    if size_bytes >= MIB:
        return f"{size_bytes / MIB:.0f} MiB"
    return f"{size_bytes / KIB:.0f} KiB" if size_bytes >= KIB else f"{size_bytes} B"


def size_words(size_bytes: int) -> str:
    """Bytes as `parse_size` reads them back: `80GiB` where they are whole, else plain bytes."""
    return f"{size_bytes // GIB}GiB" if size_bytes % GIB == 0 else str(size_bytes)


def ceil_div(value: int, divisor: int) -> int:
    """Smallest whole number of `divisor` parts that hold `value`."""
    return -(-value // divisor)


def round_up(value: int, multiple: int) -> int:
    """`value` rounded up to a multiple of `multiple`."""
    return ceil_div(value, multiple) * multiple

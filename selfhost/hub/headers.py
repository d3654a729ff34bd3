"""Safetensors headers: names, dtypes, shapes and bytes of the tensors, believed only as far as they add up.

Format (https://huggingface.co/docs/safetensors, README of github.com/huggingface/safetensors): 8 bytes little-endian
header length N, N bytes of JSON, then the data; `data_offsets` are relative to the data, which they cover without
holes or overlap.
"""

from __future__ import annotations

import math
from typing import TypeGuard

from selfhost.dtypes import BITS, SAFETENSORS
from selfhost.errors import MalformedAnswerError
from selfhost.hub.references import shown
from selfhost.hub.safejson import parse_object
from selfhost.model.raw import TensorHeader

MAXIMUM_HEADER_BYTES = 100_000_000  # safetensors' own limit (src/tensor.rs, MAX_HEADER_SIZE)
MAXIMUM_DIMENSIONS = 16
PREFIX_BYTES = 8

_HINT = "the file is damaged, incomplete or not a safetensors file; fetch it again."


def header_bytes(prefix: bytes, *, file_bytes: int | None, where: str) -> int:
    """Length of the JSON header that a file's first 8 bytes announce.

    Args:
        prefix: the first 8 bytes.
        file_bytes: length of the whole file, None when not known.
        where: the file's name, for the error.

    Raises:
        MalformedAnswerError: truncated, longer than the file or than any real header.
    """
    if len(prefix) < PREFIX_BYTES:
        raise MalformedAnswerError(f"{where} ends after {len(prefix)} bytes.", hint=_HINT)
    length = int.from_bytes(prefix[:PREFIX_BYTES], "little")
    if length > MAXIMUM_HEADER_BYTES:
        raise MalformedAnswerError(
            f"{where} announces a header of {length:,} bytes; the format allows {MAXIMUM_HEADER_BYTES:,}.",
            hint=_HINT,
        )
    if length < 2 or (file_bytes is not None and length > file_bytes - PREFIX_BYTES):
        size = "" if file_bytes is None else f" and has {file_bytes:,} bytes in all"
        raise MalformedAnswerError(f"{where} announces a header of {length:,} bytes{size}.", hint=_HINT)
    return length


def parse_header(data: bytes, *, file_bytes: int | None, where: str) -> tuple[TensorHeader, ...]:
    """Read a header's JSON.

    Args:
        data: the header without its 8 bytes of length.
        file_bytes: length of the whole file, None when not known.
        where: the file's name, for the error.

    Raises:
        MalformedAnswerError: when shapes, dtypes, offsets and the file's length contradict each other.
    """
    table = parse_object(
        data, where=f"The header of {where}", maximum_bytes=MAXIMUM_HEADER_BYTES, strict_keys=True
    )
    table.pop("__metadata__", None)
    spans: list[tuple[int, int, str]] = []
    headers: list[TensorHeader] = []
    for name, entry in table.items():
        header, begin, end = _tensor(name, entry, where)
        headers.append(header)
        spans.append((begin, end, name))
    expected = 0
    for begin, end, name in sorted(spans):
        if begin != expected:
            raise MalformedAnswerError(
                f"{where}: tensor {shown(name)} starts at byte {begin:,} of the data, not at {expected:,}.",
                hint=_HINT,
            )
        expected = end
    if file_bytes is not None and PREFIX_BYTES + len(data) + expected != file_bytes:
        raise MalformedAnswerError(
            f"{where} has {file_bytes:,} bytes, but its header describes {PREFIX_BYTES + len(data) + expected:,}.",
            hint=_HINT,
        )
    return tuple(headers)


def merge(parts: tuple[tuple[str, tuple[TensorHeader, ...]], ...]) -> tuple[TensorHeader, ...]:
    """Headers of several files as one model's, in file order.

    Raises:
        MalformedAnswerError: when two files hold different tensors of one name.
    """
    merged: dict[str, TensorHeader] = {}
    for where, headers in parts:
        for header in headers:
            first = merged.setdefault(header.name, header)
            if first != header:
                raise MalformedAnswerError(
                    f"{where} holds another {shown(header.name)} than a file before it.",
                    hint="the directory mixes two checkpoints; keep one.",
                )
    return tuple(merged.values())


def _tensor(name: str, entry: object, where: str) -> tuple[TensorHeader, int, int]:
    if not isinstance(entry, dict):
        raise _wrong(where, name, "is not described by an object")
    stored, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    dtype = SAFETENSORS.get(stored) if isinstance(stored, str) else None
    if dtype is None:
        raise _wrong(where, name, f"has the dtype {shown(str(stored), 40)!r}, which selfhost does not know")
    if not _whole_numbers(shape) or len(shape) > MAXIMUM_DIMENSIONS:
        raise _wrong(where, name, "has no shape of whole numbers")
    if not _whole_numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _wrong(where, name, "has no data_offsets of two whole numbers")
    begin, end = offsets
    bits = math.prod(shape) * BITS[dtype]
    if bits % 8 or bits // 8 != end - begin:
        raise _wrong(where, name, f"of {shape} {stored} takes {bits // 8:,} bytes, but has {end - begin:,}")
    return TensorHeader(name=name, dtype=dtype, shape=tuple(shape), bytes=end - begin), begin, end


def _whole_numbers(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 63 for item in value)


def _wrong(where: str, name: str, what: str) -> MalformedAnswerError:
    return MalformedAnswerError(f"{where}: tensor {shown(name)} {what}.", hint=_HINT)

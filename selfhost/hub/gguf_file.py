"""The header of a GGUF file, walked with every count and length checked against the file before it is used.

Format: github.com/ggml-org/ggml, docs/gguf.md, versions 2 and 3, little-endian. The `gguf` library (0.19) names the
value and block types and their sizes; its reader takes a file's counts on trust, so the walk over the bytes is here.
"""

from __future__ import annotations

import math
import mmap
import os
import re
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from selfhost.errors import MalformedAnswerError, ModelNotFoundError, UnsupportedError
from selfhost.hub.references import shown

MAGIC = b"GGUF"
MAXIMUM_HEADER_BYTES = 256 << 20  # the largest vocabularies take some 20 MB
MAXIMUM_FIELDS = 1 << 16
MAXIMUM_TENSORS = 1 << 20
MAXIMUM_NAME_BYTES = 1 << 16
MAXIMUM_DIMENSIONS = 4  # GGML_MAX_DIMS
KEPT_ITEMS = 4096  # longer arrays are vocabularies; only their length is kept
KEPT_TEXT_BYTES = 4096

_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_HINT = "the file is damaged, incomplete or not a GGUF file; fetch it again."
_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """A long array of which only the length was kept."""

    items: int


Value = int | float | bool | str | tuple[object, ...] | Length


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTensor:
    """One tensor: name, ggml type in lower case, shape as PyTorch writes it (slowest first) and bytes."""

    name: str
    type: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """Key-value fields and tensors of one file."""

    fields: Mapping[str, Value]
    tensors: tuple[GgufTensor, ...]


class NeedMoreError(Exception):
    """The header goes on after the bytes that were given."""


def read_gguf(path: Path) -> GgufHeader:
    """Read a GGUF file's header, and those of its other parts where it is split.

    Raises:
        ModelNotFoundError: the file cannot be read.
        MalformedAnswerError: it is not GGUF, is truncated or contradicts itself.
        UnsupportedError: version 1 or big-endian; or the `gguf` library is missing.
    """
    header = _read_one(path)
    parts = header.fields.get("split.count", 1)
    if not isinstance(parts, int) or parts <= 1:
        return header
    match = _PART.fullmatch(path.name)
    if match is None or int(match[3]) != parts or parts > MAXIMUM_FIELDS:
        raise MalformedAnswerError(
            f"{path} is one of {parts} parts but is not called NAME-00001-of-{parts:05}.gguf.",
            hint="give all parts their original names.",
        )
    first = header if int(match[2]) == 1 else None
    tensors: list[GgufTensor] = []
    for number in range(1, parts + 1):
        sibling = path.with_name(f"{match[1]}-{number:05}-of-{match[3]}{path.suffix}")
        part = header if sibling == path else _read_one(sibling)
        first = first or part
        tensors += part.tensors
    assert first is not None
    return GgufHeader(fields=first.fields, tensors=tuple(tensors))


def parse_gguf(data: bytes | mmap.mmap, *, file_bytes: int, where: str) -> GgufHeader:
    """Parse a header from the start of a file.

    Args:
        data: the file, or enough of its start.
        file_bytes: length of the whole file.
        where: the file's name, for the error.

    Raises:
        NeedMoreError: `data` ends before the header does.
        MalformedAnswerError: not GGUF, or a count, length or offset that the file cannot hold.
        UnsupportedError: version 1 or big-endian; or the `gguf` library is missing.
    """
    walk = _Walk(data=data, file_bytes=file_bytes, where=where)
    if walk.take(4) != MAGIC:
        raise MalformedAnswerError(f"{where} does not start with GGUF.", hint=_HINT)
    version = walk.scalar("<I")
    if version & 0xFFFF == 0 or version == 1:
        raise UnsupportedError(
            f"{where} is a {'big-endian' if version != 1 else 'version 1'} GGUF file.",
            hint="convert it again with a current llama.cpp.",
        )
    if version not in (2, 3):
        raise MalformedAnswerError(f"{where} has GGUF version {version}; 2 and 3 are known.", hint=_HINT)
    tensor_count = walk.count(MAXIMUM_TENSORS, "tensors", least_bytes=24)
    field_count = walk.count(MAXIMUM_FIELDS, "fields", least_bytes=13)
    fields: dict[str, Value] = {}
    for _ in range(field_count):
        key = walk.text(MAXIMUM_NAME_BYTES)
        if key in fields:
            raise walk.wrong(f"field {shown(key)} stands twice")
        fields[key] = walk.value(walk.scalar("<I"), depth=0)
    sizes = _block_sizes()
    tensors: dict[str, tuple[GgufTensor, int]] = {}
    for _ in range(tensor_count):
        tensor, offset = _tensor(walk, sizes)
        if tensor.name in tensors:
            raise walk.wrong(f"tensor {shown(tensor.name)} stands twice")
        tensors[tensor.name] = (tensor, offset)
    _check_extent(walk, fields, tensors)
    return GgufHeader(fields=fields, tensors=tuple(tensor for tensor, _ in tensors.values()))


@dataclass(slots=True, kw_only=True)
class _Walk:
    """A position in a header that is never read past the file's end."""

    data: bytes | mmap.mmap
    file_bytes: int
    where: str
    position: int = field(default=0)

    def take(self, size: int) -> bytes:
        end = self.position + size
        if end > self.file_bytes:
            raise self.wrong("ends inside its header")
        if end > MAXIMUM_HEADER_BYTES:
            raise self.wrong(f"has a header of more than {MAXIMUM_HEADER_BYTES >> 20} MiB")
        if end > len(self.data):
            raise NeedMoreError
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def skip(self, size: int) -> None:
        """Move on without copying; a skip past the end is the next read's error."""
        if self.position + size > self.file_bytes:
            raise self.wrong("ends inside its header")
        self.position += size

    def scalar(self, form: str) -> int:
        value: int = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return value

    def count(self, limit: int, what: str, *, least_bytes: int) -> int:
        value = self.scalar("<Q")
        if value > limit or value * least_bytes > self.file_bytes - self.position:
            raise self.wrong(f"announces {value:,} {what}")
        return value

    def text(self, limit: int) -> str:
        size = self.scalar("<Q")
        if size > limit:
            raise self.wrong(f"has a name of {size:,} bytes")
        return self._decoded(self.take(size))

    def value(self, kind: int, *, depth: int) -> Value:
        if kind in _SCALARS:
            return struct.unpack(_SCALARS[kind], self.take(struct.calcsize(_SCALARS[kind])))[0]  # type: ignore[no-any-return]
        if kind == _STRING:
            size = self.scalar("<Q")
            if size > KEPT_TEXT_BYTES:
                self.skip(size)  # a chat template
                return Length(items=size)
            return self._decoded(self.take(size))
        if kind == _ARRAY and depth < 4:
            return self._array(depth)
        raise self.wrong(f"has a field of the unknown type {kind}")

    def wrong(self, what: str) -> MalformedAnswerError:
        return MalformedAnswerError(f"{self.where} {what}.", hint=_HINT)

    def _array(self, depth: int) -> Value:
        kind = self.scalar("<I")
        form = _SCALARS.get(kind)
        least = struct.calcsize(form) if form else 8
        items = self.count(1 << 40, "items in an array", least_bytes=least)
        if items <= KEPT_ITEMS:
            return tuple(self.value(kind, depth=depth + 1) for _ in range(items))
        if form:
            self.skip(items * least)
        elif kind == _STRING:
            for _ in range(items):
                self.skip(self.scalar("<Q"))
        else:
            raise self.wrong(f"has {items:,} arrays in an array")
        return Length(items=items)

    def _decoded(self, data: bytes) -> str:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.wrong(
                f"has a name or text that is not UTF-8, before byte {self.position:,}"
            ) from error


def _tensor(walk: _Walk, sizes: Mapping[int, tuple[str, int, int]]) -> tuple[GgufTensor, int]:
    name = walk.text(MAXIMUM_NAME_BYTES)
    dimensions = walk.scalar("<I")
    if dimensions > MAXIMUM_DIMENSIONS:
        raise walk.wrong(f"gives tensor {shown(name)} {dimensions:,} dimensions")
    shape = struct.unpack(f"<{dimensions}Q", walk.take(8 * dimensions))
    kind = walk.scalar("<I")
    offset = walk.scalar("<Q")
    if kind not in sizes:
        raise walk.wrong(f"gives tensor {shown(name)} the unknown type {kind}")
    label, block, block_bytes = sizes[kind]
    elements = math.prod(shape)
    if elements >= 1 << 60 or (shape and shape[0] % block):
        raise walk.wrong(f"gives tensor {shown(name)} the shape {shape}, which {label} cannot have")
    size = elements // block * block_bytes
    return GgufTensor(name=name, type=label, shape=tuple(reversed(shape)), bytes=size), offset


def _check_extent(
    walk: _Walk, fields: Mapping[str, Value], tensors: Mapping[str, tuple[GgufTensor, int]]
) -> None:
    """Each tensor lies aligned inside the file, and no two overlap."""
    alignment = fields.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1) or alignment > 1 << 20:
        raise walk.wrong("has a general.alignment that is no power of two")
    start = -(-walk.position // alignment) * alignment
    end = 0
    for tensor, offset in sorted(tensors.values(), key=lambda pair: pair[1]):
        if offset % alignment or offset < end:
            raise walk.wrong(
                f"places tensor {shown(tensor.name)} at byte {offset:,} of the data, over another"
            )
        end = offset + tensor.bytes
        if start + end > walk.file_bytes:
            raise walk.wrong(
                f"has {walk.file_bytes:,} bytes, but tensor {shown(tensor.name)} ends at {start + end:,}"
            )


def _read_one(path: Path) -> GgufHeader:
    try:
        # Without O_NONBLOCK opening a FIFO would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such name"
        raise ModelNotFoundError(
            f"{shown(str(path))} cannot be read: {reason}.", hint="check the path and its permissions."
        ) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise MalformedAnswerError(f"{path} is not a regular file.", hint="name the .gguf file itself.")
        if status.st_size == 0:
            raise MalformedAnswerError(f"{path} is empty.", hint=_HINT)
        with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as data:
            return parse_gguf(data, file_bytes=status.st_size, where=str(path))
    finally:
        os.close(descriptor)


def _block_sizes() -> Mapping[int, tuple[str, int, int]]:
    """ggml type id -> (name, weights per block, bytes per block)."""
    try:
        from gguf.constants import GGML_QUANT_SIZES
    except ImportError as error:
        raise UnsupportedError(
            "Reading a GGUF file needs the gguf library.",
            hint="install it with: pip install 'selfhost[gguf]'",
        ) from error
    return {int(kind): (kind.name.lower(), block, size) for kind, (block, size) in GGML_QUANT_SIZES.items()}

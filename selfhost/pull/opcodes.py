"""A pickle's opcodes -> the names it imports and what it does with them, without loading anything.

The opcodes are those of the standard library's `pickletools`, their stack is followed step by step: a name that is put
together on the stack, fetched from the memo or hidden below a decoy is seen as the unpickler would see it. Long
arguments are passed over in pieces, so that memory stays small whatever a file holds.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

MAXIMUM_STEPS = 20_000_000  # a checkpoint of 10,000 tensors has under a million
MAXIMUM_DEPTH = 1_000_000
MAXIMUM_MEMO = 1_000_000
MAXIMUM_NAMES = 200
MAXIMUM_FAULTS = 20

_KEEP_BYTES = 512  # longer text is no name
_LINE_BYTES = 1 << 20
_PIECE_BYTES = 1 << 20

_OPCODES = {ord(info.code): info for info in pickletools.opcodes}
_LENGTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: (1, False),
    pickletools.TAKEN_FROM_ARGUMENT4: (4, True),
    pickletools.TAKEN_FROM_ARGUMENT4U: (4, False),
    pickletools.TAKEN_FROM_ARGUMENT8U: (8, False),
}
_TEXT = frozenset(("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"))
_BYTES_AS_TEXT = frozenset(
    ("STRING", "BINSTRING", "SHORT_BINSTRING")
)  # text too, where the pickle is of Python 2
_QUOTED = re.compile(rb"""(['"])([^'"\\]*)\1""")


class BrokenError(Exception):
    """A stream that the unpickler could not read to its end either, or that is too much to follow."""


@dataclass(frozen=True, slots=True)
class Global:
    """A module's attribute, as `module.name`; None where the name was worked out while loading."""

    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a pickle would do.

    Args:
        names: everything that it imports, each once.
        faults: what is odd about it, each a part of a sentence with the pickle as its subject.
    """

    names: dict[str, None] = field(default_factory=dict)
    faults: dict[str, None] = field(default_factory=dict)

    def name(self, name: str) -> None:
        """Note an import."""
        if len(self.names) < MAXIMUM_NAMES:
            self.names[name] = None
        else:
            self.fault(f"imports more than {MAXIMUM_NAMES} different names")

    def fault(self, text: str) -> None:
        """Note something odd."""
        if len(self.faults) < MAXIMUM_FAULTS:
            self.faults[text] = None


_MARK = object()
_OTHER = None  # any value that is neither text nor a global


def follow(stream: IO[bytes], seen: Seen) -> None:
    """Follow one pickle from where the stream stands to just behind its end.

    Args:
        stream: bytes; it is read forwards only.
        seen: what is found is added here, also where the stream turns out to be broken later.

    Raises:
        BrokenError: it ends early, or is no pickle.
    """
    _Machine(stream, seen).run()


class _Machine:
    """The unpickler's stack and memo, with text and globals for values and None for all others."""

    def __init__(self, stream: IO[bytes], seen: Seen) -> None:
        self.stream = stream
        self.seen = seen
        self.stack: list[object] = []
        self.memo: dict[int, object] = {}

    def run(self) -> None:
        for _ in range(MAXIMUM_STEPS):
            code = self.stream.read(1)
            info = _OPCODES.get(code[0]) if code else None
            if info is None:
                raise BrokenError("ends early" if not code else f"has no opcode {code[0]:#04x}")
            data = self.argument(info)
            if info.name == "STOP":
                self.pop()
                return
            handler = _HANDLERS.get(info.name)
            if handler is not None:
                handler(self, data)
            else:
                self.plain(info, data)
            if len(self.stack) > MAXIMUM_DEPTH:
                raise BrokenError(f"piles up more than {MAXIMUM_DEPTH:,} values")
        raise BrokenError(f"takes more than {MAXIMUM_STEPS:,} steps")

    def argument(self, info: pickletools.OpcodeInfo) -> bytes | None:
        """The argument's bytes without their length; None where there is none, or it is too long to matter."""
        if info.arg is None:
            return None
        if info.arg.n >= 0:
            return self.take(info.arg.n)
        if info.arg.n == pickletools.UP_TO_NEWLINE:
            lines = 2 if info.name in ("GLOBAL", "INST") else 1
            return b"\n".join(self.line() for _ in range(lines))
        width, signed = _LENGTHS[info.arg.n]
        length = int.from_bytes(self.take(width), "little", signed=signed)
        if length < 0:
            raise BrokenError("has an argument of negative length")
        if length <= _KEEP_BYTES:
            return self.take(length)
        while length:
            length -= len(self.take(min(length, _PIECE_BYTES)))
        return None

    def take(self, count: int) -> bytes:
        data = self.stream.read(count)
        if len(data) != count:
            raise BrokenError("ends early")
        return data

    def line(self) -> bytes:
        data = self.stream.readline(_LINE_BYTES)
        if not data.endswith(b"\n"):
            raise BrokenError("ends early" if len(data) < _LINE_BYTES else "has an endless line")
        return data[:-1]

    def plain(self, info: pickletools.OpcodeInfo, data: bytes | None) -> None:
        """An opcode that only makes and moves plain values."""
        if pickletools.markobject in info.stack_before:
            self.pop_to_mark()
        else:
            for _ in info.stack_before:
                self.pop()
        value = _text(info.name, data)
        self.stack.extend(value for _ in info.stack_after)

    def pop(self) -> object:
        if not self.stack or self.stack[-1] is _MARK:
            raise BrokenError("takes a value from an empty stack")
        return self.stack.pop()

    def pop_to_mark(self) -> list[object]:
        taken: list[object] = []
        while self.stack:
            value = self.stack.pop()
            if value is _MARK:
                return taken[::-1]
            taken.append(value)
        raise BrokenError("looks for a mark that is not there")

    def top(self) -> object:
        if not self.stack or self.stack[-1] is _MARK:
            raise BrokenError("takes a value from an empty stack")
        return self.stack[-1]

    def mark(self, data: bytes | None) -> None:
        self.stack.append(_MARK)

    def drop(self, data: bytes | None) -> None:
        if not self.stack:
            raise BrokenError("takes a value from an empty stack")
        self.stack.pop()  # a mark too

    def drop_to_mark(self, data: bytes | None) -> None:
        self.pop_to_mark()

    def duplicate(self, data: bytes | None) -> None:
        self.stack.append(self.top())

    def put_text(self, data: bytes | None) -> None:
        self.put(_decimal(data))

    def put_binary(self, data: bytes | None) -> None:
        self.put(int.from_bytes(data or b"", "little"))

    def put_next(self, data: bytes | None) -> None:
        self.put(len(self.memo))

    def put(self, key: int) -> None:
        if len(self.memo) >= MAXIMUM_MEMO:
            raise BrokenError(f"remembers more than {MAXIMUM_MEMO:,} values")
        self.memo[key] = self.top()

    def get_text(self, data: bytes | None) -> None:
        self.get(_decimal(data))

    def get_binary(self, data: bytes | None) -> None:
        self.get(int.from_bytes(data or b"", "little"))

    def get(self, key: int) -> None:
        if key not in self.memo:
            raise BrokenError("asks for a value that it never kept")
        self.stack.append(self.memo[key])

    def import_global(self, data: bytes | None) -> None:
        self.stack.append(self.imported(*_pair(data)))

    def import_from_stack(self, data: bytes | None) -> None:
        name, module = self.pop(), self.pop()
        self.stack.append(self.imported(module, name))

    def imported(self, module: object, name: object) -> Global:
        if not (isinstance(module, str) and isinstance(name, str)):
            self.seen.fault("imports a name that is worked out while it is loaded")
            return Global(None)
        full = f"{module}.{name}"
        self.seen.name(full)
        return Global(full)

    def import_extension(self, data: bytes | None) -> None:
        self.seen.fault("imports by a number of copyreg's registry")
        self.stack.append(Global(None))

    def call(self, data: bytes | None) -> None:
        self.pop()
        self.called(self.pop())
        self.stack.append(_OTHER)

    def call_with_names(self, data: bytes | None) -> None:
        self.pop()
        self.call(data)

    def call_marked(self, data: bytes | None) -> None:
        taken = self.pop_to_mark()
        if not taken:
            raise BrokenError("takes a value from an empty stack")
        self.called(taken[0])
        self.stack.append(_OTHER)

    def call_named(self, data: bytes | None) -> None:
        self.pop_to_mark()
        self.called(self.imported(*_pair(data)))
        self.stack.append(_OTHER)

    def called(self, target: object) -> None:
        if not isinstance(target, Global):
            self.seen.fault("calls something that another call gave it")

    def change_with_one(self, data: bytes | None) -> None:
        self.pop()
        self.changed(self.top())

    def change_with_two(self, data: bytes | None) -> None:
        self.pop()
        self.change_with_one(data)

    def change_with_marked(self, data: bytes | None) -> None:
        self.pop_to_mark()
        self.changed(self.top())

    def changed(self, target: object) -> None:
        if isinstance(target, Global):
            self.seen.fault("changes what it imported")

    def nothing(self, data: bytes | None) -> None:
        """Framing, and views of buffers."""


_HANDLERS: dict[str, Callable[[_Machine, bytes | None], None]] = {
    "PROTO": _Machine.nothing, "FRAME": _Machine.nothing, "READONLY_BUFFER": _Machine.nothing,
    "MARK": _Machine.mark, "POP": _Machine.drop, "POP_MARK": _Machine.drop_to_mark, "DUP": _Machine.duplicate,
    "PUT": _Machine.put_text, "BINPUT": _Machine.put_binary, "LONG_BINPUT": _Machine.put_binary,
    "MEMOIZE": _Machine.put_next,
    "GET": _Machine.get_text, "BINGET": _Machine.get_binary, "LONG_BINGET": _Machine.get_binary,
    "GLOBAL": _Machine.import_global, "STACK_GLOBAL": _Machine.import_from_stack,
    "EXT1": _Machine.import_extension, "EXT2": _Machine.import_extension, "EXT4": _Machine.import_extension,
    "REDUCE": _Machine.call, "NEWOBJ": _Machine.call, "NEWOBJ_EX": _Machine.call_with_names,
    "OBJ": _Machine.call_marked, "INST": _Machine.call_named,
    "BUILD": _Machine.change_with_one, "APPEND": _Machine.change_with_one, "SETITEM": _Machine.change_with_two,
    "APPENDS": _Machine.change_with_marked, "SETITEMS": _Machine.change_with_marked,
    "ADDITEMS": _Machine.change_with_marked,
}  # fmt: skip


def _text(opcode: str, data: bytes | None) -> str | None:
    """The text that an opcode puts on the stack; None for anything else and for what could be read in two ways."""
    if data is None or not (opcode in _TEXT or opcode in _BYTES_AS_TEXT):
        return None
    if opcode == "STRING":
        match = _QUOTED.fullmatch(data)
        data = match[2] if match else b"\\"
    if len(data) > _KEEP_BYTES or (opcode in ("STRING", "UNICODE") and b"\\" in data):
        return None
    try:
        return data.decode("ascii" if opcode in _BYTES_AS_TEXT or opcode == "UNICODE" else "utf-8")
    except UnicodeDecodeError:
        return None


def _pair(data: bytes | None) -> tuple[str | None, str | None]:
    """Module and name of GLOBAL and INST."""
    try:
        module, _, name = (data or b"").decode("utf-8").partition("\n")
    except UnicodeDecodeError:
        return None, None
    return module, name


def _decimal(data: bytes | None) -> int:
    text = (data or b"").decode("latin-1")
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise BrokenError("numbers a value that it keeps in no usual way")
    return int(text)

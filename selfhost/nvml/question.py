"""One question to one GPU: which functions can answer it, newest first, decided once and remembered.

A `Question` is a constant; `Asked` is it bound to a GPU's handle with its arguments prepared, so that asking again
costs one call and nothing else. "Not supported" (3) and "function not found" (13) are remembered, nothing else ever is:
a lost GPU would otherwise become one without sensors.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import byref, c_uint
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from selfhost.nvml import codes
from selfhost.nvml.library import Library
from selfhost.observation import Missing, Reading
from selfhost.observation.reading import ABSENT_CODES, FUNCTION_NOT_FOUND

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Way(Generic[T]):
    """One function that can answer.

    Args:
        symbol: its exported name.
        outputs: ctypes types whose addresses follow the inputs.
        decode: what makes a value of the filled outputs; may return a Missing for an answer that cannot be true.
        inputs: unsigned integers between the handle and the outputs.
        version: version word written into the first output before every call, 0 for none.
        length: length of the output buffer, passed last; 0 for none.
    """

    symbol: str
    outputs: tuple[type[Any], ...]
    decode: Callable[..., Reading[T]]
    inputs: tuple[int, ...] = ()
    version: int = 0
    length: int = 0


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """Ways to the same answer, the newest first."""

    ways: tuple[Way[T], ...]


class Asked(Generic[T]):
    """A question bound to a handle."""

    __slots__ = (
        "_arguments",
        "_decided",
        "_function",
        "_handle",
        "_library",
        "_next",
        "_outputs",
        "_way",
        "_ways",
        "absent",
    )

    def __init__(self, library: Library, handle: Any, question: Question[T]) -> None:
        self._library = library
        self._handle = handle
        self._ways = question.ways
        self._next = 0
        self._decided = False
        self.absent: Missing | None = None
        if not self._older():
            self.absent = codes.missing(FUNCTION_NOT_FOUND)

    def _older(self) -> bool:
        """Prepare the next way whose function exists."""
        while self._next < len(self._ways):
            way = self._ways[self._next]
            self._next += 1
            function = self._library.function(way.symbol)
            if function is None:
                continue
            self._way = way
            self._function = function
            self._outputs = tuple(kind() for kind in way.outputs)
            inputs = tuple(c_uint(value) for value in way.inputs)
            trailing = (c_uint(way.length),) if way.length else ()
            self._arguments = (self._handle, *inputs, *(byref(output) for output in self._outputs), *trailing)
            return True
        return False

    def read(self) -> Reading[T]:
        """Ask.

        Raises:
            GpuFault: the answer says that the whole GPU is gone.
        """
        if self.absent is not None:
            return self.absent
        way = self._way
        if way.version:
            self._outputs[0].version = way.version
        # Library.run without its call: this is what a refresh does most.
        library = self._library
        library.calls += 1
        library.current = (way.symbol, library.monotonic())
        code = self._function(*self._arguments)
        library.current = None
        if code == 0:
            self._decided = True
            return way.decode(*self._outputs)
        return self._failed(code)

    def _failed(self, code: int) -> Reading[T]:
        if code in codes.GPU_FAULTS:
            self._library.note(code)
            raise codes.GpuFault(codes.missing(code))
        if code in codes.TRY_OLDER and not self._decided:
            if self._older():
                older = self.read()
                # "Not supported" by the newest function tells more than "no such function" of the oldest.
                if self.absent is not None and code in ABSENT_CODES:
                    self.absent = older = codes.missing(code)
                return older
            if code in ABSENT_CODES:
                self.absent = codes.missing(code)
                return self.absent
            if code == codes.VERSION_MISMATCH:
                # No version of the struct is shared with this driver: as absent as a missing function.
                self.absent = Missing(missing=codes.TEXTS[code], code=FUNCTION_NOT_FOUND)
                return self.absent
        if code not in ABSENT_CODES:
            self._library.note(code)
        # Absent after it once answered: a mode such as MIG changed. Not remembered, so that it may come back.
        return codes.missing(code)

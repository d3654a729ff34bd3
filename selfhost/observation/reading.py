"""A reading is a value or a Missing with its reason: never 0, never NaN, never a guess."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, TypeGuard, TypeVar

T = TypeVar("T")

# nvmlReturn_t values that say "this board or driver has no such reading" (nvml.h r615): nothing is wrong with the GPU.
NOT_SUPPORTED = 3
FUNCTION_NOT_FOUND = 13
ABSENT_CODES = frozenset((NOT_SUPPORTED, FUNCTION_NOT_FOUND))
# … and those that say the GPU itself is gone or stuck.
GPU_IS_LOST = 15
RESET_REQUIRED = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Why there is no value.

    Args:
        missing: one phrase, such as `not supported by this board`.
        code: nvmlReturn_t that NVML answered with; None where NVML was not asked or did not answer.
    """

    missing: str
    code: int | None = None

    @property
    def absent(self) -> bool:
        """Whether the board or the driver simply has no such reading, as opposed to failing to give it."""
        return self.code in ABSENT_CODES


# Reading[float] is `float | Missing`.
Reading: TypeAlias = T | Missing

# What stands before a lane has run for the first time.
NOT_READ = Missing(missing="not read yet")


def known(reading: Reading[T]) -> TypeGuard[T]:
    """Whether there is a value."""
    return not isinstance(reading, Missing)


def supported(reading: Reading[T]) -> bool:
    """Whether the board and the driver have this reading, even if it failed just now."""
    return not (isinstance(reading, Missing) and reading.absent)


def number(reading: Reading[T]) -> T | None:
    """The value, or None."""
    return None if isinstance(reading, Missing) else reading

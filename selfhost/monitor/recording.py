"""Observations as a file of JSON lines, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from selfhost.errors import SelfhostError
from selfhost.observation import Observation


class RecordingError(SelfhostError):
    """A recording that cannot be read, is of another version, or has a line that is none of its form."""


class Recorder:
    """Appends observations to a file; a context manager."""

    def __init__(self, path: Path) -> None:
        raise NotImplementedError

    def write(self, observation: Observation) -> None:
        """Append one observation."""

    def close(self) -> None:
        """Finish the file."""


def replay(path: Path, *, on_truncated: Callable[[str], None] | None = None) -> Iterator[Observation]:
    """The observations of a recording, in their order."""
    raise NotImplementedError

"""A live view's recording: written in the poller's thread, and what stops it is told instead of lost."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from selfhost.errors import OutputError
from selfhost.monitor import Recorder
from selfhost.observation import Observation


class Recording:
    """A recorder for a poller to call; a context manager.

    Args:
        path: a file that does not exist yet.

    Raises:
        OutputError: the file exists or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.failure: OutputError | None = None
        self._recorder = Recorder(path)

    def write(self, observation: Observation, history: tuple[Observation, ...]) -> None:
        """Append an observation, until the file cannot take any more."""
        if self.failure is not None:
            return
        try:
            if not self._recorder.write(observation):
                self.failure = OutputError(
                    f"{self._recorder.path} is full.", hint="Record to another file from here on."
                )
        except OutputError as error:
            self.failure = error

    def told(self) -> str:
        """For the first line of the view."""
        if self.failure is not None:
            return f"recording ended: {self.failure.message}"
        return f"recording to {self._recorder.path}"

    def __enter__(self) -> Recording:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._recorder.close()

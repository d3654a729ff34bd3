"""Observations as a file of JSON lines, and back: a header with the versions, then one observation a line.

What is recorded is what a snapshot holds: names and numbers. It holds no environment, no command line and no request;
addresses are written without what may stand in them for a password.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from selfhost import __version__
from selfhost.errors import OutputError, SelfhostError
from selfhost.observation import Observation
from selfhost.strict import decode, encode, parse

SCHEMA = "selfhost/recording/v1"
# Ours: some 30 KiB an observation of eight GPUs, so that a week at five seconds ends here rather than on a full disk.
MOST_BYTES = 4 << 30
# Ours: a line of a node with hundreds of MIG instances and processes stays below; a file of another kind ends here.
_LONGEST_LINE_BYTES = 64 << 20


class RecordingError(SelfhostError):
    """A recording that cannot be read, is of another version, or has a line that is not of its form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """First line of a recording: its own version, that of what follows, and of the program that wrote it."""

    schema: str
    selfhost: str
    host: str


class Recorder:
    """Appends observations to a new file, each in one write; a context manager.

    Args:
        path: the file; compressed where its name ends in .gz. One that exists is not touched.
        most_bytes: where to stop; `full` then says so.

    Raises:
        OutputError: the file exists or cannot be written.
    """

    def __init__(self, path: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self.path = path
        self.full = False
        self.written = 0
        self._most_bytes = most_bytes
        self._header = True
        try:
            self._file = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644
            )
        except FileExistsError:
            raise OutputError(
                f"{path} exists already.", hint="Name a file that does not exist yet."
            ) from None
        except OSError as error:
            raise self._refusal(error) from None

    def write(self, observation: Observation) -> bool:
        """Append one observation; False where the file is full and nothing was written.

        Raises:
            OutputError: the disk is full, or the file cannot be written for another reason.
        """
        text = _line(_clean(observation))
        if self._header:
            header = Header(schema=SCHEMA, selfhost=__version__, host=observation.node.host)
            text = _line(header) + text
        # A member of its own for each write: what was written before a crash can be read whatever follows.
        data = gzip.compress(text, compresslevel=6, mtime=0) if self.path.name.endswith(".gz") else text
        if self.full or self.written + len(data) > self._most_bytes:
            self.full = True
            return False
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            raise self._refusal(error) from None
        self._header = False
        self.written += len(data)
        return True

    def close(self) -> None:
        """Finish the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Recorder:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    def _refusal(self, error: OSError) -> OutputError:
        return OutputError(
            f"{self.path} cannot be written: {error.strerror}.", hint="Name another file with --record FILE."
        )


def replay(path: Path, *, on_truncated: Callable[[str], None] | None = None) -> Iterator[Observation]:
    """The observations of a recording, in their order.

    A last line that is cut off, as a recorder leaves it that was killed, ends the recording.

    Args:
        path: the file.
        on_truncated: told, in one sentence, where the end is cut off.

    Raises:
        RecordingError: no such file, another version, or a line that is not an observation; names the line.
    """
    number = 0
    header = False
    for number, line, whole in _lines(path, on_truncated):
        refuse = _refuser(path, number)
        if not whole and (not _is_json(line) or not header):
            if not header:
                raise _refuser(path)("is cut off in its first line")
            break
        data = parse(line, refuse)
        if header:
            observation = decode(Observation, data, "observation", refuse)
            assert isinstance(observation, Observation)
            yield observation
            continue
        if data.get("schema") != SCHEMA:
            raise _refuser(path)(f"is not a {SCHEMA}")
        decode(Header, data, "header", refuse)
        header = True
    else:
        if not header:
            raise _refuser(path)("is empty")
        return
    if on_truncated is not None:
        on_truncated(f"{path} is cut off in line {number}; what stands before it is shown.")


def _lines(path: Path, on_truncated: Callable[[str], None] | None) -> Iterator[tuple[int, str, bool]]:
    """Number, text and wholeness of each line; a compressed file that ends too early ends with its last whole line."""
    refuse = _refuser(path)
    number = 0
    try:
        with _opened(path) as stream:
            while line := stream.readline(_LONGEST_LINE_BYTES):
                number += 1
                if len(line) >= _LONGEST_LINE_BYTES:
                    raise _refuser(path, number)("is longer than any observation")
                yield number, line.decode(), line.endswith(b"\n")
    except EOFError:
        if on_truncated is not None:
            on_truncated(f"{path} is cut off after line {number}; what stands before that is shown.")
    except UnicodeDecodeError:
        raise _refuser(path, number)("is not UTF-8") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise refuse(f"is not a gzip file: {error}") from None
    except OSError as error:
        raise refuse(f"cannot be read: {error.strerror}") from None


def _opened(path: Path) -> io.BufferedIOBase:
    if path.name.endswith(".gz"):
        return gzip.open(path, "rb")
    return path.open("rb")


def _refuser(path: Path, line: int | None = None) -> Callable[[str], SelfhostError]:
    where = f"{path}" if line is None else f"{path}, line {line}"

    def refuse(sentence: str) -> SelfhostError:
        joint = " " if sentence.startswith(("is ", "nests ", "cannot ")) else ": "
        return RecordingError(
            f"{where}{joint}{sentence}.", hint="`selfhost monitor --record FILE` writes a new one."
        )

    return refuse


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _line(value: object) -> bytes:
    text = json.dumps(encode(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace") + b"\n"


def _clean(observation: Observation) -> Observation:
    engines = tuple(
        replace(engine, url=without_credentials(engine.url), name=without_credentials(engine.name))
        for engine in observation.engines
    )
    return replace(observation, engines=engines)


def without_credentials(url: str) -> str:
    """An address without user, password, query and fragment; anything that is no address as it is."""
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return "(an address that cannot be read)"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return f"{parts.scheme}://{host}{port}{parts.path}"

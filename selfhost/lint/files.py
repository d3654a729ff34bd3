"""Paths to texts: files, folders and standard input."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from selfhost.errors import SelfhostError
from selfhost.lint.model import Unread

STDIN = "<stdin>"
_ENDINGS = (".yaml", ".yml", ".json")
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A file's name, as findings give it, and its content.

    Args:
        name: as given, `<stdin>` for standard input.
        content: with its own line ends.
        path: where --fix writes it; None for standard input.
    """

    name: str
    content: str
    path: Path | None = None


def gather(paths: Iterable[str], stdin: BinaryIO | None) -> tuple[tuple[Text, ...], tuple[Unread, ...]]:
    """Read every named file, every YAML and JSON file of a named folder, and standard input for `-`.

    Args:
        paths: as given; a file is read once however often it is named.
        stdin: what `-` reads.

    Raises:
        SelfhostError: there is no such file, or it cannot be opened.
    """
    texts: list[Text] = []
    unread: list[Unread] = []
    seen: set[str] = set()
    for name in paths:
        if name in seen:
            continue
        seen.add(name)
        if name == "-":
            _take(STDIN, stdin.read() if stdin is not None else b"", None, texts, unread)
            continue
        for path in _files(name):
            try:
                content = path.read_bytes()
            except OSError as error:
                raise SelfhostError(f"{path} cannot be read: {error.strerror}.") from error
            _take(str(path), content, path, texts, unread)
    return tuple(texts), tuple(unread)


def _take(name: str, content: bytes, path: Path | None, texts: list[Text], unread: list[Unread]) -> None:
    encoding = next((encoding for mark, encoding in _MARKS if content.startswith(mark)), "utf-8")
    try:
        texts.append(
            Text(name=name, content=content.decode(encoding), path=path if encoding == "utf-8" else None)
        )
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        unread.append(Unread(file=name, line=line, message="not YAML: it is not UTF-8 text"))


def _files(name: str) -> Iterator[Path]:
    path = Path(name)
    if not path.is_dir():
        if not path.exists():
            hint = "Name files or folders that are there, or - for standard input, as behind `helm template CHART |`."
            raise SelfhostError(f"There is no file {name}.", hint=hint)
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(each for each in folders if not each.startswith(".") and each != "node_modules")
        for each in sorted(names):
            if each.endswith(_ENDINGS) and not each.startswith("."):
                yield Path(folder, each)

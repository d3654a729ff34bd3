"""File names from strangers: what a repository may call a file, so that writing it stays inside the destination."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from selfhost.errors import MalformedAnswerError
from selfhost.hub.references import shown
from selfhost.pull.types import LOCK_NAME, WORK_NAME

MAXIMUM_COMPONENT_BYTES = 255  # NAME_MAX of every usual file system
MAXIMUM_PATH_BYTES = 1024  # leaves room for the destination within PATH_MAX, 4,096

_DRIVE = re.compile(r"[A-Za-z]:")
# Folders that mean something to tools beside the weights; a file there would be read as theirs.
_RESERVED = frozenset((".git", WORK_NAME))


def check_name(name: str, *, repo: str) -> str:
    """A file name that stays inside any directory it is joined to, as it is.

    Raises:
        MalformedAnswerError: it climbs out, is absolute, or cannot be a file's name.
    """
    fault = fault_of(name)
    if fault is not None:
        raise MalformedAnswerError(
            f"{repo} lists a file called {shown(name, 80)!r}, which {fault}.",
            hint="nothing was written; do not use this repository, and report it to the Hub.",
        )
    return name


def fault_of(name: str) -> str | None:
    """Why a name is refused, None where it is fine."""
    if not name or not name.isprintable():
        return "is empty or holds control characters"
    if name.startswith("/") or "\\" in name or _DRIVE.match(name):
        return "is an absolute path or a Windows path"
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "leads out of the directory or names nothing"
    if parts[0].lower() in _RESERVED or name.lower() == LOCK_NAME:
        return "stands in the place of selfhost's or git's own files"
    if any(len(part.encode()) > MAXIMUM_COMPONENT_BYTES for part in parts):
        return f"has a part of more than {MAXIMUM_COMPONENT_BYTES} bytes"
    if len(name.encode()) > MAXIMUM_PATH_BYTES:
        return f"is longer than {MAXIMUM_PATH_BYTES:,} bytes"
    return None


def check_collisions(names: Iterable[str], *, repo: str) -> None:
    """Refuse names that one file system takes for the same file, or for a file and a folder at once.

    Raises:
        MalformedAnswerError: two names differ in letter case or Unicode form only, or one is a folder of another.
    """
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name in names:
        key = unicodedata.normalize("NFC", name).casefold()
        if key in files:
            raise _collision(repo, files[key], name)
        files[key] = name
        parts = key.split("/")
        for end in range(1, len(parts)):
            folders.setdefault("/".join(parts[:end]), name)
    for key in files.keys() & folders.keys():
        raise _collision(repo, files[key], folders[key])


def _collision(repo: str, first: str, second: str) -> MalformedAnswerError:
    return MalformedAnswerError(
        f"{repo} lists {shown(first, 80)!r} and {shown(second, 80)!r}, which some file systems cannot keep apart.",
        hint="leave one out with --exclude.",
    )

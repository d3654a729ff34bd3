"""Writing rendered files: all of them or none, and never over a file that selfhost did not write."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from selfhost.errors import OutputError

if TYPE_CHECKING:
    from selfhost.manifests import Manifests

# What the first line of every file that a template makes and of selfhost.pyz holds, and the first lines of a plan.
MARK = "Written by selfhost"
_STAGE = ".selfhost-"  # where files are written before they take their places
_PLAN = "plan.json"
ENGINE_FOLDER = "engine"  # of files that the engine reads, where no ConfigMap brings them
_PLAN_MARK = '"schema": "selfhost/plan/'


def write_manifests(manifests: Manifests, directory: Path) -> tuple[Path, ...]:
    """Write every document into a directory; files of an earlier rendering that are no longer needed go away.

    Args:
        manifests: what `render` gave.
        directory: made if it does not exist.

    Returns:
        Paths of the files, in apply order.

    Raises:
        OutputError: the directory holds files that selfhost did not write, or it cannot be written.
    """
    names = {document.name for document in manifests.documents}
    new = not directory.exists()
    try:
        earlier = _earlier(directory)
        directory.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=_STAGE, dir=directory))
        try:
            for document in manifests.documents:
                (stage / document.name).parent.mkdir(parents=True, exist_ok=True)
                (stage / document.name).write_bytes(document.content)
            for document in manifests.documents:
                (directory / document.name).parent.mkdir(parents=True, exist_ok=True)
                (stage / document.name).replace(directory / document.name)
            for path in earlier:
                if path.relative_to(directory).as_posix() not in names:
                    path.unlink(missing_ok=True)
                    _remove_empty(path.parent, directory)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    except OSError as error:
        if new:
            with contextlib.suppress(OSError):
                directory.rmdir()
        raise OutputError(f"Cannot write {directory}: {error.strerror or error}.") from None
    return tuple(directory / document.name for document in manifests.documents)


def _earlier(directory: Path) -> tuple[Path, ...]:
    """Files of an earlier rendering; refuses a directory that holds anything else."""
    if not directory.exists():
        return ()
    if not directory.is_dir():
        raise OutputError(f"{directory} is not a directory.", hint="Name another one with -o.")
    found = sorted(directory.iterdir())
    for path in found:
        if path.name.startswith(_STAGE) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)  # of a rendering that was killed
    found = [path for path in found if path.is_symlink() or path.exists()]
    found = [one for path in found for one in _files(path)]
    kept = _engine_files(directory)
    foreign = [path.relative_to(directory).as_posix() for path in found if not _is_ours(path, kept)]
    if foreign:
        raise OutputError(
            f"{directory} holds {foreign[0]!r}, which selfhost did not write.",
            hint="Name a new or an empty directory with -o.",
        )
    return tuple(found)


def _files(path: Path) -> list[Path]:
    """A file, or those in a folder; an empty folder and a link stand for themselves."""
    if path.is_symlink() or not path.is_dir():
        return [path]
    return [one for below in sorted(path.iterdir()) for one in _files(below)] or [path]


def _remove_empty(folder: Path, root: Path) -> None:
    """Remove a folder that nothing is left in, and those around it."""
    while folder != root:
        try:
            folder.rmdir()
        except OSError:  # something is in it
            return
        folder = folder.parent


def _engine_files(directory: Path) -> frozenset[str]:
    """Texts of the engine's own files, which have no line to spare for a mark: the plan beside them holds them too."""
    try:
        plan = json.loads((directory / _PLAN).read_text(encoding="utf-8"))
        return frozenset(one["text"] for one in plan["engine"]["files"])
    except (OSError, ValueError, LookupError, TypeError):
        return frozenset()


def _is_ours(path: Path, kept: frozenset[str]) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    if path.parent.name == ENGINE_FOLDER and path.read_bytes().decode("utf-8", "replace") in kept:
        return True
    with path.open("rb") as file:
        head = file.read(400).decode("utf-8", "replace")
    return MARK in head.partition("\n")[0] or (path.suffix == ".json" and _PLAN_MARK in head)

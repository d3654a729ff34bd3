"""Check pulled files against their lock file, offline, byte by byte."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from selfhost.cli._options import AT_LEAST, json_option
from selfhost.cli._output import emit_json, facts, headline, next_step, table

if TYPE_CHECKING:
    from selfhost.pull.types import Lock
    from selfhost.pull.verify import Fault


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--processes",
    type=AT_LEAST[1],
    metavar="N",
    help="How many hash at once.  [default: one a processor, at most 8]",
)
@json_option
def command(directory: Path, processes: int | None, as_json: bool) -> int:
    """Hash every file that DIR's selfhost.lock.json names, and check tensor headers and the index.

    DIR is what `selfhost pull --dir` filled, or a snapshot in the Hub's cache. Nothing is asked from the network and
    nothing is changed. Exit code 5: something is not as the lock file says.
    """
    from selfhost.pull.lockfile import read_lock
    from selfhost.pull.progress import Progress
    from selfhost.pull.types import LOCK_NAME
    from selfhost.pull.verify import extra_files, hashers, verify

    root = directory.parent if directory.name == LOCK_NAME else directory
    lock = read_lock(root / LOCK_NAME)
    out = None if sys.stderr is None or (as_json and not sys.stderr.isatty()) else sys.stderr
    with hashers(lock, processes) as pool, Progress(lock.total_bytes, out, verb="checked") as progress:
        faults = verify(root, lock, pool=pool, report=lambda _, size: progress.got(size))
    extra = extra_files(root, lock)
    if as_json:
        emit_json("verify", _facts(root, lock, faults, extra))
    else:
        _show(root, lock, faults, extra)
    return 5 if faults else 0


def _show(root: Path, lock: Lock, faults: tuple[Fault, ...], extra: tuple[str, ...]) -> None:
    from selfhost.cli._pull_output import reference_of
    from selfhost.hub.directory import cache_root
    from selfhost.licence import sentence
    from selfhost.units import size_text

    if faults:
        headline(
            f"{root}: {len(faults)} of {len(lock.files)} files {'is' if len(faults) == 1 else 'are'} "
            "not as the lock file says.",
            good=False,
        )
        click.echo()
        table(
            (("file", "left"), ("what is wrong", "left")),
            [(fault.path, fault.message) for fault in faults[:40]],
        )
        where = "" if cache_root(root) else f" --dir {shlex.quote(str(root))}"
        next_step(
            f"selfhost pull {shlex.quote(reference_of(lock))}{where}", "brings what is missing or wrong"
        )
        return
    headline(f"{root}: all {len(lock.files)} files are right, {size_text(lock.total_bytes)}.", good=True)
    click.echo()
    rows = {
        "model": f"{lock.repo} at {lock.revision}",
        "pulled": lock.created,
        "licence": sentence(lock.licence),
    }
    if extra:
        rows["not checked"] = f"{len(extra)} files that the lock file does not name, such as {extra[0]}"
    facts(rows)


def _facts(root: Path, lock: Lock, faults: tuple[Fault, ...], extra: tuple[str, ...]) -> dict[str, object]:
    return {
        "directory": str(root),
        "repo": lock.repo,
        "revision": lock.revision,
        "ok": not faults,
        "files": len(lock.files),
        "total_bytes": lock.total_bytes,
        "faults": [{"path": fault.path, "message": fault.message} for fault in faults],
        "extra": list(extra),
    }

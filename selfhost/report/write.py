"""A page -> files: HTML in one, Markdown with its pictures beside it, PDF."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from selfhost.errors import OutputError, UsageError

Format = Literal["html", "md", "pdf"]
FORMATS: tuple[Format, ...] = ("html", "md", "pdf")
_SUFFIXES: dict[str, Format] = {
    ".html": "html", ".htm": "html", ".md": "md", ".markdown": "md", ".pdf": "pdf",
}  # fmt: skip


def format_of(output: Path, named: str | None) -> Format:
    """The format that is meant.

    Args:
        output: `-` is standard output.
        named: what `--format` says, None for nothing.

    Raises:
        UsageError: the suffix says nothing, or a PDF is to go to standard output.
    """
    found = next((one for one in FORMATS if one == named), None) or _SUFFIXES.get(output.suffix.lower())
    if found is None:
        raise UsageError(
            f"{str(output)!r} does not say which format.",
            hint="End it in .html, .md or .pdf, or name one with --format.",
        )
    if found == "pdf" and str(output) == "-":
        raise UsageError("A PDF is not for a terminal.", hint="Name a file with -o.")
    return found


def write_files(files: dict[Path, bytes]) -> None:
    """Write every file in one step each: a reader sees the old one or the new one.

    Raises:
        OutputError: one cannot be written.
    """
    from tempfile import NamedTemporaryFile

    for path, data in files.items():
        temporary: str | None = None
        try:
            if path.exists() and not path.is_file() and not path.is_dir():  # a pipe, /dev/stdout
                path.write_bytes(data)
                continue
            target = path.resolve()
            target.parent.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=target.parent, prefix=".report-", delete=False) as file:
                temporary = file.name
                file.write(data)
            os.chmod(temporary, 0o644)
            os.replace(temporary, target)
        except OSError as error:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
            raise OutputError(f"Cannot write {path}: {error.strerror or error}.") from None

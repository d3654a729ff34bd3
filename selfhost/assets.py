"""Finds templates/ in a wheel, an sdist, an editable install and a checkout.

A wheel carries the folder as selfhost/_assets/templates (pyproject.toml); elsewhere it lies beside the package.
"""

from __future__ import annotations

from pathlib import Path

from selfhost.errors import OutputError

_PACKAGE = Path(__file__).parent
_PLACES = (_PACKAGE / "_assets", _PACKAGE.parent)
# What people read is no target: selfhost/report fills these in.
_PAGES = frozenset({"report"})


def asset_dir(name: str) -> Path:
    """The folder of that name (`templates`).

    Raises:
        OutputError: the installation lacks it.
    """
    for place in _PLACES:
        if (place / name).is_dir():
            return place / name
    raise OutputError(f"This installation of selfhost lacks its {name} folder.", hint="Install it again.")


def targets() -> tuple[str, ...]:
    """Names of the output targets: the folders of templates/ but those of pages for people."""
    folders = (path for path in asset_dir("templates").iterdir() if path.is_dir())
    return tuple(sorted(path.name for path in folders if path.name not in _PAGES))

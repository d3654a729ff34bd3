"""Files of a rendering that are no Kubernetes objects: a Compose file, values of a chart, units of systemd."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selfhost.diff.load import Plain

UNIT, COMPOSE, VALUES = "systemd unit", "Compose file", "values file"
# Files that start what serves, so that a change of one is a restart.
STARTS = (UNIT, COMPOSE)


def kind_of(name: str) -> str | None:
    """What a file of that name is, None where it is none of these."""
    file = Path(name).name
    if file.endswith(".service"):
        return UNIT
    if file in ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"):
        return COMPOSE
    return VALUES if file.endswith("values.yaml") else None


def units(folder: Path) -> dict[str, str]:
    """Texts of the units in a folder, by their names; a file of another encoding is left out."""
    found = {}
    for path in sorted(folder.glob("*.service")) if folder.is_dir() else ():
        try:
            found[path.name] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
    return found


def unit(text: str) -> dict[str, Plain]:
    """Sections of a unit, and what each setting is given; a line that ends in a backslash goes on."""
    sections: dict[str, Plain] = {}
    current: dict[str, Plain] = {}
    for line in text.replace("\\\n", " ").splitlines():
        stripped = line.strip()
        if stripped.startswith("[") and stripped.endswith("]"):
            current = {}
            sections[stripped[1:-1]] = current
        elif stripped and stripped[0] not in "#;":
            name, _, value = stripped.partition("=")
            before = current.setdefault(name.strip(), [])
            if isinstance(before, list):
                before.append(" ".join(value.split()))
    return sections

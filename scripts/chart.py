"""Write charts/selfhost, the chart that `selfhost render --target helm` writes too; --check says when it is stale."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import click

from selfhost.manifests.chart import chart_files

ROOT = Path(__file__).parent.parent
CHART = ROOT / "charts/selfhost"


def content(path: str, data: bytes) -> object:
    """What is compared: an archive by what is in it, as zlib's bytes differ between its releases."""
    if not path.endswith(".pyz"):
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def stale(folder: Path = CHART) -> list[str]:
    """Paths in the chart that are not as they would be written."""
    wanted = {path: content(path, data) for path, data in chart_files().items()}
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    found = {path: content(path, file.read_bytes()) for path, file in files.items()}
    return sorted(path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path))


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail when the chart is out of date.")
def main(check: bool) -> None:
    """Write the chart."""
    changed = stale()
    if check:
        if changed:
            print("\n".join(f"charts/selfhost/{path}" for path in changed))
            sys.exit("Out of date: `make docs` writes the chart again.")
        return
    files = chart_files()
    for path in changed:
        where = CHART / path
        if path in files:
            where.parent.mkdir(parents=True, exist_ok=True)
            where.write_bytes(files[path])
            print(f"wrote charts/selfhost/{path}")
        else:
            where.unlink()
            print(f"removed charts/selfhost/{path}")


if __name__ == "__main__":
    main()

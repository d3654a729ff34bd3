"""List the inference engines, their releases and their images."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from selfhost.cli._options import DEFAULT_ENGINE, json_option
from selfhost.cli._output import emit_json, headline, next_step, table

if TYPE_CHECKING:
    from selfhost.engines import Engine, EngineVersion


def _images(engine: Engine, version: EngineVersion) -> dict[str, str]:
    """The images that are published, by platform."""
    from selfhost.catalog.accelerators import PLATFORMS
    from selfhost.errors import UnsupportedError

    found: dict[str, str] = {}
    for platform in PLATFORMS:
        with suppress(UnsupportedError):
            found[platform] = engine.image(version, platform).reference
    return found


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List the inference engines with the releases that selfhost knows, which --engine NAME@VERSION takes."""
    from selfhost.engines import engine_names, get_engine, parse_engine, spelled

    found = []
    for name in engine_names():
        engine = get_engine(name)
        version = parse_engine(name)
        found.append(
            {
                "name": name,
                "default_version": version.text,
                "oldest": spelled(engine, engine.oldest),
                "newest": spelled(engine, engine.newest),
                "images": _images(engine, version),
                "port": engine.port,
                "health_path": engine.health_path,
                "metrics_path": engine.metrics_path,
            }
        )
    if as_json:
        emit_json("engines", {"engines": found})
        return
    headline(
        f"{len(found)} engine{'' if len(found) == 1 else 's'}; the default is what --engine NAME alone means."
    )
    click.echo()
    table(
        (("engine", "left"), ("default", "left"), ("knows", "left"), ("on", "left"), ("image", "left")),
        [
            (
                str(row["name"]) if first else "",
                str(row["default_version"]) if first else "",
                f"{row['oldest']} to {row['newest']}" if first else "",
                platform,
                image,
            )
            for row in found
            for first, (platform, image) in zip(
                itertools.chain((True,), itertools.repeat(False)),
                row["images"].items(),  # type: ignore[attr-defined]
                strict=False,
            )
        ],
    )
    newest = next(row["newest"] for row in found if row["name"] == DEFAULT_ENGINE)
    next_step(f"selfhost size Qwen/Qwen3-32B --engine {DEFAULT_ENGINE}@{newest}", "size for a release")

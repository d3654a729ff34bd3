"""List the bundled models, which need no network."""

from __future__ import annotations

import click

from selfhost.cli._options import json_option
from selfhost.cli._output import emit_json, headline, next_step, table


@click.command()
@click.argument("query", nargs=-1)
@click.option(
    "--architectures", "by_class", is_flag=True, help="List the model classes that selfhost can size instead."
)
@json_option
def command(query: tuple[str, ...], by_class: bool, as_json: bool) -> None:
    """List the bundled models, current ones first; QUERY keeps those that hold all its words.

    The words may be part of an id or alias, a family, a modality (text, vision, audio, omni, embedding, reranker), a
    licence or a status (current, earlier, legacy).
    """
    if by_class:
        _architectures(query, as_json)
        return
    from dataclasses import asdict

    from selfhost.catalog.models import models, suggestion
    from selfhost.errors import ModelNotFoundError

    words = " ".join(query)
    found = models(words)
    if not found:
        raise ModelNotFoundError(f"No bundled model holds {words!r}.", hint=_sentence(suggestion(words)))
    if as_json:
        emit_json("models", {"models": [asdict(entry) for entry in found]})
        return
    noun = "model" if len(found) == 1 else "models"
    headline(f"{len(found)} bundled {noun}; any other by its Hub id, a directory or a GGUF file.")
    click.echo()
    table(
        (
            ("id", "left"),
            ("parameters", "right"),
            ("released", "left"),
            ("takes", "left"),
            ("status", "left"),
        ),
        (
            (
                entry.id,
                "–" if entry.parameters is None else f"{entry.parameters / 1e9:,.2f} B",
                entry.released or "–",
                entry.modality,
                entry.status,
            )
            for entry in found
        ),
        wrap=0,
    )
    next_step(f"selfhost size {found[0].id}", "what it needs")


def _architectures(query: tuple[str, ...], as_json: bool) -> None:
    from selfhost.model.families import architectures

    found = [name for name in architectures() if all(word.lower() in name.lower() for word in query)]
    if as_json:
        emit_json("architectures", {"architectures": found})
        return
    headline(f"{len(found)} model classes, as config.json names them under `architectures`.")
    click.echo()
    for name in found:
        click.echo(f"  {name}")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]

"""List the bundled models, which need no network."""

from __future__ import annotations

import click

from selfhost.cli._options import json_option
from selfhost.cli._output import emit_json, headline, next_step, table


@click.command()
@click.argument("query", nargs=-1)
@json_option
def command(query: tuple[str, ...], as_json: bool) -> None:
    """List the bundled models, current ones first; QUERY keeps those that hold all its words.

    The words may be part of an id or alias, a family, a modality (text, vision, audio, omni, embedding, reranker), a
    licence or a status (current, earlier, legacy).
    """
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
    headline(f"{len(found)} bundled models; any other by its Hub id, a directory or a GGUF file.")
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


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]

"""Advise which way to go: open or closed models, private or cloud."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from selfhost.cli._options import NamedPath, json_option

if TYPE_CHECKING:
    from selfhost.advise import Advice, Answers, Language
    from selfhost.advise.onward_types import Onward


@click.command()
@click.option(
    "--answers", "file", metavar="FILE", type=click.Path(dir_okay=False, allow_dash=True),
    help="Answers in YAML, TOML or JSON; - for the standard input. Without it, questions are asked.",
)  # fmt: skip
@click.option(
    "--set", "given", multiple=True, metavar="KEY=VALUE", help="One answer, over those of the file; repeat."
)
@click.option(
    "--lang",
    type=click.Choice(("en", "zh")),
    default="en",
    help="Language of questions and answers.  [default: en]",
)
@click.option(
    "--list-questions", "listing", flag_value="questions", help="Show every key of an answers file."
)
@click.option("--template", "listing", flag_value="template", help="Print an answers file to fill in.")
@click.option("--rules", "listing", flag_value="rules", help="Show every rule, by number.")
@click.option(
    "--cases", "listing", flag_value="cases", help="Show the worked cases with their totals and break-evens."
)
@click.option(
    "--onward/--no-onward", default=True, help="Go on to models, GPUs, speed and cost.  [default: on]"
)
@click.option(
    "--save", type=NamedPath(dir_okay=False, path_type=Path), metavar="FILE", help="Write the answers down."
)
@click.option(
    "-o", "--output", type=NamedPath(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write the advice as JSON, as `selfhost report --advice` reads it.",
)  # fmt: skip
@json_option
def command(
    file: str | None,
    given: tuple[str, ...],
    lang: Language,
    listing: str | None,
    onward: bool,
    save: Path | None,
    output: Path | None,
    as_json: bool,
) -> int:
    """Choose between open and closed models, private and cloud, by rules that give their reasons.

    On a terminal it asks; what was asked can be answered from a file, and nothing has to be answered. It names the path
    (open-private, open-cloud, closed-private, closed-cloud, hybrid or hosted-open), why, what contradicts, the pitfalls
    on that path and what it would still have to know; then concrete models, GPUs, speed and cost.
    """
    from selfhost.advise import advise, wished
    from selfhost.cli import _advice_lists, _advice_output
    from selfhost.cli._advice_answers import ask, read, saved

    if listing is not None:
        _advice_lists.show(listing, lang, as_json=as_json)
        return 0
    answers = read(file, given)
    if file is None and not given and not as_json:
        answers = ask(lang)
    advice = advise(answers, language=lang, to_cny=_to_cny)
    found = _onward(answers, advice, lang, output) if onward else None
    facts = _advice_output.as_facts(answers, advice, wished(answers), found, lang)
    if save is not None:
        saved(answers, save)
    if output is not None:
        _write(output, facts)
    if as_json:
        from selfhost.cli._output import emit_json

        emit_json("advice", facts)
        return 0
    _advice_output.show(advice, wished(answers), found, lang)
    return 0


def _to_cny(amount: float, currency: str) -> float | None:
    """An amount in CNY at the catalogue's rate."""
    from selfhost.catalog.prices import load_prices

    return amount * load_prices().fx(currency, "CNY").typical


def _onward(answers: Answers, advice: Advice, lang: Language, output: Path | None) -> Onward:
    """What the path goes on with, as of now."""
    from datetime import datetime

    from selfhost.advise.onward import go_on
    from selfhost.catalog.prices import load_prices
    from selfhost.cli._advice_bill import bill
    from selfhost.cli._planning import now
    from selfhost.cli._sizing import understand

    when = datetime.fromisoformat(now())
    return go_on(
        answers,
        advice,
        language=lang,
        load=understand,
        prices=load_prices(),
        when=when,
        advice_file=None if output is None else str(output),
        bill=bill,
    )


def _write(path: Path, facts: dict[str, object]) -> None:
    import json

    from selfhost.errors import OutputError

    text = json.dumps(
        {"schema": "selfhost/advice/v1", **facts}, indent=2, ensure_ascii=False, allow_nan=False
    )
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from None

"""List the licences that are known, or what one permits and asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from selfhost.cli._licence import complete_licence
from selfhost.cli._options import json_option
from selfhost.cli._output import emit_json, facts, headline, next_step, say, table
from selfhost.errors import LicenceError

if TYPE_CHECKING:
    from selfhost.catalog.licences import Licence

WORDS = {"yes": "yes", "conditional": "conditional", "no": "no", "unknown": "read it"}
KNOWN_BY = {
    "text": "text", "classification": "audit", "secondary": "reports", "knowledge": "unread", "name": "name",
}  # fmt: skip


@click.command()
@click.argument("query", nargs=-1, shell_complete=complete_licence)
@json_option
def command(query: tuple[str, ...], as_json: bool) -> None:
    """List the licences of models, with what each asks for; QUERY keeps what holds all its words.

    A QUERY that means one licence (its id, or what a model card calls it) shows everything known of it: what it
    permits, every obligation, and how sure that is. Not legal advice.
    """
    words = " ".join(query)
    chosen = select(words)
    if not chosen:
        raise LicenceError(
            f"No licence in the catalogue holds {words[:80]!r}.",
            hint="`selfhost licences` lists all of them.",
        )
    if as_json:
        emit_json("licences", {"licences": [as_facts(licence) for licence in chosen]})
    elif len(chosen) == 1:
        show(chosen[0])
    else:
        headline(f"{len(chosen)} licences of models. Not legal advice: read the one you depend on.")
        click.echo()
        table(
            (("id", "left"), ("commercial", "left"), ("known by", "left"), ("asks for", "left")),
            (
                (licence.id, WORDS[licence.commercial], KNOWN_BY[licence.verification], asks(licence))
                for licence in chosen
            ),
        )
        next_step(f"selfhost licences {chosen[0].id}", "everything known of one")


def asks(licence: Licence) -> str:
    """Its terms for a column beside the one that says whether commercial use is permitted."""
    return ", ".join(term for term in licence.terms if term != "non-commercial") or "–"


def select(words: str) -> tuple[Licence, ...]:
    """The licences that words mean: all, the one they name, or those that hold them."""
    from selfhost.catalog.licences import find_licence, licences

    if not words:
        return licences()
    named = find_licence(words)
    if named is not None:
        return (named,)
    return tuple(one for one in licences() if all(word in _haystack(one) for word in words.lower().split()))


def _haystack(licence: Licence) -> str:
    parts = (
        licence.id,
        licence.name,
        licence.maker,
        licence.examples or "",
        licence.commercial,
        licence.verification,
    )
    return " ".join((*parts, *licence.hub_ids, *licence.hub_names, *licence.terms)).lower()


def as_facts(licence: Licence) -> dict[str, object]:
    """One licence as an object of `selfhost/licences/v1`."""
    return {
        "id": licence.id,
        "name": licence.name,
        "maker": licence.maker,
        "permits": {
            "commercial": licence.commercial,
            "internal": licence.internal,
            "research": licence.research,
        },
        "obligations": list(licence.obligations),
        "terms": list(licence.terms),
        "monthly_users_limit": licence.users,
        "yearly_revenue_limit_usd": licence.revenue_usd,
        "hosting_clause": licence.hosting,
        "excluded_regions": list(licence.excluded_regions),
        "display": licence.display,
        "registration": licence.registration,
        "acceptable_use": licence.acceptable_use,
        "outputs": licence.outputs,
        "osi_approved": licence.osi,
        "hub_ids": list(licence.hub_ids),
        "hub_names": list(licence.hub_names),
        "examples": licence.examples,
        "verification": licence.verification,
        "evidence": licence.evidence,
        "source": licence.source,
        "checked": licence.checked,
        "notes": licence.notes,
    }


def show(licence: Licence) -> None:
    """Print everything known of one licence."""
    from selfhost.catalog.licences import HOW_SURE

    headline(f"{licence.name}: {_headline(licence)}")
    click.echo()
    rows = {
        "id": licence.id,
        "commercial": WORDS[licence.commercial],
        "internal": WORDS[licence.internal],
        "research": WORDS[licence.research],
        "users": f"more is asked above {licence.users:,} a month" if licence.users else "",
        "revenue": f"more is asked above {licence.revenue_usd:,} USD a year" if licence.revenue_usd else "",
        "regions": f"not in {', '.join(licence.excluded_regions)}" if licence.excluded_regions else "",
        "open source": "a licence that the Open Source Initiative approves" if licence.osi else "no",
        "models": licence.examples or "",
        "on the Hub": _names(licence),
        "source": f"{licence.source} ({licence.checked})",
        "how sure": f"{HOW_SURE[licence.verification]}: {licence.evidence}",
        "note": licence.notes or "",
    }
    facts({name: value for name, value in rows.items() if value})
    if licence.obligations:
        click.echo()
        say("What has to be done or kept:")
        for obligation in licence.obligations:
            say(f"- {obligation}")
    use = "research" if licence.commercial == "no" else "commercial"
    accept = f" --accept-licence {licence.id}" if licence.commercial == "conditional" else ""
    next_step(f"selfhost plan MODEL --use {use}{accept}", "judge a model that has it")


def _headline(licence: Licence) -> str:
    said = {
        "yes": "permits commercial use.",
        "conditional": "permits commercial use under conditions.",
        "no": "does not permit commercial use.",
        "unknown": "nothing says that it permits anything; read it.",
    }
    return said[licence.commercial]


def _names(licence: Licence) -> str:
    ids = [f"license: {name}" for name in licence.hub_ids]
    return ", ".join((*ids, *(f"license_name: {name}" for name in licence.hub_names)))

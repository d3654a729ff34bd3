"""The licence catalogue: what each model licence permits and asks for, read from licences.toml, one table at a time.

Only the tables that are asked for are parsed: judging one model pays for one.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pkgutil import get_data
from typing import Any, Literal

Permission = Literal["yes", "conditional", "no", "unknown"]
Verification = Literal["text", "classification", "secondary", "knowledge", "name", "none"]

# How a row of the catalogue is known, for people; `none` is no row.
HOW_SURE: dict[Verification, str] = {
    "text": "its text or official page was read",
    "classification": "an audit read its text",
    "secondary": "reported by others, its text was not read",
    "knowledge": "from general knowledge, its text was not read",
    "name": "guessed from its name, its text was not read",
    "none": "not in the catalogue",
}
UNSAID = ("other", "unknown")  # what a card's `license` says where it says nothing

_FILE = "licences.toml"
_TABLE = re.compile(r'^\["([a-z0-9.-]+)"\]$', re.MULTILINE)
_LIST = re.compile(r"^(hub|names|links|owners) = \[(.*)\]$", re.MULTILINE)
_SPACES = re.compile(r"[\s_]+")
_ENDING = re.compile(r"-(?:license|licence)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """One licence. Not legal advice.

    Args:
        id: what `--accept-licence` takes.
        name: name for people.
        maker: who grants it, and whom to ask for another one.
        commercial: whether it permits commercial use.
        internal: whether it permits a company's own use, which offers the model to nobody.
        research: whether it permits research.
        hub_ids: values of `license` on the Hub that mean it.
        hub_names: values of `license_name` that mean it.
        links: beginnings of `license_link` (host and path) that mean it.
        owners: accounts whose repositories mean it, where several licences go by one name.
        users: monthly active users from which it asks for more, None without such a limit.
        revenue_usd: yearly revenue from which it asks for more, None without such a limit.
        hosting: it has clauses for who offers the model to others as a service.
        excluded_regions: where it does not apply.
        display: what has to be shown, None where nothing has.
        registration: the use has to be registered or notified.
        acceptable_use: it has a list of uses that are not permitted.
        outputs: what it says about outputs, None where it says nothing.
        osi: the Open Source Initiative approves it.
        terms: the obligations in a few words each, for tables.
        obligations: what has to be done or kept, one sentence each, most important first.
        examples: models that have it.
        verification: how the row is known; see `HOW_SURE`.
        evidence: from what.
        source: page where the terms stand.
        checked: day on which that was read, YYYY-MM-DD.
        notes: what else to know.
    """

    id: str
    name: str
    maker: str
    commercial: Permission
    internal: Permission
    research: Permission
    hub_ids: tuple[str, ...]
    hub_names: tuple[str, ...]
    links: tuple[str, ...]
    owners: tuple[str, ...]
    users: int | None
    revenue_usd: int | None
    hosting: bool
    excluded_regions: tuple[str, ...]
    display: str | None
    registration: bool
    acceptable_use: bool
    outputs: str | None
    osi: bool
    terms: tuple[str, ...]
    obligations: tuple[str, ...]
    examples: str | None
    verification: Verification
    evidence: str
    source: str
    checked: str
    notes: str | None


@cache
def _index() -> dict[str, tuple[str, dict[str, tuple[str, ...]]]]:
    """Id -> (its table as text, its lists of names), without parsing TOML."""
    text = (get_data("selfhost.catalog", _FILE) or b"").decode()  # also out of selfhost.pyz
    heads = list(_TABLE.finditer(text))
    index: dict[str, tuple[str, dict[str, tuple[str, ...]]]] = {}
    for number, head in enumerate(heads):
        end = heads[number + 1].start() if number + 1 < len(heads) else len(text)
        table = text[head.end() : end]
        lists = {
            found[1]: tuple(name.strip(' "') for name in found[2].split(",") if name.strip())
            for found in _LIST.finditer(table)
        }
        index[head[1]] = (table, lists)
    return index


@cache
def _load(licence_id: str) -> Licence:
    import tomllib

    table = tomllib.loads(_index()[licence_id][0])
    commercial: Permission = table["commercial"]
    return Licence(
        id=licence_id,
        name=table["name"],
        maker=table["maker"],
        commercial=commercial,
        internal=table.get("internal", commercial),
        research=table.get("research", _research(table)),
        hub_ids=tuple(table["hub"]),
        hub_names=tuple(table["names"]),
        links=tuple(table["links"]),
        owners=tuple(table.get("owners", ())),
        users=table.get("users"),
        revenue_usd=table.get("revenue_usd"),
        hosting=table.get("hosting", False),
        excluded_regions=tuple(table.get("regions", ())),
        display=table.get("display"),
        registration=table.get("registration", False),
        acceptable_use=table.get("acceptable_use", False),
        outputs=table.get("outputs"),
        osi=table.get("osi", False),
        terms=_terms(table),
        obligations=tuple(table["obligations"]),
        examples=table.get("examples"),
        verification=table["verification"],
        evidence=table["evidence"],
        source=table["source"],
        checked=table["checked"],
        notes=table.get("notes"),
    )


def _research(table: dict[str, Any]) -> Permission:
    """A non-commercial licence is there for research, unless a list of uses binds researchers too."""
    commercial: Permission = table["commercial"]
    if commercial == "no":
        return "conditional" if table.get("acceptable_use") else "yes"
    return commercial


def _terms(table: dict[str, Any]) -> tuple[str, ...]:
    found = [
        "non-commercial" if table["commercial"] == "no" else "",
        "attribution" if "display" in table else "",
        f"{_short(table['users'])} users" if "users" in table else "",
        f"{_short(table['revenue_usd'])} USD a year" if "revenue_usd" in table else "",
        "hosting for others" if table.get("hosting") else "",
        f"not in {', '.join(table['regions'])}" if "regions" in table else "",
        "registration" if table.get("registration") else "",
        "acceptable use" if table.get("acceptable_use") else "",
        "output use" if "outputs" in table else "",
        "notice" if table.get("notice") else "",
        "share alike" if table.get("share_alike") else "",
        *table.get("also", ()),
    ]
    return tuple(term for term in found if term)


def _short(number: int) -> str:
    """700 M, 10 bn."""
    return f"{number / 1e9:g} bn" if number >= 10**9 else f"{number / 1e6:g} M"


def licence_ids() -> tuple[str, ...]:
    """Ids of all licences, sorted; parses nothing."""
    return tuple(_index())


def licences() -> tuple[Licence, ...]:
    """All licences of the catalogue, sorted by id."""
    return tuple(_load(licence_id) for licence_id in _index())


def normal(name: str) -> str:
    """A licence's name as the catalogue spells it: lower case, dashes for spaces and underscores."""
    return _SPACES.sub("-", name.strip().lower())


def find_licence(name: str) -> Licence | None:
    """The licence of an id, a Hub id or a licence name that means one licence, None for any other."""
    found = _named(normal(name), owners=())
    return found[0] if len(found) == 1 else None


def of_id(declared: str, *, owners: Collection[str] = ()) -> tuple[Licence, ...]:
    """The licences that a card's `license` or `license_name` may mean: none, one, or several of one name.

    Args:
        declared: what the card says.
        owners: accounts that the repository or its link belong to, which decide where licences share a name.
    """
    return _named(normal(declared), owners=owners)


def of_link(link: str) -> Licence | None:
    """The licence that a card's `license_link` leads to, None where the address is not known."""
    address = address_of(link)
    if address is None:
        return None
    best, length = None, 0
    for licence_id, (_, lists) in _index().items():
        for start in lists["links"]:
            if address.startswith(start) and len(start) > length:
                best, length = licence_id, len(start)
    return None if best is None else _load(best)


def address_of(link: str) -> str | None:
    """Host and path of a web address in lower case, ending in a slash; None where it is none."""
    match = re.match(r"https?://(?:www\.)?([a-z0-9.-]+)(/[^?#\s]*)?(?:[?#]|$)", link.strip().lower())
    return None if match is None else f"{match[1]}{(match[2] or '').rstrip('/')}/"


def _named(name: str, *, owners: Collection[str]) -> tuple[Licence, ...]:
    if not name or name in UNSAID:
        return ()
    index = _index()
    for spelling in dict.fromkeys((name, _ENDING.sub("", name), f"{name}-license")):
        found = [
            licence_id
            for licence_id, (_, lists) in index.items()
            if spelling == licence_id or spelling in lists["hub"] or spelling in lists["names"]
        ]
        if found:
            return _owned(found, owners)
    return ()


def _owned(ids: list[str], owners: Collection[str]) -> tuple[Licence, ...]:
    """Of licences with one name those of the owners, else those that belong to nobody, else all."""
    index = _index()
    theirs = [one for one in ids if set(index[one][1].get("owners", ())) & set(owners)]
    nobodys = [one for one in ids if not index[one][1].get("owners")]
    return tuple(_load(one) for one in theirs or nobodys or ids)

"""judge(): a declaration is looked up in the catalogue, by id, name and link, together with that of its base model."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from selfhost.errors import LicenceError
from selfhost.licence.types import Declared, Gate, Permission, Use, Verdict
from selfhost.licence.words import accept_id

if TYPE_CHECKING:
    from selfhost.catalog.licences import Licence

_STRICTNESS: dict[Permission, int] = {"yes": 0, "conditional": 1, "unknown": 2, "no": 3}
_LONGEST_TEXT = 320
_HUB_OWNER = re.compile(r"huggingface\.co/([^/]+)/[^/]")


def strictness(declared: Declared, *, use: Use | None, repo: str | None) -> int:
    """How much a declaration forbids, to compare several: 0 permits, 1 under conditions, 2 unknown, 3 forbids."""
    found = _Found.of(declared, use, repo)
    return _STRICTNESS[_permission(found.rows[0], use) if found.rows else "unknown"]


def judge(
    declared: Declared,
    *,
    use: Use | None = None,
    accepted: Collection[str] = (),
    repo: str | None = None,
    base: Declared | None = None,
    base_repo: str | None = None,
) -> Verdict:
    """What a licence means for a use.

    The card's id, name and link are looked up in the catalogue, and of several the strictest counts. The licence of the
    model it was made from counts where it is stricter, or where nothing is declared.

    Args:
        declared: what the repository says.
        use: the intended use; `internal` is a company's own use, which non-commercial licences do not permit.
        accepted: ids of licences whose terms the user has read and meets, as given with `--accept-licence`.
        repo: the repository, which decides where makers share a licence's name, and on the openness.
        base: what the base model whose licence binds most says, where somebody looked (`selfhost.hub.lineage`).
        base_repo: its repository; the first of `declared.base_models` where it is not named.

    Raises:
        LicenceError: something was accepted that is not the model's licence.
    """
    found = _Found.of(declared, use, repo)
    if base is not None:
        found = _with_base(found, base, base_repo or next(iter(declared.base_models), None), use)
    verdict = _verdict(found, declared, use, repo)
    if declared.eu_excluded or (base is not None and base.eu_excluded):
        verdict = _without_eu(verdict)
    verdict = replace(verdict, obligations=verdict.obligations + _gate_asks(declared.gate))
    return replace(verdict, accepted=_is_accepted(verdict, found, accepted, repo)) if accepted else verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What the catalogue knows of a declaration.

    Args:
        rows: the licences that apply, the strictest first; none where it is unknown.
        silent: nothing was declared at all.
        notes: how it was found.
    """

    rows: tuple[Licence, ...]
    silent: bool
    notes: tuple[str, ...]

    @classmethod
    def of(cls, declared: Declared, use: Use | None, repo: str | None) -> _Found:
        from selfhost.catalog.licences import UNSAID, of_id, of_link

        owners = _owners(declared.link, repo)
        notes: list[str] = []
        rows: list[Licence] = []
        for said in dict.fromkeys((declared.licence, declared.name)):
            meant = () if said is None or said in UNSAID else of_id(said, owners=owners)
            if len(meant) > 1:
                notes.append(f"{len(meant)} makers call different licences {said}: read which one it is.")
            rows += [row for row in meant if len(meant) == 1 and row not in rows]
        if len(rows) > 1:
            notes.append(f"Its license and license_name differ: {' and '.join(row.id for row in rows)}.")
        linked = None if declared.link is None else of_link(declared.link)
        if linked is not None and linked not in rows:
            notes.append(f"Its license_link leads to {linked.id}.")
            rows.append(linked)
        rows.sort(key=lambda row: -_STRICTNESS[_permission(row, use)])
        silent = declared.name is None and declared.link is None and declared.licence in (None, "unknown")
        return cls(rows=tuple(rows), silent=silent, notes=tuple(notes))


def _owners(link: str | None, repo: str | None) -> frozenset[str]:
    """Accounts to which a repository and the page of its licence belong."""
    from selfhost.catalog.licences import address_of

    found = set()
    if repo is not None and "/" in repo:
        found.add(repo.partition("/")[0].lower())
    match = _HUB_OWNER.match(address_of(link) or "") if link is not None else None
    if match is not None:
        found.add(match[1])
    return frozenset(found)


def _permission(row: Licence, use: Use | None) -> Permission:
    if use == "internal":
        return row.internal
    return row.research if use == "research" else row.commercial


def _with_base(found: _Found, base: Declared, repo: str | None, use: Use | None) -> _Found:
    """What applies to a model that was made from another one."""
    nearest = repo or "its base model"
    under = _Found.of(base, use, repo)
    if not under.rows:
        note = f"The licence of {nearest}, from which it was made, is not known."
        return replace(found, notes=(*found.notes, note))
    row = under.rows[0]
    if found.silent:
        return _Found(rows=under.rows, silent=False, notes=(f"Inherited from {nearest}.", *under.notes))
    if row in found.rows:
        return found
    theirs = _STRICTNESS[_permission(row, use)]
    own = _STRICTNESS[_permission(found.rows[0], use) if found.rows else "unknown"]
    if theirs > own:
        note = f"It was made from {nearest}, whose licence {row.id} is stricter than what it declares."
        return _Found(rows=(row, *found.rows), silent=False, notes=(note, *found.notes))
    if found.rows and row.obligations and theirs > 0:
        note = f"It was made from {nearest}; the terms of {row.id} apply too."
        return replace(found, rows=(*found.rows, row), notes=(*found.notes, note))
    return found


def _verdict(found: _Found, declared: Declared, use: Use | None, repo: str | None) -> Verdict:
    from selfhost.catalog.openness import openness_of

    row = found.rows[0] if found.rows else None
    openness, because = openness_of(
        repo, licence=None if row is None else row.id, osi=row is not None and row.osi
    )
    if row is None:
        name = _declared_name(declared)
        page = f"the files of {repo}" if repo else "the repository's LICENSE file"
        return Verdict(
            licence=name,
            name=name or "no licence declared",
            use=use,
            permission="unknown",
            openness=openness,
            obligations=("Read the licence, as the catalogue does not know it.", *declared.clauses),
            gate=declared.gate,
            accepted=False,
            source=_plain(declared.link) or page,
            checked=None,
            openness_because=because,
            notes=found.notes,
        )
    return Verdict(
        licence=row.id,
        name=row.name,
        use=use,
        permission=_permission(row, use),
        openness=openness,
        obligations=tuple(dict.fromkeys(one for each in found.rows for one in each.obligations)),
        gate=declared.gate,
        accepted=False,
        source=row.source,
        checked=row.checked,
        terms=tuple(dict.fromkeys(term for each in found.rows for term in each.terms)),
        verification=row.verification,
        openness_because=because,
        notes=found.notes,
    )


def _without_eu(verdict: Verdict) -> Verdict:
    asks = "The repository refuses readers from the European Union."
    return replace(
        verdict,
        permission="conditional" if verdict.permission == "yes" else verdict.permission,
        obligations=(*verdict.obligations, asks),
        terms=tuple(dict.fromkeys((*verdict.terms, "not in EU"))),
    )


def _gate_asks(gate: Gate) -> tuple[str, ...]:
    if gate == "manual":
        return ("The owner of the repository has to approve access to the files.",)
    return ("The terms have to be accepted on the repository's page.",) if gate == "auto" else ()


def _is_accepted(verdict: Verdict, found: _Found, accepted: Collection[str], repo: str | None) -> bool:
    from selfhost.catalog.licences import find_licence, normal

    own = {row.id for row in found.rows[:1]}
    if verdict.permission == "unknown":
        own |= {"unknown", *(name for name in (verdict.licence,) if name)}
    named = {normal(one) for one in accepted}
    named |= {row.id for one in named if (row := find_licence(one)) is not None}
    if own & named:
        return True
    if verdict.permission == "yes" and "unknown" in named:
        return True  # read when it was not known, and now it asks for nothing
    if verdict.permission == "yes":
        hint = "leave --accept-licence out; nothing has to be accepted."
    elif verdict.permission == "no":
        hint = "choose another model; what a licence forbids cannot be accepted away."
    else:
        hint = f"read {verdict.source}; then write --accept-licence {accept_id(verdict)}"
    given = ", ".join(_plain(one) or repr(one)[:80] for one in accepted)
    actual = verdict.licence or "declared nowhere"
    raise LicenceError(f"The licence of {repo or 'the model'} is {actual}, not {given}.", hint=hint)


def _declared_name(declared: Declared) -> str | None:
    """What a card calls a licence that the catalogue does not have."""
    from selfhost.catalog.licences import UNSAID, normal

    for said in (declared.name if declared.licence in (None, *UNSAID) else None, declared.licence):
        plain = _plain(said)
        if plain is not None:
            return normal(plain)
    return None


def _plain(text: str | None) -> str | None:
    """Text from a stranger's card, None where it could not stand in one line."""
    if text is None or not text.isprintable() or not text.strip():
        return None
    shown = text.strip()
    return shown if len(shown) <= _LONGEST_TEXT else None

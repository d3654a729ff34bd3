"""What a repository declares about its licence, and what that means for a use: plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Use = Literal["commercial", "internal", "research"]
USES: tuple[Use, ...] = ("commercial", "internal", "research")
Gate = Literal["none", "auto", "manual", "unknown"]
Permission = Literal["yes", "conditional", "no", "unknown"]
Openness = Literal["open-source", "open-weight", "closed", "unknown"]
Verification = Literal["text", "classification", "secondary", "knowledge", "name", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a repository says about its licence and who may read it.

    Args:
        licence: the `license` of its card, lower case; `other` where `name` and `link` say more. None: not said.
        name: `license_name` of its card.
        link: `license_link` of its card.
        gate: `auto` and `manual` as the Hub calls them; `unknown` where nobody was asked.
        eu_excluded: the gate refuses the European Union.
        base_models: repositories it was made from, the nearest first.
        clauses: what its LICENSE file was seen to speak of, one sentence each; hints for who has to read it.
    """

    licence: str | None = None
    name: str | None = None
    link: str | None = None
    gate: Gate = "unknown"
    eu_excluded: bool = False
    base_models: tuple[str, ...] = ()
    clauses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a model may be used as intended, and what that asks for. Not legal advice.

    Args:
        licence: id in the catalogue, or the declared id where the catalogue does not have it; None: none declared.
        name: the licence's name for people.
        use: the intended use, None where none was named.
        permission: whether the licence permits that use (commercial use where none was named).
        openness: `open-source` (weights, training code and data are open), `open-weight`, `closed`, `unknown`.
        obligations: what has to be done or kept, one sentence each.
        gate: who may read the repository.
        accepted: the user said with `--accept-licence` that the terms were read and are met.
        source: where the terms stand.
        checked: date of the catalogue's row, ISO 8601; None where there is no row.
        terms: the obligations in a few words each.
        verification: how the catalogue's row is known; `none` where there is no row.
        openness_because: what the openness rests on, one sentence.
        notes: how the licence was found where the card alone did not say it.
    """

    licence: str | None
    name: str
    use: Use | None
    permission: Permission
    openness: Openness
    obligations: tuple[str, ...]
    gate: Gate
    accepted: bool
    source: str
    checked: str | None
    terms: tuple[str, ...] = field(default=(), metadata={"later": True})
    verification: Verification = field(default="none", metadata={"later": True})
    openness_because: str = field(default="", metadata={"later": True})
    notes: tuple[str, ...] = field(default=(), metadata={"later": True})

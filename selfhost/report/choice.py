"""Which of the priced ways a report recommends: the cheapest that serves the plan's own model, or the advised one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selfhost.report.advised import AdviceFile
from selfhost.report.types import Kind

if TYPE_CHECKING:
    from selfhost.cost.study import Costed, Study

# Which options carry out an advised path, the first kind that has a price; a closed model in a private environment has
# no public price.
_CARRIES: dict[str, tuple[Kind, ...]] = {
    "open-private": ("buy", "rent"),
    "open-cloud": ("rent", "buy"),
    "closed-cloud": ("api",),
    "hosted-open": ("api",),
    "hybrid": ("buy", "rent"),
    "closed-private": (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Apis:
    """What is known of the APIs in a study, by name.

    A price of another model says nothing of the plan's own: it is shown, and recommended only where somebody asked for
    it or the advice leads there.

    Args:
        same: serve the weights of the plan's model.
        open: serve open weights, those or others.
        asked: were named by who asks.
    """

    same: frozenset[str]
    open: frozenset[str]
    asked: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is recommended, and among what.

    Args:
        option, kind: None where nothing that may be recommended has a price.
        comparable: names of the priced ways that serve the plan's model or were asked for, and the option itself.
        cheapest: of those.
        cheaper: APIs of other models that cost less than the option, with their totals, the cheapest first.
        foreign: the option is an API of another model.
    """

    option: str | None
    kind: Kind | None
    comparable: tuple[str, ...]
    cheapest: str | None
    cheaper: tuple[tuple[str, float], ...]
    foreign: bool


def _total(one: Costed) -> float:
    return one.total.typical if one.total else 0.0


def _kind(one: Costed) -> Kind:
    return "api" if one.option.kind == "api" else "rent" if one.option.kind == "rent" else "buy"


def choose(study: Study | None, advice: AdviceFile | None, apis: Apis | None = None) -> Choice:
    """The way to recommend.

    Args:
        study: costs of the ways, None for none.
        advice: of `selfhost advise`: then the cheapest of those that carry out its path.
        apis: what is known of the APIs; None takes each for the plan's own model.
    """
    priced = [] if study is None else [one for one in study.costed if one.total is not None]
    like = [one for one in priced if _kind(one) != "api" or _is_like(one.option.name, apis)]
    best = next((min(group, key=_total) for group in _groups(priced, like, advice, apis) if group), None)
    cheapest = min(like, key=_total, default=None)
    names = [one.option.name for one in like]
    if best is not None and best.option.name not in names:
        names.append(best.option.name)
    cheaper = sorted(
        (one for one in priced if best is not None and one not in like and _total(one) < _total(best)),
        key=_total,
    )
    return Choice(
        option=None if best is None else best.option.name,
        kind=None if best is None else _kind(best),
        comparable=tuple(names),
        cheapest=None if cheapest is None else cheapest.option.name,
        cheaper=tuple((one.option.name, _total(one)) for one in cheaper),
        foreign=best is not None
        and apis is not None
        and _kind(best) == "api"
        and best.option.name not in apis.same,
    )


def _is_like(name: str, apis: Apis | None) -> bool:
    return apis is None or name in apis.same or name in apis.asked


def _groups(
    priced: list[Costed], like: list[Costed], advice: AdviceFile | None, apis: Apis | None
) -> Iterable[list[Costed]]:
    if advice is None:
        return [like]
    path = advice.advised.path
    hosts = [one for one in priced if _kind(one) == "api"]
    if apis is not None and path == "closed-cloud":
        return [[one for one in hosts if one.option.name not in apis.open | apis.same]]
    if apis is not None and path == "hosted-open":
        return [
            [one for one in hosts if one.option.name in names] for names in (apis.same, apis.asked, apis.open)
        ]
    return [[one for one in priced if _kind(one) == kind] for kind in _CARRIES[path]]

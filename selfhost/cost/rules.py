"""Rules of thumb that people publish, and whether a calculation says the same: they contradict each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from selfhost.cost.types import HOURS_PER_MONTH

if TYPE_CHECKING:
    from selfhost.cost.breakeven import Amount
    from selfhost.cost.study import Costed, Study

_DAYS = HOURS_PER_MONTH / 24
_PAN = "Pan et al., arXiv:2509.18101, as summarized by others"
_KHADER = "https://khaderz.com/en/ai-engineer-path/production/gpu-cost-modeling"
_DELOITTE = "Deloitte Tech Trends 2026, as quoted by softwareseni.com"
_SMALL, _LARGE = 10e6, 50e6  # tokens a month
# Parameters in billions -> tokens a day between which a model of that size is said to break even.
_BREAK_EVEN = {7: (10e6, 20e6), 70: (50e6, 100e6)}
_NEAR = 1.5  # Ours: another size of model is near enough within this factor
_WORTH = 0.6  # of the cost of one's own: the lower of 60 and 70 %
_LEAST = {
    "Lenovo LP2225": 0.2, "datafabric": 0.5, "legitlads": 0.59, "Ivchenko, doi 10.5281/zenodo.18678386": 0.6,
    "Spheron, aiintelreport": 0.7,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A rule of thumb and what comes out here.

    Args:
        rule: as published.
        says: of this case.
        agrees: None where it says nothing that can be compared.
        because: what comes out.
        source: who published it.
    """

    rule: str
    says: str
    agrees: bool | None
    because: str
    source: str


def rules_of(
    found: Study, *, parameters: float, break_evens: dict[tuple[str, str], tuple[Amount, int | None]]
) -> tuple[Judged, ...]:
    """Every rule that has something to say.

    Args:
        found: a study of a deployment.
        parameters: of its model.
        break_evens: volumes from which owned or rented options are cheaper than an API, as multiples of this one.
    """
    own = _cheapest(found, ("buy", "rent"))
    api = _cheapest(found, ("api",))
    if found.scenario.volume is None or own is None or found.winner is None:
        return ()
    judged = []
    if api is not None:
        judged.append(_by_volume(found, own, api))
        judged += _by_size(found, own, api, parameters, break_evens)
    bought, rented = _cheapest(found, ("buy",)), _cheapest(found, ("rent",))
    if bought is not None and rented is not None:
        judged.append(_by_bill(bought, rented))
        judged += _by_utilization(bought, rented)
    return tuple(judged)


def _cheapest(found: Study, kinds: tuple[str, ...]) -> Costed | None:
    of = [one for one in found.costed if one.option.kind in kinds and one.total is not None]
    return min(of, key=_total, default=None)


def _total(one: Costed) -> float:
    assert one.total is not None
    return one.total.typical


def _tokens(count: float) -> str:
    """Three figures: the sum rests on less."""
    return f"{count / 1e6:,.3g} million tokens" if count < 1e9 else f"{count / 1e9:,.3g} billion tokens"


def _by_volume(found: Study, own: Costed, api: Costed) -> Judged:
    assert found.scenario.volume is not None
    tokens = found.scenario.volume.tokens
    says = (
        "an API" if tokens < _SMALL else "evaluate" if tokens <= _LARGE else "one's own model is interesting"
    )
    cheaper = "an API" if _total(api) <= _total(own) else "one's own model"
    return Judged(
        rule="Below 10 million tokens a month an API, to 50 million evaluate, above that one's own model",
        says=says,
        agrees=None if says == "evaluate" else says.startswith(cheaper),
        because=f"{cheaper} is cheaper at {_tokens(tokens)} a month",
        source=_PAN,
    )


def _by_size(
    found: Study,
    own: Costed,
    api: Costed,
    parameters: float,
    break_evens: dict[tuple[str, str], tuple[Amount, int | None]],
) -> list[Judged]:
    assert found.scenario.volume is not None
    for size, (low, high) in _BREAK_EVEN.items():
        if not 1 / _NEAR <= parameters / (size * 1e9) <= _NEAR:
            continue
        amount, _ = break_evens.get((own.option.name, api.option.name), (None, None))
        daily = None
        if amount is not None and amount.factor is not None:
            daily = amount.factor * found.scenario.volume.tokens / _DAYS
        return [
            Judged(
                rule=f"A model of {size} billion parameters breaks even at {low / 1e6:.0f} to {high / 1e6:.0f} million "
                "tokens a day",
                says=f"from {_tokens(low)} a day on",
                agrees=daily is not None and low <= daily <= high,
                because=(
                    f"{own.option.name} is never cheaper than {api.option.name}"
                    if daily is None
                    else f"{own.option.name} is cheaper than {api.option.name} from {_tokens(daily)} a day on"
                ),
                source=_KHADER,
            )
        ]
    return []


def _by_bill(bought: Costed, rented: Costed) -> Judged:
    share = _total(rented) / _total(bought)
    cheaper = _total(bought) < _total(rented)
    return Judged(
        rule="Owning is worth evaluating when the cloud's bill reaches 60 to 70 % of its cost",
        says="evaluate owning" if share >= _WORTH else "rent",
        agrees=None if share >= _WORTH else not cheaper,
        because=f"{rented.option.name} costs {share:.0%} of {bought.option.name}",
        source=_DELOITTE,
    )


def _by_utilization(bought: Costed, rented: Costed) -> list[Judged]:
    used = bought.utilization
    if used is None:
        return []
    cheaper = _total(bought) < _total(rented)
    word = "less" if cheaper else "more"
    return [
        Judged(
            rule=f"Owning pays from a utilization of {least:.0%} on",
            says="own" if used >= least else "rent",
            agrees=(used >= least) == cheaper,
            because=f"{bought.option.name} costs {word} than {rented.option.name} at {used:.0%}",
            source=source,
        )
        for source, least in _LEAST.items()
    ]

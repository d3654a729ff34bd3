"""Values for the assumptions -> the options to buy, to rent and to call an API, each of named lines of money."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from selfhost.cost.assumed import SERVER, Offer, Ways, rate_key
from selfhost.cost.breakeven import Amount, break_even_volume
from selfhost.cost.flows import total
from selfhost.cost.machines import Machine
from selfhost.cost.types import (
    HOURS_PER_MONTH,
    MONTHS,
    SECONDS_PER_HOUR,
    Line,
    Option,
    Scenario,
    Volume,
)

_COMMITTED = {"1y": 12, "3y": 36}
# Copies that are tried for a break-even: each up to four full boards, then doublings, between which it is closed in on.
_COPIES = (*range(1, 33), 64, 128, 256, 512, 1024)
FURTHER_NODES = 0.25  # Ours: a second node of the same kind takes a quarter of the first one's staff


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What is priced: one copy on a machine, so many copies, a volume and the ways to serve it.

    Args:
        machine: of one copy.
        copies: at least; more are taken where a case of the volume or of the speed needs them.
        volume: in a month.
        ways: what is compared.
        currencies: key of each assumption that is money -> its currency.
        unknown: what an option lacks, as `Assumed` has it.
        input_share: share of the GPUs' time that prompts take.
    """

    machine: Machine
    copies: int
    volume: Volume
    ways: Ways
    months: int
    currency: str
    currencies: Mapping[str, str]
    unknown: Mapping[str, tuple[str, ...]]
    input_share: float | None

    def build(self, values: Mapping[str, float]) -> Scenario:
        """The scenario at these values, with as many copies as the volume takes then."""
        volume = self.volume.scaled(values["volume"])
        return self.scenario(values, max(self.copies, self.needed(values, volume)), volume)

    def needed(self, values: Mapping[str, float], volume: Volume) -> int:
        """Copies that a volume takes at the least."""
        each = values["speed at full load"] * SECONDS_PER_HOUR * HOURS_PER_MONTH
        return max(1, math.ceil(volume.output_tokens / each - 1e-9))

    def scenario(
        self, values: Mapping[str, float], copies: int, volume: Volume, *, only: tuple[str, ...] | None = None
    ) -> Scenario:
        """The scenario with exactly so many copies, and with only some of its options where that is asked."""
        money = _Money(values, self.currencies, self.currency)
        makers: dict[str, Callable[[], Option]] = {
            **{f"buy {one}": partial(self._bought, money, one, copies) for one in self.ways.buy},
            **{
                f"rent {one} {term}": partial(self._rented, money, one, term, copies)
                for one, term in self.ways.rent
            },
            **{offer.name: partial(_called, money, offer) for offer in self.ways.apis},
        }
        options = [make() for name, make in makers.items() if only is None or name in only]
        return Scenario(
            options=tuple(options),
            months=self.months,
            currency=self.currency,
            discount_rate=values["discount rate"],
            volume=volume,
        )

    def _staff(self, money: _Money, nodes: int, share: float) -> Line:
        shares = money.plain("staff share of a node") * (1 + FURTHER_NODES * (nodes - 1)) * share
        return Line(name="staff", unit="year", amount=money.of("staff"), times=shares)

    def _bought(self, money: _Money, condition: str, copies: int) -> Option:
        name = f"buy {condition}"
        machine = self.machine
        unknown = (*self.unknown.get(f"buy:{condition}", ()), *self.unknown.get("buy", ()))
        gpus, nodes = machine.bought(copies), machine.nodes(copies)
        if unknown:
            return Option(name=name, kind="buy", lines=(), gpus=gpus, unknown=unknown)
        hardware = self._hardware(money, condition, gpus, nodes)
        servers = math.fsum(line.amount * line.times for line in hardware)
        network = servers * money.plain("network between nodes") if nodes > 1 else 0.0
        kilowatts = machine.tdp_watts * gpus / 1e3
        used = machine.gpus * copies / gpus
        besides = money.plain("power besides the GPUs") * nodes
        idle, full = money.plain("GPU power when idle"), money.plain("GPU power at full load")
        lines = hardware
        if network:
            lines.append(Line(name="network", unit="once", amount=network, from_month=0))
        lines.append(
            Line(
                name="electricity",
                unit="kwh",
                amount=money.of("electricity"),
                times=money.plain("PUE"),
                idle_kw=besides + kilowatts * idle,
                # GPUs of the node that the deployment does not use stay idle.
                busy_kw=besides + kilowatts * (used * full + (1 - used) * idle),
            )
        )
        if "colocation" in money:
            lines.append(
                Line(
                    name="colocation", unit="month", amount=money.of("colocation"), times=besides + kilowatts
                )
            )
        lines += [
            Line(name="maintenance", unit="year", amount=servers + network, times=money.plain("maintenance")),
            self._staff(money, nodes, 1.0),
            Line(name="residual value", unit="residual share", amount=money.plain("residual value")),
        ]
        return Option(
            name=name,
            kind="buy",
            lines=tuple(lines),
            gpus=gpus,
            capacity_output_tokens_per_second=money.plain("speed at full load") * copies,
            input_share=self.input_share,
            write_off_years=self.months / MONTHS,
            notes=self._whole(copies, gpus, nodes),
        )

    def _hardware(self, money: _Money, condition: str, gpus: int, nodes: int) -> list[Line]:
        """GPUs and what is around them: a whole server's price where one is known, else a share of the GPUs'."""
        if condition == "new" and SERVER in money:
            server = money.of(SERVER)
            return [
                Line(name="servers with their GPUs", unit="once", amount=server, times=nodes, from_month=0)
            ]
        price = money.of(f"GPU price, {condition}")
        if self.machine.host is not None:
            around, count = money.of("machine around the GPUs"), nodes
        else:
            around, count = price * money.plain("server around the GPUs"), gpus
        return [
            Line(name="GPUs", unit="once", amount=price, times=gpus, from_month=0),
            Line(name="servers around them", unit="once", amount=around, times=count, from_month=0),
        ]

    def _whole(self, copies: int, gpus: int, nodes: int) -> tuple[str, ...]:
        spare = gpus - self.machine.gpus * copies
        if not spare:
            return ()
        where = "a node" if nodes == 1 else f"{nodes} nodes"
        note = (
            f"{self.machine.gpu_name} modules are sold on boards of {self.machine.board}, so that {where} with "
            f"{gpus} GPUs is bought whole; the other {spare} are free for other work and are paid for here."
        )
        return (note,)

    def _rented(self, money: _Money, tier: str, term: str, copies: int) -> Option:
        name = f"rent {tier} {term}"
        unknown = (*self.unknown.get(f"rent:{tier}:{term}", ()), *self.unknown.get("rent", ()))
        machine = self.machine
        gpus = machine.gpus * copies
        if unknown:
            return Option(name=name, kind="rent", lines=(), gpus=gpus, unknown=unknown)
        level = money.plain("rental price level") if term in ("on-demand", "spot") else 1.0
        return Option(
            name=name,
            kind="rent",
            lines=(
                Line(
                    name="GPU-hours",
                    unit="hour",
                    amount=money.of(f"GPU-hour, {tier} {term}") * level,
                    times=gpus,
                    only_busy=tier == "serverless",
                ),
                self._staff(money, machine.rented_nodes(copies), money.plain("staff for rented GPUs")),
            ),
            gpus=gpus,
            capacity_output_tokens_per_second=money.plain("speed at full load") * copies,
            input_share=self.input_share,
            notes=_terms(tier, term, self.months),
        )

    def break_even(self, option: str, against: str, values: Mapping[str, float]) -> tuple[Amount, int | None]:
        """Volume from which an owned or rented option costs less, with as many copies as that takes.

        With each copy more the cost makes a step, and between two steps it is a straight line: the first crossing
        counts.

        Returns:
            The amount, of this deployment's volume, and the copies at it; (never, None) where more copies do not help.
        """
        volume = self.volume.scaled(values["volume"])
        alone: Amount | None = None
        done = 0
        for copies in _COPIES:
            first, found = self._crossing(option, against, values, volume, done=done, copies=copies)
            alone = alone or first
            if found is None:
                done = copies
                continue
            few = self._fewest(option, against, values, volume, done=done, copies=copies)
            _, closer = self._crossing(option, against, values, volume, done=few - 1, copies=few)
            return (found, copies) if closer is None else (closer, few)
        assert alone is not None
        reason = alone.reason
        if alone.utilization is not None:
            reason = "even copies that are busy all day cost more a token, however many there are"
        return Amount(factor=None, utilization=alone.utilization, reason=reason), None

    def _crossing(
        self,
        option: str,
        against: str,
        values: Mapping[str, float],
        volume: Volume,
        *,
        done: int,
        copies: int,
    ) -> tuple[Amount, Amount | None]:
        """The break-even with so many copies at any volume, and the one between `done` full copies and all of them."""
        one_full = self._filled(values, volume)
        two = self.scenario(values, copies, volume.scaled(one_full * copies), only=(option, against))
        mine, theirs = (next(one for one in two.options if one.name == name) for name in (option, against))
        before = replace(two, volume=volume.scaled(one_full * done))
        found = break_even_volume(mine, theirs, replace(two, volume=volume))
        if total(mine, before) < total(theirs, before):
            used = None if mine.capacity_output_tokens_per_second is None else done / copies
            return found, Amount(factor=one_full * done, utilization=used, reason=_every(done))
        cheaper = total(mine, two) < total(theirs, two)
        return found, found if cheaper and found.factor is not None else None

    def _fewest(
        self,
        option: str,
        against: str,
        values: Mapping[str, float],
        volume: Volume,
        *,
        done: int,
        copies: int,
    ) -> int:
        """The fewest copies, all of them full, with which it is cheaper: more than `done`, at most `copies`."""
        one_full = self._filled(values, volume)
        while copies - done > 1:
            middle = (done + copies) // 2
            two = self.scenario(values, middle, volume.scaled(one_full * middle), only=(option, against))
            mine, theirs = (
                next(one for one in two.options if one.name == name) for name in (option, against)
            )
            if total(mine, two) < total(theirs, two):
                copies = middle
            else:
                done = middle
        return copies

    def _filled(self, values: Mapping[str, float], volume: Volume) -> float:
        """Multiple of a volume that fills one copy."""
        return values["speed at full load"] * SECONDS_PER_HOUR * HOURS_PER_MONTH / volume.output_tokens


def _every(copies: int) -> str | None:
    return "cheaper at every volume" if copies == 0 else None


def _terms(tier: str, term: str, months: int) -> tuple[str, ...]:
    """What to know of a way to rent."""
    name = f"rent {tier} {term}"
    notes = []
    if tier == "serverless":
        notes.append(f"{name} is billed while it answers only.")
    if term == "spot":
        notes.append(f"{name} can be taken away at any time, which is not priced.")
    if term in _COMMITTED and _COMMITTED[term] > months:
        notes.append(f"{name} binds for {_COMMITTED[term]} months, of which {months} are counted.")
    return tuple(notes)


class _Money:
    """Assumptions by key, money in the currency of the result."""

    def __init__(self, values: Mapping[str, float], currencies: Mapping[str, str], currency: str) -> None:
        self.values = values
        self.currencies = currencies
        self.currency = currency

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def plain(self, key: str) -> float:
        return self.values[key]

    def of(self, key: str) -> float:
        own = self.currencies.get(key, self.currency)
        rate = 1.0 if own == self.currency else self.values[rate_key(own, self.currency)]
        return self.values[key] * rate


def _called(money: _Money, offer: Offer) -> Option:
    if offer.unpriced is not None:
        return Option(name=offer.name, kind="api", lines=(), unknown=(offer.unpriced,))
    level = money.plain("API price level")
    cached = f"{offer.name}: cached"
    lines = [
        Line(
            name="prompts",
            unit="million tokens",
            amount=money.of(f"{offer.name}: input") * level,
            tokens="input" if offer.cached is None else "uncached",
        ),
        Line(
            name="answers",
            unit="million tokens",
            amount=money.of(f"{offer.name}: output") * level,
            tokens="output",
        ),
    ]
    if offer.cached is not None:
        lines.insert(
            1,
            Line(
                name="cached prompts", unit="million tokens", amount=money.of(cached) * level, tokens="cached"
            ),
        )
    if "staff" in money:
        lines.append(
            Line(name="staff", unit="year", amount=money.of("staff"), times=money.plain("staff for an API"))
        )
    return Option(
        name=offer.name, kind="api", lines=tuple(lines), notes=() if offer.note is None else (offer.note,)
    )

"""Prices + GPUs + speed -> what an option costs an hour, a million output tokens, and to buy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfhost.cost.assumed import server_price
from selfhost.cost.machines import ITSELF, Machine, board_of, host_of
from selfhost.ranking.types import Cost
from selfhost.throughput.types import Estimate, Range

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.catalog.price_types import Figure, Term, Tier
    from selfhost.catalog.prices import Prices

SECONDS_PER_HOUR = 3600
_OfGpus = tuple[Range | None, Range | None, str | None, tuple[str, ...], str | None]
"""(rent for an hour, price to buy, what that is made of, sources, date of the oldest)."""


class Pricing:
    """Prices in one currency, of one way to rent; each GPU is looked up once.

    Args:
        prices: the catalogue and a user's own.
        tier, term: of the rent.
        currency: USD, CNY or EUR.

    Raises:
        PriceError: an unknown currency.
    """

    def __init__(self, prices: Prices, *, tier: Tier, term: Term, currency: str) -> None:
        from selfhost.catalog.prices import currency_of

        self.prices, self.tier, self.term = prices, tier, term
        self.currency = currency_of(currency)
        self._rents: dict[str, Figure | None] = {}
        self._known: dict[tuple[str, int], _OfGpus] = {}

    def cost(self, gpu: Gpu, gpus: int, estimate: Estimate) -> Cost:
        """What so many GPUs cost at that speed.

        Args:
            gpu: the kind.
            gpus: of all replicas.
            estimate: speed of all of them under the load.
        """
        kept = self._known.get((gpu.id, gpus))
        if kept is None:
            kept = self._known[gpu.id, gpus] = self._of_gpus(gpu, gpus)
        per_hour, capital, because, sources, date = kept
        return Cost(
            currency=self.currency,
            tier=self.tier,
            term=self.term,
            per_hour=per_hour,
            per_million_output_tokens=None if per_hour is None else _per_million(per_hour, estimate),
            capital=capital,
            capital_because=because,
            sources=sources,
            date=date,
        )

    def _of_gpus(self, gpu: Gpu, gpus: int) -> _OfGpus:
        """What does not depend on their speed."""
        rent = self._rent(gpu.id)
        capital, because, figures = self._bought(gpu, gpus)
        used = figures if rent is None else (rent, *figures)
        return (
            None if rent is None else _range(rent).scaled(gpus),
            capital,
            because,
            tuple(dict.fromkeys(one.source for one in used if one.source is not None)),
            min((one.date for one in used), default=None),
        )

    def _rent(self, gpu_id: str) -> Figure | None:
        if gpu_id not in self._rents:
            found = self.prices.gpu_rental(gpu_id, self.tier, self.term)
            self._rents[gpu_id] = None if found is None else self.prices.convert(found, self.currency)
        return self._rents[gpu_id]

    def _bought(self, gpu: Gpu, gpus: int) -> tuple[Range | None, str | None, tuple[Figure, ...]]:
        """What it takes to buy the GPUs, of what that is made, and the prices behind it: as `selfhost cost` has it."""
        machine = Machine(
            gpu_id=gpu.id,
            gpu_name=gpu.name,
            tdp_watts=gpu.tdp_watts,
            gpus=gpus,
            board=board_of(gpu.form_factor),
            host=host_of(gpu.kind, gpu.form_factor, gpus),
        )
        nodes = machine.nodes(1)
        found = self._servers(machine, nodes) if machine.host is None else self._cards(machine)
        if found is None:
            return None, None, ()
        total, words, figures = found
        if nodes > 1:
            network = self.prices.network_overhead()
            if network is None:
                return None, None, ()
            total = _sum(total, _product(total, network))
            words, figures = f"{words}, network between them", (*figures, network)
        return total, words, figures

    def _servers(self, machine: Machine, nodes: int) -> tuple[Range, str, tuple[Figure, ...]] | None:
        many = "s" if nodes > 1 else ""
        server = server_price(self.prices, machine)
        if server is not None:
            converted = self.prices.convert(server, self.currency)
            return _range(converted).scaled(nodes), f"{nodes} server{many} of {machine.board}", (server,)
        each, around = self.prices.gpu_purchase(machine.gpu_id), self.prices.server_overhead()
        if each is None or around is None:
            return None
        bought = machine.bought(1)
        cards = _range(self.prices.convert(each, self.currency)).scaled(bought)
        words = f"{bought} GPUs and the server{many} around them"
        return _sum(cards, _product(cards, around)), words, (each, around)

    def _cards(self, machine: Machine) -> tuple[Range, str, tuple[Figure, ...]] | None:
        """A few cards and the one machine that they stand in."""
        each = self.prices.gpu_purchase(machine.gpu_id)
        if each is None or machine.host is None:
            return None
        cards = _range(self.prices.convert(each, self.currency)).scaled(machine.gpus)
        if machine.host == ITSELF:
            return cards, f"{machine.gpus} whole machine{'s' if machine.gpus > 1 else ''}", (each,)
        host = self.prices.host(machine.host)
        if host is None:
            return None
        around = _range(self.prices.convert(host, self.currency))
        where = "a workstation" if machine.host == "workstation" else "a server"
        words = f"{machine.gpus} card{'s' if machine.gpus > 1 else ''} in {where}"
        return _sum(cards, around), words, (each, host)


def _range(figure: Figure) -> Range:
    return Range(low=figure.low, typical=figure.typical, high=figure.high)


def _sum(one: Range, other: Range) -> Range:
    return Range(low=one.low + other.low, typical=one.typical + other.typical, high=one.high + other.high)


def _product(one: Range, share: Figure) -> Range:
    return Range(low=one.low * share.low, typical=one.typical * share.typical, high=one.high * share.high)


def _per_million(per_hour: Range, estimate: Estimate) -> Range | None:
    """Low is a low rent at a high speed."""
    speed = estimate.output_tokens_per_second
    if speed.low <= 0:
        return None
    million = 1e6 / SECONDS_PER_HOUR
    return Range(
        low=per_hour.low / speed.high * million,
        typical=per_hour.typical / speed.typical * million,
        high=per_hour.high / speed.low * million,
    )

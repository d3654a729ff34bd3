"""What one price is, and the kinds of prices there are: unit, keys and how long a row stays fresh."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date as Date  # noqa: N812 - `date` is a field's name
from datetime import timedelta
from typing import Literal

from selfhost.errors import UsageError

Confidence = Literal["high", "medium", "low", "yours"]
Condition = Literal["new", "used"]
Tier = Literal["hyperscaler", "specialty", "marketplace", "serverless"]
Term = Literal["on-demand", "1y", "3y", "spot"]

CONDITIONS = ("new", "used")
TIERS = ("hyperscaler", "specialty", "marketplace", "serverless")
TERMS = ("on-demand", "1y", "3y", "spot")
CURRENCIES = ("USD", "CNY", "EUR")


class PriceError(UsageError):
    """A price file with an unknown key, a negative or impossible price, or a currency that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One price that somebody published.

    Args:
        value: what it says, in the row's currency and unit.
        low, high: bounds where it gives a range, else None.
        date: when that was so: YYYY-MM-DD, YYYY-MM or YYYY.
        source: page, file or package with its version; None where the page is not known.
        confidence: of this observation alone.
        counts: whether it goes into the row's figures; False keeps it as a record with its reason in `note`.
        note: whose price, of what.
    """

    value: float
    low: float | None
    high: float | None
    date: str
    source: str | None
    confidence: Confidence
    counts: bool
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A price within bounds, with where it comes from.

    Args:
        low, typical, high: in `unit`; equal where only one figure is known.
        unit: such as `USD/GPU-hour`, or `ratio`.
        currency: USD, CNY or EUR; None where the unit has none.
        date: of the newest observation behind it: YYYY-MM-DD, YYYY-MM or YYYY.
        source: page, file or package with its version; None where no page backs it.
        confidence: high, medium, low, or `yours` for an override.
        note: a sentence for the user, None for none.
        key: the row: its kind and what it is of, such as `gpu_rental.h100-sxm-80gb.specialty.on-demand`.
        seen: every observation behind it, newest first.
    """

    low: float
    typical: float
    high: float
    unit: str
    currency: str | None
    date: str
    source: str | None
    confidence: Confidence
    note: str | None = None
    key: str = ""
    seen: tuple[Observation, ...] = ()

    @property
    def fresh_until(self) -> Date | None:
        """Last day on which it is no older than its kind stays fresh; None for a user's own, which never is stale."""
        kind = KINDS.get(self.key.partition(".")[0])
        if kind is None or self.confidence == "yours" or not self.date:
            return None
        return first_day(self.date) + timedelta(days=kind.fresh_days)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of price: one table of the catalogue and of a user's file.

    Args:
        unit: what the figure is per, such as `GPU-hour`; None for a plain ratio.
        priced: whether the figure is money.
        keys: what a row is of, outermost first.
        fresh_days: age from which a row is stale.
        because: why so long.
        title: for people.
    """

    unit: str
    priced: bool
    keys: tuple[str, ...]
    fresh_days: int
    because: str
    title: str


# How long a row stays fresh is ours: about the time in which the observations of that kind moved by a tenth.
KINDS: dict[str, Kind] = {
    "gpu_purchase": Kind(
        unit="GPU", priced=True, keys=("gpu", "condition"), fresh_days=270, title="GPUs to buy",
        because="street prices of one model moved by 10 to 30 % within a year",
    ),
    "server_purchase": Kind(
        unit="server", priced=True, keys=("gpu", "gpus"), fresh_days=365, title="Whole servers to buy",
        because="quotes follow their GPUs, with less noise",
    ),
    "gpu_rental": Kind(
        unit="GPU-hour", priced=True, keys=("gpu", "tier", "term"), fresh_days=180, title="GPUs to rent",
        because="providers change their lists once or twice a year, marketplaces daily",
    ),
    "server_overhead": Kind(
        unit="ratio of the GPUs' price", priced=False, keys=("kind",), fresh_days=540, title="Server around the GPUs",
        because="it follows the GPUs' price",
    ),
    "host": Kind(
        unit="host", priced=True, keys=("kind",), fresh_days=365, title="Machines for cards",
        because="memory and storage move by tens of per cent a year",
    ),
    "network_overhead": Kind(
        unit="ratio of the servers' price", priced=False, keys=("kind",), fresh_days=540,
        title="Network between servers", because="it follows the servers' price",
    ),
    "node_power": Kind(
        unit="kW", priced=False, keys=("kind",), fresh_days=1095, title="Power besides the GPUs",
        because="it changes with a generation of servers",
    ),
    "pue": Kind(
        unit="ratio of all power to that of the machines", priced=False, keys=("kind",), fresh_days=730, title="PUE",
        because="the yearly surveys hardly move",
    ),
    "electricity": Kind(
        unit="kWh", priced=True, keys=("country",), fresh_days=540, title="Electricity for companies",
        because="statistics offices publish twice a year, a few months late",
    ),
    "carbon": Kind(
        unit="gCO2e/kWh", priced=False, keys=("country",), fresh_days=1095, title="Carbon intensity of electricity",
        because="yearly data appears a year late and moves by a few per cent",
    ),
    "colocation": Kind(
        unit="kW-month", priced=True, keys=("country",), fresh_days=540, title="Colocation",
        because="contracts run for years",
    ),
    "staff": Kind(
        unit="FTE-year", priced=True, keys=("country",), fresh_days=730, title="Staff",
        because="wages move by a few per cent a year",
    ),
    "staff_share": Kind(
        unit="FTE", priced=False, keys=("kind",), fresh_days=1095, title="Staff it takes", because="it is a habit",
    ),
    "residual": Kind(
        unit="ratio of the purchase price", priced=False, keys=("months",), fresh_days=365, title="Residual value",
        because="it falls when the next generation ships",
    ),
    "discount": Kind(
        unit="ratio a year", priced=False, keys=("kind",), fresh_days=540, title="Discount rate",
        because="central banks move by half a point a year",
    ),
    "fx": Kind(
        unit="ratio", priced=False, keys=("from", "to"), fresh_days=120, title="Exchange rates",
        because="they moved by less than a tenth within half a year",
    ),
}  # fmt: skip


def first_day(text: str) -> Date:
    """The first day a date may mean: of a year or a month, its first, so that age is never understated.

    Raises:
        ValueError: it is not YYYY-MM-DD, YYYY-MM or YYYY.
    """
    parts = [*map(int, text.split("-")), 1, 1]
    if [len(part) for part in text.split("-")] != [4, 2, 2][: text.count("-") + 1]:
        raise ValueError(text)
    return Date(parts[0], parts[1], parts[2])

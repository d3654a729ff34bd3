"""What a report says: the facts of a decision as frozen values, with ranges and sources, in no language yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from selfhost.licence import Verdict
from selfhost.throughput.types import Point, Range

Kind = Literal["buy", "rent", "api"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a number comes from.

    Args:
        text: what it is, for people.
        url: where it stands, None where it is no page.
        date: when it was read or measured, ISO 8601 or a part of it; None where it has no date.
    """

    text: str
    url: str | None = None
    date: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number as it is shown: a range in a unit, and its sources.

    Args:
        value: None is unknown, and is shown as such.
        unit: a key of the texts: `tokens/s`, `ms`, `money`, `gib`, `requests`, `ratio`, `months`.
        sources: where it comes from.
        because: why it is that number, or why it is unknown; one sentence.
    """

    value: Range | None
    unit: str
    sources: tuple[Source, ...] = ()
    because: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One line of the memory bill, in bytes on the fullest GPU."""

    name: str
    bytes: int
    because: str
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What one GPU holds.

    Args:
        gpu: its name.
        gpu_bytes: what the engine sees of it, None where no GPU is known.
        terms: lines that add up to the engine's share, what is free included.
        short_bytes: what is missing, 0 when it fits.
        certainty_bytes: half-width within which similar start-ups lay, None where none is known.
    """

    gpu: str
    gpu_bytes: int | None
    terms: tuple[Term, ...]
    short_bytes: int
    certainty_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuOption:
    """A kind of GPU that carries the load.

    Args:
        gpu_id, name: of the GPU.
        count: GPUs of the whole deployment.
        room: how many times the requests under way would be let in, None where unknown.
        chosen: the plan takes this one.
        speed: output tokens per second of the whole deployment.
        first_token: time to the first token.
        hour: money per hour of the whole deployment, rented.
        purchase: money to buy the GPUs.
        per_million: money per million output tokens under the report's load.
    """

    gpu_id: str
    name: str
    count: int
    room: float | None
    chosen: bool
    speed: Number
    first_token: Number
    hour: Number
    purchase: Number
    per_million: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The chosen deployment at growing numbers of requests at once.

    Args:
        points: by requests at once; empty where nothing is known of its speed.
        knee: where more requests stop being worth it, None without points.
        admitted: requests at once that memory and the engine let in.
        asked: requests at once of the load, None under a rate.
        because: what the numbers rest on, or why there are none.
        measured: they were measured on such machines, not estimated.
        sources: of the measurements.
    """

    points: tuple[Point, ...]
    knee: int | None
    admitted: int | None
    asked: int | None
    because: str
    measured: bool
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CashFlow:
    """What a way to get the tokens has cost by the end of each month.

    Args:
        name: of the option, as people call it.
        kind: buy, rent or api.
        chosen: the report recommends this one.
        foreign: an API of another model than the plan's.
        cumulative: money spent by the end of month 0, 1, 2 …; empty where a price is unknown.
        total: at the end, less what the machines are still worth.
        net_present: the same as one sum of today.
        per_million: money per million tokens of output, its share of everything in.
        because: why it is unknown, None where it is known.
        sources: of its prices.
    """

    name: str
    kind: Kind
    chosen: bool
    foreign: bool
    cumulative: tuple[float, ...]
    total: Number
    net_present: Number
    per_million: Number
    because: str | None
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """When one option has become cheaper than another for good.

    Args:
        option, against: names of the two.
        months: from the start on, None is never.
        soonest, latest: with all that varies in its favour and against it, None is never.
        tokens_per_month: output tokens a month from which on it is cheaper over the whole time, None is never.
        utilization: share of what it can answer with at that volume, None without a limit.
        copies: of the deployment that this takes, None where it is the planned ones.
        because: one sentence, in particular where it never is; empty for nothing to say.
    """

    option: str
    against: str
    months: float | None
    soonest: float | None
    latest: float | None
    tokens_per_month: float | None
    utilization: float | None
    copies: int | None
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What one assumption, moved from its low to its high value, does to the result, the others staying.

    Args:
        name: of the assumption, a key of the texts or plain words.
        low_setting, high_setting: the values it takes, for people.
        low, high: what the way saves over the best of another kind there; below zero that is cheaper.
        instead: the other way that wins at one of the ends, None where none does.
    """

    name: str
    low_setting: str
    high_setting: str
    low: float
    high: float
    instead: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tornado:
    """How the result depends on each assumption, the strongest first.

    Args:
        option: the recommended way, or the cheapest where none is.
        base: what it saves over the best way of another kind as assumed, money over the whole time.
        bars: by how far they move it.
    """

    option: str
    base: float
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Everything about money, in one currency over one time.

    Args:
        currency: ISO 4217.
        months: how long is looked at.
        tokens_per_month: output tokens that are asked for in a month.
        flows: by option.
        break_evens: between options.
        tornado: None where too little is known.
    """

    currency: str
    months: int
    tokens_per_month: float | None
    flows: tuple[CashFlow, ...]
    break_evens: tuple[BreakEven, ...]
    tornado: Tornado | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """Something that may go wrong: a key of the texts and what is put into them.

    Args:
        key: of the text; `said` takes the words as they are.
        values: for the places in the text.
        severe: it can stop the project.
    """

    key: str
    values: tuple[tuple[str, str], ...] = ()
    severe: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """What a number rests on that somebody else might set otherwise."""

    name: str
    value: str
    source: Source | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Advised:
    """The way that the advice named, and why.

    Args:
        path: open-private, open-cloud, closed-private, closed-cloud, hybrid or hosted-open.
        reasons: rule and reason, in the language the advice was asked in.
        alternatives: other ways.
    """

    path: str
    reasons: tuple[str, ...]
    alternatives: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What to do.

    Args:
        fits: the load fits on the planned GPUs.
        gpus: of the whole deployment.
        gpu: their name.
        taken: GPUs that the recommended option buys or rents: more where boards are sold whole.
        option: name of the option that is recommended, None where no cost is known.
        kind: its kind.
        cheapest: name of the cheapest comparable option over the time, None where no cost is known.
        cheaper: APIs of other models that cost less, with their totals.
        foreign: the option is an API of another model.
        speed, first_token, per_token: under the load.
        total, present: cost of the recommended option over the time, and in today's money.
        per_million: and per million tokens of output.
        advised: the way that `selfhost advise` named, None without advice.
    """

    fits: bool
    gpus: int
    gpu: str
    taken: int
    option: str | None
    kind: Kind | None
    cheapest: str | None
    cheaper: tuple[tuple[str, float], ...]
    foreign: bool
    speed: Number
    first_token: Number
    per_token: Number
    total: Number
    present: Number
    per_million: Number
    advised: Advised | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What the report is about.

    Args:
        model, revision, quantization, parameters: of the model.
        engine: with its version.
        gpu: how many of which.
        split: tensor, pipeline and data parallel.
        context_tokens: of a request at most.
        concurrency: requests at once that the plan holds.
        prompt_tokens, output_tokens: of a request on average, for speed and cost.
        load: how much is asked for: requests at once or a rate, for people.
        created: of the report, UTC in ISO 8601.
        planned: of the plan.
        version: of selfhost.
    """

    model: str
    revision: str | None
    quantization: str | None
    parameters: int
    engine: str
    split: tuple[int, int, int]
    replicas: int
    context_tokens: int
    concurrency: int
    prompt_tokens: int
    output_tokens: int
    request_rate: float | None
    created: str
    planned: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One page for a meeting. Texts of people (names, reasons, sources) are as they came, and not to be trusted.

    `costed` is False where money was left out by who asked.
    """

    subject: Subject
    recommendation: Recommendation
    costed: bool
    bill: Bill
    options: tuple[GpuOption, ...]
    refused: tuple[tuple[str, str], ...]
    curve: Curve
    cost: Cost | None
    licence: Verdict | None
    risks: tuple[Risk, ...]
    assumptions: tuple[Assumption, ...]
    questions: tuple[str, ...]

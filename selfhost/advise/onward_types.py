"""What a path goes on with, as plain values: load, models, GPUs, money, offers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The load that is planned for.

    Args:
        requests_per_day, prompt_tokens, output_tokens: of all users together; tokens of one request.
        peak_requests_per_second: in the busiest hour.
        tokens_per_month: prompts and answers together.
        assumed: what of it nobody said.
    """

    requests_per_day: float
    prompt_tokens: int
    output_tokens: int
    peak_requests_per_second: float
    tokens_per_month: float
    assumed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model that suits, with what its licence permits.

    Args:
        because: why that size, or that model.
    """

    id: str
    parameters_b: float | None
    licence: str | None
    permission: str
    openness: str
    obligations: tuple[str, ...]
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A number with its bounds."""

    low: float
    typical: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """GPUs that carry the load, and how fast they are.

    Args:
        replicas: copies of the model, each on gpus / replicas of them.
        quantization: of the weights, None as they are published.
        speed_from: measured, kernel tables or roofline.
        meets_latency: whether the first token comes in the time that was asked for, None where none was.
    """

    model: str
    gpu: str
    gpu_name: str
    gpus: int
    replicas: int
    engine: str
    quantization: str | None
    ttft_ms: Span
    tpot_ms: Span
    output_tokens_per_second: Span
    speed_from: tuple[str, ...]
    meets_latency: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """What the GPUs cost; None is unknown, never 0.

    Args:
        per_month: rent of all of them.
        per_million_output_tokens: that rent over the tokens of the demand, at its real utilization.
        capital: to buy them with the servers around them.
        date: of the oldest price.
    """

    currency: str
    tier: str
    term: str
    per_month: Span | None
    per_million_output_tokens: Span | None
    capital: Span | None
    capital_because: str | None
    sources: tuple[str, ...]
    date: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """What one way to have the GPUs costs with everything in, as `selfhost cost` has it; None is unknown, never 0.

    Args:
        option: `buy new` or `rent specialty on-demand`.
        paid_once: for what is bought.
        per_month: hardware or rent, people, power and maintenance, less what is left of it, over the months.
        per_million_output_tokens: of it, what falls on answers.
        three_years: all of it.
    """

    option: str
    paid_once: float | None
    per_month: float | None
    per_million_output_tokens: float | None
    three_years: Span | None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """An API and what the demand costs there, at its list prices of a million tokens.

    Args:
        weights: repository of the open model behind it, None where there is none, or it is not known.
    """

    provider: str
    model: str
    kind: str
    weights: str | None
    currency: str
    input: float
    output: float
    per_month: float
    date: str | None
    source: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Onward:
    """What the path goes on with.

    Args:
        models: that suit, the first for most.
        hardware, cost: for the first of them, None where nothing carries it; on a path that calls an API, what running
            it instead would take.
        totals: what those GPUs cost with people, power and maintenance.
        parts: equal parts that the load is planned in, as one plan holds so many copies at most; 1 for most.
        longest_tokens: longest request that the models take, where no GPU was found; None where one was.
        apis: offers that the path uses, or that GPUs are compared with.
        within_upfront_budget, within_monthly_spend: whether what the path costs typically stays within what was said,
            None where that was not, or the price is not known.
        commands: what to type next.
        lines: the same for people, a name and a sentence each.
    """

    demand: Demand
    models: tuple[Candidate, ...]
    hardware: Hardware | None
    cost: Money | None
    apis: tuple[Api, ...]
    commands: tuple[str, ...]
    within_upfront_budget: bool | None = None
    within_monthly_spend: bool | None = None
    totals: tuple[Total, ...] = ()
    parts: int = 1
    longest_tokens: int | None = None
    lines: tuple[tuple[str, str], ...] = ()

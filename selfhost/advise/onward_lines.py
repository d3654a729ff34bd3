"""What a path goes on with, in words: a name and a sentence for each line of the screen."""

from __future__ import annotations

from selfhost.advise.commands import MOST_REPLICAS
from selfhost.advise.onward_types import Api, Onward, Span
from selfhost.advise.tables import word
from selfhost.advise.types import Language, Path


def lines_of(
    onward: Onward, path: Path, latency_ms: float | None, language: Language
) -> tuple[tuple[str, str], ...]:
    """The lines, in the order in which a person asks: load, model, hardware, speed, cost, APIs."""

    def say(name: str, **facts: object) -> str:
        return word(name, language).format(**facts)

    stop, pause = ("。", "；") if language == "zh" else (".", "; ")
    demand = onward.demand
    told = say("assumed-load") if "requests_per_day" in demand.assumed else say("told-load")
    load = say(
        "load-line",
        requests=f"{demand.requests_per_day:,.0f}",
        prompt=f"{demand.prompt_tokens:,}",
        output=f"{demand.output_tokens:,}",
        peak=_number(demand.peak_requests_per_second),
    )
    found = [(say("onward-load"), f"{load}{pause}{told}{stop}")]
    if path == "closed-private":
        found.append((say("onward-cost"), say("vendor-quote") + stop))
    called = path in ("closed-cloud", "hosted-open")
    used = None if onward.hardware is None else onward.hardware.model
    for model in () if called else onward.models:
        if model.id == (used or onward.models[0].id):
            permission = say(f"permission-{model.permission}")
            licence = say("licence-line", licence=model.licence, permission=permission)
            found.append((say("onward-model"), f"{model.id}{pause}{model.because}{pause}{licence}{stop}"))
    machines = _machine_lines(onward, path, latency_ms, language)
    if path == "hybrid":
        found.append((say("onward-hybrid"), say("hybrid-line") + stop))
    beside = {
        "closed-private": "onward-yardstick",
        "open-private": "onward-beside",
        "open-cloud": "onward-beside",
    }
    head = say(beside.get(path, "onward-api"))
    apis = [(head, _api(one, language) + stop) for one in onward.apis]
    if called:
        found += [*(apis or [(say("onward-api"), say("no-api") + stop)]), *machines]
    else:
        found += [*machines, *apis]
    said = [one.date for one in onward.apis] + ([] if onward.cost is None else [onward.cost.date])
    dates = [date for date in said if date is not None]
    if dates:
        found.append((say("onward-prices"), say("prices-line", date=min(dates)) + stop))
    for name, within in (("upfront", onward.within_upfront_budget), ("monthly", onward.within_monthly_spend)):
        if within is not None:
            found.append(
                (say("onward-budget"), say(f"budget-{name}-{'within' if within else 'over'}") + stop)
            )
    return tuple(found)


def _machine_lines(
    onward: Onward, path: Path, latency_ms: float | None, language: Language
) -> list[tuple[str, str]]:
    def say(name: str, **facts: object) -> str:
        return word(name, language).format(**facts)

    stop, pause, comma = ("。", "；", "，") if language == "zh" else (".", "; ", ", ")
    hardware, cost = onward.hardware, onward.cost
    if hardware is None or cost is None:
        asked = onward.demand.prompt_tokens + onward.demand.output_tokens
        most = onward.longest_tokens
        if most is not None and most < asked:
            return [(say("onward-hardware"), say("too-long", asked=f"{asked:,}", most=f"{most:,}") + stop)]
        return [(say("onward-hardware"), say("no-hardware") + stop)]
    gpus = say(
        "hardware-line",
        gpus=f"{hardware.gpus:,}",
        gpu=hardware.gpu_name,
        quantization=hardware.quantization or say("as-published"),
    )
    speed = say(
        "speed-line",
        ttft=_number(hardware.ttft_ms.typical),
        tpot=_number(hardware.tpot_ms.typical),
        speed=_number(hardware.output_tokens_per_second.typical),
    )
    if latency_ms is not None:
        met = "latency-met" if hardware.meets_latency else "latency-missed"
        speed += pause + say(met, ms=f"{latency_ms:g}", found=_number(hardware.ttft_ms.typical))
    money = [
        say(
            "rent-line",
            month=_number(cost.per_month.typical),
            currency=cost.currency,
            span=_of_tier(cost.tier, cost.per_month, comma),
            million=_number(cost.per_million_output_tokens.typical),
        )
        if cost.per_month is not None and cost.per_million_output_tokens is not None
        else say("no-rent"),
        say(
            "buy-line",
            capital=_number(cost.capital.typical),
            currency=cost.currency,
            span=_span(cost.capital),
        )
        if cost.capital is not None
        else say("no-capital"),
    ]
    if path in ("closed-cloud", "hosted-open"):
        told = [hardware.model, gpus, *money, *_all_in(onward, language)]
        return [(say("onward-compare"), pause.join(told) + stop)]
    found = [
        (say("onward-hardware"), gpus + stop),
        (say("onward-speed"), speed + stop),
        (say("onward-cost"), pause.join(money) + stop),
    ]
    found += [(say("onward-total"), text + stop) for text in _all_in(onward, language)]
    if onward.parts > 1:
        parts = say("parts-line", parts=onward.parts, most=f"{MOST_REPLICAS:,}")
        found.append((say("onward-parts"), parts + stop))
    return found


def _all_in(onward: Onward, language: Language) -> list[str]:
    """What each way to have the GPUs costs with people, power and maintenance."""
    assert onward.cost is not None
    return [
        word("bought-line" if one.option.startswith("buy") else "rented-line", language).format(
            month=_number(one.per_month), currency=onward.cost.currency, total=_number(one.three_years.typical),
            span=_span(one.three_years),
        )
        for one in onward.totals
        if one.per_month is not None and one.three_years is not None
    ]  # fmt: skip


def _api(one: Api, language: Language) -> str:
    return word("api-line", language).format(
        name=f"{one.provider}/{one.model}",
        input=f"{one.input:g}",
        output=f"{one.output:g}",
        currency=one.currency,
        month=_number(one.per_month),
    )


def _of_tier(tier: str, found: Span, comma: str) -> str:
    span = _span(found)
    return f"{tier}{comma}{span}" if "–" in span else tier


def _span(found: Span) -> str:
    low, high = _number(found.low), _number(found.high)
    return low if low == high else f"{low}–{high}"


def _number(value: float) -> str:
    """Three or four digits of it: what it rests on has no more."""
    return f"{float(f'{value:.4g}'):,.0f}" if value >= 100 else f"{value:,.3g}"

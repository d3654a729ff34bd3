"""What to type next on a path: a plan of what was found, its cost and its report."""

from __future__ import annotations

import math
import shlex

from selfhost.advise.machines import DAYS_PER_MONTH
from selfhost.advise.onward_types import Api, Candidate, Demand, Hardware
from selfhost.advise.types import Advice, Language
from selfhost.licence.types import Use

BOUGHT = ("open-private", "closed-private")
MOST_REPLICAS = 1000  # of one plan (selfhost.plan.check)


def parts_of(hardware: Hardware | None) -> int:
    """Equal parts that a load is planned in."""
    return 1 if hardware is None else max(1, math.ceil(hardware.replicas / MOST_REPLICAS))


def commands_for(
    advice: Advice,
    demand: Demand,
    models: tuple[Candidate, ...],
    hardware: Hardware | None,
    apis: tuple[Api, ...],
    *,
    use: Use,
    currency: str,
    country: str,
    language: Language,
    advice_file: str | None,
) -> tuple[str, ...]:
    """What to type next: the plan and the report of one part, the cost of all."""
    if hardware is None:  # a plan of it would be refused
        return ("selfhost models",)
    name = hardware.model
    model = next(one for one in models if one.id == name)
    parts = parts_of(hardware)
    lengths = ["--prompt-tokens", str(demand.prompt_tokens), "--output-tokens", str(demand.output_tokens)]
    terms = ["--accept-licence", str(model.licence)] if model.permission == "conditional" else []
    ranked = ["--rank-by", "capital" if advice.path in BOUGHT else "cost", "--use", use, *terms]
    plan = [
        name, *_machine(hardware), *lengths, "--context", str(demand.prompt_tokens + demand.output_tokens),
        *_replicas(hardware, parts), "--request-rate", _rate(demand.peak_requests_per_second / parts), *ranked,
        "-o", "plan.json",
    ]  # fmt: skip
    where = ["--currency", currency, *([] if country == "unknown" else ["--country", country])]
    offers = [text for one in apis for text in ("--api", f"{one.provider}/{one.model}")]
    rent = ["--rent", "specialty"]
    ways = [*(["--buy"] if advice.path in BOUGHT else []), *rent, *offers]
    copies = _replicas(hardware, 1) if parts > 1 else []  # of all parts
    cost = ["plan.json", *copies, *lengths, *_month(demand, 1), *where, *ways]
    advised = [] if advice_file is None else ["--advice", advice_file]
    spoken = [] if language == "en" else ["--lang", language]
    report = [
        "plan.json", *advised, *lengths, *_month(demand, parts), *where, *rent, *offers, *spoken, "-o", "report.html",
    ]  # fmt: skip
    return tuple(
        shlex.join(["selfhost", verb, *words])
        for verb, words in (("plan", plan), ("cost", cost), ("report", report))
    )


def _machine(hardware: Hardware) -> list[str]:
    quant = ["--quant", hardware.quantization] if hardware.quantization else []
    return ["--gpu", hardware.gpu, *quant]


def _replicas(hardware: Hardware, parts: int) -> list[str]:
    """So many copies, where it takes several."""
    if hardware.replicas == 1:
        return []
    return ["--replicas", str(math.ceil(hardware.replicas / parts))]


def requests_per_month(demand: Demand) -> float:
    """Whole requests of a month, as they are typed."""
    return max(1, round(demand.requests_per_day * DAYS_PER_MONTH))


def _month(demand: Demand, parts: int) -> list[str]:
    return ["--requests-per-month", f"{requests_per_month(demand) / parts:.0f}"]


def _rate(rate: float) -> str:
    """Requests a second, four digits of it and never more than it is: copies are counted for no more."""
    step = 10.0 ** (math.floor(math.log10(max(rate, 0.001))) - 3)
    return f"{max(0.001, math.floor(rate / step + 1e-9) * step):.12g}"

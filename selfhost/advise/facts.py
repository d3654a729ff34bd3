"""From answers to the facts that the rules read: what was said, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Callable

from selfhost.advise.match import Facts
from selfhost.advise.types import Answers
from selfhost.advise.wishes import Wish

ToCny = Callable[[float, str], float | None]

# Worked cases: plan 2 starts at 100,000 CNY up front (rule 38) and 10,000 a month (rule 28), plan 1 took 800,000 CNY
# (rule 26). A small firm's pay per use is up to 5,000 CNY a month (rule 37).
MEDIUM_UPFRONT_CNY = 100_000
AMPLE_UPFRONT_CNY = 800_000
MEDIUM_MONTHLY_CNY = 10_000
SMALL_MONTHLY_CNY = 5_000
# The professional team of the worked case had five people (rule 26), the basic ones one or two (rules 28, 38). Ours:
# one to four are a basic team.
PROFESSIONAL_PEOPLE = 5
FEW_PEOPLE = 2
# Rule 49 speaks of fewer than five engineers. Ours: that few are a basic team where nothing more is said of it.
FEW_ENGINEERS = 5
# Rule 49 asks for 50 ms. Ours: up to 100 ms, as the way to another's API and back takes tens of milliseconds already.
STRICT_LATENCY_MS = 100
# Ours: a million requests a day are the "large scale, high concurrency" of rule 4.
MATURE_REQUESTS_PER_DAY = 1_000_000
# Ours: fewer than that, two a minute of a working day, nobody calls a large load.
FEW_REQUESTS_PER_DAY = 1000
# Rule 57: 7-14 B suffice for generic work, 72 B for the vertical case. Ours: three times as much is far more than that.
SUITED_B = {"generic": 14.0, "vertical": 72.0}
OVERSIZED = 3.0
# Members of the euro area, 2026-01 (European Central Bank).
EURO = frozenset(
    (
        "AT", "BE", "BG", "CY", "DE", "EE", "ES", "FI", "FR", "GR", "HR", "IE", "IT", "LT", "LU", "LV", "MT", "NL",
        "PT", "SI", "SK",
    )
)  # fmt: skip


def derive(answers: Answers, *, wish: Wish | None, to_cny: ToCny | None) -> Facts:
    """The facts behind a decision; what does not follow from the answers is `unknown`.

    Args:
        answers: what was said.
        wish: what is known of the model that somebody has in mind.
        to_cny: an amount and its currency in CNY, None where the rate is not known.
    """
    said = answers.choice
    upfront, monthly = _cny(answers, "upfront_budget", to_cny), _cny(answers, "monthly_spend", to_cny)
    stage, need = _stage(answers), said("need")
    found: dict[str, str | tuple[str, ...]] = {
        key: said(key)
        for key in (
            "privacy", "data", "compliance", "load", "horizon", "mixed", "routing", "size", "sector", "country",
            "fine_tuning", "selected_by", "cost_view", "security", "vendor_support", "need",
        )
    }  # fmt: skip
    found |= {
        f"{key}_said": said(key)
        for key in ("budget", "gpu_budget", "team", "mlops", "stage", "scale", "frontier")
    }
    people = answers.number("team_people")
    performance = said("performance")
    skills, money = _skills(answers), _money(answers, upfront, monthly)
    found |= {
        "private": _private(answers),
        "control": said("control"),
        "skills": skills,
        "money": money,
        "able": _able(skills, money),
        "stage": stage,
        "frontier": _frontier(answers),
        "latency": _latency(answers),
        "performance": "ambiguous" if performance == "critical" else performance,
        "wish": _wished(said("wish"), wish),
        "upfront": _upfront(upfront),
        "rent": "unknown" if monthly is None else "zero" if monthly == 0 else "some",
        "spend": "unknown" if monthly is None else "small" if monthly <= SMALL_MONTHLY_CNY else "larger",
        "people": _people(people),
        "ai_over_engineers": "yes" if (people or 0) > _or_endless(answers.number("engineers")) else "no",
        "requests": _requests(answers.number("requests_per_day")),
        "beliefs": answers.listed("beliefs"),
        "openness": "none" if wish is None else wish.openness,
        "model_licence": "none" if wish is None or wish.openness == "closed" else wish.permission,
        "model_fit": _fit(wish, need, _frontier(answers)),
    }
    return found


def currency_said(answers: Answers) -> str | None:
    """Currency of the amounts: what was said, else what the country pays in, None where neither is known."""
    said = answers.choice("currency")
    if said != "unknown":
        return said
    country = answers.choice("country")
    return "EUR" if country in EURO else {"CN": "CNY", "US": "USD"}.get(country)


def _cny(answers: Answers, key: str, to_cny: ToCny | None) -> float | None:
    amount, currency = answers.number(key), currency_said(answers) or "CNY"
    if amount is None or amount == 0 or currency == "CNY":
        return amount
    return None if to_cny is None else to_cny(amount, currency)


def _private(answers: Answers) -> str:
    """Whether data has to stay: what was said of it, else what sensitivity and compliance mean (rules 1, 12)."""
    privacy, data, compliance = map(answers.choice, ("privacy", "data", "compliance"))
    if privacy == "yes" or data == "sensitive":
        return "yes"
    if privacy == "unknown" and compliance == "high" and data != "public":
        return "yes"
    if compliance == "medium" or data == "internal":
        return "medium"
    if privacy == "no" or data == "public" or compliance == "low":
        return "no"
    return "unknown"


def _skills(answers: Answers) -> str:
    mlops, team, people = answers.choice("mlops"), answers.choice("team"), answers.number("team_people")
    if team == "unknown" and people is not None:
        team = "none" if people == 0 else "basic" if people < PROFESSIONAL_PEOPLE else "professional"
    if mlops == "no":  # people who can tune and not operate do with a provider's machines
        return "basic" if team in ("basic", "professional") else "no"
    if mlops == "yes" or team == "professional":
        return "yes"
    engineers = answers.number("engineers")
    if team == "unknown" and engineers is not None and engineers < FEW_ENGINEERS:
        return "basic"
    return {"none": "no", "basic": "basic"}.get(team, "unknown")


def _money(answers: Answers, upfront: float | None, monthly: float | None) -> str:
    """Whether GPUs can be paid for; a figure counts more than a word."""
    gpus = answers.choice("gpu_budget")
    if gpus != "unknown":
        return gpus
    by_figure = {"zero": "no", "limited": "no", "medium": "medium", "ample": "yes"}.get(_upfront(upfront))
    if by_figure == "no" and monthly is not None and monthly >= MEDIUM_MONTHLY_CNY:
        return "medium"
    if by_figure is not None:
        return by_figure
    word = {"limited": "no", "medium": "medium", "ample": "yes"}.get(answers.choice("budget"))
    if word is None and monthly is not None and monthly <= SMALL_MONTHLY_CNY:
        return "no"
    return word or "unknown"


def _able(skills: str, money: str) -> str:
    """Gate 3: skills and money both."""
    if skills == "no" or money == "no":
        return "no"
    return "yes" if skills == "yes" else "unknown"


def _upfront(cny: float | None) -> str:
    if cny is None:
        return "unknown"
    if cny == 0:
        return "zero"
    if cny < MEDIUM_UPFRONT_CNY:
        return "limited"
    return "medium" if cny < AMPLE_UPFRONT_CNY else "ample"


def _people(people: float | None) -> str:
    """As the worked cases have them (rules 26, 28): one or two are few, more than five many."""
    if people is None:
        return "unknown"
    if people == 0:
        return "none"
    return "few" if people <= FEW_PEOPLE else "some" if people <= PROFESSIONAL_PEOPLE else "many"


def _or_endless(number: float | None) -> float:
    return math.inf if number is None else number


def _requests(number: float | None) -> str:
    """Many or few requests a day, where a word for the load would be at odds with them."""
    if number is None:
        return "unknown"
    return "many" if number >= MATURE_REQUESTS_PER_DAY else "few" if number < FEW_REQUESTS_PER_DAY else "some"


def _stage(answers: Answers) -> str:
    stage, scale, requests = (
        answers.choice("stage"),
        answers.choice("scale"),
        answers.number("requests_per_day"),
    )
    scale = {"many": "large", "few": "small" if scale == "large" else scale}.get(_requests(requests), scale)
    if stage == "mvp":
        return "early"
    if stage == "mature" or scale == "large":
        return "mature"
    if stage == "growth":
        return "growth"
    return "early" if scale == "small" else "unknown"


def _frontier(answers: Answers) -> str:
    said = answers.choice("frontier")
    if (
        said == "unknown"
        and answers.choice("performance") == "quality"
        and answers.choice("need") != "vertical"
    ):
        return "yes"
    return said


def _latency(answers: Answers) -> str:
    wanted = answers.number("latency_ms")
    if wanted is not None:
        return "strict" if wanted <= STRICT_LATENCY_MS else "relaxed"
    return "strict" if answers.choice("performance") == "latency" else "unknown"


def _wished(said: str, wish: Wish | None) -> str:
    if said != "unknown" or wish is None:
        return said
    return {"open-weight": "open", "open-source": "open", "closed": "closed"}.get(wish.openness, "unknown")


def _fit(wish: Wish | None, need: str, frontier: str) -> str:
    if wish is None or wish.parameters_b is None or need not in SUITED_B:
        return "unknown"
    if frontier == "yes":
        return "fitting"
    return "oversized" if wish.parameters_b > OVERSIZED * SUITED_B[need] else "fitting"

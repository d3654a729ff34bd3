"""What LiteLLM is told by target hybrid: groups of models, their prices and budgets, and what its rules rest on.

Read in BerriAI/litellm 1.106.12 (router.py, router_strategy/budget_limiter.py, proxy/auth/user_api_key_auth.py,
proxy/litellm_pre_call_utils.py) on 2026-11-26. Without a database it keeps a proxy-wide `max_budget` to nothing but a
warning; budgets of a deployment are kept, in the memory of each process.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from selfhost.assets import asset_dir
from selfhost.errors import UsageError
from selfhost.manifests.box import Setting
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.pod import Noted
from selfhost.manifests.queries import served_name
from selfhost.plan import Plan

PRIVATE, AWAY = "private", "closed"
HEADER, ROUTE_HEADER = "x-selfhost-private", "x-selfhost-route"
PERIOD = "30d"
_SIMPLE = 1000  # ours: tokens of a prompt that a small model answers as well
_CHARACTERS = 4  # of English for a token; other languages have fewer, and are then sooner held for long
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A group of one deployment.

    Args:
        name: what clients ask for.
        because: what it is.
        model: as LiteLLM writes it.
        base: address, None for the provider's own.
        key: how LiteLLM is told the key.
        place: `own` or `away`, which the rules look at.
        costs: dollars for a token, in and out.
        budget: most dollars in a period, None for none.
    """

    name: str
    because: str
    model: str
    base: str | None
    key: str
    place: str
    costs: tuple[Setting, ...] = ()
    budget: Noted | None = None
    period: str = ""


def models_of(plan: Plan, options: RenderOptions, replicas: int) -> tuple[Model, ...]:
    """The groups: the own model by its name, for what is private, and the closed one where there is one.

    Raises:
        UsageError: the own model has a name that means something else.
    """
    asked, served = options.proxy, served_name(plan)
    if served in (PRIVATE, AWAY):
        raise UsageError(
            f"The model is called {served!r}, which the proxy gives another meaning.",
            hint="Plan with another --served-model-name.",
        )
    base = f"http://{plan.name}.{options.namespace}.svc:{plan.engine.port}/v1"
    key = "none" if options.access.api_key_secret is None else "os.environ/OWN_API_KEY"
    budget = None
    if asked.budget is not None:
        share = Decimal(asked.budget) / replicas
        because = (
            f"{asked.budget} dollars / {replicas} pods, each of which counts for itself from its start on"
        )
        budget = Noted(value=f"{share:f}", because=because)

    def own(name: str, because: str) -> Model:
        return Model(
            name=name, because=because, model=f"openai/{served}", base=base, key=key, place="own",
            costs=costs(("0", "0"), "the GPUs are paid for"),
        )  # fmt: skip

    home = (
        own(served, "the own model; the rules may send a request on, and the closed one stands in"),
        own(PRIVATE, "the own model, for what never leaves: nothing stands in for it"),
    )
    if asked.fallback_model is None:
        return home
    return (
        *home,
        Model(
            name=AWAY,
            because="the closed model",
            model=asked.fallback_model,
            base=asked.fallback_base,
            key="os.environ/FALLBACK_API_KEY",  # no provider's own variable: other paths of LiteLLM would read that
            place="away",
            costs=costs(asked.prices, "as asked") if asked.prices is not None else (),
            budget=budget,
            period=asked.budget_period or PERIOD,
        ),
    )


def costs(prices: tuple[str, str], because: str) -> tuple[Setting, ...]:
    """Dollars for a million tokens as LiteLLM wants them, for one."""
    return tuple(
        Setting(
            name=f"{way}_cost_per_token",
            value=f"{Decimal(price) / _MILLION:f}",
            because=f"{because}: {price} a million",
        )
        for way, price in zip(("input", "output"), prices, strict=True)
    )


def rules_of(plan: Plan, options: RenderOptions) -> dict[str, object]:
    """What rules.py reads."""
    asked = options.proxy
    return {
        "own": served_name(plan),
        "private": PRIVATE,
        "away": None if asked.fallback_model is None else AWAY,
        "header": HEADER,
        "route_header": ROUTE_HEADER,
        "route_by": asked.route_by,
        "simple_tokens": asked.simple_tokens or _SIMPLE,
        "characters_per_token": _CHARACTERS,
        "complex_words": [word.lower() for word in asked.complex_words],
    }


def source() -> str:
    """The rules' own code."""
    return (asset_dir("templates") / "hybrid" / "rules.py").read_text(encoding="utf-8")

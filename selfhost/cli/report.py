"""Write a plan as one page for a meeting: what to do, cost, speed, memory, licence, risks and every source."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from selfhost.cli._cost_deployment import Load
from selfhost.cli._load_options import length_options, place_options, volume_options, way_options
from selfhost.cli._options import AT_LEAST, NamedPath
from selfhost.cli._output import headline, next_step, say
from selfhost.errors import NoRoomError, SelfhostError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from selfhost.cost.assumed import Offer
    from selfhost.cost.study import Study
    from selfhost.model.spec import ModelSpec
    from selfhost.plan import Plan
    from selfhost.report.advised import AdviceFile
    from selfhost.report.choice import Apis
    from selfhost.report.page import Page
    from selfhost.report.priced import Swings, Volumes
    from selfhost.report.types import Report, Risk
    from selfhost.throughput.types import Traffic

_FILE = NamedPath(path_type=Path)
# Ours: what the copies answer with where nobody says how much is asked: clusters that serve people by day are busy
# about half of the time. It is listed as an assumption and named as a risk.
ASSUMED_UTILIZATION = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """What the comparison of costs is asked with, as it was typed."""

    load: Load
    buy: tuple[str, ...]
    rent: tuple[str, ...]
    api: tuple[str, ...]
    country: str
    currency: str
    years: int
    hosted: str
    prices: Path | None
    assumptions: Path | None


@click.command()
@click.argument("plan", type=click.Path(path_type=Path, allow_dash=True), metavar="PLAN")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, allow_dash=True), required=True, metavar="FILE",
    help="report.html, report.md or report.pdf; - for standard output.",
)  # fmt: skip
@click.option(
    "--format", "form", type=click.Choice(["html", "md", "pdf"]), help="Where the file's end does not say."
)
@click.option(
    "--lang", type=click.Choice(["en", "zh"]), default="en", show_default=True, help="English or Chinese."
)
@click.option("--advice", type=_FILE, metavar="FILE", help="What `selfhost advise --json` printed.")
@click.option("--no-charts", is_flag=True, help="Tables alone; without the extra selfhost[report].")
@click.option("--no-cost", is_flag=True, help="Leave money out.")
@length_options(default=False, instead="the plan's, or ")
@click.option(
    "--concurrency", type=AT_LEAST[1], metavar="N", help="Requests at once, for speed.  [default: the plan's]"
)
@volume_options(utilization="  [default: 0.5, where no volume is given]")
@click.option("--buy-used", is_flag=True, help="Compare with buying GPUs used, besides new.")
@way_options
@place_options(currency="Of all money")
@click.option(
    "--assumptions",
    type=_FILE,
    metavar="FILE",
    help="Own assumptions, as `selfhost cost --export-assumptions` writes.",
)
def command(
    plan: Path,
    output: Path,
    form: str | None,
    lang: str,
    advice: Path | None,
    no_charts: bool,
    no_cost: bool,
    prompt_tokens: int | None,
    output_tokens: int | None,
    concurrency: int | None,
    tokens_per_month: float | None,
    requests_per_month: float | None,
    request_rate: float | None,
    utilization: float | None,
    cached_share: float,
    buy_used: bool,
    rent: tuple[str, ...],
    api: tuple[str, ...],
    country: str,
    currency: str,
    years: int,
    hosted: str,
    prices: Path | None,
    assumptions: Path | None,
) -> None:
    """Write PLAN, a plan.json of `selfhost plan`, as a page for a meeting: HTML, Markdown or PDF.

    The page needs no other file and no network. Speed is that of `selfhost estimate`, money that of `selfhost cost`,
    each number with its range and its source; what is not known is called unknown. Markdown has its charts as SVG files
    beside it. A PDF is printed by a Chromium, Chrome or Edge on this machine.
    """
    from selfhost.plan import read_plan
    from selfhost.report.advised import read_advice
    from selfhost.report.types import Risk
    from selfhost.report.words import Words
    from selfhost.report.write import format_of

    chosen = format_of(output, form)
    decided = read_plan(plan)
    advised = None if advice is None else read_advice(advice)
    traffic = _traffic(decided, prompt_tokens, output_tokens, concurrency, cached_share)
    volume = (tokens_per_month, requests_per_month, request_rate, utilization)
    load = Load(
        prompt_tokens=traffic.prompt_tokens, output_tokens=traffic.output_tokens, tokens_per_month=tokens_per_month,
        requests_per_month=requests_per_month, request_rate=request_rate,
        utilization=ASSUMED_UTILIZATION if volume == (None,) * 4 else utilization, cached_share=cached_share,
    )  # fmt: skip
    money = Money(
        load=load, buy=("new", "used") if buy_used else ("new",), rent=rent, api=api, country=country,
        currency=currency, years=years, hosted=hosted, prices=prices, assumptions=assumptions,
    )  # fmt: skip
    spec, why = _model(decided)
    share = f"{ASSUMED_UTILIZATION:.0%}"
    assumed: tuple[Risk, ...] = ()
    if volume == (None,) * 4 and not no_cost and spec is not None:
        assumed = (Risk(key="volume_assumed", values=(("share", share),)),)
    report = _report(decided, spec, why, traffic, None if no_cost else money, advised, assumed)
    page = _laid_out(report, lang, pictures=not no_charts and not (chosen == "md" and str(output) == "-"))
    _write(page, output, chosen, lang=lang)
    if str(output) != "-":
        words = Words(lang="zh" if lang == "zh" else "en")
        headline(words.say("page.written", headline=page.headline, file=output))
        for risk in assumed if report.cost is not None else ():
            say(words.say(f"risk.{risk.key}", **dict(risk.values)))
        if chosen == "html":
            paper = output.with_suffix(".pdf")
            command = f"selfhost report {shlex.quote(str(plan))} {_again(paper)}"
            next_step(command, words.say("page.paper"), head=words.say("page.next"))


def _again(output: Path) -> str:
    """The options that were typed, for another file."""
    from click.core import ParameterSource

    context = click.get_current_context()
    words = ["-o", str(output)]
    for one in context.command.params:
        typed = context.get_parameter_source(one.name or "") == ParameterSource.COMMANDLINE
        if not isinstance(one, click.Option) or one.name in ("output", "form") or not typed:
            continue
        value = context.params[one.name or ""]
        for each in value if isinstance(value, tuple) else (value,):
            shown = f"{each:.15g}" if isinstance(each, float) else str(each)
            words += [one.opts[-1]] if one.is_flag else [one.opts[-1], shown]
    return shlex.join(words)


def _traffic(
    plan: Plan, prompt: int | None, answer: int | None, concurrency: int | None, cached_share: float
) -> Traffic:
    """The load that speed is estimated under: what was typed, else the plan's own, else the usual lengths."""
    from selfhost.throughput.types import Traffic

    own = None if plan.estimate is None else plan.estimate.traffic
    at_once = plan.workload.concurrency * plan.replicas
    rate = own.request_rate if own is not None and concurrency is None else None
    return Traffic(
        prompt_tokens=prompt or (own.prompt_tokens if own else 1024),
        output_tokens=answer or (own.output_tokens if own else 256),
        concurrency=None if rate else concurrency or (own and own.concurrency) or at_once,
        request_rate=rate,
        prefix_hit_ratio=cached_share or (own.prefix_hit_ratio if own else 0.0),
        acceptance=own.acceptance if own else None,
    )


def _model(plan: Plan) -> tuple[ModelSpec | None, str]:
    """The plan's model, or why it cannot be read: a page without speed is better than none."""
    from selfhost.cli._cost_deployment import model_of

    try:
        return model_of(plan), ""
    except SelfhostError as error:
        return None, error.message.rstrip(".")


def _report(
    plan: Plan, spec: ModelSpec | None, why: str, traffic: Traffic, money: Money | None, advised: AdviceFile | None,
    assumed: tuple[Risk, ...],
) -> Report:  # fmt: skip
    from selfhost.catalog.prices import load_prices
    from selfhost.cli._planning import now
    from selfhost.ranking.costs import Pricing
    from selfhost.report.build import build_report

    pricing, weighed = None, None
    if money is not None:
        known = load_prices(money.prices)
        pricing = Pricing(known, tier="specialty", term="on-demand", currency=money.currency)
        try:
            weighed = None if spec is None else _weighed(plan, spec, money)
        except (UnsupportedError, NoRoomError):
            weighed = None  # without a speed there is no cost per token; the page says why under throughput
    return build_report(
        plan, spec, traffic=traffic, created=now(), pricing=pricing, why_no_model=why or "unknown", advice=advised,
        study=None if weighed is None else weighed.study, apis=None if weighed is None else weighed.apis,
        volumes=None if weighed is None else weighed.volumes, swings=None if weighed is None else weighed.swings,
        more_risks=assumed if weighed is not None else (),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """The ways compared: what each costs, whose models the APIs are, and how volume and assumptions move them."""

    study: Study
    apis: Apis
    volumes: Volumes
    swings: Swings


def _weighed(plan: Plan, spec: ModelSpec, money: Money) -> Weighed:
    from functools import partial

    from selfhost.catalog.gpus import find_gpu
    from selfhost.catalog.prices import load_prices
    from selfhost.cli._cost_deployment import Served, deployment_of, ways_of, without_unpriced
    from selfhost.cli._cost_files import apply, read_assumptions
    from selfhost.cost.study import study, swings_of
    from selfhost.engines import parse_engine

    known = load_prices(money.prices)
    served = Served(
        spec=spec, gpu=find_gpu(plan.gpu.id), engine=parse_engine(f"{plan.engine.name}@{plan.engine.version}"),
        split=plan.split, workload=plan.workload, concurrency=None, ttft_goal=None, tpot_goal=None,
    )  # fmt: skip
    named = bool(money.rent or money.api or "used" in money.buy)
    ways = ways_of(
        money.buy if named else (), money.rent, money.api, spec.id,
        prompt_tokens=money.load.prompt_tokens, batch_share=0.0,
    )  # fmt: skip
    try:
        facts, deployment = deployment_of(
            served, money.load, without_unpriced(ways, known, plan.gpu.id, money.rent), known, copies=plan.replicas,
            months=12 * money.years, country=money.country, currency=money.currency,
            hosted=money.hosted,
        )  # fmt: skip
    except UsageError as error:
        if "--replicas" not in (error.hint or ""):
            raise
        raise UsageError(
            error.message, hint="Plan more copies (`selfhost plan … --replicas N`), or name a smaller volume."
        ) from None
    rows = facts.assumptions
    if money.assumptions is not None:
        rows = apply(rows, read_assumptions(money.assumptions), money.assumptions)
    found = study(rows, deployment.build)
    values = {one.key: one.typical for one in rows}
    hosts = {one.name for one in ways.apis}
    return Weighed(
        study=found,
        apis=_apis(spec.id, ways.apis, money.api),
        volumes={
            (pair.option, pair.against): deployment.break_even(pair.option, pair.against, values)
            for pair in found.pairs
            if pair.option not in hosts and (pair.against in hosts or pair.option.startswith("buy"))
        },
        swings=partial(swings_of, rows, deployment.build),
    )


def _apis(model: str, offers: Sequence[Offer], named: Sequence[str]) -> Apis:
    """Which of the APIs serve the model's own weights."""
    from selfhost.api_prices import api_models
    from selfhost.report.choice import Apis

    same = {
        f"{one.provider}/{one.model}".lower()
        for one in api_models()
        if (one.weights or "").lower() == model.lower()
    }
    return Apis(
        same=frozenset(one.name for one in offers if one.name.lower() in same),
        open=frozenset(one.name for one in offers if one.hosted_open),
        asked=frozenset(named),
    )


def _laid_out(report: Report, lang: str, *, pictures: bool) -> Page:
    from selfhost.report.lay import lay_out

    return lay_out(report, lang="zh" if lang == "zh" else "en", pictures=pictures)


def _write(page: Page, output: Path, form: str, *, lang: str) -> None:
    from dataclasses import replace

    from selfhost.report.pdf import to_pdf
    from selfhost.report.render import pictures, to_html, to_markdown
    from selfhost.report.write import write_files

    if form == "md":
        stem = output.stem
        named = replace(
            page,
            sections=tuple(
                replace(
                    one, charts=tuple(replace(chart, file=f"{stem}-{chart.file}") for chart in one.charts)
                )
                for one in page.sections
            ),
        )
        text, beside = to_markdown(named), pictures(named)
    else:
        text, beside = to_html(page), {}
    if str(output) == "-":
        click.echo(text, nl=False)
        return
    data = to_pdf(text, chinese=lang == "zh") if form == "pdf" else text.encode("utf-8")
    write_files({output: data, **{output.parent / name: svg.encode("utf-8") for name, svg in beside.items()}})

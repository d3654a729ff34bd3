"""What templates/hybrid/ sees as `plan`: target kubernetes, and a LiteLLM proxy before it that may ask a closed model.

Read in BerriAI/litellm 1.106.12 (router.py, router_strategy/budget_limiter.py, proxy/auth/user_api_key_auth.py,
proxy/litellm_pre_call_utils.py) on 2026-11-26. Without a database it keeps a proxy-wide `max_budget` to nothing but a
warning; budgets of a deployment are kept, in the memory of each process.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from urllib.parse import urlsplit

from selfhost.assets import asset_dir
from selfhost.engines import parse_image
from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests import kubernetes
from selfhost.manifests.access import SECRET_KEY
from selfhost.manifests.box import Setting
from selfhost.manifests.exposure import Backend, exposure, gateway_namespace, request_timeout
from selfhost.manifests.network import INTERNET, Peer, Policy, PolicyPort, Rule, dns_rule
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.pod import (
    Container,
    EmptyDir,
    FileItem,
    Files,
    Mount,
    Noted,
    Number,
    Pair,
    PodView,
    Port,
    Probed,
    SecretKey,
    Variable,
    Volume,
)
from selfhost.manifests.queries import served_name
from selfhost.manifests.requests import request_of
from selfhost.plan import Plan

BASE = "kubernetes"
OMIT = frozenset(("66-ingress.yaml",))
# Published with every release, and signed (BerriAI/litellm's releases); runs as `nobody`.
PROXY_IMAGE = "ghcr.io/berriai/litellm-non_root:v1.106.12"
PORT = 4000
PRIVATE, AWAY = "private", "closed"
HEADER, ROUTE_HEADER = "x-selfhost-private", "x-selfhost-route"
_USER = 65534  # `nobody`, whose the image is
_FOLDER = "/etc/litellm"
_TRIES, _COOLDOWN, _REPLICAS, _SIMPLE, _PERIOD = 1, 30, 2, 1000, "30d"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """The proxy, and everything its configuration says."""

    name: str
    labels: tuple[Pair, ...]
    pod: PodView
    policy: Policy
    replicas: Number
    spread: bool
    port: int
    models: tuple[Model, ...]
    own: str
    private: str
    away: str
    timeout: Number
    retries: Number
    cooldown: Number
    rules: str
    key_secret: str
    fallback_secret: str
    secret_key: str
    header: str
    routed: str
    budget: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class View(kubernetes.View):
    """What target kubernetes prints, and the proxy."""

    proxy: Proxy


def view(plan: Plan, options: RenderOptions) -> View:
    """Translate a plan.

    Raises:
        UnsupportedError: an engine that does not speak OpenAI's protocol.
        UsageError: no closed model, or options that contradict the plan.
    """
    asked = options.proxy
    if asked.fallback_model is None:
        raise UsageError(
            "--target hybrid needs --fallback-model: where requests go that may leave.",
            hint="Add --fallback-model PROVIDER/MODEL, or take --target kubernetes.",
        )
    if not request_of(plan).path.startswith("/v1/"):
        raise UnsupportedError(
            f"{plan.engine.name} {plan.engine.version} does not speak OpenAI's protocol, which the proxy asks in.",
            hint="Plan for vllm, sglang or llamacpp.",
        )
    if options.access.expose == "ingress":
        raise UsageError(
            "--target hybrid has no Ingress: the model's own Service is not to be seen outside.",
            hint="Use --expose gateway, whose route leads to the proxy.",
        )
    inner = replace(options, gateway_namespace=None, access=replace(options.access, client_cidrs=()))
    base = kubernetes.view(plan, inner)
    proxy = _proxy(plan, options)
    common = {item.name: getattr(base, item.name) for item in fields(base)}
    common |= {
        "policy": _closed(base.policy, proxy.pod.selector, options),
        "exposure": exposure(plan, options, backend=Backend(name=proxy.name, port=PORT)),
        "headline": (
            *base.headline,
            f"a proxy sends {proxy.routed}; closed model: {asked.fallback_model}",
            f"marked private (model `{PRIVATE}`, header `{HEADER}`), a request never leaves: it fails instead",
        ),
    }
    return View(**common, proxy=proxy)


def _closed(policy: Policy, senders: tuple[Pair, ...], options: RenderOptions) -> Policy:
    """The model's policy, with the proxy as the only one that sends requests: past it nothing is decided or counted."""
    gateway = gateway_namespace(options)
    only = Peer(because="the proxy alone: no request goes past its rules", pods=senders)

    def peers(rule: Rule) -> tuple[Peer, ...]:
        kept = [
            peer
            for peer in rule.peers
            if not peer.everyone and (gateway is None or peer.namespace != gateway)
        ]
        return (only, *kept) if len(kept) < len(rule.peers) else rule.peers

    return replace(policy, ingress=tuple(replace(rule, peers=peers(rule)) for rule in policy.ingress))


def _proxy(plan: Plan, options: RenderOptions) -> Proxy:
    asked = options.proxy
    name = f"{plan.name}-proxy"
    labels = (
        Pair(key="app.kubernetes.io/name", value="litellm"),
        Pair(key="app.kubernetes.io/instance", value=plan.name),
        Pair(key="app.kubernetes.io/component", value="proxy"),
        Pair(key="app.kubernetes.io/managed-by", value="selfhost"),
    )
    replicas = asked.proxy_replicas or _REPLICAS
    models = _models(plan, options, replicas)
    rules = json.dumps(_rules(plan, options), indent=2, sort_keys=True)
    decides = (models, rules, asked, _source())
    content = hashlib.sha256(repr(decides).encode()).hexdigest()[:16]
    timeout = request_timeout(plan, options)
    if asked.proxy_timeout is not None:
        timeout = Number(value=asked.proxy_timeout, because="as asked")
    return Proxy(
        name=name,
        labels=labels,
        pod=_pod(plan, options, name, labels, content, timeout, replicas),
        policy=_policy(plan, options),
        replicas=Number(
            value=replicas,
            because="as asked" if asked.proxy_replicas else "one may end while the other serves",
        ),
        spread=replicas > 1,
        port=PORT,
        models=models,
        own=served_name(plan),
        private=PRIVATE,
        away=AWAY,
        timeout=timeout,
        retries=Number(
            value=_TRIES if asked.proxy_retries is None else asked.proxy_retries,
            because="before the other model stands in",
        ),
        cooldown=Number(
            value=asked.cooldown or _COOLDOWN, because="seconds that a model which fails is left alone"
        ),
        rules=rules,
        key_secret=asked.proxy_key_secret,
        fallback_secret=asked.fallback_key_secret,
        secret_key=SECRET_KEY,
        header=HEADER,
        routed=_routed(options),
        budget=None
        if asked.budget is None
        else f"{asked.budget} dollars in {asked.budget_period or _PERIOD}",
    )


def _routed(options: RenderOptions) -> str:
    if options.proxy.route_by == "simple":
        return "what is simple to the own model, the rest to the closed one"
    if options.proxy.route_by == "header":
        return f"requests to the own model, and to the closed one where `{ROUTE_HEADER}: away` says so"
    return (
        "requests to the own model, and to the closed one while it is down or where they are too long for it"
    )


def _models(plan: Plan, options: RenderOptions, replicas: int) -> tuple[Model, ...]:
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
            costs=_costs(("0", "0"), "the GPUs are paid for"),
        )  # fmt: skip

    return (
        own(served, "the own model; the rules may send a request on, and the closed one stands in"),
        own(PRIVATE, "the own model, for what never leaves: nothing stands in for it"),
        Model(
            name=AWAY,
            because="the closed model",
            model=asked.fallback_model or "",
            base=asked.fallback_base,
            key="os.environ/FALLBACK_API_KEY",  # no provider's own variable: other paths of LiteLLM would read that
            place="away",
            costs=_costs(asked.prices, "as asked") if asked.prices is not None else (),
            budget=budget,
            period=asked.budget_period or _PERIOD,
        ),
    )


def _costs(prices: tuple[str, str], because: str) -> tuple[Setting, ...]:
    """Dollars for a million tokens as LiteLLM wants them, for one."""
    return tuple(
        Setting(
            name=f"{way}_cost_per_token",
            value=f"{Decimal(price) / _MILLION:f}",
            because=f"{because}: {price} a million",
        )
        for way, price in zip(("input", "output"), prices, strict=True)
    )


def _rules(plan: Plan, options: RenderOptions) -> dict[str, object]:
    """What rules.py reads."""
    asked = options.proxy
    return {
        "own": served_name(plan),
        "private": PRIVATE,
        "away": AWAY,
        "header": HEADER,
        "route_header": ROUTE_HEADER,
        "route_by": asked.route_by,
        "simple_tokens": asked.simple_tokens or _SIMPLE,
        "characters_per_token": _CHARACTERS,
        "complex_words": [word.lower() for word in asked.complex_words],
    }


def _source() -> str:
    return (asset_dir("templates") / "hybrid" / "rules.py").read_text(encoding="utf-8")


def _pod(
    plan: Plan,
    options: RenderOptions,
    name: str,
    labels: tuple[Pair, ...],
    content: str,
    timeout: Number,
    replicas: int,
) -> PodView:
    keys = ("config.yaml", "rules.py", "rules.json")
    items = tuple(FileItem(key=key, path=key) for key in keys)
    grace = timeout.value + 15
    return PodView(
        labels=labels,
        selector=labels[:3],
        annotations=(
            Pair(key="kubectl.kubernetes.io/default-container", value="proxy"),
            Pair(key="selfhost/content", value=content),
        ),
        service_account=plan.name,
        grace=Number(
            value=grace, because=f"15 s until it is forgotten, and {timeout.value} s for the longest answer"
        ),
        nodes=(),
        spread=replicas > 1,
        taints=(),
        pull_secrets=options.access.image_pull_secrets,
        priority_class=options.scaling.priority_class,
        user_id=_USER,
        groups=(),
        groups_because="",
        init=(),
        containers=(_container(options),),
        volumes=(
            Volume(
                name="config", config_map=Files(name=name, items=items, because="models, rules and clocks")
            ),
            Volume(name="tmp", empty=EmptyDir(size=Noted(value="256Mi", because="scratch files"))),
        ),
    )


def _container(options: RenderOptions) -> Container:
    asked = options.proxy
    image = parse_image(asked.proxy_image or PROXY_IMAGE)
    pinned = "as asked" if asked.proxy_image else "the release that these rules were tried with"
    return Container(
        name="proxy",
        image=Noted(value=image.reference, because=pinned),
        command=("litellm",),
        args=tuple(
            Noted(value=word, because=because)
            for word, because in (
                (f"--config={_FOLDER}/config.yaml", "models, rules and clocks"),
                ("--host=0.0.0.0", "the pod's own address"),
                (f"--port={PORT}", "above 1024, as the process is not root"),
                (
                    "--num_workers=1",
                    "budgets and failures are counted in one process; more pods, not more workers",
                ),
                ("--telemetry=False", "no usage reports"),
            )
        ),
        env=_env(options),
        ports=(Port(name="http", number=PORT),),
        cpu_request=Noted(value="1", because="ours: one process"),
        cpu_limit=Noted(value="2", because="ours: one process and its start"),
        memory_request=Noted(value="2Gi", because="ours: its modules take most of a GiB"),
        memory_limit=Noted(value="4Gi", because="ours: prompts in flight"),
        ephemeral=Noted(value="1Gi", because="scratch files and logs"),
        probes=Probed(
            ready_path="/health/readiness",
            live_path="/health/liveliness",
            port="http",
            period=Number(value=10, because="a new start is noticed within this time"),
            startup_failures=Number(value=30, because="five minutes to read its modules on a slow node"),
            timeout=Number(value=5, because="it answers from memory"),
            live_timeout=Number(value=10, because="life is doubted later than readiness"),
        ),
        pre_stop=Number(value=15, because="still serves while endpoints and gateways forget the pod"),
        user_id=_USER,
        read_only_root=True,
        root_because="it writes to /tmp alone",
        mounts=(Mount(name="config", path=_FOLDER, read_only=True), Mount(name="tmp", path="/tmp")),
    )


def _env(options: RenderOptions) -> tuple[Variable, ...]:
    asked = options.proxy
    plain = (
        ("HOME", "/tmp", "the only writable directory"),
        ("LITELLM_LOCAL_MODEL_COST_MAP", "True", "the prices it came with; none are fetched at start"),
        ("LITELLM_MODE", "PRODUCTION", "reads no .env file"),
        ("LITELLM_LOG", "WARNING", "no prompts in the log"),
        ("NO_DOCS", "True", "no page of the API"),
        ("DISABLE_ADMIN_UI", "True", "no page of the administration"),
        ("DO_NOT_TRACK", "1", "no usage reports"),
        ("PYTHONDONTWRITEBYTECODE", "1", "beside the rules nothing is writable"),
    )
    secrets = [
        ("LITELLM_MASTER_KEY", asked.proxy_key_secret, "clients have to send it"),
        ("FALLBACK_API_KEY", asked.fallback_key_secret, "of the closed model's provider"),
    ]
    if options.access.api_key_secret is not None:
        secrets.append(("OWN_API_KEY", options.access.api_key_secret, "what the own model asks for"))
    return (
        *(Variable(name=name, value=value, because=because) for name, value, because in plain),
        *(
            Variable(name=name, because=because, secret=SecretKey(name=secret, key=SECRET_KEY))
            for name, secret, because in secrets
        ),
    )


def _policy(plan: Plan, options: RenderOptions) -> Policy:
    """Who may ask the proxy, and whom it may ask: the model and the internet, which the model may not."""
    senders = [Peer(because="any pod of this namespace", everyone=True)]
    gateway = gateway_namespace(options)
    if gateway is not None and gateway != options.namespace:
        senders.append(Peer(because="the gateway sends requests", namespace=gateway))
    senders += [
        Peer(because="addresses that requests come from, as asked", cidr=cidr)
        for cidr in options.access.client_cidrs
    ]
    parts = urlsplit(options.proxy.fallback_base or "https://")
    model = tuple(
        Pair(key=f"app.kubernetes.io/{key}", value=value)
        for key, value in (("name", plan.engine.name), ("instance", plan.name), ("component", "server"))
    )
    return Policy(
        ingress=(Rule(because="requests", ports=(PolicyPort(number=PORT),), peers=tuple(senders)),),
        egress=(
            dns_rule(options, "names"),
            Rule(
                because="the own model",
                ports=(PolicyPort(number=plan.engine.port),),
                peers=(Peer(because="its pods", pods=model),),
            ),
            Rule(because="the closed model", ports=(PolicyPort(number=parts.port or 443),), peers=INTERNET),
        ),
    )

"""What templates/hybrid/ sees as `plan`: target kubernetes, and a LiteLLM proxy that may ask another model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, replace
from urllib.parse import urlsplit

from selfhost.engines import parse_image
from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests import kubernetes
from selfhost.manifests.access import SECRET_KEY
from selfhost.manifests.exposure import Backend, exposure, gateway_namespace, request_timeout
from selfhost.manifests.litellm import (
    AWAY,
    HEADER,
    PERIOD,
    PRIVATE,
    ROUTE_HEADER,
    Model,
    models_of,
    rules_of,
    source,
)
from selfhost.manifests.network import Peer, Policy, PolicyPort, Rule, dns_rule, internet
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
_USER = 65534  # `nobody`, whose the image is
_FOLDER = "/etc/litellm"
_TRIES, _COOLDOWN, _REPLICAS = 1, 30, 2


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
    leaves: bool
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
            f"a proxy sends {proxy.routed}",
            f"closed model: {asked.fallback_model or 'NONE, --fallback-model names one'}",
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
    models = models_of(plan, options, replicas)
    rules = json.dumps(rules_of(plan, options), indent=2, sort_keys=True)
    decides = (models, rules, asked, source())
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
        leaves=asked.fallback_model is not None,
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
        budget=None if asked.budget is None else f"{asked.budget} dollars in {asked.budget_period or PERIOD}",
    )


def _routed(options: RenderOptions) -> str:
    if options.proxy.fallback_model is None:
        return "requests to the own model, as nothing else is there"
    if options.proxy.route_by == "simple":
        return "what is simple to the own model, the rest to the closed one"
    if options.proxy.route_by == "header":
        return f"requests to the own model, and to the closed one where `{ROUTE_HEADER}: away` says so"
    return (
        "requests to the own model, and to the closed one while it is down or where they are too long for it"
    )


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
    secrets = [("LITELLM_MASTER_KEY", asked.proxy_key_secret, "clients have to send it")]
    if asked.fallback_model is not None:
        secrets.append(("FALLBACK_API_KEY", asked.fallback_key_secret, "of the closed model's provider"))
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
    outside = (
        ()
        if options.proxy.fallback_model is None
        else (
            Rule(
                because="the closed model",
                ports=(PolicyPort(number=parts.port or 443),),
                peers=internet("its provider has no fixed addresses"),
            ),
        )
    )
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
            *outside,
        ),
    )

"""How clients outside the cluster come in: an Ingress or an HTTPRoute, open for the API alone and long enough."""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.errors import UsageError
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.options.access import LONGEST_REQUEST_SECONDS
from selfhost.manifests.pod import Noted, Number
from selfhost.plan import Plan
from selfhost.units import ceil_div

# Ours: whoever reads along reads as quickly, and an answer that comes more slowly helps nobody.
SLOWEST_TOKENS_PER_SECOND = 10
SHORTEST_REQUEST_SECONDS = 300
# Paths of the API; metrics, documentation and administration of the same port stay inside. Others: /v1, as OpenAI's.
API_PATHS = {"triton": ("/v1", "/v2")}
NGINX = "nginx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """What a route sends to: a Service, or an InferencePool."""

    group: str = ""
    kind: str = "Service"
    name: str
    port: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """An annotation by which a controller is told what its API has no field for."""

    key: str
    value: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingress:
    """An Ingress."""

    class_name: str | None
    tls_secret: str | None
    settings: tuple[Setting, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """An HTTPRoute, and the Gateway that it hangs on."""

    gateway: str
    gateway_namespace: str | None
    timeout: Noted
    backend: Backend


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """The way in.

    Args:
        host: name that clients use.
        paths: prefixes of the paths that are let in.
        timeout: seconds that one request may take.
        ingress: set for an Ingress.
        route: set for an HTTPRoute.
        address: where clients call.
        encrypted: whether the manifests name a certificate; the Gateway's listener has its own.
    """

    host: str
    paths: tuple[str, ...]
    timeout: Number
    ingress: Ingress | None
    route: Route | None
    address: str
    encrypted: bool


def exposure(plan: Plan, options: RenderOptions, *, backend: Backend | None = None) -> Exposure | None:
    """The way in, None where there is none.

    Args:
        plan: the decision.
        options: what the cluster decides.
        backend: what an HTTPRoute sends to; the plan's Service if absent.

    Raises:
        UsageError: an Ingress whose controller the NetworkPolicy would keep out.
    """
    asked = options.access
    if asked.expose == "none" or asked.host is None:
        return None
    timeout = request_timeout(plan, options)
    paths = API_PATHS.get(plan.engine.name, ("/v1",))
    if asked.expose == "ingress":
        if options.gateway_namespace is None and not asked.client_cidrs:
            raise UsageError(
                "--expose ingress needs --gateway-namespace: the NetworkPolicy lets only named namespaces in.",
                hint="Name the Ingress controller's, as in --gateway-namespace ingress-nginx, or its addresses with "
                "--client-cidr where it is outside the cluster.",
            )
        scheme = "http" if asked.tls_secret is None else "https"
        return Exposure(
            host=asked.host,
            paths=paths,
            timeout=timeout,
            ingress=Ingress(
                class_name=asked.ingress_class,
                tls_secret=asked.tls_secret,
                settings=_settings(timeout) if asked.ingress_class == NGINX else (),
            ),
            route=None,
            address=f"{scheme}://{asked.host}",
            encrypted=asked.tls_secret is not None,
        )
    name, _, namespace = (asked.gateway or "").partition("/")
    return Exposure(
        host=asked.host,
        paths=paths,
        timeout=timeout,
        ingress=None,
        route=Route(
            gateway=name,
            gateway_namespace=namespace or None,
            timeout=Noted(value=f"{timeout.value}s", because=timeout.because),
            backend=backend or Backend(name=plan.name, port=plan.engine.port),
        ),
        address=f"https://{asked.host}",
        encrypted=True,
    )


def request_timeout(plan: Plan, options: RenderOptions) -> Number:
    """Seconds that one request may take, its streamed answer included."""
    asked = options.access.request_timeout
    if asked is not None:
        return Number(value=asked, because="as asked, streaming included")
    tokens = plan.memory.max_model_len
    seconds = max(SHORTEST_REQUEST_SECONDS, ceil_div(tokens, SLOWEST_TOKENS_PER_SECOND))
    because = f"an answer of {tokens:,} tokens at no less than {SLOWEST_TOKENS_PER_SECOND} a second, streaming included"
    return Number(value=min(seconds, LONGEST_REQUEST_SECONDS), because=because)


def gateway_namespace(options: RenderOptions) -> str | None:
    """Namespace whose pods send requests: as asked, or that of the Gateway."""
    if options.gateway_namespace is not None or options.access.gateway is None:
        return options.gateway_namespace
    return options.access.gateway.partition("/")[2] or None


def headline(plan: Plan, options: RenderOptions) -> tuple[str, ...]:
    """What the way in means for who may call, in words."""
    asked = options.access
    if asked.expose == "none":
        return ()
    lines = [
        f"reached from outside as {asked.host}, {' and '.join(API_PATHS.get(plan.engine.name, ('/v1',)))} alone"
    ]
    if asked.api_key_secret is None:
        way = (
            "--api-key-secret asks for a key"
            if plan.engine.key is not None
            else "put something in front that asks"
        )
        lines.append(f"OPEN: whoever reaches {asked.host} may use the model; {way}")
    if asked.expose == "ingress" and asked.tls_secret is None:
        lines.append("NOT ENCRYPTED by this Ingress: prompts and keys travel in clear without --tls-secret")
    return tuple(lines)


def _settings(timeout: Number) -> tuple[Setting, ...]:
    """Of ingress-nginx (internal/ingress/annotations/proxy/main.go, read 2026-11-26); other controllers ignore them."""
    prefix, seconds = "nginx.ingress.kubernetes.io", str(timeout.value)
    return (
        Setting(key=f"{prefix}/proxy-read-timeout", value=seconds, because=timeout.because),
        Setting(key=f"{prefix}/proxy-send-timeout", value=seconds, because="the same for long prompts"),
        Setting(key=f"{prefix}/proxy-buffering", value="off", because="tokens are sent as they come"),
        Setting(
            key=f"{prefix}/proxy-body-size", value="64m", because="images and long prompts; 1m by itself"
        ),
    )

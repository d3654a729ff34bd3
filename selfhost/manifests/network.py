"""Who may talk to the pods and whom they may talk to: everything that is not named here is denied."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from selfhost.manifests.exposure import gateway_namespace
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.outbound import HUB, proxied
from selfhost.manifests.pod import Pair
from selfhost.plan import Plan

DNS_NAMESPACE, DNS_PORT = "kube-system", 53
# OpenShift's DNS pods listen on another port than their Service, and policies see the pods' (cluster-dns-operator,
# assets/dns/daemonset.yaml and service.yaml, read 2026-11-26).
OPENSHIFT_DNS, OPENSHIFT_DNS_PORT = "openshift-dns", 5353
NODE_LOCAL_DNS = "169.254.20.10/32"
HTTPS_PORT, HTTP_PORT = 443, 80


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyPort:
    """A port of the pods, every port of the protocol where the number is None."""

    protocol: str = "TCP"
    number: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who is meant; one of the kinds is set.

    Args:
        because: what they are.
        everyone: every pod of the policy's namespace.
        namespace: every pod of another namespace.
        pods: labels of pods of the policy's namespace.
        cidr: addresses.
        but: addresses of these that are left out.
    """

    because: str
    everyone: bool = False
    namespace: str | None = None
    pods: tuple[Pair, ...] = ()
    cidr: str | None = None
    but: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """These ports, for these peers."""

    because: str
    ports: tuple[PolicyPort, ...]
    peers: tuple[Peer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Rules of one direction each; both are named, so what is in neither is denied."""

    ingress: tuple[Rule, ...]
    egress: tuple[Rule, ...]


_HUB = "the Hub, its mirrors and their storage have no fixed addresses"


def internet(because: str) -> tuple[Peer, ...]:
    """Every address but those of a cloud's metadata service, which gives out the node's credentials.

    Args:
        because: why no address can be named, for the comment; those left out are of AWS, Azure and Google.
    """
    inside = ("fd00:ec2::254/128", "fd20:ce::254/128", "fe80::/10")
    return (
        Peer(
            because=f"{because}; no cloud's metadata service",
            cidr="0.0.0.0/0",
            but=("169.254.0.0/16",),
        ),
        Peer(because="the same over IPv6", cidr="::/0", but=inside),
    )


def server_policy(
    plan: Plan, options: RenderOptions, *, group: tuple[Pair, ...] = (), clients: tuple[Peer, ...] = ()
) -> Policy:
    """Of the server's pods.

    Args:
        plan: the decision.
        options: what the cluster decides.
        group: labels of the pods that hold one model together, where it is on several nodes.
        clients: who else sends requests (an endpoint picker, a router).
    """
    monitoring = Peer(because="Prometheus reads the metrics", namespace=options.monitoring_namespace)
    senders = [Peer(because="any pod of this namespace", everyone=True)]
    gateway = gateway_namespace(options)
    if gateway is not None and gateway != options.namespace:
        senders.append(Peer(because="the gateway sends requests", namespace=gateway))
    senders += [
        Peer(because="addresses that requests come from, as asked", cidr=cidr)
        for cidr in options.access.client_cidrs
    ]
    senders += clients
    separate = plan.engine.metrics_port
    if separate is None:
        senders.append(monitoring)
    ingress = [Rule(because="requests", ports=(PolicyPort(number=plan.engine.port),), peers=tuple(senders))]
    if separate is not None:
        ingress.append(Rule(because="metrics", ports=(PolicyPort(number=separate),), peers=(monitoring,)))
    egress = [
        dns_rule(
            options, "names only: the weights are local, and workers of one pod talk over its own loopback"
        )
    ]
    if group:
        between = Rule(
            because="NCCL and the engine's own messages take any port",
            ports=(PolicyPort(),),
            peers=(Peer(because="the other pods of the model", pods=group),),
        )
        ingress.append(between)
        egress.append(between)
    if options.network.proxy_server:
        egress += _proxies(options)
    return Policy(ingress=tuple(ingress), egress=tuple(egress))


def download_policy(options: RenderOptions, ports: tuple[int, ...]) -> Policy:
    """Of the pod that fetches the weights; nobody connects to it.

    Args:
        options: what the cluster decides.
        ports: TCP ports of where the weights are from.
    """
    addresses = [
        address for address in (options.hub_endpoint, options.weights.s3_endpoint) if address is not None
    ]
    egress = [dns_rule(options, "names"), *_proxies(options)]
    direct = ports
    if options.network.proxied:
        asked = addresses if options.hub_endpoint or options.weights.s3_endpoint else [HUB]
        direct = tuple(sorted({_port(address) for address in asked if not proxied(options, address)}))
    if direct:
        opened = tuple(PolicyPort(number=port) for port in direct)
        egress.append(Rule(because="the weights", ports=opened, peers=internet(_HUB)))
    egress += [rule for address in addresses for rule in _in_cluster(address)]
    return Policy(ingress=(), egress=tuple(egress))


def dns_rule(options: RenderOptions, because: str) -> Rule:
    """The way to the cluster's DNS."""
    namespaces = options.network.dns_namespaces or (DNS_NAMESPACE,)
    numbers = [DNS_PORT, *([OPENSHIFT_DNS_PORT] if OPENSHIFT_DNS in namespaces else [])]
    peers = [Peer(because="the cluster's DNS", namespace=namespace) for namespace in namespaces]
    return Rule(
        because=because,
        ports=tuple(
            PolicyPort(protocol=protocol, number=number) for number in numbers for protocol in ("UDP", "TCP")
        ),
        peers=(*peers, Peer(because="NodeLocal DNSCache", cidr=NODE_LOCAL_DNS)),
    )


def _proxies(options: RenderOptions) -> list[Rule]:
    """Ways to the proxy: its own address where it is one, a namespace where it is a Service, else any."""
    asked = options.network
    if asked.proxy_secret is not None:
        ports = tuple(PolicyPort(number=int(port)) for port in asked.proxy_ports)
        anywhere = internet("its address is not known here")
        return [Rule(because="the proxy, whose address is in a Secret", ports=ports, peers=anywhere)]
    rules = []
    for address in dict.fromkeys(url for url in (asked.https_proxy, asked.http_proxy) if url is not None):
        rules += _in_cluster(address) or [
            Rule(because="the proxy", ports=(PolicyPort(number=_port(address)),), peers=_peers(address))
        ]
    return list(dict.fromkeys(rules))


def _peers(address: str) -> tuple[Peer, ...]:
    host = urlsplit(address).hostname or ""
    try:
        number = ip_address(host)
    except ValueError:
        return internet("a name has no fixed addresses")
    return (Peer(because="the proxy's address", cidr=f"{number}/{number.max_prefixlen}"),)


def _in_cluster(address: str) -> list[Rule]:
    """The way to a Service: policies see the pod behind it, whose port may be another."""
    parts = (urlsplit(address).hostname or "").split(".")
    if len(parts) < 3 or parts[2] != "svc":
        return []
    peer = Peer(because=f"pods behind the Service {parts[0]}", namespace=parts[1])
    return [
        Rule(because="a Service's pods listen on ports of their own", ports=(PolicyPort(),), peers=(peer,))
    ]


def _port(address: str) -> int:
    parts = urlsplit(address)
    return parts.port or (HTTP_PORT if parts.scheme == "http" else HTTPS_PORT)

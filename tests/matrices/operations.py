"""What operates a deployment: autoscaling, ways in, keys, proxies, DNS, rules and dashboards, alone and together."""

from __future__ import annotations

from selfhost.manifests import RenderOptions
from selfhost.manifests.options.access import AccessOptions
from selfhost.manifests.options.network import NetworkOptions
from selfhost.manifests.options.scaling import ScalingOptions
from tests.matrices import Case
from tests.plans import plan

KEDA = ScalingOptions(autoscale="keda", max_replicas=4)
HPA = ScalingOptions(autoscale="hpa", max_replicas=6, min_replicas=2)
ZERO = ScalingOptions(
    autoscale="keda",
    max_replicas=2,
    scale_to_zero=True,
    wake_query='rate(envoy_cluster_upstream_rq_total{envoy_cluster_name="llm"}[2m])',
)
GATEWAY = AccessOptions(
    expose="gateway", host="llm.example.org", gateway="public/gateways", api_key_secret="llm-key"
)
INGRESS = AccessOptions(expose="ingress", host="llm.example.org", ingress_class="nginx", tls_secret="llm-tls")
PROXY = NetworkOptions(
    https_proxy="http://proxy.example:3128",
    cluster_cidrs=("10.96.0.0/12", "10.244.0.0/16"),
    no_proxy=(".internal.example",),
    ca_config_map="company-ca",
)


def options() -> dict[str, RenderOptions]:
    """What is asked for, by name."""
    return {
        "keda": RenderOptions(scaling=KEDA),
        "keda-token": RenderOptions(
            scaling=ScalingOptions(
                autoscale="keda",
                max_replicas=3,
                target_requests=8,
                prometheus_url="https://thanos-querier.openshift-monitoring.svc:9091",
                trigger_authentication="thanos",
            )
        ),
        "zero": RenderOptions(scaling=ZERO),
        "hpa": RenderOptions(scaling=HPA),
        "zones": RenderOptions(scaling=ScalingOptions(spread="zone", priority_class="serving")),
        "no-rules": RenderOptions(scaling=ScalingOptions(rules=False)),
        "dashboard": RenderOptions(scaling=ScalingOptions(dashboard=True)),
        "no-operator": RenderOptions(pod_monitor=False),
        "key": RenderOptions(
            access=AccessOptions(api_key_secret="llm-key", image_pull_secrets=("one", "two"))
        ),
        "gateway": RenderOptions(access=GATEWAY),
        "ingress": RenderOptions(access=INGRESS, gateway_namespace="ingress-nginx"),
        "ingress-plain": RenderOptions(
            access=AccessOptions(expose="ingress", host="*.example.org", request_timeout=60),
            gateway_namespace="traefik",
        ),
        "proxy": RenderOptions(network=PROXY),
        "proxy-secret": RenderOptions(
            network=NetworkOptions(proxy_secret="proxy", proxy_ports=("3128", "3129"), proxy_server=True)
        ),
        "proxy-address": RenderOptions(network=NetworkOptions(http_proxy="http://[fd00::8]:8080")),
        "proxy-service": RenderOptions(network=NetworkOptions(https_proxy="http://squid.proxies.svc:3128")),
        "mirror-service": RenderOptions(hub_endpoint="http://hub.models.svc:8765"),
        "openshift": RenderOptions(network=NetworkOptions(dns_namespaces=("openshift-dns",))),
        "all": RenderOptions(
            access=GATEWAY,
            network=PROXY,
            scaling=ScalingOptions(autoscale="keda", max_replicas=8, dashboard=True, spread="zone"),
            surge=True,
        ),
    }


def cases() -> dict[str, Case]:
    """Each for one replica and for two."""
    found = {}
    for name, asked in options().items():
        beyond = (
            frozenset({"CKV_K8S_35"})
            if asked.access.api_key_secret or asked.network.proxy_secret
            else frozenset()
        )
        found[name] = Case(plan=plan(), options=asked, beyond=beyond)
        found[f"{name}-two"] = Case(plan=plan(replicas=2), options=asked, beyond=beyond)
    return found

"""Policies that open what is needed and no more, and the ways out: proxies, certificates, mirrors, DNS elsewhere."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
import yaml

from selfhost.errors import UsageError
from selfhost.manifests import Manifests, RenderOptions, render
from selfhost.manifests.network import Peer, server_policy
from selfhost.manifests.options.network import NetworkOptions
from selfhost.manifests.outbound import no_proxy, proxied
from selfhost.manifests.pod import Pair
from selfhost.plan import Plan
from tests.plans import plan
from tests.validators import problems

PROXY = NetworkOptions(https_proxy="http://proxy.example:3128")


def made(network: NetworkOptions | None = None, given: Plan | None = None, **more: Any) -> Manifests:
    return render(given or plan(), options=RenderOptions(network=network or NetworkOptions(), **more))


def objects(manifests: Manifests) -> list[Any]:
    return [yaml.safe_load(document.text) for document in manifests.documents if document.is_object]


def policies(manifests: Manifests) -> dict[str, Any]:
    """Specs of the policies by the component that they are for."""
    found = [document for document in objects(manifests) if document["kind"] == "NetworkPolicy"]
    assert not any(problems(policy, version) for policy in found for version in ("1.29", "1.37"))
    label = "app.kubernetes.io/component"
    return {policy["spec"]["podSelector"]["matchLabels"][label]: policy["spec"] for policy in found}


def container(manifests: Manifests, kind: str) -> Any:
    (one,) = (document for document in objects(manifests) if document["kind"] == kind)
    return one["spec"]["template"]["spec"]["containers"][0]


def variables(manifests: Manifests, kind: str) -> dict[str, Any]:
    return {
        item["name"]: item.get("value", item.get("valueFrom")) for item in container(manifests, kind)["env"]
    }


def lets_out(spec: Any, address: str, port: int, protocol: str = "TCP") -> bool:
    """Whether a policy lets a connection to an address outside out."""
    for rule in spec.get("egress", []):
        open_ports = [p for p in rule["ports"] if p["protocol"] == protocol and p.get("port", port) == port]
        blocks = [peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer]
        for block in blocks if open_ports else []:
            inside = ip_address(address) in ip_network(block["cidr"])
            if inside and not any(
                ip_address(address) in ip_network(part) for part in block.get("except", [])
            ):
                return True
    return False


def test_both_directions_are_closed_but_for_what_is_named() -> None:
    for component, spec in policies(made()).items():
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        assert ("ingress" in spec) is (component == "server")
        assert all(rule["ports"] for rule in spec["egress"])


def test_the_server_reaches_nothing_outside() -> None:
    server = policies(made())["server"]
    assert not lets_out(server, "18.1.2.3", 443)
    assert not lets_out(server, "2600::1", 443)
    assert not lets_out(policies(made(PROXY))["server"], "18.1.2.3", 3128)


def test_the_download_reaches_the_hub_and_no_metadata_service() -> None:
    download = policies(made())["download"]
    assert lets_out(download, "18.1.2.3", 443)
    assert lets_out(download, "2600::1", 443)
    assert not lets_out(download, "18.1.2.3", 22)
    for address in ("169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "fe80::1"):
        assert not lets_out(download, address, 443)
        assert not lets_out(download, address, 80)


def test_through_a_proxy_only_the_proxy_is_reached() -> None:
    download = policies(made(PROXY))["download"]
    assert lets_out(download, "18.1.2.3", 3128)
    assert not lets_out(download, "18.1.2.3", 443)
    address = policies(made(NetworkOptions(https_proxy="http://10.1.2.3:8080")))["download"]
    assert lets_out(address, "10.1.2.3", 8080)
    assert not lets_out(address, "10.1.2.4", 8080)
    six = policies(made(NetworkOptions(https_proxy="http://[fd00::8]:8080")))["download"]
    assert lets_out(six, "fd00::8", 8080)


def test_what_needs_no_proxy_stays_open() -> None:
    mirror = policies(
        made(replace(PROXY, no_proxy=("hub.example",)), hub_endpoint="https://hub.example:8443")
    )
    assert lets_out(mirror["download"], "18.1.2.3", 8443)
    plain = policies(made(NetworkOptions(http_proxy="http://proxy.example:3128")))["download"]
    assert lets_out(plain, "18.1.2.3", 443)  # the proxy is for http:// alone


def test_a_mirror_in_the_cluster_is_reached_by_its_namespace() -> None:
    """Networks differ in whether a range of addresses names pods; and a pod's port is not its Service's."""
    download = policies(made(hub_endpoint="http://hub.models.svc:8765"))["download"]
    rule = download["egress"][-1]
    assert rule["ports"] == [{"protocol": "TCP"}]
    assert rule["to"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "models"}}}]
    proxy = policies(made(NetworkOptions(https_proxy="http://squid.proxies.svc.cluster.local:3128")))[
        "download"
    ]
    assert {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "proxies"}}} in [
        peer for rule in proxy["egress"] for peer in rule["to"]
    ]


@pytest.mark.parametrize(
    ("namespaces", "ports"),
    [((), [53, 53]), (("dns",), [53, 53]), (("openshift-dns", "kube-system"), [53, 53, 5353, 5353])],
)
def test_names_are_asked_for_where_the_dns_is(namespaces: tuple[str, ...], ports: list[int]) -> None:
    for spec in policies(made(NetworkOptions(dns_namespaces=namespaces))).values():
        rule = spec["egress"][0]
        assert [port["port"] for port in rule["ports"]] == ports
        asked = [
            peer["namespaceSelector"]["matchLabels"] for peer in rule["to"] if "namespaceSelector" in peer
        ]
        assert [labels["kubernetes.io/metadata.name"] for labels in asked] == list(
            namespaces or ("kube-system",)
        )


def test_metrics_on_a_port_of_their_own_are_prometheus_alone() -> None:
    given = plan()
    separate = replace(given, engine=replace(given.engine, metrics_port=8002))
    requests, metrics = policies(made(given=separate))["server"]["ingress"]
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    assert requests["ports"] == [{"protocol": "TCP", "port": 8000}]
    assert monitoring not in requests["from"]
    assert metrics == {"ports": [{"protocol": "TCP", "port": 8002}], "from": [monitoring]}


def test_pods_of_one_model_reach_each_other_by_any_port() -> None:
    group = (Pair(key="leaderworkerset.sigs.k8s.io/name", value="x"),)
    picker = Peer(because="the endpoint picker", pods=(Pair(key="app", value="epp"),))
    policy = server_policy(plan(), RenderOptions(), group=group, clients=(picker,))
    assert [rule.peers[0].pods for rule in (policy.ingress[-1], policy.egress[-1])] == [group, group]
    assert policy.ingress[-1].ports[0].number is None
    assert picker in policy.ingress[0].peers


def test_the_download_alone_has_the_proxy_in_both_spellings() -> None:
    manifests = made(replace(PROXY, cluster_cidrs=("10.96.0.0/12",), no_proxy=(".example",)))
    job = variables(manifests, "Job")
    assert job["HTTPS_PROXY"] == job["https_proxy"] == "http://proxy.example:3128"
    assert (
        job["NO_PROXY"]
        == job["no_proxy"]
        == "localhost,127.0.0.1,::1,.svc,.cluster.local,10.96.0.0/12,.example"
    )
    assert "HTTP_PROXY" not in job
    assert not {"HTTPS_PROXY", "NO_PROXY"} & set(variables(manifests, "Deployment"))
    both = made(replace(PROXY, proxy_server=True))
    assert variables(both, "Deployment")["https_proxy"] == "http://proxy.example:3128"
    assert lets_out(policies(both)["server"], "18.1.2.3", 3128)


def test_a_password_of_the_proxy_stays_in_its_secret() -> None:
    with pytest.raises(UsageError, match="password") as error:
        NetworkOptions(https_proxy="http://me:secret@proxy.example:3128")
    assert "secret" not in str(error.value).replace("--proxy-secret", "")
    assert "--proxy-secret" in (error.value.hint or "")
    manifests = made(NetworkOptions(proxy_secret="proxy", proxy_ports=("3128",)))
    job = variables(manifests, "Job")
    assert job["HTTPS_PROXY"] == {"secretKeyRef": {"name": "proxy", "key": "https-proxy"}}
    assert job["http_proxy"] == {"secretKeyRef": {"name": "proxy", "key": "http-proxy", "optional": True}}
    assert lets_out(policies(manifests)["download"], "18.1.2.3", 3128)


def test_certificates_come_from_a_config_map() -> None:
    manifests = made(NetworkOptions(ca_config_map="company-ca"))
    job = container(manifests, "Job")
    mounts = {mount["name"]: mount for mount in job["volumeMounts"]}
    assert mounts["ca"] == {"name": "ca", "mountPath": "/etc/selfhost/ca", "readOnly": True}
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        assert variables(manifests, "Job")[name] == "/etc/selfhost/ca/ca.crt"
    assert "SSL_CERT_FILE" not in variables(manifests, "Deployment")
    assert not any(problems(document) for document in objects(manifests))


def test_what_nobody_would_use_is_refused() -> None:
    files = plan(model={"id": "/data/tiny", "origin": "directory", "revision": None}, tensor=1)
    for network in (
        PROXY,
        NetworkOptions(ca_config_map="x"),
        NetworkOptions(proxy_secret="p", proxy_ports=("1",)),
    ):
        with pytest.raises(UsageError, match="no effect"):
            made(network, files)
    made(replace(PROXY, proxy_server=True), files)


@pytest.mark.parametrize(
    ("exceptions", "url", "through"),
    [
        ((), "https://huggingface.co", True),
        (("huggingface.co",), "https://huggingface.co", False),
        ((".co",), "https://huggingface.co", False),
        (("ace.co",), "https://huggingface.co", True),
        (("*",), "https://huggingface.co", False),
        (("10.0.0.0/8",), "https://10.1.1.1:8443", False),
        (("10.0.0.0/8",), "https://hub.example", True),
        (("hub.example:8443",), "https://hub.example:8443", False),
        ((), "https://hub.models.svc:8443", False),
    ],
)
def test_exceptions_are_read_as_libraries_read_them(
    exceptions: tuple[str, ...], url: str, through: bool
) -> None:
    options = RenderOptions(network=replace(PROXY, no_proxy=exceptions))
    assert proxied(options, url) is through
    assert len(set(no_proxy(options))) == len(no_proxy(options))


def test_operations_alone_start_no_download_again() -> None:
    """A Job is named after what it does: an alert or another number of replicas is nothing to it."""

    def job(**more: Any) -> str:
        return str(next(d["metadata"]["name"] for d in objects(made(**more)) if d["kind"] == "Job"))

    assert job() == job(monitoring_namespace="other", gateway_namespace="x")
    assert job() != job(network=PROXY)
    assert job() != job(token_secret="other")


@pytest.mark.parametrize(
    "options",
    [
        {"https_proxy": "socks5://x:1"}, {"https_proxy": "http://"}, {"https_proxy": "http://x:0"},
        {"http_proxy": "http://x y"}, {"https_proxy": "http://x\n:1"}, {"no_proxy": ("a",)},
        {"cluster_cidrs": ("10.0.0.0/8",)},
        {"https_proxy": "http://x:1", "cluster_cidrs": ("10.0.0.1/8",)}, {"proxy_server": True},
        {"https_proxy": "http://x:1", "no_proxy": ("a,b",)}, {"https_proxy": "http://x:1", "no_proxy": ("",)},
        {"proxy_secret": "p"}, {"proxy_ports": ("1",)}, {"proxy_secret": "p", "proxy_ports": ("0",)},
        {"proxy_secret": "p", "proxy_ports": ("x",)}, {"proxy_secret": "P", "proxy_ports": ("1",)},
        {"proxy_secret": "p", "proxy_ports": ("1",), "https_proxy": "http://x:1"},
        {"ca_config_map": "A"}, {"dns_namespaces": ("A",)}, {"dns_namespaces": ("",)},
    ],
)  # fmt: skip
def test_options_that_are_no_names(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        NetworkOptions(**options)

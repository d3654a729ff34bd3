"""What stands between the cluster and the world: names, proxies, certificates."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from selfhost.errors import UsageError
from selfhost.manifests.options.fields import is_network, option

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_PROXY = re.compile(r"https?://[-A-Za-z0-9._~:\[\]]{1,300}/?")
# A host, a domain with a dot in front, an address, a range or everything; with a port.
_EXCEPTION = re.compile(r"\*|\*?\.?[-A-Za-z0-9._:\[\]/]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """How pods reach what is outside."""

    dns_namespaces: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "--dns-namespace",
            "Namespace of the cluster's DNS; kube-system if absent, openshift-dns on OpenShift. May be repeated.",
            "many",
        ),
    )
    http_proxy: str | None = field(
        default=None,
        metadata=option("--http-proxy", "Proxy of the download for http:// addresses.", "str", metavar="URL"),
    )
    https_proxy: str | None = field(
        default=None,
        metadata=option(
            "--https-proxy", "Proxy of the download for https:// addresses.", "str", metavar="URL"
        ),
    )
    proxy_secret: str | None = field(
        default=None,
        metadata=option(
            "--proxy-secret",
            "Secret with `http-proxy` and `https-proxy`, for a proxy that asks for a password.",
            "str",
        ),
    )
    proxy_ports: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "--proxy-port", "Port of the proxy in --proxy-secret; may be repeated.", "many", metavar="PORT"
        ),
    )
    no_proxy: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "--no-proxy",
            "Host, .domain or range that needs no proxy, beside the cluster's own; may be repeated.",
            "many",
            metavar="HOST",
        ),
    )
    cluster_cidrs: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "--cluster-cidr",
            "Range of the cluster's Services or pods, which needs no proxy; may be repeated.",
            "many",
            metavar="CIDR",
        ),
    )
    proxy_server: bool = field(
        default=False,
        metadata=option(
            "--proxy-server", "Proxy and certificates for the server too, which is offline by itself.", "flag"
        ),
    )
    ca_config_map: str | None = field(
        default=None,
        metadata=option(
            "--ca-config-map", "ConfigMap whose key `ca.crt` holds every certificate to trust.", "str"
        ),
    )

    def __post_init__(self) -> None:
        for flag, value, pattern in (
            ("--proxy-secret", self.proxy_secret, _NAME),
            ("--ca-config-map", self.ca_config_map, _NAME),
            *(("--dns-namespace", name, _LABEL) for name in self.dns_namespaces),
            *(("--no-proxy", name, _EXCEPTION) for name in self.no_proxy),
        ):
            if value is not None and pattern.fullmatch(value) is None:
                raise UsageError(f"{flag} {value[:80]!r} is not a valid name.")
        for flag, url in (("--http-proxy", self.http_proxy), ("--https-proxy", self.https_proxy)):
            if url is not None:
                _check_proxy(flag, url)
        for text in self.cluster_cidrs:
            if not is_network(text):
                raise UsageError(
                    f"--cluster-cidr {text[:80]!r} is no range of addresses.", hint="Write 10.96.0.0/12."
                )
        for text in self.proxy_ports:
            if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= 65535):
                raise UsageError(f"--proxy-port {text[:80]!r} is no port.")
        self._check_proxies()

    @property
    def proxied(self) -> bool:
        """Whether there is a proxy."""
        return self.http_proxy is not None or self.https_proxy is not None or self.proxy_secret is not None

    def _check_proxies(self) -> None:
        if self.proxy_secret is not None and (self.http_proxy is not None or self.https_proxy is not None):
            raise UsageError("--proxy-secret holds the addresses: leave --http-proxy and --https-proxy out.")
        if (self.proxy_secret is None) != (not self.proxy_ports):
            raise UsageError(
                "--proxy-secret and --proxy-port go together: the NetworkPolicy opens that port.",
                hint="Add --proxy-port 3128." if self.proxy_secret else "Leave --proxy-port out.",
            )
        if not self.proxied:
            for flag, given in (("--no-proxy", self.no_proxy), ("--cluster-cidr", self.cluster_cidrs)):
                if given:
                    raise UsageError(f"{flag} has no effect without a proxy.", hint="Add --https-proxy URL.")
            if self.proxy_server and self.ca_config_map is None:
                raise UsageError(
                    "--proxy-server has no effect without a proxy or --ca-config-map.",
                    hint="Add --https-proxy URL.",
                )


def _check_proxy(flag: str, url: str) -> None:
    if "@" in url:
        raise UsageError(
            f"{flag} has a user name or a password in it, and a manifest is no place for one.",
            hint="Put the address into a Secret, keys http-proxy and https-proxy, and name it with --proxy-secret.",
        )
    try:
        parts = urlsplit(url)
        known = _PROXY.fullmatch(url) is not None and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise UsageError(
            f"{flag} {url[:80]!r} is not the address of a proxy.", hint="Write http://HOST:3128."
        )

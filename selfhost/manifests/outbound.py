"""How pods reach what is outside the cluster: proxies and certificates, as variables and files."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from selfhost.errors import UsageError
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.pod import Additions, FileItem, Files, Mount, SecretKey, Variable, Volume

HUB = "https://huggingface.co"
CA_PATH = "/etc/selfhost/ca"
CA_KEY = "ca.crt"
# Python's ssl and httpx, requests, curl, and Amazon's SDK: each library asks for its own.
_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")
_OWN = ("localhost", "127.0.0.1", "::1", ".svc", ".cluster.local")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """What the reader has to make before: names of what holds the proxy's address and the certificates."""

    proxy_secret: str | None
    ca_config_map: str | None
    ca_key: str


def outbound(options: RenderOptions) -> Outbound:
    """What the ways out rest on."""
    return Outbound(
        proxy_secret=options.network.proxy_secret, ca_config_map=options.network.ca_config_map, ca_key=CA_KEY
    )


def download_additions(options: RenderOptions) -> Additions:
    """What the download needs to reach the Hub, its mirror or S3."""
    return _proxy(options) + _certificates(options)


def server_additions(options: RenderOptions) -> Additions:
    """The same for the server, which is offline unless asked otherwise."""
    return download_additions(options) if options.network.proxy_server else Additions()


def refuse_idle(options: RenderOptions, *, downloads: bool) -> None:
    """Refuse a proxy that no pod would use.

    Raises:
        UsageError: nothing is downloaded, and the server is not to be given it.
    """
    asked = options.network
    if downloads or asked.proxy_server:
        return
    if asked.proxied or asked.ca_config_map is not None:
        flag = (
            "--ca-config-map"
            if not asked.proxied
            else "--proxy-secret"
            if asked.proxy_secret
            else "--https-proxy"
        )
        raise UsageError(
            f"{flag} has no effect: nothing is downloaded, and the server asks nothing outside.",
            hint="Leave it out, or add --proxy-server.",
        )


def proxied(options: RenderOptions, url: str) -> bool:
    """Whether an address is asked for through the proxy."""
    asked, parts = options.network, urlsplit(url)
    if asked.proxy_secret is None:
        chosen = asked.https_proxy if parts.scheme == "https" else asked.http_proxy
        if chosen is None:
            return False
    host = parts.hostname or ""
    return not any(_excepts(name, host) for name in no_proxy(options))


def no_proxy(options: RenderOptions) -> tuple[str, ...]:
    """Names and addresses that are asked for directly."""
    return tuple(dict.fromkeys((*_OWN, *options.network.cluster_cidrs, *options.network.no_proxy)))


def _excepts(name: str, host: str) -> bool:
    """Whether an entry of NO_PROXY names a host, as curl and Python's urllib read it."""
    if name == "*":
        return True
    if "/" in name:
        try:
            return ip_address(host) in ip_network(name, strict=False)
        except ValueError:
            return False
    bare = (
        name.lstrip("*").lstrip(".").partition(":")[0]
        if name.count(":") == 1
        else name.lstrip("*").lstrip(".")
    )
    return host == bare or host.endswith(f".{bare}")


def _proxy(options: RenderOptions) -> Additions:
    asked = options.network
    if not asked.proxied:
        return Additions()
    found: list[Variable] = []
    for name, url in (("HTTP_PROXY", asked.http_proxy), ("HTTPS_PROXY", asked.https_proxy)):
        key = name.lower().replace("_", "-")
        for spelled in (name, name.lower()):  # libraries differ in which of the two they read
            if asked.proxy_secret is not None:
                reference = SecretKey(name=asked.proxy_secret, key=key, optional=key == "http-proxy")
                found.append(
                    Variable(name=spelled, secret=reference, because="with its password, from the Secret")
                )
            elif url is not None:
                found.append(Variable(name=spelled, value=url, because="as asked"))
    past = ",".join(no_proxy(options))
    because = "the cluster's own names and ranges, and what was asked for"
    found += [Variable(name=spelled, value=past, because=because) for spelled in ("NO_PROXY", "no_proxy")]
    return Additions(env=tuple(found))


def _certificates(options: RenderOptions) -> Additions:
    name = options.network.ca_config_map
    if name is None:
        return Additions()
    path = f"{CA_PATH}/{CA_KEY}"
    because = "every certificate to trust: it takes the place of the image's own"
    items = (FileItem(key=CA_KEY, path=CA_KEY),)
    return Additions(
        env=tuple(Variable(name=variable, value=path, because=because) for variable in _CA_VARIABLES),
        mounts=(Mount(name="ca", path=CA_PATH, read_only=True),),
        volumes=(Volume(name="ca", config_map=Files(name=name, items=items, because=because)),),
    )

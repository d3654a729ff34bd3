"""Who may call the model, and how: keys, a gateway or an Ingress."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from selfhost.errors import UsageError
from selfhost.manifests.options.fields import is_network, option

Expose = Literal["none", "ingress", "gateway"]
LONGEST_REQUEST_SECONDS = 86_400
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
# RFC 1123, at most 253 characters; a wildcard may stand for the first part, as Ingress and Gateway API take it.
_HOST = re.compile(
    r"(?=.{1,253}$)(\*\.)?([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.)*[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
)
_ADDRESS = re.compile(r"[0-9.]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessOptions:
    """How clients reach the model."""

    api_key_secret: str | None = field(
        default=None,
        metadata=option(
            "--api-key-secret", "Secret whose key `api-key` clients have to send; it has to exist.", "str"
        ),
    )
    image_pull_secrets: tuple[str, ...] = field(
        default=(),
        metadata=option("--image-pull-secret", "Secret to pull images with; may be repeated.", "many"),
    )
    expose: Expose = field(
        default="none",
        metadata=option(
            "--expose", "How clients outside the cluster come in.", "expose", metavar="none|ingress|gateway"
        ),
    )
    host: str | None = field(
        default=None, metadata=option("--host", "Host name that clients outside use.", "str")
    )
    tls_secret: str | None = field(
        default=None,
        metadata=option("--tls-secret", "Secret with the host's certificate, for the Ingress.", "str"),
    )
    ingress_class: str | None = field(
        default=None,
        metadata=option("--ingress-class", "IngressClass; the cluster's default if absent.", "str"),
    )
    gateway: str | None = field(
        default=None,
        metadata=option(
            "--gateway", "Gateway that the HTTPRoute hangs on, of this or a named namespace.", "str",
            metavar="NAME[/NAMESPACE]",
        ),
    )  # fmt: skip
    client_cidrs: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "--client-cidr",
            "Addresses that requests come from, as those of a load balancer outside the cluster; may be repeated.",
            "many",
            metavar="CIDR",
        ),
    )
    request_timeout: int | None = field(
        default=None,
        metadata=option(
            "--request-timeout", "Seconds that one request may take, streaming included; else from its length.",
            "int", metavar="SECONDS",
        ),
    )  # fmt: skip

    def __post_init__(self) -> None:
        for flag, value in (
            ("--api-key-secret", self.api_key_secret),
            ("--tls-secret", self.tls_secret),
            ("--ingress-class", self.ingress_class),
            *(("--image-pull-secret", name) for name in self.image_pull_secrets),
        ):
            if value is not None and _NAME.fullmatch(value) is None:
                raise UsageError(f"{flag} {value[:80]!r} is not a valid name.")
        if len(set(self.image_pull_secrets)) < len(self.image_pull_secrets):
            raise UsageError("--image-pull-secret names a Secret twice.")
        for text in self.client_cidrs:
            if not is_network(text):
                raise UsageError(
                    f"--client-cidr {text[:80]!r} is no range of addresses.", hint="Write 130.211.0.0/22."
                )
        if self.expose not in ("none", "ingress", "gateway"):
            raise UsageError(f"--expose {self.expose!r} is not none, ingress or gateway.")
        self._check_host()
        self._check_way()

    def _check_host(self) -> None:
        if self.host is not None and (not _HOST.fullmatch(self.host) or _ADDRESS.fullmatch(self.host)):
            raise UsageError(f"--host {self.host[:80]!r} is not a host name.", hint="Write llm.example.org.")
        if self.gateway is not None:
            name, slash, namespace = self.gateway.partition("/")
            if not _NAME.fullmatch(name) or (slash and not _LABEL.fullmatch(namespace)):
                raise UsageError(
                    f"--gateway {self.gateway[:80]!r} is not NAME or NAME/NAMESPACE.",
                    hint="Write --gateway public/gateways.",
                )
        timeout = self.request_timeout
        if timeout is not None and not 1 <= timeout <= LONGEST_REQUEST_SECONDS:
            raise UsageError(
                f"--request-timeout must be between 1 and {LONGEST_REQUEST_SECONDS:,}, not {timeout:,}."
            )

    def _check_way(self) -> None:
        """Every option of the exposure belongs to a way in."""
        for flag, value, ways in (
            ("--host", self.host, ("ingress", "gateway")),
            ("--request-timeout", self.request_timeout, ("ingress", "gateway")),
            ("--tls-secret", self.tls_secret, ("ingress",)),
            ("--ingress-class", self.ingress_class, ("ingress",)),
            ("--gateway", self.gateway, ("gateway",)),
        ):
            if value is not None and self.expose not in ways:
                raise UsageError(
                    f"{flag} has no effect with --expose {self.expose}.",
                    hint="The listener of the Gateway has the certificate."
                    if flag == "--tls-secret" and self.expose == "gateway"
                    else f"Add --expose {ways[0]}.",
                )
        if self.expose != "none" and self.host is None:
            raise UsageError(
                f"--expose {self.expose} needs --host: without one the route takes every host's requests.",
                hint="Add --host llm.example.org.",
            )
        if self.expose == "gateway" and self.gateway is None:
            raise UsageError(
                "--expose gateway needs --gateway: a route hangs on a Gateway that exists.",
                hint="`kubectl get gateways -A` lists them; write --gateway NAME/NAMESPACE.",
            )

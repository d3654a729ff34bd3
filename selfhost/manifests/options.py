"""What a cluster decides and a plan cannot know: namespace, storage, who may connect."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from selfhost.engines import parse_image
from selfhost.errors import UsageError

AccessMode = Literal["ReadWriteOnce", "ReadWriteMany"]
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_URL = re.compile(r"https?://[-A-Za-z0-9._~:/\[\]]{1,300}")


def _option(flag: str, help_text: str, kind: str, *, metavar: str = "NAME") -> dict[str, Any]:
    return {"flag": flag, "help": help_text, "kind": kind, "metavar": metavar}


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderOptions:
    """Settings of the cluster that is rendered for."""

    namespace: str = field(
        default="llm", metadata=_option("--namespace", "Namespace of every object.", "str")
    )
    image: str | None = field(
        default=None,
        metadata=_option(
            "--image",
            "Image instead of the plan's: from a mirror, or with its digest.",
            "str",
            metavar="IMAGE",
        ),
    )
    pull_image: str | None = field(
        default=None,
        metadata=_option(
            "--pull-image",
            "Image with selfhost installed, for the download; else the engine's, and selfhost.pyz beside it.",
            "str",
            metavar="IMAGE",
        ),
    )
    storage_class: str | None = field(
        default=None,
        metadata=_option(
            "--storage-class", "StorageClass of the weights volume; the cluster's default if absent.", "str"
        ),
    )
    access_mode: AccessMode | None = field(
        default=None,
        metadata=_option(
            "--access-mode",
            "Access mode of the weights volume; ReadWriteMany with more than one replica.",
            "access_mode",
        ),
    )
    token_secret: str = field(
        default="hf-token",
        metadata=_option(
            "--token-secret", "Secret with the Hub token in key `token`; it may be absent.", "str"
        ),
    )
    hub_endpoint: str | None = field(
        default=None,
        metadata=_option("--hub-endpoint", "Mirror of the Hub to download from.", "str", metavar="URL"),
    )
    gateway_namespace: str | None = field(
        default=None,
        metadata=_option("--gateway-namespace", "Another namespace whose pods may send requests.", "str"),
    )
    monitoring_namespace: str = field(
        default="monitoring",
        metadata=_option("--monitoring-namespace", "Namespace whose pods may read the metrics.", "str"),
    )
    pod_monitor: bool = field(
        default=True,
        metadata=_option(
            "--no-pod-monitor", "No PodMonitor, for clusters without the Prometheus operator.", "off_flag"
        ),
    )
    surge: bool = field(
        default=False,
        metadata=_option("--surge", "Spare GPUs exist: start the new pod before the old one ends.", "flag"),
    )
    read_only_root: bool = field(
        default=True,
        metadata=_option(
            "--writable-root", "Writable root file system, where an NVIDIA CDI hook needs one.", "off_flag"
        ),
    )

    def __post_init__(self) -> None:
        for image in (self.image, self.pull_image):
            if image is not None:
                parse_image(image)
        for flag, value, pattern in (
            ("--namespace", self.namespace, _LABEL),
            ("--storage-class", self.storage_class, _NAME),
            ("--token-secret", self.token_secret, _NAME),
            ("--hub-endpoint", self.hub_endpoint, _URL),
            ("--gateway-namespace", self.gateway_namespace, _LABEL),
            ("--monitoring-namespace", self.monitoring_namespace, _LABEL),
        ):
            if value is not None and pattern.fullmatch(value) is None:
                raise UsageError(f"{flag} {value[:80]!r} is not a valid name.")
        if self.hub_endpoint is not None and not _is_address(self.hub_endpoint):
            raise UsageError(f"--hub-endpoint {self.hub_endpoint[:80]!r} is not a web address.")
        if self.access_mode not in (None, "ReadWriteOnce", "ReadWriteMany"):
            raise UsageError(f"--access-mode {self.access_mode!r} is not ReadWriteOnce or ReadWriteMany.")


def _is_address(url: str) -> bool:
    """Whether a URL names a host, and a port that there is."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False

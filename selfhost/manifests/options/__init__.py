"""What a cluster decides and a plan cannot know: namespace, storage, who may connect.

A field is an option of `selfhost render`; a field that holds another dataclass is a group of options, in a module here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Literal
from urllib.parse import urlsplit

from selfhost.engines import parse_image
from selfhost.errors import UsageError
from selfhost.manifests.options.access import AccessOptions
from selfhost.manifests.options.box import BoxOptions
from selfhost.manifests.options.fields import option as _option
from selfhost.manifests.options.gpus import GpuOptions
from selfhost.manifests.options.kserve import KserveOptions
from selfhost.manifests.options.network import NetworkOptions
from selfhost.manifests.options.nodes import NodeOptions
from selfhost.manifests.options.proxy import ProxyOptions
from selfhost.manifests.options.scaling import ScalingOptions
from selfhost.manifests.options.weights import WeightOptions

AccessMode = Literal["ReadWriteOnce", "ReadWriteMany"]
PodSecurity = Literal["restricted", "baseline", "privileged"]
_MONITOR = ("monitor",)
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_URL = re.compile(r"https?://[-A-Za-z0-9._~:/\[\]]{1,300}")


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
    pod_security: PodSecurity = field(
        default="restricted",
        metadata=_option(
            "--pod-security",
            "Pod Security level that the namespace is to enforce.",
            "pod_security",
            metavar="LEVEL",
        ),
    )

    monitor_image: str | None = field(
        default=None,
        metadata=_option(
            "--monitor-image",
            "Image with selfhost[cluster], for the monitor; else the engine's, and selfhost.pyz beside it.",
            "str",
            metavar="IMAGE",
            only=_MONITOR,
        ),
    )
    monitor_namespace: str | None = field(
        default=None,
        metadata=_option(
            "--monitor-namespace",
            "Namespace of the monitor; that of Prometheus if absent, as both look at the host.",
            "str",
            only=_MONITOR,
        ),
    )
    runtime_class: str | None = field(
        default=None,
        metadata=_option(
            "--runtime-class",
            "RuntimeClass of the monitor, where NVIDIA's is not the node's default.",
            "str",
            only=_MONITOR,
        ),
    )
    all_gpu_nodes: bool = field(
        default=False,
        metadata=_option(
            "--all-gpu-nodes",
            "Monitor every node with NVIDIA GPUs, not the plan's alone.",
            "flag",
            only=_MONITOR,
        ),
    )
    host_pid: bool = field(
        default=True,
        metadata=_option(
            "--no-host-pid",
            "The monitor sees no processes: no names of them, no engines by itself.",
            "off_flag",
            only=_MONITOR,
        ),
    )
    monitor_root: bool = field(
        default=True,
        metadata=_option(
            "--monitor-non-root",
            "The monitor is not root: no pod names from the kubelet's socket.",
            "off_flag",
            only=_MONITOR,
        ),
    )
    kernel_log: bool = field(
        default=False,
        metadata=_option(
            "--kernel-log",
            "The monitor reads /dev/kmsg, for which it has to be privileged.",
            "flag",
            only=_MONITOR,
        ),
    )
    dcgm_names: bool = field(
        default=False,
        metadata=_option(
            "--dcgm-names", "The monitor adds dcgm-exporter's names of metrics.", "flag", only=_MONITOR
        ),
    )
    api_server: str | None = field(
        default=None,
        metadata=_option(
            "--api-server",
            "Addresses that `monitor --cluster` comes from: the API server's, which relays it.",
            "str",
            metavar="CIDR",
            only=_MONITOR,
        ),
    )

    weights: WeightOptions = field(default_factory=WeightOptions)
    gpus: GpuOptions = field(default_factory=GpuOptions)
    nodes: NodeOptions = field(default_factory=NodeOptions)
    access: AccessOptions = field(default_factory=AccessOptions)
    network: NetworkOptions = field(default_factory=NetworkOptions)
    scaling: ScalingOptions = field(default_factory=ScalingOptions)
    proxy: ProxyOptions = field(default_factory=ProxyOptions)
    kserve: KserveOptions = field(default_factory=KserveOptions)
    box: BoxOptions = field(default_factory=BoxOptions)

    def __post_init__(self) -> None:
        for image in (self.image, self.pull_image, self.monitor_image):
            if image is not None:
                parse_image(image)
        for flag, value, pattern in (
            ("--namespace", self.namespace, _LABEL),
            ("--storage-class", self.storage_class, _NAME),
            ("--token-secret", self.token_secret, _NAME),
            ("--hub-endpoint", self.hub_endpoint, _URL),
            ("--gateway-namespace", self.gateway_namespace, _LABEL),
            ("--monitoring-namespace", self.monitoring_namespace, _LABEL),
            ("--monitor-namespace", self.monitor_namespace, _LABEL),
            ("--runtime-class", self.runtime_class, _NAME),
        ):
            if value is not None and pattern.fullmatch(value) is None:
                raise UsageError(f"{flag} {value[:80]!r} is not a valid name.")
        if self.hub_endpoint is not None and not _is_address(self.hub_endpoint):
            raise UsageError(f"--hub-endpoint {self.hub_endpoint[:80]!r} is not a web address.")
        if self.access_mode not in (None, "ReadWriteOnce", "ReadWriteMany"):
            raise UsageError(f"--access-mode {self.access_mode!r} is not ReadWriteOnce or ReadWriteMany.")
        if self.pod_security not in ("restricted", "baseline", "privileged"):
            raise UsageError(
                f"--pod-security {self.pod_security!r} is not restricted, baseline or privileged."
            )
        if self.kernel_log and not self.monitor_root:
            raise UsageError(
                "--kernel-log and --monitor-non-root exclude each other: only root reads /dev/kmsg."
            )
        if self.api_server is not None and not _is_network(self.api_server):
            raise UsageError(
                f"--api-server {self.api_server[:80]!r} is no range of addresses.", hint="Write 10.0.0.0/28."
            )


def _is_address(url: str) -> bool:
    """Whether a URL names a host, and a port that there is."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_network(text: str) -> bool:
    """Whether it is a range of IP addresses, as a NetworkPolicy takes it."""
    try:
        return "/" in text and bool(ip_network(text))
    except ValueError:
        return False

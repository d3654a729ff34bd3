"""What is observed, and how often: the settings of a poller as one value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from selfhost.observation import EngineAddress

if TYPE_CHECKING:
    from selfhost.plan import Plan

# Where the kubelet listens (KubeletPodResources, Kubernetes documentation "Device Plugins", read 2026-11-21).
KUBELET_SOCKET = Path("/var/lib/kubelet/pod-resources/kubelet.sock")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What is observed. Every default interval here is ours.

    Args:
        engines: engines that the user named.
        discover_engines: look for further ones among the processes on the GPUs and those that listen; the processes
            of those that were named are looked for in any case.
        plan: what the engine was deployed from.
        kubelet_socket: where pod names come from; no such file is no kubelet, and no fault.
        root: what stands before /proc, /sys, /dev, /var and /run: the host's root where a container has it mounted.
        interval_seconds: the fast lane's tick.
        slow_every: the slow lane runs on every Nth tick.
        engine_timeout_seconds: how long one engine may take to answer.
        canary: ask every engine for one token at each look, which tells a wedge that its gauges hide.
        kernel_log: read the kernel's log for Xids.
        kernel_log_file: a file of dmesg's or journalctl's output to read instead of /dev/kmsg.
        history_seconds, history_count: what is kept of the past, by whichever is less.
    """

    engines: tuple[EngineAddress, ...] = ()
    discover_engines: bool = True
    plan: Plan | None = None
    kubelet_socket: Path = KUBELET_SOCKET
    root: Path = Path("/")
    interval_seconds: float = 5.0
    slow_every: int = 3
    engine_timeout_seconds: float = 2.0
    canary: bool = False
    kernel_log: bool = True
    kernel_log_file: Path | None = None
    history_seconds: float = 900.0
    history_count: int = 900

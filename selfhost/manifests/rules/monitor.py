"""Alerts about the monitor, the driver and the node around the GPUs."""

from __future__ import annotations

from collections.abc import Iterable

from selfhost.manifests.rules.types import Alert

JOB = "selfhost-monitor"
# Labels that tell a node apart after the exporter's pod has changed, and with it `instance`.
_NODE = "cluster, node"


def monitor_alerts() -> Iterable[Alert]:
    """Whether anything watches at all, NVML, the number of GPUs, and any check that is critical."""
    yield Alert(
        name="SelfhostExporterAbsent",
        expr=f'absent(up{{job="{JOB}"}})',
        wait="10m",
        severity="critical",
        action="fix_configuration",
        summary="Prometheus scrapes no selfhost monitor at all: nothing watches the GPUs.",
        runbook="Look for the DaemonSet (kubectl get daemonset -A -l app.kubernetes.io/name=selfhost-monitor) and for "
        "its PodMonitor: Prometheus has to select it, and the NetworkPolicy to let Prometheus in.",
    )
    yield Alert(
        name="SelfhostExporterDown",
        expr=f'up{{job="{JOB}"}} == 0',
        wait="5m",
        severity="warning",
        action="fix_configuration",
        summary="The monitor on {{ $labels.node }} does not answer: its GPUs are not watched.",
        runbook="kubectl describe the pod on that node. Where the node itself is not ready, begin there.",
    )
    yield Alert(
        name="SelfhostNvmlDown",
        expr="selfhost_nvml_up == 0",
        wait="2m",
        severity="critical",
        action="reboot_node",
        summary="NVML cannot be used on {{ $labels.node }}.",
        runbook="`selfhost health` in the monitor's pod says why. Library and driver differ (18): the driver was "
        "upgraded; running engines go on, new ones cannot start: drain, then reboot. Driver not loaded (9): look at "
        "the driver's installation. No library (12) in the pod: the NVIDIA runtime did not handle it; see the README "
        "about the RuntimeClass.",
    )
    yield Alert(
        name="SelfhostNvmlStuck",
        expr="selfhost_nvml_poll_age_seconds > 60",
        wait="2m",
        severity="critical",
        action="reboot_node",
        summary="NVML on {{ $labels.node }} has not answered for {{ $value | humanizeDuration }}.",
        runbook="A call to the driver hangs, as it does when a GPU or its firmware is stuck. Look at the kernel log "
        "for Xid 119, 120 or 79. Drain the node and reboot it; no process can be made to return from such a call.",
    )
    yield Alert(
        name="SelfhostGpusMissing",
        expr=f"max by ({_NODE}) (selfhost_gpus) < max by ({_NODE}) (selfhost_gpus_expected)"
        f" or max by ({_NODE}) (selfhost_gpus) < max by ({_NODE}) (max_over_time(selfhost_gpus[7d]))",
        wait="5m",
        severity="critical",
        action="reboot_node",
        summary="{{ $labels.node }} has {{ $value }} GPUs, fewer than expected or than in the last 7 days.",
        runbook="A GPU that fell off the bus before the monitor started leaves no other trace. lspci and the kernel "
        "log on the node show which. Drain and reboot; if it stays away, have the hardware inspected. GPUs that were "
        "taken out on purpose end this alert after 7 days: silence it till then.",
    )
    yield Alert(
        name="SelfhostCheckCritical",
        expr=f"max by ({_NODE}, code, gpu) (selfhost_check_level) == 2",
        wait="15m",
        severity="warning",
        action="inspect_hardware",
        summary="Check {{ $labels.code }} is critical on {{ $labels.node }}"
        "{{ with $labels.gpu }} gpu {{ . }}{{ end }}.",
        runbook="Any check of `selfhost health`, also those with an alert of their own, whose advice goes first. "
        "`selfhost health` in the monitor's pod gives the evidence and the action.",
    )

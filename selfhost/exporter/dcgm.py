"""An observation -> the text of dcgm-exporter's metrics: its names, types, units and labels. Pure.

As of dcgm-exporter 4.5.3-4.8.2 (etc/default-counters.csv and internal/pkg/transformation, read 2026-11-21). Its label
for the host was `Hostname` until May 2026 and is `hostname` since (#655): both stand here, so that dashboards of either
time work. Its counters do not end in `_total`; OpenMetrics has no counter of another name, and gets them untyped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from selfhost.catalog.xids import xids
from selfhost.exporter.families import owner_labels, read
from selfhost.exporter.text import Sample, sample_line
from selfhost.metrics import DCGM_ONLY, GPU_METRICS
from selfhost.observation import GpuSnapshot, NodeSnapshot, known

_XID = "DCGM_FI_DEV_XID_ERRORS"
_PARTED = ("DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE")
_MIB = 1 << 20


def dcgm_text(node: NodeSnapshot, last_xids: Mapping[str, int], *, openmetrics: bool) -> str:
    """The families as text exposition.

    Args:
        node: what was seen. A GPU with a fault has no series, as there.
        last_xids: the last Xid of each GPU, by UUID.
        openmetrics: for the OpenMetrics format.
    """
    gpus = [gpu for gpu in node.gpus if gpu.fault is None]
    named = [(gpu, dcgm_labels(gpu, node)) for gpu in gpus]
    lines: list[str] = []
    for metric in GPU_METRICS:
        if metric.dcgm is None or metric.path is None:
            continue
        scale = metric.factor * metric.dcgm.scale
        parted = metric.dcgm.name in _PARTED
        # As there: a GPU that is divided has the memory of its parts, and no series of the whole to be added to them.
        whole = [pair for pair in named if not (parted and pair[0].slow.mig)]
        samples = list(_samples(whole, metric.path, scale))
        samples += _mig_samples(named, metric.dcgm.name) if parted else ()
        lines += _family(metric.dcgm.name, metric.dcgm.kind, metric.help, samples, openmetrics=openmetrics)
    for one in DCGM_ONLY:
        samples = (
            [_xid_sample(gpu, labels, last_xids) for gpu, labels in named]
            if one.path is None
            else list(_samples(named, one.path, one.scale))
        )
        text = (
            "Last Xid of the GPU, 0 where there was none." if one.name == _XID else "As dcgm-exporter has it."
        )
        lines += _family(one.name, one.kind, text, samples, openmetrics=openmetrics)
    return "".join(lines)


def dcgm_labels(gpu: GpuSnapshot, node: NodeSnapshot) -> dict[str, str]:
    """dcgm-exporter's labels of a GPU."""
    who = gpu.identity
    labels = {
        "gpu": str(who.index),
        "UUID": who.uuid,
        "pci_bus_id": who.pci_address,
        "device": f"nvidia{who.minor if known(who.minor) else who.index}",
        "modelName": who.name,
        "Hostname": node.host,
        "hostname": node.host,
    }
    if known(node.driver_version):
        labels["DCGM_FI_DRIVER_VERSION"] = node.driver_version
    return labels | owner_labels(gpu.namespace, gpu.pod, gpu.container)


def _samples(
    named: Iterable[tuple[GpuSnapshot, dict[str, str]]], path: str, scale: float
) -> Iterable[Sample]:
    for gpu, labels in named:
        value = read(gpu, path)
        if value is not None:
            # 0.29 times 100 is 28.999999999999996: a whole per cent, megahertz or millijoule stays one.
            yield labels, round(value * scale, 6)


def _mig_samples(named: Iterable[tuple[GpuSnapshot, dict[str, str]]], name: str) -> Iterable[Sample]:
    """Memory of MIG instances: the one reading that NVML has of them."""
    for gpu, labels in named:
        for mig in gpu.slow.mig:
            if not known(mig.memory_used_bytes):
                continue
            size = mig.memory_used_bytes
            if name.endswith("FREE"):
                if not known(mig.memory_total_bytes):
                    continue
                size = mig.memory_total_bytes - size
            profile = mig.profile if known(mig.profile) else ""
            yield (
                labels
                | {"GPU_I_PROFILE": profile, "GPU_I_ID": str(mig.gpu_instance)}
                | owner_labels(mig.namespace, mig.pod, mig.container),
                size / _MIB,
            )


def _xid_sample(gpu: GpuSnapshot, labels: dict[str, str], last: Mapping[str, int]) -> Sample:
    code = last.get(gpu.identity.uuid, 0)
    known_code = xids().get(code)
    text = "No Error" if code == 0 else known_code.meaning if known_code else "Unknown Error"
    return labels | {"err_code": str(code), "err_msg": text}, float(code)


def _family(
    name: str, kind: str, text: str, samples: Iterable[Sample], *, openmetrics: bool
) -> Iterable[str]:
    lines = [sample_line(name, labels, value) for labels, value in samples]
    if not lines:
        return []
    if kind == "counter" and openmetrics:
        kind = "unknown"
    return [f"# HELP {name} {text}\n", f"# TYPE {name} {kind}\n", *lines]

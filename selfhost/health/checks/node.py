"""NVML and the driver: whether they answer, and in time; their versions; rights on the device files."""

from __future__ import annotations

import re

from selfhost.engines import Cuda, get_engine, parse_engine
from selfhost.errors import UsageError
from selfhost.health.types import Action, Check, Context, History, Level
from selfhost.observation import DeviceFile, Missing, NodeSnapshot, known

_CODES = "nvml.h r615 error codes (read 2026-11-21)"
_SLOW = "DCGM and NVSentinel watch for three polls' time (read 2026-11-21); 2 s is ours"
_COMPATIBILITY = (
    "docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html (read 2026-11-21)"
)
_PERMISSIONS = "DCGM diagnostics, permissions test (4.6.0, read 2026-11-21)"

# A poll that takes longer is worth a warning; a call that has not returned for three of the shortest intervals is hung.
SLOW_SECONDS = 2.0
HUNG_SECONDS = 3.0
# Lowest driver of each CUDA major release.
DRIVER_FLOORS = {13: 580, 12: 525, 11: 450}

# nvmlReturn_t of NVML as a whole -> level, what to do, sentence.
_FAULTS: dict[int, tuple[Level, Action, str]] = {
    4: ("unknown", "fix_configuration", "no right to use NVML: run as root, or give this container the devices"),
    9: (
        "critical",
        "fix_configuration",
        "the NVIDIA kernel driver is not loaded: no engine can start (modprobe nvidia, then the kernel log)",
    ),
    12: (
        "unknown",
        "fix_configuration",
        "no libnvidia-ml.so.1 here: no NVIDIA driver, or a container without the NVIDIA runtime",
    ),
    15: ("critical", "reboot_node", "NVML says that a GPU is lost, and gives nothing else"),
    16: ("critical", "reset_gpu", "NVML says that a GPU must be reset, and gives nothing else"),
    18: (
        "critical",
        "reboot_node",
        "the driver was changed without a reboot: running engines go on; do not restart them before the reboot",
    ),
}  # fmt: skip


def nvml_answers(history: History, context: Context) -> list[Check]:
    """Whether NVML can be used at all, and finds GPUs."""
    node = history[-1].node
    fault = node.nvml.fault
    if fault is not None:
        return [_fault(fault, node)]
    if not node.gpus and known(node.device_count) and node.device_count == 0:
        return [_no_gpus(node, context)]
    if not node.gpus:
        if isinstance(node.device_count, Missing) and node.device_count.code in _FAULTS:
            return [_fault(node.device_count, node)]
        reason = (
            node.device_count.missing if isinstance(node.device_count, Missing) else "none was read in time"
        )
        return [
            Check(code="nvml", level="unknown", message=f"NVML named no GPU: {reason}", source=_CODES)
        ]  # fmt: skip
    evidence = f"{len(node.gpus)} GPUs"
    if node.nvml.poll_seconds is not None:
        evidence += f", one poll took {node.nvml.poll_seconds * 1000:.0f} ms"
    if node.nvml.failed_calls:
        evidence += f", {node.nvml.failed_calls} calls failed since the start"
    return [Check(code="nvml", level="ok", message="NVML answers", evidence=evidence, source=_CODES)]


def _fault(fault: Missing, node: NodeSnapshot) -> Check:
    level, action, sentence = _FAULTS.get(
        -1 if fault.code is None else fault.code,
        ("unknown", "none", f"NVML does not answer: {fault.missing}"),
    )
    evidence = fault.missing if fault.code is None else f"{fault.missing} (NVML code {fault.code})"
    if node.nvml.stuck_call is not None:  # `nvml-slow` says how bad that is
        level, action, sentence = "unknown", "none", "NVML has not come back: nothing newer is known"
    if known(node.kernel_driver_version):
        evidence += f"; kernel module {node.kernel_driver_version}"
        if fault.code == 12 and not node.in_container:
            sentence = "the kernel driver is loaded, but its library libnvidia-ml.so.1 is not installed"
    return Check(code="nvml", level=level, message=sentence, evidence=evidence, action=action, source=_CODES)


def _no_gpus(node: NodeSnapshot, context: Context) -> Check:
    """No GPU: a fault where something says that there were some, else just unknown."""
    wanted = len(context.baseline.gpus) if context.baseline else 0
    numbered = [file.path for file in node.device_files if re.fullmatch(r"/dev/nvidia\d+", file.path)]
    loaded = known(node.kernel_driver_version) and not node.in_container
    if wanted or numbered or loaded:
        why = (
            f"the baseline has {wanted}" if wanted
            else f"there are device files of {len(numbered)}" if numbered
            else "the kernel module is loaded, which it is not without a GPU"
        )  # fmt: skip
        return Check(
            code="nvml",
            level="critical",
            message=f"NVML finds no GPU, but {why}",
            evidence="0 GPUs",
            action="reboot_node",
            source=f"{_CODES}; ours",
        )
    return Check(
        code="nvml",
        level="unknown",
        message="NVML finds no GPU: none was given to this container, or the node has none",
        evidence="0 GPUs",
        action="fix_configuration",
        source=f"{_CODES}; ours",
    )


def nvml_in_time(history: History, context: Context) -> list[Check]:
    """Whether NVML answers quickly; a call that does not return is the driver's, and often the GPU's end."""
    state = history[-1].node.nvml
    if state.stuck_call is not None or state.stuck_seconds > 0:
        call = state.stuck_call or "a call"
        hung = state.stuck_seconds >= HUNG_SECONDS or state.fault is not None
        return [
            Check(
                code="nvml-slow",
                level="critical" if hung else "warn",
                message=(
                    f"NVML has not answered for {state.stuck_seconds:.0f} s: the driver hangs, and engines may too"
                    if hung
                    else f"NVML takes long to answer: {state.stuck_seconds:.1f} s so far"
                ),
                evidence=f"{call} has not returned for {state.stuck_seconds:.1f} s",
                action="reboot_node" if hung else "none",
                source=_SLOW,
            )
        ]
    if state.poll_seconds is None:
        message = "no poll was finished" if state.fault is None else "NVML cannot be used"
        return [Check(code="nvml-slow", level="skipped", message=message, source=_SLOW)]
    if state.poll_seconds > SLOW_SECONDS:
        return [
            Check(
                code="nvml-slow",
                level="warn",
                message=f"one reading of the GPUs took {state.poll_seconds:.1f} s, more than {SLOW_SECONDS:.0f} s",
                evidence=f"poll {state.poll_seconds:.2f} s",
                action="none",
                source=_SLOW,
            )
        ]
    return [
        Check(
            code="nvml-slow",
            level="ok",
            message="NVML answers in time",
            evidence=f"poll {state.poll_seconds:.3f} s",
            source=_SLOW,
        )
    ]


def driver(history: History, context: Context) -> list[Check]:
    """Whether driver, kernel module and the CUDA that the driver offers belong together."""
    node = history[-1].node
    version = node.driver_version
    if isinstance(version, Missing):
        level: Level = "skipped" if node.nvml.fault is not None or version.absent else "unknown"
        reason = "NVML cannot be used" if node.nvml.fault is not None else version.missing
        message = f"the driver's version is not known: {reason}"
        return [Check(code="driver", level=level, message=message, source=_COMPATIBILITY)]
    evidence = f"driver {version}"
    if known(node.cuda_version):
        evidence += f", CUDA up to {node.cuda_version}"
    if known(node.nvml_version):
        evidence += f", NVML {node.nvml_version}"
    loaded = node.kernel_driver_version
    if known(loaded) and loaded != version:
        return [
            Check(
                code="driver",
                level="warn",
                message=f"the kernel module is {loaded}, the driver {version}: running engines go on; do not restart "
                "them before the reboot",
                evidence=evidence,
                action="reboot_node",
                source=_CODES,
            )
        ]
    faults = _floors(node, version, evidence) or _planned(context, version, evidence)
    if context.baseline is not None and context.baseline.driver not in (None, version):
        evidence += f"; {context.baseline.driver} when the baseline was learnt"
    return faults or [
        Check(
            code="driver",
            level="ok",
            message="the driver and its CUDA belong together",
            evidence=evidence,
            source=_COMPATIBILITY,
        )
    ]


def _floors(node: NodeSnapshot, version: str, evidence: str) -> list[Check]:
    cuda = re.match(r"(\d+)\.", node.cuda_version) if known(node.cuda_version) else None
    major = re.match(r"(\d+)", version)
    floor = DRIVER_FLOORS.get(int(cuda[1])) if cuda else None
    if major is None or floor is None or int(major[1]) >= floor:
        return []
    assert cuda is not None
    return [
        Check(
            code="driver",
            level="warn",
            message=f"CUDA {cuda[1]} needs driver {floor} or later, this is {version}",
            evidence=evidence,
            action="fix_configuration",
            source=_COMPATIBILITY,
        )
    ]


def _planned(context: Context, version: str, evidence: str) -> list[Check]:
    """Whether the driver is old for the CUDA of the image that the plan names."""
    plan, major = context.plan, re.match(r"(\d+)", version)
    if plan is None or major is None or plan.gpu.vendor != "NVIDIA":
        return []
    cuda = _image_cuda(plan.engine.name, plan.engine.version)
    if cuda is None or int(major[1]) >= DRIVER_FLOORS[cuda.major]:
        return []
    return [
        Check(
            code="driver",
            level="critical",
            message=f"the plan's image ({plan.engine.image.reference}) brings CUDA {cuda.major}, which needs driver "
            f"{DRIVER_FLOORS[cuda.major]} or later; this is {version}",
            evidence=evidence,
            action="fix_configuration",
            source=f"{_COMPATIBILITY}; {cuda.source}",
        )
    ]


def _image_cuda(engine: str, version: str) -> Cuda | None:
    """What the image of a release brings, None where it is not known."""
    try:
        return get_engine(engine).cuda(parse_engine(f"{engine}@{version}"))
    except UsageError:  # a plan may name an engine or a release that this selfhost does not know
        return None


def permissions(history: History, context: Context) -> list[Check]:
    """Whether this user may open the device files that every CUDA process opens."""
    files = [
        file
        for file in history[-1].node.device_files
        if re.fullmatch(r"/dev/nvidia(\d+|ctl|-uvm)", file.path)
    ]
    if not files:
        return [
            Check(code="permissions", level="skipped", message="no /dev/nvidia* here", source=_PERMISSIONS)
        ]
    closed = [file for file in files if not file.usable]
    if not closed:
        message = f"all {len(files)} device files can be opened"
        return [Check(code="permissions", level="ok", message=message, source=_PERMISSIONS)]
    return [
        Check(
            code="permissions",
            level="critical",
            message=f"{_names(closed)} cannot be opened by this user, nor by an engine under it",
            evidence=f"{len(closed)} of {len(files)} device files without the right to read and write",
            action="fix_configuration",
            source=_PERMISSIONS,
        )
    ]


def _names(files: list[DeviceFile]) -> str:
    shown = ", ".join(file.path for file in files[:3])
    return f"{shown} and {len(files) - 3} more" if len(files) > 3 else shown


CHECKS = (nvml_answers, nvml_in_time, driver, permissions)

"""How a container or a service of one machine is given its accelerators: device requests, device nodes, groups."""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.catalog.accelerators import Platform, accelerator
from selfhost.errors import UnsupportedError
from selfhost.manifests.box import Setting
from selfhost.manifests.options import RenderOptions
from selfhost.plan import Plan

# Device nodes by platform: AMD's and Intel's own instructions for containers (rocm.docs.amd.com, "Running ROCm Docker
# containers"; vLLM installation/gpu.xpu.inc.md), read 2026-11-26. Gaudi's runtime adds its own by a variable
# (docs.habana.ai, "Using containers").
_NODES: dict[Platform, tuple[str, ...]] = {"rocm": ("/dev/kfd", "/dev/dri"), "xpu": ("/dev/dri",)}
_VISIBLE: dict[Platform, str] = {
    "cuda": "CUDA_VISIBLE_DEVICES",
    "rocm": "HIP_VISIBLE_DEVICES",
    "xpu": "ZE_AFFINITY_MASK",
    "hpu": "HABANA_VISIBLE_DEVICES",
}
# Names of character devices in /proc/devices, as DeviceAllow= of systemd takes them (systemd.resource-control).
_CLASSES: dict[Platform, tuple[str, ...]] = {
    "cuda": ("char-nvidia*",),
    "rocm": ("char-drm", "char-kfd"),
    "xpu": ("char-drm",),
    "hpu": ("char-accel", "char-habanalabs*"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """What is handed in.

    Args:
        count: NVIDIA's GPUs by number, None where they are named or others'.
        ids: NVIDIA's GPUs by name.
        nodes: device nodes, or CDI names.
        groups: owners of the nodes.
        groups_because: which they are.
        runtime: of the container engine, where the vendor has one of its own.
        env: variables that choose among several.
        said: sentences for the head of what is rendered.
        because: how many, and why.
    """

    count: int | None = None
    ids: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    groups_because: str = ""
    runtime: str | None = None
    env: tuple[Setting, ...] = ()
    said: tuple[str, ...] = ()
    because: str

    @property
    def reserved(self) -> bool:
        """Whether GPUs are reserved by driver and number."""
        return self.count is not None or bool(self.ids)


def passed(plan: Plan, options: RenderOptions) -> Passed:
    """How a container gets the GPUs of a plan."""
    found, asked, on = accelerator(plan.gpu.on), options.box.gpu_devices, plan.gpu.on
    split = plan.split
    because = f"TP {split.tensor} x PP {split.pipeline} x DP {split.data} on {plan.gpu.name}"
    if on == "cpu":
        return Passed(because="no accelerator")
    if on == "cuda" and options.box.cdi:
        names = asked or tuple(str(number) for number in range(plan.gpu.count))
        return Passed(nodes=tuple(f"nvidia.com/gpu={name}" for name in names), because=because)
    if on == "cuda":
        return Passed(count=None if asked else plan.gpu.count, ids=asked, because=because)
    chosen = chosen_gpus(plan, options)
    if on == "hpu":
        chosen = chosen or (Setting(name=_VISIBLE[on], value="all", because="the runtime adds these"),)
        return Passed(runtime="habana", env=chosen, said=found.exceptions, because=because)
    groups = tuple(str(group) for group in found.groups)
    return Passed(
        nodes=_NODES[on],
        groups=groups,
        groups_because=found.groups_because,
        env=chosen,
        said=tuple(line for line in found.exceptions if "not tried" not in line),
        because=because,
    )


def chosen_gpus(plan: Plan, options: RenderOptions) -> tuple[Setting, ...]:
    """The variable by which a process sees the named GPUs alone."""
    asked = options.box.gpu_devices
    if not asked:
        return ()
    return (Setting(name=_VISIBLE[plan.gpu.on], value=",".join(asked), because="as asked"),)


def device_classes(plan: Plan) -> tuple[str, ...]:
    """Names of the character devices that a service needs."""
    if plan.gpu.on == "cpu":
        return ()
    if plan.gpu.on not in _CLASSES:
        raise UnsupportedError(f"No device class of {plan.gpu.name} is known.", hint="Use --target compose.")
    return _CLASSES[plan.gpu.on]

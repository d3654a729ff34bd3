"""GPUs as the node hands them to a container: device plugin, container toolkit, driver against CUDA, broken devices.

Words of the kubelet (pkg/kubelet/cm/devicemanager/manager.go, 1.36), of libnvidia-container and NVIDIA's container
toolkit 1.17 (NVIDIA/nvidia-docker#1442, NVIDIA/nvidia-container-toolkit), of torch 2.11 (c10/cuda, torch/cuda), and of
the CUDA driver API (error codes 35, 100, 802, 803, 804), read 2026-11-26.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from selfhost.cluster.values import part, text, texts
from selfhost.deploy.causes._scene import Line, Scene
from selfhost.deploy.engine_log import shortened
from selfhost.deploy.types import Cause

RANK = 400
_DRIVER = (
    r"unsatisfied condition: (?P<need>\w+ ?>= ?[\d.]+)|driver on your system is too old \(found version (?P<has>\d+)\)"
    r"|driver on your system is too old|CUDA driver version is insufficient for CUDA runtime version"
    r"|Error 80[34]: |system has unsupported display driver / cuda driver combination"
    r"|forward compatibility was attempted on non supported HW"
    r"|CUDA_ERROR_(?:SYSTEM_DRIVER_MISMATCH|COMPAT_NOT_SUPPORTED)"
    r"|Driver/library version mismatch|the provided PTX was compiled with an unsupported toolchain"
)
_NONE = (
    r"No CUDA GPUs are available|Found no NVIDIA driver on your system|no CUDA-capable device is detected"
    r"|Failed to infer device type|CUDA_ERROR_NO_DEVICE|No accelerator \(CUDA|No HIP GPUs are available"
    r"|libcuda\.so\.1: cannot open shared object file|Torch not compiled with CUDA enabled|0 "
    r"active driver\(s\) found|No CUDA runtime is found"
    r"|NVMLError_(?:InvalidArgument|LibraryNotFound|DriverNotLoaded)"
)
# Of Xids those that tell of the hardware (selfhost/catalog/xids.tsv); 13, 31 and 43 are of programs.
_BROKEN = (
    r"uncorrectable ECC error|GPU is lost|CUDA error: an illegal instruction was|fallen off "
    r"the bus|\bXid\b[^:]*(?:\([^)]*\))?: (?:48|63|64|74|79|92|94|95|119|120|140)\b"
    r"|CUDA error: unspecified launch failure|GPU requires reset|Unable to determine the device handle"
)


def driver_too_old(scene: Scene) -> Iterator[Cause]:
    """The node's driver does not suit the CUDA of the image: the container toolkit refuses it, or torch does.

    Way out: a newer driver on that node, an image of an older CUDA (`--image`), or other nodes.
    """
    lines = (*scene.created(_DRIVER), *scene.lines(re.compile(_DRIVER, re.IGNORECASE)))
    for line in lines:
        need = line.match.groupdict().get("need")
        has = line.match.groupdict().get("has")
        driver = _driver_of(scene, line.pod.node)
        on = f"of {line.pod.node}" if line.pod.node else "of the node"
        known = f" ({driver})" if driver else ""
        if need:
            what = (
                f"The driver {on}{known} is too old for {line.box.image}, which needs "
                f"{need.replace('cuda', 'CUDA ').replace('>=', 'of at least ')}."
            )
        elif has:
            what = (
                f"The driver {on}{known} carries CUDA "
                f"{int(has) // 1000}.{int(has) % 1000 // 10}, too old for {line.box.image}."
            )
        elif re.search(r"80[34]|combination|forward compat|mismatch|DRIVER_MISMATCH|COMPAT", line.match[0]):
            what = f"The driver {on}{known} and the CUDA libraries of {line.box.image} do not go together."
        else:
            what = f"The driver {on}{known} is too old for the CUDA of {line.box.image}."
        yield line.cause(
            "driver-too-old",
            what,
            "Have the node's driver renewed (and the node restarted where it just was), or "
            "deploy with an --image of an "
            "older CUDA.",
        )


def fabric_manager(scene: Scene) -> Iterator[Cause]:
    """CUDA is not initialised on a node with NVSwitch: its fabric manager does not run (error 802).

    Way out: start nvidia-fabricmanager of the driver's version on that node.
    """
    for line in scene.lines(r"Error 802: |system not yet initialized|CUDA_ERROR_SYSTEM_NOT_READY"):
        node = line.pod.node or "the node"
        yield line.cause(
            "fabric-manager",
            f"CUDA is not ready on {node}: the NVSwitch fabric manager does not run there.",
            f"Start nvidia-fabricmanager of the driver's own version on {node}.",
        )


def no_cuda_device(scene: Scene) -> Iterator[Cause]:
    """The process sees no GPU although the pod asked for one: the container runtime does not hand it in.

    Way out: make NVIDIA's runtime the default one of that node, or deploy with `--runtime-class nvidia`.
    """
    for line in scene.lines(_NONE):
        asks = scene.plan is None or bool(scene.plan.gpu.resource)
        if asks:
            yield line.cause(
                "no-cuda-device",
                f"The engine sees no GPU on {line.pod.node or 'its node'}: the container runtime handed none in.",
                "Deploy with --runtime-class nvidia, or make NVIDIA's runtime the default of that node "
                "(nvidia-ctk runtime configure).",
            )


def too_few_gpus(scene: Scene) -> Iterator[Cause]:
    """The process sees fewer GPUs than its split over GPUs needs.

    Way out: as many GPUs in the pod's resources as tensor times pipeline parallelism, as the plan has it.
    """
    pattern = (
        r"World size \((?P<need>\d+)\) is larger than the number of available GPUs "
        r"\((?P<has>\d+)\)|invalid device ordinal"
        r"|(?:tensor parallel size|num-shard).{0,40}(?:exceeds|larger than) the number of"
    )
    for line in scene.lines(pattern):
        need, has = line.match["need"], line.match["has"]
        figures = f": {has} of {need}" if need else ""
        yield line.cause(
            "too-few-gpus",
            f"The engine sees fewer GPUs in {line.pod.name} than its split over GPUs needs{figures}.",
            "Ask for as many GPUs as tensor times pipeline parallelism: selfhost render does; see what changed it with "
            f"selfhost status {scene.snapshot.name} -n {scene.snapshot.namespace}",
        )


def broken_gpu(scene: Scene) -> Iterator[Cause]:
    """The GPU itself reports a fault: ECC, an Xid, lost from the bus.

    Way out: drain the node and look with `selfhost health` there.
    """
    for line in (*scene.lines(_BROKEN), *_admission(scene, re.compile(_BROKEN, re.IGNORECASE))):
        node = line.pod.node or "the node"
        yield line.cause(
            "broken-gpu",
            f"A GPU of {node} is at fault: {_tail(line)}.",
            f"kubectl cordon {node}, then selfhost health there says which and what to do; the pod goes elsewhere when "
            "it is deleted.",
        )


def device_plugin(scene: Scene) -> Iterator[Cause]:
    """The kubelet could not hand out the devices that the scheduler counted on (UnexpectedAdmissionError).

    Way out: look at the device plugin's pod of that node; a restarted kubelet or plugin heals by itself.
    """
    for pod in scene.pods:
        if pod.reason == "UnexpectedAdmissionError":
            words = pod.message or next((e.message for e in pod.said("UnexpectedAdmissionError")), "")
            # kubernetes pkg/kubelet/cm/admission/errors.go and lifecycle/predicate.go (master, read 2026-11-26)
            why = re.search(
                r"(?:Allocate|Update plugin resources) failed due to (.+?)(?:, which is unexpected|$)",
                words,
                re.DOTALL,
            )
            yield Cause(
                code="device-plugin",
                sentence=f"The kubelet of {pod.node} could not give {pod.name} its devices: "
                f"{shortened(why[1] if why else words, 160).rstrip('.')}.",
                evidence=(shortened(words),),
                hint=f"kubectl get pods -A --field-selector spec.nodeName={pod.node} shows "
                f"the device plugin's pod; read its "
                "log, or restart it.",
                patience_seconds=60.0,  # Ours: a plugin that registers again after a restart is there within this
                since=pod.created,
                pod=pod.name,
                node=pod.node,
            )


def container_toolkit(scene: Scene) -> Iterator[Cause]:
    """NVIDIA's container toolkit, or a CDI hook, could not set up the container.

    Way out: look at the toolkit of that node; a read-only root is a reason for some hooks (`--writable-root`).
    """
    for line in scene.created(
        r"nvidia-container-cli(?:\.real)?: (.+)|nvidia-c(?:di|tk)-hook|unresolvable CDI "
        r"devices ([^\s:]+)|CDI device injection failed"
    ):
        if re.search(_DRIVER, line.match.string, re.IGNORECASE):
            continue
        readonly = "read-only file system" in line.match.string
        yield line.cause(
            "container-toolkit",
            f"NVIDIA's container toolkit cannot set up the container on {line.pod.node or 'the node'}: {_tail(line)}.",
            "Deploy with --writable-root."
            if readonly
            else (
                f"Look at the toolkit and the driver of {line.pod.node or 'the node'} "
                f"(nvidia-container-cli info there)."
            ),
            final=False,
            patience=120.0,
        )


def _admission(scene: Scene, pattern: re.Pattern[str]) -> Iterator[Line]:
    from selfhost.deploy.causes._scene import Box

    none = Box(
        name="",
        init=False,
        image="",
        state="",
        reason="",
        message="",
        ready=False,
        restarts=0,
        since=None,
        ended=None,
        log="",
        running_log="",
    )
    for pod in scene.pods:
        if pod.reason == "UnexpectedAdmissionError" and (found := pattern.search(pod.message)):
            yield Line(pod=pod, box=none, match=found, text=shortened(pod.message))


def _tail(line: Line) -> str:
    """From the match on, as a clause."""
    words = line.match.string[line.match.start() :].partition("\n")[0]
    return shortened(words, 160).rstrip(". ")


def _driver_of(scene: Scene, node: str) -> str:
    """As NVIDIA's feature discovery labels the node; empty where it does not."""
    for one in scene.snapshot.nodes:
        metadata = part(one, "metadata")
        if text(metadata, "name") == node:
            labels = texts(metadata, "labels")
            full = labels.get("nvidia.com/cuda.driver-version.full")
            if full:
                return full
            parts = [labels.get(f"nvidia.com/cuda.driver.{key}", "") for key in ("major", "minor", "rev")]
            return ".".join(one for one in parts if one)
    return ""

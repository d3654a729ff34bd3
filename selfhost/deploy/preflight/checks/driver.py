"""The nodes against the image: the driver against its CUDA, and the machine against what it is built for."""

from __future__ import annotations

import re
from collections.abc import Iterator

from selfhost.catalog.gpus import find_gpu
from selfhost.cluster.types import Object
from selfhost.cluster.values import part, text, texts
from selfhost.deploy.capacity import is_gpu
from selfhost.deploy.preflight.facts import Look, Unread
from selfhost.deploy.scheduling import obstacles
from selfhost.deploy.surge import workloads
from selfhost.deploy.types import Finding
from selfhost.engines import Cuda, get_engine, parse_engine
from selfhost.errors import SelfhostError
from selfhost.health.checks.node import DRIVER_FLOORS

_SOURCE = (
    "docs.nvidia.com/deploy/cuda-compatibility: minor version and forward compatibility (read 2026-11-26)"
)
# Branches below 580 for which NVIDIA makes compatibility packages of CUDA 13: forward-compatibility.html, its table
# up to cuda-compat-13-4 (a stored copy, read 2026-11-26). Others are at their end or New Feature Branches, and no
# supported targets, which need not keep them from working. It is for data-centre GPUs.
_FORWARD = (535, 570)
# gpu-feature-discovery internal/lm/nvml.go: since v0.16, and what it wrote before and still writes.
_FULL = "nvidia.com/cuda.driver-version.full"
_MAJOR = ("nvidia.com/cuda.driver-version.major", "nvidia.com/cuda.driver.major")
_RUNTIME = ("nvidia.com/cuda.runtime-version.major", "nvidia.com/cuda.runtime.major")
# A tag that says which CUDA it brings, as vLLM's and SGLang's others do: v0.32.0-cu129.
_TAG_CUDA = re.compile(r"[-_.]cu(?:da)?-?(1[1-9])")
_ARCH = "kubernetes.io/arch"


def driver(look: Look) -> Iterator[Finding]:
    """Whether the driver of the nodes that pods may go to is new enough for the image's CUDA."""
    nodes, plan = look.facts.nodes, look.desired.plan
    if isinstance(nodes, Unread) or plan.gpu.on != "cuda":
        return
    candidates = [node for node in nodes if _takes(look, node)]
    if not candidates:
        return
    cuda = image_cuda(look)
    if cuda is None:
        yield Finding(
            code="driver",
            level="unknown",
            message=f"Which CUDA the image brings is not known: {_image(look)}.",
            hint="Compare its CUDA release with `nvidia-smi` on a node: 13 needs driver 580, 12 needs 525.",
        )
        return
    floor = DRIVER_FLOORS.get(cuda.major)
    if floor is None:
        return
    told = {_name(node): _driver(node) for node in candidates}
    old = {name: found for name, found in told.items() if found is not None and found[0] < floor}
    if old:
        yield _too_old(look, cuda, floor, old, len(candidates))
        return
    if any(found is None for found in told.values()):
        missing = [name for name, found in told.items() if found is None]
        yield Finding(
            code="driver",
            level="unknown",
            message=f"{_few(missing)} {'does' if len(missing) == 1 else 'do'} not tell the driver, and the image's "
            f"CUDA {cuda.major} needs {floor} or later.",
            hint="GPU feature discovery labels nodes with it; `nvidia-smi` on the node shows it.",
        )
        return
    least = min(found for found in told.values() if found is not None)
    yield Finding(
        code="driver",
        level="ok",
        message=f"driver {least[0]} ≥ {floor}",
        evidence=(f"CUDA {cuda.major} of {_image(look)}: {cuda.source}", _SOURCE),
    )


def _too_old(look: Look, cuda: Cuda, floor: int, old: dict[str, tuple[int, str]], candidates: int) -> Finding:
    versions = sorted({text for _, text in old.values()})
    forward = _datacentre(look) and all(found[0] >= min(_FORWARD) for found in old.values())
    supported = all(found[0] in _FORWARD for found in old.values())
    some = len(old) < candidates
    more = ""
    if forward:
        # NVIDIA Container Toolkit release notes, 1.17.4 and 1.17.5 (cloud-native-docs, read 2026-11-26)
        more = " Data-centre GPUs can run it all the same, with the CUDA compatibility package in the image"
        more += " (NVIDIA Container Toolkit puts it to use; 1.17.4 does not by default)"
        more += (
            "."
            if supported
            else f", though NVIDIA supports that on drivers {' and '.join(map(str, _FORWARD))} alone."
        )
    hint = f"Update the driver to {floor} or later, or take an image with CUDA {cuda.major - 1} (--image)."
    return Finding(
        code="driver",
        level="warning" if forward or some else "error",
        message=f"{_few(list(old))} {'has' if len(old) == 1 else 'have'} driver {', '.join(versions)}, and CUDA "
        f"{cuda.major} of the image needs {floor} or later.{more}",
        hint=hint + (" Cordon these nodes until then." if some else ""),
        evidence=(
            *(f"{name}: driver {text}" for name, (_, text) in list(old.items())[:5]),
            cuda.source,
            _SOURCE,
        ),
    )


def image_cuda(look: Look) -> Cuda | None:
    """What CUDA the image brings: by its tag where that says it, by the engine's release for the engine's own image."""
    image = _image(look)
    found = _TAG_CUDA.search(image.rpartition("/")[2])
    if found is not None:
        return Cuda(major=int(found[1]), source=f"tag of {image}")
    plan = look.desired.plan
    if look.desired.options.image is not None and not _same_release(image, plan.engine.image.tag):
        return None
    try:
        return get_engine(plan.engine.name).cuda(parse_engine(f"{plan.engine.name}@{plan.engine.version}"))
    except SelfhostError:  # a plan may name an engine or a release that this selfhost does not know
        return None


def _same_release(image: str, tag: str) -> bool:
    """Whether another reference is the engine's image from a mirror: the same tag under another address."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2] == tag


def architecture(look: Look) -> Iterator[Finding]:
    """Whether the nodes that pods may go to are machines that the image is built for."""
    nodes = look.facts.nodes
    if isinstance(nodes, Unread):
        return
    candidates = [node for node in nodes if _takes(look, node)]
    arm = [node for node in candidates if _machine(node) == "arm64"]
    if not arm:
        return
    image = _image(look)
    everywhere = len(arm) == len(candidates)
    yield Finding(
        code="architecture",
        level="warning",
        message=f"{_few([_name(node) for node in arm])} {'is' if len(arm) == 1 else 'are'} arm64 (as GH200 and GB200 "
        "are), and an image for amd64 alone ends there with `exec format error`.",
        hint=f"Look whether it has arm64: docker manifest inspect {image}"
        + ("" if everywhere else "; else keep the pods on amd64 nodes."),
        evidence=(f"{len(arm)} of {len(candidates)} nodes that the pods may go to",),
    )


def _takes(look: Look, node: Object) -> bool:
    """Whether a pod with GPUs may go there, whatever is free."""
    have = part(part(node, "status"), "allocatable")
    labels = texts(part(node, "metadata"), "labels")
    for one in workloads(look.desired.objects):
        for group in one.groups:
            spec = part(group.template, "spec")
            asks = [
                name
                for container in spec.get("containers") or ()
                if isinstance(container, dict)
                for name in part(part(container, "resources"), "limits")
                if is_gpu(name)
            ]
            if asks and any(name in have for name in asks) and not obstacles(node, spec):
                return True
            if (
                spec.get("resourceClaims")
                and "nvidia.com/gpu.product" in labels
                and not obstacles(node, spec)
            ):
                return True
    return False


def _driver(node: Object) -> tuple[int, str] | None:
    """Major number and whole version of the driver, by the node's labels."""
    labels = texts(part(node, "metadata"), "labels")
    full = labels.get(_FULL, "")
    major = full.partition(".")[0] or next((labels[key] for key in _MAJOR if key in labels), "")
    if major.isdecimal() and len(major) < 6:
        return int(major), full or major
    # the newest CUDA that the driver runs: of 13 it is known that the driver is at least 580
    runtime = next((labels[key] for key in _RUNTIME if key in labels), "")
    if runtime.isdecimal() and int(runtime) in DRIVER_FLOORS:
        return DRIVER_FLOORS[int(runtime)], f"of CUDA {runtime}"
    return None


def _datacentre(look: Look) -> bool:
    try:
        return find_gpu(look.desired.plan.gpu.id).kind == "datacenter"
    except SelfhostError:
        return False


def _machine(node: Object) -> str:
    labels = texts(part(node, "metadata"), "labels")
    return labels.get(_ARCH) or text(part(part(node, "status"), "nodeInfo"), "architecture")


def _image(look: Look) -> str:
    return look.desired.options.image or look.desired.plan.engine.image.reference


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _name(node: Object) -> str:
    return text(part(node, "metadata"), "name")


CHECKS = (driver, architecture)

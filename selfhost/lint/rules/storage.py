"""Where weights lie: the node's own disk, by hostPath or by what a container writes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from selfhost.lint.model import Container, Engine, Lot, Pod, Volume
from selfhost.lint.sizes import quantity, shown, weight_bytes
from selfhost.lint.types import Found, Rule

_CACHES = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE")
# Devices, drivers and sockets: nothing that a volume could hold instead.
_OF_THE_SYSTEM = re.compile(r"/(dev|sys|proc|run|var/run|etc|lib|usr|opt/rocm)(/|$)")
_FOLDERS = {"tgi": "/data", "ollama": "/root/.ollama"}


def _host_path(lot: Lot) -> Iterator[Found]:
    for pod, container, _ in lot.engines():
        for mount in container.mounts:
            volume = pod.volume(mount.name)
            if volume is not None and volume.kind == "hostPath":
                path = volume.body.text("path") or ""
                if path == "/dev/shm":
                    continue
                driver = _OF_THE_SYSTEM.match(path) is not None
                yield Found(
                    where=pod.at(volume.where.line, f"volumes[{volume.name}]"),
                    message=f"volume {volume.name} is {path or 'a path'} of the node",
                    fix="leave devices and drivers to a device plugin or DRA driver" if driver else None,
                    severity="note" if driver else None,
                )


def _holds_weights(pod: Pod, container: Container, engine: Engine) -> Volume | None:
    """The volume that a download lands on; None where it is the container's own layer, or not to be known."""
    flag = engine.flag("download-dir")
    folders = [flag.value] if flag is not None and flag.value else []
    folders += [each.value for each in container.variables if each.name in _CACHES and each.value]
    folders.append(_FOLDERS.get(engine.name, "/root/.cache/huggingface"))
    folder = folders[0].rstrip("/") + "/"
    best = max(
        (
            mount
            for mount in container.mounts
            if mount.path and folder.startswith(mount.path.rstrip("/") + "/")
        ),
        key=lambda mount: len(mount.path),
        default=None,
    )
    return pod.volume(best.name) if best is not None else None


def _ephemeral(lot: Lot) -> Iterator[Found]:
    for pod, container, engine in lot.engines():
        model = engine.model
        if (
            pod.managed
            or not model
            or engine.name not in ("vllm", "sglang", "tgi")
            or "/" not in model
            or model.startswith("/")
        ):
            continue
        volume = _holds_weights(pod, container, engine)
        size = weight_bytes(engine)
        if volume is not None and volume.kind != "emptyDir":
            continue
        if volume is None and not engine.complete:
            continue
        if volume is not None and volume.body.text("medium") == "Memory":
            continue
        bound = quantity(volume.body.get("sizeLimit")) if volume is not None else None
        if bound is not None and size is not None and bound < size:
            yield Found(
                where=pod.at(volume.where.line if volume else pod.where.line, "volumes"),
                message=f"about {shown(size)} of weights in an emptyDir of {shown(bound)}: the pod is evicted",
                severity="warning",
            )
        elif "ephemeral-storage" not in container.requests and "ephemeral-storage" not in container.limits:
            weights = f"about {shown(size)} of weights" if size is not None else "weights"
            place = f"emptyDir {volume.name}" if volume is not None else "the container's own layer"
            yield Found(
                where=container.where,
                message=f"{weights} go to {place}, and no ephemeral-storage is requested",
            )


def _read_only(lot: Lot) -> Iterator[Found]:
    for pod, container, engine in lot.engines():
        context = container.body.map("securityContext")
        if (
            context.get("readOnlyRootFilesystem") is not True
            or pod.managed
            or engine.name in ("llamacpp", "ollama")
        ):
            continue
        if not any(mount.path.rstrip("/") in ("/tmp", "") for mount in container.mounts):
            line = context.line("readOnlyRootFilesystem")
            yield Found(
                where=container.at(line, "securityContext.readOnlyRootFilesystem"),
                message="the root file system is read-only and nothing writable is mounted at /tmp",
            )


RULES = (
    Rule(
        code="SH056",
        title="Read-only root without /tmp",
        severity="error",
        reason="Engines keep sockets and scratch files in /tmp and compiled kernels in the home "
        "directory: without them "
        "they end at the start.",
        fix="Mount an emptyDir at /tmp, and one at HOME with the cache directories in it.",
        sources=("vLLM 0.32 envs.py (VLLM_RPC_BASE_PATH, VLLM_CACHE_ROOT); kserve/kserve#5711, 2026-11-21",),
        check=_read_only,
    ),
    Rule(
        code="SH047",
        title="Weights on the node's disk, uncounted",
        severity="note",
        reason="Weights in an emptyDir or the container's layer fill the node's disk: the kubelet evicts "
        "pods, and every start "
        "downloads again.",
        fix="Keep weights on a PersistentVolumeClaim or an image volume, or request ephemeral-storage for them.",
        sources=(
            "https://kubernetes.io/docs/concepts/storage/ephemeral-storage/, kserve/kserve#4918, 2026-11-21",
        ),
        check=_ephemeral,
    ),
    Rule(
        code="SH048",
        title="Path of the node",
        severity="warning",
        reason="A hostPath ties the pod to nodes that have it and is refused by Pod Security `baseline` "
        "and by SELinux.",
        fix="Use a PersistentVolumeClaim, a local PersistentVolume or an image volume.",
        sources=(
            "https://kubernetes.io/docs/concepts/storage/volumes/#hostpath, llm-d/llm-d#485, 2026-11-21",
        ),
        check=_host_path,
    ),
)

"""GPUs asked for against the GPUs the engine will use."""

from __future__ import annotations

from collections.abc import Iterator

from selfhost.lint.edits import replace_value
from selfhost.lint.images import image_engine
from selfhost.lint.model import Container, Engine, Lot, Pod
from selfhost.lint.nodes import Span, Value, number_of
from selfhost.lint.types import Edit, Found, Rule


def _split(lot: Lot) -> Iterator[Found]:
    for pod, container, engine in lot.engines():
        gpus = container.gpus
        if (
            gpus is None
            or (gpus == 0 and container.claims)
            or any("mig-" in each.resource for each in container.accelerators)
        ):
            continue
        needed = needed_gpus(pod, container, engine)
        if needed is None or needed[0] == gpus or (gpus == 0 and needed[0] <= 1):
            continue
        count, why = needed
        if gpus == 0 and (not engine.complete or _other_device(container)):
            continue
        asked = f"{gpus} GPU{'s' if gpus != 1 else ''} requested"
        line = container.accelerators[0].where.line if container.accelerators else container.where.line
        resource = container.accelerators[0].resource if container.accelerators else "nvidia.com/gpu"
        few = gpus < count
        yield Found(
            where=container.at(line, "resources"),
            message=f"{why} {'needs' if few else 'uses'} {count} GPU{'s' if count != 1 else ''} a pod but {asked}",
            fix=f"set {resource}: {count}, or change the parallel sizes",
            severity="error" if few else "warning",
        )


def _other_device(container: Container) -> bool:
    """A resource of somebody's device plugin that is not known here."""
    return any("/" in name for name in (*container.limits, *container.requests))


def needed_gpus(pod: Pod, container: Container, engine: Engine) -> tuple[int, str] | None:
    """GPUs of this container by its engine's flags, and which those are; None where that cannot be known."""
    if pod.group_size is None or engine.tensor is None or engine.pipeline is None or engine.data is None:
        return None
    if engine.name == "tgi":
        return engine.tensor, f"--num-shard {engine.tensor}"
    if engine.name not in ("vllm", "sglang"):
        return None
    data, nodes = engine.data, engine.nodes
    if engine.name == "sglang" and engine.flag("enable-dp-attention"):
        data = (
            1  # data parallel attention runs on the tensor parallel GPUs: SGLang 0.5.23, srt/server_args.py
        )
    local = engine.flag("data-parallel-size-local")
    if local is not None:
        number = number_of(local.value) if local.value is not None else None
        if number is None:
            return None
        data = number
    elif engine.flag("data-parallel-rank", "data-parallel-start-rank", "data-parallel-address") is not None:
        data = 1 if engine.flag("data-parallel-rank") else 0
    if nodes is None or data < 1:
        return None
    world = engine.tensor * engine.pipeline * data
    text = _text(engine, data)
    if nodes > 1:
        return (world // nodes, f"{text} over {nodes} nodes") if world % nodes == 0 else None
    if pod.group_size > 1 and local is None:
        return _of_group(pod, world, text)
    backend = engine.flag("distributed-executor-backend")
    if backend is not None and backend.value == "ray" and pod.group_size == 1 and pod.managed:
        return None
    return world, text


def _of_group(pod: Pod, world: int, text: str) -> tuple[int, str] | None:
    if pod.role != "leader" or pod.group_size is None:
        return None
    return (
        (world // pod.group_size, f"{text} over {pod.group_size} pods")
        if world % pod.group_size == 0
        else None
    )


def _text(engine: Engine, data: int) -> str:
    names = (
        ("tensor-parallel-size", "pipeline-parallel-size")
        if engine.name == "vllm"
        else ("tp-size", "pp-size")
    )
    parts = [f"--{names[0]}={engine.tensor}"]
    if engine.pipeline != 1:
        parts.append(f"--{names[1]}={engine.pipeline}")
    if data != 1:
        parts.append(f"data parallel {data}")
    return " × ".join(parts)


def _no_gpu(lot: Lot) -> Iterator[Found]:
    for pod, container, engine in lot.engines():
        if (
            container.gpus != 0
            or pod.managed
            or engine.name not in ("vllm", "sglang", "tgi")
            or not engine.complete
        ):
            continue
        if image_engine(container.image) is None:
            continue  # which devices an unknown image is made for is not to be known
        image = container.image.text.lower() if container.image else ""
        device = engine.flag("device")
        elsewhere = pod.spec.text("runtimeClassName") or container.variable("NVIDIA_VISIBLE_DEVICES")
        other = any(word in image for word in ("cpu", "tpu", "neuron", "xpu", "gaudi", "hpu", "sim"))
        extended = any("/" in name for name in (*container.limits, *container.requests))
        variable = any("CPU" in each.name for each in container.variables)
        if (
            other
            or elsewhere
            or extended
            or variable
            or container.env_from
            or (device is not None and device.value != "cuda")
        ):
            continue
        yield Found(
            where=container.where,
            message=f"{engine.name} for GPUs, and no GPU is asked for",
        )


def _limits(lot: Lot) -> Iterator[Found]:
    for pod in lot.pods:
        for container in pod.containers:
            for each in container.accelerators:
                request, limit = container.requests.get(each.resource), container.limits.get(each.resource)
                if each.resource not in container.limits and request is not None:
                    yield Found(
                        where=each.where,
                        message=f"{each.resource} stands in requests but not in limits",
                        fix=f"put {each.resource}: {request} in limits",
                    )
                elif request is not None and each.request != each.limit and each.limit is not None:
                    yield Found(
                        where=each.where,
                        message=f"{each.resource}: {request} requested, limit {limit}",
                        fix="give requests and limits the same number",
                        edits=_same(container, each.resource, each.limit),
                    )
                elif limit is not None and each.limit is None and not _filled_in(limit):
                    yield Found(where=each.where, message=f"{each.resource}: {limit} is no whole number")


def _filled_in(value: Value) -> bool:
    """A place that something fills in before the file is applied."""
    return isinstance(value, str) and any(mark in value for mark in "${<")


def _same(container: Container, resource: str, limit: int) -> tuple[Edit, ...]:
    span: Span | None = container.requests.values_at.get(resource)
    return replace_value(span, str(limit))


RULES = (
    Rule(
        code="SH014",
        title="GPUs against tensor × pipeline × data parallel",
        severity="error",
        reason="The engine starts one worker for each of TP × PP × DP GPUs; with fewer it ends at the start, and GPUs "
        "beyond that stay idle while they are paid for.",
        fix="Ask for as many GPUs as the parallel sizes multiply to.",
        sources=(
            "vLLM 0.32 docs/serving/parallelism_scaling.md, read 2026-11-21",
            "SGLang 0.5.23 srt/server_args.py, read 2026-11-21",
            "TGI 3.3.7 launcher/src/main.rs, --num-shard, read 2026-11-21",
        ),
        compose=True,
        compose_fix="Set `count` of the reserved devices to the product of the parallel sizes.",
        check=_split,
    ),
    Rule(
        code="SH013",
        title="GPU limit missing or unlike the request",
        severity="error",
        reason="An extended resource cannot be overcommitted: the API server refuses a request without an equal limit.",
        fix="Put the GPUs in limits; requests follow by themselves.",
        sources=("https://kubernetes.io/docs/tasks/manage-gpus/scheduling-gpus/, 2026-11-21",),
        check=_limits,
        fixable=True,
    ),
    Rule(
        code="SH052",
        title="No GPU asked for",
        severity="warning",
        reason="Without a GPU among its resources the pod lands on any node, where the engine finds no device.",
        fix="Ask for nvidia.com/gpu (or your accelerator's resource) in limits, or take the image for CPUs.",
        sources=("https://kubernetes.io/docs/tasks/manage-gpus/scheduling-gpus/, 2026-11-21",),
        check=_no_gpu,
    ),
)

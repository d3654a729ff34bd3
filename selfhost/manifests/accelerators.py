"""How a pod gets its accelerators: by the name of a resource, or by a claim (DRA); on which nodes; what is said aloud.

Read from kubernetes api/resource/v1/types.go and the drivers that catalog/accelerators.toml names, 2026-11-26.
"""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.catalog.accelerators import Accelerator, Claims, accelerator
from selfhost.catalog.gpus import Gpu, find_gpu, with_memory
from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.pod import Claim, NodeRule, Noted, Number, Resource
from selfhost.plan import Plan
from selfhost.plan.types import PlannedGpu
from selfhost.units import MIB, gib

CLAIM = "gpus"
# What drivers report as memory differs from what an engine sees as total by less than this.
_SLACK_RATIO = 0.02
# Above this share of a GPU two time-sliced replicas cannot both start.
_HALF = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRequest:
    """Devices of one product, as a claim asks for them."""

    name: str
    device_class: str
    count: Number
    selectors: tuple[Noted, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimTemplate:
    """A ResourceClaimTemplate with one request: one device kind exactly, or the first of several that is free."""

    name: str
    request: str
    exactly: DeviceRequest | None
    first_available: tuple[DeviceRequest, ...]
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """What a pod asks for.

    Args:
        resources: extended resources of the container; empty on a CPU and under claims.
        claims: claims of the pod, which its container names.
        template: the object that the claims are made from.
        nodes: labels that a node has to have.
        taints: keys that are tolerated.
        groups, groups_because: owners of the device nodes.
        said: sentences for the head of what is rendered.
    """

    resources: tuple[Resource, ...]
    claims: tuple[Claim, ...]
    template: ClaimTemplate | None
    nodes: tuple[NodeRule, ...]
    taints: tuple[str, ...]
    groups: tuple[int, ...]
    groups_because: str
    said: tuple[str, ...]


def devices(plan: Plan, options: RenderOptions, *, gpus: int | None = None) -> Devices:
    """How the pods of a plan get their accelerators.

    Args:
        plan: the decision.
        options: `gpus` says how the cluster hands them out.
        gpus: those of one pod, all of the plan's where a replica is one pod.

    Raises:
        UsageError: options that contradict the plan or its kind of device.
        UnsupportedError: another GPU that does not hold the plan.
    """
    found, asked = accelerator(plan.gpu.on), options.gpus
    _agree(plan, options)
    count = plan.gpu.count if gpus is None else gpus
    template = _template(plan, options, found, count) if asked.dra else None
    resource = _resource_name(plan, options)
    reason = f"TP {plan.split.tensor} x PP {plan.split.pipeline} x DP {plan.split.data}"
    if count != plan.gpu.count:
        reason += f", {count} of them in this pod"
    counted = template is None and plan.gpu.on != "cpu"
    return Devices(
        resources=(Resource(name=resource, count=Noted(value=str(count), because=reason)),)
        if counted
        else (),
        claims=() if template is None else (Claim(name=CLAIM, template=template.name),),
        template=template,
        nodes=() if template is not None else (_node_rule(plan, options),),
        taints=tuple(dict.fromkeys((*found.taints, *((resource,) if counted else ())))),
        groups=found.groups,
        groups_because=found.groups_because,
        said=tuple(_said(plan, options, found)),
    )


def _agree(plan: Plan, options: RenderOptions) -> None:
    """Refuse options that the plan's devices have no use for."""
    asked, gpu = options.gpus, plan.gpu
    mig = "/mig-" in gpu.resource
    if gpu.on == "cpu" and (asked.dra or asked.gpu_resource is not None):
        raise UsageError(
            "The plan runs on a CPU: there is no device to ask for.",
            hint="Leave --dra and --gpu-resource out.",
        )
    if asked.mig_strategy is not None and not mig:
        raise UsageError(
            f"--mig-strategy goes with a plan for a MIG instance, this one is for {gpu.name}.",
            hint="Plan with --gpu ID:PROFILE, or leave it out.",
        )
    if asked.gpu_resource is not None and mig:
        raise UsageError(
            "A MIG instance has a resource of its own.", hint="Take --mig-strategy single or mixed."
        )
    if _time_sliced(options) and gpu.count > 1:
        raise UsageError(
            f"The plan needs {gpu.count} GPUs, and two shares of {asked.gpu_resource} may be the same GPU twice.",
            hint="Plan for one GPU, or ask for whole ones.",
        )


def _time_sliced(options: RenderOptions) -> bool:
    """NVIDIA's device plugin adds the ending to shared GPUs (renameByDefault)."""
    return (options.gpus.gpu_resource or "").endswith(".shared")


def _resource_name(plan: Plan, options: RenderOptions) -> str:
    if options.gpus.gpu_resource is not None:
        return options.gpus.gpu_resource
    if (
        options.gpus.mig_strategy == "single"
    ):  # every instance of the node has the profile, and the whole GPU's name
        return accelerator(plan.gpu.on).resources[0]
    return plan.gpu.resource


def _node_rule(plan: Plan, options: RenderOptions) -> NodeRule:
    gpu = plan.gpu
    key = "nvidia.com/gpu.product" if options.gpus.mig_strategy == "single" else gpu.label
    if gpu.on == "cpu":
        return NodeRule(
            key=key, values=gpu.label_values, because="the image and the kernels are for this machine"
        )
    return NodeRule(key=key, values=gpu.label_values, because=f"the sizing holds for this GPU: {gpu.name}")


def _said(plan: Plan, options: RenderOptions, found: Accelerator) -> list[str]:
    gpu, lines = plan.gpu, list(found.exceptions)
    if plan.engine.name != "vllm":  # what vLLM's own examples do says nothing of another engine
        lines = [line for text in lines if "vLLM" not in (line := text.partition("; vLLM")[0])]
    if "/mig-" in gpu.resource and options.gpus.mig_strategy is None and not options.gpus.dra:
        lines.append("MIG: for nodes with the strategy mixed; --mig-strategy single renders for the other")
    if found.label_note is not None and not options.gpus.dra:
        lines.append(found.label_note)
    if options.gpus.dra:
        lines.append(f"DRA: needs Kubernetes 1.34 and the driver of {found.name} ({_claims(found).driver})")
    if _time_sliced(options):
        lines.append(_sharing(plan))
    return lines


def _sharing(plan: Plan) -> str:
    share = plan.memory.utilization
    if share > _HALF:
        return (
            f"TIME-SLICED: this replica takes {share:g} of a GPU whose memory nobody divides; a second one cannot "
            "start beside it. Plan again with --gpu-memory-utilization of the share"
        )
    return f"TIME-SLICED: this replica takes {share:g} of a GPU; nothing keeps its neighbours to their shares"


def _claims(found: Accelerator) -> Claims:
    if found.claims is None:
        raise UnsupportedError(f"No driver hands out {found.name} by claims.", hint="Leave --dra out.")
    return found.claims


def _template(plan: Plan, options: RenderOptions, found: Accelerator, count: int) -> ClaimTemplate:
    own = _request(_own(plan.gpu), plan.gpu, found, count, CLAIM)
    others = [_other(plan.gpu, gpu_id) for gpu_id in options.gpus.or_gpus]
    name = f"{plan.name}-gpus"
    if not others:
        return ClaimTemplate(
            name=name, request=CLAIM, exactly=own, first_available=(), because=f"the plan's {plan.gpu.name}"
        )
    choices = [_request(_own(plan.gpu), plan.gpu, found, count, "choice-1")]
    choices += [
        _request(other, plan.gpu, found, count, f"choice-{number}") for number, other in enumerate(others, 2)
    ]
    names = ", else ".join((f"{plan.gpu.name} where it is free", *(other.name for other in others)))
    return ClaimTemplate(
        name=name,
        request=CLAIM,
        exactly=None,
        first_available=tuple(choices),
        because=names,
    )


def _own(gpu: PlannedGpu) -> Gpu:
    """The plan's GPU with what the catalogue knows of its names, and the plan's memory."""
    known = find_gpu(gpu.id)
    return known if known.memory_bytes == gpu.memory_bytes else with_memory(known, gpu.memory_bytes)


def _other(planned: PlannedGpu, gpu_id: str) -> Gpu:
    """A GPU that may stand in for the plan's.

    Raises:
        UnsupportedError: the plan does not fit it, or its image is another.
    """
    other = find_gpu(gpu_id)
    if other.id == planned.id:
        raise UsageError(f"--or-gpu {gpu_id} is the plan's own GPU.", hint="Name another, or leave it out.")
    if other.platform != planned.on:
        raise UnsupportedError(
            f"--or-gpu {other.id}: its image is not that of {planned.name}.",
            hint=f"Name GPUs of {planned.vendor}.",
        )
    if other.memory_bytes < planned.memory_bytes:
        raise UnsupportedError(
            f"--or-gpu {other.id} has {gib(planned.memory_bytes - other.memory_bytes)} GiB less than was planned for.",
            hint=f"Plan for the smaller one (--gpu {other.id}) and name the other with --or-gpu {planned.id}.",
        )
    capability = tuple(int(part) for part in (planned.compute_capability or "0").split(".") if part.isdigit())
    if other.compute_capability is not None and other.compute_capability < capability:
        raise UnsupportedError(
            f"--or-gpu {other.id} lacks kernels that the plan may use: compute capability "
            f"{'.'.join(map(str, other.compute_capability))}, planned for {planned.compute_capability}.",
            hint=f"Plan for it (--gpu {other.id}) and name the other with --or-gpu {planned.id}.",
        )
    return other


def _request(gpu: Gpu, planned: PlannedGpu, found: Accelerator, count: int, name: str) -> DeviceRequest:
    by = _claims(found)
    mig = gpu.mig_profile is not None
    chosen = by.device_class if not mig or by.mig_class is None else by.mig_class
    attributes = f'device.attributes["{by.driver}"]'
    selectors = [Noted(value=f"{attributes}.{by.attribute} in [{_products(gpu, by)}]", because=gpu.name)]
    if mig:
        selectors.append(
            Noted(
                value=f'{attributes}.profile == "{gpu.mig_profile}"',
                because="the profile that was planned for",
            )
        )
    if by.memory:
        least = int(planned.memory_bytes * (1 - _SLACK_RATIO)) // MIB
        text = f'device.capacity["{by.driver}"].memory.compareTo(quantity("{least}Mi")) >= 0'
        because = f"{gib(planned.memory_bytes)} GiB as planned, less 2 % that drivers count otherwise"
        selectors.append(Noted(value=text, because=because))
    return DeviceRequest(
        name=name,
        device_class=chosen,
        count=Number(value=count, because="GPUs of one pod"),
        selectors=tuple(selectors),
    )


def _products(gpu: Gpu, by: Claims) -> str:
    """The product's names as CEL strings; they are of the catalogue, and hold neither quote nor backslash."""
    if by.spelling == "alias":
        names = gpu.aliases
    elif by.spelling == "label":
        names = (gpu.node_label[1],)
    else:
        names = (gpu.device or gpu.name,)
    return ", ".join(f'"{name}"' for name in names)

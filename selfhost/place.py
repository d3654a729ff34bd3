"""Which GPUs carry the workload, in what split, ranked; which do not, and by how many bytes.

Pure: what one GPU holds is answered by the caller's `budget`, what an engine refuses by its `objection`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from selfhost.catalog.gpus import Gpu
from selfhost.engines import Objection
from selfhost.errors import UnsupportedError
from selfhost.memory import Bill, MemoryBudget
from selfhost.units import ceil_div
from selfhost.workload import Split, Workload

Budget = Callable[[Gpu, Split], MemoryBudget]
NODE_GPUS = 8  # of an HGX or MI300X board; larger NVLink domains are not one node to Kubernetes
RANKING = (
    "fewest GPUs; then the least total memory and the least total bandwidth, which stand in for the price; "
    "then the GPU's id"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One kind of GPU that carries the workload, with the fewest of it."""

    gpu_id: str
    split: Split
    budget: MemoryBudget
    total_memory_bytes: int
    total_bandwidth_bytes_per_second: int

    @property
    def multi_node(self) -> bool:
        """Whether it needs more GPUs than one node has."""
        return self.split.gpus > NODE_GPUS


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One kind of GPU that does not carry it. `short_bytes` is per GPU, None where memory is not the reason."""

    gpu_id: str
    split: Split
    because: str
    short_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placements:
    """Every GPU kind that was asked about, in one of two lists."""

    fitting: tuple[Placement, ...]
    refused: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """One change, what it frees on each GPU, and whether it is enough alone.

    Args:
        option: what to type.
        frees_bytes: per GPU, of weights, KV cache and reserves together; negative when the change costs memory.
        short_bytes: what is still missing afterwards, 0 when it fits.
    """

    change: str
    option: str
    frees_bytes: int
    short_bytes: int
    fits: bool


def splits(
    *, node_gpus: int = NODE_GPUS, nodes: int = 2, expert: bool = False, layers_only: bool = False
) -> tuple[Split, ...]:
    """Splits to try, by number of GPUs: tensor parallel within a node, pipeline stages where that ends.

    Within a node a pipeline of the same number of GPUs comes right after its tensor split, for models whose heads
    do not divide.
    """
    found: list[Split] = []
    gpus = 1
    if layers_only:  # whole layers on each GPU of a node, as servers on llama.cpp divide a model
        while gpus <= node_gpus:
            found.append(Split(pipeline=gpus))
            gpus *= 2
        return tuple(found)
    while gpus <= node_gpus:
        found.append(Split(tensor=gpus, expert=expert))
        if gpus > 1:
            found.append(Split(tensor=gpus // 2, pipeline=2, expert=expert))
        gpus *= 2
    stages = 2
    while stages <= nodes:
        found.append(Split(tensor=node_gpus, pipeline=stages, expert=expert))
        stages *= 2
    return tuple(found)


def place(
    gpus: Iterable[Gpu],
    *,
    budget: Budget,
    objection: Callable[[Gpu, Split], Objection | None] = lambda gpu, split: None,
    candidates: tuple[Split, ...] | None = None,
) -> Placements:
    """Find the fewest GPUs of each kind that carry the workload.

    Args:
        gpus: the kinds to try.
        budget: what the fullest GPU of a split holds; may raise UnsupportedError for a split the model cannot take.
        objection: why the engine would not start there, None when it would.
        candidates: splits to try, fewest GPUs first; `splits()` when None.

    Returns:
        Placements ranked by `RANKING`, refusals by how little is missing.
    """
    tried = candidates if candidates is not None else splits()
    outcomes = [_place_on(gpu, tried, budget, objection) for gpu in gpus]
    fitting = [outcome for outcome in outcomes if isinstance(outcome, Placement)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
    fitting.sort(key=_rank)
    refused.sort(key=lambda r: (r.short_bytes is None, (r.short_bytes or 0) * r.split.gpus, r.gpu_id))
    return Placements(fitting=tuple(fitting), refused=tuple(refused))


def _rank(placement: Placement) -> tuple[int, int, int, str]:
    memory, bandwidth = placement.total_memory_bytes, placement.total_bandwidth_bytes_per_second
    return (placement.split.gpus, memory, bandwidth, placement.gpu_id)


def _place_on(
    gpu: Gpu,
    tried: tuple[Split, ...],
    budget: Budget,
    objection: Callable[[Gpu, Split], Objection | None],
) -> Placement | Refusal:
    refusal: Refusal | None = None
    for split in tried:
        against = objection(gpu, split)
        if against is not None:
            refusal = refusal or Refusal(
                gpu_id=gpu.id, split=split, because=against.because, short_bytes=None
            )
            continue
        try:
            found = budget(gpu, split)
        except UnsupportedError as error:
            because = error.message.rstrip(".")
            refusal = refusal or Refusal(gpu_id=gpu.id, split=split, because=because, short_bytes=None)
            continue
        if found.fits:
            return Placement(
                gpu_id=gpu.id,
                split=split,
                budget=found,
                total_memory_bytes=gpu.reported_bytes * split.gpus,
                total_bandwidth_bytes_per_second=gpu.bandwidth_bytes_per_second * split.gpus,
            )
        if refusal is None or refusal.short_bytes is None or found.short_bytes < refusal.short_bytes:
            refusal = Refusal(
                gpu_id=gpu.id, split=split, because=shortage(found), short_bytes=found.short_bytes
            )
    if refusal is None:
        refusal = Refusal(gpu_id=gpu.id, split=Split(), because="no split was tried", short_bytes=None)
    return refusal


def admitting(workload: Workload, split: Split, found: MemoryBudget | Bill) -> Workload | None:
    """The load with steps that take all its requests at once, None where the engine's own steps do.

    Args:
        workload: the load of one replica.
        split: how it is divided.
        found: what it holds with the engine's own steps.
    """
    at_once = ceil_div(workload.concurrency, split.data)
    if workload.max_num_seqs is not None or at_once <= found.max_num_seqs:
        return None
    tokens = workload.max_num_batched_tokens or max(found.max_num_batched_tokens, at_once)
    return replace(workload, max_num_seqs=at_once, max_num_batched_tokens=tokens)


def shortage(budget: MemoryBudget) -> str:
    """What the memory is short for: the weights already, the KV cache of the workload, or the engine's own start."""
    available = budget.kv_available_bytes
    if available is not None and available <= 0:
        return "weights: they leave no room for any KV cache"
    if fails_to_start(budget):
        return (
            f"start-up: beside the engine's share of {budget.utilization:g} too little is left for the CUDA context "
            "and the warm-up"
        )
    return "KV cache: the requests do not fit beside the weights"


def fails_to_start(budget: MemoryBudget) -> bool:
    """Whether the requests would fit, and the engine's share of the GPU is what is too large for it to start."""
    available, blocks = budget.kv_available_bytes, budget.kv_blocks
    if not budget.short_bytes or available is None or not blocks:
        return False
    return available - budget.kv_needed_bytes > available // blocks  # one block is kept empty


def _changes(workload: Workload, context_tokens: int) -> list[tuple[str, str, Workload]]:
    """What may be tried, least intrusive first: the change in words, the option, and the workload it gives."""
    found: list[tuple[str, str, Workload]] = []
    quantized = workload.quantization is not None
    wider_kv = workload.kv_dtype in ("auto", "bf16", "fp16")
    if wider_kv:
        found.append(("KV cache in fp8", "--kv-dtype fp8", replace(workload, kv_dtype="fp8")))
    if not quantized:
        found.append(("weights in fp8", "--quant fp8", replace(workload, quantization="fp8")))
        if wider_kv:
            both = replace(workload, quantization="fp8", kv_dtype="fp8")
            found.append(("weights and KV cache in fp8", "--quant fp8 --kv-dtype fp8", both))
        found.append(("weights in 4 bits", "--quant w4a16", replace(workload, quantization="w4a16")))
    if workload.concurrency > 1:
        half = workload.concurrency // 2
        found.append(
            (f"{half} requests at once", f"--concurrency {half}", replace(workload, concurrency=half))
        )
    if context_tokens >= 4096:
        half = context_tokens // 2
        found.append(
            (f"context of {half:,} tokens", f"--context {half}", replace(workload, max_model_len=half))
        )
    if not workload.enforce_eager:
        found.append(("no CUDA graphs", "--enforce-eager", replace(workload, enforce_eager=True)))
    return found


def remedies(
    budget: Callable[[Workload, Split], MemoryBudget], workload: Workload, split: Split
) -> tuple[Remedy, ...]:
    """Changes that would make it fit, the ones that are enough first, each with the bytes it frees per GPU.

    Args:
        budget: what the fullest GPU holds under a workload and a split; may raise UnsupportedError.
        workload: the one that does not fit.
        split: the one that does not fit.
    """
    before = budget(workload, split)
    needed = _needed(before)
    found: list[Remedy] = []
    tries: list[tuple[str, str, Workload, Split]] = [
        (change, option, load, split) for change, option, load in _changes(workload, before.max_model_len)
    ]
    for tensor in (split.tensor * 2, split.tensor * 4):
        if tensor <= NODE_GPUS:
            more = Split(tensor=tensor, pipeline=split.pipeline, data=split.data, expert=split.expert)
            tries.append((f"{more.gpus} GPUs", f"--tp {tensor}", workload, more))
    wider = Split(tensor=split.tensor, pipeline=split.pipeline * 2, data=split.data, expert=split.expert)
    tries.append((f"{wider.gpus} GPUs", f"--tp {wider.tensor} --pp {wider.pipeline}", workload, wider))
    if fails_to_start(before):
        found += _smaller_shares(budget, workload, split, before)
    for change, option, load, shape in tries:
        try:
            after = budget(load, shape)
        except UnsupportedError:
            continue
        frees = needed - _needed(after)
        if not after.fits and (frees <= 0 or after.short_bytes >= before.short_bytes):
            continue
        found.append(
            Remedy(
                change=change,
                option=option,
                frees_bytes=frees,
                short_bytes=0 if after.fits else after.short_bytes,
                fits=bool(after.fits),
            )
        )
    # Stable: among equals the least intrusive change stays first.
    return tuple(sorted(found, key=lambda remedy: (not remedy.fits, remedy.short_bytes)))


def _smaller_shares(
    budget: Callable[[Workload, Split], MemoryBudget], workload: Workload, split: Split, before: MemoryBudget
) -> list[Remedy]:
    """The largest smaller share of the GPU, in hundredths, with which the engine starts and the requests fit."""
    for hundredths in range(int(before.utilization * 100) - 1, 49, -1):
        share = hundredths / 100
        if not budget(replace(workload, gpu_memory_utilization=share), split).fits:
            continue
        frees = int((before.utilization - share) * (before.gpu_memory_bytes or 0))
        option = f"--gpu-memory-utilization {share:g}"
        return [
            Remedy(
                change=f"the engine's share {share:g}",
                option=option,
                frees_bytes=frees,
                short_bytes=0,
                fits=True,
            )
        ]
    return []


def _needed(budget: MemoryBudget) -> int:
    held = budget.weights_bytes + budget.buffers_bytes + budget.extra_bytes + budget.kv_needed_bytes
    reserved = (budget.activation_bytes, budget.graphs_bytes, budget.non_torch_bytes)
    return held + sum(item or 0 for item in reserved)

"""ModelSpec + Workload + Split + Gpu -> MemoryBudget: every byte on one GPU, itemised, with its reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from selfhost.attention import CrossAttention
from selfhost.kv import StepTokens, step_tokens
from selfhost.model.spec import ModelSpec
from selfhost.prepared import Prepared, prepare
from selfhost.reserves import Defaults, EngineSettings, Reserves, defaults, reserves
from selfhost.units import ceil_div, gib
from selfhost.workload import Split, Workload

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu

Version = tuple[int, int, int]
NEWEST: Version = (0, 32, 0)
# What the engine's own code answers when no GPU is named: the kernels of Hopper.
STAND_IN = "h100-sxm-80gb"
_CONFIG = "vLLM 0.32.0 model classes on the meta device, 2026-11"
_KV = "vLLM 0.32.0 v1/core/kv_cache_utils.py, v1/kv_cache_interface.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One printable line of the bill, in bytes on the fullest GPU."""

    name: str
    bytes: int
    because: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBudget:
    """What one GPU (the fullest rank) holds. Without a GPU, what needs one is None.

    Args:
        weights_bytes: parameters as the engine allocates them.
        buffers_bytes: tensors that are no parameters (rotary tables).
        extra_bytes: second copies made after loading, and LoRA slots.
        kv_bytes_per_token: what one more token of a long sequence costs.
        state_bytes_per_sequence: recurrent state of a sequence, whatever its length.
        kv_needed_bytes: KV cache for the workload's concurrency at its context.
        kv_tokens, max_concurrency: as the engine's start-up log states them, at `max_model_len`.
        max_context_tokens: the longest context that `concurrency` requests can have at once, at most the model's own.
        fits: the workload's requests fit, and nothing runs out while the engine warms up.
        short_bytes: what is missing on each GPU, 0 when it fits.
        certainty_bytes: half-width within which the available KV memory of similar start-ups lay.
        terms: lines that add up to the engine's share of the GPU, `free` included.
        context_bytes: what the process holds before it loads anything: CUDA context and collectives.
    """

    gpu_id: str | None
    gpu_memory_bytes: int | None
    weights_bytes: int
    buffers_bytes: int
    extra_bytes: int
    kv_bytes_per_token: int
    state_bytes_per_sequence: int
    activation_bytes: int | None
    graphs_bytes: int | None
    non_torch_bytes: int | None
    kv_available_bytes: int | None
    kv_needed_bytes: int
    kv_block_tokens: int
    kv_blocks: int | None
    kv_tokens: int | None
    max_concurrency: float | None
    max_context_tokens: int | None
    max_model_len: int
    max_num_batched_tokens: int
    max_num_seqs: int
    utilization: float
    concurrency: int
    fits: bool | None
    short_bytes: int
    certainty_bytes: int | None
    terms: tuple[Term, ...]
    context_bytes: int | None = field(default=None, metadata={"later": True})


def budget(
    spec: ModelSpec,
    workload: Workload,
    split: Split,
    gpu: Gpu | None,
    version: Version = NEWEST,
    *,
    brief: bool = False,
    share: float | None = None,
    wider_bytes: int = 0,
) -> MemoryBudget:
    """Size one deployment on the fullest GPU.

    Available KV memory, vLLM 0.32 v1/worker/gpu_worker.py `determine_available_memory`: utilization x total - weights -
    activation peak - memory outside torch - (from 0.21 on) the estimated CUDA graphs.

    Args:
        spec: the model.
        workload: the load and the engine's knobs; None takes the engine's default.
        split: how the model is divided.
        gpu: the GPU, None for the parts that need none.
        version: release of vLLM.
        brief: leave out `terms` and `max_context_tokens`, for a search that makes thousands of bills.
        share: share of the GPU instead of the one that the load or the release names.
        wider_bytes: by how much the certainty is wider than that of vLLM's own start-ups.

    Raises:
        UnsupportedError: the split or the combination is impossible.
        UsageError: an unknown `--quant`, or a version older than is known.
    """
    return bill(spec, workload, split, gpu, version, share=share, wider_bytes=wider_bytes).budget(brief=brief)


def bill(
    spec: ModelSpec,
    workload: Workload,
    split: Split,
    gpu: Gpu | None,
    version: Version = NEWEST,
    *,
    share: float | None = None,
    wider_bytes: int = 0,
) -> Bill:
    """The same, decided and not yet written out: what a search asks of thousands that it does not take.

    Args: as `budget`.

    Raises: as `budget`.
    """
    # Of Intel's devices and of CPUs no start-up is known: CUDA's rules stand in, with a wider certainty.
    vendor = "AMD" if gpu is not None and gpu.vendor == "AMD" else "NVIDIA"
    capability = gpu.compute_capability if gpu else (9, 0)
    prepared = prepare(spec, workload, split, vendor, capability, version[:2])
    return Bill(_Sizing(prepared, workload, split, gpu, version, share), wider_bytes)


def left_for_cache(
    spec: ModelSpec, workload: Workload, split: Split, gpu: Gpu, version: Version
) -> tuple[int, int, int, float]:
    """(bytes held before any cache, bytes left for it, bytes of the context, share of the GPU) on the fullest GPU.

    What an engine that keeps to another share begins with; the same numbers as in `budget`, without the rest.

    Raises: as `budget`.
    """
    vendor = "AMD" if gpu.vendor == "AMD" else "NVIDIA"
    prepared = prepare(spec, workload, split, vendor, gpu.compute_capability, version[:2])
    sizing = _Sizing(prepared, workload, split, gpu, version, None)
    kept, available = sizing.room()
    assert kept is not None
    assert available is not None
    return prepared.held_bytes(sizing.stage), min(available), kept.context.bytes, sizing.utilization


@lru_cache(maxsize=4096)
def _room_on(
    prepared: Prepared, gpu: Gpu, version: Version, tensor: int, pipeline: int, expert: bool, utilization: float,
    batched: int, requests: int, max_model_len: int, eager: bool, drafted: int,
) -> tuple[Reserves, tuple[int, ...]]:  # fmt: skip
    """What the fullest stage keeps beside weights and KV cache, and the KV memory of each stage.

    The same for every load that leaves the engine's steps as they are.
    """
    stages = prepared.stages
    found = [
        reserves(
            prepared.shape,
            EngineSettings(
                version=version, gpu=gpu, tensor=tensor, pipeline=pipeline, expert=expert, utilization=utilization,
                max_num_batched_tokens=batched, max_num_seqs=requests, max_model_len=max_model_len,
                enforce_eager=eager, speculative_tokens=drafted, last_stage=index == len(stages) - 1,
            ),
        )
        for index in range(len(stages))
    ]  # fmt: skip
    available = tuple(
        one.kv_available_bytes(prepared.held_bytes(stage)) for one, stage in zip(found, stages, strict=True)
    )
    return found[prepared.fullest], available


@lru_cache(maxsize=4096)
def _whole_requests(prepared: Prepared) -> bool:
    """Whether it is an encoder-decoder."""
    return any(isinstance(kind, CrossAttention) for _, kind in prepared.stages[prepared.fullest].keeps)


@lru_cache(maxsize=4096)
def _request(
    prepared: Prepared, max_model_len: int, batched: int, pipeline: int, engine: tuple[int, int]
) -> tuple[StepTokens, int]:
    """Tokens of the engine's steps, and the blocks of one request."""
    steps = step_tokens(
        batched, pipeline=pipeline, async_scheduling=not prepared.shape.pooling, engine=engine
    )
    return steps, prepared.layout.blocks_per_request(max_model_len, steps)


class _Sizing:
    """One sizing under way: settings resolved once, then each line of the bill."""

    def __init__(
        self,
        prepared: Prepared,
        workload: Workload,
        split: Split,
        gpu: Gpu | None,
        version: Version,
        share: float | None,
    ) -> None:
        self.prepared, self.workload, self.split = prepared, workload, split
        self.gpu, self.version = gpu, version
        model = prepared.spec
        self.max_model_len = workload.max_model_len or model.facts.max_context_tokens
        self.stage = prepared.stages[prepared.fullest]
        self.defaults = self._defaults()
        self.batched, self.sequences = self._step_limits()
        if _whole_requests(prepared):
            # Encoder-decoders run without chunked prefill: a step holds a whole request (config/scheduler.py:303).
            self.batched = max(self.batched, self.max_model_len)
        self.utilization = share or workload.gpu_memory_utilization or self.defaults.utilization
        # A copy of the attention layers per data-parallel rank serves its share of the requests.
        self.concurrency = ceil_div(workload.concurrency, split.data)

    def _defaults(self) -> Defaults:
        gpu = self.gpu
        if gpu is None:
            from selfhost.catalog.gpus import find_gpu

            gpu = find_gpu(STAND_IN)
        return defaults(self.version, gpu, max_model_len=self.max_model_len)

    def _step_limits(self) -> tuple[int, int]:
        """Tokens and requests of one engine step, as the engine settles what was not given.

        vLLM 0.32 engine/arg_utils.py:3097 `_set_default_max_num_seqs_and_batched_tokens_args`: a default never asks for
        a longer step than all requests fill, nor for more requests than the step has tokens.
        """
        tokens, requests = self.workload.max_num_batched_tokens, self.workload.max_num_seqs
        most = requests or self.defaults.max_num_seqs
        batched = tokens or min(self.defaults.max_num_batched_tokens, most * self.max_model_len)
        return batched, requests or min(most, batched)

    def room(self) -> tuple[Reserves | None, tuple[int, ...] | None]:
        """What the fullest stage keeps beside weights and KV cache, and the KV memory of each stage."""
        if self.gpu is None:
            kept, available = None, None
        else:
            load, split = self.workload, self.split
            kept, available = _room_on(
                self.prepared, self.gpu, self.version, split.tensor, split.pipeline, split.expert, self.utilization,
                self.batched, self.sequences, self.max_model_len if self.prepared.shape.latent_up_width else 0,
                load.enforce_eager, load.speculative_tokens,
            )  # fmt: skip
        if self.workload.kv_cache_memory_bytes is not None:
            available = (self.workload.kv_cache_memory_bytes,) * len(self.prepared.stages)
        return kept, available

    def terms(self, kept: Reserves | None, needed: int) -> tuple[Term, ...]:
        """The lines of the bill."""
        stage, split, model = self.stage, self.split, self.prepared.spec
        terms = [
            Term(name="weights", bytes=stage.weights_bytes, because=self._why_weights(), source=_CONFIG),
            Term(
                name="buffers",
                bytes=self.prepared.buffers_bytes,
                because="rotary tables, whole on every rank",
                source=_CONFIG,
            ),
        ]
        if stage.copies_bytes:
            why = f"latent attention keeps kv_b_proj and its {model.dtype} copy"
            source = "vLLM 0.32.0 layers/attention/mla_attention.py:1248"
            terms.append(
                Term(name="unpacked projections", bytes=stage.copies_bytes, because=why, source=source)
            )
        if stage.adapter_bytes:
            why = f"{self.workload.max_loras} slots of rank {self.workload.max_lora_rank}"
            source = "vLLM 0.32.0 lora/layers/base_linear.py"
            terms.append(Term(name="LoRA adapters", bytes=stage.adapter_bytes, because=why, source=source))
        terms.append(Term(name="KV cache", bytes=needed, because=self._why_kv(), source=_KV))
        if kept is not None:
            items = (kept.activation, kept.graphs, kept.non_torch) if kept.graphs_subtracted else (
                kept.activation, kept.non_torch)  # fmt: skip
            terms += [Term(name=i.name, bytes=i.bytes, because=i.because, source=i.source) for i in items]
            left = kept.share_bytes - sum(term.bytes for term in terms)
            why = f"{self.utilization:g} of {gib(kept.total_bytes)} GiB is {gib(kept.share_bytes)} GiB"
            if split.gpus > 1:
                why += ", on each GPU"
            terms.append(Term(name="free", bytes=left, because=why, source=self.defaults.source))
        return tuple(terms)

    def _why_weights(self) -> str:
        spec, split = self.prepared.spec, self.split
        share = "all" if split.tensor * split.pipeline == 1 else f"1/{split.tensor * split.pipeline}"
        kind = spec.scheme.id if spec.scheme else spec.dtype
        count = spec.parameters
        text = f"{share} of {f'{count / 1e9:.2f} B' if count >= 10**8 else f'{count / 1e6:.2f} M'} parameters in {kind}"
        if split.pipeline > 1:
            text += f"; the fullest stage has {self.stage.layers} of {len(spec.layers)} layers"
        return text

    def _why_kv(self) -> str:
        layout, text = self.prepared.layout, f"{self.concurrency} × {self.max_model_len:,} tokens"
        if layout.bytes_per_token:
            text += f" × {layout.bytes_per_token / 1024:g} KiB"
        if layout.window_bytes_per_token:
            text += f", windows {layout.window_bytes_per_token / 1024:g} KiB a token while they last"
        if layout.state_bytes_per_sequence:
            text += f", state {layout.state_bytes_per_sequence / 2**20:,.1f} MiB a request"
        return f"{text}, in blocks of {layout.block_tokens}"


class Bill:
    """One sizing, decided: whether it fits and how many requests it takes; `budget` writes the rest out.

    Attributes: as of `MemoryBudget`.
    """

    __slots__ = (
        "_available", "_kept", "_need", "_sizing", "_steps", "_wider_bytes", "fits", "max_concurrency",
        "max_num_batched_tokens", "max_num_seqs", "short_bytes",
    )  # fmt: skip

    def __init__(self, sizing: _Sizing, wider_bytes: int) -> None:
        prepared, layout = sizing.prepared, sizing.prepared.layout
        kept, available = sizing.room()
        steps, need = _request(
            prepared, sizing.max_model_len, sizing.batched, sizing.split.pipeline, sizing.version[:2]
        )
        self._sizing, self._wider_bytes = sizing, wider_bytes
        self._kept, self._available, self._steps, self._need = kept, available, steps, need
        self.max_num_batched_tokens, self.max_num_seqs = sizing.batched, sizing.sequences
        self.fits: bool | None = None
        self.short_bytes, self.max_concurrency = 0, None if available is None else 0.0
        if available is None:
            return
        pool = 0
        if need:
            blocks = layout.blocks(available)
            self.max_concurrency = blocks / need
            short = layout.short_bytes(available, need * sizing.concurrency + 1)
            pool = max(0, blocks * layout.block_bytes)
        else:
            short = max(0, -min(available))
        if kept is not None:
            short = max(short, kept.short_bytes(prepared.held_bytes(sizing.stage), pool))
        self.short_bytes, self.fits = short, short == 0

    def budget(self, *, brief: bool) -> MemoryBudget:
        """The whole bill, or its numbers alone."""
        sizing, kept, available, need = self._sizing, self._kept, self._available, self._need
        prepared, layout, gpu = sizing.prepared, sizing.prepared.layout, sizing.gpu
        capacity = longest = None
        if available is not None:
            capacity = layout.capacity(available, sizing.max_model_len, self._steps)
            if not brief:
                longest = layout.longest_context(
                    available, self._steps, concurrency=sizing.concurrency,
                    limit_tokens=prepared.spec.facts.max_context_tokens,
                )  # fmt: skip
        needed = (need * sizing.concurrency + 1) * layout.block_bytes if need else 0
        stage = sizing.stage
        return MemoryBudget(
            gpu_id=gpu.id if gpu else None,
            gpu_memory_bytes=gpu.memory_bytes if gpu else None,
            weights_bytes=stage.weights_bytes,
            buffers_bytes=prepared.buffers_bytes,
            extra_bytes=stage.copies_bytes + stage.adapter_bytes,
            kv_bytes_per_token=round(layout.bytes_per_token),
            state_bytes_per_sequence=layout.state_bytes_per_sequence,
            activation_bytes=kept.activation.bytes if kept else None,
            graphs_bytes=kept.graphs.bytes if kept else None,
            non_torch_bytes=kept.non_torch.bytes if kept else None,
            kv_available_bytes=None if available is None else min(available),
            kv_needed_bytes=needed,
            kv_block_tokens=layout.block_tokens,
            kv_blocks=capacity.blocks if capacity else None,
            kv_tokens=capacity.tokens if capacity else None,
            max_concurrency=capacity.max_concurrency if capacity else None,
            max_context_tokens=longest,
            max_model_len=sizing.max_model_len,
            max_num_batched_tokens=sizing.batched,
            max_num_seqs=sizing.sequences,
            utilization=sizing.utilization,
            concurrency=sizing.workload.concurrency,
            fits=self.fits,
            short_bytes=self.short_bytes,
            certainty_bytes=kept.certainty_bytes + self._wider_bytes if kept else None,
            terms=() if brief else sizing.terms(kept, needed),
            context_bytes=kept.context.bytes if kept else None,
        )


__all__ = [
    "NEWEST", "Bill", "MemoryBudget", "Prepared", "Term", "bill", "budget", "prepare",
]  # fmt: skip

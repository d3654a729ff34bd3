"""ModelSpec + Split -> what does not depend on how much memory a GPU has: weights of each stage, and the KV layout."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from selfhost.errors import UnsupportedError
from selfhost.kv import KvLayout, KvSettings, layout_of_stages
from selfhost.model.spec import ModelSpec
from selfhost.model.what_if import requantize
from selfhost.quantization.schemes import PackedInt
from selfhost.reserves import ModelShape
from selfhost.shape import shape_of
from selfhost.stages import Stage, buffers_of, stages_of
from selfhost.workload import Split, Workload


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """What does not depend on how much memory the GPU has."""

    spec: ModelSpec
    shape: ModelShape
    stages: tuple[Stage, ...]
    layout: KvLayout
    buffers_bytes: int

    @property
    def fullest(self) -> int:
        """Index of the stage with the most weights."""
        if len(self.stages) == 1:
            return 0
        sizes = [stage.weights_bytes + stage.copies_bytes + stage.adapter_bytes for stage in self.stages]
        return sizes.index(max(sizes))

    def held_bytes(self, stage: Stage) -> int:
        """Bytes of a stage that are there before any cache."""
        return stage.weights_bytes + stage.copies_bytes + stage.adapter_bytes + self.buffers_bytes


@lru_cache(maxsize=512)
def _spec(spec: ModelSpec, quantization: str | None) -> ModelSpec:
    return spec if quantization is None else requantize(spec, quantization)


@lru_cache(maxsize=512)
def _shape(spec: ModelSpec, language_model_only: bool) -> ModelShape:
    return shape_of(spec, language_model_only=language_model_only)


def prepare(
    spec: ModelSpec,
    workload: Workload,
    split: Split,
    vendor: str,
    compute_capability: tuple[int, int] | None,
    engine: tuple[int, int],
) -> Prepared:
    """Weights and KV layout of a split on one kind of GPU.

    Raises:
        UnsupportedError: the split does not divide the model, or the engine has no kernel for the combination.
        UsageError: an unknown `--quant`.
    """
    seen = _SEEN.get(id(workload))
    if seen is None or seen[0] is not workload:
        if len(_SEEN) >= _MOST_SEEN:
            _SEEN.clear()
        seen = _SEEN[id(workload)] = workload, _once(_knobs(workload))
    return _prepare(spec, seen[1], split, vendor, compute_capability, engine)


_MOST_SEEN = 1024
# Loads that were asked about, by what they are rather than what they say: a search asks thousands of times with a few,
# and reading sixteen fields for each takes longer than the answer.
_SEEN: dict[int, tuple[Workload, _Knobs]] = {}


class _Knobs:
    """A load without its size; equal ones are one object."""

    __slots__ = ("workload",)

    def __init__(self, workload: Workload) -> None:
        self.workload = workload


@lru_cache(maxsize=1024)
def _once(workload: Workload) -> _Knobs:
    return _Knobs(workload)


@lru_cache(maxsize=1024)
def _knobs(workload: Workload) -> Workload:
    """The load without what decides neither weights nor layout, so that one answer serves all sizes of it."""
    return replace(
        workload, max_model_len=None, concurrency=1, gpu_memory_utilization=None, max_num_batched_tokens=None,
        max_num_seqs=None, kv_cache_memory_bytes=None, enforce_eager=False,
    )  # fmt: skip


@lru_cache(maxsize=4096)
def _prepare(
    spec: ModelSpec,
    knobs: _Knobs,
    split: Split,
    vendor: str,
    compute_capability: tuple[int, int] | None,
    engine: tuple[int, int],
) -> Prepared:
    workload = knobs.workload
    model = _spec(spec, workload.quantization)
    if isinstance(model.scheme, PackedInt) and model.scheme.ordered and engine >= (0, 32):
        raise UnsupportedError(
            f"vLLM {engine[0]}.{engine[1]} no longer runs weights that order activations in groups (desc_act).",
            hint="Take a checkpoint without it, AWQ weights, or --engine vllm@0.31.",
        )
    nvidia = vendor == "NVIDIA"
    capability = compute_capability or (9, 0)
    kernels = capability[0] * 10 + capability[1] if nvidia else None
    stages = stages_of(model, split, workload, compute_capability=kernels, engine=engine)
    layout = layout_of_stages(
        tuple(stage.keeps for stage in stages),
        KvSettings(
            tensor=split.tensor,
            kv_dtype=workload.kv_dtype,
            declared_kv_dtype=model.kv_dtype,
            model_dtype=model.dtype,
            vendor="nvidia" if nvidia else "amd",
            compute_capability=capability,
            # None takes the engine's default, which was off for recurrent models before 0.28.
            prefix_caching=None if workload.prefix_caching else False,
            block_size=workload.block_size,
            speculative_tokens=workload.speculative_tokens,
            engine=engine,
        ),
    )
    return Prepared(
        spec=model,
        shape=_shape(model, workload.language_model_only),
        stages=stages,
        layout=layout,
        buffers_bytes=buffers_of(model, split, language_model_only=workload.language_model_only),
    )

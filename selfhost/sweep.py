"""One model on every GPU, tensor split and weight format at once: the numbers of `memory.budget` without its sentences.

What does not depend on a GPU's memory is computed once for all GPUs that share it, so a row costs about a microsecond.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from selfhost.errors import UnsupportedError
from selfhost.kv import KvLayout, KvSettings, layout_of_stages, step_tokens
from selfhost.memory import NEWEST, Version
from selfhost.model.modules import Experts
from selfhost.model.spec import ModelSpec
from selfhost.model.what_if import requantize
from selfhost.reserves import Defaults, EngineSettings, ModelShape, defaults, subtracts_graphs
from selfhost.reserves.activation import activation
from selfhost.reserves.card import graphs, non_torch
from selfhost.shape import shape_of
from selfhost.stages import Stage, buffers_of, stages_of
from selfhost.workload import Split, Workload

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu


class Row(NamedTuple):
    """One combination: bytes left for the KV cache of a GPU, tokens it holds, and whether one request fits."""

    gpu_id: str
    tensor: int
    quantization: str | None
    kv_available_bytes: int
    kv_tokens: int
    fits: bool


class _Kind(NamedTuple):
    """GPUs that run the same kernels by the same defaults; they differ in the memory they leave alone.

    `left` has, for each tensor-parallel size, every GPU's id and the bytes of its share that torch may use.
    """

    vendor: str
    capability: tuple[int, int] | None
    twin: Gpu
    left: Mapping[int, tuple[tuple[str, int], ...]]


def _settings(gpu: Gpu, tensor: int, given: Defaults, version: Version, context: int) -> EngineSettings:
    return EngineSettings(
        version=version, gpu=gpu, tensor=tensor, utilization=given.utilization, max_model_len=context,
        max_num_batched_tokens=given.max_num_batched_tokens, max_num_seqs=given.max_num_seqs,
    )  # fmt: skip


@lru_cache(maxsize=4)
def _kinds(gpus: tuple[Gpu, ...], tensors: tuple[int, ...], version: Version) -> tuple[_Kind, ...]:
    groups: dict[tuple[object, ...], list[Gpu]] = {}
    for gpu in gpus:
        # Before model runner V2 the sampler's buffers followed the number of multiprocessors (reserves/activation.py).
        processors = gpu.multiprocessors if version < (0, 26, 0) else 0
        key = (gpu.vendor, gpu.compute_capability, processors, defaults(version, gpu))
        groups.setdefault(key, []).append(gpu)
    found: list[_Kind] = []
    for (*_, given), members in groups.items():
        assert isinstance(given, Defaults)
        left = {
            tensor: tuple(
                (
                    gpu.id,
                    int(gpu.usable_bytes * given.utilization)
                    - non_torch(_settings(gpu, tensor, given, version, 1)).bytes,
                )
                for gpu in members
            )
            for tensor in tensors
        }
        twin = members[0]
        found.append(_Kind(vendor=twin.vendor, capability=twin.compute_capability, twin=twin, left=left))
    return tuple(found)


def _inside_torch(shape: ModelShape, settings: EngineSettings) -> int:
    """What the KV cache cannot have and does not depend on the card itself: activations and, from 0.21 on, graphs."""
    total = activation(shape, settings).bytes
    return total + graphs(shape, settings)[0].bytes if subtracts_graphs(settings) else total


def _kernels(spec: ModelSpec, kind: _Kind) -> int | None:
    """The compute capability as far as it decides sizes of weights, which are those of routed experts alone."""
    if not any(isinstance(item, Experts) for block in spec.layers[-1:] for item in block.items):
        return 80
    if kind.vendor != "NVIDIA" or kind.capability is None:
        return None
    major = kind.capability[0]
    return major * 10 if major in (9, 10) else 80


class _Model:
    """One model's weights by format, and its KV layouts, each computed once."""

    def __init__(self, spec: ModelSpec, quantizations: tuple[str | None, ...], version: Version) -> None:
        self.engine = version[:2]
        self.formats = {name: spec if name is None else requantize(spec, name) for name in quantizations}
        self.shapes = {name: shape_of(model) for name, model in self.formats.items()}
        self._stages: dict[tuple[object, ...], Stage | None] = {}
        self._layouts: dict[tuple[object, ...], KvLayout | None] = {}

    def stage(self, name: str | None, tensor: int, kernels: int | None) -> Stage | None:
        """The only pipeline stage on one rank, None where the split is impossible."""
        key = (name, tensor, kernels)
        if key not in self._stages:
            try:
                found = stages_of(
                    self.formats[name],
                    Split(tensor=tensor),
                    Workload(),
                    compute_capability=kernels,
                    engine=self.engine,
                )[0]
            except UnsupportedError:
                self._stages[key] = None
            else:
                self._stages[key] = found
        return self._stages[key]

    def layout(
        self, name: str | None, tensor: int, kind: _Kind, stage: Stage, version: Version
    ) -> KvLayout | None:
        """The KV layout, None where the engine has none."""
        model = self.formats[name]
        key = (model.kv_dtype, model.dtype, tensor, kind.vendor, kind.capability)
        if key not in self._layouts:
            settings = KvSettings(
                tensor=tensor,
                declared_kv_dtype=model.kv_dtype,
                model_dtype=model.dtype,
                vendor="nvidia" if kind.vendor == "NVIDIA" else "amd",
                compute_capability=kind.capability or (9, 0),
                engine=version[:2],
            )
            try:
                self._layouts[key] = layout_of_stages((stage.keeps,), settings)
            except UnsupportedError:
                self._layouts[key] = None
        return self._layouts[key]


def sweep(
    spec: ModelSpec,
    gpus: Iterable[Gpu],
    *,
    tensors: tuple[int, ...] = (1, 2, 4, 8, 16),
    quantizations: tuple[str | None, ...] = (None,),
    version: Version = NEWEST,
) -> Iterator[Row]:
    """Size a model at its full context on many GPUs.

    Args:
        spec: the model.
        gpus: the GPUs to try.
        tensors: tensor-parallel sizes; those the model cannot take give no row.
        quantizations: values of `--quant`, None for the checkpoint as it is.
        version: release of vLLM.

    Yields:
        One row for each possible combination.
    """
    model = _Model(spec, quantizations, version)
    context = spec.facts.max_context_tokens
    buffers_on = {tensor: buffers_of(spec, Split(tensor=tensor)) for tensor in tensors}
    for kind in _kinds(tuple(gpus), tensors, version):
        given = defaults(version, kind.twin, max_model_len=context)
        pooling = model.shapes[quantizations[0]].pooling
        steps = step_tokens(given.max_num_batched_tokens, async_scheduling=not pooling, engine=version[:2])
        kernels = _kernels(spec, kind)
        needs: dict[int, tuple[int, int]] = {}
        for tensor, left in kind.left.items():
            settings = _settings(kind.twin, tensor, given, version, context)
            kept: dict[bool, int] = {}
            for name in quantizations:
                stage = model.stage(name, tensor, kernels)
                layout = model.layout(name, tensor, kind, stage, version) if stage else None
                if stage is None or layout is None:
                    continue
                shape = model.shapes[name]
                mxfp4 = shape.quantization == "mxfp4"
                if mxfp4 not in kept:
                    # Formats differ in their widths only where MXFP4 experts bring their own workspace.
                    kept[mxfp4] = _inside_torch(shape, settings)
                used = kept[mxfp4] + stage.weights_bytes + stage.copies_bytes + buffers_on[tensor]
                size, need = needs.get(id(layout)) or needs.setdefault(
                    id(layout), (layout.block_bytes, layout.blocks_per_request(context, steps))
                )
                for gpu_id, share in left:
                    available = share - used
                    if not need:
                        yield Row(gpu_id, tensor, name, available, 0, available >= 0)
                        continue
                    blocks = available // size if available > 0 else 0
                    yield Row(gpu_id, tensor, name, available, int(blocks / need * context), blocks > need)

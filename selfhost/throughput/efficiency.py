"""What share of a GPU's bandwidth and peak an engine really uses, by kernel, from catalog/efficiency.toml."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from selfhost import catalog
from selfhost.errors import UnsupportedError
from selfhost.workload import Split

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.engines import EngineVersion

_FILE = os.path.join(os.path.dirname(catalog.__file__), "efficiency.toml")
# Formats whose products run in the narrow type itself where the GPU has units for it; others are unpacked to 16 bits.
_NARROW = {"fp8": "fp8", "int8": "int8", "nvfp4": "fp4", "mxfp8": "fp8"}
# One direction of a link, as vendors count both; PCIe 4.0 x16 where a GPU has no link and its row names no other.
_PCIE = {"3.0": 12e9, "4.0": 25e9, "5.0": 50e9, "6.0": 100e9}
# Between nodes a network card of 400 Gb/s for each GPU (NVIDIA DGX H100 datasheet, 2023-03: eight ConnectX-7).
_NETWORK = 50e9
_NODE = 8  # GPUs of an HGX or OAM board, or of a server of PCIe cards
_RACK = 72  # GPUs that the NVLink of a GB200 or GB300 NVL72 joins (NVIDIA, 2024-03)


@cache
def _narrow(scheme: str | None) -> str:
    """Type that products with such weights run in where a GPU has units for it."""
    if scheme is None or scheme.endswith("a16"):
        return "bf16"
    return next((kind for name, kind in _NARROW.items() if scheme.startswith(name)), "bf16")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Efficiency:
    """An engine's utilizations of one GPU, and times that no resource of it explains.

    Args:
        bandwidth: bytes per second of the GPU's memory.
        peaks: operations per second by type: bf16, and fp8, int8, fp4 where it has units for them.
        link: bytes per second that a rank sends to its neighbours, of its usable share.
        outer_link: the same between pipeline stages and between data-parallel copies.
        weights, experts, cache: share of the bandwidth with which dense weights, routed experts and the KV cache are
            read.
        compute: share of the peak of dense products.
        expert_compute: share of the peak of grouped products.
        unpacked: what is left of that where packed weights are unpacked on the way.
        attention: share of the bf16 peak of attention over prompts.
        layer_seconds, expert_layer_seconds: of the small kernels of a layer, without and with routed experts.
        eager_layer_seconds: to launch a layer's kernels in a step that is too large for a CUDA graph.
        reduce_seconds: of one sum over tensor-parallel ranks, before its bytes.
        outer_seconds: the same of what stages pass on and copies exchange.
        step_seconds: of scheduling and sampling one step.
        sequence_seconds: the same for each sequence in it.
        request_seconds: of a request outside the engine's steps: HTTP, tokenizing, one more step.
    """

    bandwidth: float
    peaks: dict[str, float]
    link: float
    outer_link: float
    weights: float
    experts: float
    cache: float
    compute: float
    expert_compute: float
    unpacked: float
    attention: float
    layer_seconds: float
    expert_layer_seconds: float
    eager_layer_seconds: float
    reduce_seconds: float
    outer_seconds: float
    step_seconds: float
    sequence_seconds: float
    request_seconds: float

    def _runs_in(self, scheme: str | None) -> str:
        """Type that products with such weights run in."""
        narrow = _narrow(scheme)
        return narrow if narrow in self.peaks else "bf16"

    def _share(self, scheme: str | None, share: float) -> float:
        kind = self._runs_in(scheme)
        packed = scheme is not None and kind == "bf16"
        return self.peaks[kind] * share * (self.unpacked if packed else 1.0)

    def flops(self, scheme: str | None) -> float:
        """Operations per second of dense products."""
        return self._share(scheme, self.compute)

    def expert_flops(self, scheme: str | None) -> float:
        """Operations per second of grouped products."""
        return self._share(scheme, self.expert_compute)

    @property
    def attention_flops(self) -> float:
        """Operations per second of attention."""
        return self.peaks["bf16"] * self.attention


@dataclass(frozen=True, slots=True, kw_only=True)
class Utilization:
    """An `Efficiency`, and how it is known.

    Args:
        spread: half-width of 80 % of the measurements around an estimate, as a ratio.
        graph_tokens: tokens up to which the engine runs steps as CUDA graphs.
        because: what it was measured on and how it was carried over.
        sources: where the measurements are.
        date: of the newest of them.
    """

    efficiency: Efficiency
    spread: float
    graph_tokens: int
    because: str
    sources: tuple[str, ...]
    date: str


@cache
def tables() -> dict[str, Any]:
    """The catalogue as it is written; `forget` after a change of it."""
    import tomllib

    with open(_FILE, "rb") as file:
        return tomllib.load(file)


def forget() -> None:
    """Answer anew from `tables`, which a fit has changed."""
    _utilization.cache_clear()
    generation_of.cache_clear()


@lru_cache(maxsize=1024)
def generation_of(gpu: Gpu) -> str:
    """Name of the table that a GPU goes by.

    Raises:
        UnsupportedError: nothing is known of such a device.
    """
    known = tables()["generation"]
    for name, table in known.items():
        if gpu.id in table.get("gpus", ()):
            return str(name)
    for name, table in known.items():
        capability = gpu.compute_capability
        if capability is not None and any(list(capability) == one for one in table.get("capabilities", ())):
            return str(name)
        if gpu.architecture in table.get("architectures", ()):
            return str(name)
    raise UnsupportedError(
        f"Nothing is known of how fast engines are on {gpu.name}.",
        hint="`selfhost gpus` lists the accelerators; speed is estimated for GPUs, and measured nowhere for CPUs.",
    )


def _engine_table(engine: EngineVersion) -> tuple[dict[str, Any], str | None]:
    """Times of an engine's release, and the sentence that says whose they are where they are another's."""
    known = tables()["engine"]
    own = known.get(engine.engine)
    row = own or known["vllm"]
    chosen = next(
        (one for one in reversed(row["releases"]) if list(engine.number[:2]) >= one["since"]),
        row["releases"][0],
    )
    return chosen, None if own else f"{engine.engine} was not measured: times of vLLM stand in"


def _peaks(gpu: Gpu) -> dict[str, float]:
    narrow = (("fp8", gpu.fp8_flops), ("int8", gpu.int8_flops), ("fp4", gpu.fp4_flops))
    return {
        "bf16": gpu.bf16_flops or gpu.fp16_flops or 0.0,
        **{kind: flops for kind, flops in narrow if flops},
    }


@lru_cache(maxsize=256)
def at_peak(gpu: Gpu) -> Efficiency:
    """The roofline itself: all of the bandwidth and of the peak of a GPU, and nothing in between."""
    return Efficiency(
        bandwidth=float(gpu.bandwidth_bytes_per_second), peaks=_peaks(gpu), link=math.inf, outer_link=math.inf,
        weights=1.0, experts=1.0, cache=1.0, compute=1.0, expert_compute=1.0, unpacked=1.0, attention=1.0,
        layer_seconds=0.0, expert_layer_seconds=0.0, eager_layer_seconds=0.0, reduce_seconds=0.0, outer_seconds=0.0,
        step_seconds=0.0, sequence_seconds=0.0, request_seconds=0.0,
    )  # fmt: skip


def _joined(gpu: Gpu) -> int:
    """GPUs that its own link joins; a bridge joins two, or up to four."""
    if gpu.link_bytes_per_second <= 0:
        return 0
    if gpu.id.startswith(("gb200", "gb300")):
        return _RACK
    name = gpu.link or ""
    if "4-way" in name:
        return 4
    return 2 if "bridge" in name or "ConnectX" in name else _NODE


def _path(gpu: Gpu, gpus: int, *, cards: int = 1) -> tuple[float, str]:
    """Bytes per second in one direction between so many GPUs, and which of the times of a sum is theirs.

    A ring through whole nodes leaves each of them by all of its `cards` at once.
    """
    own = gpu.link_bytes_per_second / 2
    slot = _PCIE.get(gpu.pcie[:3], 25e9)
    if gpus <= _joined(gpu):
        return own, "reduce_us"
    if gpus <= _NODE:
        return slot, "reduce_pcie_us"
    within = own if _joined(gpu) >= _NODE else slot
    return min(within, min(_NETWORK, slot) * cards), "reduce_pcie_us"


def _ring(ranks: int) -> float:
    """Steps of a ring through so many ranks, 2 x (ranks - 1) as NCCL does them, over those of a whole node."""
    return min(1.0, (ranks - 1) / (_NODE - 1))


@lru_cache(maxsize=4096)
def _shared(gpu: Gpu, **values: float) -> Efficiency:
    """One object for all engines that take the same times, so that what is made of it is made once."""
    return Efficiency(peaks=_peaks(gpu), **values)


@lru_cache(maxsize=1024)
def _utilization(gpu: Gpu, engine: EngineVersion, tensor: int, gpus: int) -> Utilization:
    known = tables()["generation"]
    name = generation_of(gpu)
    table = known[name]
    like = table.get("like")
    values = {**known[like], **table} if like else table
    times, stands_in = _engine_table(engine)
    link, reduced = _path(gpu, tensor, cards=_NODE)
    sums = values[reduced] * (_ring(tensor) if reduced == "reduce_pcie_us" else 1.0)
    attention = times.get("attention_us", 0.0)  # launched one by one between the graphs of a layer
    outer, passed = _path(gpu, gpus)
    return Utilization(
        efficiency=_shared(
            gpu,
            bandwidth=float(gpu.bandwidth_bytes_per_second),
            link=link * values["link"],
            outer_link=outer * values["link"],
            weights=values["weights"],
            experts=values["experts"],
            cache=values["cache"],
            compute=values["compute"],
            expert_compute=values["expert_compute"],
            unpacked=values["unpacked"],
            attention=values["attention"],
            layer_seconds=(values["layer_us"] + attention) * 1e-6,
            expert_layer_seconds=(values["expert_layer_us"] + attention) * 1e-6,
            eager_layer_seconds=values["eager_layer_us"] * 1e-6,
            reduce_seconds=max(sums, values["reduce_us"]) * 1e-6,
            outer_seconds=values[passed] * 1e-6,
            step_seconds=times["step_us"] * 1e-6,
            sequence_seconds=times["sequence_us"] * 1e-6,
            request_seconds=times["request_ms"] * 1e-3,
        ),
        spread=values["spread"] * (2.0 if like else 1.0) * (1.5 if stands_in else 1.0),
        graph_tokens=times["graph_tokens"],
        because=_because(gpu, name, values, like, table, times, stands_in),
        sources=tuple(values["sources"]),
        date=values["date"],
    )


def _because(
    gpu: Gpu, name: str, values: dict[str, Any], like: str | None, table: dict[str, Any], times: dict[str, Any],
    stands_in: str | None,
) -> str:  # fmt: skip
    text = f"utilizations of {name}: {values['measured']}"
    if like:
        text = f"utilizations of {like}: {values['measured']}; carried over to {gpu.name}: {table['because']}"
    elif gpu.id not in values.get("on", ()):
        text += f"; carried over to {gpu.name}, of the same generation"
    return "; ".join(part for part in (text, times.get("because"), stands_in) if part)


def efficiency_of(gpu: Gpu, engine: EngineVersion, split: Split) -> Utilization:
    """How fast an engine's release is on a GPU, by what was measured nearest to it.

    Raises:
        UnsupportedError: nothing is known of such a device.
    """
    if not gpu.bandwidth_bytes_per_second or not (gpu.bf16_flops or gpu.fp16_flops):
        raise UnsupportedError(
            f"The bandwidth or the peak of {gpu.name} is not known, so its speed is not either.",
            hint="Name a GPU of `selfhost gpus`.",
        )
    return _utilization(gpu, engine, split.tensor, split.gpus)

"""What was measured near a deployment and its load, each run beside what the roofline says of that very run.

The roofline does not look at these runs, and its accuracy is scored against them: this is a layer above it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from selfhost.catalog.measured import Measurement, measurements
from selfhost.errors import SelfhostError
from selfhost.quantization import SCHEMES
from selfhost.throughput.estimate import estimate
from selfhost.throughput.runs import Asked, Find, asked_of, is_release
from selfhost.throughput.types import Estimate, Traffic
from selfhost.workload import Workload

if TYPE_CHECKING:
    from selfhost.model.spec import ModelSpec

# Ours: a load is near where no length and no number of requests is more than twice or less than half of it, and the
# same where lengths and rates are within 5 % and the number of clients is equal.
_NEAR, _SAME = 2.0, 0.05
_SHORT = 64  # Ours: prompts below it take one short step each, so that 1 token is near 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One published run near what is asked.

    Args:
        run: as it was published.
        own: its deployment and load.
        estimated: what the roofline says of precisely that run; None where it says nothing.
        differs: in what it is not what is asked: `model`, `quantization`, `kv_dtype`, `engine_version`,
            `engine_options`, `prompt_tokens`, `output_tokens`, `concurrency`, `request_rate`, `prefix_hit_ratio`.
        covers: it is of the very configuration and load; the release may be another.
        distance: of its load, 0 for the same.
    """

    run: Measurement
    own: Asked
    estimated: Estimate | None
    differs: tuple[str, ...]
    covers: bool
    distance: float


def evidence_for(asked: Asked, find: Find) -> tuple[Evidence, ...]:
    """Runs of the same model, format, GPUs, division and engine under a load near to this one, the nearest first.

    Args:
        asked: what is estimated.
        find: a model of the catalogue by its repository.
    """
    found: list[Evidence] = []
    for run in _same_machine(asked):
        distance = _distance(run, asked.traffic)
        if distance is None or not _same_weights(run, asked, find):
            continue
        own = asked_of(run, asked.gpu, find)
        differs = _differs(run, own, asked)
        found.append(
            Evidence(
                run=run,
                own=own,
                estimated=_estimated(own),
                differs=differs,
                covers=not set(differs) - {"engine_version", "model"},
                distance=distance,
            )
        )
    return tuple(sorted(found, key=lambda one: (not one.covers, one.distance, one.run.id)))


def _same_machine(asked: Asked) -> list[Measurement]:
    from selfhost.catalog.gpus import find_gpu

    split, load = asked.split, asked.workload
    if load.speculative_tokens or find_gpu(asked.gpu.id) != asked.gpu:  # a part of a GPU is another machine
        return []
    copies = split.data * asked.replicas
    return [
        run
        for run in measurements()
        if (run.gpu, run.engine) == (asked.gpu.id, asked.engine.engine)
        and (run.tensor, run.pipeline, run.data * run.replicas) == (split.tensor, split.pipeline, copies)
        and (run.expert and run.tensor * run.data > 1) == (split.expert and split.tensor * split.data > 1)
    ]


def _distance(run: Measurement, traffic: Traffic) -> float | None:
    """How far a run's load is from this, as the sum of its ratios' logarithms; None where it is not near."""
    pairs: list[tuple[float, float]] = [
        (max(run.prompt_tokens, _SHORT), max(traffic.prompt_tokens, _SHORT)),
        (run.output_tokens, traffic.output_tokens),
    ]
    if run.concurrency is not None and traffic.concurrency is not None:
        pairs.append((run.concurrency, traffic.concurrency))
    elif run.request_rate is not None and traffic.request_rate is not None:
        pairs.append((run.request_rate, traffic.request_rate))
    else:
        return None
    ratios = [abs(math.log(theirs / ours)) for theirs, ours in pairs]
    return sum(ratios) if max(ratios) <= math.log(_NEAR) + 1e-9 else None


def _same_weights(run: Measurement, asked: Asked, find: Find) -> bool:
    """The same repository, or one of the same shape, in the same format, be its scales by channel or by block."""
    theirs, ours = find(run.model), asked.spec
    if theirs.id.lower() != ours.id.lower() and _shape(theirs) != _shape(ours):
        return False
    wanted = _format(ours, asked.workload.quantization)
    return _format(theirs, run.quantization).removesuffix("-block") == wanted.removesuffix("-block")


def _shape(spec: ModelSpec) -> tuple[object, ...]:
    bare = replace(spec.facts, max_context_tokens=0)
    return (spec.architecture, spec.parameters, len(spec.layers), spec.dtype, bare)


def _format(spec: ModelSpec, quantization: str | None) -> str:
    if quantization in SCHEMES:
        return SCHEMES[quantization].id
    if quantization is not None:
        return quantization
    return spec.scheme.id if spec.scheme is not None else _type(spec.dtype)


def _type(name: str) -> str:
    return {"bfloat16": "bf16", "float16": "fp16", "fp8_e4m3": "fp8"}.get(name, name)


def _cache_type(asked: Asked) -> str:
    """Element type of the KV cache as far as it is said: by the option, by the checkpoint, else the model's own."""
    kind = asked.workload.kv_dtype
    return _type((asked.spec.kv_dtype or asked.spec.dtype) if kind == "auto" else kind)


def _differs(run: Measurement, own: Asked, asked: Asked) -> tuple[str, ...]:
    traffic, load = asked.traffic, asked.workload
    shared = "shared-prefix" in run.dataset  # of such prompts a share was in the cache that nobody published
    told = (
        ("model", own.spec.id.lower() != asked.spec.id.lower()),
        ("quantization", _format(own.spec, run.quantization) != _format(asked.spec, load.quantization)),
        ("kv_dtype", _cache_type(own) != _cache_type(asked)),
        ("engine_version", not is_release(run, asked.engine)),
        ("engine_options", _knobs(load) != _knobs(own.workload)),
        ("prompt_tokens", not _alike(run.prompt_tokens, traffic.prompt_tokens)),
        ("output_tokens", not _alike(run.output_tokens, traffic.output_tokens)),
        ("concurrency", run.concurrency != traffic.concurrency),
        ("request_rate", not _alike(run.request_rate or 1.0, traffic.request_rate or 1.0)),
        ("prefix_hit_ratio", shared or (traffic.prefix_hit_ratio > 0 and load.prefix_caching)),
    )
    return tuple(name for name, other in told if other)


def _knobs(load: Workload) -> Workload:
    """Those that have no other name here; a prefix cache does nothing to prompts that share nothing."""
    return replace(
        load, max_model_len=None, concurrency=1, quantization=None, kv_dtype="auto", prefix_caching=True
    )


def _alike(theirs: float, ours: float) -> bool:
    return abs(theirs / ours - 1.0) <= _SAME


def _estimated(asked: Asked) -> Estimate | None:
    try:
        return estimated(asked)
    except SelfhostError:
        return None


def estimated(asked: Asked) -> Estimate:
    """What the roofline says of a deployment and a load."""
    return estimate(
        asked.spec, asked.workload, asked.split, asked.gpu, asked.engine, asked.traffic,
        replicas=asked.replicas,
    )  # fmt: skip

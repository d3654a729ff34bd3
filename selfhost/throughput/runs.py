"""A published run as the deployment and the load that it measured, and in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selfhost.engines import EngineVersion, parse_engine
from selfhost.errors import SelfhostError
from selfhost.throughput.types import Traffic
from selfhost.workload import Split, Workload

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.catalog.measured import Measurement
    from selfhost.model.spec import ModelSpec

NUMBERS = (
    "ttft_ms",
    "tpot_ms",
    "output_tokens_per_second",
)  # of an `Estimate`, that a run may have published

Find = Callable[[str], "ModelSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A deployment and a load, as `estimate` takes them."""

    spec: ModelSpec
    workload: Workload
    split: Split
    gpu: Gpu
    engine: EngineVersion
    traffic: Traffic
    replicas: int = 1

    @property
    def gpus(self) -> int:
        """GPUs of the whole deployment."""
        return self.split.gpus * self.replicas


def release_of(engine: str, version: str) -> tuple[EngineVersion, bool]:
    """The release that a source names, and whether it does; the newest known where it names none.

    Images of October 2025 had vLLM 0.11.0 (2025-10-02).
    """
    word = version.split(" ", maxsplit=1)[0].removeprefix("v")
    text = "0.11.0" if "2025-10" in version else word
    try:
        return parse_engine(f"{engine}@{text}"), True
    except SelfhostError:
        return parse_engine(engine), False


def is_release(run: Measurement, asked: EngineVersion) -> bool:
    """Whether a run is of that release, but for its patches."""
    release, named = release_of(run.engine, run.version)
    return named and release.number[:2] == asked.number[:2]


def asked_of(run: Measurement, gpu: Gpu, find: Find) -> Asked:
    """The deployment and load of a run.

    Args:
        run: as it was published.
        gpu: its GPU.
        find: a model of the catalogue by its repository.
    """
    return Asked(
        spec=find(run.model),
        workload=Workload(
            quantization=run.quantization,
            kv_dtype=run.kv_dtype,
            enforce_eager=run.enforce_eager,
            max_num_seqs=run.max_num_seqs,
        ),
        split=Split(tensor=run.tensor, pipeline=run.pipeline, data=run.data, expert=run.expert),
        gpu=gpu,
        engine=release_of(run.engine, run.version)[0],
        traffic=Traffic(
            prompt_tokens=max(1, round(run.prompt_tokens)),
            output_tokens=max(1, round(run.output_tokens)),
            concurrency=run.concurrency,
            request_rate=run.request_rate,
        ),
        replicas=run.replicas,
    )


def numbers_of(run: Measurement) -> dict[str, float]:
    """The numbers that a run published, by the names of `Estimate`."""
    told = {name: getattr(run, name) for name in NUMBERS}
    return {name: value for name, value in told.items() if value is not None}


def load_words(prompt: float, output: float, concurrency: int | None, rate: float | None) -> str:
    """A load in a few words: `1,000 + 200 tokens, 8 at once`."""
    count = f"{concurrency:,} at once" if concurrency is not None else f"{rate:g} requests/s"
    return f"{prompt:,.0f} + {output:,.0f} tokens, {count}"


def about(run: Measurement) -> str:
    """What was run, where and with what, in half a sentence."""
    load = load_words(run.prompt_tokens, run.output_tokens, run.concurrency, run.request_rate)
    return (
        f"{run.model} ({run.precision}) on {run.gpus} × {run.gpu} with {run.engine} {run.version}, {load} "
        f"({run.title}, {run.date})"
    )

"""selfhost's sizes against what vLLM's own code allocates: each case through the real pipeline, errors per model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from bench_truth import Case, raw_model

from selfhost.catalog.gpus import find_gpu
from selfhost.errors import SelfhostError
from selfhost.memory import budget
from selfhost.model.parse import parse_model
from selfhost.model.spec import ModelSpec
from selfhost.workload import Split, Workload

WEIGHTS_LIMIT = 0.005  # of the parameter bytes
CAPACITY_LIMIT = 0.01  # of blocks, tokens and concurrency
SHARE_LIMIT = 0.98  # of the cases that must be within the limits
GPUS = {"9.0": "h100-sxm-80gb", "10.0": "b200"}
KV_BYTES_LIMIT = 1  # vLLM's figures of hybrids are averages over a page


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One case: relative errors, or why selfhost refused it."""

    case: Case
    weights_error: float = 0.0
    kv_difference_bytes: float = 0.0
    capacity_error: float = 0.0
    refusal: str | None = None

    @property
    def weights_right(self) -> bool:
        """Parameter bytes within the limit."""
        return self.refusal is None and abs(self.weights_error) <= WEIGHTS_LIMIT

    @property
    def kv_right(self) -> bool:
        """KV bytes per token equal, and blocks, tokens and concurrency within the limit."""
        equal = abs(self.kv_difference_bytes) <= KV_BYTES_LIMIT
        return self.refusal is None and equal and self.capacity_error <= CAPACITY_LIMIT


@cache
def _spec(config: str) -> ModelSpec | SelfhostError:
    try:
        return parse_model(raw_model(config))
    except SelfhostError as error:
        return error
    except OSError as error:
        return SelfhostError(f"no configuration: {error}")


def score(case: Case) -> Score:
    """Size one case as `selfhost size` would and compare."""
    spec = _spec(case.config)
    if isinstance(spec, SelfhostError):
        return Score(case=case, refusal=str(spec))
    gpu, split = find_gpu(GPUS[case.compute_capability]), Split(tensor=case.tensor, expert=case.expert)
    capacity = 0.0
    try:
        found = budget(spec, Workload(kv_dtype=case.kv_dtype), split, gpu)
        for answer in case.answers:
            workload = Workload(
                max_model_len=answer.max_model_len,
                kv_dtype=case.kv_dtype,
                kv_cache_memory_bytes=answer.available_bytes,
            )
            sized = budget(spec, workload, split, gpu)
            for value, truth in (
                (sized.kv_blocks, answer.blocks),
                (sized.kv_tokens, answer.tokens),
                (sized.max_concurrency, answer.max_concurrency),
            ):
                if truth:
                    capacity = max(capacity, abs((value or 0) / truth - 1))
    except SelfhostError as error:
        return Score(case=case, refusal=str(error))
    return Score(
        case=case,
        weights_error=found.weights_bytes / case.weights_bytes - 1,
        kv_difference_bytes=found.kv_bytes_per_token - case.kv_bytes_per_token,
        capacity_error=capacity,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Counts over all cases; refused ones count as wrong."""

    cases: int
    models: int
    refused: Mapping[str, str]
    weights_right: int
    kv_right: int
    weights_wrong: int

    @property
    def passed(self) -> bool:
        """The limits of the benchmark hold."""
        enough = min(self.weights_right, self.kv_right) >= SHARE_LIMIT * self.cases
        return enough and self.weights_wrong == 0


def totals(scores: Iterable[Score]) -> Totals:
    """Counts over all cases."""
    kept = tuple(scores)
    return Totals(
        cases=len(kept),
        models=len({item.case.model for item in kept}),
        refused={item.case.model: item.refusal for item in kept if item.refusal is not None},
        weights_right=sum(item.weights_right for item in kept),
        kv_right=sum(item.kv_right for item in kept),
        weights_wrong=sum(item.refusal is None and not item.weights_right for item in kept),
    )


HEADS = ("", "cases", "right", "weights", "KV/token", "capacity")


def rows(scores: Iterable[Score], *, by: str) -> list[tuple[str, ...]]:
    """A row per model or architecture: cases, how many are right, and the largest errors.

    Args:
        scores: of any cases.
        by: `model` or `architecture`.
    """
    groups: dict[str, list[Score]] = {}
    for item in scores:
        groups.setdefault(item.case.model if by == "model" else item.case.architecture, []).append(item)
    return [_row(name.replace("--", "/", 1), groups[name]) for name in sorted(groups, key=str.lower)]


def _row(name: str, group: list[Score]) -> tuple[str, ...]:
    known = [item for item in group if item.refusal is None]
    right = sum(item.weights_right and item.kv_right for item in group)
    if not known:
        return (name, str(len(group)), "refused", "–", "–", "–")
    weights = max((item.weights_error for item in known), key=abs)
    unequal = sum(abs(item.kv_difference_bytes) > KV_BYTES_LIMIT for item in known)
    return (
        name,
        str(len(group)),
        str(right),
        percent(weights),
        "equal" if not unequal else f"{unequal} differ",
        percent(max(item.capacity_error for item in known)),
    )


def percent(ratio: float) -> str:
    """An error as people read it; exact is `0`."""
    return "0" if abs(ratio) < 1e-9 else f"{100 * ratio:+.3f} %"

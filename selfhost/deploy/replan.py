"""A plan with something changed, sized again: what was not changed stays as it was decided.

The GPU and the split stay: a change of those is another plan, which `selfhost plan` makes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from selfhost.errors import (
    ModelNotFoundError,
    NoRoomError,
    OfflineError,
    SelfhostError,
    UnsupportedError,
    UsageError,
)
from selfhost.plan import Plan, make_plan
from selfhost.units import ceil_div, gib, parse_count, parse_size
from selfhost.workload import Workload

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.engines import EngineVersion, Image
    from selfhost.memory import MemoryBudget
    from selfhost.model.raw import RawModel
    from selfhost.model.spec import ModelSpec

# What engines call a field of the load, where that is not the name of selfhost's own option: as vLLM 0.32
# (engine/arg_utils.py), SGLang 0.5.9 (srt/server_args.py) and TGI 3.3 (launcher/src/main.rs) spell them.
_SPELLED = {
    "context": "max_model_len",
    "context-length": "max_model_len",
    "max-total-tokens": "max_model_len",
    "max-running-requests": "max_num_seqs",
    "max-batch-size": "max_num_seqs",
    "chunked-prefill-size": "max_num_batched_tokens",
    "max-batch-prefill-tokens": "max_num_batched_tokens",
    "kv-cache-dtype": "kv_dtype",
    "kv-cache-memory-bytes": "kv_cache_memory_bytes",
    "quantization": "quantization",
    "quantize": "quantization",
    "page-size": "block_size",
    "disable-cuda-graph": "enforce_eager",
    "enable-prefix-caching": "prefix_caching",
    "max-loras-per-batch": "max_loras",
}
# The same said the other way round.
_NEGATED = {
    "no-enable-prefix-caching": "prefix_caching",
    "no-prefix-caching": "prefix_caching",
    "disable-radix-cache": "prefix_caching",
}
_SPLIT = (
    "tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size", "enable-expert-parallel",
    "tp", "pp", "dp", "ep", "tp-size", "pp-size", "dp-size", "ep-size", "num-shard", "gpu", "gpus",
)  # fmt: skip
_YES, _NO = ("", "true", "yes", "on", "1"), ("false", "no", "off", "0")
_DEFAULT = "default"  # a value that gives the choice back to the engine
# Knobs that a plan writes out with the engine's own choice: another engine chooses anew.
_OF_THE_ENGINE = ("max_num_batched_tokens", "max_num_seqs", "gpu_memory_utilization", "block_size")


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What is to be different.

    Args:
        settings: flags of the engine, without dashes, and their values.
        engine: as `vllm@0.33.0`.
        revision: of the model, a commit.
        replicas: copies.
        quantization: of the weights, as they load.
        image: instead of the published one.
    """

    settings: tuple[tuple[str, str], ...] = ()
    engine: str | None = None
    revision: str | None = None
    replicas: int | None = None
    quantization: str | None = None
    image: str | None = None

    @property
    def any(self) -> bool:
        """Whether something is to be different."""
        return self != Changes()

    def __str__(self) -> str:
        """In a few words, as they are kept with the revision."""
        named = (
            ("engine", self.engine), ("revision", self.revision and self.revision[:12]), ("quant", self.quantization),
            ("replicas", self.replicas), ("image", self.image),
        )  # fmt: skip
        words = [f"{flag}={value}" if value else flag for flag, value in self.settings]
        words += (f"{name} {value}" for name, value in named if value is not None)
        return ", ".join(words)


def parse_settings(words: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """`FLAG=VALUE` or `FLAG`, each with or without its dashes.

    Raises:
        UsageError: none of both, or the same flag twice.
    """
    found: dict[str, str] = {}
    for word in words:
        flag, _, value = word.partition("=")
        name = flag.strip().lstrip("-").replace("_", "-").lower()
        if not name or not name.isascii() or len(word) > 200 or not word.isprintable():
            raise UsageError(f"--set {word[:80]!r} is not FLAG=VALUE.", hint="Write --set max-num-seqs=256.")
        if name in found:
            raise UsageError(f"--set names {name} twice.", hint="Leave one out.")
        found[name] = value.strip()
    return tuple(found.items())


def replan(
    plan: Plan,
    changes: Changes,
    *,
    created: str,
    load: Callable[[str], RawModel] | None = None,
) -> Plan:
    """The plan with the changes, on the same GPUs.

    Args:
        plan: what was decided before.
        changes: what is to be different.
        created: UTC time in ISO 8601.
        load: finds a model by its reference; the Hub, the bundled models and the local cache if absent.

    Raises:
        UsageError: a flag or a value that cannot be.
        UnsupportedError: the engine or the GPU cannot run it.
        NoRoomError: it does not fit, by so many bytes.
        SelfhostError: the model's configuration cannot be had.
    """
    if changes.replicas is not None:
        plan = _with_replicas(plan, changes.replicas)
    if not replace(changes, replicas=None).any:
        return plan
    engine = _engine(plan, changes.engine)
    image = _image(plan, engine, changes.image)
    if replace(changes, replicas=None, image=None) == Changes():
        return replace(plan, engine=replace(plan.engine, image=image)) if image is not None else plan
    workload = _workload(plan, changes)
    if engine.engine != plan.engine.name:
        kept = {known for flag, _ in changes.settings for known in (_field(plan, flag),)}
        free = {name: None for name in _OF_THE_ENGINE if name not in kept}
        workload = replace(workload, **_any(free))
    revision = changes.revision or plan.model.revision
    moved = revision != plan.model.revision
    raw = _raw(plan, revision, load)
    spec = _spec(plan, raw, revision)
    gpu = _gpu(plan)
    sized = _sized(plan, spec, workload, gpu, engine)
    made = make_plan(
        spec=spec,
        engine=engine,
        gpu=gpu,
        split=plan.split,
        workload=replace(workload, max_num_seqs=sized.max_num_seqs),
        budget=sized,
        created=created,
        stored_bytes=_stored(raw) if moved else plan.weights.stored_bytes.value,
        safetensors=_safetensors(plan, raw),
        replicas=plan.replicas,
        name=plan.name,
        image=image,
        drain_seconds=plan.clocks.drain_seconds.value or _drain_seconds(),
        licence=plan.licence,
    )
    return replace(
        made,
        gpu=plan.gpu,
        model=replace(
            made.model, origin=plan.model.origin, source=made.model.source if moved else plan.model.source
        ),
        weights=made.weights if moved else plan.weights,
        alternatives=plan.alternatives,
        refusals=plan.refusals,
    )


def flags_of(plan: Plan) -> tuple[str, ...]:
    """Flags that `--set` takes: selfhost's own names of what it can size."""
    return tuple(item.metadata["flag"].lstrip("-") for item in fields(Workload))


def _with_replicas(plan: Plan, replicas: int) -> Plan:
    if not 1 <= replicas <= 1000:
        raise UsageError(
            f"--replicas must be between 1 and 1000, not {replicas:,}.",
            hint=f"`selfhost pause {plan.name}` takes it to none." if replicas == 0 else None,
        )
    return replace(plan, replicas=replicas)


# -- the load -----------------------------------------------------------------------------------------------------


def _workload(plan: Plan, changes: Changes) -> Workload:
    """The load with the settings in it."""
    values: dict[str, object] = {}
    for flag, value in changes.settings:
        name = _field(plan, flag)
        if name in values:
            raise UsageError(f"--set names {name.replace('_', '-')} twice.", hint="Leave one out.")
        values[name] = _value(flag, name, value)
    if changes.quantization is not None:
        values["quantization"] = changes.quantization
    load = replace(plan.workload, **_any(values))
    at_once = load.max_num_seqs
    if at_once is not None and "concurrency" not in values:
        # sized for more requests than run at once: the rest would wait
        load = replace(load, concurrency=min(load.concurrency, at_once * plan.split.data))
    tokens = load.max_num_batched_tokens
    if (
        at_once is not None
        and tokens is not None
        and "max_num_batched_tokens" not in values
        and at_once > tokens
    ):
        load = replace(load, max_num_batched_tokens=at_once)  # a step has a token of each request
    return load


def _field(plan: Plan, flag: str) -> str:
    """Which field of the load a flag sets.

    Raises:
        UsageError: none.
    """
    own = {item.metadata["flag"].lstrip("-"): item.name for item in fields(Workload)}
    found = own.get(flag) or _SPELLED.get(flag) or _NEGATED.get(flag)
    if found is not None:
        return found
    if flag in _SPLIT:
        raise UsageError(
            f"--set {flag}: the GPUs of a replica stay as they are planned.",
            hint=f"Plan again (selfhost plan {plan.model.id} --name {plan.name} --tp N -o plan.json), then "
            f"selfhost upgrade {plan.name} plan.json.",
        )
    raise UsageError(
        f"--set {flag[:60]}: what that does to memory is not known here, so it is not passed on.",
        hint=f"Possible: {', '.join(flags_of(plan))}.",
    )


def _value(flag: str, name: str, text: str) -> object:
    """A field's value from the words that were typed; its limits are Workload's own."""
    item = next(one for one in fields(Workload) if one.name == name)
    kind = item.metadata["kind"]
    if text.lower() == _DEFAULT:
        return item.default
    if kind in ("flag", "off_flag"):
        if text.lower() not in (*_YES, *_NO):
            raise UsageError(f"--set {flag}={text[:60]}: it is on or off.", hint=f"Write --set {flag}=off.")
        return (text.lower() in _YES) is not (flag in _NEGATED)
    if not text:
        raise UsageError(f"--set {flag} needs a value.", hint=f"Write --set {flag}=VALUE.")
    if kind in ("str", "kv_dtype"):
        return text
    try:
        if kind == "ratio":
            return float(text)
        return parse_size(text) if kind == "size" else parse_count(text)
    except ValueError as error:
        raise UsageError(f"--set {flag}={text[:60]}: {error}.") from None


def _any(values: dict[str, Any]) -> dict[str, Any]:
    """Values of fields by their names, which mypy cannot follow."""
    return values


# -- model, engine, GPU -------------------------------------------------------------------------------------------


def _engine(plan: Plan, asked: str | None) -> EngineVersion:
    from selfhost.engines import parse_engine

    if asked is None:
        return parse_engine(f"{plan.engine.name}@{plan.engine.version}")
    return parse_engine(f"{plan.engine.name}{asked}" if asked.startswith("@") else asked)


def _image(plan: Plan, engine: EngineVersion, asked: str | None) -> Image | None:
    """The image: as asked, the same while the release is the same, else the published one of the new release.

    Raises:
        UsageError: the plan's is not the published one, so nobody knows what it is called for another release.
    """
    from selfhost.engines import get_engine, parse_engine, parse_image

    if asked is not None:
        return parse_image(asked)
    old = parse_engine(f"{plan.engine.name}@{plan.engine.version}")
    if engine == old:
        return plan.engine.image
    try:
        published = get_engine(old.engine).image(old, plan.gpu.on)
    except UnsupportedError:
        published = None
    if published is not None and plan.engine.image.repository == published.repository:
        return None
    raise UsageError(
        f"The plan's image {plan.engine.image.reference} is not the published one, and {engine} needs another.",
        hint="Name it with --image REPOSITORY:TAG.",
    )


def _raw(plan: Plan, revision: str | None, load: Callable[[str], RawModel] | None) -> RawModel:
    """The model's configuration, as `selfhost plan` finds it; a bundled one where the Hub cannot be asked."""
    from selfhost.hub import load_model

    find = load or load_model
    if plan.model.origin in ("directory", "gguf"):
        try:
            return find(plan.model.source)
        except SelfhostError as error:
            raise ModelNotFoundError(
                f"{plan.model.id} was planned from {plan.model.source}, which is not here.",
                hint="Run this where the model's files are, or give a new plan: selfhost upgrade NAME plan.json.",
            ) from error
    if revision is None:
        return find(plan.model.id)
    try:
        return find(f"{plan.model.id}@{revision}")
    except OfflineError as error:
        if revision != plan.model.revision:
            raise
        try:
            return find(f"catalog:{plan.model.id}")
        except SelfhostError:
            raise error from None


def _spec(plan: Plan, raw: RawModel, revision: str | None) -> ModelSpec:
    from selfhost.model.parse import parse_model

    spec = parse_model(raw)
    if spec.architecture != plan.model.architecture:
        raise UnsupportedError(
            f"{plan.model.id} at that revision is a {spec.architecture}, the plan's is a {plan.model.architecture}.",
            hint="Plan it anew: selfhost plan.",
        )
    if raw.origin == "catalogue" and plan.model.origin == "hub":  # a bundled configuration follows no commit
        return replace(spec, id=plan.model.id, origin=plan.model.origin, revision=revision)
    return replace(spec, id=plan.model.id)


def _gpu(plan: Plan) -> Gpu:
    from selfhost.catalog.gpus import find_gpu, main_memory, with_memory

    if plan.gpu.on == "cpu":
        machine = plan.gpu.id.removeprefix("cpu").lstrip("-") or "amd64"
        return main_memory(plan.gpu.memory_bytes, machine=machine)
    gpu = find_gpu(plan.gpu.id)
    return gpu if gpu.memory_bytes == plan.gpu.memory_bytes else with_memory(gpu, plan.gpu.memory_bytes)


def _sized(plan: Plan, spec: ModelSpec, workload: Workload, gpu: Gpu, engine: EngineVersion) -> MemoryBudget:
    """The bill.

    Raises:
        NoRoomError: it does not fit.
    """
    from selfhost.sizing import budget_for

    found = budget_for(spec, workload, plan.split, gpu, engine)
    at_once = ceil_div(workload.concurrency, plan.split.data)
    if workload.max_num_seqs is None and at_once > found.max_num_seqs:
        tokens = workload.max_num_batched_tokens or max(found.max_num_batched_tokens, at_once)
        enough = replace(workload, max_num_seqs=at_once, max_num_batched_tokens=tokens)
        found = budget_for(spec, enough, plan.split, gpu, engine)
    if found.fits is False:
        raise NoRoomError(
            f"It does not fit {plan.gpu.count} x {plan.gpu.name}: {gib(found.short_bytes)} GiB"
            f" ({found.short_bytes:,} bytes) short on each GPU.",
            short_bytes=found.short_bytes,
            hint="Ask for less (--set max-model-len, max-num-seqs, kv-cache-dtype=fp8, concurrency), or plan more GPUs"
            f" (selfhost plan {plan.model.id} --name {plan.name}).",
        )
    return found


def _stored(raw: RawModel) -> int | None:
    return sum(tensor.bytes for tensor in raw.tensors) if raw.tensors else None


def _safetensors(plan: Plan, raw: RawModel) -> bool:
    from selfhost.plan.derive import SKIP_BESIDE_SAFETENSORS

    return (
        bool(raw.tensors)
        or raw.origin == "catalogue"
        or set(SKIP_BESIDE_SAFETENSORS) <= set(plan.weights.skip)
    )


def _drain_seconds() -> int:
    from selfhost.plan.derive import DRAIN_SECONDS

    return DRAIN_SECONDS

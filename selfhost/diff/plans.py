"""Two plans, field by field of what they mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields

from selfhost.diff.types import Change, MemoryChange, Section
from selfhost.plan import Derived, Plan
from selfhost.units import gib

_BYTES = ("_bytes",)


def compare_plans(old: Plan, new: Plan) -> tuple[tuple[Change, ...], tuple[MemoryChange, ...]]:
    """What differs, in the order in which it matters, and the memory bill."""
    changes = [
        *_model(old, new),
        *_engine(old, new),
        *_gpus(old, new),
        *_load(old, new),
        *_flags(old, new),
        *_environment(old, new),
        *_derived("clocks", old.clocks, new.clocks),
        *_derived("pod", old.pod, new.pod),
        *_weights(old, new),
        *_licence(old, new),
    ]
    return tuple(changes), _memory(old, new)


def _differ(section: Section, rows: Iterable[tuple[str, object, object]]) -> Iterator[Change]:
    for what, old, new in rows:
        if old != new:
            yield Change(section=section, what=what, old=_text(old), new=_text(new))


def _text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _model(old: Plan, new: Plan) -> Iterator[Change]:
    a, b = old.model, new.model
    yield from _differ(
        "model",
        (
            ("model", a.id, b.id),
            ("revision", a.revision or "not pinned", b.revision or "not pinned"),
            ("quantization", a.quantization or a.dtype, b.quantization or b.dtype),
            ("parameters", a.parameters, b.parameters),
            ("name", old.name, new.name),
        ),
    )


def _engine(old: Plan, new: Plan) -> Iterator[Change]:
    a, b = old.engine, new.engine
    yield from _differ(
        "engine",
        (
            ("engine", f"{a.name} {a.version}", f"{b.name} {b.version}"),
            ("image", a.image.reference, b.image.reference),
            ("command", " ".join(a.command), " ".join(b.command)),
            ("port", a.port, b.port),
            ("health path", a.health_path, b.health_path),
        ),
    )


def _gpus(old: Plan, new: Plan) -> Iterator[Change]:
    a, b = old.split, new.split
    yield from _differ(
        "gpus",
        (
            ("GPU", old.gpu.name, new.gpu.name),
            ("GPUs of a replica", old.gpu.count, new.gpu.count),
            ("replicas", old.replicas, new.replicas),
            ("tensor parallel", a.tensor, b.tensor),
            ("pipeline parallel", a.pipeline, b.pipeline),
            ("data parallel", a.data, b.data),
            ("expert parallel", a.expert, b.expert),
            ("resource", old.gpu.resource, new.gpu.resource),
        ),
    )


def _load(old: Plan, new: Plan) -> Iterator[Change]:
    a, b = old.memory, new.memory
    yield from _differ(
        "load",
        (
            ("longest request", a.max_model_len, b.max_model_len),
            ("requests sized for", a.concurrency, b.concurrency),
            ("KV cache, tokens", a.kv_tokens, b.kv_tokens),
            ("requests that fit", _tenth(a.max_concurrency), _tenth(b.max_concurrency)),
        ),
    )


def _tenth(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"


def _flags(old: Plan, new: Plan) -> Iterator[Change]:
    """Arguments by their flags; those without one by their place."""
    a, b = _by_flag(old), _by_flag(new)
    for flag in (*a, *(name for name in b if name not in a)):
        before, after = a.get(flag), b.get(flag)
        if (before and before[0]) != (after and after[0]):
            yield Change(
                section="flags",
                what=flag,
                old=None if before is None else before[0],
                new=None if after is None else after[0],
                because=None if after is None else after[1],
            )


def _by_flag(plan: Plan) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    places = 0
    for word in plan.engine.args:
        if word.flag is None:
            places += 1
            found[f"argument {places}"] = (word.value or "", word.because)
        else:
            found[word.flag] = ("on" if word.value is None else word.value, word.because)
    return found


def _environment(old: Plan, new: Plan) -> Iterator[Change]:
    a = {item.name: item.value for item in old.engine.env}
    b = {item.name: (item.value, item.because) for item in new.engine.env}
    for name in (*a, *(name for name in b if name not in a)):
        value, because = b.get(name, (None, None))
        if a.get(name) != value:
            yield Change(section="environment", what=name, old=a.get(name), new=value, because=because)


def _derived(section: Section, old: object, new: object) -> Iterator[Change]:
    """Numbers that were computed, by their fields."""
    for field in fields(new):  # type: ignore[arg-type]
        before, after = getattr(old, field.name), getattr(new, field.name)
        if isinstance(after, Derived) and before.value != after.value:
            size = field.name.endswith(_BYTES)
            yield Change(
                section=section,
                what=field.name.removesuffix("_bytes").removesuffix("_seconds").replace("_", " "),
                old=_number(field.name, before.value, size=size),
                new=_number(field.name, after.value, size=size),
                because=after.because,
            )


def _number(name: str, value: int, *, size: bool) -> str:
    if size:
        return f"{gib(value)} GiB"
    return f"{value:,} s" if name.endswith("_seconds") else f"{value:,}"


def _weights(old: Plan, new: Plan) -> Iterator[Change]:
    a, b = old.weights, new.weights
    yield from _differ(
        "weights",
        (
            ("from", f"{a.kind} {a.location}", f"{b.kind} {b.location}"),
            ("stored", f"{gib(a.stored_bytes.value)} GiB", f"{gib(b.stored_bytes.value)} GiB"),
            ("volume", f"{gib(a.volume_bytes.value)} GiB", f"{gib(b.volume_bytes.value)} GiB"),
        ),
    )


def _licence(old: Plan, new: Plan) -> Iterator[Change]:
    yield from _differ(
        "licence",
        (
            ("licence", old.model.licence, new.model.licence),
            ("permission", old.licence and old.licence.permission, new.licence and new.licence.permission),
            ("use", old.licence and old.licence.use, new.licence and new.licence.use),
        ),
    )


def _memory(old: Plan, new: Plan) -> tuple[MemoryChange, ...]:
    a = {term.name: term.bytes for term in old.memory.terms}
    b = {term.name: term.bytes for term in new.memory.terms}
    names = (*a, *(name for name in b if name not in a))
    return tuple(
        MemoryChange(term=name, old_bytes=a.get(name), new_bytes=b.get(name))
        for name in names
        if a.get(name) != b.get(name)
    )

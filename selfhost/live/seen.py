"""What a frame shows, worked out once per observation: a line per GPU, process, engine and check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from selfhost.health.types import LEVELS, Check, Health, Level
from selfhost.live import rates
from selfhost.observation import (
    EngineSnapshot,
    GpuProcess,
    GpuSnapshot,
    Missing,
    Observation,
)

# Ours: observations that lines and rates are made of: as many as a wide screen has columns for.
PAST = 240
# The check that says what limits an engine; it is `ok` where that is how engines work.
BOUND = "engine-bound"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLine:
    """A GPU with its past and its worst check; `level` is None where nothing was judged."""

    gpu: GpuSnapshot
    past: tuple[GpuSnapshot, ...]
    pcie: rates.Traffic
    nvlink: rates.Traffic
    level: Level | None
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLine:
    """A process and the GPU it was seen on."""

    gpu: GpuSnapshot
    process: GpuProcess

    @property
    def key(self) -> str:
        """What tells it from the others: one process may hold several GPUs."""
        return f"{self.gpu.identity.uuid}/{self.process.mig_instance}/{self.process.pid}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLine:
    """An engine with its rates, the GPUs it holds by index, and what the checks say of it."""

    engine: EngineSnapshot
    past: tuple[EngineSnapshot, ...]
    rates: rates.EngineRates
    gpus: tuple[int, ...] | Missing
    level: Level | None
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> str:
        """One sentence: what is wrong with it, or what binds it; empty where no check said anything."""
        binding = [check for check in self.checks if check.code == BOUND and check.level == "ok"]
        told = self.checks[0] if self.checks and self.checks[0].level in ("critical", "warn") else None
        said = told or next(iter(binding or self.checks), None)
        return said.message.removeprefix(f"{self.engine.name}: ") if said else ""

    @property
    def told(self) -> Level | None:
        """Level of the check that the verdict is from."""
        if self.level in ("critical", "warn"):
            return self.level
        return (
            "ok" if any(check.code == BOUND and check.level == "ok" for check in self.checks) else self.level
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The latest observation with everything that follows from it and its history."""

    observation: Observation
    gpus: tuple[GpuLine, ...]
    processes: tuple[ProcessLine, ...]
    engines: tuple[EngineLine, ...]
    health: Health | None = None


def see(history: Sequence[Observation], health: Health | None = None) -> Seen:
    """Lines of the last observation of a history.

    Args:
        history: oldest first, at least one.
        health: what the checks said; None where they did not run.
    """
    history = history[-PAST:]
    latest = history[-1]
    checks = health.checks if health else ()
    return Seen(
        observation=latest,
        gpus=tuple(_gpu(gpu, history, checks, judged=health is not None) for gpu in latest.node.gpus),
        processes=tuple(
            ProcessLine(gpu=gpu, process=process)
            for gpu in latest.node.gpus
            if not isinstance(gpu.slow.processes, Missing) and gpu.fault is None
            for process in gpu.slow.processes
        ),
        engines=tuple(_engine(engine, history, checks) for engine in latest.engines),
        health=health,
    )


def _gpu(
    gpu: GpuSnapshot, history: Sequence[Observation], checks: Sequence[Check], *, judged: bool
) -> GpuLine:
    past = rates.gpu_history(history, gpu.identity.uuid)
    pcie, nvlink = rates.traffic(past)
    own = tuple(check for check in checks if check.gpu == gpu.identity.index)
    level: Level | None = worst(own) if own else ("ok" if judged else None)
    return GpuLine(
        gpu=gpu,
        past=tuple(past),
        pcie=pcie,
        nvlink=nvlink,
        level="critical" if gpu.fault else level,
        checks=own,
    )


def _engine(engine: EngineSnapshot, history: Sequence[Observation], checks: Sequence[Check]) -> EngineLine:
    past = rates.engine_history(history, engine.url)
    index = {gpu.identity.uuid: gpu.identity.index for gpu in history[-1].node.gpus}
    uuids = engine.gpu_uuids
    own = tuple(sorted(_about(engine, checks), key=lambda check: LEVELS.index(check.level)))
    return EngineLine(
        engine=engine,
        past=tuple(past),
        rates=rates.engine_rates(past),
        gpus=uuids if isinstance(uuids, Missing) else tuple(index[uuid] for uuid in uuids if uuid in index),
        level=worst(own) if own else None,
        checks=own,
    )


def _about(engine: EngineSnapshot, checks: Sequence[Check]) -> list[Check]:
    """Checks of this engine, without those that do not apply to it."""
    return [check for check in checks if check.engine == engine.url and check.level != "skipped"]


def worst(checks: Sequence[Check]) -> Level:
    """The worst level of some checks; skipped ones count for nothing, and without any others all is ok."""
    found = {check.level for check in checks} - {"skipped"}
    return next((level for level in LEVELS if level in found), "ok")

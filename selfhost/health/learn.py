"""A node that is well -> its baseline: what each GPU is, and its power while tokens flowed."""

from __future__ import annotations

from itertools import pairwise

from selfhost.health.baseline import SCHEMA, Baseline, GpuBaseline
from selfhost.health.types import History
from selfhost.observation import GpuSnapshot, Missing, Observation, known, number

# A band from fewer readings would be luck; ours. The band's ends leave out one reading in twenty on each side.
LEAST_SAMPLES = 8
_TAIL = 0.05


def learn(history: History, *, before: Baseline | None = None) -> Baseline:
    """What the node looks like now.

    Args:
        history: observations, oldest first, at least one.
        before: an earlier baseline; its power bands are kept where no tokens flowed this time.

    Returns:
        The baseline. A GPU's power band rests on readings between two observations in which an engine on that GPU made
        tokens, at least eight of them; without those it is None.
    """
    last = history[-1]
    watts = busy_watts(history)
    return Baseline(
        schema=SCHEMA,
        host=last.node.host,
        learnt_at=last.at,
        driver=number(last.node.driver_version),
        gpus=tuple(
            _gpu(gpu, watts.get(gpu.identity.uuid, []), before.gpu(gpu.identity.uuid) if before else None)
            for gpu in last.node.gpus
            if gpu.fault is None
        ),
    )


def busy_watts(history: History) -> dict[str, list[float]]:
    """Power of each GPU, by UUID, in the observations at whose end its engine had made tokens since the one before."""
    found: dict[str, list[float]] = {}
    seen: set[tuple[str, float]] = set()
    for earlier, later in pairwise(history):
        working = _working(earlier, later)
        for gpu in later.node.gpus:
            uuid, watts, at = gpu.identity.uuid, gpu.fast.power_watts, gpu.fast_at
            if (
                uuid in working
                and gpu.fault is None
                and at is not None
                and known(watts)
                and (uuid, at) not in seen
            ):
                seen.add((uuid, at))
                found.setdefault(uuid, []).append(watts)
    return found


def _working(earlier: Observation, later: Observation) -> set[str]:
    """GPUs whose engine made tokens between two observations."""
    before = {engine.url: number(engine.generation_tokens) for engine in earlier.engines}
    found: set[str] = set()
    for engine in later.engines:
        tokens, then, uuids = number(engine.generation_tokens), before.get(engine.url), engine.gpu_uuids
        if tokens is not None and then is not None and tokens > then and not isinstance(uuids, Missing):
            found.update(uuids)
    return found


def _gpu(gpu: GpuSnapshot, watts: list[float], before: GpuBaseline | None) -> GpuBaseline:
    identity, slow = gpu.identity, gpu.slow
    links = slow.nvlinks
    active = None
    if not isinstance(links, Missing) and any(known(link.active) for link in links):
        active = sum(number(link.active) is True for link in links)
    low, high, samples = _band(watts)
    if low is None and before is not None and before.busy_low_watts is not None:
        low, high, samples = before.busy_low_watts, before.busy_high_watts, before.busy_samples
    empty = not isinstance(slow.processes, Missing) and not slow.processes
    return GpuBaseline(
        uuid=identity.uuid,
        index=identity.index,
        name=identity.name,
        pci_address=identity.pci_address,
        pcie_generation=number(identity.pcie_max_generation),
        pcie_width=number(identity.pcie_max_width),
        nvlinks_active=active,
        ecc_enabled=number(slow.ecc_enabled),
        mig_enabled=number(slow.mig_enabled),
        busy_low_watts=low,
        busy_high_watts=high,
        busy_samples=samples,
        idle_memory_bytes=number(gpu.fast.memory_used_bytes)
        if empty
        else (before.idle_memory_bytes if before else None),
    )


def _band(watts: list[float]) -> tuple[float | None, float | None, int]:
    if len(watts) < LEAST_SAMPLES:
        return None, None, 0
    ordered = sorted(watts)
    cut = int(len(ordered) * _TAIL)
    return round(ordered[cut], 1), round(ordered[-1 - cut], 1), len(ordered)

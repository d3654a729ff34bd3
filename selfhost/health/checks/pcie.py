"""The PCIe link: as wide and as fast under load as device and slot allow, and without many replays."""

from __future__ import annotations

import math

from selfhost.health.checks._family import Finding, Trail, busy, family, grown, unanswered
from selfhost.health.types import Check, Context, History
from selfhost.observation import Missing, SlowReadings, known, number

_LINK = (
    "nvmlDeviceGetMaxPcieLinkGeneration and Width: the most that device and slot do together (nvml.h r615); "
    "three polls: ours (2026-11-21)"
)
_REPLAYS = "DCGM 4.6.0: replays a minute and lane by generation (read 2026-11-21)"

POLLS = 3
# nvmlClocksEventReasonGpuIdle.
GPU_IDLE = 0x1
# Replays a minute and lane that DCGM lets pass, PCIe 1 to 6.
REPLAY_RATES = {1: 0.15, 2: 0.3, 3: 0.48, 4: 0.96, 5: 1.92, 6: 3.84}


def _loaded(trail: Trail) -> bool:
    """Links rest at a lower speed while there is nothing to do, so only a GPU at work is judged.

    P0 alone is no work: data-centre boards stay in it, and then say with the clocks' idle bit that they rest.
    """
    resting = (number(trail.gpu.fast.clock_reasons) or 0) & GPU_IDLE
    return busy(trail) or (number(trail.gpu.slow.performance_state) == 0 and not resting)


def _most(own: int | None, learnt: int | None) -> int | None:
    return max((value for value in (own, learnt) if value is not None), default=None)


def _link(trail: Trail, context: Context) -> list[Finding] | Finding | None:
    slow, identity = trail.gpu.slow, trail.identity
    for reading in (slow.pcie_width, slow.pcie_generation):
        if isinstance(reading, Missing):
            return unanswered(reading, "PCIe link", trail)
    learnt = trail.baseline
    width = _most(number(identity.pcie_max_width), learnt.pcie_width if learnt else None)
    generation = _most(number(identity.pcie_max_generation), learnt.pcie_generation if learnt else None)
    if width is None and generation is None:
        return Finding(level="skipped", message="what the PCIe link could do is not known")
    now_width, now_generation = number(slow.pcie_width), number(slow.pcie_generation)
    assert now_width is not None
    assert now_generation is not None
    evidence = f"PCIe {now_generation} x{now_width}, could be PCIe {generation or '?'} x{width or '?'}"
    narrow = width is not None and now_width < width
    slowed = generation is not None and now_generation < generation
    if not narrow and not slowed:
        return None
    if not _loaded(trail):
        return Finding(level="skipped", message="the PCIe link rests while there is no load")
    return [
        *(_narrow(trail, now_width, width, evidence) if narrow else ()),
        *(_slow(trail, generation, evidence) if slowed and generation is not None else ()),
    ]


def _narrow(trail: Trail, now: int, most: int | None, evidence: str) -> list[Finding]:
    return [
        Finding(
            level="warn",
            message=f"{trail.gpu.label}: its PCIe link has {now} of {most} lanes: reseat the board at the next window",
            evidence=evidence,
            action="inspect_hardware",
        )
    ]


def _slow(trail: Trail, most: int, evidence: str) -> list[Finding]:
    polls = 0
    for _, slow in reversed(trail.slow):
        if not known(slow.pcie_generation) or slow.pcie_generation >= most:
            break
        polls += 1
    sentence = f"{trail.gpu.label}: its PCIe link runs below its generation under load"
    evidence += f", {polls} polls"
    if polls >= POLLS:
        message = f"{sentence}: loading and traffic between GPUs are slow"
        return [
            Finding(level="critical", message=message, evidence=evidence, action="inspect_hardware")
        ]  # fmt: skip
    return [
        Finding(
            level="unknown",
            message=f"{sentence}, in {polls} of {POLLS} polls so far",
            evidence=evidence,
            wants_history=True,
        )
    ]


def _replays(trail: Trail, context: Context) -> Finding | None:
    latest = trail.gpu.slow.pcie_replays
    if isinstance(latest, Missing):
        return unanswered(latest, "PCIe replay counter", trail)
    if latest == 0:
        return None
    allowed = _allowed(trail.gpu.slow, trail)
    growth = grown([(at, slow.pcie_replays) for at, slow in trail.slow])
    if growth is None:
        return Finding(
            level="skipped",
            message="whether PCIe replays go on needs two readings",
            wants_history=latest > allowed,
        )
    minutes = max(growth[1] / 60, 1.0)  # in a shorter time, no more than a minute's worth
    if growth[0] <= allowed * minutes:
        return None
    return Finding(
        level="warn",
        message=f"{trail.gpu.label}: its PCIe link repeats many packets: reseat the board at the next window",
        evidence=f"{growth[0]:.0f} replays in {growth[1]:.0f} s, {allowed} a minute allowed; {latest} since boot",
        action="inspect_hardware",
    )


def _allowed(slow: SlowReadings, trail: Trail) -> int:
    """Replays a minute that pass; the strictest generation where the link's own is not known."""
    generation = number(slow.pcie_generation) or number(trail.identity.pcie_max_generation) or 1
    lanes = number(slow.pcie_width) or number(trail.identity.pcie_max_width) or 16
    return math.ceil(REPLAY_RATES[min(max(generation, 1), 6)] * lanes)


def pcie(history: History, context: Context) -> list[Check]:
    """Link and replays."""
    return [
        *family(
            history,
            context,
            code="pcie-link",
            source=_LINK,
            well="PCIe links as wide and fast as they can be",
            rule=_link,
        ),
        *family(
            history, context, code="pcie-replays", source=_REPLAYS, well="few PCIe replays", rule=_replays
        ),
    ]


CHECKS = (pcie,)

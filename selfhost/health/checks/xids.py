"""Xid errors since the boot, from NVML's events and the kernel log: what they say of each GPU, and what to do."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

from selfhost.catalog.xids import NVLINK5, SOURCE, Xid, nvlink_detail, xid
from selfhost.health.checks._incidents import Incident, Occurrence, incidents, occurrences
from selfhost.health.types import Action, Check, Context, History, Level
from selfhost.observation import GpuSnapshot, KernelEvent, Missing, NodeSnapshot, known, number

_LOG = "/dev/kmsg, or the file that was named (selfhost/node/kernellog.py)"
_SWITCH = "severity that the line itself names (NVIDIA Fabric Manager user guide, SXid); ours"
_REPEATED = "NVSentinel: 5 fatal Xids in 24 h on one GPU go to support (read 2026-11-21)"

LEVELS_OF: dict[str, Level] = {
    "info": "ok", "app": "warn", "watch": "warn", "reset": "critical", "reboot": "critical", "support": "critical",
}  # fmt: skip
DAY = 86_400.0
FATAL_A_DAY = 5
# 31 and 13: an application's fault, unless one GPU alone has it again and again (NVSentinel: twice in 24 h).
_SUSPECT = {13: 2, 31: 2}
# Xid 154: the recovery action changed; NVML field 230 says to what.
RECOVERY = 154
# A GPU tells of so many different causes at most; the worst come first.
_MOST_CAUSES = 6


def xid_history(history: History, context: Context) -> list[Check]:
    """One check for each GPU and cause; one for the node where there is none."""
    node = history[-1].node
    found = occurrences(node)
    checks: list[Check] = []
    for gpu, events in found.items():
        snapshot = next((one for one in node.gpus if one.identity.index == gpu), None)
        mine = incidents(events)
        checks += _of_gpu(mine, snapshot, gpu, history, context, _spread(found))
    return checks or [_none(node)]


def _spread(found: dict[int | None, list[Occurrence]]) -> Counter[int]:
    """On how many GPUs each code was seen."""
    return Counter(code for events in found.values() for code in {event.code for event in events})


def _none(node: NodeSnapshot) -> Check:
    log, deaf = node.kernel_log, node.nvml.deaf
    if deaf is not None and not known(log):
        return Check(
            code="gpu-xid",
            level="skipped" if deaf.absent else "unknown",
            message=f"Xids can be seen neither in NVML's events nor in a kernel log: {deaf.missing}",
            evidence=f"kernel log: {log.missing}" if isinstance(log, Missing) else "",
            source=SOURCE,
        )
    message = (
        "no Xid since the boot"
        if known(log)
        else "no Xid since NVML is listened to; without a kernel log no earlier one"
    )
    return Check(code="gpu-xid", level="ok", message=message, source=SOURCE)


def _of_gpu(
    found: list[Incident],
    snapshot: GpuSnapshot | None,
    gpu: int | None,
    history: History,
    context: Context,
    spread: Counter[int],
) -> list[Check]:
    causes: dict[int, list[Incident]] = {}
    for incident in found:
        causes.setdefault(incident.root.code, []).append(incident)
    checks = [
        _cause(xid(code), mine, snapshot, gpu, history, context, spread) for code, mine in causes.items()
    ]
    checks.sort(key=lambda check: ("critical", "warn", "unknown", "ok", "skipped").index(check.level))
    checks = checks[:_MOST_CAUSES]
    fatal = [
        incident
        for incident in found
        if LEVELS_OF[xid(incident.root.code).severity] == "critical" and incident.root.at > context.now - DAY
    ]
    if len(fatal) >= FATAL_A_DAY:
        checks.append(
            Check(
                code="gpu-xid-repeated",
                level="critical",
                gpu=gpu,
                message=f"{_who(snapshot, gpu, None)}: {len(fatal)} fatal Xids in 24 hours: resets do not help",
                evidence=", ".join(
                    f"Xid {incident.root.code} at {_clock(incident.root.at)}" for incident in fatal[:8]
                ),
                action="inspect_hardware",
                source=_REPEATED,
            )
        )
    return checks


def _cause(
    row: Xid,
    mine: list[Incident],
    snapshot: GpuSnapshot | None,
    gpu: int | None,
    history: History,
    context: Context,
    spread: Counter[int],
) -> Check:
    """All incidents of one GPU that began with one code."""
    last = max(mine, key=lambda incident: incident.root.at)
    level = LEVELS_OF[row.severity]
    action: Action = row.action
    sentence, action, level = _sentence(row, last, snapshot, history, action, level)
    times = sum(incident.count(row.code) for incident in mine)
    since: list[str] = []
    if (
        row.code in _SUSPECT
        and times >= _SUSPECT[row.code]
        and _recent(mine, context.now) >= _SUSPECT[row.code]
    ):
        if spread[row.code] > 1:
            action = "check_application"
            since.append(f"also on {spread[row.code] - 1} more GPUs, so it is the application")
        else:
            action = "inspect_hardware"
            since.append(f"{times} times on this GPU alone: have a look at the board too")
    if row.severity == "reset" and level == "critical":
        reason = _reset_since(history, snapshot, last.root.at)
        if reason is not None:
            level, action = "warn", "none"
            since.append(reason)
        elif snapshot is not None and number(snapshot.fast.recovery_action) == 0:
            since.append(
                "the driver asks for nothing now (field 230 is 0); a reboot, or a suppression, ends this"
            )
    return Check(
        code="gpu-xid",
        level=level,
        gpu=gpu,
        message=f"{_who(snapshot, gpu, last.root)}: {sentence} (Xid {row.code}, {_clock(last.root.at)})",
        evidence="; ".join([_told(row, mine, times), *since]),
        action=action,
        source=SOURCE,
    )


def _recent(mine: list[Incident], now: float) -> int:
    return sum(
        event.at > now - DAY
        for incident in mine
        for event in incident.events
        if event.code == incident.root.code
    )


def _sentence(
    row: Xid, last: Incident, snapshot: GpuSnapshot | None, history: History, action: Action, level: Level
) -> tuple[str, Action, Level]:
    """What is said of a cause; its action and level where the code alone does not decide them."""
    if not row.recognised:
        return f"unrecognised Xid: {row.meaning}", action, level
    if row.code in NVLINK5:
        return _nvlink5(row, last, snapshot)
    if row.code == RECOVERY and _untold(last, snapshot):
        return f"{row.meaning}, and field 230 does not say to what: see nvidia-smi -q", action, "unknown"
    meaning = "fell off the bus" if row.code == 79 else row.meaning
    if row.severity == "app":
        return f"{meaning}: the GPU is well, restart {_whose(last, snapshot, history)}", action, level
    if row.code == 63:
        return f"{meaning}: plan a window for a reset, serving goes on", action, level
    return meaning, action, level


def _untold(last: Incident, snapshot: GpuSnapshot | None) -> bool:
    """Whether neither the board nor the kernel log's line says what the recovery action is now."""
    if snapshot is None or snapshot.fault is not None or last.root.detail:
        return False
    return isinstance(snapshot.fast.recovery_action, Missing)


def _nvlink5(row: Xid, last: Incident, snapshot: GpuSnapshot | None) -> tuple[str, Action, Level]:
    """NVLink 5: without NVIDIA's table the driver's own wish decides, then the line's word, then caution."""
    detail = nvlink_detail(last.root.detail)
    sub = "" if detail.sub_code is None else f" sub-code {detail.sub_code}"
    wish = number(snapshot.fast.recovery_action) if snapshot is not None else None
    said = {None: "", True: ", which the line calls fatal", False: ", which the line calls not fatal"}[
        detail.fatal
    ]
    sentence = f"{row.meaning}{sub}{said}; decode needed"
    if detail.fatal is False or (wish == 0 and detail.fatal is None and last.root.detail):
        return f"{sentence}, nothing is asked for", "inspect_hardware", "warn"
    return sentence, "reset_gpu", "critical"


def _whose(last: Incident, snapshot: GpuSnapshot | None, history: History) -> str:
    """The engine, pod or process that has to be restarted, as far as it is known."""
    pids = {event.pid for event in last.events if event.pid is not None}
    for engine in history[-1].engines:
        if pids & set(engine.pids):
            return f"engine {engine.name}"
    processes = (
        () if snapshot is None or isinstance(snapshot.slow.processes, Missing) else snapshot.slow.processes
    )
    for process in processes:
        if process.pid in pids:
            return (
                f"pod {process.namespace}/{process.pod}"
                if process.pod
                else f"{process.name or 'pid'} {process.pid}"
            )
    if snapshot is not None and not pids:
        here = [
            e.name
            for e in history[-1].engines
            if known(e.gpu_uuids) and snapshot.identity.uuid in e.gpu_uuids
        ]
        if len(here) == 1:
            return f"engine {here[0]}"
    named = next((event for event in last.events if event.pid is not None), None)
    return f"{named.process or 'process'} {named.pid}" if named is not None else "the engine on it"


def _reset_since(history: History, snapshot: GpuSnapshot | None, at: float) -> str | None:
    """Evidence that the GPU was reset after an Xid. That field 230 is 0 now is none: it may never have been set."""
    if (
        snapshot is None
        or snapshot.fault is not None
        or number(snapshot.fast.recovery_action) not in (0, None)
    ):
        return None
    seen = [
        gpu.fast
        for observation in history
        for gpu in observation.node.gpus
        if gpu.identity.uuid == snapshot.identity.uuid and gpu.fast_at is not None and gpu.fast_at > at
    ]
    if number(snapshot.fast.recovery_action) == 0 and any(
        (number(fast.recovery_action) or 0) > 0 for fast in seen
    ):
        return "since then the driver asked for a recovery, and does not any more: it was reset"
    joules = [fast.energy_joules for fast in seen if known(fast.energy_joules)]
    if any(later < earlier for earlier, later in pairwise(joules)):
        return "since then its energy counter began anew: it was reset"
    return None


def _told(row: Xid, mine: list[Incident], times: int) -> str:
    """Counts, times, echoes and sources, for the evidence."""
    first = min(incident.root.at for incident in mine)
    text = f"Xid {row.code}" + (f" {row.mnemonic}" if row.mnemonic else "")
    text += f", {times} times since {_clock(first)}" if times > 1 else ""
    echoes = sorted({event.code for incident in mine for event in incident.events} - {row.code})
    if echoes:
        text += f"; with it Xid {', '.join(map(str, echoes))}"
    text += (
        f"; seen in {' and '.join(sorted({event.seen_by for incident in mine for event in incident.events}))}"
    )
    if row.immediate:
        text += f"; NVIDIA: {row.immediate}" + (f", then {row.later}" if row.later else "")
    return text


def _who(snapshot: GpuSnapshot | None, gpu: int | None, root: Occurrence | None) -> str:
    if snapshot is not None:
        return snapshot.label
    if gpu is not None:
        return f"gpu {gpu}"
    return f"a GPU that is not seen now ({root.where})" if root is not None and root.where else "a GPU"


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def kernel_log(history: History, context: Context) -> list[Check]:
    """Whether there is a kernel log: without one, Xids from before this process are not known."""
    log = history[-1].node.kernel_log
    if isinstance(log, Missing):
        return [Check(code="kernel-log", level="skipped", message=log.missing, source=_LOG)]
    return [
        Check(
            code="kernel-log",
            level="ok",
            message="the kernel log was read",
            evidence=f"{len(log)} lines about Xids or SXids",
            source=_LOG,
        )
    ]


def nvswitch(history: History, context: Context) -> list[Check]:
    """SXids: what NVSwitches report."""
    node = history[-1].node
    if isinstance(node.kernel_log, Missing):
        return [Check(code="nvswitch-sxid", level="skipped", message="no kernel log", source=_SWITCH)]
    events = [event for event in node.kernel_log if event.kind == "sxid" and _this_boot(event, node)]
    if not events:
        message = "no NVSwitch error since the boot"
        return [Check(code="nvswitch-sxid", level="ok", message=message, source=_SWITCH)]
    checks = []
    for address in sorted({event.pci_address for event in events}):
        mine = [event for event in events if event.pci_address == address]
        fatal = [event for event in mine if nvlink_detail(event.detail).fatal is True]
        last = (fatal or mine)[-1]
        what = f"{'fatal' if fatal else 'not fatal'} error (SXid {last.code}, {_clock(last.at)})"
        checks.append(
            Check(
                code="nvswitch-sxid",
                level="critical" if fatal else "warn",
                message=f"NVSwitch {address}: {what}",
                evidence=f"{len(mine)} SXids, {len(fatal)} fatal; last: {last.detail[:120]}",
                action="reboot_node" if fatal else "inspect_hardware",
                source=_SWITCH,
            )
        )
    return checks


def _this_boot(event: KernelEvent, node: NodeSnapshot) -> bool:
    return node.booted_at is None or event.at >= node.booted_at - 1


CHECKS = (xid_history, kernel_log, nvswitch)

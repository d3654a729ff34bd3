"""Why an engine of this machine ended: from its exit and its own log."""

from __future__ import annotations

import re
import signal
from dataclasses import replace
from pathlib import Path

from selfhost.cluster.types import Object
from selfhost.cluster.values import printable
from selfhost.deploy.types import INSTANCE_LABEL, MANAGED_BY, MANAGED_LABEL, Cause, LogRef, Snapshot
from selfhost.hush import hushed
from selfhost.local.types import Ended
from selfhost.plan import Plan

_TAIL_BYTES = 256 * 1024
# Python's last line of a traceback: the exception's name and what it says.
_RAISED = re.compile(r"(?:^|\s)([A-Za-z_.]*(?:Error|Exception|Interrupt|Exit)): (.+)$")
# Causes of this rank and above rest on what an engine says (selfhost/deploy/causes/, its modules' RANK).
_OF_LOGS = 500
_CLUSTER = re.compile(r"\b(?:pods?|nodes?|kubectl|Kubernetes|container|Job)\b")
_DEPLOY = re.compile(r"selfhost deploy PLAN --set ([\w-]+)=(\S+)")
_PREFIX = re.compile(r"^\((?:EngineCore|APIServer|Worker)[^)]*\)\s*")
# What ends others for want of memory is the kernel: SIGKILL that nobody here sent.
_KILLED = signal.SIGKILL


def tail(log: Path, *, most_bytes: int = _TAIL_BYTES) -> tuple[str, ...]:
    """The last lines of a log; nothing where it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - most_bytes))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ()
    return tuple(text.splitlines())


def blame(ended: Ended | None, lines: tuple[str, ...], plan: Plan, name: str) -> Cause:
    """The cause in one sentence, most telling first: what its log says, else how it ended.

    Args:
        ended: None where nobody saw its end.
        lines: the end of its log.
        plan: what it was started by.
        name: of the deployment.
    """
    if ended is not None and ended.words:
        return Cause(
            code="not-started",
            sentence=f"{ended.words[:1].upper()}{ended.words[1:]}.",
            hint="`selfhost up` looks for the engine again",
            final=True,
        )
    known = _known(ended, lines, plan, name)
    if known is not None:
        return known
    log_hint = f"selfhost logs {name} --local shows the whole log"
    raised = _raised(lines)
    if raised is not None:
        return Cause(
            code="engine-error",
            sentence=f"The engine ended by itself: {raised.rstrip('.')}.",
            evidence=(raised,),
            hint=log_hint,
            final=True,
        )
    if ended is not None and ended.signal == _KILLED:
        return Cause(
            code="killed",
            sentence="The engine was killed (SIGKILL): by the kernel for want of main memory, or by somebody.",
            hint="`dmesg` tells which; ask for less with --context, --concurrency or --kv-cache-memory",
            final=True,
        )
    return Cause(code="engine-exit", sentence=_exit(ended), evidence=_last(lines), hint=log_hint, final=True)


def _known(ended: Ended | None, lines: tuple[str, ...], plan: Plan, name: str) -> Cause | None:
    """What the explanations of a cluster find in the same lines; what they say of pods and nodes is left out."""
    from selfhost.deploy.causes import SYMPTOM, explain, known

    code = 0 if ended is None else ended.code if ended.code is not None else 128 + (ended.signal or 0)
    state = {"terminated": {"exitCode": code, "reason": "Error"}}
    pod: Object = {
        "metadata": {"name": name, "labels": {INSTANCE_LABEL: name, MANAGED_LABEL: MANAGED_BY}},
        "spec": {"containers": [{"name": "server"}]},
        "status": {"phase": "Failed", "containerStatuses": [{"name": "server", "state": state}]},
    }
    logs = {LogRef(pod=name, container="server"): "\n".join(lines)}
    snapshot = Snapshot(name=name, namespace="", now=0.0, plan=plan, pods=(pod,), logs=logs)
    ranks = {one.code: one.rank for one in known()}
    for cause in explain(snapshot):
        if (
            cause.evidence
            and _OF_LOGS <= ranks.get(cause.code, 0) < SYMPTOM
            and not _CLUSTER.search(cause.sentence)
        ):
            hint = _DEPLOY.sub(r"the same command with --\1 \2", cause.hint)
            return replace(cause, hint="" if _CLUSTER.search(hint) else hint, pod="", node="", final=True)
    return None


def _raised(lines: tuple[str, ...]) -> str | None:
    """What was raised first of the last traceback's chain: what came after it only says that something had."""
    found = None
    for line in lines:
        match = _RAISED.search(_PREFIX.sub("", line))
        if match and "See root cause above" not in line and "initialization failed" not in line:
            found = f"{match[1].rpartition('.')[2]}: {match[2]}"
    return None if found is None else printable(hushed(found))


def _exit(ended: Ended | None) -> str:
    if ended is None:
        return (
            "The engine and its watcher are gone, and nobody saw why: killed, or the machine was restarted."
        )
    if ended.signal is not None:
        try:
            called = signal.Signals(ended.signal).name
        except ValueError:
            called = f"signal {ended.signal}"
        return f"The engine was ended by {called}."
    return f"The engine ended by itself with status {ended.code}, and its log does not say why."


def _last(lines: tuple[str, ...], count: int = 3) -> tuple[str, ...]:
    return tuple(printable(hushed(line)) for line in lines if line.strip())[-count:]

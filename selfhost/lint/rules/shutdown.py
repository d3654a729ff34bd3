"""The end of a pod: preStop, the engine's drain, and the grace period that must hold both."""

from __future__ import annotations

import re
from collections.abc import Iterator

from selfhost.lint.edits import set_key
from selfhost.lint.model import Container, Engine, Lot
from selfhost.lint.nodes import number_of, text_of
from selfhost.lint.types import Found, Rule

GRACE_DEFAULT_SECONDS = 30  # core/v1 PodSpec, Kubernetes 1.37
TGI_DRAIN_SECONDS = 90  # TGI 3.3.7 launcher/src/main.rs, GRACEFUL_TERMINATION_TIMEOUT
_BUFFER_SECONDS = 15  # to stop processes and free GPUs: llm-d's graceful-shutdown component
_SLEEP = re.compile(r"\bsleep\s+(\d{1,5})\b")


def pre_stop_seconds(container: Container) -> int | None:
    """How long preStop sleeps; 0 without one, None where it does something else."""
    hook = container.body.at("lifecycle", "preStop")
    if not hook:
        return 0
    if "sleep" in hook:
        return hook.map("sleep").number("seconds")
    words = " ".join(text_of(word) or "" for word in hook.map("exec").seq("command"))
    found = _SLEEP.search(words)
    return int(found[1]) if found else None


def drain_seconds(container: Container, engine: Engine) -> int | None:
    """How long the engine may go on after SIGTERM; None where that cannot be known."""
    if engine.name == "vllm":
        flag = engine.flag("shutdown-timeout")
        if flag is None:
            return 0
        return number_of(flag.value.partition(".")[0]) if flag.value else None
    if engine.name == "tgi":
        flag, variable = (
            engine.flag("graceful-termination-timeout"),
            container.variable("GRACEFUL_TERMINATION_TIMEOUT"),
        )
        given = flag.value if flag else variable.value if variable else str(TGI_DRAIN_SECONDS)
        return number_of(given) if given is not None else None
    return 0


def _grace(lot: Lot) -> Iterator[Found]:
    for pod, container, engine in lot.engines():
        if pod.role == "job" or ("terminationGracePeriodSeconds" in pod.spec and pod.grace_seconds is None):
            continue
        before, drain = pre_stop_seconds(container), drain_seconds(container, engine)
        if before is None or drain is None or before + drain == 0 or pod.managed:
            continue
        grace = GRACE_DEFAULT_SECONDS if pod.grace_seconds is None else pod.grace_seconds
        if grace > before + drain or (drain == 0 and grace == before):
            continue
        parts = [f"{before} s preStop"] * (before > 0) + [f"{drain} s drain"] * (drain > 0)
        given = "the default 30 s" if pod.grace_seconds is None else f"{grace} s"
        yield Found(
            where=pod.at(pod.spec.line("terminationGracePeriodSeconds"), "terminationGracePeriodSeconds"),
            message=f"grace period of {given} for {' + '.join(parts)}: requests are cut off",
            fix=f"set terminationGracePeriodSeconds: {before + drain + _BUFFER_SECONDS}",
            edits=set_key(pod.spec, "terminationGracePeriodSeconds", str(before + drain + _BUFFER_SECONDS)),
        )


def _no_pre_stop(lot: Lot) -> Iterator[Found]:
    for pod, container, _ in lot.engines():
        if pod.role not in ("server", "leader") or pod.managed or pod.owner.kind == "Pod":
            continue
        if not container.body.at("lifecycle", "preStop"):
            yield Found(
                where=container.where,
                message="no preStop: SIGTERM comes while gateways still send requests",
            )


RULES = (
    Rule(
        code="SH033",
        title="Grace period below the drain",
        severity="warning",
        reason="When terminationGracePeriodSeconds is over the kubelet kills the engine, and every "
        "request that still runs with "
        "it; preStop counts in.",
        fix="Set terminationGracePeriodSeconds to preStop plus drain plus some seconds.",
        sources=(
            "https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination, 2026-11-21",
            (
                "TGI 3.3.7 launcher/src/main.rs (90 s); vLLM 0.32 --shutdown-timeout; llm-d "
                "graceful-shutdown, read 2026-11-21"
            ),
        ),
        check=_grace,
        fixable=True,
    ),
    Rule(
        code="SH034",
        title="No preStop",
        severity="warning",
        reason="Endpoints and gateways forget a pod some seconds after it is told to stop; what they "
        "send meanwhile fails.",
        fix='Add `lifecycle: {preStop: {sleep: {seconds: 15}}}` (Kubernetes 1.30 on; before, `exec: [sleep, "15"]`).',
        sources=(
            "llm-d graceful-shutdown component; vllm-project/vllm#24885, kserve/kserve#5485, 2026-11-21",
        ),
        check=_no_pre_stop,
    ),
)

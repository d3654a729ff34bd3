"""Probes against the time an engine takes to load, and against the paths it answers on."""

from __future__ import annotations

from collections.abc import Iterator

from selfhost.lint.edits import replace_value, set_key
from selfhost.lint.model import Container, Engine, Lot, Pod, Probe
from selfhost.lint.nodes import number_of
from selfhost.lint.sizes import shown, weight_bytes
from selfhost.lint.types import Edit, Found, Rule, Where
from selfhost.units import GIB

_PROBES = "https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/, 2026-11-21"
_READY = "vLLM 0.32 envs.py, VLLM_ENGINE_READY_TIMEOUT_S, read 2026-11-21"
READY_DEFAULT_SECONDS = 600
_READY_SINCE = (0, 11, 1)  # vllm PR #27444
PROGRESS_DEFAULT_SECONDS = 600  # apps/v1 Deployment, Kubernetes 1.37
# Ours. A start that hardly any machine beats, weights from a fast local disk (error below it); and one that a network
# disk and a cold cache of compiled kernels need (warning below it). KAITO gives 15 minutes and 18 s a GiB.
_LEAST_SECONDS, _LEAST_SECONDS_PER_GIB = 30, 0.5
_USUAL_SECONDS, _USUAL_SECONDS_PER_GIB = 120, 5
_GUARDED = {
    "vllm": ("/v1", "/v2", "/inference", "/cohere"),
    "sglang": ("/v1", "/generate", "/get_", "/server_info"),
}


def least_seconds(size: int | None) -> int:
    """Seconds of a start that hardly any machine beats."""
    return int(_LEAST_SECONDS + _LEAST_SECONDS_PER_GIB * (size or 0) / GIB)


def usual_seconds(size: int | None) -> int:
    """Seconds that a start may well take."""
    return int(_USUAL_SECONDS + _USUAL_SECONDS_PER_GIB * (size or 0) / GIB)


def _gate(container: Container) -> Probe | None:
    """The probe that kills a container which does not come up."""
    return container.probe("startup") or container.probe("liveness")


def _budget(lot: Lot) -> Iterator[Found]:
    for _, container, engine in lot.engines():
        probe = _gate(container)
        if probe is None or probe.action in ("exec", "none") or engine.name in ("ollama", "triton"):
            continue  # Ollama is up before it loads; what Triton loads stands in its repository
        size, budget = weight_bytes(engine), probe.budget_seconds
        usual = usual_seconds(size)
        if budget >= usual:
            continue
        weights = f"about {shown(size)} of weights" if size is not None else "an engine's start"
        yield Found(
            where=probe.where,
            message=f"{probe.kind} probe gives up after {budget} s; {weights} may take {usual} s",
            fix=f"add a startupProbe with periodSeconds: 10 and failureThreshold: {-(-max(usual * 2, 600) // 10)}",
            severity="error" if budget < least_seconds(size) else None,
        )


def _engine_limit(container: Container) -> tuple[int | None, Where]:
    variable = container.variable("VLLM_ENGINE_READY_TIMEOUT_S")
    if variable is None:
        return (None if container.env_from else READY_DEFAULT_SECONDS), container.where
    return number_of(variable.value or ""), variable.where


def _ready_limit(lot: Lot) -> Iterator[Found]:
    for pod, container, engine in lot.engines():
        probe = _gate(container)
        if (
            engine.name != "vllm"
            or probe is None
            or (engine.release is not None and engine.release < _READY_SINCE)
        ):
            continue
        if pod.managed and container.variable("VLLM_ENGINE_READY_TIMEOUT_S") is None:
            continue
        limit, where = _engine_limit(container)
        budget = probe.budget_seconds
        if limit is None or budget <= limit + 60:
            continue
        size = weight_bytes(engine)
        quick = size is not None and usual_seconds(size) * 2 <= limit
        variable = container.variable("VLLM_ENGINE_READY_TIMEOUT_S")
        edits: tuple[Edit, ...] = ()
        if variable is not None:
            edits = replace_value(variable.body.values_at.get("value"), f'"{budget}"')
        yield Found(
            where=where,
            message=f"vLLM gives up on its start after {limit} s although the {probe.kind} probe waits {budget} s",
            fix=f'set VLLM_ENGINE_READY_TIMEOUT_S: "{budget}"',
            edits=edits,
            severity="note" if quick else None,
        )


def _progress(lot: Lot) -> Iterator[Found]:
    for pod, container, engine in lot.engines():
        probe = _gate(container)
        if pod.owner.kind != "Deployment" or probe is None:
            continue
        spec = pod.owner.body.map("spec")
        given = spec.number("progressDeadlineSeconds")
        if "progressDeadlineSeconds" in spec and given is None:
            continue
        deadline, budget = given if given is not None else PROGRESS_DEFAULT_SECONDS, probe.budget_seconds
        if budget <= deadline + 60:
            continue
        size = weight_bytes(engine)
        quick = size is not None and usual_seconds(size) * 2 <= deadline
        yield Found(
            where=pod.owner.at(spec.line("progressDeadlineSeconds"), "spec.progressDeadlineSeconds"),
            message=f"the Deployment is called failed after {deadline} s although the {probe.kind} probe "
            f"waits {budget} s",
            fix=f"set progressDeadlineSeconds: {budget + 600}",
            edits=set_key(spec, "progressDeadlineSeconds", str(budget + 600)),
            severity="note" if quick else None,
        )


def _key_given(container: Container, engine: Engine) -> bool:
    variable = container.variable("VLLM_API_KEY") if engine.name == "vllm" else None
    return engine.flag("api-key", "admin-api-key") is not None or (
        variable is not None and variable.value != ""
    )


def _needs_key(lot: Lot) -> Iterator[Found]:
    for _, container, engine in lot.engines():
        if engine.name not in _GUARDED or not _key_given(container, engine):
            continue
        for probe in container.probes:
            if probe.action != "http" or not (probe.path or "").startswith(_GUARDED[engine.name]):
                continue
            if "authorization" in probe.headers:
                continue
            yield Found(
                where=probe.where,
                message=f"{probe.kind} probe asks {probe.path}, which answers 401 without the API key",
                fix="probe /health",
                edits=replace_value(probe.body.map("httpGet").values_at.get("path"), "/health"),
            )


def _hasty(lot: Lot) -> Iterator[Found]:
    for _, container, _ in lot.engines():
        probe = container.probe("liveness")
        if probe is None:
            continue
        slow = probe.action in ("http", "exec", "grpc") and probe.timeout_seconds <= 1
        if slow:
            default = "" if "timeoutSeconds" in probe.body else " (the default)"
            yield Found(
                where=probe.where,
                message=f"liveness probe gives a busy engine {probe.timeout_seconds} s{default} to answer",
                fix="set timeoutSeconds: 5 or more",
                edits=set_key(probe.body, "timeoutSeconds", "5"),
            )
        if probe.failures == 1:
            yield Found(
                where=probe.where,
                message="liveness probe restarts the engine at its first failure",
                fix="set failureThreshold: 3 or more",
                edits=set_key(probe.body, "failureThreshold", "3"),
            )


def _late(lot: Lot) -> Iterator[Found]:
    for _, container, _ in lot.engines():
        probe = container.probe("liveness")
        if probe is None or container.probe("startup") is not None:
            continue
        if probe.initial_delay_seconds >= _LATE_SECONDS:
            yield Found(
                where=probe.where,
                message=f"liveness probe waits {probe.initial_delay_seconds} s after every start, and no startup probe "
                "bounds the start",
            )


def _serves(pod: Pod) -> bool:
    return pod.role in ("server", "leader") and not pod.managed and pod.owner.kind != "Pod"


def _none(lot: Lot) -> Iterator[Found]:
    for pod, container, engine in lot.engines():
        headless = engine.flag("headless") is not None or engine.flag("node-rank") is not None
        if not _serves(pod) or headless:
            continue
        if not container.probes:
            yield Found(
                where=container.where,
                message="no probe: requests come before the engine has loaded, and nobody sees it hang",
            )
        elif container.probe("readiness") is None:
            yield Found(
                where=container.where,
                message="no readiness probe: requests come "
                + (
                    "while the engine is busy starting again"
                    if container.probe("startup")
                    else "before the engine has loaded"
                ),
                fix="add a readinessProbe on /health",
                severity="note" if container.probe("startup") else None,
            )


_LATE_SECONDS = 300  # ours: what a delay hides when the engine dies in its first minutes


RULES = (
    Rule(
        code="SH054",
        title="Long delay in place of a startup probe",
        severity="warning",
        reason="Until initialDelaySeconds are over nobody looks, at any start: an engine that hangs stays so long, and "
        "one that loads longer is killed all the same.",
        fix="Take initialDelaySeconds out and add a startupProbe whose period × failures covers the slowest start.",
        sources=(_PROBES, "llm-d-planner's KServe template (600 s), kserve/kserve#5062, 2026-11-21"),
        check=_late,
    ),
    Rule(
        code="SH016",
        title="Probe budget against the size of the weights",
        severity="warning",
        reason="A startup or liveness probe that gives up while weights load or kernels compile kills "
        "the engine, which starts "
        "again from nothing, for ever.",
        fix="Add a startupProbe whose periodSeconds × failureThreshold covers the slowest start.",
        sources=(
            _PROBES,
            (
                "kaito-project/kaito presets/workspace/models/vllm_model.go (15 min + 18 s a GiB); "
                "vllm-project/vllm#17386, 2026-11-21"
            ),
        ),
        check=_budget,
    ),
    Rule(
        code="SH017",
        title="The engine's own start-up limit below the probe's",
        severity="warning",
        reason="vLLM ends itself after VLLM_ENGINE_READY_TIMEOUT_S, 600 s unless set, however long the "
        "probe would wait.",
        fix="Set VLLM_ENGINE_READY_TIMEOUT_S to the budget of the startup probe.",
        sources=(_READY, "vllm-project/vllm#48031, #32116, 2026-11-21"),
        check=_ready_limit,
        fixable=True,
    ),
    Rule(
        code="SH018",
        title="Progress deadline below the time to load",
        severity="warning",
        reason="After progressDeadlineSeconds, 600 unless set, the rollout counts as failed, and what "
        "waits for it gives up or rolls back while the engine is still loading.",
        fix="Set progressDeadlineSeconds to the startup budget plus the time to pull the image.",
        sources=(
            "https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#failed-deployment, 2026-11-21",
        ),
        check=_progress,
        fixable=True,
    ),
    Rule(
        code="SH019",
        title="Probe on a path that needs the API key",
        severity="error",
        reason="With a key set, paths below /v1 answer 401: the pod never becomes ready, or is restarted for ever.",
        fix="Probe /health, which is open.",
        sources=(
            "vLLM 0.32 entrypoints/openai (paths that the key guards), SGLang 0.5.23 http_server.py, read 2026-11-21",
        ),
        check=_needs_key,
        fixable=True,
    ),
    Rule(
        code="SH031",
        title="Hasty liveness probe",
        severity="warning",
        reason="A busy engine answers late: one second or one failure restarts it under load, with all its requests.",
        fix="Give the liveness probe five seconds or more and three failures.",
        sources=("llm-d/llm-d-benchmark#1734, ai-dynamo/dynamo#2124, scaleapi/llm-engine#255, 2026-11-21",),
        check=_hasty,
        fixable=True,
    ),
    Rule(
        code="SH032",
        title="No probes",
        severity="warning",
        reason="Without a readiness probe the Service sends requests to a pod that is still loading; "
        "without liveness a hung "
        "engine stays.",
        fix="Add startup, readiness and liveness probes on the engine's health path.",
        sources=(_PROBES,),
        check=_none,
    ),
)

"""Updates, replicas and disruptions of pods that hold GPUs."""

from __future__ import annotations

from collections.abc import Iterator

from selfhost.lint.labels import same_namespace, selects
from selfhost.lint.model import Lot, Pod
from selfhost.lint.nodes import number_of, text_of
from selfhost.lint.types import Found, Rule

_STRATEGY = "https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#strategy, 2026-11-21"


def _percent(value: object, replicas: int, *, up: bool) -> int | None:
    if isinstance(value, str) and value.endswith("%"):
        share = number_of(value[:-1])
        if share is None:
            return None
        return -(-replicas * share // 100) if up else replicas * share // 100
    return number_of(value) if isinstance(value, str | int) else None


def _surge(lot: Lot) -> Iterator[Found]:
    for pod, container, _ in lot.engines():
        gpus = container.gpus
        if pod.owner.kind != "Deployment" or not gpus or pod.replicas == 0:
            continue
        spec = pod.owner.body.map("spec")
        strategy = spec.map("strategy")
        if strategy.text("type") == "Recreate":
            continue
        rolling = strategy.map("rollingUpdate")
        given = rolling.get("maxSurge", "25%")
        replicas = pod.replicas or 1
        extra = _percent(given, replicas, up=True)
        if not extra:
            continue
        needed, spare = extra * gpus, lot.settings.spare_gpus
        if spare is not None and spare >= needed:
            continue
        said = f"maxSurge {given}" if "maxSurge" in rolling else "the default maxSurge of 25%"
        known = "" if spare is None else f", {spare} are spare"
        yield Found(
            where=pod.owner.at(
                strategy.line("rollingUpdate") if strategy else spec.line("strategy"), "spec.strategy"
            ),
            message=f"{said} starts {extra} more pod{'s' if extra > 1 else ''} at an update, which "
            f"{'needs' if extra == 1 else 'need'} {needed} free GPU{'s' if needed != 1 else ''}{known}",
            fix="set maxSurge: 0 with maxUnavailable: 1 (or Recreate), or keep the GPUs spare and say --spare-gpus",
        )


def _two_strategies(lot: Lot) -> Iterator[Found]:
    for item in lot.of_kind("Deployment"):
        strategy = item.body.at("spec", "strategy")
        if strategy.text("type") == "Recreate" and strategy.get("rollingUpdate") is not None:
            yield Found(
                where=item.at(strategy.line("rollingUpdate"), "spec.strategy.rollingUpdate"),
                message="strategy Recreate with settings of a rolling update",
            )


def _most_replicas(lot: Lot, pod: Pod) -> int | None:
    """Replicas, or what an autoscaler may make of them."""
    most = pod.replicas
    for scaler in lot.of_kind("HorizontalPodAutoscaler", "ScaledObject"):
        spec = scaler.body.map("spec")
        target = spec.map("scaleTargetRef")
        if target.text("name") != pod.owner.name or not same_namespace(scaler, pod.owner):
            continue
        if (target.text("kind") or "Deployment") == pod.owner.kind:
            number = spec.number("maxReplicas") or spec.number("maxReplicaCount")
            most = max(most or 0, number or 0)
    return most


def _single_writer(lot: Lot) -> Iterator[Found]:
    claims = list(lot.of_kind("PersistentVolumeClaim"))
    for pod in lot.pods:
        if pod.owner.kind not in ("Deployment", "ReplicaSet", "StatefulSet"):
            continue
        replicas = _most_replicas(lot, pod)
        if replicas is None or replicas < 2:
            continue
        for volume in pod.volumes:
            name = volume.body.text("claimName") if volume.kind == "persistentVolumeClaim" else None
            for claim in claims:
                if name is None or claim.name != name or not same_namespace(claim, pod.owner):
                    continue
                modes = [text_of(mode) or "" for mode in claim.body.map("spec").seq("accessModes")]
                if modes and all(mode.startswith("ReadWriteOnce") for mode in modes):
                    yield Found(
                        where=pod.at(volume.where.line, f"volumes[{volume.name}]"),
                        message=f"{replicas} replicas mount claim {name}, which is {' and '.join(modes)}",
                    )


def _drains(lot: Lot) -> Iterator[Found]:
    for budget in lot.of_kind("PodDisruptionBudget"):
        spec = budget.body.map("spec")
        selector = spec.map("selector").map("matchLabels")
        if spec.map("selector").seq("matchExpressions"):
            continue
        pods = [
            pod for pod in lot.pods if selects(selector, pod.labels) and same_namespace(budget, pod.owner)
        ]
        if (
            len(pods) != 1
            or pods[0].replicas is None
            or pods[0].owner.kind not in ("Deployment", "StatefulSet")
        ):
            continue
        replicas = pods[0].replicas
        least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
        if least is not None:
            kept = _percent(least, replicas, up=True)
            blocked, said = kept is not None and kept >= replicas > 0, f"minAvailable {least}"
        else:
            gone = _percent(most, replicas, up=True) if most is not None else None
            blocked, said = gone == 0 and replicas > 0, f"maxUnavailable {most}"
        if blocked:
            yield Found(
                where=budget.at(spec.line(), "spec"),
                message=f"{said} of {replicas} replica{'s' if replicas > 1 else ''}: no node under it can be drained",
            )


RULES = (
    Rule(
        code="SH055",
        title="Recreate with rollingUpdate",
        severity="error",
        reason="The API server refuses rollingUpdate beside `type: Recreate`; also where server-side "
        "apply leaves the old "
        "one behind.",
        fix="Take rollingUpdate out, or write `rollingUpdate: null` where the object had one before.",
        sources=("apps/v1 Deployment validation, Kubernetes 1.37; wandb/operator#147, 2026-11-21",),
        check=_two_strategies,
    ),
    Rule(
        code="SH035",
        title="Surge without spare GPUs",
        severity="warning",
        reason="A rolling update starts the new pod first. Where no GPU is free it stays Pending while "
        "the old one holds its "
        "GPUs, and the rollout hangs.",
        fix="Set maxSurge: 0 and maxUnavailable: 1 or `type: Recreate`, and plan for the downtime; or keep GPUs spare.",
        sources=(
            _STRATEGY,
            "defilantech/LLMKube#192, kserve/kserve#4188, kaito-project/airunway#400, 2026-11-21",
        ),
        check=_surge,
    ),
    Rule(
        code="SH009",
        title="ReadWriteOnce volume with several replicas",
        severity="error",
        reason="A ReadWriteOnce volume attaches to one node: replicas on any other stay in ContainerCreating.",
        fix="Use a ReadWriteMany or ReadOnlyMany claim, an image volume, or a StatefulSet with volumeClaimTemplates.",
        sources=("https://kubernetes.io/docs/concepts/storage/persistent-volumes/#access-modes, 2026-11-21",),
        check=_single_writer,
    ),
    Rule(
        code="SH037",
        title="Disruption budget that blocks drains",
        severity="warning",
        reason="A budget that allows no pod to go lets every drain of its node wait for ever.",
        fix="Use a budget with two or more replicas and maxUnavailable: 1, or none.",
        sources=("https://kubernetes.io/docs/tasks/run-application/configure-pdb/, 2026-11-21",),
        check=_drains,
    ),
)

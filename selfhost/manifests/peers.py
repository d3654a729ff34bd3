"""What targets share whose workload another project makes: our objects beside it, and what it cannot say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests import kubernetes
from selfhost.manifests.exposure import Backend, exposure
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.pod import Container, Pair, PodView, Variable
from selfhost.manifests.queries import DEPLOYMENT_PODS
from selfhost.manifests.scaling import ScaleTarget, scaling
from selfhost.manifests.watching import watching
from selfhost.place import NODE_GPUS
from selfhost.plan import Plan

BASE = "kubernetes"
# The workload is the other project's, and so is the Service before it.
OMIT = frozenset(("50-deployment.yaml", "60-service.yaml"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Something that target kubernetes says and this one cannot, and what follows from it."""

    what: str
    so: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What the other project makes of the plan.

    Args:
        name: of the object whose replicas are the plan's.
        kind: of it.
        api_version: of it.
        pods: regular expression of what follows the object's name in the names of its pods.
        selector: labels of the server's pods, None where they are ours.
        backend: what a route of ours sends to.
        port_name: name of the port with the metrics, None where it is ours.
    """

    name: str
    kind: str = "Deployment"
    api_version: str = "apps/v1"
    pods: str = DEPLOYMENT_PODS
    selector: tuple[Pair, ...] | None = None
    backend: Backend
    port_name: str | None = None


def beside(plan: Plan, options: RenderOptions, made: Workload) -> kubernetes.View:
    """The objects of target kubernetes that stand beside somebody else's workload: account, policies, weights, budget.

    Args:
        plan: the decision.
        options: what the cluster decides.
        made: what the other project makes of it.

    Raises:
        UsageError: options that contradict the plan.
    """
    view = kubernetes.build(plan, options)
    pods = made.name.removeprefix(plan.name) + made.pods
    target = ScaleTarget(api_version=made.api_version, kind=made.kind, name=made.name, pods=pods)
    view = replace(
        view,
        scaling=scaling(plan, options, target=target),
        watching=watching(plan, options, pods=pods),
        exposure=exposure(plan, options, backend=made.backend),
    )
    if made.port_name is not None:
        view = replace(view, metrics_port_name=made.port_name)
    if made.selector is not None:
        view = replace(view, selector=made.selector, server=replace(view.server, selector=made.selector))
        if view.download is not None and view.download.pod.beside:
            fetching = replace(view.download.pod, beside=made.selector)
            view = replace(view, download=replace(view.download, pod=fetching))
    return view


def values_of(view: kubernetes.View) -> dict[str, Any]:
    """Its fields by name, for a view that has them and more."""
    return {field.name: getattr(view, field.name) for field in fields(view)}


def main_container(pod: PodView) -> Container:
    """The container of the engine."""
    return pod.containers[0]


def short_annotations(view: kubernetes.View) -> tuple[Pair, ...]:
    """Model and licence. The whole plan is in plan.json: charts and controllers copy annotations to all they make."""
    return tuple(pair for pair in view.annotations if pair.key != "selfhost/plan")


def templated(text: str) -> str:
    """Text that comes out of Go's text/template as it is: `{{` begins an action there.

    The action that prints it is in backticks, which neither JSON nor YAML escapes on the way.
    """
    return text.replace("{{", "{{`{{`}}")


def templated_container(container: Container) -> Container:
    """A container whose arguments and variables are read as Go templates on the way to the cluster."""
    return replace(
        container,
        command=tuple(map(templated, container.command)),
        args=tuple(replace(arg, value=templated(arg.value)) for arg in container.args),
        env=templated_env(container.env),
    )


def templated_env(env: tuple[Variable, ...]) -> tuple[Variable, ...]:
    """Variables whose values are read as Go templates."""
    return tuple(one if one.value is None else replace(one, value=templated(one.value)) for one in env)


def without(variables: Iterable[Variable], names: frozenset[str]) -> tuple[Variable, ...]:
    """Variables but those that the other project sets by itself: a name twice is a fault of the object."""
    return tuple(variable for variable in variables if variable.name not in names)


def one_node(plan: Plan, options: RenderOptions, target: str, because: str) -> None:
    """Refuse a plan for several nodes.

    Raises:
        UnsupportedError: one replica takes the GPUs of several nodes.
    """
    if plan.gpu.count > NODE_GPUS or options.nodes.several(plan):
        raise UnsupportedError(
            f"{target} cannot run one replica on {plan.gpu.count} GPUs of several nodes: {because}.",
            hint="Render it with --target lws or --target kserve.",
        )


def only_engines(plan: Plan, target: str, engines: tuple[str, ...], because: str) -> None:
    """Refuse other engines.

    Raises:
        UnsupportedError: the target does not start this engine.
    """
    if plan.engine.name not in engines:
        raise UnsupportedError(
            f"{target} cannot run {plan.engine.name}: {because}.",
            hint=f"Plan with --engine {engines[0]}, or render with --target kubernetes.",
        )


def refuse(target: str, asked: Iterable[tuple[str, object, str]]) -> None:
    """Refuse options that this target has no place for.

    Args:
        target: its name.
        asked: option, whether it was asked for, and what to do instead.

    Raises:
        UsageError: one of them was asked for.
    """
    for flag, given, hint in asked:
        if given:
            raise UsageError(f"{flag} has no effect with --target {target}.", hint=hint)

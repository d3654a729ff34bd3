"""What targets share whose workload another project makes: our objects beside it, and what it cannot say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests import kubernetes
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.pod import Container, Pair, PodView, Variable
from selfhost.place import NODE_GPUS
from selfhost.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Something that target kubernetes says and this one cannot, and what follows from it."""

    what: str
    so: str


def beside(
    plan: Plan,
    options: RenderOptions,
    *,
    selector: tuple[Pair, ...] | None = None,
    port_name: str | None = None,
) -> kubernetes.View:
    """The objects of target kubernetes that stand beside somebody else's workload: account, policies, weights, budget.

    Args:
        plan: the decision.
        options: what the cluster decides.
        selector: labels that the other project puts on the server's pods, None where they are ours.
        port_name: what it calls the port of the metrics, None where it is ours.

    Raises:
        UnsupportedError: what one pod cannot be.
        UsageError: options that contradict the plan.
    """
    view = kubernetes.view(plan, options)
    if selector is not None:
        view = replace(view, selector=selector, server=replace(view.server, selector=selector))
        if view.download is not None and view.download.pod.beside:
            fetching = replace(view.download.pod, beside=selector)
            view = replace(view, download=replace(view.download, pod=fetching))
    return view if port_name is None else replace(view, metrics_port_name=port_name)


def main_container(pod: PodView) -> Container:
    """The container of the engine."""
    return pod.containers[0]


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
        env=tuple(_templated_variable(variable) for variable in container.env),
    )


def _templated_variable(variable: Variable) -> Variable:
    return variable if variable.value is None else replace(variable, value=templated(variable.value))


def without(variables: Iterable[Variable], names: frozenset[str]) -> tuple[Variable, ...]:
    """Variables but those that the other project sets by itself: a name twice is a fault of the object."""
    return tuple(variable for variable in variables if variable.name not in names)


def one_node(plan: Plan, target: str, way: str) -> None:
    """Refuse a plan for several nodes.

    Raises:
        UnsupportedError: one replica takes the GPUs of several nodes.
    """
    if plan.gpu.count > NODE_GPUS:
        raise UnsupportedError(
            f"{target} cannot run one replica on {plan.gpu.count} GPUs of several nodes: {way}.",
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

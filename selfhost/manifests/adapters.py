"""LoRA adapters: fetched beside the model, loaded by the engine at start, asked for by their own names."""

from __future__ import annotations

from dataclasses import replace

from selfhost.engines import Adapts, Argument, get_engine, parse_engine
from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.options.nodes import Adapter
from selfhost.plan import Plan

_FOLDER = "adapters"


def adapter_path(plan: Plan, adapter: Adapter) -> str:
    """Where an adapter lies in the container."""
    if adapter.directory is not None:
        return f"{plan.weights.mount_path}{adapter.directory}"
    return f"{plan.weights.mount_path}/{_FOLDER}/{adapter.name}"


def adapted(plan: Plan, options: RenderOptions) -> Plan:
    """The plan with the arguments that load the adapters.

    Raises:
        UnsupportedError: the engine loads none at start.
        UsageError: the plan keeps no memory for them, or nothing would fetch them.
    """
    adapters = options.nodes.adapters
    if not adapters:
        return plan
    engine, version = get_engine(plan.engine.name), parse_engine(f"{plan.engine.name}@{plan.engine.version}")
    if not isinstance(engine, Adapts):
        raise UnsupportedError(f"{engine.name} loads no adapters at start.", hint="Plan for vllm or sglang.")
    if plan.workload.max_loras == 0:
        raise UsageError(
            f"--lora {adapters[0].name}: the plan keeps no memory for adapters.",
            hint=f"Plan with --max-loras {len(adapters)}.",
        )
    fetched = [adapter.name for adapter in adapters if adapter.repository is not None]
    if fetched and plan.weights.kind != "hub":
        raise UsageError(
            f"--lora {fetched[0]}: nothing downloads from the Hub, as the weights lie elsewhere.",
            hint=f"Put it on the volume and name its directory: --lora {fetched[0]}=/DIR.",
        )
    named = tuple((adapter.name, adapter_path(plan, adapter)) for adapter in adapters)
    args = (*plan.engine.args, *engine.adapters(version, named))
    return replace(plan, engine=replace(plan.engine, args=args))


def pulls_of(plan: Plan, options: RenderOptions) -> tuple[tuple[str, tuple[Argument, ...]], ...]:
    """For each adapter of the Hub a name, and the words of `selfhost pull` that fetch it."""
    found = []
    for number, adapter in enumerate(options.nodes.adapters):
        if adapter.repository is not None:
            words = (
                Argument(
                    value="pull", because="goes on where an earlier pod stopped, and verifies every file"
                ),
                Argument(value=adapter.repository, because="the commit, as asked"),
                Argument(
                    flag="--dir", value=adapter_path(plan, adapter), because="where the server reads it"
                ),
            )
            found.append((f"adapter-{number}", words))
    return tuple(found)

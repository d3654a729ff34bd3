"""From a model's name to an endpoint that answers: plan, render, deploy and test, on a cluster or on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from selfhost.cli._deploying import Reach, timeout_option, yes_option
from selfhost.cli._licence import licence_options
from selfhost.cli._options import (
    AT_LEAST,
    COUNT,
    Grouped,
    engine_option,
    gpu_memory_option,
    gpu_option,
    options_of,
    split_options,
    workload_options,
)
from selfhost.errors import UsageError
from selfhost.manifests.options import RenderOptions
from selfhost.workload import Split, Workload

if TYPE_CHECKING:
    from selfhost.licence import Use


@click.command(cls=Grouped)
@click.argument("model", required=False, metavar="MODEL")
@click.option("--local", is_flag=True, help="On this machine, without a cluster; without MODEL a tiny one.")
@click.option(
    "--with", "way", type=click.Choice(("auto", "process", "compose", "systemd")), default="auto",
    help="How --local runs it.  [default: Compose on a GPU where there is one, else a process]",
)  # fmt: skip
@click.option("--port", type=click.IntRange(1, 65535), metavar="N", help="Port of --local; else the plan's.")
@gpu_option(multiple=True, help_text="Kind of GPU to consider; else those that the cluster has free.")
@gpu_memory_option(
    "Memory that the engine sees of the one --gpu; of --local without a GPU: main memory for it."
)
@split_options
@workload_options
@engine_option
@click.option(
    "--pick", type=AT_LEAST[1], default=1, metavar="N", help="Row of the plan's table to take.  [default: 1]"
)
@click.option("--replicas", type=AT_LEAST[1], default=1, metavar="N", help="Copies to deploy.  [default: 1]")
@click.option("--name", metavar="NAME", help="Name of the deployment, made from the model's if absent.")
@click.option(
    "-o", "--save", type=click.Path(path_type=Path), metavar="FILE", help="Also write the plan as plan.json."
)
@licence_options
@click.option(
    "--target", default="kubernetes", show_default=True, metavar="NAME",
    help="Whose objects: kubernetes, lws, gateway, kserve, hybrid.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Plan, show what would change; change nothing.")
@click.option("--create-namespace", is_flag=True, help="Make the namespace where there is none.")
@click.option("--force-conflicts", is_flag=True, help="Take over fields that other field managers own.")
@click.option("--no-rollback", is_flag=True, help="Leave an upgrade that failed as it is.")
@click.option("--no-smoke-test", is_flag=True, help="Do not send requests once it is ready.")
@click.option(
    "--api-key-file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="File with the key: --local asks clients for it, the smoke test sends it.",
)  # fmt: skip
@timeout_option("How long to wait for it; else from the plan's clocks.")
@yes_option
@click.option(
    "--context", "contexts", multiple=True, metavar="TOKENS|NAME",
    help="Longest request in tokens, as --max-model-len; or a context of the kubeconfig.",
)  # fmt: skip
@click.option("--kubeconfig", metavar="FILE", help="The kubeconfig, where it is not the usual one.")
@click.option(
    "--output", type=click.Choice(("text", "json")), default="text",
    help="text, or json: one object a line for each thing that happens (docs/json.md).",
)  # fmt: skip
@options_of(RenderOptions, "options")
@click.pass_context
def command(
    context: click.Context,
    model: str | None,
    local: bool,
    way: str,
    port: int | None,
    gpu: tuple[str, ...],
    gpu_memory: int | None,
    split: Split,
    workload: Workload,
    engine: str,
    pick: int,
    replicas: int,
    name: str | None,
    save: Path | None,
    use: Use | None,
    accept_licence: tuple[str, ...],
    target: str,
    dry_run: bool,
    create_namespace: bool,
    force_conflicts: bool,
    no_rollback: bool,
    no_smoke_test: bool,
    api_key_file: Path | None,
    timeout: float | None,
    yes: bool,
    contexts: tuple[str, ...],
    kubeconfig: str | None,
    output: str,
    options: RenderOptions,
) -> int:
    """Serve MODEL: choose GPUs that are free, plan, deploy, wait, test, and say where it answers.

    The way is that of `selfhost plan` and `selfhost deploy` with their options. --local does without a cluster: by
    Compose or systemd, or, where there is no GPU, with the real vLLM on the CPU. Whatever moment it is ended or killed
    at, the same command goes on from there. --context takes a length in tokens or a context of the kubeconfig.
    """
    from selfhost.cli import _up_cluster, _up_local
    from selfhost.cli._upping import Upping

    if gpu_memory is not None and len(gpu) > 1:
        raise UsageError("--gpu-memory goes with exactly one --gpu.", hint="Name the GPU whose memory it is.")
    named, workload = _contexts(contexts, workload)
    asked = Upping(
        model=model,
        gpu=gpu,
        gpu_memory=gpu_memory,
        split=split,
        fixed=any(_was_typed(context, field) for field in ("tensor", "pipeline", "data")),
        workload=workload,
        engine=engine,
        engine_typed=_was_typed(context, "engine"),
        pick=pick,
        replicas=replicas,
        name=name,
        save=save,
        use=use,
        accepted=accept_licence,
        options=options,
        dry_run=dry_run,
        smoke=not no_smoke_test,
        api_key_file=api_key_file,
        timeout=timeout,
        yes=yes,
        reach=Reach(context=named, kubeconfig=kubeconfig, as_json=output == "json"),
    )
    if local:
        _refuse_cluster(context)
        return _up_local.up(asked, way=way, port=port)
    for flag, given in (("--with", way != "auto"), ("--port", port is not None)):
        if given:
            raise UsageError(f"{flag} goes with --local.", hint="Add --local, or leave it out.")
    if model is None:
        raise UsageError(
            "Name a MODEL to serve.", hint="selfhost up --local takes a tiny one on this machine."
        )
    return _up_cluster.up(
        asked,
        target=target,
        create_namespace=create_namespace,
        force_conflicts=force_conflicts,
        rollback=not no_rollback,
    )


def _without_context(made: click.Command) -> None:
    """Leave `--context` to the option that takes both: here it could mean the load's or the kubeconfig's."""
    for option in made.params:
        if option.name == "max_model_len" and "--context" in option.opts:
            option.opts.remove("--context")


def _contexts(words: tuple[str, ...], workload: Workload) -> tuple[str | None, Workload]:
    """What each `--context` means: a number of tokens, else a context of the kubeconfig."""
    named = None
    for word in words:
        try:
            tokens = COUNT.convert(word, None, None)
        except click.BadParameter:
            named = word
        else:
            workload = replace(workload, max_model_len=tokens)
    return named, workload


def _was_typed(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _refuse_cluster(context: click.Context) -> None:
    """What only a cluster has a place for is refused, not forgotten."""
    for name in (
        "target",
        "namespace",
        "kubeconfig",
        "create_namespace",
        "force_conflicts",
        "no_rollback",
        "replicas",
    ):
        if _was_typed(context, name):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{flag} is for a cluster, and --local does without one.", hint="Leave one of them out."
            )


_without_context(command)

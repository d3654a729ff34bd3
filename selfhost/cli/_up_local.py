"""`selfhost up --local`: a plan for this machine, its weights, and a server that outlives the command."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from selfhost.cli._deploying import NOT_HEALTHY, Printer, agreed, labelled
from selfhost.cli._sizing import choose_gpu
from selfhost.cli._upping import Upping, decide, loaded, understood
from selfhost.errors import UnsupportedError, UsageError
from selfhost.units import GIB, ceil_div, gib

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu
    from selfhost.cli._placements import Asked
    from selfhost.local import Result, Seen, Settings
    from selfhost.local.devices import Device
    from selfhost.local.engine_python import EnginePython
    from selfhost.local.run import Confirm
    from selfhost.local.types import Way
    from selfhost.plan import Plan

DOES_NOT_FIT = 4
_CODES = {"failed": NOT_HEALTHY, "superseded": 1}
# Ours: a try-out of a CPU asks for as much main memory as it needs, in whole GiB and one to spare.
_SPARE_BYTES = GIB


def up(asked: Upping, *, way: str, port: int | None) -> int:
    """Plan, fetch, start, wait and test; the exit code."""
    printer = Printer(as_json=asked.reach.as_json)
    _refuse_options(asked)
    with _interruptible(printer) as going:
        here, most = _devices(asked, printer)
        chosen = _way(way, cpu=not here)
        python = None
        if chosen != "compose":
            python = _python(asked, cpu=not here)
        plan = _plan(asked, here, most, python, printer)
        if plan is None:
            return DOES_NOT_FIT
        going.append(plan.name)
        settings = _settings(asked, plan, chosen, port, python, here)
        if chosen == "process" and plan.weights.kind == "hub" and not asked.dry_run:
            settings = replace(settings, cache=_fetched(asked, plan))
        from selfhost import local

        result = local.up(plan, settings, printer, _confirm(asked, printer), python=python)
    return _ended(asked, plan, result, printer)


@contextmanager
def _interruptible(printer: Printer) -> Iterator[list[str]]:
    """Ctrl-C and SIGTERM end the command alone; the server goes on, and its name is in the list once there is one."""
    names: list[str] = []

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield names
    except KeyboardInterrupt:
        printer.flush()
        if names:
            words = f"What was started goes on: the same command waits for it again, selfhost down {names[0]} ends it."
            click.echo(words, err=True)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _refuse_options(asked: Upping) -> None:
    if asked.reach.context is not None:
        raise UsageError(
            f"--context {asked.reach.context[:80]!a} is no number of tokens, and --local does without a cluster."
        )
    if asked.model is None and asked.gpu and asked.gpu != ("cpu",):
        raise UsageError("The tiny model runs on the CPU.", hint="Name a MODEL for the GPU.")


def _devices(asked: Upping, printer: Printer) -> tuple[tuple[Device, ...], dict[str, int] | None]:
    """GPUs that the plan may take, and how many of each kind; none of them for a CPU."""
    from selfhost.catalog.gpus import CPUS

    if asked.model is None or any(name.lower() in CPUS for name in asked.gpu):
        return (), None
    from selfhost.deploy.types import Event
    from selfhost.local.devices import devices

    found, strange = devices()
    for name in strange:
        printer(Event(type="note", message=f"the catalogue does not know the GPU {name[:80]}"))
    if asked.gpu and not found:
        raise UnsupportedError(
            f"There is no GPU for --gpu {asked.gpu[0]} here.", hint="Leave --gpu out for the CPU."
        )
    most: dict[str, int] = {}
    for one in found:
        most[one.gpu_id] = most.get(one.gpu_id, 0) + one.free
    return found, most


def _way(way: str, *, cpu: bool) -> Way:
    from selfhost.local.boxes import compose_tool

    if way == "auto":
        if cpu:
            return "process"
        try:
            compose_tool()
        except UnsupportedError:
            return "process"
        return "compose"
    return "compose" if way == "compose" else "systemd" if way == "systemd" else "process"


def _python(asked: Upping, *, cpu: bool) -> EnginePython:
    from selfhost.engines import get_engine, parse_engine
    from selfhost.local.engine_python import find

    engine = parse_engine(asked.engine)
    if engine.engine != "vllm":
        raise UnsupportedError(
            f"{engine.engine} is not started as a process of this machine.",
            hint="Add --with compose, or leave --engine out.",
        )
    told = "@" in asked.engine
    found = find(os.environ, version=engine.text if told else get_engine("vllm").default_version, cpu=cpu)
    if told and found.version != engine.text:
        raise UnsupportedError(
            f"{found.path} has vLLM {found.version}, and --engine asks for {engine.text}.",
            hint="Leave the version out, or let SELFHOST_VLLM_PYTHON name another environment.",
        )
    return found


def _plan(
    asked: Upping,
    here: tuple[Device, ...],
    most: dict[str, int] | None,
    python: EnginePython | None,
    printer: Printer,
) -> Plan | None:
    engine = asked.engine if python is None else f"vllm@{python.version}"
    with tempfile.TemporaryDirectory() as scratch:
        reference = asked.model or str(_tiny(asked, Path(scratch)))
        raw = loaded(asked, reference)
        if here:
            named = asked.gpu or tuple(dict.fromkeys(one.gpu_id for one in here))
            cards = tuple(card for one in named if (card := choose_gpu(one, asked.gpu_memory)) is not None)
            what = understood(asked, raw, engine=engine, gpus=cards, workload=asked.workload)
            return decide(asked, what, printer, most=most)
        # Ours: on a CPU a try-out is to be ready in seconds, and compiling takes a minute and a compiler.
        load = replace(asked.workload, enforce_eager=True)
        what = understood(asked, raw, engine=engine, gpus=(_main_memory(asked, None),), workload=load)
        if asked.gpu_memory is None:
            what = _just_enough(asked, what)
        return decide(replace(asked, fixed=True), what, printer, most=None)


def _tiny(asked: Upping, scratch: Path) -> Path:
    """The tiny model, made below the server's folder; where nothing may be changed, in a folder that goes away."""
    from selfhost.local import Store, tiny

    name = asked.name or tiny.NAME
    store = Store(name)
    folder = store.weights / tiny.NAME
    if asked.dry_run and not (folder / "config.json").is_file():
        return tiny.make(scratch / tiny.NAME)
    store.make()
    return tiny.make(folder)


def _main_memory(asked: Upping, memory_bytes: int | None) -> Gpu:
    from selfhost.catalog.gpus import CPUS, main_memory
    from selfhost.local.checks import ENGINE_BYTES, available_bytes
    from selfhost.local.command import machine

    size = memory_bytes or asked.gpu_memory or max(GIB, available_bytes() - ENGINE_BYTES)
    return main_memory(size, machine=CPUS[machine()])


def _just_enough(asked: Upping, what: Asked) -> Asked:
    """The cache in as many whole GiB as the load takes, and main memory to match: else vLLM would take all there is."""
    from selfhost.sizing import budget_for

    gpu, load = what.gpus[0], what.workload
    bill = budget_for(what.spec, load, asked.split, gpu, what.engine)
    if not bill.fits:
        return what
    if load.kv_cache_memory_bytes is None:
        load = replace(load, kv_cache_memory_bytes=max(1, ceil_div(bill.kv_needed_bytes, GIB)) * GIB)
    held = bill.weights_bytes + (load.kv_cache_memory_bytes or 0)
    held += (bill.activation_bytes or 0) + (bill.non_torch_bytes or 0)
    size = ceil_div(held + _SPARE_BYTES, GIB) * GIB
    enough = min(size, gpu.memory_bytes)
    return replace(what, workload=load, gpus=(_main_memory(asked, enough),))


def _settings(
    asked: Upping,
    plan: Plan,
    way: Way,
    port: int | None,
    python: EnginePython | None,
    here: tuple[Device, ...],
) -> Settings:
    from selfhost.local import Settings
    from selfhost.local.types import Setting

    env: tuple[Setting, ...] = ()
    options = asked.options
    free = tuple(one.uuid for one in here if one.free and one.gpu_id == plan.gpu.id)[: plan.gpu.count]
    if free and len(here) > plan.gpu.count:  # others of this machine may be in use
        if way == "process":
            env = (Setting(name="CUDA_VISIBLE_DEVICES", value=",".join(free)),)
        elif not options.box.gpu_devices:
            options = replace(options, box=replace(options.box, gpu_devices=free))
    if way == "process":
        _refuse_rendering(asked)
    return Settings(
        timeout_seconds=asked.timeout,
        smoke=asked.smoke,
        host=asked.options.box.bind,
        port=port,
        key_file=asked.api_key_file,
        way=way,
        python="" if python is None else python.path,
        env=env,
        options=options,
        dry_run=asked.dry_run,
    )


def _refuse_rendering(asked: Upping) -> None:
    """Options of rendered files, where nothing is rendered."""
    from dataclasses import fields

    from selfhost.manifests.options.given import given

    options = asked.options
    groups = (options, *(getattr(options, item.name) for item in fields(options) if not item.metadata))
    flags = [flag for group in groups for flag in given(group) if flag != "--bind"]
    if flags:
        raise UsageError(
            f"{flags[0]} has no effect on a process of this machine.",
            hint="Leave it out, or add --with compose.",
        )


def _fetched(asked: Upping, plan: Plan) -> Path | None:
    """The Hub's cache that holds the weights: the user's own where they are there already, else the server's."""
    from selfhost.cli import _pulling
    from selfhost.hub.load import cache_directory
    from selfhost.local import Store
    from selfhost.pull.choose import Wish
    from selfhost.pull.local import find_pulled
    from selfhost.pull.prepare import hub_reference

    reference = plan.weights.location + (f"@{plan.model.revision}" if plan.model.revision else "")
    own = cache_directory(os.environ)
    if find_pulled(hub_reference(reference), directory=None, cache=own) is not None:
        return own
    store = Store(plan.name)
    store.make()
    folder = store.weights / "hub"
    _pulling.pull(
        _pulling.Asked(
            model=reference,
            directory=None,
            wish=Wish(include=(), exclude=(), trust_remote_code=False, allow_pickle=False),
            use=asked.use,
            accepted=asked.accepted,
            quant=None,
            limit_rate=None,
            jobs=None,
            as_json=asked.reach.as_json,
            environ={**os.environ, "HF_HUB_CACHE": str(folder)},
        )
    )
    return folder


def _confirm(asked: Upping, printer: Printer) -> Confirm:
    def ask(changes: tuple[str, ...]) -> bool:
        printer.flush()
        return asked.yes or agreed("replace it?", as_json=asked.reach.as_json)

    return ask


def _ended(asked: Upping, plan: Plan, result: Result, printer: Printer) -> int:
    """Print how it ended and what to do next; the exit code."""
    from selfhost.deploy.types import Event
    from selfhost.local.checks import needed_bytes

    code = _CODES.get(result.ended, 0)
    seen = result.seen
    planned = needed_bytes(plan) if plan.gpu.on == "cpu" else None
    facts: dict[str, object] = {"ended": result.ended, "name": plan.name, "exit_code": code}
    if seen is not None:
        facts |= {
            "address": seen.address, "phase": seen.phase, "log": seen.log, "memory_bytes": seen.memory_bytes,
            "memory_planned_bytes": planned,
        }  # fmt: skip
    if asked.reach.as_json:
        printer(Event(type="done", message=result.message, facts=facts))
        return code
    printer.flush()
    if result.ended == "dry-run":
        labelled("", "Nothing was changed.")
    elif code == 0 and seen is not None:
        _show(asked, plan, seen, planned)
    elif seen is not None and seen.log:
        labelled("Log", seen.log)
    return code


def _show(asked: Upping, plan: Plan, seen: Seen, planned: int | None) -> None:
    if seen.memory_bytes is not None:
        words = f"{gib(seen.memory_bytes)} GiB in use"
        labelled("Memory", words if planned is None else f"{words}, {gib(planned)} GiB planned")
    served = (
        next((word.value for word in plan.engine.args if word.flag == "--served-model-name"), None)
        or plan.model.id
    )
    key = "" if asked.api_key_file is None else f' -H "Authorization: Bearer $(cat {asked.api_key_file})"'
    body = f'{{"model": "{served}", "prompt": "Hello", "max_tokens": 16}}'
    labelled("Address", f"{seen.address}/v1")
    labelled(
        "Try", f"curl {seen.address}/v1/completions{key} -H 'Content-Type: application/json' -d '{body}'"
    )
    labelled("Next", f"selfhost status --local, or selfhost down {plan.name}")

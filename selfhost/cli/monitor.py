"""Show what every GPU and engine of this node, or of many nodes, is doing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from selfhost.cli._monitor_options import (
    COUNT_SECONDS,
    SERVE_SECONDS,
    WATCH_SECONDS,
    Wanted,
    checked,
    engine_address,
    engine_addresses,
)
from selfhost.cli._options import AT_LEAST, NamedPath, Seconds, json_option

if TYPE_CHECKING:
    from selfhost.health import Baseline
    from selfhost.health.suppressions import Suppression
    from selfhost.live.run import Judge
    from selfhost.monitor import Sources
    from selfhost.observation import Observation
    from selfhost.plan import Plan

# How long the one-shot table waits for NVML and the engines; ours: a call that takes longer is a finding.
DEADLINE_SECONDS = 10.0
SECONDS = Seconds(min=0.1, max=86_400)
FILE = NamedPath(path_type=Path)


@click.command()
@click.option("--watch", is_flag=True, help="A live view with history, on a terminal; h shows its keys.")
@json_option
@click.option(
    "--interval", type=SECONDS, metavar="S", help="Seconds between readings.  [default: 2; --serve: 5]"
)
@click.option(
    "--count", type=AT_LEAST[1], metavar="N", help="Observe N times; with --json one object a line."
)
@click.option(
    "--record", type=FILE, metavar="FILE", help="Write what is observed to a new FILE (.gz: compressed)."
)
@click.option("--replay", type=FILE, metavar="FILE", help="Show a recording instead of this machine.")
@click.option(
    "--engine", multiple=True, metavar="URL", help="An engine's address; URL=0,1 names its GPUs too."
)
@click.option(
    "--engine-log",
    multiple=True,
    type=NamedPath(dir_okay=False),
    metavar="FILE",
    help="Its output, for what it printed of its memory; one for each --engine.",
)
@click.option("--no-engines", is_flag=True, help="Look for no engines.")
@click.option("--plan", type=FILE, metavar="PLAN", help="plan.json that the engine was deployed from.")
@click.option("--serve", metavar="[HOST]:PORT", help="Serve Prometheus metrics, until Ctrl-C.")
@click.option("--dcgm-names", is_flag=True, help="Metrics under dcgm-exporter's names as well.")
@click.option("--cluster", is_flag=True, help="Read the exporters of a cluster through the Kubernetes API.")
@click.option("--nodes", metavar="FILE|URL,…", help="Read the exporters at these addresses.")
@click.option("--context", metavar="NAME", help="Context of the kubeconfig.  [default: the current one]")
@click.option("--namespace", metavar="NAME", help="Namespace of the exporters.  [default: every one]")
@click.option(
    "--direct",
    is_flag=True,
    help="With --cluster: ask the pods themselves, from inside the cluster's network.",
)
@click.option(
    "--parallel",
    type=AT_LEAST[1],
    metavar="N",
    help="How many nodes are asked at once.  [default: 256; --cluster: 32]",
)
@click.option("--timeout", type=SECONDS, metavar="S", help="Seconds that each node has.  [default: 2]")
def command(**options: Any) -> int:
    """GPUs through NVML, engines through their own metrics, and the two joined.

    Without an option: once, as a table. A reading that the board or the driver does not have is shown as –; with --json
    it is an object with the reason and NVML's code. Exit code 5: a GPU is lost or needs a reset, NVML cannot be used or
    counts no GPU, or an engine that was named does not answer; of many nodes: one is critical or does not answer. What
    else may be wrong is `selfhost health`'s to say.

    --record writes one observation, N with --count, and with --watch all until the view is left.
    """
    wanted = checked(Wanted(**options))
    if wanted.cluster or wanted.nodes is not None:
        from selfhost.cli._monitor_fleet import many_nodes

        return many_nodes(wanted)
    if wanted.serve is not None:
        return _serve(wanted)
    return _watch(wanted) if wanted.watch else _once(wanted)


def _plan(wanted: Wanted) -> Plan | None:
    if wanted.plan is None:
        return None
    from selfhost.plan import read_plan

    return read_plan(wanted.plan)


def _baseline() -> Baseline | None:
    """What this node looked like when it was well, where somebody had it learnt."""
    from selfhost.health import BaselineError, default_path, read_baseline

    path = default_path()
    try:
        return read_baseline(path) if path.exists() else None
    except (BaselineError, OSError):  # `selfhost health` tells of it; a look at the node goes on without
        return None


def _sources(wanted: Wanted, plan: Plan | None, interval: float) -> Sources:
    from selfhost.monitor import Sources

    return Sources(
        engines=engine_addresses(wanted.engine, wanted.engine_log),
        discover_engines=not (wanted.no_engines or wanted.engine),
        plan=plan,
        interval_seconds=wanted.interval or interval,
    )


def _suppressions() -> tuple[Suppression, ...]:
    """Findings that nobody wants to be told of for a while."""
    from selfhost.health.suppressions import SuppressionError, default_path, read_suppressions

    place = default_path()
    try:
        return read_suppressions(place) if place.exists() else ()
    except (SuppressionError, OSError):  # `selfhost health` tells of it
        return ()


def _judge(plan: Plan | None, baseline: Baseline | None) -> Judge:
    """What the checks say of a history."""
    from selfhost.health import Context, assess

    rows = _suppressions()
    return lambda history: assess(history, Context(now=history[-1].at, plan=plan, baseline=baseline), rows)


def _once(wanted: Wanted) -> int:
    from selfhost.cli import _monitor_json, _monitor_table
    from selfhost.live.seen import see

    plan = _plan(wanted)
    named = frozenset(engine_address(text).url for text in wanted.engine)
    judge = _judge(plan, None if wanted.replay else _baseline())
    history: tuple[Observation, ...] = ()
    trouble = False
    with ExitStack() as stack:
        for history in _histories(wanted, plan, stack):
            trouble = bool(_monitor_table.troubles(history[-1], named))
            if wanted.as_json and (wanted.count or 1) > 1:
                health = judge(history)
                found = _monitor_json.facts(history[-1], health, answers=not trouble, plan=plan)
                click.echo(_monitor_json.one_line(found))
    if wanted.as_json and (wanted.count or 1) > 1:
        return 5 if trouble else 0
    health = judge(history)
    if wanted.as_json:
        from selfhost.cli._output import emit_json

        emit_json("monitor", _monitor_json.facts(history[-1], health, answers=not trouble, plan=plan))
    else:
        _monitor_table.show(see(history, health), named, plan=plan, recorded=wanted.record)
    return 5 if trouble else 0


def _histories(wanted: Wanted, plan: Plan | None, stack: ExitStack) -> Iterator[tuple[Observation, ...]]:
    """The history after each observation; of a recording only the last one."""
    from selfhost.monitor import Recorder, observe_once

    if wanted.replay is not None:
        yield _recording(wanted.replay)[-900:]
        return
    sources = _sources(wanted, plan, COUNT_SECONDS)
    recorder = stack.enter_context(Recorder(wanted.record)) if wanted.record else None
    if (wanted.count or 1) == 1:
        observation = observe_once(sources, deadline_seconds=DEADLINE_SECONDS)
        if recorder:
            recorder.write(observation)
        yield (observation,)
        return
    for history in _polled(sources, wanted.count or 1, stack):
        if recorder:
            recorder.write(history[-1])
        yield history


def _polled(sources: Sources, count: int, stack: ExitStack) -> Iterator[tuple[Observation, ...]]:
    """The history after each of `count` readings of a poller."""
    import queue
    import time

    from selfhost.monitor import Poller
    from selfhost.observation.reading import NOT_READ

    ready: queue.SimpleQueue[tuple[Observation, ...]] = queue.SimpleQueue()
    poller = Poller(sources, listeners=(lambda _, history: ready.put(history),))
    stack.callback(poller.stop)
    poller.start()
    # What is seen before NVML was read once says nothing of the node; a driver that hangs is told of in the end.
    until = time.monotonic() + DEADLINE_SECONDS
    while count:
        history = ready.get()
        if history[-1].node.nvml.fault != NOT_READ or time.monotonic() > until:
            yield history
            count -= 1


def _recording(path: Path) -> tuple[Observation, ...]:
    from selfhost.monitor import RecordingError, replay

    observations = tuple(replay(path, on_truncated=lambda told: click.echo(f"Note: {told}", err=True)))
    if not observations:
        raise RecordingError(
            f"{path} holds no observation.", hint="`selfhost monitor --record FILE` writes a new one."
        )
    return observations


def _watch(wanted: Wanted) -> int:
    import time

    from selfhost.live.run import watch
    from selfhost.live.source import Live, Replay
    from selfhost.live.state import ViewState
    from selfhost.live.terminal import require_terminal

    require_terminal(os.environ)
    plan = _plan(wanted)
    if wanted.replay is not None:
        recorded = Replay(_recording(wanted.replay), time.monotonic)
        watch(
            recorded, _judge(plan, None), environ=os.environ, now=time.time,
            state=ViewState(replay=True),
        )  # fmt: skip
        return 0
    from selfhost.cli._monitor_record import Recording
    from selfhost.monitor import Poller

    sources = _sources(wanted, plan, WATCH_SECONDS)
    with ExitStack() as stack:
        poller = Poller(sources)
        recording = stack.enter_context(Recording(wanted.record)) if wanted.record else None
        if recording is not None:
            poller.listen(recording.write)
        stack.callback(poller.stop)
        poller.start()
        watch(
            Live(poller, recording.told if recording else str), _judge(plan, _baseline()),
            environ=os.environ, now=time.time,
            state=ViewState(interval=sources.interval_seconds, began=sources.interval_seconds),
        )  # fmt: skip
    if recording is not None and recording.failure is not None:
        raise recording.failure
    return 0


def _serve(wanted: Wanted) -> int:
    from selfhost.exporter import parse_listen, serve
    from selfhost.monitor import Poller

    host, port = parse_listen(wanted.serve or "")
    plan = _plan(wanted)
    poller = Poller(_sources(wanted, plan, SERVE_SECONDS))
    serve(
        poller, host, port, dcgm_names=wanted.dcgm_names, baseline=_baseline(), plan=plan,
        suppressions=_suppressions(), announce=lambda url: click.echo(f"Serving {url}/metrics"),
    )  # fmt: skip
    return 0

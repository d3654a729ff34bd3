"""Say whether this node's GPUs and engines are well, and what to do."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from selfhost.cli._monitor_options import engine_addresses
from selfhost.cli._options import NamedPath, Seconds, json_option
from selfhost.cli._output import emit_json, next_step
from selfhost.errors import SelfhostError, UsageError

if TYPE_CHECKING:
    from selfhost.health import Baseline, Health, History
    from selfhost.monitor import Sources
    from selfhost.observation import EngineAddress

_FILE = NamedPath(path_type=Path, dir_okay=False)
# How much of a recording is judged: what the longest rule looks back on (ten minutes), and a little.
_REPLAYED_SECONDS = 900.0
# Time for a band of power under load, one look a second.
_LEARN_INTERVAL_SECONDS = 1.0


class _Probe(click.Command):
    """With --nagios an option that is wrong is no finding either: click's own exit code for it means critical there."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = tuple(args)  # which parsing empties
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if "--nagios" not in words:
                raise
            hint = f"`{ctx.command_path} --help` lists what it takes."
            ctx.exit(_unknown(UsageError(error.format_message(), hint=hint), as_json="--json" in words))


@click.command(cls=_Probe)
@click.option(
    "--nagios", is_flag=True, help="One line, and exit codes 0 ok, 1 warning, 2 critical, 3 unknown."
)
@click.option("-v", "--verbose", is_flag=True, help="Print every check, with its source.")
@click.option(
    "--fail-on",
    type=click.Choice(["warn", "critical"]),
    default="warn",
    show_default=True,
    help="From which level on the exit code is 5. Unknown is one from warn on; with critical it counts as well.",
)
@click.option("--learn", is_flag=True, help="Write the baseline that later checks compare with.")
@click.option("--force", is_flag=True, help="With --learn: even from a node with critical findings.")
@click.option(
    "--baseline",
    type=_FILE,
    metavar="FILE",
    help="Baseline to compare with or to write.  [default: $XDG_STATE_HOME/selfhost/baseline.json]",
)
@click.option(
    "--suppressions",
    type=_FILE,
    metavar="FILE",
    help="Findings not to be told of.  [default: $XDG_CONFIG_HOME/selfhost/suppressions.toml]",
)
@click.option(
    "--plan", "plan_file", type=_FILE, metavar="FILE", help="The plan.json the engine was deployed from."
)
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="URL",
    help="An engine's address; URL=0,1 names its GPUs too.",
)
@click.option(
    "--engine-log",
    "engine_logs",
    multiple=True,
    type=NamedPath(dir_okay=False),
    metavar="FILE",
    help="Its output, for what it printed of its memory; one for each --engine.",
)
@click.option("--canary", is_flag=True, help="Also ask each engine for one token.")
@click.option("--no-engines", is_flag=True, help="Look at the GPUs alone.")
@click.option(
    "--kernel-log",
    type=_FILE,
    metavar="FILE",
    help="Output of dmesg or journalctl -k to read instead of /dev/kmsg.",
)
@click.option(
    "--replay", "recording", type=_FILE, metavar="FILE", help="Judge the end of a recording instead."
)
@click.option(
    "--window",
    type=Seconds(0, 3600),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to look again where a finding needs more than one look; with --learn, how long to watch.",
)
@click.option(
    "--timeout",
    type=Seconds(0.5, 600),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long one look may take, also where the driver hangs.",
)
@json_option
def command(
    nagios: bool,
    verbose: bool,
    fail_on: Literal["warn", "critical"],
    learn: bool,
    force: bool,
    baseline: Path | None,
    suppressions: Path | None,
    plan_file: Path | None,
    engines: tuple[str, ...],
    engine_logs: tuple[str, ...],
    canary: bool,
    no_engines: bool,
    kernel_log: Path | None,
    recording: Path | None,
    window: float,
    timeout: float,
    as_json: bool,
) -> int:
    """Check GPUs, driver and engines of this node, and name what is wrong, worst first.

    Nothing is changed and no load is put on a GPU. Exit code 0: the verdict is ok; 5: it is not. With --fail-on
    critical a warning leaves 0. With --nagios: 0 ok, 1 warning, 2 critical, 3 unknown, also for errors of this command.
    """
    try:
        if no_engines and engines:
            raise UsageError("--no-engines and --engine contradict each other.")
        if learn and recording:
            raise UsageError("--learn needs the node itself, not a recording.")
        if force and not learn:
            raise UsageError("--force goes with --learn.")
        if kernel_log is not None and not os.access(kernel_log, os.R_OK):
            raise UsageError(
                f"The kernel log {kernel_log} cannot be read.",
                hint="Leave --kernel-log out to read /dev/kmsg, or write it: dmesg > FILE.",
            )
        known = _baseline(baseline, learning=learn)
        sources = _sources(engine_addresses(engines, engine_logs), no_engines, plan_file, kernel_log, timeout)
        sources = replace(sources, canary=canary)
        if recording is not None:
            history = _replayed(recording)
        else:
            history = _observed(sources, known, window, timeout, learning=learn)
        health = _assess(history, sources, known, suppressions)
    except SelfhostError as error:
        if not nagios:
            raise
        return _unknown(error, as_json=as_json)
    if learn:
        return _learn(history, health, known, baseline, force=force, as_json=as_json)
    return _tell(
        health, nagios=nagios, verbose=verbose, as_json=as_json, fail_on=fail_on, compared=known is not None
    )


def _unknown(error: SelfhostError, *, as_json: bool) -> int:
    """Nagios's line and exit code for a check that could not be made; with --json the error is an object, as ever."""
    if as_json:
        error.exit_code = 3
        raise error
    sentence = " ".join(error.message.split()).replace("|", "/")  # what follows a | are numbers
    click.echo(f"UNKNOWN: {sentence} | critical=0 warn=0 unknown=1 ok=0 skipped=0")
    return 3


def _baseline(path: Path | None, *, learning: bool) -> Baseline | None:
    """The baseline that was named, or the one in its usual place; none is no fault, unless it was named."""
    from selfhost.health import default_path, read_baseline

    place = path or default_path()
    if (path is None or learning) and not place.exists():
        return None
    return read_baseline(place)


def _sources(
    engines: tuple[EngineAddress, ...],
    no_engines: bool,
    plan_file: Path | None,
    kernel_log: Path | None,
    timeout: float,
) -> Sources:
    from selfhost.monitor import Sources

    plan = None
    if plan_file is not None:
        from selfhost.plan import read_plan

        plan = read_plan(plan_file)
    return Sources(
        engines=engines,
        discover_engines=not no_engines and not engines,
        plan=plan,
        kernel_log_file=kernel_log,
        engine_timeout_seconds=min(2.0, timeout / 2),
    )


def _observed(
    sources: Sources, baseline: Baseline | None, window: float, timeout: float, *, learning: bool
) -> History:
    from selfhost.monitor import watch_once

    history = watch_once(sources, baseline=baseline, deadline_seconds=timeout, window_seconds=window)
    if learning and any(engine.generation_tokens for engine in history[-1].engines):
        history += _watched(sources, window)
    return history


def _watched(sources: Sources, window: float) -> History:
    """One look a second for as long as it was asked for: the power while tokens flow."""
    import time
    from dataclasses import replace

    from selfhost.monitor import Poller

    poller = Poller(replace(sources, interval_seconds=_LEARN_INTERVAL_SECONDS, slow_every=10))
    poller.start()
    try:
        time.sleep(window)
        return poller.history()
    finally:
        poller.stop()


def _replayed(recording: Path) -> History:
    from selfhost.monitor import replay
    from selfhost.observation import Observation

    kept: deque[Observation] = deque()
    for observation in replay(recording):
        kept.append(observation)
        while kept[0].at < observation.at - _REPLAYED_SECONDS or kept[0].node.host != observation.node.host:
            kept.popleft()
    if not kept:
        raise UsageError(f"{recording} holds no observation.")
    return tuple(kept)


def _assess(
    history: History, sources: Sources, baseline: Baseline | None, suppressions: Path | None
) -> Health:
    from selfhost.health import Context, assess
    from selfhost.health.suppressions import default_path, read_suppressions

    place = suppressions or default_path()
    rows = read_suppressions(place) if suppressions is not None or place.exists() else ()
    context = Context(now=history[-1].at, plan=sources.plan, baseline=baseline)
    return assess(history, context, rows)


def _tell(
    health: Health,
    *,
    nagios: bool,
    verbose: bool,
    as_json: bool,
    fail_on: Literal["warn", "critical"],
    compared: bool,
) -> int:
    from selfhost.cli._health_output import nagios_line, show
    from selfhost.health import exit_code

    code = exit_code(health.verdict, nagios=nagios)
    if not nagios and fail_on == "critical" and health.verdict == "warn":
        code = 0
    if as_json:
        emit_json("health", _facts(health))
    elif nagios:
        click.echo(nagios_line(health))
    else:
        show(health, code=code, verbose=verbose)
        if not compared and health.verdict == "ok":
            next_step("selfhost health --learn", "remembers this, so that what goes missing is noticed")
    return code


def _facts(health: Health) -> dict[str, object]:
    return {
        "verdict": health.verdict,
        "checks": [
            {
                "code": check.code,
                "level": check.level,
                "gpu": check.gpu,
                "message": check.message,
                "evidence": check.evidence,
                "action": check.action,
                "source": check.source,
            }
            for check in health.checks
        ],
    }


def _learn(
    history: History,
    health: Health,
    before: Baseline | None,
    path: Path | None,
    *,
    force: bool,
    as_json: bool,
) -> int:
    from selfhost.health import default_path, learn, write_baseline

    faults = [
        check for check in health.checks if check.level == "critical" and check.code != "gpu-count"
    ]  # a changed count is what a new baseline is for
    if faults and not force:
        raise SelfhostError(
            f"This node is not well: {faults[0].message}.",
            hint="Mend it first, or add --force to learn it as it is.",
        )
    learnt = learn(history, before=before)
    if not learnt.gpus:
        raise SelfhostError(
            "No GPU answers here, so there is nothing to learn.", hint="`selfhost health` says why."
        )
    place = path or default_path()
    write_baseline(learnt, place)
    if as_json:
        emit_json("health", _facts(health))
    else:
        _say_learnt(learnt, place)
    return 0


def _say_learnt(learnt: Baseline, place: Path) -> None:
    from selfhost.cli._output import facts, headline

    headline(f"Learnt {len(learnt.gpus)} GPUs of {learnt.host}.", good=True)
    click.echo()
    banded = [gpu for gpu in learnt.gpus if gpu.busy_low_watts is not None]
    rows = {"file": str(place), "driver": learnt.driver or "not told"}
    for gpu in learnt.gpus:
        parts = [gpu.name]
        if gpu.pcie_generation is not None and gpu.pcie_width is not None:
            parts.append(f"PCIe {gpu.pcie_generation} x{gpu.pcie_width}")
        if gpu.nvlinks_active:
            parts.append(f"{gpu.nvlinks_active} NVLinks")
        if gpu.busy_low_watts is not None:
            parts.append(
                f"{gpu.busy_low_watts:.0f}–{gpu.busy_high_watts:.0f} W busy ({gpu.busy_samples} readings)"
            )
        rows[f"gpu {gpu.index}"] = ", ".join(parts)
    facts(rows)
    if not banded:
        next_step(
            "selfhost health --learn",
            "once more while an engine is under load: its power then is not known yet",
        )

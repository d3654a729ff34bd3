"""A smoke test from its first request to the figures."""

from __future__ import annotations

import time
from collections.abc import Callable

from selfhost.deploy.channel import Channel, NoReplyError
from selfhost.deploy.figures import memory_figures, snapshot_of
from selfhost.deploy.smoke.asks import bearer, flags_of
from selfhost.deploy.smoke.trying import QUICK_SECONDS, Trying
from selfhost.deploy.smoke.types import ApiKey, Check, Smoke
from selfhost.observation import EngineSnapshot
from selfhost.observation.reading import NOT_READ
from selfhost.plan import Plan

# Ours: the first request may compile kernels; afterwards an engine that is well answers these within seconds.
TIMEOUT_SECONDS = 180.0


def smoke(
    plan: Plan,
    channel: Channel,
    key: ApiKey,
    *,
    words: tuple[str, ...] = (),
    log: str | None = None,
    metrics: Channel | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
    tell: Callable[[Check], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], float] = time.time,
) -> Smoke:
    """Try an engine. Raises nothing: what does not answer fails.

    Args:
        plan: what was deployed.
        channel: to the engine's port.
        key: that clients send.
        words: arguments that the container was given, where they are more than the plan's.
        log: the beginning of its log, for what it printed of its memory.
        metrics: where the metrics are on a port of their own.
        timeout_seconds: of all together.
        tell: of each check as it ends.
        clock: a monotonic one.
        now: Unix time.
    """
    trying = Trying(
        plan=plan, channel=channel, key=key, flags=flags_of(plan, words), until=clock() + timeout_seconds,
        tell=tell, clock=clock,
    )  # fmt: skip
    trying.run()
    engine = _metrics(trying, metrics or channel, log, now())
    return Smoke(
        checks=tuple(trying.checks),
        stream=trying.stream,
        memory=None if engine is None else memory_figures(plan, engine),
        engine=engine,
        connections=channel.connections + (metrics.connections if metrics else 0),
    )


def _metrics(trying: Trying, channel: Channel, log: str | None, now: float) -> EngineSnapshot | None:
    """The engine's metrics, which are no check: an engine without them serves as well."""
    plan = trying.plan
    page, why = None, "its metrics were not read"
    if trying.health_status is not None and plan.engine.metrics:
        guarded = plan.engine.key is not None and plan.engine.key.guards_metrics
        headers = bearer(trying.key.value) if guarded else {}
        try:
            answer = channel.ask(plan.engine.metrics_path, headers=headers, seconds=QUICK_SECONDS)
        except NoReplyError as error:
            why = str(error)
        else:
            why = f"HTTP {answer.status}"
            page = answer.body.decode("utf-8", errors="replace") if answer.status == 200 else None
    if page is None and log is None:
        return None
    health = NOT_READ if trying.health_status is None else trying.health_status
    return snapshot_of(plan, page, log, now=now, why=why, health_status=health)

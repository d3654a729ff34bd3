"""What is answered: each new observation is judged and rendered once, and a scrape only copies bytes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from selfhost.exporter.families import EngineExtra, Judged, families
from selfhost.exporter.page import CONTENT_TYPES, Page, form_of
from selfhost.exporter.summarise import summarise
from selfhost.exporter.text import Format
from selfhost.health import Baseline, Context, Health, assess
from selfhost.health.engine_wedged import CODE as WEDGED
from selfhost.health.memory_plan import memory_terms
from selfhost.monitor import Poller
from selfhost.observation import EngineSnapshot, Missing, Observation, XidEvent
from selfhost.observation.summary import write_summary

if TYPE_CHECKING:
    from selfhost.health.suppressions import Suppression
    from selfhost.plan import Plan

# Ours: a format is rendered ahead of the next scrape as long as somebody asked for it within these observations.
_ASKED_OBSERVATIONS = 60


@dataclass(slots=True)
class XidCounts:
    """Xids counted over the whole life of the exporter; an observation keeps only the last of them."""

    counts: dict[tuple[str, int], int] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)
    _seen: XidEvent | None = None

    def take(self, events: tuple[XidEvent, ...]) -> None:
        """Count those that came after the last one that was counted."""
        new = 0
        for number, event in enumerate(events):
            if event is self._seen:
                new = number + 1
        for event in events[new:]:
            self._seen = event
            if event.uuid is not None:
                key = (event.uuid, event.xid)
                self.counts[key] = self.counts.get(key, 0) + 1
                self.last[event.uuid] = event.xid


class Exporter:
    """Listens to a poller and holds the answers to every path.

    Args:
        poller: what observes.
        dcgm_names: also dcgm-exporter's metrics.
        baseline, plan, suppressions: for the checks.
    """

    def __init__(
        self,
        poller: Poller,
        *,
        dcgm_names: bool = False,
        baseline: Baseline | None = None,
        plan: Plan | None = None,
        suppressions: tuple[Suppression, ...] = (),
    ) -> None:
        self.poller = poller
        self.health: Health | None = None
        self.failure: str | None = None
        self._dcgm_names = dcgm_names
        self._baseline = baseline
        self._plan = plan
        self._suppressions = suppressions
        self._xids = XidCounts()
        self._asked: dict[Format, int] = {}
        self._observed = 0
        self._page: Page | None = None
        self._summary: bytes | None = None
        poller.listen(self.observed)

    def observed(self, observation: Observation, history: tuple[Observation, ...]) -> None:
        """Judge and render an observation; called by the poller."""
        self._xids.take(observation.node.xids)
        health = self.health = self._assess(observation, history)
        page = self._page_of(observation, health)
        self._observed += 1
        for form, asked in tuple(self._asked.items()):
            if self._observed - asked <= _ASKED_OBSERVATIONS:
                page.render(form)
        self._page = page
        self._summary = write_summary(summarise(history, health, self.poller.sources.interval_seconds))

    def metrics(self, accept: str | None, *, packed: bool) -> tuple[bytes, str]:
        """Body and content type of /metrics. Never touches NVML."""
        form = form_of(accept)
        self._asked[form] = self._observed
        page = self._page
        if page is None:
            first = self.poller.latest()
            page = self._page_of(first, None)
        polled = self.poller.polled_at
        age = None if polled is None else max(0.0, time.time() - polled)
        return page.answer(form, packed=packed, age_seconds=age), CONTENT_TYPES[form]

    def summary(self) -> bytes | None:
        """Body of /api/v1/summary, None before the first observation."""
        return self._summary

    def alive(self) -> str | None:
        """Why this process should be started anew, None where it need not be."""
        return None if self.poller.alive else "the poller's thread has ended"

    def ready(self) -> str | None:
        """Why there is nothing to tell yet, None once there is."""
        if self.poller.ready and self._summary is not None:
            return None
        stuck = self.poller.stuck
        if stuck is not None:
            return f"the first poll of NVML is under way: {stuck[0]} for {stuck[1]:.1f} s"
        return "the first poll of NVML is not over"

    def _assess(self, observation: Observation, history: tuple[Observation, ...]) -> Health | None:
        context = Context(now=observation.at, plan=self._plan, baseline=self._baseline)
        try:
            health = assess(history, context, self._suppressions)
        except Exception as error:  # readings are exported whatever a check does; the verdict is then unknown
            self.failure = f"{type(error).__name__}: {error}"[:300]
            return None
        self.failure = None
        return health

    def _page_of(self, observation: Observation, health: Health | None) -> Page:
        sources = self.poller.sources
        judged = Judged(
            checks=None if health is None else health.checks,
            verdict="unknown" if health is None else health.verdict,
            gpus_expected=None if self._baseline is None else len(self._baseline.gpus),
            xids=self._xids.counts,
            engines={engine.url: self._extra(engine, observation, health) for engine in observation.engines},
            # One scrape may fail before an engine counts as down.
            engine_fresh_seconds=2 * sources.interval_seconds + sources.engine_timeout_seconds,
        )
        node = observation.node if self._dcgm_names else None
        return Page(families(observation, judged), node, dict(self._xids.last))

    def _extra(self, engine: EngineSnapshot, observation: Observation, health: Health | None) -> EngineExtra:
        """Wedged or not by its check; the plan's memory terms where there is a plan and the engine has GPUs."""
        found = health.checks if health is not None else ()
        level = next((one.level for one in found if one.code == WEDGED and one.engine == engine.url), None)
        wedged = None if level in (None, "unknown", "skipped") else level == "critical"
        if self._plan is None:
            return EngineExtra(wedged=wedged)
        try:
            terms = memory_terms(self._plan, engine, observation.node.gpus)
        except Exception as error:  # as for the checks
            self.failure = f"{type(error).__name__}: {error}"[:300]
            return EngineExtra(wedged=wedged)
        return EngineExtra(
            wedged=wedged,
            predicted=tuple(
                (term.name, term.predicted_bytes) for term in terms if term.predicted_bytes is not None
            ),
            actual=tuple((term.name, term.actual) for term in terms if not isinstance(term.actual, Missing)),
        )

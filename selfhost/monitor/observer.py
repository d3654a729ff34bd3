"""One look at everything, with limits to how long it may take: what the poller repeats and a one-shot does once."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

from selfhost.monitor.compose import compose_node, hung_after_seconds
from selfhost.monitor.edges import Edges, Lane
from selfhost.monitor.engine_watch import EngineWatch
from selfhost.monitor.nvml_thread import NvmlThread
from selfhost.monitor.sources import Sources
from selfhost.observation import GpuProcess, GpuSnapshot, KernelEvent, Missing, Observation, Reading, known
from selfhost.observation.node import SCHEMA
from selfhost.observation.reading import NOT_READ


class Observer:
    """Owns the NVML thread and the engines' threads, and composes what they saw.

    Everything but `stop` and `latest` is called from one thread.
    """

    def __init__(self, sources: Sources, edges: Edges) -> None:
        self.nvml = NvmlThread(edges)
        self.engines = EngineWatch(sources, edges)
        self._sources = sources
        self._edges = edges
        self._facts = edges.node_facts()
        self._kernel_log: Reading[tuple[KernelEvent, ...]] = NOT_READ

    def start(self) -> None:
        """Begin; nothing is read yet."""
        self.nvml.start()

    def stop(self, patience_seconds: float) -> None:
        """End; a thread that NVML holds is left."""
        self.engines.stop()
        # A thread in the midst of a poll may be stuck: it is told to end, and not waited for where it has been late.
        call = self.nvml.current_call()
        stuck = call is not None and time.monotonic() - call[1] >= patience_seconds
        self.nvml.stop(0.0 if stuck else patience_seconds)

    def look(
        self,
        lanes: frozenset[Lane],
        *,
        nvml_seconds: float,
        engine_seconds: float,
        whole: bool = False,
        until: float | None = None,
    ) -> Observation:
        """Read the lanes and the engines, and say what is known by then.

        Args:
            lanes: lanes to read.
            nvml_seconds: how long NVML is waited for.
            engine_seconds: how long the engines are waited for after that.
            whole: wait for engines that are being looked for or were late, and take a call that is under way at the
                end for one that hangs: there will be no second look.
            until: monotonic time at which to be back; the engines have what is left until then.
        """
        slow = "slow" in lanes
        began = time.monotonic()
        self.engines.kick()
        self.nvml.request(lanes)
        if slow:
            self._read_node()
        self.nvml.settle(nvml_seconds - (time.monotonic() - began))
        until = time.monotonic() + engine_seconds if until is None else until
        if slow:
            self.engines.discover(
                tuple(sorted({process.pid for process in _processes(self.nvml.view().gpus)}))
            )
        if whole:
            self.engines.settle(until - time.monotonic(), for_late=True)
            self.engines.kick()  # those that were found just now
        self.engines.settle(until - time.monotonic(), for_late=whole)
        if whole:  # the time that the engines did not need
            self.nvml.settle(until - time.monotonic())
        return self.compose(last=whole)

    def _read_node(self) -> None:
        with suppress(Exception):
            self._facts = self._edges.node_facts()
        try:
            self._kernel_log = self._edges.kernel_log(self._edges.clock(), self._facts.booted_at)
        except Exception as error:
            self._kernel_log = Missing(missing=f"the kernel log cannot be read: {type(error).__name__}")

    def compose(self, *, last: bool = False) -> Observation:
        """What is known now."""
        now, monotonic = self._edges.clock(), time.monotonic()
        # The call is read before the GPUs: one that ends in between is then told of as under way, never missed.
        call = self.nvml.current_call()
        view = self.nvml.view()
        if last and view.fault is NOT_READ:
            view = replace(view, fault=Missing(missing="reading NVML was not finished in the time given"))
        patience = hung_after_seconds(self._sources.interval_seconds)
        node = compose_node(
            view,
            self._facts,
            self._kernel_log,
            call=call,
            hung_after=_LAST_SECONDS if last else patience,
            stale_after=patience,
            now=now,
            monotonic=monotonic,
        )
        engines = self.engines.snapshots()
        # The edges promise not to raise; one that does costs its own readings, not everybody's.
        with suppress(Exception):
            engines = self._edges.join(engines, node.gpus)
        return Observation(
            schema=SCHEMA,
            at=now,
            node=node,
            engines=engines,
            engines_looked_for=self.engines.looked_for,
        )


# Ours: in a one-shot, a call that has taken this long when the time is up is one that hangs.
_LAST_SECONDS = 0.5


def _processes(gpus: tuple[GpuSnapshot, ...]) -> list[GpuProcess]:
    return [process for gpu in gpus if known(gpu.slow.processes) for process in gpu.slow.processes]

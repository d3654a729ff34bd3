"""The one thread that asks NVML: initialises it there, runs lanes on request, publishes each GPU as it is read.

A call can hang in the driver for good, and a thread in it cannot be ended (DCGM issue 313, more than 45 s; read
2026-11-21). So nobody ever waits for this thread without a limit, and no second one is started on top of a stuck one.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace

from selfhost.monitor.edges import ALL_LANES, DriverReadings, Edges, Lane, Reader
from selfhost.observation import GpuSnapshot, Missing, Reading, XidEvent, known
from selfhost.observation.reading import NOT_READ

# Ours: NVML that could not be initialised is tried again, since a driver may be loaded later, or again.
RETRY_SECONDS = 30.0
# Ours: Xids kept of those that NVML delivered; a faulty program can make thousands.
MOST_XIDS = 1000
# How the UUID begins of a GPU that has not told its own; its index follows.
NAMELESS = "unknown-"
OPENING = "nvmlInitWithFlags"
ATTRIBUTING = "the search for the processes' names in /proc"


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmlView:
    """What the thread has seen so far.

    Args:
        passes: complete passes over all GPUs, or answers that there is no NVML.
        fault: why NVML cannot be used.
        poll_seconds: how long the last complete pass took, None before the first.
        polled_at: Unix time at which it ended.
        deaf: why Xid events are not heard.
    """

    passes: int = 0
    fault: Missing | None = NOT_READ
    driver_version: Reading[str] = NOT_READ
    nvml_version: Reading[str] = NOT_READ
    cuda_version: Reading[str] = NOT_READ
    device_count: Reading[int] = NOT_READ
    gpus: tuple[GpuSnapshot, ...] = ()
    xids: tuple[XidEvent, ...] = ()
    poll_seconds: float | None = None
    polled_at: float | None = None
    failed_calls: int = 0
    deaf: Missing | None = None


class NvmlThread:
    """Polls NVML in a daemon thread of its own."""

    def __init__(self, edges: Edges) -> None:
        self._edges = edges
        self._changed = threading.Condition()
        self._wanted: set[Lane] = set()
        self._stopping = False
        self._busy = False
        self._view = NvmlView()
        self._gpus: dict[str, GpuSnapshot] = {}
        self._attributed: dict[str, GpuSnapshot] = {}
        self._reader: Reader | None = None
        self._own_call: tuple[str, float] | None = None
        self._try_at = 0.0
        self._thread = threading.Thread(target=self._run, name="selfhost-nvml", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the thread is there, stuck or not."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin; nothing is asked before the first request."""
        self._thread.start()

    def request(self, lanes: frozenset[Lane]) -> None:
        """Have the lanes read as soon as the thread is free; lanes that are asked for already are read once."""
        with self._changed:
            self._wanted |= lanes
            self._changed.notify_all()

    def settle(self, timeout_seconds: float) -> bool:
        """Wait until what was requested is read; whether it was in time."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._stopping or not (self._busy or self._wanted), timeout=max(0.0, timeout_seconds)
            )

    def stop(self, patience_seconds: float) -> bool:
        """End the thread and let go of NVML; False where it is stuck and was left."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(max(0.0, patience_seconds))
        return not self._thread.is_alive()

    def view(self) -> NvmlView:
        """What is known now, each GPU as of its last reading."""
        with self._changed:
            gpus = tuple(sorted(self._gpus.values(), key=lambda gpu: (gpu.identity.index, gpu.identity.uuid)))
            reader = self._reader
            failed = reader.failed_calls if reader is not None else self._view.failed_calls
            return replace(self._view, gpus=gpus, failed_calls=failed)

    def current_call(self) -> tuple[str, float] | None:
        """The call under way and its monotonic start."""
        own, reader = self._own_call, self._reader
        if own is not None or reader is None:
            return own
        return reader.current_call

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._wanted)
                if self._stopping:
                    break
                lanes = frozenset(self._wanted)
                self._wanted.clear()
                self._busy = True
            try:
                self._pass(lanes)
            except Exception as error:  # a fault of ours must not end the thread that everything rests on
                self._own_call = None
                self._fail(Missing(missing=f"reading NVML failed: {type(error).__name__}: {error}"[:200]))
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()
        self._close()

    def _pass(self, lanes: frozenset[Lane]) -> None:
        if self._reader is None:
            if time.monotonic() < self._try_at:
                return
            if not self._open():
                return
            lanes = ALL_LANES
        assert self._reader is not None
        began = time.monotonic()
        if not self._view.passes:  # versions are told also while the first poll hangs
            self._take(self._reader.node_readings())
        gpus = self._reader.poll(lanes, self._publish)
        self._take(self._reader.node_readings())
        taken = time.monotonic() - began
        for gpu in gpus:
            self._publish(gpu)
        at = self._edges.clock()
        xids = (*self._view.xids, *self._reader.drain_events(at))[-MOST_XIDS:]
        deaf = self._reader.node_readings().deaf
        with self._changed:
            self._keep_the_gone(gpus)
            self._view = replace(
                self._view,
                passes=self._view.passes + 1,
                fault=None,
                xids=xids,
                poll_seconds=taken,
                polled_at=at,
                deaf=deaf,
            )
        if "slow" in lanes:
            self._reopen_if_dead(gpus)

    def _take(self, node: DriverReadings) -> None:
        with self._changed:
            self._view = replace(
                self._view,
                driver_version=node.driver_version,
                nvml_version=node.nvml_version,
                cuda_version=node.cuda_version,
                device_count=node.device_count,
            )

    def _open(self) -> bool:
        self._own_call = (OPENING, time.monotonic())
        opened = self._edges.open_nvml()
        self._own_call = None
        if isinstance(opened, Missing):
            self._fail(opened)
            return False
        with self._changed:
            self._reader = opened
        return True

    def _fail(self, fault: Missing) -> None:
        """NVML as a whole gives nothing; GPUs that were seen stay, with that as their fault."""
        self._try_at = time.monotonic() + RETRY_SECONDS
        with self._changed:
            self._gpus = {
                uuid: gpu if gpu.fault else replace(gpu, fault=fault) for uuid, gpu in self._gpus.items()
            }
            self._view = replace(self._view, passes=self._view.passes + 1, fault=fault)

    def _publish(self, gpu: GpuSnapshot) -> None:
        """Store one GPU, with its processes' names: found when its slow lane was read, carried on in between."""
        uuid = gpu.identity.uuid
        before = self._attributed.get(uuid)
        if gpu.slow_at is not None and (before is None or before.slow_at != gpu.slow_at):
            self._own_call = (ATTRIBUTING, time.monotonic())
            gpu = before = self._edges.attribute((gpu,))[0]
            self._own_call = None
            self._attributed[uuid] = before
        elif before is not None:
            gpu = replace(
                gpu, slow=before.slow, pod=before.pod, namespace=before.namespace, container=before.container
            )
        with self._changed:
            self._gpus[uuid] = gpu
            if not uuid.startswith(NAMELESS):  # it is there under its own name now, even if the pass hangs
                self._gpus.pop(f"{NAMELESS}{gpu.identity.index}", None)

    def _keep_the_gone(self, gpus: tuple[GpuSnapshot, ...]) -> None:
        """A GPU that NVML no longer lists stays, so that its series and its verdict go on.

        One that had not told its UUID goes once it has: it is there under its own.
        """
        here = {gpu.identity.uuid for gpu in gpus}
        places = {gpu.identity.index for gpu in gpus}
        for uuid, gpu in tuple(self._gpus.items()):
            if uuid in here:
                continue
            if uuid.startswith(NAMELESS) and gpu.identity.index in places:
                del self._gpus[uuid]
            elif gpu.fault is None:
                self._gpus[uuid] = replace(gpu, fault=Missing(missing="NVML does not list this GPU any more"))

    def _reopen_if_dead(self, gpus: tuple[GpuSnapshot, ...]) -> None:
        """Where nothing answers any more, the driver may have been loaded anew: only a new start finds out."""
        dead = not known(self._view.device_count) or (bool(gpus) and all(gpu.fault for gpu in gpus))
        if not dead or time.monotonic() < self._try_at:
            return
        if self._try_at:
            self._close()
        self._try_at = time.monotonic() + RETRY_SECONDS

    def _close(self) -> None:
        with self._changed:
            reader, self._reader = self._reader, None
            if reader is not None:
                self._view = replace(self._view, failed_calls=reader.failed_calls)
        if reader is not None:
            self._own_call = ("nvmlShutdown", time.monotonic())
            try:
                reader.close()
            finally:
                self._own_call = None

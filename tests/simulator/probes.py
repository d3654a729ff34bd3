"""Probes of a container at its start, for readiness and for life (Kubernetes 1.36.2 pkg/kubelet/prober/)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulator.box import FOREVER, Object
from tests.simulator.status import Held

LEAST_SECONDS = 0.02  # between two looks, however fast the tests' clock goes
TELL_SECONDS = 0.25  # between two writes of an event that repeats


@dataclass(slots=True, kw_only=True)
class Probe:
    """One probe of a container."""

    kind: str
    spec: Object
    period: float
    failures: int = 0
    last: float = 0.0
    told: float = 0.0
    untold: int = 0


@dataclass(slots=True, kw_only=True)
class Prober:
    """Looks at a container now and then.

    Args:
        held: the container.
        pace: seconds of the clock for each second of the manifest.
        ip: of the pod.
        tell: writes an Unhealthy event.
    """

    held: Held
    pace: float
    ip: str
    tell: Callable[[str], None]
    probes: dict[str, Probe] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind in ("startup", "readiness", "liveness"):
            spec = self.held.spec.get(f"{kind}Probe")
            if spec:
                period = max(LEAST_SECONDS / 4, float(spec.get("periodSeconds", 10)) * self.pace)
                self.probes[kind] = Probe(kind=kind, spec=spec, period=period, last=time.monotonic())
        if "startup" not in self.probes:
            self.held.started = True
        if "readiness" not in self.probes and self.held.started:
            self.held.ready = True

    def due(self) -> float:
        """Seconds until the next look."""
        waits = [max(one.period, LEAST_SECONDS) for one in self._active()]
        return min(waits, default=FOREVER)

    def _active(self) -> list[Probe]:
        if not self.held.started:
            return [self.probes["startup"]] if "startup" in self.probes else []
        return [one for kind, one in self.probes.items() if kind != "startup"]

    def look(self) -> str | None:
        """Probe; the name of the probe for which the container has to be killed, or None."""
        box, now = self.held.box, time.monotonic()
        assert box is not None
        well = box.listening and box.healthy == 200
        for probe in self._active():
            missed = max(1, int((now - probe.last) / probe.period))
            if now - probe.last < probe.period * 0.99:
                continue
            probe.last = now
            threshold = int(probe.spec.get("failureThreshold", 3))
            if well:
                probe.failures = 0
                self._passed(probe)
                continue
            probe.failures += missed
            self._failed(probe, now, self._why(probe))
            if probe.failures >= threshold:
                if probe.kind == "readiness":
                    self.held.ready = False
                else:
                    return probe.kind
        return None

    def _passed(self, probe: Probe) -> None:
        if probe.kind == "startup":
            self.held.started = True
            if "readiness" not in self.probes:
                self.held.ready = True
            for other in self.probes.values():
                other.last = time.monotonic()
                if other.kind == "readiness":
                    other.last = 0.0  # the readiness worker is triggered by the start (worker.go)
        elif probe.kind == "readiness":
            self.held.ready = True

    def _failed(self, probe: Probe, now: float, why: str) -> None:
        if now - probe.told < TELL_SECONDS:
            return
        probe.told = now
        self.tell(f"{probe.kind.capitalize()} probe failed: {why}")

    def _why(self, probe: Probe) -> str:
        box = self.held.box
        assert box is not None
        get = probe.spec.get("httpGet")
        if get is None:
            port = _port(self.held.spec, probe.spec.get("tcpSocket", {}).get("port"))
            return f"dial tcp {self.ip}:{port}: connect: connection refused"
        port = _port(self.held.spec, get.get("port"))
        address = f"http://{self.ip}:{port}{get.get('path', '/')}"
        if not box.listening:
            return f'Get "{address}": dial tcp {self.ip}:{port}: connect: connection refused'
        if box.healthy == 0:
            return (
                f'Get "{address}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
            )
        return f"HTTP probe failed with statuscode: {box.healthy}"


def _port(spec: Object, port: object) -> object:
    """The number of a port that may be a name."""
    for one in spec.get("ports") or ():
        if one.get("name") == port:
            return one["containerPort"]
    return port

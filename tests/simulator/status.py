"""Statuses of pods and containers as the kubelet has them (Kubernetes 1.36.2 status/generate.go, kubelet_pods.go)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from tests.simulator.box import Box, Exit, Log, now_text

Object = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Held:
    """A container of a pod, as the kubelet knows it."""

    spec: Object
    init: bool = False
    waiting: tuple[str, str] | None = None
    running: str = ""
    terminated: Object | None = None
    last: Object | None = None
    restarts: int = 0
    started: bool = False
    ready: bool = False
    identity: str = ""
    log: Log | None = None
    previous: Log | None = None
    box: Box | None = None

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def sidecar(self) -> bool:
        """An init container that runs beside the others."""
        return self.init and self.spec.get("restartPolicy") == "Always"

    def start(self, box: Box) -> None:
        """It runs."""
        self.previous, self.log, self.box = self.log, box.log, box
        self.identity = f"containerd://{uuid4().hex}{uuid4().hex}"
        self.waiting, self.terminated, self.running = None, None, now_text()
        self.started, self.ready = False, False

    def end(self, exit_: Exit) -> None:
        """It runs no more."""
        fallback = self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError"
        message = exit_.message
        if not message and fallback and exit_.code and self.log is not None:
            message = self.log.tail()
        found = {
            "exitCode": exit_.code,
            "reason": exit_.reason or ("Completed" if exit_.code == 0 else "Error"),
            "startedAt": self.running or None,
            "finishedAt": now_text(),
            "containerID": self.identity,
        }
        if exit_.code > 128 and not exit_.reason:
            found["signal"] = exit_.code - 128
            del found["signal"]  # containerd reports the code alone
        if message:
            found["message"] = message
        self.running, self.terminated = "", found
        self.started, self.ready = False, self.init and exit_.code == 0
        if self.log is not None:
            self.log.end()
        if self.box is not None:
            self.box.listening = False

    def wait_again(self, reason: str, message: str) -> None:
        """It is to be started again: what it ended with becomes its last state."""
        if self.terminated is not None:
            self.last, self.terminated = self.terminated, None
        self.waiting = (reason, message)

    def status(self) -> Object:
        """As in `containerStatuses`."""
        if self.running:
            state: Object = {"running": {"startedAt": self.running}}
        elif self.terminated is not None:
            state = {"terminated": self.terminated}
        else:
            reason, message = self.waiting or ("ContainerCreating", "")
            state = {"waiting": {"reason": reason} | ({"message": message} if message else {})}
        image = str(self.spec.get("image", ""))
        found: Object = {
            "name": self.name,
            "image": image,
            "imageID": f"sha256:{'0' * 64}" if self.identity else "",
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": state,
            "lastState": {"terminated": self.last} if self.last is not None else {},
        }
        if self.identity:
            found["containerID"] = self.identity
        return found


@dataclass(slots=True, kw_only=True)
class Known:
    """A pod's whole status.

    Args:
        containers: of it, init containers first.
        phase: where it is set by force: `Failed` of a pod that was rejected or evicted.
        times: when each condition last changed.
    """

    containers: list[Held]
    scheduled: list[Object] = field(default_factory=list)
    start: str = ""
    ip: str = ""
    sandbox: bool = False
    phase: str = ""
    reason: str = ""
    message: str = ""
    times: dict[str, tuple[str, str]] = field(default_factory=dict)

    def inits(self) -> list[Held]:
        return [one for one in self.containers if one.init]

    def mains(self) -> list[Held]:
        return [one for one in self.containers if not one.init]

    def phase_of(self, policy: str) -> str:
        """Where the pod is in its life (kubelet_pods.go getPhase)."""
        if self.phase:
            return self.phase
        if any(not _done(one) for one in self.inits()):
            ended = [one for one in self.inits() if one.terminated and one.terminated["exitCode"] != 0]
            return "Failed" if ended and policy == "Never" else "Pending"
        mains = self.mains()
        if all(one.terminated is not None for one in mains):
            bad = any(one.terminated["exitCode"] != 0 for one in mains if one.terminated)
            if policy == "Never" or (policy == "OnFailure" and not bad):
                return "Failed" if bad else "Succeeded"
            return "Running"
        if any(one.running or one.terminated is not None or one.last is not None for one in mains):
            waiting = [
                one for one in mains if not one.running and one.terminated is None and one.last is None
            ]
            return "Pending" if waiting else "Running"
        return "Pending"

    def status(self, policy: str) -> Object:
        """As the kubelet writes it."""
        phase = self.phase_of(policy)
        found: Object = {
            "phase": phase,
            "conditions": self._conditions(phase),
            "hostIP": "127.0.0.1",
            "hostIPs": [{"ip": "127.0.0.1"}],
            "startTime": self.start,
            "reason": self.reason or None,
            "message": self.message or None,
        }
        if self.phase and self.reason not in ("Evicted", ""):
            return found  # rejected: no container was ever looked at
        if self.ip:
            found |= {"podIP": self.ip, "podIPs": [{"ip": self.ip}]}
        inits = [one.status() for one in self.inits()]
        found["containerStatuses"] = [one.status() for one in self.mains()]
        if inits:
            found["initContainerStatuses"] = inits
        return found

    def _conditions(self, phase: str) -> list[Object]:
        names = "[" + " ".join(one.name for one in self.mains() if not one.ready) + "]"
        lacking = [one for one in self.inits() if not _done(one)]
        first = "[" + " ".join(one.name for one in lacking) + "]"
        words = ("", "")
        if phase in ("Succeeded", "Failed"):
            words = ("PodCompleted" if phase == "Succeeded" else "PodFailed", "")
        elif names != "[]":
            words = ("ContainersNotReady", f"containers with unready status: {names}")
        initialized = ("", "") if not lacking else (
            "ContainersNotInitialized", f"containers with incomplete status: {first}",
        )  # fmt: skip
        if phase == "Succeeded":
            initialized = ("PodCompleted", "")
        ended = phase in ("Succeeded", "Failed")
        rows = [
            ("PodReadyToStartContainers", self.sandbox and not ended, ("", "")),
            ("Initialized", not lacking, initialized),
            ("Ready", not words[0], words),
            ("ContainersReady", not words[0], words),
        ]
        return [*(self._condition(*row) for row in rows), *self.scheduled]

    def _condition(self, name: str, holds: bool, words: tuple[str, str]) -> Object:
        status = "True" if holds else "False"
        before = self.times.get(name)
        if before is None or before[0] != status:
            self.times[name] = (status, now_text())
        found: Object = {
            "type": name,
            "status": status,
            "lastProbeTime": None,
            "lastTransitionTime": self.times[name][1],
        }
        if words[0]:
            found["reason"] = words[0]
        if words[1]:
            found["message"] = words[1]
        return found


def _done(one: Held) -> bool:
    """An init container lets the next begin."""
    if one.sidecar:
        return one.started
    return one.terminated is not None and one.terminated["exitCode"] == 0

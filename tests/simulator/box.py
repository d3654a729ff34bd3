"""A container as a program in it sees it, and what a test may want to happen to one: the parts of a behaviour."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any

Object = dict[str, Any]
FOREVER = math.inf
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")


def now_text() -> str:
    """The time as Kubernetes objects have it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a container ended.

    Args:
        code: of the process; above 128 a signal.
        reason: `Completed`, `Error`, `OOMKilled`, `StartError`; by the code where it is empty.
        message: what it wrote to its termination log; FallbackToLogsOnError takes the log's end where it is empty.
        evicted: the kubelet took the whole pod away, with this message.
    """

    code: int
    reason: str = ""
    message: str = ""
    evicted: str = ""


class Log:
    """What a container wrote, line by line, with the time of each."""

    def __init__(self) -> None:
        self.lines: list[tuple[datetime, str]] = []
        self.changed = threading.Condition()
        self.ended = False

    def say(self, text: str) -> None:
        with self.changed:
            self.lines.extend((datetime.now(UTC), line) for line in text.split("\n"))
            self.changed.notify_all()

    def end(self) -> None:
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def tail(self, lines: int = 80, size: int = 2048) -> str:
        """As FallbackToLogsOnError takes it: the last 80 lines, at most 2048 bytes (kuberuntime_container.go)."""
        text = "".join(f"{line}\n" for _, line in self.lines[-lines:])
        return text.encode()[-size:].decode(errors="ignore")


@dataclass(slots=True, kw_only=True)
class Box:
    """What a program gets.

    Args:
        pod: as it was when the container started.
        name: of the container.
        words: command and arguments, references to variables replaced.
        env: the environment, with what Secrets and ConfigMaps hold.
        log: where its output goes.
        mounts: directory -> the files there, shared with whoever else mounts the volume.
        memory_limit: as the manifest has it, or empty.
        listening: whether the server port takes connections, and /health answers 200.
        healthy: what /health answers while it listens.
        engine: what answers on the port; a tests.simulator.engine.Served.
        attempt: how often the container has been started again.
    """

    pod: Object
    name: str
    words: tuple[str, ...]
    env: dict[str, str]
    log: Log
    mounts: dict[str, set[str]]
    memory_limit: str = ""
    listening: bool = False
    healthy: int = 200
    engine: Any = None
    attempt: int = 0

    def say(self, text: str) -> None:
        """Write to standard output or error: one log holds both."""
        self.log.say(text)

    def option(self, flag: str, default: str = "") -> str:
        """The value of `--flag VALUE` or `--flag=VALUE`."""
        for index, word in enumerate(self.words):
            if word == flag and index + 1 < len(self.words):
                return self.words[index + 1]
            if word.startswith(f"{flag}="):
                return word.partition("=")[2]
        return default

    def exists(self, path: str) -> bool:
        """Whether a file is on a volume."""
        files, inner = self._place(path)
        return inner in files

    def write(self, path: str) -> None:
        """Put a file on a volume."""
        files, inner = self._place(path)
        files.add(inner)

    def _place(self, path: str) -> tuple[set[str], str]:
        best = max((one for one in self.mounts if path.startswith(one)), key=len, default="")
        return self.mounts.get(best, set()), path.removeprefix(best).strip("/")


Program = Callable[[Box], Generator[float, None, Exit | int | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What happens to a container or its pod; None leaves it as it is without this behaviour.

    Args:
        name: for people.
        admission: (reason, message) with which the kubelet rejects the pod.
        mount: why its volumes cannot be mounted, in the words of FailedMount.
        pull_seconds: how long the image takes.
        image_bytes: its size.
        pull_error: what the container runtime says instead of an image.
        config_error: why no container can be configured.
        create_error: why the runtime cannot create one.
        program: what runs in it.
        only: apply to the first so many starts of the container alone; 0 to all.
    """

    name: str = ""
    admission: tuple[str, str] | None = None
    mount: str | None = None
    pull_seconds: float | None = None
    image_bytes: int | None = None
    pull_error: str | None = None
    config_error: str | None = None
    create_error: str | None = None
    program: Program | None = None
    only: int = 0

    def over(self, base: Behaviour) -> Behaviour:
        """This one where it says something, else the other."""
        said = {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if getattr(self, one.name) not in (None, "", 0)
        }
        return replace(base, **said)


@dataclass(slots=True, kw_only=True)
class Rule:
    """Which containers a behaviour is for. Empty words match any."""

    behaviour: Behaviour
    namespace: str = ""
    deployment: str = ""
    component: str = ""
    container: str = ""
    node: str = ""
    pod: str = ""
    times: int = 0
    used: set[str] = field(default_factory=set)

    def holds(self, pod: Object, container: str) -> bool:
        """Whether it is for a container of a pod; `times` counts pods."""
        metadata = pod["metadata"]
        labels = metadata.get("labels") or {}
        asked = (
            (self.namespace, metadata["namespace"]),
            (self.deployment, labels.get("app.kubernetes.io/instance", "")),
            (self.component, labels.get("app.kubernetes.io/component", "")),
            (self.container, container),
            (self.node, pod["spec"].get("nodeName", "")),
            (self.pod, metadata["name"]),
        )
        if any(wanted and wanted != found for wanted, found in asked):
            return False
        if self.times and metadata["uid"] not in self.used and len(self.used) >= self.times:
            return False
        self.used.add(metadata["uid"])
        return True


def expanded(words: list[str], env: dict[str, str]) -> tuple[str, ...]:
    """$(NAME) replaced as the kubelet does it; $$ is one $."""

    def value(match: re.Match[str]) -> str:
        return "$" if match[1] is None else env.get(match[1], match[0])

    return tuple(_REFERENCE.sub(value, word) for word in words)

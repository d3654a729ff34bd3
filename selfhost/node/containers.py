"""Names of containers and pods, from what the kubelet and docker leave on the node itself: no API server is asked.

The kubelet names its log files after them: /var/log/pods/<namespace>_<pod>_<uid> and
/var/log/containers/<pod>_<namespace>_<container>-<id>.log (pkg/kubelet/kuberuntime, kubernetes 1.37, 2026-11-21).
Docker and podman are asked over their socket where it may be opened.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from selfhost.node.proc import names_in

# Names in Kubernetes are DNS labels and subdomains, so that `_` parts them for certain.
_LOG_FILE = re.compile(r"([a-z0-9.-]{1,253})_([a-z0-9-]{1,63})_([a-z0-9-]{1,63})-([0-9a-f]{64})\.log")
_LOG_DIRECTORY = re.compile(r"([a-z0-9-]{1,63})_([a-z0-9.-]{1,253})_([0-9a-f-]{32,36})")
_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
_DOCKER_NAME = re.compile(r"/?([a-zA-Z0-9][a-zA-Z0-9_.-]{0,254})")
# /var/run is a link to /run wherever systemd is; a container has them as they were mounted.
_SOCKETS = ("run/docker.sock", "var/run/docker.sock", "run/podman/podman.sock")
# Ours: an answer takes milliseconds; a monitor waits no longer for a name, and leaves a daemon that is stuck in peace.
_SOCKET_SECONDS = 0.5
_REST_SECONDS = 60.0
_LARGEST_ANSWER_BYTES = 1 << 20
_REREAD_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerName:
    """What a container is called; `pod` and `namespace` in Kubernetes alone."""

    container: str | None = None
    pod: str | None = None
    namespace: str | None = None


class ContainerNames:
    """Finds names by container id and pod uid, and remembers them.

    Args:
        root: what stands before /var and /run.
        clock: monotonic seconds.
    """

    def __init__(self, root: Path = Path("/"), *, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._clock = clock
        self._by_id: dict[str, ContainerName] = {}
        self._by_uid: dict[str, ContainerName] = {}
        self._docker: dict[str, ContainerName] = {}
        self._read_at: float | None = None
        self._resting_until = 0.0

    def find(self, container_id: str | None, pod_uid: str | None) -> ContainerName | None:
        """The name of a container, None where nothing here tells it. Takes half a second at most."""
        if container_id is None and pod_uid is None:
            return None
        found = self._kubernetes(container_id, pod_uid)
        # Outside Kubernetes, docker's own names; a pod's containers are not worth asking docker about.
        if found is None and pod_uid is None and container_id is not None:
            found = self._ask_docker(container_id)
        return found

    def _kubernetes(self, container_id: str | None, pod_uid: str | None) -> ContainerName | None:
        for again in (False, True):
            if again and not self._stale():
                break
            if again or self._read_at is None:
                self._read_logs()
            if container_id in self._by_id:
                return self._by_id[container_id]
            if pod_uid in self._by_uid:
                return self._by_uid[pod_uid]
        return None

    def _stale(self) -> bool:
        return self._read_at is None or self._clock() - self._read_at >= _REREAD_SECONDS

    def _read_logs(self) -> None:
        self._read_at = self._clock()
        self._by_id = {
            found[4]: ContainerName(pod=found[1], namespace=found[2], container=found[3])
            for name in names_in(self._root / "var/log/containers")
            if (found := _LOG_FILE.fullmatch(name))
        }
        self._by_uid = {
            found[3]: ContainerName(namespace=found[1], pod=found[2])
            for name in names_in(self._root / "var/log/pods")
            if (found := _LOG_DIRECTORY.fullmatch(name))
        }

    def _ask_docker(self, container_id: str) -> ContainerName | None:
        if container_id in self._docker or self._clock() < self._resting_until:
            return self._docker.get(container_id)
        for path in dict.fromkeys(os.path.realpath(self._root / path) for path in _SOCKETS):
            try:
                name = docker_name(Path(path), container_id)
            except FileNotFoundError:
                continue
            except OSError:  # not ours to open, stuck, or not docker
                self._resting_until = self._clock() + _REST_SECONDS
                continue
            if name is not None:
                self._docker[container_id] = ContainerName(container=name)
                return self._docker[container_id]
        return None


def docker_name(path: Path, container_id: str, *, timeout_seconds: float = _SOCKET_SECONDS) -> str | None:
    """Asks docker's or podman's socket for a container's name (`GET /containers/<id>/json` of the Engine API).

    The answer holds the container's environment too; only the name is read from it.

    Returns:
        The name without its slash; None where the daemon does not know the container.

    Raises:
        OSError: no such socket, no right to it, no answer in time, or an answer of another kind.
    """
    if not _CONTAINER_ID.fullmatch(container_id):
        return None
    until = time.monotonic() + timeout_seconds
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_seconds)
        connection.connect(str(path))
        # HTTP/1.0: the answer then ends with the connection and comes in one piece.
        connection.sendall(f"GET /containers/{container_id}/json HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
        answer = b""
        while len(answer) <= _LARGEST_ANSWER_BYTES:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no answer in {timeout_seconds:g} s")
            connection.settimeout(left)
            piece = connection.recv(1 << 16)
            if not piece:
                break
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if status == [b"404"]:
        return None
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise OSError("the answer is not JSON") from None
    name = data.get("Name") if isinstance(data, dict) and status == [b"200"] else None
    found = _DOCKER_NAME.fullmatch(name) if isinstance(name, str) else None
    if found is None:
        raise OSError("the answer names no container")
    return found[1]

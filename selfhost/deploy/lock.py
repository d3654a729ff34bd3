"""Who may apply: one at a time for each deployment, by a Lease that lasts as long as applying does.

Waiting for the pods needs no lock: a later deployment supersedes an earlier one, which sees it and ends. So the Lease
is held for seconds and costs two requests, and a command that was killed holds the next one up for a minute at most,
on the same machine not at all.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from selfhost.cluster import AbsentError, Api, Object, Ref, TakenError, Wanted, Watcher
from selfhost.cluster.kinds import LEASE
from selfhost.cluster.values import part, text, whole
from selfhost.deploy.types import INSTANCE_LABEL, MANAGED_BY, MANAGED_LABEL, is_ours
from selfhost.errors import ClusterError

# Ours: applying some twenty objects takes a few seconds, on an API server that throttles a minute; it is renewed then.
LEASE_SECONDS = 60
_RENEW_SECONDS = 15
# Ours: clocks of two machines may differ by hours, as with a wrong time zone; what is younger is watched for a minute.
_LONG_OVER_SECONDS = 86_400.0
_STAMP = "%Y-%m-%dT%H:%M:%S.%fZ"  # metav1.MicroTime


class LostLockError(ClusterError):
    """Another command took the lock over while this one was asleep; nothing more is written."""


@dataclass(kw_only=True)
class Held:
    """A lock that is held. `keep` is called before each write."""

    api: Api
    ref: Ref
    holder: str
    uid: str
    version: str
    monotonic: Callable[[], float]
    renewed: float = field(default=0.0)

    def keep(self) -> None:
        """Renew it where it is due.

        Raises:
            LostLockError: another command has it now.
        """
        now = self.monotonic()
        if now - self.renewed < _RENEW_SECONDS:
            return
        change: Object = {
            "metadata": {"resourceVersion": self.version},
            "spec": {"renewTime": _stamp()},
        }
        try:
            found = self.api.patch(self.ref, change)
        except (AbsentError, TakenError) as error:
            # an answer that was lost on its way: what was asked again had been carried out
            there = self.api.get(self.ref) or {}
            mine = text(part(there, "spec"), "holderIdentity") == self.holder
            if not mine or text(part(there, "metadata"), "uid") != self.uid:
                raise LostLockError(
                    f"Another command deploys {self.ref.name.rpartition('.')[0]} now.",
                    hint="Run the command again once the other has ended; `selfhost status` shows both.",
                ) from error
            found = there
        self.version = text(part(found, "metadata"), "resourceVersion")
        self.renewed = now


@contextmanager
def held(
    api: Api,
    namespace: str,
    name: str,
    *,
    wait_seconds: float,
    waiting: Callable[[str], object] = lambda _: None,
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[Held]:
    """Hold the lock of a deployment.

    Args:
        api: the cluster.
        namespace: of the deployment.
        name: of the deployment.
        wait_seconds: how long to wait for another command.
        waiting: called once with the other's name when there is one.
        monotonic: a clock that only goes forward, in seconds.

    Raises:
        ClusterError: another command holds it for longer.
    """
    ref = Ref(api_version=LEASE.api_version, kind=LEASE.name, namespace=namespace, name=f"{name}.selfhost")
    lock = _acquire(api, ref, name, wait_seconds, waiting, monotonic)
    try:
        yield lock
    finally:
        with suppress(ClusterError):  # it ends by itself
            api.delete(ref, uid=lock.uid)


def _acquire(
    api: Api,
    ref: Ref,
    name: str,
    wait_seconds: float,
    waiting: Callable[[str], object],
    monotonic: Callable[[], float],
) -> Held:
    mine = _identity()
    until = monotonic() + wait_seconds
    told = False
    while True:
        try:
            made = api.create(_lease(ref, name, mine))
        except TakenError:
            found = api.get(ref)
            if found is None:
                continue
            if not is_ours(found, name):
                raise ClusterError(
                    f"The Lease {ref.namespace}/{ref.name} is not selfhost's.", hint="Delete or rename it."
                ) from None
            holder = text(part(found, "spec"), "holderIdentity")
            if _is_over(found, holder):
                made_over = _take_over(api, ref, found, mine)
                if made_over is None:
                    continue
                made = made_over
            else:
                if not told:
                    waiting(holder.partition("/")[0])
                    told = True
                if not _await_end(api, ref, found, until, monotonic):
                    raise ClusterError(
                        f"{holder.partition('/')[0] or 'Another command'} deploys {name} at this moment.",
                        hint="Wait for it, or run the command again later.",
                    ) from None
                continue
        metadata = part(made, "metadata")
        return Held(
            api=api,
            ref=ref,
            holder=mine,
            uid=text(metadata, "uid"),
            version=text(metadata, "resourceVersion"),
            monotonic=monotonic,
            renewed=monotonic(),
        )


def _take_over(api: Api, ref: Ref, found: Object, mine: str) -> Object | None:
    """The Lease under our name; None where another command was faster."""
    version = text(part(found, "metadata"), "resourceVersion")
    spec = {"holderIdentity": mine, "acquireTime": _stamp(), "renewTime": _stamp()}
    try:
        return api.patch(ref, {"metadata": {"resourceVersion": version}, "spec": spec})
    except ClusterError:
        return None


def _await_end(api: Api, ref: Ref, found: Object, until: float, monotonic: Callable[[], float]) -> bool:
    """Watch a Lease until it is gone or nobody has renewed it for as long as it lasts: seen here, by one clock."""
    wanted = Wanted(kind=LEASE, namespace=ref.namespace, fields=f"metadata.name={ref.name}")
    version = text(part(found, "metadata"), "resourceVersion")
    seen = monotonic()
    lasts = whole(part(found, "spec"), "leaseDurationSeconds") or LEASE_SECONDS
    with Watcher(api, (wanted,)) as watcher:
        while (now := monotonic()) < until:
            if now - seen > lasts:
                _take_over(
                    api, ref, {"metadata": {"resourceVersion": version}}, ""
                )  # nobody's: the next to ask has it
                return True
            change = watcher.next(min(1.0, until - now))
            if change is None or change.type == "trouble":
                continue
            if change.type == "gone" or not change.items:
                return True
            newest = text(part(change.items[0], "metadata"), "resourceVersion")
            if newest != version:
                version, seen = newest, now
    return False


def _is_over(found: Object, holder: str) -> bool:
    """Whether nobody holds it any more: freed, long past its time, or of a process of this machine that has ended."""
    spec = part(found, "spec")
    if not holder:
        return True
    try:
        renewed = datetime.strptime(text(spec, "renewTime"), _STAMP).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return True
    if time.time() - renewed > _LONG_OVER_SECONDS:
        return True
    host, _, rest = holder.partition("/")
    pid, _, started = rest.partition("/")
    if (
        host.rpartition("@")[2] != socket.gethostname()
        or not pid.isdecimal()
        or _boot() != started.partition("/")[2]
    ):
        return False
    return _started(int(pid)) != started.partition("/")[0]


def _identity() -> str:
    """User, host, process, its start, and the machine's start: who it is, and whether it still runs."""
    from selfhost.deploy.revisions import who

    return f"{who()}/{os.getpid()}/{_started(os.getpid())}/{_boot()}"


def _started(pid: int) -> str:
    """When a process began, in the kernel's ticks; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        pass
    try:  # no /proc, as on macOS
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return "0" if not Path("/proc/self/stat").exists() else ""


def _boot() -> str:
    """Which start of which kernel, and which of its sets of process IDs: containers have their own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()[:8]
        return f"{boot}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _stamp() -> str:
    return datetime.now(UTC).strftime(_STAMP)


def _lease(ref: Ref, name: str, holder: str) -> Object:
    return {
        "apiVersion": ref.api_version,
        "kind": ref.kind,
        "metadata": {
            "name": ref.name,
            "namespace": ref.namespace,
            "labels": {MANAGED_LABEL: MANAGED_BY, INSTANCE_LABEL: name},
        },
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": LEASE_SECONDS,
            "acquireTime": _stamp(),
            "renewTime": _stamp(),
        },
    }

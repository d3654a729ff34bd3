"""Wait for a rollout by watches alone, say how far it is, and end with the cause where it cannot succeed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from selfhost.cluster import Api, Change, Object, Wanted, Watcher
from selfhost.cluster.kinds import EVENT, JOB, POD, ref_of
from selfhost.cluster.values import part, text, texts
from selfhost.deploy.evidence import gather
from selfhost.deploy.follow import Follower
from selfhost.deploy.rollout import Rollout, is_new, kinds_of, rollout_of, workloads_of
from selfhost.deploy.types import (
    HASH_ANNOTATION,
    INSTANCE_LABEL,
    Cause,
    Desired,
    Event,
    Progress,
    Snapshot,
    Tell,
)

# Ours: a line of progress that changed is told at most this often; people read it, and logs keep it.
_TELL_SECONDS = 2.0
_TICK_SECONDS = 0.5
# Ours: a burst of changes is looked at once; what looks wrong is looked at again this often.
_LOOK_SECONDS = 1.0
# Ours: a claim is bound and a pod is placed within some seconds; what lasts longer is worth a line.
_WARN_SECONDS = 15.0
# Ours: nodes and claims are asked for again this often while something is wrong and no container changes.
_GATHER_SECONDS = 15.0
# Ours: what comes and goes, as evictions do while the next pod starts, is one trouble and not many.
_FORGET_SECONDS = 30.0
# Ours: events of a ReplicaSet that are older are of an earlier rollout; clocks of two machines differ by less.
_OLD_SECONDS = 60.0


# Ours: a workload that is deleted and made again, as `kubectl replace --force` does, is away for less.
_REMOVED_SECONDS = 3.0
Ended = Literal["ready", "failed", "superseded", "removed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the wait ended.

    Args:
        state: `superseded`: somebody deployed something else meanwhile; `removed`: somebody deleted its workload.
        seconds: that it took.
        cause: of a failure.
    """

    state: Ended
    seconds: float
    cause: Cause | None = None


@dataclass(kw_only=True)
class _Seen:
    """Everything that the watches have told so far, by kind and uid."""

    by_kind: dict[str, dict[str, Object]] = field(default_factory=dict)
    listed: set[str] = field(default_factory=set)

    def take(self, change: Change) -> None:
        kept = self.by_kind.setdefault(change.kind.name, {})
        if change.type == "listed":
            kept.clear()
            self.listed.add(change.kind.name)
        for item in change.items:
            uid = text(part(item, "metadata"), "uid")
            # items of a list carry neither their kind nor their version
            whole_item = {"apiVersion": change.kind.api_version, "kind": change.kind.name} | item
            if change.type == "gone":
                kept.pop(uid, None)
            else:
                kept[uid] = whole_item

    def of(self, kind: str) -> tuple[Object, ...]:
        return tuple(self.by_kind.get(kind, {}).values())


def wait(
    api: Api,
    wanted: Desired,
    *,
    deadline_seconds: float,
    tell: Tell,
    monotonic: Callable[[], float] = time.monotonic,
    clock: Callable[[], float] = time.time,
) -> Outcome:
    """Follow a rollout until it is ready, has failed, or somebody deploys something else.

    Args:
        api: the cluster.
        wanted: what was applied.
        deadline_seconds: for all of it.
        tell: hears how far it is.
        monotonic: a clock that only goes forward, in seconds.
        clock: Unix time in seconds.

    Raises:
        ClusterError: what is to be watched may not be.
    """
    labels = f"{INSTANCE_LABEL}={wanted.name}"
    watched = [Wanted(kind=POD, namespace=wanted.namespace, labels=labels)]
    watched += (Wanted(kind=kind, namespace=wanted.namespace, labels=labels) for kind in kinds_of(wanted))
    watched.append(Wanted(kind=EVENT, namespace=wanted.namespace))
    with Watcher(api, watched) as watcher, Follower(api, wanted) as follower:
        run = _Waiting(api, wanted, follower, tell, monotonic, clock)
        return run.until(watcher, deadline_seconds)


class _Waiting:
    def __init__(
        self,
        api: Api,
        wanted: Desired,
        follower: Follower,
        tell: Tell,
        monotonic: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._api, self._wanted, self._follower = api, wanted, follower
        self._tell, self._monotonic, self._clock = tell, monotonic, clock
        self._seen = _Seen()
        self._began, self._began_at = monotonic(), clock()
        self._told: tuple[float, str] = (-_TELL_SECONDS, "")
        self._first_seen: dict[str, float] = {}
        self._last_seen: dict[str, float] = {}
        self._warned: set[str] = set()  # what the watches showed
        self._noted: set[str] = set()  # what was told
        self._absent_since: float | None = None
        self._gathered: tuple[str, float, tuple[Cause, ...]] = ("", 0.0, ())

    def until(self, watcher: Watcher, deadline_seconds: float) -> Outcome:
        """Turns until the end."""
        looked = -_LOOK_SECONDS
        changed = True
        kinds = {POD.name, EVENT.name, *(kind.name for kind in kinds_of(self._wanted))}
        while True:
            left = self._began + deadline_seconds - self._monotonic()
            change = watcher.next(min(_TICK_SECONDS, max(0.0, left)))
            while change is not None:
                changed = True
                self._take(change)
                change = watcher.next(0.0)
            if kinds <= self._seen.listed:
                if self._superseded():
                    return self._ended("superseded")
                rollouts = self._rollouts()
                if self._removed(rollouts):
                    return self._ended("removed")
                if self._is_done(rollouts):
                    return self._ended("ready")
                self._progress(rollouts)
                now = self._monotonic()
                if (changed or self._first_seen) and now - looked >= _LOOK_SECONDS:
                    looked, changed = now, False
                    cause = self._look(final=False)
                    if cause is not None:
                        return self._ended("failed", cause)
            if left <= 0:
                return self._ended("failed", self._look(final=True) or self._late(deadline_seconds))

    def _take(self, change: Change) -> None:
        if change.type == "trouble":
            self._say(f"the API server does not answer; waiting for it ({change.because.rstrip('.')})")
            return
        self._seen.take(change)
        if change.kind.name == POD.name:
            self._follower.see(self._pods())

    def _rollouts(self) -> tuple[Rollout, ...]:
        live = {
            ref_of(item): item
            for kind in kinds_of(self._wanted)
            if kind is not JOB
            for item in self._seen.of(kind.name)
        }
        return tuple(
            rollout_of(live[ref])
            if ref in live
            else Rollout(ref=ref, wanted=1, ready=0, done=False, absent=True)
            for ref in workloads_of(self._wanted)
        )

    def _is_done(self, rollouts: tuple[Rollout, ...]) -> bool:
        return all(one.done for one in rollouts)

    def _removed(self, rollouts: tuple[Rollout, ...]) -> bool:
        """Whether a workload is gone and stays away: it was there when the wait began."""
        if not any(one.absent for one in rollouts):
            self._absent_since = None
            return False
        now = self._monotonic()
        if self._absent_since is None:
            self._absent_since = now
        return now - self._absent_since >= _REMOVED_SECONDS

    def _superseded(self) -> bool:
        """Whether a workload carries another plan than ours."""
        for kind in kinds_of(self._wanted):
            for item in self._seen.of(kind.name):
                found = texts(part(item, "metadata"), "annotations").get(HASH_ANNOTATION)
                if found is not None and found != self._wanted.plan_hash:
                    return True
        return False

    def _pods(self) -> tuple[Object, ...]:
        """Pods of this rollout, and those of an earlier one that are on their way out."""
        return tuple(
            pod
            for pod in self._seen.of(POD.name)
            if "deletionTimestamp" in part(pod, "metadata") or is_new(pod, self._wanted)
        )

    def _snapshot(self) -> Snapshot:
        pods = self._pods()
        known = {text(part(pod, "metadata"), "uid") for pod in pods}
        old = {text(part(pod, "metadata"), "uid") for pod in self._seen.of(POD.name)} - known
        return Snapshot(
            name=self._wanted.name,
            namespace=self._wanted.namespace,
            now=self._clock(),
            plan=self._wanted.plan,
            workloads=tuple(
                item
                for kind in kinds_of(self._wanted)
                if kind is not JOB
                for item in self._seen.of(kind.name)
            ),
            pods=pods,
            jobs=self._jobs(),
            events=tuple(event for event in self._seen.of(EVENT.name) if self._concerns(event, known, old)),
            objects=self._wanted.objects,
        )

    def _jobs(self) -> tuple[Object, ...]:
        """Downloads of this revision; one of an earlier may still be there."""
        mine = {ref_of(item) for item in self._wanted.objects if text(item, "kind") == JOB.name}
        return tuple(job for job in self._seen.of(JOB.name) if ref_of(job) in mine)

    def _concerns(self, event: Object, known: set[str], old: set[str]) -> bool:
        about = part(event, "involvedObject")
        uid, name = text(about, "uid"), text(about, "name")
        if text(about, "kind") == POD.name:
            return uid in known
        if uid in old or not name.startswith(self._wanted.name):
            return False
        return seconds_of(event) >= self._began_at - _OLD_SECONDS

    def _look(self, *, final: bool) -> Cause | None:
        """The cause that ends the wait, None while there is hope.

        Args:
            final: the time is over: the best explanation is the cause, however much patience it deserves.
        """
        from selfhost.deploy.causes import explain

        causes = explain(self._snapshot())
        now = self._monotonic()
        current = {cause.code for cause in causes}
        self._last_seen |= dict.fromkeys(current, now)
        self._first_seen = {
            code: at
            for code, at in self._first_seen.items()
            if now - self._last_seen.get(code, now) <= _FORGET_SECONDS
        }
        for cause in causes:
            self._first_seen.setdefault(cause.code, now)
            lasted = now - self._first_seen[cause.code]
            if cause.final or final or lasted >= cause.patience_seconds:
                return self._confirmed(cause, lasted, over=final)
            if lasted >= _WARN_SECONDS and cause.code not in self._warned:
                self._warned.add(cause.code)
                self._warn()
        # the watches see nothing wrong: nodes and logs may
        return next(iter(self._explained(again=True)), None) if final else None

    def _warn(self) -> None:
        """Say what it waits for, looked at with everything: the watches alone know no nodes."""
        for found in self._explained()[:1]:
            facts: dict[str, object] = {"code": found.code, "patience_seconds": found.patience_seconds}
            if found.code not in self._noted:
                self._noted.add(found.code)
                self._tell(Event(type="note", message=found.sentence, facts=facts))

    def _confirmed(self, cause: Cause, lasted: float, *, over: bool) -> Cause | None:
        """The same looked at with everything that can be known: nodes, claims, logs. They may tell another story.

        Args:
            cause: what the watches alone showed.
            lasted: for how long, in seconds.
            over: the time is over, so that nothing can heal any more.
        """
        causes = self._explained(again=over)
        if not causes:
            return cause if over else None
        found = causes[0]
        sure = found.final or over or found.code == cause.code or lasted >= found.patience_seconds > 0
        return found if sure else None

    def _explained(self, *, again: bool = False) -> tuple[Cause, ...]:
        """Causes with everything that can be known; while no container changes, asked for again after a while."""
        from selfhost.deploy.causes import explain

        snapshot = self._snapshot()
        pods = repr([part(pod, "status").get("containerStatuses") for pod in snapshot.pods])
        before, at, known = self._gathered
        if not again and before == pods and self._monotonic() - at < _GATHER_SECONDS:
            return known
        found = explain(gather(self._api, snapshot))
        self._gathered = (pods, self._monotonic(), found)
        return found

    def _late(self, deadline_seconds: float) -> Cause:
        stage = self._follower.stage
        at = f" It is at: {stage.detail or stage.stage}." if stage is not None else ""
        hint = f"selfhost status {self._wanted.name} -n {self._wanted.namespace}"
        evidence: tuple[str, ...] = ()
        behind = [one for one in self._rollouts() if not one.done]
        if behind and (stage is None or stage.stage == "ready"):
            one = behind[0]
            called = f"{one.ref.kind} {one.ref.name}"
            at = f" {called} has {one.ready} of {one.wanted} ready."
            evidence = (one.said,) if one.said else ()
            if one.untouched:
                at = f" No controller has taken up {called}: it has no status yet."
                hint = f"Look whether the controller of {one.ref.kind} runs: `kubectl get pods -A` lists what does."
        return Cause(
            code="deadline",
            sentence=f"{self._wanted.name} was not ready within {deadline_seconds:,.0f} s.{at}",
            evidence=evidence,
            hint=hint,
            final=True,
        )

    def _progress(self, rollouts: tuple[Rollout, ...]) -> None:
        found = self._follower.progress(self._pods(), self._snapshot().events)
        ready, wanted = (sum(getattr(one, key) for one in rollouts) for key in ("ready", "wanted"))
        words = f"{found.stage}{f': {found.detail}' if found.detail else ''}"
        if found.stage == "ready" and ready < wanted:
            # the download has ended, or these pods are ready and others are not there yet
            behind = next(one for one in rollouts if not one.done)
            who = "the controller" if behind.untouched else "the pods"
            words = f"waits for {who} of {behind.ref.kind} {behind.ref.name}"
            found = Progress(stage="scheduling", detail=words)
        counted = f"{ready} of {wanted} ready; {words}" if wanted > 1 else words
        self._say(counted, found)

    def _say(self, words: str, found: Progress | None = None) -> None:
        at, said = self._told
        now = self._monotonic()
        if words == said or now - at < _TELL_SECONDS:
            return
        self._told = (now, words)
        facts: dict[str, object] = {}
        if found is not None:
            facts = {
                "stage": found.stage,
                "pod": found.pod,
                "done": found.done,
                "total": found.total,
                "unit": found.unit,
            }
        self._tell(Event(type="progress", message=words, facts=facts))

    def _ended(self, state: Ended, cause: Cause | None = None) -> Outcome:
        return Outcome(state=state, seconds=self._monotonic() - self._began, cause=cause)


def seconds_of(event: Object) -> float:
    """Unix time at which an event was last seen; 0 where it does not say."""
    from datetime import datetime

    for value in (
        text(part(event, "series"), "lastObservedTime"),
        text(event, "lastTimestamp"),
        text(event, "eventTime"),
    ):
        if value:
            try:
                return datetime.fromisoformat(value).timestamp()
            except ValueError:
                continue
    return 0.0

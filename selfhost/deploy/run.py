"""The whole of a deployment: look, try, show, apply, wait, test, and go back where an upgrade fails.

State is on the cluster alone. A revision is written before its first object, so a command that is killed at any moment
leaves what the next one goes on from: the same plan resumes its own revision, another one supersedes it and prunes
what it may have made.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from selfhost.cluster import AbsentError, Api, Ref, TakenError
from selfhost.cluster.kinds import JOB
from selfhost.deploy import revisions
from selfhost.deploy.again import fresh_start
from selfhost.deploy.apply import Tried, apply, dry_run, preview
from selfhost.deploy.desired import refs_of
from selfhost.deploy.drain import drain, has_to_drain
from selfhost.deploy.lock import held
from selfhost.deploy.prune import prune
from selfhost.deploy.rollout import deadline_seconds
from selfhost.deploy.settings import Confirm, Preview, Result, Settings
from selfhost.deploy.shown import facts_of, summary_of
from selfhost.deploy.types import Cause, Desired, Event, Finding, Head, Tell
from selfhost.deploy.wait import Outcome, wait
from selfhost.errors import ClusterError, SelfhostError

# Ours: another command that applies at the same time needs seconds; one that was killed frees the lock in a minute.
LOCK_WAIT_SECONDS = 120.0
# Ours: somebody who deploys between our look and our lock is looked at again; three times in a row is a fight.
_MOST_ROUNDS = 3


class _ChangedError(Exception):
    """Somebody deployed between the look and the lock."""


def deploy(
    api: Api,
    wanted: Desired,
    settings: Settings,
    tell: Tell,
    confirm: Confirm,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    clock: Callable[[], float] = time.time,
) -> Result:
    """Bring a cluster to what is wanted, and wait until it serves.

    Args:
        api: the cluster.
        wanted: what is to be there.
        settings: how to go about it.
        tell: hears what happens.
        confirm: asked before anything is changed, where something would be.
        monotonic: a clock that only goes forward, in seconds.
        clock: Unix time in seconds.

    Raises:
        ClusterError: the cluster cannot be reached, refuses, or somebody else is in the way.
    """
    for round_number in range(_MOST_ROUNDS):
        try:
            return _Run(api, wanted, settings, tell, confirm, monotonic, clock).once(again=round_number > 0)
        except _ChangedError:
            tell(Event(type="note", message="another command deployed meanwhile; looking again"))
    raise ClusterError(
        f"Others deploy {wanted.name} again and again at this moment.",
        hint="Agree who does, then run it again.",
    )


class _Run:
    def __init__(
        self,
        api: Api,
        wanted: Desired,
        settings: Settings,
        tell: Tell,
        confirm: Confirm,
        monotonic: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._api, self._wanted, self._settings = api, wanted, settings
        self._tell, self._confirm = tell, confirm
        self._monotonic, self._clock = monotonic, clock
        self._head: Head | None = None
        self._loaded: dict[tuple[int, str], Desired] = {}
        self._unread: set[int] = set()

    def once(self, *, again: bool) -> Result:
        """One attempt, from the look to the end."""
        found = revisions.heads(self._api, self._wanted.namespace, self._wanted.name)
        before, previous, earlier = self._earlier(found)
        findings = self._preflight(before) if self._settings.preflight and not again else ()
        if any(finding.level == "error" for finding in findings):
            return Result(ended="refused", findings=findings, message="the preflight found what would fail")
        made = self._namespace(findings)
        tried, claims = dry_run(self._api, self._wanted, force=self._settings.force_conflicts)
        shown = preview(self._wanted, tried, before=before or previous, earlier=earlier, claims=claims)
        self._tell(Event(type="preview", message=summary_of(self._wanted, shown), facts=facts_of(shown)))
        if self._settings.dry_run:
            return Result(ended="dry-run", findings=findings, preview=shown, message="nothing was changed")
        resumed = bool(found) and found[0].hash == self._wanted.hash and found[0].state == "deployed"
        if not (shown.nothing and resumed) and not made and not self._confirm(self._wanted, shown):
            return Result(ended="dry-run", findings=findings, preview=shown, message="nothing was changed")
        self._apply(found, tried, before or previous, shown)
        if not self._settings.wait:
            return Result(
                ended="applied",
                head=self._head,
                findings=findings,
                preview=shown,
                message=f"{self._wanted.name} is applied, and not waited for",
            )
        downloads = before is None or any(ref.kind == JOB.name for ref in shown.created)
        outcome = self._await(first=before is None, downloads=downloads)
        return replace(self._end(outcome, before, shown), findings=findings, preview=shown)

    # -- before -------------------------------------------------------------------------------------------------

    def _earlier(self, found: tuple[Head, ...]) -> tuple[Desired | None, Desired | None, tuple[Ref, ...]]:
        """What was deployed last, what was tried last, and every object that either, or one between, may have made."""
        previous: Desired | None = None
        refs: dict[Ref, None] = {}
        for head in found:
            if head.hash == self._wanted.hash:
                if head.state == "deployed":
                    return self._wanted, previous, tuple(refs)
                continue
            loaded = self._load(head)
            if loaded is None:
                if head.state == "deployed":
                    break
                continue
            previous = previous or loaded
            refs |= dict.fromkeys(refs_of(loaded.objects))
            if head.state == "deployed":
                return loaded, previous, tuple(refs)
        return None, previous, tuple(refs)

    def _load(self, head: Head) -> Desired | None:
        """What a revision was; None where it is damaged: it is nothing to go back to, and stands in nobody's way."""
        key = (head.number, head.hash)  # what it holds never changes
        if key in self._loaded:
            return self._loaded[key]
        try:
            return self._loaded.setdefault(key, revisions.load(self._api, head).desired)
        except ClusterError:
            raise
        except SelfhostError as error:
            if head.number not in self._unread:
                self._unread.add(head.number)
                self._tell(Event(type="note", message=f"{error.message.rstrip('.')}; going on without it"))
            return None

    def _preflight(self, before: Desired | None) -> tuple[Finding, ...]:
        from selfhost.deploy.preflight import examine

        findings = examine(self._api, self._wanted, before=before)
        if self._settings.create_namespace:
            findings = tuple(one for one in findings if one.code != "namespace" or one.level != "error")
        for one in findings:
            facts = {"code": one.code, "level": one.level, "hint": one.hint, "evidence": list(one.evidence)}
            self._tell(Event(type="preflight", message=one.message, facts=facts))
        return findings

    def _namespace(self, findings: tuple[Finding, ...]) -> bool:
        """Make the namespace where that was asked for: a dry-run needs it."""
        if not self._settings.create_namespace or self._settings.dry_run:
            return False
        from selfhost.manifests.kubernetes import pod_security

        level = pod_security(self._wanted.plan, self._wanted.options)
        labels = {f"pod-security.kubernetes.io/{mode}": level for mode in ("enforce", "warn")}
        item = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": self._wanted.namespace, "labels": labels},
        }
        ref = Ref(api_version="v1", kind="Namespace", namespace="", name=self._wanted.namespace)
        if self._api.get(ref) is not None:
            return False
        try:
            self._api.create(item)
        except TakenError:
            return False
        self._tell(Event(type="apply", message=f"Namespace {self._wanted.namespace} made, level {level}"))
        return False

    # -- apply --------------------------------------------------------------------------------------------------

    def _apply(
        self, found: tuple[Head, ...], tried: tuple[Tried, ...], before: Desired | None, shown: Preview
    ) -> None:
        wanted = self._wanted
        newest = found[0] if found else None
        if newest is not None and newest.hash == wanted.hash and newest.state == "deployed" and shown.nothing:
            self._head = newest
            return

        def waiting(other: str) -> None:
            self._tell(
                Event(type="note", message=f"{other} deploys {wanted.name} at this moment; waiting for it")
            )

        with held(
            self._api, wanted.namespace, wanted.name, wait_seconds=LOCK_WAIT_SECONDS, waiting=waiting,
            monotonic=self._monotonic,
        ) as lock:  # fmt: skip
            now = revisions.heads(self._api, wanted.namespace, wanted.name)
            if [(one.number, one.hash) for one in now] != [(one.number, one.hash) for one in found]:
                raise _ChangedError
            failed = newest is not None and newest.hash == wanted.hash and newest.state == "failed"
            self._head = self._begin(now)
            if failed:
                tried = fresh_start(self._api, wanted, tried, lock.keep)
            if before is not None and has_to_drain(self._settings, before, wanted, shown):
                drain(
                    self._api, before, lock.keep, self._tell, force=self._settings.force_conflicts,
                    monotonic=self._monotonic,
                )  # fmt: skip
            total = len(shown.created) + len(shown.changes)

            def applied(ref: Ref, number: int) -> None:
                facts: dict[str, object] = {"kind": ref.kind, "name": ref.name, "number": number}
                self._tell(Event(type="apply", message=str(ref), facts=facts | {"of": max(total, number)}))

            apply(
                self._api,
                wanted,
                tried,
                force=self._settings.force_conflicts,
                before_each=lock.keep,
                applied=applied,
            )

    def _begin(self, found: tuple[Head, ...]) -> Head:
        """The revision that this is: its own where an earlier run broke off or failed, else a new one."""
        newest = found[0] if found else None
        if newest is not None and newest.hash == self._wanted.hash:
            # drift is repaired under the number that it has; what failed is tried again
            return newest if newest.state == "deployed" else revisions.mark(self._api, newest, "pending")
        try:
            return revisions.save_after(
                self._api,
                self._wanted,
                newest,
                because=self._settings.because,
                by=revisions.who(),
                created=revisions.stamp(self._clock()),
            )
        except TakenError:
            raise _ChangedError from None
        except AbsentError:
            raise ClusterError(
                f"There is no namespace {self._wanted.namespace}.", hint="--create-namespace makes it."
            ) from None

    # -- after --------------------------------------------------------------------------------------------------

    def _await(self, *, first: bool, downloads: bool) -> Outcome:
        limit = self._settings.timeout_seconds or deadline_seconds(
            self._wanted, first=first, downloads=downloads
        )
        facts: dict[str, object] = {"deadline_seconds": limit}
        self._tell(
            Event(type="note", message=f"waiting until it is ready, at most {_time(limit)}", facts=facts)
        )
        return wait(
            self._api, self._wanted, deadline_seconds=limit, tell=self._tell, monotonic=self._monotonic,
            clock=lambda: self._clock() + self._api.ahead_seconds,
        )  # fmt: skip

    def _end(self, outcome: Outcome, before: Desired | None, shown: Preview) -> Result:
        if outcome.state == "superseded":
            return self._superseded()
        if outcome.state == "removed":
            return self._superseded("somebody deleted what this deploys; nothing more is done")
        if outcome.state == "ready":
            cause = self._smoke(shown)
            if cause is None:
                return self._succeed(outcome)
            outcome = replace(outcome, state="failed", cause=cause)
        return self._fail(outcome.cause, before)

    def _superseded(
        self, words: str = "another command deployed something else meanwhile; it goes on from there"
    ) -> Result:
        self._tell(Event(type="note", message=words))
        return Result(ended="superseded", head=self._head, message=words)

    def _smoke(self, shown: Preview) -> Cause | None:
        """Try the endpoint; the cause where it does not do what it should."""
        if not self._settings.smoke or (
            shown.nothing and self._head is not None and self._head.state == "deployed"
        ):
            return None
        from selfhost.deploy.smoke_run import smoke_of

        return smoke_of(self._api, self._wanted, self._settings, self._tell)

    def _succeed(self, outcome: Outcome) -> Result:
        wanted, head = self._wanted, self._head
        assert head is not None
        found = revisions.heads(self._api, wanted.namespace, wanted.name)
        if found and found[0].number > head.number:
            return self._superseded()
        earlier = self._earlier(found)[2]
        if not prune(self._api, wanted, head, earlier, self._tell, monotonic=self._monotonic):
            return self._superseded()
        head = revisions.mark(self._api, head, "deployed")
        for old in found:
            if old.number != head.number and old.state in ("deployed", "pending"):
                # one that nobody saw ready is nothing to go back to
                revisions.mark(self._api, old, "superseded" if old.state == "deployed" else "failed")
        revisions.trim(self._api, revisions_after(found, head), self._settings.keep)
        words = f"{wanted.name} serves, revision {head.number}, after {outcome.seconds:,.0f} s"
        self._tell(
            Event(
                type="ready",
                message=words,
                facts={"revision": head.number, "seconds": round(outcome.seconds, 1)},
            )
        )
        return Result(ended="ready", head=head, message=words)

    def _fail(self, cause: Cause | None, before: Desired | None) -> Result:
        wanted, head = self._wanted, self._head
        assert head is not None
        sentence = cause.sentence if cause else f"{wanted.name} did not get ready."
        facts: dict[str, object] = {}
        if cause is not None:
            facts = {
                "code": cause.code,
                "hint": cause.hint,
                "evidence": list(cause.evidence),
                "pod": cause.pod,
                "node": cause.node,
            }
        self._tell(Event(type="failed", message=sentence, facts=facts))
        found = revisions.heads(self._api, wanted.namespace, wanted.name)
        if found and found[0].number > head.number:
            return replace(self._superseded(), cause=cause)
        if head.state != "deployed":
            head = revisions.mark(self._api, head, "failed")
        if before is None or before.hash == wanted.hash or not self._settings.rollback:
            return Result(ended="failed", head=head, cause=cause, message=sentence)
        good = next((one for one in found if one.state == "deployed"), None)
        words = f"going back to revision {good.number if good else '?'}"
        self._tell(Event(type="rollback", message=words, facts={"revision": good.number if good else None}))
        settings = replace(
            self._settings,
            because=f"rollback to {good.number if good else '?'}, as {head.number} failed",
            preflight=False, smoke=False, rollback=False, dry_run=False, drain=None, timeout_seconds=None,
        )  # fmt: skip
        back = deploy(
            self._api,
            before,
            settings,
            self._tell,
            lambda *_: True,
            monotonic=self._monotonic,
            clock=self._clock,
        )
        ended = "rolled-back" if back.ended == "ready" else "failed"
        return Result(
            ended="rolled-back" if ended == "rolled-back" else "failed", head=back.head, cause=cause,
            message=sentence if ended == "rolled-back" else f"{sentence} The way back failed too: {back.message}",
        )  # fmt: skip


def revisions_after(found: tuple[Head, ...], head: Head) -> tuple[Head, ...]:
    """The same heads with the newest as it is by now, so that what was just deployed is the one that stays."""
    return tuple(
        head
        if one.number == head.number
        else replace(one, state="superseded" if one.state == "deployed" else one.state)
        for one in found
    )


def _time(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"

"""How a deployment is carried out, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from selfhost.cluster.types import Claim, Ref
from selfhost.deploy.types import Cause, Desired, Finding, Head
from selfhost.diff import ObjectChange, Report

Ended = Literal["ready", "applied", "failed", "rolled-back", "superseded", "refused", "dry-run", "unchanged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What applying would change, by a server-side dry-run of the whole set.

    Args:
        created: objects that are new.
        changes: objects that are there and will differ, field by field.
        unchanged: objects that are there already as they should be.
        pruned: of an earlier revision, no longer wanted: deleted once the new one is ready.
        kept: no longer wanted, but kept, as weights are.
        report: the change of plan against the revision before: memory, GPUs, downtime; None for a first deployment.
        claims: fields that others own and that are taken over, as was asked for.
        first: nothing was deployed under this name before.
    """

    created: tuple[Ref, ...]
    changes: tuple[ObjectChange, ...]
    unchanged: tuple[Ref, ...]
    pruned: tuple[Ref, ...]
    kept: tuple[Ref, ...]
    report: Report | None
    claims: tuple[Claim, ...]
    first: bool

    @property
    def nothing(self) -> bool:
        """Whether everything is as it should be already."""
        return not (self.created or self.changes or self.pruned)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to go about it.

    Args:
        because: kept with the revision: `deploy`, `upgrade: engine vllm@0.33.0`, `rollback to 3`.
        timeout_seconds: of the whole wait; None derives it from the plan's clocks.
        force_conflicts: take over fields that other field managers own.
        create_namespace: make the namespace where there is none.
        dry_run: end after the preview.
        preflight: look before anything is changed; errors end it.
        smoke: try the endpoint once it is ready.
        rollback: a failed upgrade goes back to the last revision that was deployed.
        drain: stop the old pods before the new ones are made, where no GPU is spare; None decides by what is free.
        keep: how many revisions stay.
        wait: whether to wait for the pods at all.
        api_key_file: file with the key that the smoke test sends; never printed.
    """

    because: str = "deploy"
    timeout_seconds: float | None = None
    force_conflicts: bool = False
    create_namespace: bool = False
    dry_run: bool = False
    preflight: bool = True
    smoke: bool = True
    rollback: bool = True
    drain: bool | None = None
    keep: int = 5
    wait: bool = True
    api_key_file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of it.

    Args:
        ended: in a word.
        head: the revision that is on the cluster now; None where nothing was changed.
        findings: of the preflight.
        cause: why it failed.
        preview: what was changed.
        message: one sentence.
    """

    ended: Ended
    head: Head | None = None
    findings: tuple[Finding, ...] = ()
    cause: Cause | None = None
    preview: Preview | None = None
    message: str = ""


Confirm = Callable[[Desired, Preview], bool]

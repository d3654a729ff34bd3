"""What a comparison finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Section = Literal[
    "model", "engine", "gpus", "load", "flags", "environment", "clocks", "pod", "weights", "licence"
]
Way = Literal["added", "removed", "changed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing of a plan that is not what it was. None: it was not, or is no longer, there."""

    section: Section
    what: str
    old: str | None
    new: str | None
    because: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryChange:
    """A line of the memory bill of the fullest GPU, in bytes. None: not in that bill."""

    term: str
    old_bytes: int | None
    new_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of an object. None: it was not, or is no longer, there."""

    path: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectChange:
    """An object of a rendering that is not what it was."""

    change: Way
    kind: str
    namespace: str | None
    name: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What applying the new side does to the old one while it runs.

    Args:
        restarts: pods that serve are made anew.
        downtime_seconds: how long nothing may serve at most, None where the two sides do not say.
        gpus_before: GPUs of all replicas, None where unknown.
        gpus_after: the same of the new side.
        gpus_meanwhile: the most GPUs that are taken during the update.
        download_bytes: weights that have to be fetched.
        blocked: what Kubernetes refuses to change in place, and the way.
        lost: what is gone afterwards, or stays behind.
    """

    restarts: bool
    downtime_seconds: int | None
    gpus_before: int | None
    gpus_after: int | None
    gpus_meanwhile: int | None
    download_bytes: int
    blocked: tuple[str, ...]
    lost: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything about two sides."""

    changes: tuple[Change, ...]
    memory: tuple[MemoryChange, ...]
    objects: tuple[ObjectChange, ...]
    effects: Effects

    @property
    def same(self) -> bool:
        """Whether nothing that counts differs."""
        return not (self.changes or self.memory or self.objects)

"""Deployments as JSON: what `selfhost status --json` holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from selfhost.cli._status_output import state_word
from selfhost.deploy.smoke.facts import facts_of_memory

if TYPE_CHECKING:
    from selfhost.deploy.overview import Row
    from selfhost.deploy.status import Status


def facts_of(rows: Sequence[Row], found: Status | None = None) -> dict[str, object]:
    """An overview; with everything of one deployment where that was asked for."""
    detail = None if found is None else _detail(found)
    return {"deployments": [_row(row) for row in rows], "deployment": detail}


def _row(row: Row) -> dict[str, object]:
    return {
        "name": row.name,
        "namespace": row.namespace,
        "model": row.model or None,
        "target": row.target or None,
        "revision": row.revision,
        "state": row.state or None,
        "ready": row.ready,
        "wanted": row.wanted,
        "gpus": row.gpus,
        "engine": row.engine or None,
        "version": row.version or None,
        "since": row.since,
        "word": state_word(row),
        "restarts": row.restarts,
        "well": row.well or row.paused,
    }


def _detail(found: Status) -> dict[str, object]:
    return {
        "healthy": found.healthy,
        "drifted": found.drifted,
        "compared_with": None if found.running is None else found.running.number,
        "pods": [
            {
                "name": pod.name, "component": pod.component, "node": pod.node or None, "ready": pod.ready,
                "stage": pod.stage, "restarts": pod.restarts, "since": pod.since, "image": pod.image,
                "old": pod.name in found.versions.old,
            }
            for pod in found.pods
        ],
        "planned_image": found.versions.planned or None,
        "drift": [
            {
                "kind": one.ref.kind, "name": one.ref.name, "what": one.what, "path": one.path or None,
                "wanted": one.wanted, "live": one.live, "owner": one.owner or None, "because": one.because or None,
            }
            for one in found.drift
        ],
        "memory": [{"pod": pod} | facts_of_memory(memory) for pod, memory in found.memory],
        "findings": [
            {
                "code": one.code, "level": one.level, "message": one.message, "hint": one.hint,
                "evidence": list(one.evidence),
            }
            for one in found.findings
        ],
        "causes": [
            {
                "code": one.code, "sentence": one.sentence, "evidence": list(one.evidence), "hint": one.hint,
                "pod": one.pod or None, "node": one.node or None,
            }
            for one in found.causes
        ],
        "endpoints": list(found.endpoints),
        "events": [
            {
                "at": one.at, "warning": one.warning, "reason": one.reason, "about": one.about,
                "message": one.message, "count": one.count,
            }
            for one in found.events
        ],
        "notes": list(found.notes),
    }  # fmt: skip

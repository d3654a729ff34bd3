"""What applying would change, as a line for people and as facts for programs."""

from __future__ import annotations

from dataclasses import asdict

from selfhost.deploy.settings import Preview
from selfhost.deploy.types import Desired


def summary_of(wanted: Desired, shown: Preview) -> str:
    """A preview in a line."""
    if shown.nothing:
        return f"everything is as it should be in namespace {wanted.namespace}"
    counted = (
        (len(shown.created), "+"), (len(shown.changes), "~"), (len(shown.pruned), "-"),
    )  # fmt: skip
    words = " ".join(f"{sign}{count}" for count, sign in counted if count)
    noun = "object" if len(shown.created) + len(shown.changes) + len(shown.pruned) == 1 else "objects"
    return f"{words} {noun} in namespace {wanted.namespace} (server-side dry-run accepted)"


def facts_of(shown: Preview) -> dict[str, object]:
    """A preview for programs: JSON alone."""
    return {
        "created": [f"{ref.kind}/{ref.name}" for ref in shown.created],
        "changed": [asdict(change) for change in shown.changes],
        "pruned": [f"{ref.kind}/{ref.name}" for ref in shown.pruned],
        "kept": [f"{ref.kind}/{ref.name}" for ref in shown.kept],
        "taken_over": [asdict(claim) for claim in shown.claims],
        "effects": None if shown.report is None else asdict(shown.report.effects),
        "memory": [] if shown.report is None else [asdict(one) for one in shown.report.memory],
    }

"""The verdict on the model's licence as annotations: what was judged, for which use, and what has to be kept."""

from __future__ import annotations

import re

from selfhost.plan import Plan

LONGEST = (
    240  # annotations are read by people in `kubectl describe`; the plan beside them holds the sentences
)

_UNSAFE = re.compile(r"[^A-Za-z0-9 ._+,:;()/@-]+")


def licence_annotations(plan: Plan) -> tuple[tuple[str, str], ...]:
    """Keys and values of the verdict, none for a plan whose licence nobody judged.

    Values are short and of letters, digits and plain punctuation, whatever a repository declares.
    """
    verdict = plan.licence
    if verdict is None:
        return ()
    found = {
        "licence": verdict.licence or "unknown",
        "licence-permission": verdict.permission,
        "licence-use": verdict.use or "unspecified",
        "licence-accepted": "true" if verdict.accepted else "false",
        "licence-obligations": ", ".join(verdict.terms)
        or ("none" if verdict.permission == "yes" else "read it"),
        "openness": verdict.openness,
    }
    return tuple((f"selfhost/{name}", _plain(value)) for name, value in found.items())


def _plain(text: str) -> str:
    plain = _UNSAFE.sub(" ", text).strip()
    return plain if len(plain) <= LONGEST else f"{plain[: LONGEST - 3]}..."

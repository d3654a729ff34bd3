"""How a plan becomes an object of KServe: which kind, and what stands in front of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from selfhost.errors import UsageError
from selfhost.manifests.options.fields import option

Kind = Literal["InferenceService", "LLMInferenceService"]
Router = Literal["none", "route", "scheduler"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KserveOptions:
    """Of target kserve alone."""

    kind: str | None = field(
        default=None,
        metadata=option(
            "--kserve-kind",
            "InferenceService, or LLMInferenceService as one replica on several nodes needs; by the plan if absent.",
            "str",
            metavar="KIND",
            only=("kserve",),
        ),
    )
    router: str | None = field(
        default=None,
        metadata=option(
            "--kserve-router",
            "What an LLMInferenceService has in front: none, route (if absent), or scheduler, the endpoint picker too.",
            "str",
            metavar="WHAT",
            only=("kserve",),
        ),
    )

    def __post_init__(self) -> None:
        if self.kind not in (None, "InferenceService", "LLMInferenceService"):
            raise UsageError(
                f"--kserve-kind {self.kind[:80]!r} is not known.",
                hint="Write InferenceService or LLMInferenceService.",
            )
        if self.router not in (None, "none", "route", "scheduler"):
            raise UsageError(
                f"--kserve-router {self.router[:80]!r} is not known.",
                hint="Write none, route or scheduler.",
            )

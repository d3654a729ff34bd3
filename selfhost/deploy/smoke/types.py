"""What a smoke test tries, with which key, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from selfhost.deploy.figures import MemoryFigures, StreamFigures
from selfhost.observation import EngineSnapshot

Verdict = Literal["pass", "fail", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was tried.

    Args:
        code: stable: `health`, `models`, `completion`, `streaming`, `key-refused`, `key-wrong`, `key-accepted`,
            `tool-call`, `embedding`, `rerank`.
        verdict: `skipped` is what was not tried, or says nothing.
        because: one sentence.
        seconds: it took, None where nothing was asked.
    """

    code: str
    verdict: Verdict
    because: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """The key that clients send.

    Args:
        asked: the deployment asks for one.
        value: None where it is not known.
        why: it is not known.
    """

    asked: bool
    value: str | None = field(default=None, repr=False)
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoke:
    """What came of it.

    Args:
        checks: in the order in which they were tried.
        stream: speed of one stream, None where none was read.
        memory: next to the plan, None where nothing was seen of it.
        engine: as its metrics and log have it.
        connections: how many were opened, each a request to the API server where they are forwarded.
    """

    checks: tuple[Check, ...]
    stream: StreamFigures | None
    memory: MemoryFigures | None
    engine: EngineSnapshot | None
    connections: int

    @property
    def failed(self) -> tuple[Check, ...]:
        """What is not as it should be."""
        return tuple(check for check in self.checks if check.verdict == "fail")

    @property
    def passed(self) -> bool:
        """Whether nothing failed and something was tried."""
        return not self.failed and any(check.verdict == "pass" for check in self.checks)

    @property
    def sentence(self) -> str:
        """The result, for a headline."""
        tried = [check for check in self.checks if check.verdict != "skipped"]
        skipped = len(self.checks) - len(tried)
        more = f", {skipped} skipped" if skipped else ""
        if self.failed:
            return f"{len(self.failed)} of {len(tried)} checks failed{more}: {self.failed[0].because}."
        return f"{len(tried)} checks passed{more}." if tried else "Nothing could be tried."

"""A node that is to be asked, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from selfhost.observation.summary import CheckSummary, Summary, SummaryLevel

SCHEMA = "selfhost/fleet/v1"
# The exporter's port, and the path that a summary stands under.
PORT = 9835
PATH = "/api/v1/summary"

# Worst first, as selfhost.health ranks them.
LEVELS: tuple[SummaryLevel, ...] = ("critical", "warn", "unknown", "ok", "skipped")

# Findings of the fleet itself, beside the checks that nodes report:
UNREACHABLE = "node-unreachable"  # no connection
SLOW = "node-slow"  # connected, and no whole answer within the deadline
OTHER = "node-other"  # something else answers: no such page, another version of the summary
LYING = "node-lying"  # an answer that cannot be true
STALE = "node-stale"  # readings of long ago
CLOCK = "node-clock"  # the node's clock is off
DUPLICATE = "node-duplicate"  # one host or one GPU at two addresses
FORBIDDEN = "node-forbidden"  # the answer was 401 or 403
NOT_READY = "node-not-ready"  # Kubernetes says so
NO_EXPORTER = "node-no-exporter"  # a node with GPUs and without an exporter


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back from one node, before anything is made of it.

    Args:
        fault: code of a finding, None where there is a whole answer.
        detail: why, one phrase without names or secrets.
        dated: the answer's Date header as Unix time: the node's own clock.
        seconds: from the first try to connect to the end.
    """

    status: int = 0
    body: bytes = b""
    dated: float | None = None
    fault: str | None = None
    detail: str = ""
    level: SummaryLevel = "unknown"
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAddress:
    """Where a node's exporter is.

    Args:
        name: how the node is shown until it says its own name.
        url: of the exporter, without a path or credentials; "" where there is none to ask.
        authorization: value of the header of that name; never shown.
        ask: asks the node another way, such as through the Kubernetes API: takes the seconds it may last, and raises
            nothing.
        findings: what is known of the node without asking it.
        certain: `name` is the node's, as Kubernetes has it, whatever the node calls itself.
    """

    name: str
    url: str = ""
    authorization: str | None = field(default=None, repr=False, compare=False)
    ask: Callable[[float], Answer] | None = field(default=None, repr=False, compare=False)
    findings: tuple[CheckSummary, ...] = ()
    certain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeResult:
    """One node as the fleet sees it.

    Args:
        level: the worst of what the node says of itself and of what the fleet found.
        findings: what the fleet found.
        summary: what the node said, None where it said nothing that can be read.
        seconds: how long the answer took.
    """

    address: NodeAddress
    level: SummaryLevel
    findings: tuple[CheckSummary, ...] = ()
    summary: Summary | None = None
    seconds: float = 0.0

    @property
    def checks(self) -> tuple[CheckSummary, ...]:
        """Findings of the fleet and the node's own checks, worst first."""
        own = self.summary.checks if self.summary else ()
        return tuple(sorted((*self.findings, *own), key=lambda check: LEVELS.index(check.level)))

    @property
    def name(self) -> str:
        """The name that is certain, else the host as it calls itself, else what it was asked under."""
        return self.summary.host if self.summary and not self.address.certain else self.address.name


def worst(levels: tuple[SummaryLevel, ...]) -> SummaryLevel:
    """The worst of some levels; unknown where there is none."""
    return min(levels, key=LEVELS.index, default="unknown")

"""What a check says: a level, a sentence, its evidence, what to do, and where the rule is from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from selfhost.observation import Observation

if TYPE_CHECKING:
    from selfhost.health.baseline import Baseline
    from selfhost.plan import Plan

SCHEMA = "selfhost/health/v1"

Level = Literal["ok", "warn", "critical", "unknown", "skipped"]
# Worst first. `skipped` never makes a verdict; `unknown` stands above `ok`: what could not be judged is not well.
LEVELS: tuple[Level, ...] = ("critical", "warn", "unknown", "ok", "skipped")

Action = Literal[
    "none", "fix_configuration", "check_application", "restart_engine", "reset_gpu", "reboot_node",
    "inspect_hardware",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One verdict of one check, about one GPU, one engine or the node.

    Levels: `ok`; `warn` and `critical`; `unknown`, the check applies and could not be made; `skipped`, it does not
    apply here (the board, driver or set-up has no such thing) or a suppression stands. The message says why.

    Args:
        code: stable name of the check, such as `gpu-lost`.
        level: see above.
        gpu: index of the GPU, None for the node or an engine.
        engine: address of the engine, None for the node or a GPU.
        message: one sentence for the person on call.
        evidence: the readings it rests on, with their units.
        action: what to do, from a small stable vocabulary.
        source: where the rule or threshold comes from.
        wants_history: the check would say more with a further observation some seconds later.
    """

    code: str
    level: Level
    gpu: int | None = None
    engine: str | None = None
    message: str
    evidence: str = ""
    action: Action = "none"
    source: str
    wants_history: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What checks know besides what was seen.

    Args:
        now: Unix time.
        plan: what the engine was deployed from.
        baseline: what this node looked like when it was well.
    """

    now: float
    plan: Plan | None = None
    baseline: Baseline | None = None


# Observations oldest first, at least one; all of the same node.
History = tuple[Observation, ...]
Checker = Callable[[History, Context], list[Check]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The verdict of a node, with its checks worst first."""

    verdict: Level
    checks: tuple[Check, ...]
    host: str = field(default="")

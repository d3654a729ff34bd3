"""Several nodes and several roles: Ray or not, prefill apart from decode, adapters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selfhost.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """How the engine is spread."""

    def several(self, plan: Plan) -> bool:
        """Whether one replica has pods on several nodes, so that they all have to read the weights."""
        from selfhost.place import NODE_GPUS

        return plan.gpu.count > NODE_GPUS

"""ResourceQuota: how much of it is used."""

from __future__ import annotations

from decimal import Decimal

from tests.fakes.kube import quotas
from tests.fakes.kube.controllers.tools import Tools
from tests.fakes.kube.wire import at


def sync(tools: Tools, namespace: str, name: str) -> float | None:
    """One step."""
    item = tools.find("ResourceQuota", namespace, name)
    if item is None:
        return None
    hard = at(item, "spec", "hard") or {}
    used = quotas.used(tools.store, item)
    shown = {one: quotas.shown(used.get(one, Decimal(0)), one) for one in hard}
    tools.status(item, {"hard": hard, "used": shown})
    return None

"""vLLM's KV-cache allocator, re-implemented: what the layers of a model become in blocks, and what memory holds."""

from __future__ import annotations

from selfhost.kv.groups import Group, StepTokens
from selfhost.kv.layout import KvCapacity, KvLayout, layout, layout_of_stages, step_tokens
from selfhost.kv.settings import KvSettings, LayerGroup

__all__ = [
    "Group",
    "KvCapacity",
    "KvLayout",
    "KvSettings",
    "LayerGroup",
    "StepTokens",
    "layout",
    "layout_of_stages",
    "step_tokens",
]

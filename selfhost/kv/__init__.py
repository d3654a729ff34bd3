"""vLLM's KV-cache allocator, re-implemented: what the layers of a model become in blocks, and what memory holds."""

from __future__ import annotations

from selfhost.kv.groups import Group
from selfhost.kv.layout import KvCapacity, KvLayout, in_flight_tokens, layout, layout_of_stages
from selfhost.kv.settings import KvSettings, LayerGroup

__all__ = [
    "Group",
    "KvCapacity",
    "KvLayout",
    "KvSettings",
    "LayerGroup",
    "in_flight_tokens",
    "layout",
    "layout_of_stages",
]

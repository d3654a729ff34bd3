"""Many nodes at once: their exporters read with bounded parallelism, judged, and sorted by trouble."""

from selfhost.fleet.cluster import nodes_of_cluster
from selfhost.fleet.poll import poll
from selfhost.fleet.table import columns, render, rows, to_json
from selfhost.fleet.types import SCHEMA, NodeAddress, NodeResult
from selfhost.fleet.urls import nodes_of_urls

__all__ = [
    "SCHEMA",
    "NodeAddress",
    "NodeResult",
    "columns",
    "nodes_of_cluster",
    "nodes_of_urls",
    "poll",
    "render",
    "rows",
    "to_json",
]

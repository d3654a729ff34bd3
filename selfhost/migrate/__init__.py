"""From Text Generation Inference to vLLM or SGLang: settings, metrics and queries, and what has no equivalent."""

from selfhost.migrate.run import Migrated, migrate, target
from selfhost.migrate.table import ENGINES, NAMES, table
from selfhost.migrate.types import Change, Migration, Server, Unmatched

__all__ = [
    "ENGINES",
    "NAMES",
    "Change",
    "Migrated",
    "Migration",
    "Server",
    "Unmatched",
    "migrate",
    "table",
    "target",
]

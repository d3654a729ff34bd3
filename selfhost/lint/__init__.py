"""Faults of LLM serving in anybody's manifests: read YAML once into `Lot`, run every rule over it, return findings."""

from selfhost.lint.edits import apply_edits
from selfhost.lint.files import Text, gather
from selfhost.lint.mend import Mended, mend
from selfhost.lint.model import Lot, Skipped, Unread
from selfhost.lint.rules import rules
from selfhost.lint.run import Report, lint, read_lot
from selfhost.lint.types import SEVERITIES, Edit, Finding, Found, Rule, Settings, Severity, Where

__all__ = [
    "SEVERITIES",
    "Edit",
    "Finding",
    "Found",
    "Lot",
    "Mended",
    "Report",
    "Rule",
    "Settings",
    "Severity",
    "Skipped",
    "Text",
    "Unread",
    "Where",
    "apply_edits",
    "gather",
    "lint",
    "mend",
    "read_lot",
    "rules",
]

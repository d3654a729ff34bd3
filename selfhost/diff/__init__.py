"""What a change means: two plans or two renderings, compared by memory, GPUs, flags and downtime, not by lines."""

from selfhost.diff.load import Side, load
from selfhost.diff.objects import compare_objects
from selfhost.diff.plans import compare_plans
from selfhost.diff.report import compare
from selfhost.diff.types import Change, Effects, Field, MemoryChange, ObjectChange, Report, Section

__all__ = [
    "Change",
    "Effects",
    "Field",
    "MemoryChange",
    "ObjectChange",
    "Report",
    "Section",
    "Side",
    "compare",
    "compare_objects",
    "compare_plans",
    "load",
]

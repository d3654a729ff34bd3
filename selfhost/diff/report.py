"""Both comparisons as one report."""

from __future__ import annotations

from selfhost.diff.effects import effects_of_objects, effects_of_plans, has_workloads
from selfhost.diff.files import STARTS
from selfhost.diff.load import Side
from selfhost.diff.objects import compare_objects
from selfhost.diff.plans import compare_plans
from selfhost.diff.types import Report
from selfhost.errors import UsageError


def compare(old: Side, new: Side) -> Report:
    """What a change from one side to the other means.

    Raises:
        UsageError: one side is a plan, the other a rendering that carries none.
    """
    objects = bool(old.objects) and bool(new.objects)
    if not objects and (old.plan is None or new.plan is None):
        bare = old.name if old.plan is None else new.name
        raise UsageError(
            f"{bare} carries no plan to compare with one.", hint="Compare two plans, or two renderings."
        )
    changes, memory = ((), ()) if old.plan is None or new.plan is None else compare_plans(old.plan, new.plan)
    found = compare_objects(old.objects, new.objects) if objects else ()
    made = old.made | new.made  # by kustomize on one side, by Helm on the other
    found = tuple(one for one in found if not (one.kind == "ConfigMap" and one.name in made))
    if has_workloads(old) or has_workloads(new):
        return Report(
            changes=changes, memory=memory, objects=found, effects=effects_of_objects(old, new, found)
        )
    assert old.plan is not None
    assert new.plan is not None
    starts = any(one.kind in STARTS for one in found)
    effects = effects_of_plans(old.plan, new.plan, changes, restarts=starts)
    return Report(changes=changes, memory=memory, objects=found, effects=effects)

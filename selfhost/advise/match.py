"""Whether a row's condition holds: every fact that it names has one of the values that it names."""

from __future__ import annotations

from collections.abc import Mapping

from selfhost.advise.tables import Condition

Facts = Mapping[str, str | tuple[str, ...]]


def holds(condition: Condition, facts: Facts) -> bool:
    """Whether facts satisfy a condition.

    Args:
        condition: fact -> value or list of values; `any` holds a list of conditions of which one must hold. A fact that
            is not there has the value `unknown`.
        facts: what is known; a fact with several values (what somebody believes) has one of them for each.
    """
    return all(_one(name, wanted, facts) for name, wanted in condition.items())


def _one(name: str, wanted: object, facts: Facts) -> bool:
    if name == "any":
        assert isinstance(wanted, list)
        return any(holds(each, facts) for each in wanted)
    had = facts.get(name, "unknown")
    allowed = wanted if isinstance(wanted, list) else [wanted]
    return any(value in allowed for value in (had if isinstance(had, tuple) else (had,)))


def applies(when: Condition | None, unless: Condition | None, facts: Facts) -> bool:
    """Whether a row speaks: it has a condition that holds, and what silences it does not."""
    return when is not None and holds(when, facts) and not (unless is not None and holds(unless, facts))

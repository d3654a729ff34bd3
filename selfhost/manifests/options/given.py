"""Which options were asked for: what a target has no place for is refused instead of forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from typing import Any

from selfhost.errors import UsageError


def given(group: Any) -> tuple[str, ...]:
    """Flags of a group of options whose values are not the defaults."""
    return tuple(
        item.metadata["flag"]
        for item in fields(group)
        if item.metadata and getattr(group, item.name) != _default(item)
    )


def refuse_groups(target: str, groups: Iterable[Any]) -> None:
    """Refuse every option of groups that a target has no place for.

    Args:
        target: its name.
        groups: values of the groups.

    Raises:
        UsageError: one of them was asked for.
    """
    flags = [flag for group in groups for flag in given(group)]
    if flags:
        raise UsageError(f"{flags[0]} has no effect with --target {target}.", hint="Leave it out.")


def refuse_elsewhere(target: str, options: Any) -> None:
    """Refuse an option that is for other targets.

    Args:
        target: name of the one that is rendered for.
        options: all options, groups among them.

    Raises:
        UsageError: one of them was asked for.
    """
    for group in (options, *(getattr(options, item.name) for item in fields(options) if not item.metadata)):
        asked = given(group)
        for item in fields(group):
            only = item.metadata.get("only", ())
            if only and target not in only and item.metadata["flag"] in asked:
                raise UsageError(
                    f"{item.metadata['flag']} has no effect with --target {target}.",
                    hint=f"Leave it out, or render with --target {' or '.join(only)}.",
                )


def _default(item: Field[Any]) -> Any:
    return item.default_factory() if item.default_factory is not MISSING else item.default

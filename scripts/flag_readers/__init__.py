"""Readers of engines' own parsers: from a source tree to what its command line, environment and metrics page know.

A reader is a function from the top of a source tree to `Read`; `scripts/build_flags.py` joins what the releases say.
Nothing of the tree is imported or run.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Option:
    """One option.

    Args:
        aliases: other spellings, short ones included.
        shape: `switch`, `boolean` (a switch that has a `--no-` twin), `value`, `optional` (a value may follow) or
            `list`.
        choices: values it takes, empty where any will do or they are not written down.
    """

    aliases: set[str] = field(default_factory=set)
    shape: str = "value"
    choices: set[str] = field(default_factory=set)


@dataclass(kw_only=True)
class Read:
    """What one release knows: options by name, names of variables, metrics by name with their type and own labels."""

    options: dict[str, Option] = field(default_factory=dict)
    variables: set[str] = field(default_factory=set)
    metrics: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)

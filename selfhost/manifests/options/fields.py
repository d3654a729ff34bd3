"""How a field of the options describes the option of the command line that is made from it."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any


def option(
    flag: str, help_text: str, kind: str, *, metavar: str = "NAME", only: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Metadata of a field.

    Args:
        flag: the option's long name.
        help_text: one sentence.
        kind: `str`, `many` (a tuple of text, the option may be repeated), `int`, `size`, `flag`, `off_flag` or a choice
            that cli/_options.py knows.
        metavar: what stands for the value in the help.
        only: targets that it has an effect on, where it is not for all of them; with others it is refused.
    """
    return {"flag": flag, "help": help_text, "kind": kind, "metavar": metavar, "only": only}


def is_network(text: str) -> bool:
    """Whether it is a range of IP addresses, as a NetworkPolicy takes it."""
    try:
        return "/" in text and bool(ip_network(text))
    except ValueError:
        return False

"""Engines that were found on this node, under the addresses by which the user named them."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from selfhost.node.sockets import own_addresses
from selfhost.observation.engine import EngineAddress

_LOOPBACK = "127.0.0.1"
_PORTS = {"http": 80, "https": 443}


def under_names(
    found: Sequence[EngineAddress], named: Sequence[EngineAddress], root: Path = Path("/")
) -> tuple[EngineAddress, ...]:
    """What was found, each under the address that was given for it; the others as they are.

    A server that listens on every address is found at 127.0.0.1, and may have been named by any of the host's addresses
    or by the host's name. What is found in another network namespace (a container, a pod) has an address of its own
    there, and is the one that was named by that address alone: who forwards a port to it cannot be seen.

    Args:
        found: by `find_engines`.
        named: by the user.
        root: what stands before /proc.
    """
    by_place = {_place(urlsplit(one.url)): one for one in found}
    names: dict[str, str] = {}
    for one in named:
        match = next((by_place[place] for place in _places(one.url, root) if place in by_place), None)
        if match is not None:
            names.setdefault(match.url, one.url)
    return tuple(replace(one, url=names.get(one.url, one.url)) for one in found)


def _places(url: str, root: Path) -> list[tuple[str, int | None]]:
    """Where the named server may have been found: its own address, and loopback if that address is the host's."""
    parts = urlsplit(url)
    host, port = _place(parts)
    if host == "localhost":
        return [(_LOOPBACK, port), ("::1", port)]
    if host in {socket.gethostname().lower(), socket.gethostname().partition(".")[0].lower()}:
        own = [str(address) for address in own_addresses(root)]
        return [(_LOOPBACK, port), *((address, port) for address in own)]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a name that only DNS knows
        return []
    ours = address.is_loopback or address.is_unspecified or address in own_addresses(root)
    return [(host, port), (_LOOPBACK, port)] if ours else [(host, port)]


def _place(parts: SplitResult) -> tuple[str, int | None]:
    return (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme)

"""Exporters from a list that somebody wrote: addresses or URLs, between commas, on lines, or in a file."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from selfhost.errors import UsageError, shown_address
from selfhost.fleet.types import PATH, PORT, NodeAddress

_HOST = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\]"
)
_MOST_NODES = 100_000
_PATHS = ("", "/", PATH, "/metrics")


def nodes_of_urls(given: str | Path | Iterable[str], *, port: int = PORT) -> tuple[NodeAddress, ...]:
    """Addresses of exporters.

    Args:
        given: a text of addresses between commas, spaces or lines, where `#` begins a comment; a list of such; or the
            path of a file of such. An address is `host`, `host:port` or an http or https URL, which may carry a user
            and a password; `[…]` stands around IPv6.
        port: where none is given.

    Returns:
        Each address once, in the order given.

    Raises:
        UsageError: an address that is none, no address at all, or a file that cannot be read.
    """
    words = [word for text in _texts(given) for word in _words(text)]
    if not words:
        raise UsageError(
            "The list of nodes is empty.",
            hint="Give addresses such as gpu-1:9835,gpu-2:9835, or a file of them.",
        )
    if len(words) > _MOST_NODES:
        raise UsageError(f"{len(words)} nodes are more than one list may have ({_MOST_NODES}).")
    found = {node.url: node for node in (_node(word, port) for word in words)}
    return tuple(found.values())


def _texts(given: str | Path | Iterable[str]) -> Iterable[str]:
    if isinstance(given, Path):
        try:
            return [given.read_text(encoding="utf-8-sig")]
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise UsageError(f"The list of nodes {given} cannot be read: {reason}.") from None
    return [given] if isinstance(given, str) else given


def _words(text: str) -> list[str]:
    return [
        word for line in text.splitlines() for word in re.split(r"[,\s]+", line.partition("#")[0]) if word
    ]


def _node(word: str, port: int) -> NodeAddress:
    try:
        target = urlsplit(word if "://" in word else f"http://{word}")
        number = target.port if target.port is not None else _default_port(target, port)
    except ValueError:
        raise _no_address(word) from None
    host = target.netloc.rpartition("@")[2]
    host = host if host.endswith("]") else host.rpartition(":")[0] or host
    wrong = "\\" in word or target.query or target.fragment or target.path not in _PATHS
    if target.scheme not in ("http", "https") or not _HOST.fullmatch(host) or not number or wrong:
        raise _no_address(word)
    url = f"{target.scheme}://{host.lower()}:{number}"
    return NodeAddress(
        name=host.lower() if number == port else f"{host.lower()}:{number}",
        url=url,
        authorization=_authorization(target),
    )


def _default_port(target: SplitResult, port: int) -> int:
    # https://gpu-1 is most likely a proxy in front of the exporter, on the port that browsers use.
    return 443 if target.scheme == "https" else port


def _authorization(target: SplitResult) -> str | None:
    if target.username is None:
        return None
    pair = f"{unquote(target.username)}:{unquote(target.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii")


def _no_address(word: str) -> UsageError:
    shown = "".join(one if one.isprintable() else "?" for one in shown_address(word)[:80])
    return UsageError(
        f"{shown!r} is not the address of an exporter.",
        hint="An address is host, host:port or an http(s) URL.",
    )

"""Where a process listens, and under which address it can be reached from here: /proc/<pid>/net, fd and ns."""

from __future__ import annotations

import ipaddress
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from selfhost.node.proc import names_in, read_link, read_text

# TCP_LISTEN of include/net/tcp_states.h.
_LISTEN = "0A"
_SOCKET = re.compile(r"socket:\[(\d+)\]")
_LOCAL = re.compile(r"\|-- (\d+\.\d+\.\d+\.\d+)\n\s+/32 host LOCAL")
# Scope 00 of /proc/net/if_inet6: a global address.
_GLOBAL6 = re.compile(r"^([0-9a-f]{32}) \S+ \S+ 00 ", re.MULTILINE)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A listening TCP socket."""

    address: Address
    port: int
    inode: int


def listeners(root: Path, pid: int) -> tuple[Listener, ...]:
    """Every listening TCP socket of the network namespace that a process is in, whosever they are."""
    found = []
    for name in ("tcp", "tcp6"):
        text = read_text(root / "proc" / str(pid) / "net" / name) or ""
        for line in text.splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTEN and fields[9].isdecimal():
                address, _, port = fields[1].partition(":")
                parsed = _address(address)
                if parsed is not None:
                    found.append(Listener(address=parsed, port=int(port, 16), inode=int(fields[9])))
    return tuple(found)


def socket_inodes(root: Path, pid: int) -> frozenset[int]:
    """Inodes of the sockets a process has open; none where its files are not ours to see."""
    where = root / "proc" / str(pid) / "fd"
    links = (_SOCKET.fullmatch(read_link(where / name) or "") for name in names_in(where))
    return frozenset(int(link[1]) for link in links if link)


def reachable_at(root: Path, pid: int, bound: Address | None) -> Address | None:
    """The address to reach a process's socket from here.

    Args:
        root: what stands before /proc.
        pid: the process that listens.
        bound: what its socket is bound to; None where it does not listen yet.

    Returns:
        Loopback in our own network namespace, or what the socket is bound to; in another (a pod, a container) that
        namespace's first address, even for a socket bound to loopback there: nothing is reachable then, and it shows.
        None where the namespace has no address.
    """
    if _shares_network(root, pid):
        if bound is None or bound.is_unspecified:
            # "::" takes IPv4 too, unless a socket asks otherwise, which engines do not.
            return ipaddress.IPv4Address("127.0.0.1")
        return _plain(bound)
    if bound is not None and not bound.is_unspecified and not bound.is_loopback:
        return _plain(bound)
    return _own_address(root, pid)


def _shares_network(root: Path, pid: int) -> bool:
    ours, theirs = (read_link(root / "proc" / who / "ns/net") for who in ("self", str(pid)))
    if ours is not None and theirs is not None:
        return ours == theirs
    # Another user's namespace link is hidden; its table of addresses is not, and is the same file in one namespace.
    tables = [read_text(root / "proc" / who / "net/fib_trie") for who in ("self", str(pid))]
    return tables[0] == tables[1]


def own_addresses(root: Path, pid: int | None = None) -> tuple[Address, ...]:
    """Addresses of the network namespace that a process (or, without one, this process) is in, IPv4 first."""
    where = root / "proc" / ("self" if pid is None else str(pid)) / "net"
    four = [ipaddress.IPv4Address(text) for text in _LOCAL.findall(read_text(where / "fib_trie") or "")]
    digits = _GLOBAL6.findall(read_text(where / "if_inet6") or "")
    every: tuple[Address, ...] = (*four, *(ipaddress.IPv6Address(bytes.fromhex(one)) for one in digits))
    return tuple(address for address in every if not address.is_loopback and not address.is_link_local)


def _own_address(root: Path, pid: int) -> Address | None:
    return next(iter(own_addresses(root, pid)), None)


def _address(text: str) -> Address | None:
    """An address of /proc/net/tcp: words of 32 bits, each as the processor keeps it."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return None
    if len(raw) not in (4, 16):
        return None
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    return ipaddress.IPv4Address(raw) if len(raw) == 4 else _plain(ipaddress.IPv6Address(raw))


def _plain(address: Address) -> Address:
    """::ffff:10.0.0.1 as 10.0.0.1."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address

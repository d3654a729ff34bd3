"""Finds inference servers on this node: their processes, and the address under which they answer.

Servers are known by their command lines, with or without a GPU. A GPU process whose title says which engine it is,
under a program of another name, makes the nearest of its ancestors that listens a server too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from selfhost.node.cgroups import Membership, membership
from selfhost.node.commands import DEFAULT_PORTS, Command, command
from selfhost.node.proc import (
    ancestors,
    command_line,
    holds_gpu,
    host_pids,
    names_in,
    parent_of,
    pids,
    read_text,
)
from selfhost.node.sockets import Listener, listeners, reachable_at, socket_inodes
from selfhost.observation.engine import EngineAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tree:
    """Every process of this moment: who its parent is, and which are engines."""

    parents: dict[int, int]
    commands: dict[int, Command]
    children: dict[int, tuple[int, ...]]


def find_engines(gpu_pids: Iterable[int] = (), root: Path = Path("/")) -> tuple[EngineAddress, ...]:
    """Every inference server that can be seen from here, by address.

    Reads /proc once, and raises nothing. Of command lines only the engine and the port are kept.

    Args:
        gpu_pids: processes that have a context on a GPU, as NVML numbers them.
        root: what stands before /proc.
    """
    tree = _tree(root)
    if tree is None:
        return ()
    same_numbers = host_pids(root)
    on_gpu = [pid for pid in gpu_pids if pid in tree.parents and (same_numbers or holds_gpu(root, pid))]
    servers = _servers(tree)
    servers.update(_unnamed_servers(root, tree, servers, on_gpu))
    groups = {pid: _descendants(tree, pid) for pid in servers}
    _adopt(root, tree, servers, groups, on_gpu)
    found: dict[str, EngineAddress] = {}
    for pid, kind in servers.items():
        url = _url(root, pid, kind, groups[pid])
        if url is None:
            continue
        members = groups[pid] | set(found[url].pids if url in found else ())
        found[url] = EngineAddress(url=url, pids=tuple(sorted(members)), engine=kind.engine)
    return tuple(found[url] for url in sorted(found))


def _tree(root: Path) -> _Tree | None:
    """Every process and its parent; None where no process is an engine's, which costs one read for each."""
    every = pids(root)
    commands = {pid: kind for pid in every if (kind := command(command_line(root, pid))) is not None}
    if not commands:
        return None
    parents: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for pid in every:
        parent = parent_of(root, pid)
        if parent is not None:
            parents[pid] = parent
            children.setdefault(parent, []).append(pid)
    return _Tree(
        parents=parents,
        commands={pid: kind for pid, kind in commands.items() if pid in parents},
        children={pid: tuple(own) for pid, own in children.items()},
    )


def _servers(tree: _Tree) -> dict[int, Command]:
    """Servers by command line; of a server and its children of the same command line, the topmost."""
    found = {pid: kind for pid, kind in tree.commands.items() if kind.separate}
    supervisors = {above for pid in found for above in ancestors(tree.parents, pid) if above != pid}
    for pid, kind in tree.commands.items():
        if not kind.server or kind.separate or pid in supervisors:
            continue
        top, first = pid, kind
        for above in ancestors(tree.parents, pid):
            other = tree.commands.get(above)
            if other is not None and other.server and other.engine == kind.engine:
                top, first = above, other
        found[top] = first
    return found


def _unnamed_servers(
    root: Path, tree: _Tree, servers: dict[int, Command], on_gpu: Iterable[int]
) -> dict[int, Command]:
    """Programs of another name that run an engine: found from its workers, upwards to the first that listens."""
    found: dict[int, Command] = {}
    for pid in on_gpu:
        line = list(ancestors(tree.parents, pid))
        kinds = [tree.commands[above] for above in line if above in tree.commands]
        if not kinds or any(above in servers for above in line):
            continue
        home = _home(root, pid)
        for above in line:
            if _home(root, above) != home:
                break
            if tree.commands.get(above) is None and _listening(root, above, frozenset((above,))):
                found[above] = Command(engine=kinds[0].engine, server=True)
                break
    return found


def _adopt(
    root: Path,
    tree: _Tree,
    servers: dict[int, Command],
    groups: dict[int, set[int]],
    on_gpu: Iterable[int],
) -> None:
    """GPU processes outside every tree (started by Ray, or orphaned) go to the one engine of their container."""
    taken = set().union(*groups.values()) if groups else set()
    homes: dict[Membership, list[int]] = {}
    for pid in servers:
        homes.setdefault(_home(root, pid), []).append(pid)
    for pid in on_gpu:
        owners = homes.get(_home(root, pid), [])
        if pid not in taken and len(owners) == 1 and _home(root, pid) != Membership():
            groups[owners[0]] |= {pid} | _descendants(tree, pid)


def _home(root: Path, pid: int) -> Membership:
    return membership(read_text(root / "proc" / str(pid) / "cgroup") or "")


def _descendants(tree: _Tree, pid: int) -> set[int]:
    found: set[int] = set()
    left = [pid]
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left.extend(tree.children.get(one, ()))
    return found


def _listening(root: Path, pid: int, group: frozenset[int]) -> list[Listener]:
    """Listening sockets of a process's namespace that one of the group has open."""
    every = listeners(root, pid)
    if not every:
        return []
    inodes = frozenset().union(*(socket_inodes(root, member) for member in group))
    return [listener for listener in every if listener.inode in inodes]


def _url(root: Path, pid: int, kind: Command, group: set[int]) -> str | None:
    """Where the server answers; a port it asked for where it does not listen yet."""
    own = _listening(root, pid, frozenset((pid,)))
    chosen = _choose(own, kind)
    if chosen is None or not _wanted(chosen, kind):
        # TGI's router and vLLM's further API servers are children of the process that was started.
        theirs = _listening(root, pid, frozenset(group))
        better = _choose(theirs, kind)
        chosen = better if better is not None and (chosen is None or _wanted(better, kind)) else chosen
    if chosen is None and kind.separate:  # it loads still, and its port is its parent's to know
        return None
    if chosen is None and not names_in(root / "proc" / str(pid) / "fd"):
        # Files of another user are hidden, the namespace's table of sockets is not.
        chosen = next((one for one in listeners(root, pid) if _wanted(one, kind)), None)
    port = chosen.port if chosen else kind.port or next(iter(DEFAULT_PORTS.get(kind.engine, ())), None)
    address = reachable_at(root, pid, chosen.address if chosen else None)
    if port is None or address is None:
        return None
    host = f"[{address}]" if isinstance(address, ipaddress.IPv6Address) else str(address)
    return f"{'https' if kind.tls else 'http'}://{host}:{port}"


def _wanted(listener: Listener, kind: Command) -> bool:
    ports = (kind.port,) if kind.port is not None else DEFAULT_PORTS.get(kind.engine, ())
    return listener.port in ports


def _choose(found: list[Listener], kind: Command) -> Listener | None:
    """The port that was asked for, the engine's usual one, or the lowest: ports of its own choosing are high."""
    if not found:
        return None
    return min(found, key=lambda one: (not _wanted(one, kind), one.port))

"""A /proc, /dev and /sys made of files, for code that reads them below a root of its own."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field
from pathlib import Path

HOST_NAMESPACE = "pid:[4026531836]"


@dataclass
class ProcTree:
    """Writes what the kernel would show."""

    root: Path
    inodes: int = 1000
    tables: dict[str, list[str]] = field(default_factory=dict)

    def write(self, path: str, text: str) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        return target

    def link(self, path: str, target: str) -> None:
        where = self.root / path
        where.parent.mkdir(parents=True, exist_ok=True)
        where.unlink(missing_ok=True)
        where.symlink_to(target)

    def host(self) -> ProcTree:
        """/proc shows the machine's own process numbers."""
        self.process(2, ["kthreadd"], parent=0, title="")
        self.network("self")
        return self

    def network(
        self, who: str, namespace: str = "net:[1]", addresses: tuple[str, ...] = ("192.0.2.1",)
    ) -> None:
        self.link(f"proc/{who}/ns/net", namespace)
        lines = "".join(
            f"           |-- {one}\n              /32 host LOCAL\n" for one in ("127.0.0.1", *addresses)
        )
        self.write(f"proc/{who}/net/fib_trie", f"Main:\n  +-- 0.0.0.0/0 3 0 5\n{lines}Local:\n{lines}")

    def process(
        self,
        pid: int,
        argv: list[str],
        *,
        parent: int = 1,
        comm: str | None = None,
        cgroup: str = "0::/user.slice/session-1.scope",
        namespace: str = "net:[1]",
        addresses: tuple[str, ...] = ("192.0.2.1",),
        gpu: bool = False,
        title: str | None = None,
    ) -> None:
        comm = comm if comm is not None else argv[0].rpartition("/")[2][:15]
        line = title if title is not None else "".join(word + "\0" for word in argv)
        self.write(f"proc/{pid}/stat", f"{pid} ({comm}) S {parent} {pid} {pid} 0 -1 4194304 0 0\n")
        self.write(f"proc/{pid}/comm", comm + "\n")
        self.write(f"proc/{pid}/cmdline", line)
        self.write(f"proc/{pid}/cgroup", cgroup + "\n")
        self.network(str(pid), namespace, addresses)
        (self.root / f"proc/{pid}/fd").mkdir(parents=True, exist_ok=True)
        if gpu:
            self.link(f"proc/{pid}/fd/17", "/dev/nvidia0")

    def listen(self, pid: int, port: int, address: str = "0.0.0.0", *, hidden: bool = False) -> None:
        """A listening socket; every process of the namespace sees it in its table, its owner has it open."""
        self.inodes += 1
        namespace = (self.root / f"proc/{pid}/ns/net").readlink().as_posix()
        six = ":" in address
        packed = socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, address)
        words = (packed[at : at + 4] for at in range(0, len(packed), 4))
        digits = "".join(f"{struct.unpack('=I', word)[0]:08X}" for word in words)
        rest = f"{'0' * len(digits)}:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 {self.inodes} 1 0"
        table = self.tables.setdefault(f"{namespace}{'tcp6' if six else 'tcp'}", [])
        table.append(f"   {len(table)}: {digits}:{port:04X} {rest}\n")
        for own in (self.root / "proc").iterdir():
            link = own / "ns/net"
            if link.is_symlink() and link.readlink().as_posix() == namespace:
                self.write(
                    f"proc/{own.name}/net/{'tcp6' if six else 'tcp'}",
                    "  sl  local_address …\n" + "".join(table),
                )
        if not hidden:
            self.link(f"proc/{pid}/fd/{self.inodes}", f"socket:[{self.inodes}]")

"""What the fake Hub holds and what it has seen; tests change it between requests."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from tests.fakes.hub.content import Content, Symlink, git_oid_of, pointer_of, sha256_of, size_of
from tests.fakes.hub.faults import Fault, Kind, Origin

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER_COMMIT = "89abcdef0123456789abcdef0123456789abcdef"

# The Hub's own .gitattributes of a new model repository, by suffix; anything above 10 MB has to be in LFS too.
LFS_SUFFIXES = (
    ".7z", ".arrow", ".bin", ".bz2", ".ckpt", ".gguf", ".gz", ".h5", ".joblib", ".model", ".msgpack", ".npy", ".npz",
    ".onnx", ".parquet", ".pb", ".pickle", ".pkl", ".pt", ".pth", ".safetensors", ".tar", ".wasm", ".xz", ".zip",
    ".zst",
)  # fmt: skip
LFS_BYTES = 10_000_000


@dataclass(slots=True, kw_only=True)
class Repo:
    """One repository of the fake Hub.

    Args:
        files: name -> content of every commit that `commits` does not name.
        commits: files of single commits.
        revisions: branch, tag or ref -> commit.
        gated: terms have to be accepted; files are then for the tokens in `granted` alone.
        granted: tokens of accounts that have access.
        token: private: 404 (401 to nobody in particular) without it.
        disabled: taken down.
        card: front matter of the model card.
        tags: beside those that follow from the card.
        facts: other fields of the model's page, such as `downloads`, `likes`, `createdAt` or `safetensors`.
        lfs: whether a file is in LFS; None for the Hub's own rule.
        xet: name -> hash in Xet storage (see tests/fakes/hub/xet.py).
        xet_storage: address of the Xet storage.
    """

    files: dict[str, Any]  # of Content; a dict of bytes alone would not be one by mypy's rules
    commits: dict[str, dict[str, Any]] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    gated: bool | Literal["auto", "manual"] = False
    granted: frozenset[str] = frozenset()
    token: str | None = None
    disabled: bool = False
    card: dict[str, object] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    facts: dict[str, object] = field(default_factory=dict)
    lfs: Callable[[str, Content], bool] | None = None
    xet: dict[str, str] = field(default_factory=dict)
    xet_storage: str | None = None
    _entries: tuple[tuple[str, ...], tuple[tuple[str, str], ...]] | None = None

    def commit(self, revision: str) -> str | None:
        """What a branch, tag, ref or commit resolves to."""
        known = {*self.revisions.values(), *self.commits}
        return self.revisions.get(revision) or (revision if revision in known else None)

    def at(self, commit: str) -> dict[str, Content]:
        """The files of a commit."""
        return self.commits.get(commit, self.files)

    def in_lfs(self, name: str, content: Content) -> bool:
        """Whether git holds only a pointer to it."""
        if isinstance(content, Symlink):
            return False
        if self.lfs is not None:
            return self.lfs(name, content)
        return name.lower().endswith(LFS_SUFFIXES) or size_of(content) > LFS_BYTES

    def blob(self, name: str, content: Content) -> Blob:
        """Sizes and hashes of one file."""
        size = size_of(content)
        if not self.in_lfs(name, content):
            return Blob(size=size, oid=git_oid_of(content))
        pointer = pointer_of(content)
        return Blob(
            size=size,
            oid=git_oid_of(pointer),
            sha256=sha256_of(content),
            pointer_size=len(pointer),
            xet_hash=self.xet.get(name),
        )

    def entries(self, files: Mapping[str, Content]) -> tuple[tuple[str, str], ...]:
        """Everything in the tree, folders too, as ("file" or "directory", path), sorted by path."""
        names = tuple(files)
        if self._entries is None or self._entries[0] != names:
            folders = {folder for name in names for folder in _folders(name)}
            # A file and a folder of the same name cannot be in one git tree; a lying Hub lists both.
            rows = [("directory", folder) for folder in folders] + [("file", name) for name in names]
            self._entries = (names, tuple(sorted(rows, key=lambda row: (row[1], row[0]))))
        return self._entries[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """One file as the tree tells of it: `oid` is the git blob's id, for a file in LFS that of its pointer."""

    size: int
    oid: str
    sha256: str | None = None
    pointer_size: int = 0
    xet_hash: str | None = None

    @property
    def etag(self) -> str:
        """What ETag and X-Linked-Etag say."""
        return self.sha256 or self.oid


@dataclass(slots=True, kw_only=True)
class Seen:
    """One request and what became of it.

    Args:
        origin: which server.
        method: such as GET.
        path: with its query, as sent.
        headers: as sent.
        file: `ORG/NAME/FILE` where a file was served.
        status: of the answer, 0 for none.
        sent_bytes: of the body that were given to the network.
        at: seconds by the hub's clock.
    """

    origin: Origin
    method: str
    path: str
    headers: dict[str, str]
    file: str | None = None
    status: int = 0
    sent_bytes: int = 0
    at: float = 0.0

    def header(self, name: str) -> str | None:
        """A header, whatever the case of its name."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), None)

    @property
    def range(self) -> str | None:
        """The Range header."""
        return self.header("Range")


@dataclass(slots=True, kw_only=True)
class FakeHub:
    """State of the server.

    Args:
        repos: what it holds.
        renamed: old name -> new name.
        answers: sent first on the Hub's own address, whatever is asked.
        faults: what goes wrong; `fail` adds to them.
        ranges: Range is understood.
        truncate: file whose body breaks off in the middle.
        stall: path part that gets no answer.
        drip: path part that gets a byte at a time.
        accepted_token: any other token is refused.
        page_size: entries on one page of a listing, None for the Hub's own (1000, or 50 with expand).
        link_seconds: how long links into the storage are good.
        gzip: small text is compressed for clients that accept it, as the Hub does.
        resolve_cache: files of git are answered through a redirect on the same address, as the Hub does since 2025.
        clock: seconds since 1970.
        requests: path and headers of every request to the Hub's own address.
        seen: every request to both servers.
        sent_bytes: of all bodies.
        sent: bytes of bodies by file, `ORG/NAME/FILE`.
        leaked: requests that carried a token to the storage.
        open: connections now, by server.
        peak: most connections at once, by server.
        errors: faults of this fake itself; `serve` raises the first.
        url: of the Hub.
        storage_url: of its storage.
    """

    repos: dict[str, Repo] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    answers: list[tuple[int, Mapping[str, str], bytes]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    ranges: bool = True
    truncate: str | None = None
    stall: str | None = None
    drip: str | None = None
    accepted_token: str | None = None
    page_size: int | None = None
    link_seconds: float = 3600.0
    gzip: bool = False
    resolve_cache: bool = False
    clock: Callable[[], float] = time.time
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    sent_bytes: int = 0
    sent: Counter[str] = field(default_factory=Counter)
    leaked: list[Seen] = field(default_factory=list)
    open: Counter[str] = field(default_factory=Counter)
    peak: Counter[str] = field(default_factory=Counter)
    errors: list[BaseException] = field(default_factory=list)
    url: str = ""
    storage_url: str = ""
    stopping: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def environ(self, **more: str) -> dict[str, str]:
        """An environment that points at this server."""
        return {"HF_ENDPOINT": self.url, **more}

    def paths(self) -> list[str]:
        """Paths that were asked for, without queries."""
        return [urlsplit(path).path for path, _ in self.requests]

    def fail(
        self,
        kind: Kind,
        *,
        path: str = "",
        times: int | None = 1,
        skip: int = 0,
        on: Origin | None = None,
        method: str | None = None,
    ) -> Fault:
        """Let something go wrong from now on; the arguments are those of `Fault`."""
        fault = Fault(kind=kind, path=path, times=times, skip=skip, on=on, method=method)
        self.faults.append(fault)
        return fault

    def record(self, seen: Seen) -> None:
        """Note a request."""
        with self.lock:
            self.seen.append(seen)
            if seen.origin == "hub":
                self.requests.append((seen.path, seen.headers))
            elif seen.header("Authorization") or seen.header("Cookie"):
                self.leaked.append(seen)

    def count(self, seen: Seen, amount: int) -> None:
        """Note body bytes that were sent, or (below zero) that the peer never took."""
        if not amount:
            return
        with self.lock:
            seen.sent_bytes += amount
            self.sent_bytes += amount
            if seen.file is not None:
                self.sent[seen.file] += amount

    def connected(self, origin: Origin, change: int) -> None:
        """Note a connection that opens (1) or ends (-1)."""
        with self.lock:
            self.open[origin] += change
            self.peak[origin] = max(self.peak[origin], self.open[origin])

    def take(self, *, early: bool, origin: Origin, method: str, path: str) -> list[Kind]:
        """The faults that happen to a request."""
        with self.lock:
            return [
                fault.kind
                for fault in self.faults
                if fault.early == early and fault.take(origin=origin, method=method, path=path)
            ]

    def settle(self, seconds: float = 5.0) -> bool:
        """Wait until every connection has ended and is counted, as after a client that was killed."""
        until = time.monotonic() + seconds
        while any(self.open.values()) and time.monotonic() < until:
            time.sleep(0.005)
        return not any(self.open.values())

    def asked(self, *, method: str | None = None, origin: Origin | None = None, part: str = "") -> list[Seen]:
        """The requests so far that match."""
        with self.lock:
            return [
                seen
                for seen in self.seen
                if (method or seen.method) == seen.method
                and (origin or seen.origin) == seen.origin
                and (part in seen.path or part in (seen.file or ""))
            ]


def _folders(name: str) -> Iterable[str]:
    """The folders that a listing shows for a file; none for the empty, `.` and `..` parts of a hostile name."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return ()
    return ("/".join(parts[:depth]) for depth in range(1, len(parts)))

"""A bundle on disk -> its manifest, and every byte checked against it: nothing but what `create` writes is accepted.

The manifest says which header stands where, to the byte. So links, devices, names that lead out, members that nobody
listed and members in another order are not looked for: they are simply not the bytes that have to stand there.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from selfhost.bundle.archive import Placed, arrange
from selfhost.bundle.manifest import LARGEST_BYTES, LOCK, MANIFEST, WEIGHTS, Manifest, parse_manifest
from selfhost.errors import BundleError
from selfhost.pull import tar
from selfhost.pull.hashing import PIECE_BYTES
from selfhost.pull.lockfile import parse_lock
from selfhost.pull.stage import Abandoned, each
from selfhost.pull.types import Lock

Report = Callable[[int], None]
Sink = Callable[[memoryview], None]
_AGAIN = "bring the file over again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle whose manifest was read; its members are checked by whoever reads them.

    Args:
        path: the file.
        manifest: what is in it.
        digest: SHA-256 of the manifest, `sha256:` and 64 digits.
        placed: where the members stand.
        size_bytes: length of the file.
    """

    path: Path
    manifest: Manifest
    digest: str
    placed: tuple[Placed, ...]
    size_bytes: int

    def find(self, path: str) -> Placed | None:
        """The member of that name."""
        return next((one for one in self.placed if one.member.path == path), None)


def open_bundle(path: Path) -> Bundle:
    """Read the manifest of a bundle, and see that the file is as long as that says.

    Raises:
        BundleError: it cannot be read, is no bundle, or is cut off.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BundleError(f"Cannot read {path}: {error.strerror or error}.") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{path} is not a regular file.")
        return _open(path, descriptor, status.st_size)
    except OSError as error:
        raise BundleError(f"Cannot read {path}: {error.strerror or error}.") from None
    finally:
        os.close(descriptor)


def _open(path: Path, descriptor: int, size_bytes: int) -> Bundle:
    head = os.pread(descriptor, tar.BLOCK_BYTES, 0)
    name, size = head[:100].rstrip(b"\0"), head[124:135]
    if name != MANIFEST.encode() or not size.isdigit():
        what = "is compressed" if head.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")) else "is no bundle"
        raise BundleError(
            f"{path} {what}.", hint="name a file that `selfhost bundle create` wrote, as it was."
        )
    length = int(size, 8) if not set(size) - set(b"01234567") else LARGEST_BYTES + 1
    if length > LARGEST_BYTES:
        raise BundleError(f"{path}: {MANIFEST} is longer than any.", hint=_AGAIN)
    text = os.pread(descriptor, length, tar.BLOCK_BYTES)
    if len(text) < length:
        raise BundleError(f"{path} is cut off within {MANIFEST}.", hint=_AGAIN)
    manifest = parse_manifest(text, where=str(path))
    archive = arrange(manifest, text)
    if os.pread(descriptor, len(archive.head), 0) != archive.head:
        raise BundleError(f"{path}: the header of {MANIFEST} was changed.", hint=_AGAIN)
    if size_bytes != archive.size_bytes:
        what = "is cut off" if size_bytes < archive.size_bytes else "goes on after its end"
        raise BundleError(
            f"{path} {what}: it has {size_bytes:,} of {archive.size_bytes:,} bytes.", hint=_AGAIN
        )
    return Bundle(
        path=path,
        manifest=manifest,
        digest=f"sha256:{hashlib.sha256(text).hexdigest()}",
        placed=archive.members,
        size_bytes=size_bytes,
    )


def verify(bundle: Bundle, *, report: Report | None = None) -> None:
    """Check every byte of a bundle, reading each once.

    Args:
        bundle: what `open_bundle` gave.
        report: told how many bytes of content were checked, piece by piece.

    Raises:
        BundleError: names the first thing that is not as the manifest says.
    """
    with Reader(bundle) as reader:
        bundled_lock(reader)
        reader.end()
        ordered = sorted(bundle.placed, key=lambda one: -one.member.size_bytes)
        each(ordered, lambda one, stop: reader.check(one, stop=stop, report=report))


def bundled_lock(reader: Reader) -> Lock | None:
    """The lock file of the weights, which has to name the same files as the manifest; None where there are none.

    Raises:
        BundleError: they differ, or it is none.
    """
    bundle = reader.bundle
    placed = bundle.find(LOCK)
    if placed is None:
        return None
    if placed.member.size_bytes > LARGEST_BYTES:
        raise BundleError(f"{bundle.path}: {LOCK} is longer than any.", hint=_AGAIN)
    parts: list[bytes] = []
    reader.check(placed, sink=lambda data: parts.append(bytes(data)))
    found = parse_lock(b"".join(parts), where=f"{bundle.path}: {LOCK}")
    named = {WEIGHTS + file.path: (file.size_bytes, file.sha256) for file in found.files}
    listed = {
        one.member.path: (one.member.size_bytes, one.member.sha256)
        for one in bundle.placed
        if one.member.role == "weights"
    }
    if named != listed:
        other = min(name for name in {*named, *listed} if named.get(name) != listed.get(name))
        raise BundleError(f"{bundle.path}: {LOCK} and {MANIFEST} differ about {other}.", hint=_AGAIN)
    return found


class Reader:
    """An open bundle. Several threads may use it at once."""

    def __init__(self, bundle: Bundle) -> None:
        """Open the file.

        Raises:
            BundleError: it cannot be read.
        """
        self.bundle = bundle
        try:
            self._descriptor = os.open(bundle.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self._unreadable(error) from None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            os.close(self._descriptor)

    def check(
        self,
        placed: Placed,
        *,
        stop: Event | None = None,
        sink: Sink | None = None,
        report: Report | None = None,
    ) -> None:
        """Check one member, header, content and padding.

        Args:
            placed: the member.
            stop: set when the work should end.
            sink: takes the content, before its hash is known.
            report: told how many bytes were read, piece by piece.

        Raises:
            BundleError: it is not what the manifest says.
            Abandoned: `stop` was set.
        """
        if self._read(len(placed.header), placed.offset_bytes) != placed.header:
            raise self._wrong(placed)
        total, offset, left = hashlib.sha256(), placed.content_offset_bytes, placed.member.size_bytes
        view = memoryview(bytearray(min(PIECE_BYTES, max(left, 1))))
        while left:
            if stop is not None and stop.is_set():
                raise Abandoned
            try:
                got = os.preadv(self._descriptor, [view[: min(len(view), left)]], offset)
            except OSError as error:
                raise self._unreadable(error) from None
            if not got:
                raise BundleError(f"{self.bundle.path} is cut off within {placed.member.path}.", hint=_AGAIN)
            total.update(view[:got])
            if sink is not None:
                sink(view[:got])
            offset, left = offset + got, left - got
            if report is not None:
                report(got)
        padding = tar.padding_bytes(placed.member.size_bytes)
        if total.hexdigest() != placed.member.sha256 or any(self._read(padding, offset)):
            raise BundleError(
                f"{self.bundle.path}: {placed.member.path} holds other bytes than {MANIFEST} says.",
                hint=_AGAIN,
            )

    def end(self) -> None:
        """Check the two empty blocks at the end.

        Raises:
            BundleError: something stands there.
        """
        if self._read(len(tar.END), self.bundle.size_bytes - len(tar.END)) != tar.END:
            raise BundleError(f"{self.bundle.path} does not end where {MANIFEST} says.", hint=_AGAIN)

    def _read(self, size: int, offset: int) -> bytes:
        try:
            return os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: OSError) -> BundleError:
        return BundleError(f"Cannot read {self.bundle.path}: {error.strerror or error}.")

    def _wrong(self, placed: Placed) -> BundleError:
        """Say what stands where a member has to be."""
        block = self._read(tar.BLOCK_BYTES, placed.offset_bytes)
        what = "something else"
        with suppress(tarfile.TarError, ValueError):
            found = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            kind = "another header"
            if found.issym() or found.islnk():
                kind = "a link"
            elif found.isdev():
                kind = "a device"
            elif found.isdir():
                kind = "a directory"
            what = f"{kind} called {found.name!r:.80}"
        return BundleError(
            f"{self.bundle.path} holds {what} where {placed.member.path} has to be.",
            hint=f"do not unpack it; {_AGAIN}",
        )

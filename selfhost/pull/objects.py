"""Verified files -> S3 or any other store that fsspec reaches: the lock file last, everything read back."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Event
from typing import Any
from urllib.parse import urlsplit

from selfhost.errors import OfflineError, OutputError, SelfhostError, UsageError, VerifyError
from selfhost.pull.carry import copy_checked, public
from selfhost.pull.hashing import Count
from selfhost.pull.lockfile import lock_text, parse_lock
from selfhost.pull.stage import each
from selfhost.pull.transfer import Throttle
from selfhost.pull.types import LOCK_NAME, Lock, LockedFile, Snapshot

# A part is held in memory, about three times over while it is signed and sent; with four files at once 8 MiB keep a
# process below 200 MB. S3 takes at most 10,000 parts of at least 5 MiB (AmazonS3 userguide, qfacts).
PART_BYTES = 8 << 20
MOST_PARTS = 9_000
_MIB = 1 << 20

_INSTALL = "pip install 'selfhost[s3]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """What stands in the store now.

    Args:
        url: the folder, without secrets.
        sent: files that were written.
        kept: files that were there already with the same hash.
        sent_bytes: bytes of content that were written.
        proven: files whose bytes the store's own checksum confirms; of the others the length was compared.
    """

    url: str
    sent: tuple[str, ...]
    kept: tuple[str, ...]
    sent_bytes: int
    proven: tuple[str, ...]


def upload(
    snapshot: Snapshot,
    url: str,
    *,
    storage: Mapping[str, object] | None = None,
    parallel: int = 4,
    bandwidth: int | None = None,
    report: Count | None = None,
) -> Uploaded:
    """Copy verified files below a URL; what is there with the same hash stays as it is.

    Credentials and endpoint of S3 come from the usual places: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ~/.aws, the role of
    the machine.

    Args:
        snapshot: verified files; each is hashed once more on the way.
        url: `s3://bucket/prefix`, or of any other file system that fsspec knows.
        storage: further arguments of the file system's class.
        parallel: files at once.
        bandwidth: bytes a second of all together, None for no limit.
        report: told how many bytes of content are in the store, piece by piece.

    Raises:
        UsageError: the URL is of no known kind or names no folder.
        OutputError: no library, credentials, bucket or right; or the store refuses.
        OfflineError: the store cannot be reached.
        VerifyError: a file on disk is no longer what the lock says, or what is read back differs.
    """
    lock = public(snapshot.lock)
    snapshot = replace(snapshot, lock=lock)
    store = _open(url, storage or {})
    text = lock_text(lock).encode()
    try:
        before = store.lock()
        kept = _kept(store, lock, before, parallel)
        for file in kept:
            if report is not None:
                report(file.size_bytes)
        todo = [file for file in sorted(lock.files, key=lambda file: -file.size_bytes) if file not in kept]
        if before is not None and (todo or before != lock):
            store.remove(LOCK_NAME)  # from here on until the end the folder is not whole, and says so
        throttle = Throttle(bandwidth)

        def work(file: LockedFile, stop: Event) -> bool:
            return _send(store, snapshot, file, throttle, stop, report)

        proofs = each(todo, work, workers=parallel)
        if todo or before != lock:
            store.write(LOCK_NAME, text)
        _check(store, lock, text)
    except SelfhostError:
        raise
    except Exception as error:
        translated = _translate(error, store.shown)
        if translated is None:
            raise
        raise translated from None
    return Uploaded(
        url=store.shown,
        sent=tuple(sorted(file.path for file in todo)),
        kept=tuple(sorted(file.path for file in kept)),
        sent_bytes=sum(file.size_bytes for file in todo),
        proven=tuple(sorted(file.path for file, sure in zip(todo, proofs, strict=True) if sure)),
    )


def check_url(url: str) -> None:
    """Refuse an address that nothing could be uploaded to; nobody is asked.

    Raises:
        UsageError: it is of no known kind or names no folder.
        OutputError: the library for it is not installed.
    """
    _open(url, {})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Store:
    """A folder in some file system.

    Args:
        system: fsspec's file system.
        root: the folder's path in it.
        s3: it speaks S3, which keeps metadata and checksums beside the bytes.
        shown: the URL, for people.
    """

    system: Any
    root: str
    s3: bool
    shown: str

    def at(self, path: str) -> str:
        return f"{self.root}/{path}"

    def head(self, path: str) -> dict[str, Any] | None:
        """Length and, of S3, ETag and metadata, asked anew; None where there is no such file."""
        try:
            if not self.s3:
                self.system.invalidate_cache()
                return {"ContentLength": self.system.info(self.at(path))["size"]}
            bucket, key, _ = self.system.split_path(self.at(path))
            found: dict[str, Any] = self.system.call_s3("head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return None
        return found

    def lock(self) -> Lock | None:
        """The lock file that is there, None where there is none or another thing."""
        try:
            return parse_lock(self.system.cat_file(self.at(LOCK_NAME)), where=self.at(LOCK_NAME))
        except (FileNotFoundError, PermissionError, SelfhostError):
            return None  # where one may write but not look, the writing will tell

    def remove(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self.system.rm_file(self.at(path))

    def write(self, path: str, data: bytes) -> None:
        self.make_room(path)
        self.system.pipe_file(self.at(path), data)

    def make_room(self, path: str) -> None:
        """Make the folders of a file; an object store has none, and s3fs would make a bucket."""
        if not self.s3:
            self.system.makedirs(self.at(path).rpartition("/")[0], exist_ok=True)


def _open(url: str, storage: Mapping[str, object]) -> _Store:
    kind, mark, rest = url.partition("://")
    if not mark or not rest.strip("/"):
        raise UsageError(f"{_shown(url)!r} is no address of a folder.", hint="Write s3://BUCKET/PREFIX.")
    s3 = kind in ("s3", "s3a")
    arguments: dict[str, object] = {"skip_instance_cache": True}
    if s3:
        wait = {"connect_timeout": 10, "read_timeout": 60, "retries": {"mode": "standard", "max_attempts": 4}}
        arguments |= {"fixed_upload_size": True, "config_kwargs": wait}
    try:
        if s3:
            import s3fs  # noqa: F401 -- missing, it is a sentence of ours
        from fsspec.core import url_to_fs

        system, root = url_to_fs(url, **(arguments | dict(storage)))
    except ImportError as error:
        if s3:
            raise OutputError("Writing to s3:// needs s3fs.", hint=_INSTALL) from None
        raise OutputError(
            f"Writing to {kind}:// needs a library that is not installed.", hint=str(error)[:100]
        ) from None
    except ValueError:
        raise UsageError(
            f"{kind[:40]!r} is no kind of storage that fsspec knows.", hint="Write s3://BUCKET/PREFIX."
        ) from None
    return _Store(system=system, root=str(root).rstrip("/"), s3=s3, shown=_shown(url))


def _kept(store: _Store, lock: Lock, before: Lock | None, parallel: int) -> list[LockedFile]:
    """Files that stand there already: same length, and a hash that the store or its lock file recorded."""
    recorded = {file.path: file.sha256 for file in before.files} if before is not None else {}

    def work(file: LockedFile, stop: Event) -> bool:
        try:
            found = store.head(file.path)
        except PermissionError:  # S3 says so of what is not there to those who may not list
            return False
        if found is None or found["ContentLength"] != file.size_bytes:
            return False
        noted = found.get("Metadata", {}).get("sha256") or recorded.get(file.path)
        return file.size_bytes == 0 or noted == file.sha256

    there = each(lock.files, work, workers=parallel)
    return [file for file, same in zip(lock.files, there, strict=True) if same]


def _send(
    store: _Store, snapshot: Snapshot, file: LockedFile, throttle: Throttle, stop: Event, report: Count | None
) -> bool:
    """Write one file; true where the store's own checksum proves that it has the same bytes."""
    part_bytes = max(PART_BYTES, -(-file.size_bytes // MOST_PARTS // _MIB) * _MIB)
    sums = _Sums(part_bytes)
    store.make_room(file.path)
    more = {"Metadata": {"sha256": file.sha256}, "block_size": part_bytes} if store.s3 else {}
    out = store.system.open(store.at(file.path), "wb", **more)

    def put(data: bytes | memoryview) -> None:
        throttle.take(len(data))
        out.write(data)
        if store.s3:
            sums.update(data)

    try:
        copy_checked(snapshot, file, put, stop, report=report)
    except BaseException:
        _abandon(store, file, out)
        raise
    out.close()
    if not store.s3:
        return False
    found = store.head(file.path)
    if found is None or found["ContentLength"] != file.size_bytes:
        raise _other_bytes(store, file.path)
    etag = str(found.get("ETag", "")).strip('"')
    hidden = found.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in found
    if "-" not in etag and len(etag) == 32 and not hidden and sums.parts == 1 and etag != sums.etag:
        store.remove(file.path)
        raise _other_bytes(store, file.path)
    return etag == sums.etag


class _Sums:
    """The ETag that S3 gives to plain uploads: MD5, or the MD5 of the parts' MD5s and how many they are."""

    def __init__(self, part_bytes: int) -> None:
        self._part_bytes = part_bytes
        self._room = part_bytes
        self._done = b""
        self._part = hashlib.md5(usedforsecurity=False)
        self.parts = 1

    def update(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            if not self._room:
                self._done += self._part.digest()
                self._part = hashlib.md5(usedforsecurity=False)
                self._room = self._part_bytes
                self.parts += 1
            take = view[: self._room]
            self._part.update(take)
            self._room -= len(take)
            view = view[len(take) :]

    @property
    def etag(self) -> str:
        if self.parts == 1 and self._room:  # less than a part is sent in one request
            return self._part.hexdigest()
        whole = hashlib.md5(self._done + self._part.digest(), usedforsecurity=False)
        return f"{whole.hexdigest()}-{self.parts}"


def _abandon(store: _Store, file: LockedFile, out: Any) -> None:
    """Leave no half a file: closing it would publish what was written so far."""
    with suppress(Exception):
        if store.s3:
            out.discard()
            out.closed = True
        else:
            out.close()
            store.remove(file.path)


def _check(store: _Store, lock: Lock, text: bytes) -> None:
    """Read back what the store says it has."""

    def work(file: LockedFile, stop: Event) -> None:
        found = store.head(file.path)
        if found is None or found["ContentLength"] != file.size_bytes:
            store.remove(LOCK_NAME)
            raise _other_bytes(store, file.path)

    each(lock.files, work)
    if store.system.cat_file(store.at(LOCK_NAME)) != text:
        raise _other_bytes(store, LOCK_NAME)


def _other_bytes(store: _Store, path: str) -> VerifyError:
    return VerifyError(
        f"{store.shown}/{path} does not hold what was sent.",
        hint="run the same command again; what is right is kept.",
    )


def _shown(url: str) -> str:
    """A URL without name and password."""
    kind, mark, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{kind}{mark}{host.rpartition('@')[2]}{slash}{path}".rstrip("/")


_NO_CREDENTIALS = (
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError",
    "UnauthorizedSSOTokenError", "SSOTokenLoadError", "ProfileNotFound", "NoAuthTokenError",
)  # fmt: skip
_NO_NETWORK = (
    "EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError", "HTTPClientError",
    "ConnectionError", "ProxyConnectionError", "SSLError", "FSTimeoutError", "TimeoutError", "ClientConnectorError",
)  # fmt: skip


def _translate(error: Exception, shown: str) -> SelfhostError | None:
    """What a failure of the store means to a user; None for a bug."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    told = _one_line(error)
    if kinds.intersection(_NO_CREDENTIALS):
        return OutputError(
            f"There are no credentials for {shown}.",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
        )
    if kinds.intersection(_NO_NETWORK):
        where = _one_line(os.environ.get("AWS_ENDPOINT_URL") or "the store")
        return OfflineError(
            f"{_shown(where)} cannot be reached for {shown}.", hint="check the network and AWS_ENDPOINT_URL."
        )
    if isinstance(error, PermissionError):
        return OutputError(
            f"{shown} refuses: {told}.", hint="check the key, and that it may read, write and delete there."
        )
    if isinstance(error, FileNotFoundError):
        bucket = urlsplit(shown).netloc or shown
        return OutputError(
            f"{bucket} does not exist: {told}.", hint="make the bucket first, or name another."
        )
    if isinstance(error, OSError) or "BotoCoreError" in kinds:
        return OutputError(f"{shown} cannot be written: {told}.", hint="run the same command again.")
    return None


def _one_line(error: object) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text[:200] or type(error).__name__

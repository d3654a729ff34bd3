"""Reference -> Listing: what a repository holds at one commit, with the hash of every file, as the Hub states it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from selfhost.errors import MalformedAnswerError, OfflineError, RateLimitedError
from selfhost.hub.directory import CONFIG, INDEX
from selfhost.hub.references import Reference
from selfhost.hub.remote import Hub, each, file_path
from selfhost.hub.repository import ask_about
from selfhost.hub.safejson import parse_object
from selfhost.pull.choose import MODULES, PICKLE_INDEX
from selfhost.pull.names import check_name
from selfhost.pull.types import Listing, RemoteFile

T = TypeVar("T")
Notice = Callable[[str], None]

ANSWER_SECONDS = 60.0
TRIES = 4
LONGEST_ASKED_WAIT_SECONDS = 300.0
MAXIMUM_ASKED_FILES = 2000  # a mirror that states no hashes is asked for each file by itself, up to so many

_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT_OID = re.compile(r"[0-9a-f]{40}")


def list_repository(
    reference: Reference, hub: Hub, *, notice: Notice, sleep: Callable[[float], object] = time.sleep
) -> Listing:
    """Ask the Hub what a repository holds.

    Args:
        reference: a Hub reference.
        hub: whom to ask.
        notice: told what is tried again.
        sleep: waits between tries.

    Raises:
        SelfhostError: the Hub's refusals; names that are hostile.
    """
    facts = patiently(lambda: ask_about(reference, fresh(hub)), notice=notice, sleep=sleep)
    for name in facts.files:
        check_name(name, repo=facts.id)
    files = {name: _stated(name, entry) for name, entry in facts.entries.items()}
    unknown = tuple(name for name, file in files.items() if file is None)
    if len(unknown) > MAXIMUM_ASKED_FILES:
        raise MalformedAnswerError(
            f"{hub.endpoint} states no hashes for {len(unknown):,} files of {facts.id}.",
            hint="ask another HF_ENDPOINT.",
        )

    def ask(name: str) -> RemoteFile:
        return patiently(lambda: _ask_file(facts.id, facts.commit, name, hub), notice=notice, sleep=sleep)

    asked = each(unknown, ask) if unknown else ()
    files |= dict(zip(unknown, asked, strict=True))
    return Listing(
        repo=facts.id,
        commit=facts.commit,
        revision=reference.revision or "main",
        endpoint=hub.endpoint,
        files=tuple(sorted((file for file in files.values() if file), key=lambda file: file.path)),
        declared=facts.declared,
    )


def read_indexes(
    listing: Listing, hub: Hub, *, notice: Notice, sleep: Callable[[float], object] = time.sleep
) -> dict[str, Mapping[str, object]]:
    """The small files that say which weights belong together: indexes, modules.json, config.json."""
    names = {file.path for file in listing.files}
    found: dict[str, Mapping[str, object]] = {}
    for name in (INDEX, PICKLE_INDEX, MODULES, CONFIG):
        if name not in names:
            continue
        what = f"{name} of {listing.repo}"
        path = file_path(listing.repo, listing.commit, name)

        def read(path: str = path, what: str = what) -> bytes:
            return fresh(hub).json(path, what=what)

        data = patiently(read, notice=notice, sleep=sleep)
        if name == MODULES:  # a list at the top
            data = b'{"modules": ' + (data.strip() or b"null") + b"}"
        found[name] = parse_object(data, where=what)
    return found


def fresh(hub: Hub) -> Hub:
    """The same Hub with its time for one answer begun anew."""
    return replace(hub, deadline=time.monotonic() + ANSWER_SECONDS)


def patiently(work: Callable[[], T], *, notice: Notice, sleep: Callable[[float], object]) -> T:
    """Do something that asks the Hub; where it is busy or out of reach for a moment, do it again.

    Raises:
        SelfhostError: the last try's, or at once what no further try mends.
    """
    for number in range(1, TRIES + 1):
        try:
            return work()
        except RateLimitedError as error:
            wait = error.after_seconds if error.after_seconds is not None else 2.0**number
            if number == TRIES or wait > LONGEST_ASKED_WAIT_SECONDS:
                raise
            notice(f"{error.message.rstrip('.')}; again in {wait:.0f} s")
        except OfflineError as error:
            if number == TRIES or not error.passing:
                raise
            wait = 2.0 ** (number - 1)
            notice(f"{error.message.rstrip('.')}; again in {wait:.0f} s")
        sleep(wait)
    raise AssertionError("the last try returns or raises")


def _stated(name: str, entry: Mapping[str, object]) -> RemoteFile | None:
    """A file as the model page states it with `blobs=true`; None where length or hash is missing."""
    lfs = entry.get("lfs")
    size, oid = entry.get("size"), entry.get("blobId")
    sha256 = lfs.get("sha256") if isinstance(lfs, dict) else None
    if isinstance(lfs, dict):
        size = lfs.get("size", size)
    if type(size) is not int or size < 0 or not isinstance(oid, str) or not _GIT_OID.fullmatch(oid):
        return None
    if sha256 is not None and not (isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
        return None
    return RemoteFile(path=name, size_bytes=size, git_oid=oid, sha256=sha256)


def _ask_file(repo: str, commit: str, name: str, hub: Hub) -> RemoteFile:
    """A file as the headers of its own address state it, for mirrors whose model page does not."""
    what = f"{name} of {repo}"
    headers = fresh(hub).head(file_path(repo, commit, name), what=what)
    etag = (headers.get("X-Linked-Etag") or headers.get("ETag") or "").removeprefix("W/").strip('"').lower()
    size = headers.get("X-Linked-Size") or headers.get("Content-Length") or ""
    if not size.isdecimal() or not (_SHA256.fullmatch(etag) or _GIT_OID.fullmatch(etag)):
        raise MalformedAnswerError(
            f"{what}: {hub.endpoint} states neither its length nor its hash.", hint="ask another HF_ENDPOINT."
        )
    large = len(etag) == 64
    return RemoteFile(
        path=name, size_bytes=int(size), git_oid="" if large else etag, sha256=etag if large else None
    )


def names_custom_code(config: Mapping[str, object] | None) -> bool:
    """Whether config.json names Python code of the repository to load the model with."""
    return bool(config) and "auto_map" in json.dumps(config)

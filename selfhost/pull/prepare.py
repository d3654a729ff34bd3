"""Reference + wishes -> what a pull would do: files, reasons, bytes, room, licence, gate; nothing is written."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from selfhost.errors import GatedModelError, ModelReferenceError, SelfhostError
from selfhost.hub.licence_text import TEXT_BYTES, with_clauses
from selfhost.hub.lineage import binding_base
from selfhost.hub.references import FORMS, Reference, check_repository, parse_reference
from selfhost.hub.remote import Hub, connect, file_path
from selfhost.hub.repository import ask_about
from selfhost.licence import Declared, Use, Verdict, judge
from selfhost.pull.choose import Wish, check_globs, choose
from selfhost.pull.listing import (
    ANSWER_SECONDS,
    Notice,
    fresh,
    list_repository,
    names_custom_code,
    read_indexes,
)
from selfhost.pull.places import Place, place_for
from selfhost.pull.run import free_bytes, missing_bytes
from selfhost.pull.stream import RetryLaterError, http_pieces
from selfhost.pull.types import Choice, Listing, RemoteFile

MEASURE_SECONDS = 1.5
MEASURE_BYTES = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything that is decided before the first byte.

    Args:
        listing: the repository at its commit.
        choices: every file, kept or not, and why.
        verdict: whether the licence lets the model be used as intended.
        place: where the files go.
        partial: `--include` asked for a part of the model.
        custom_code: config.json names code of the repository.
        gguf: the GGUF file that was named.
    """

    listing: Listing
    choices: tuple[Choice, ...]
    verdict: Verdict
    place: Place
    partial: bool
    custom_code: bool
    gguf: str | None = None

    @property
    def reference(self) -> str:
        """What was asked for at its commit, as a command line names it."""
        named = "" if self.gguf is None else f":{self.gguf}"
        return f"{self.listing.repo}@{self.listing.commit}{named}"

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """What is pulled."""
        return tuple(choice.file for choice in self.choices if choice.keep)

    @property
    def total_bytes(self) -> int:
        """Bytes of all files that are pulled."""
        return sum(file.size_bytes for file in self.files)

    @property
    def missing_bytes(self) -> int:
        """Bytes that are still to come."""
        return missing_bytes(self.place, self.files)

    @property
    def free_bytes(self) -> int | None:
        """Room at the destination."""
        return free_bytes(self.place.root)


def hub_reference(text: str) -> Reference:
    """The repository that a pull is asked for; a bundled model's name means its repository.

    Raises:
        ModelReferenceError: it is no reference, or names something on this machine.
    """
    from selfhost.catalog import models

    found = parse_reference(text)
    if found.kind in ("directory", "gguf"):
        raise ModelReferenceError(
            f"{text} is on this machine already.",
            hint=f"`selfhost verify {text}` checks it; a pull takes ORG/NAME.",
        )
    if found.kind == "catalogue" or "/" not in found.name:
        bundled = models.find(found.name)
        if bundled is not None:
            found = replace(found, kind="hub", name=bundled.id)
    if found.kind != "hub":
        raise ModelReferenceError(f"{text} names no repository.", hint=FORMS)
    return found


def open_hub(environ: dict[str, str]) -> Hub:
    """The Hub that the environment names, with the certificates that it names.

    Raises:
        SelfhostError: an address or a token that cannot be.
    """
    return connect(environ, deadline=time.monotonic() + ANSWER_SECONDS)


def prepare(
    reference: Reference,
    hub: Hub,
    wish: Wish,
    *,
    directory: Path | None,
    cache: Path,
    use: Use | None,
    accepted: Collection[str],
    notice: Notice,
) -> Prepared:
    """Decide what a pull would do.

    Args:
        reference: a Hub reference.
        hub: whom to ask.
        wish: what the user says about the choice.
        directory: where to; None for the Hub's cache.
        cache: the Hub's cache.
        use: what the model is meant for.
        accepted: licences whose terms the user accepts.
        notice: told what is tried again.

    Raises:
        SelfhostError: what stands in the way, the licence aside.
    """
    wish = replace(wish, gguf=reference.file) if reference.file is not None else wish
    check_globs(wish)
    listing = list_repository(reference, hub, notice=notice)
    try:
        indexes = read_indexes(listing, hub, notice=notice)
    except GatedModelError:
        indexes = {}  # the list is public, the files are not: what is gated can still be planned and judged
    base_repo, base = _base(listing.declared, hub, use) or (None, None)
    judged = partial(judge, use=use, accepted=accepted, repo=listing.repo, base=base, base_repo=base_repo)
    verdict = judged(listing.declared)
    if verdict.permission == "unknown":
        verdict = judged(with_clauses(listing.declared, lambda name: _text(name, listing, hub)))
    return Prepared(
        listing=listing,
        choices=choose(listing, wish, indexes=indexes),
        verdict=verdict,
        place=place_for(listing, directory=directory, cache=cache),
        partial=bool(wish.include),
        custom_code=names_custom_code(indexes.get("config.json")),
        gguf=wish.gguf,
    )


def measured_speed(prepared: Prepared, hub: Hub) -> tuple[float | None, SelfhostError | None]:
    """Bytes a second that the Hub gives now, from the start of the largest file, and what refused it.

    Returns:
        None where nothing came within `MEASURE_SECONDS`, and the error that said why.
    """
    largest = max(prepared.files, key=lambda file: file.size_bytes)
    pieces = http_pieces(hub, prepared.listing, largest, 0)
    began = first = time.monotonic()
    got = 0
    try:
        for piece in pieces:
            if not got:
                first = time.monotonic()  # the way to the storage is not part of its speed
            got += len(piece)
            if got >= MEASURE_BYTES or time.monotonic() - began >= MEASURE_SECONDS:
                break
    except RetryLaterError:
        return None, None  # the pull itself will try again
    except SelfhostError as error:
        return None, error
    finally:
        pieces.close()
    seconds = time.monotonic() - first
    return (got / seconds if got and seconds > 0 else None), None


def _text(name: str, listing: Listing, hub: Hub) -> bytes:
    """The start of a file of the repository, empty where there is none."""
    if all(file.path != name for file in listing.files):
        return b""
    path = file_path(listing.repo, listing.commit, name)
    return fresh(hub).start(path, TEXT_BYTES, what=f"{name} of {listing.repo}").data


def _base(declared: Declared, hub: Hub, use: Use | None) -> tuple[str, Declared] | None:
    """The model that this one was made from whose licence binds most."""

    def ask(name: str) -> Declared | None:
        try:
            check_repository(name)
            return ask_about(Reference(text=name, kind="hub", name=name), fresh(hub)).declared
        except SelfhostError:
            return None

    return binding_base(declared, ask=ask, use=use)

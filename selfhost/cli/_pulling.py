"""What `selfhost pull` does between its options and its output."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, TextIO

from selfhost.errors import OfflineError, SelfhostError, UnsupportedError, VerifyError
from selfhost.pull.choose import Wish, is_pickle

if TYPE_CHECKING:
    from selfhost.hub.references import Reference
    from selfhost.hub.remote import Hub
    from selfhost.licence import Use
    from selfhost.pull.prepare import Prepared
    from selfhost.pull.twins import Twin
    from selfhost.pull.types import Lock, LockedFile, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line asks for."""

    model: str
    directory: Path | None
    wish: Wish
    use: Use | None
    accepted: tuple[str, ...]
    quant: str | None
    limit_rate: int | None
    jobs: int | None
    as_json: bool
    environ: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What came of a pull.

    Args:
        snapshot: the files, verified.
        prepared: what was decided; None where the Hub was not asked.
        network_bytes: what came over the network.
        seconds: how long it took.
        notes: what to know.
    """

    snapshot: Snapshot
    prepared: Prepared | None
    network_bytes: int
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a dry run found out.

    Args:
        prepared: what would be pulled.
        speed: bytes a second that the Hub gives, None where nothing came.
        problem: what would stop the pull, None where nothing would.
        twins: quantized versions, where they were asked for.
    """

    prepared: Prepared
    speed: float | None
    problem: SelfhostError | None
    twins: tuple[Twin, ...] = ()

    @property
    def undecided(self) -> bool:
        """A quantized version was asked for, and which of several has to be chosen."""
        return bool(self.twins) and self.prepared.listing.repo not in {twin.repo for twin in self.twins}


def plan(asked: Asked) -> Planned:
    """Find out what a pull would do; writes nothing."""
    from selfhost.licence import require
    from selfhost.pull.prepare import measured_speed
    from selfhost.pull.run import check_directory, check_space

    reference, hub, twins = _reference(asked, offer=True)
    prepared = _prepare(asked, reference, hub)
    speed, problem = measured_speed(prepared, hub)
    try:
        require(prepared.verdict)
        check_space(prepared.place, prepared.files)
        check_directory(prepared.place, prepared.files)
    except SelfhostError as error:
        problem = problem or error
    return Planned(prepared=prepared, speed=speed, problem=problem, twins=twins)


def pull(asked: Asked) -> Pulled:
    """Pull a model, or find that all of it is here."""
    from selfhost.hub.load import cache_directory, is_offline
    from selfhost.pull.local import find_pulled
    from selfhost.pull.prepare import hub_reference

    began = time.monotonic()
    try:
        if is_offline(asked.environ):
            raise OfflineError("HF_HUB_OFFLINE is set.", hint="unset it to pull.")
        return _pull_online(asked, began)
    except OfflineError as error:
        # A pod that starts again without a network finds what an earlier one has pulled.
        reference = hub_reference(asked.model)
        here = find_pulled(reference, directory=asked.directory, cache=cache_directory(asked.environ))
        if here is None or asked.quant is not None:
            raise
        _judge_again(here, asked)
        return Pulled(
            snapshot=_assured(here, asked),
            prepared=None,
            network_bytes=0,
            seconds=time.monotonic() - began,
            notes=(f"{error.message.rstrip('.')}; what was pulled before is whole.",),
        )


def _pull_online(asked: Asked, began: float) -> Pulled:
    from selfhost.licence import require
    from selfhost.pull.claim import claimed
    from selfhost.pull.run import check_directory, check_space

    reference, hub, _ = _reference(asked, offer=False)
    prepared = _prepare(asked, reference, hub)
    require(prepared.verdict)
    here = _here_already(asked, prepared)
    if here is not None:
        seconds = time.monotonic() - began
        return Pulled(
            snapshot=here, prepared=prepared, network_bytes=0, seconds=seconds, notes=notes(prepared)
        )
    check_directory(prepared.place, prepared.files)
    check_space(prepared.place, prepared.files)
    with claimed(prepared.place, f"{prepared.listing.repo}@{prepared.listing.commit}") as alone:
        snapshot, network_bytes = _bring(asked, prepared, hub, alone)
    return Pulled(
        snapshot=snapshot,
        prepared=prepared,
        network_bytes=network_bytes,
        seconds=time.monotonic() - began,
        notes=notes(prepared),
    )


def _here_already(asked: Asked, prepared: Prepared) -> Snapshot | None:
    """The model where all of it is there and right: then nothing is written, and the place may be read-only."""
    from selfhost.pull.local import is_whole, snapshot_at
    from selfhost.pull.places import HubCache

    try:
        here = snapshot_at(prepared.place.root)
        same = (here.lock.repo, here.lock.revision) == (prepared.listing.repo, prepared.listing.commit)
        if not same or here.lock.licence != prepared.verdict:
            return None
        if not is_whole(here, prepared.files, partial=prepared.partial):
            return None
        _assured(here, asked)
    except VerifyError:
        return None
    if isinstance(prepared.place, HubCache):
        with suppress(OSError):  # the branch or tag may have moved here; a read-only cache keeps what it says
            prepared.place.finish()
    return here


def _judge_again(here: Snapshot, asked: Asked) -> None:
    """Hold what was pulled before against the use that is named now.

    Raises:
        LicenceError: the licence does not permit it, or its terms are not accepted.
    """
    from selfhost.licence import judge, require
    from selfhost.pull.local import declared_at

    if asked.use is not None:
        require(judge(declared_at(here), use=asked.use, accepted=asked.accepted, repo=here.lock.repo))


def _bring(asked: Asked, prepared: Prepared, hub: Hub, alone: Callable[[], bool]) -> tuple[Snapshot, int]:
    """The files in their place with their lock, and how many bytes of them came over the network."""
    from selfhost.pull.progress import Progress
    from selfhost.pull.run import JOBS, Job, begin, run, settle
    from selfhost.pull.transfer import Line, Throttle

    listing, place, files = prepared.listing, prepared.place, prepared.files
    begin(place, files, listing.repo, listing.commit)
    stop = Event()
    with Progress(prepared.total_bytes, _progress_out(asked)) as progress:
        line = Line(
            hub=hub,
            listing=listing,
            throttle=Throttle(asked.limit_rate, sleep=stop.wait),
            stop=stop,
            got=progress.got,
            notice=progress.notice,
        )
        try:
            locked = run(Job(files=files, place=place, jobs=asked.jobs or JOBS), line, progress)
        except KeyboardInterrupt:
            progress.notice("What came so far stays; the same command goes on from there.")
            raise
    _scan_pickles(place.root, locked)
    return settle(place, _lock(prepared, locked), alone=alone), progress.network_bytes


def notes(prepared: Prepared) -> tuple[str, ...]:
    """What to know about a choice."""
    found: list[str] = []
    code = [choice for choice in prepared.choices if not choice.keep and choice.because.startswith("code;")]
    if prepared.custom_code and code:
        found.append(
            "config.json names Python code of the repository, which is left out: engines that know the architecture do "
            "without; --trust-remote-code pulls it."
        )
    if prepared.partial:
        found.append("--include: a part of the model; whether an engine can load it is not checked.")
    if prepared.listing.revision != prepared.listing.commit:
        found.append(f"To pull the same again: {prepared.reference}")
    return tuple(found)


def _reference(asked: Asked, *, offer: bool) -> tuple[Reference, Hub, tuple[Twin, ...]]:
    """What is pulled, from whom, and the quantized versions there are.

    The publisher's own quantized version takes the model's place where there is just one.

    Raises:
        UnsupportedError: there is no such version; or a choice has to be made, and it is not just to be offered.
    """
    from selfhost.pull.prepare import hub_reference, open_hub

    reference, hub = hub_reference(asked.model), open_hub(asked.environ)
    if asked.quant is None:
        return reference, hub, ()
    from selfhost.cli._pull_onward import find_versions

    twins = find_versions(reference, hub, asked.quant)
    own = [twin for twin in twins if twin.same_owner]
    if len(own) != 1 or reference.revision is not None:
        if offer:
            return reference, hub, twins
        raise UnsupportedError(
            f"{len(twins)} repositories hold {reference.name} in {asked.quant}: "
            f"{', '.join(twin.repo for twin in twins[:5])}{' …' if len(twins) > 5 else ''}.",
            hint=f"pull the one you trust: selfhost pull {twins[0].repo}",
        )
    return replace(reference, text=own[0].repo, name=own[0].repo), hub, twins


def _prepare(asked: Asked, reference: Reference, hub: Hub) -> Prepared:
    from selfhost.hub.load import cache_directory
    from selfhost.pull.prepare import prepare

    return prepare(
        reference,
        hub,
        asked.wish,
        directory=asked.directory,
        cache=cache_directory(asked.environ),
        use=asked.use,
        accepted=asked.accepted,
        notice=_notice(_progress_out(asked)),
    )


def _lock(prepared: Prepared, locked: tuple[LockedFile, ...]) -> Lock:
    from datetime import UTC, datetime

    from selfhost import __version__
    from selfhost.pull.types import LOCK_SCHEMA, Lock

    return Lock(
        schema=LOCK_SCHEMA,
        repo=prepared.listing.repo,
        revision=prepared.listing.commit,
        endpoint=_without_secrets(prepared.listing.endpoint),
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        selfhost_version=__version__,
        files=locked,
        licence=prepared.verdict,
        partial=prepared.partial,
    )


def _without_secrets(address: str) -> str:
    """An address without the user and password that a mirror's may carry."""
    scheme, separator, rest = address.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if "@" in rest.partition("/")[0] else address


def _scan_pickles(root: Path, locked: tuple[LockedFile, ...]) -> None:
    """Look into pickles without loading them.

    Raises:
        VerifyError: one would do more than rebuild tensors.
    """
    pickles = [file for file in locked if is_pickle(file.path)]
    if not pickles:
        return
    from selfhost.pull.pickles import scan

    for file in pickles:
        findings = scan(root / file.path)
        if not findings.clean:
            raise VerifyError(
                f"{file.path} would do more than rebuild tensors when loaded: {findings.sentence}.",
                hint="do not load it; name a repository with safetensors. The files are left for inspection.",
            )


def _assured(snapshot: Snapshot, asked: Asked) -> Snapshot:
    from selfhost.pull.local import assure
    from selfhost.pull.progress import Progress

    with Progress(snapshot.lock.total_bytes, _progress_out(asked), verb="checked") as progress:
        return assure(snapshot, count=progress.had)


def _progress_out(asked: Asked) -> TextIO | None:
    """Where progress goes: stderr, which holds nothing but an error's JSON where JSON is asked for and nobody looks."""
    if sys.stderr is None or (asked.as_json and not sys.stderr.isatty()):
        return None
    return sys.stderr


def _notice(out: TextIO | None) -> Callable[[str], None]:
    def tell(text: str) -> None:
        if out is not None:
            with suppress(OSError):
                print(text, file=out, flush=True)

    return tell

"""How a pull is told: what would be pulled and why, what was pulled, for people and as JSON."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from selfhost.cli._output import emit_json, facts, headline, next_step, say, table
from selfhost.cli._pulling import Asked, Planned, Pulled, notes, plan
from selfhost.units import size_text

if TYPE_CHECKING:
    from selfhost.licence import Verdict
    from selfhost.pull.prepare import Prepared
    from selfhost.pull.twins import Twin
    from selfhost.pull.types import Choice, Lock

_DIGITS = re.compile(r"\d{3,}")
_SHOWN = 14  # rows of files that are left out


def show_plan(asked: Asked, more: Mapping[str, object]) -> int:
    """Print what a pull would do.

    Args:
        asked: the command line.
        more: its other options, for the command that pulls: flag -> value, None where it was not given.

    Returns:
        The exit code: 0, or that of the problem that would stop it.

    Raises:
        SelfhostError: the problem, after everything was printed.
    """
    planned = plan(asked)
    if asked.as_json:
        emit_json("pull", _plan_facts(planned, asked))
    elif planned.undecided:
        _show_offer(planned)
        return 0
    else:
        _show_choice(planned.prepared)
        _show_facts(planned, asked)
        if planned.problem is None:
            next_step(f"selfhost pull {_words(asked, planned.prepared, more)}", "pulls them")
    if planned.problem is not None:
        raise planned.problem
    return 0


def show_pulled(asked: Asked, pulled: Pulled, destination: str | None, push: str | None) -> None:
    """Print what was pulled and where it is.

    Args:
        asked: the command line.
        pulled: what came of it.
        destination: where it was brought on to.
        push: the command that brings an OCI layout to a registry.
    """
    lock, root = pulled.snapshot.lock, pulled.snapshot.root
    if asked.as_json:
        emit_json("pull", _pulled_facts(pulled, destination))
        return
    from selfhost.licence import sentence
    from selfhost.pull.progress import time_text
    from selfhost.pull.types import LOCK_NAME

    headline(
        f"{lock.repo} at {lock.revision[:12]}: {len(lock.files)} files, {size_text(lock.total_bytes)}, all verified.",
        good=True,
    )
    click.echo()
    rows = {"where": str(root), "lock": str(root / LOCK_NAME)}
    if pulled.network_bytes:
        speed = size_text(round(pulled.network_bytes / max(pulled.seconds, 1e-3)))
        rows["took"] = (
            f"{time_text(pulled.seconds)}: {size_text(pulled.network_bytes)} over the network, {speed}/s in all"
        )
    else:
        rows["took"] = f"{time_text(pulled.seconds)}; everything was here already"
    if destination is not None:
        rows["also"] = destination
    rows["licence"] = sentence(lock.licence)
    facts(rows)
    for note in pulled.notes:
        say(f"Note: {note}")
    if push is not None:
        next_step(push, "brings it to a registry")
    else:
        reference = shlex.quote(_planned_reference(asked, pulled))
        next_step(f"selfhost plan {reference}", "which GPUs carry it")


def _show_choice(prepared: Prepared) -> None:
    kept = [choice for choice in prepared.choices if choice.keep]
    left = [choice for choice in prepared.choices if not choice.keep]
    listing = prepared.listing
    headline(
        f"{listing.repo} at {listing.commit[:12]}: {len(kept)} of {len(prepared.choices)} files, "
        f"{size_text(prepared.total_bytes)}."
    )
    click.echo()
    table((("pulled", "left"), ("size", "right"), ("because", "left")), _grouped(kept))
    if left:
        click.echo()
        rows = _grouped(left)
        more = len(rows) - _SHOWN
        table((("left out", "left"), ("size", "right"), ("because", "left")), rows[:_SHOWN])
        if more > 0:
            click.echo(f"  and {more} more (--json lists every file)")
    click.echo()


def _grouped(choices: Sequence[Choice]) -> list[tuple[str, str, str]]:
    """One row for the files that differ in a number only and have one reason, largest first."""
    groups: dict[tuple[str, str], list[Choice]] = {}
    for choice in choices:
        groups.setdefault((_DIGITS.sub("*", choice.file.path), choice.because), []).append(choice)
    rows = []
    for (pattern, because), members in groups.items():
        size = sum(choice.file.size_bytes for choice in members)
        name = members[0].file.path if len(members) == 1 else f"{pattern} ({len(members)} files)"
        rows.append((size, name, because))
    rows.sort(key=lambda row: (-row[0], row[1]))
    return [(_plain(name), size_text(size), because) for size, name, because in rows]


def _show_facts(planned: Planned, asked: Asked) -> None:
    from selfhost.licence import openness_sentence, sentence
    from selfhost.pull.progress import time_text

    prepared = planned.prepared
    missing, free = prepared.missing_bytes, prepared.free_bytes
    rows = {
        "where": str(prepared.place.root),
        "to come": size_text(missing) + (f"; {size_text(free)} are free" if free is not None else ""),
    }
    if planned.speed and missing:
        rows["time"] = (
            f"{time_text(missing / planned.speed)} at {size_text(round(planned.speed))}/s, measured just now"
        )
    elif missing:
        rows["time"] = "unknown: nothing came in time to measure"
    rows["licence"] = sentence(prepared.verdict)
    rows["openness"] = openness_sentence(prepared.verdict)
    rows["access"] = _access(prepared.verdict, planned)
    facts(rows)
    for note in notes(prepared):
        say(f"Note: {note}")
    own = [twin for twin in planned.twins if twin.repo == prepared.listing.repo]
    others = [twin for twin in planned.twins if twin.repo != prepared.listing.repo]
    if own:
        say(
            f"Note: {own[0].repo} is the publisher's own version, in place of {asked.model} ({own[0].because})."
        )
    if others:
        click.echo()
        _twins_table("others in that format", others)


def _show_offer(planned: Planned) -> None:
    """The quantized versions of which one has to be chosen."""
    repo = planned.prepared.listing.repo
    number = len(planned.twins)
    headline(
        f"{number} repositor{'y holds' if number == 1 else 'ies hold'} {repo} so; choose the one you trust."
    )
    click.echo()
    _twins_table("repository", planned.twins)
    next_step(f"selfhost pull {planned.twins[0].repo} --dry-run", "what it would bring")


def _twins_table(head: str, twins: Sequence[Twin]) -> None:
    table(
        (
            (head, "left"),
            ("format", "left"),
            ("downloads", "right"),
            ("licence", "left"),
            ("known by", "left"),
        ),
        [
            (
                twin.repo,
                twin.scheme,
                "–" if twin.downloads is None else f"{twin.downloads:,}",
                twin.licence or "–",
                twin.because,
            )
            for twin in twins[:_SHOWN]
        ],
    )


def _access(verdict: Verdict, planned: Planned) -> str:
    from selfhost.errors import GatedModelError

    words = {
        "none": "open to everyone",
        "auto": "gated: its terms have to be accepted on its page",
        "manual": "gated: its owner has to approve each account",
        "unknown": "unknown: the Hub does not say",
    }[verdict.gate]
    if isinstance(planned.problem, GatedModelError):
        return f"{words}; refused now"
    return f"{words}; granted to you" if verdict.gate in ("auto", "manual") else words


def _plan_facts(planned: Planned, asked: Asked) -> dict[str, object]:
    prepared = planned.prepared
    missing = prepared.missing_bytes
    seconds = missing / planned.speed if planned.speed else None
    return {
        "repo": prepared.listing.repo,
        "revision": prepared.listing.commit,
        "dry_run": True,
        "directory": str(prepared.place.root),
        "files": [_choice_facts(choice) for choice in prepared.choices],
        "total_bytes": prepared.total_bytes,
        "missing_bytes": missing,
        "free_bytes": prepared.free_bytes,
        "speed_bytes_per_second": None if planned.speed is None else round(planned.speed),
        "estimated_seconds": None if seconds is None else round(seconds, 1),
        "licence": _verdict_facts(prepared.verdict),
        "twins": [_twin_facts(twin) for twin in planned.twins],
        "notes": list(notes(prepared)),
        "lock": None,
        "network_bytes": 0,
        "seconds": None,
        "destination": None,
    }


def _pulled_facts(pulled: Pulled, destination: str | None) -> dict[str, object]:
    from selfhost.pull.types import LOCK_NAME

    lock, root = pulled.snapshot.lock, pulled.snapshot.root
    if pulled.prepared is not None:
        files = [_choice_facts(choice) for choice in pulled.prepared.choices]
    else:
        files = [
            {"path": file.path, "size_bytes": file.size_bytes, "keep": True, "because": "pulled before"}
            for file in lock.files
        ]
    return {
        "repo": lock.repo,
        "revision": lock.revision,
        "dry_run": False,
        "directory": str(root),
        "files": files,
        "total_bytes": lock.total_bytes,
        "missing_bytes": 0,
        "free_bytes": None if pulled.prepared is None else pulled.prepared.free_bytes,
        "speed_bytes_per_second": round(pulled.network_bytes / max(pulled.seconds, 1e-3)),
        "estimated_seconds": None,
        "licence": _verdict_facts(lock.licence),
        "twins": [],
        "notes": list(pulled.notes),
        "lock": str(root / LOCK_NAME),
        "network_bytes": pulled.network_bytes,
        "seconds": round(pulled.seconds, 3),
        "destination": destination,
    }


def _choice_facts(choice: Choice) -> dict[str, object]:
    file = choice.file
    return {
        "path": file.path,
        "size_bytes": file.size_bytes,
        "keep": choice.keep,
        "because": choice.because,
    }


def _verdict_facts(verdict: Verdict) -> object:
    from selfhost.strict import encode

    return encode(verdict)


def _twin_facts(twin: object) -> object:
    from selfhost.strict import encode

    return encode(twin)


def _words(asked: Asked, prepared: Prepared, more: Mapping[str, object]) -> str:
    """The command that pulls just what was shown."""
    words = [shlex.quote(prepared.reference)]
    if asked.directory is not None:
        words.append(f"--dir {shlex.quote(str(asked.directory))}")
    for flag, values in (
        ("--include", asked.wish.include),
        ("--exclude", asked.wish.exclude),
        ("--accept-licence", asked.accepted),
        ("--use", () if asked.use is None else (asked.use,)),
    ):
        words += [f"{flag} {shlex.quote(value)}" for value in values]
    words += ["--trust-remote-code"] if asked.wish.trust_remote_code else []
    words += ["--allow-pickle"] if asked.wish.allow_pickle else []
    for flag, value in more.items():
        if value is not None:
            words.append(f"{flag} {shlex.quote(str(value))}" if value != "" else flag)
    return " ".join(words)


def _planned_reference(asked: Asked, pulled: Pulled) -> str:
    lock = pulled.snapshot.lock
    if asked.directory is None:
        return reference_of(lock)
    text = str(asked.directory)
    local = text if text.startswith(("/", "./", "../", "~")) else f"./{text}"
    gguf = _named_gguf(lock)
    return local if gguf is None else f"{local}/{gguf}"


def reference_of(lock: Lock) -> str:
    """A pulled model as a command line names it, a GGUF file by its name: a repository may hold several."""
    gguf = _named_gguf(lock)
    return f"{lock.repo}@{lock.revision}" + ("" if gguf is None else f":{gguf}")


def _named_gguf(lock: Lock) -> str | None:
    names = sorted(file.path for file in lock.files)
    if any(name.endswith(".safetensors") for name in names):
        return None
    return next((name for name in names if name.lower().endswith(".gguf")), None)


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else "�" for char in text)

"""What engines' own parsers know: options, environment variables and metrics, each with the releases that have it.

The tables in engine_flags/ are written by scripts/build_flags.py from the engines' sources. How to ask:

    known_flags("vllm", "0.11.0")["--tensor-parallel-size"].shape     # by every spelling, `-tp` and `--no-…` included
    table("vllm").variables["VLLM_PORT"].has("0.8.5")                  # True, False, or None between two releases read
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from pathlib import Path
from pkgutil import get_data

Release = tuple[int, ...]
_FOLDER = "engine_flags"
_COLUMNS = ["what", "name", "since", "until", "shape", "more"]


def release(text: str) -> Release | None:
    """A release as numbers: `v0.8.5.post1` -> (0, 8, 5); None where it is none.

    What follows the three numbers (`.post1`, `rc2`, `-cu129`) does not count.
    """
    found = re.match(r"v?(\d+(?:\.\d+){0,2})(?![\d])", text)
    if found is None:
        return None
    numbers = tuple(int(part) for part in found.group(1).split("."))
    return numbers + (0,) * (3 - len(numbers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Releases that have something, of those whose sources were read.

    Args:
        since: the first.
        until: the last, None where the newest has it still.
        before: the one read before `since`, None where `since` is the first read.
        after: the one read after `until`.
        newest: the newest read.
    """

    since: Release
    until: Release | None
    before: Release | None
    after: Release | None
    newest: Release

    def has(self, version: str | Release) -> bool | None:
        """Whether that release has it; None where it lies between two that were read and differ, or is newer than all.

        Args:
            version: a release, as text or numbers.
        """
        wanted = release(version) if isinstance(version, str) else version
        if wanted is None:
            return None
        if wanted < self.since:
            # Older than everything read: nobody looked.
            return None if self.before is None or wanted > self.before else False
        if self.until is None:
            return True if wanted <= self.newest else None
        if wanted <= self.until:
            return True
        return None if self.after is None or wanted < self.after or wanted > self.newest else False


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFlag:
    """An option of an engine's command line.

    Args:
        name: the long spelling.
        aliases: others, short ones included.
        shape: `switch`, `boolean` (has a `--no-` twin), `value`, `optional` (a value may follow) or `list`.
        shaped: first release read in which it has this shape, None where it never had another.
        span: releases that have it.
        values: values it takes by name with their releases; empty where any will do, or they are not known.
    """

    name: str
    aliases: tuple[str, ...]
    shape: str
    span: Span
    shaped: Release | None = None
    values: Mapping[str, Span] = field(default_factory=dict)

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every way to write it."""
        negated = (f"--no-{self.name[2:]}",) if self.shape == "boolean" else ()
        return (self.name, *self.aliases, *negated)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownMetric:
    """A metric as the engine declares it.

    Args:
        name: without the suffixes that Prometheus adds (`_total`, `_bucket`, `_sum`, `_count`).
        type: gauge, counter, histogram, summary or unknown.
        labels: labels of its own beyond those that every metric of the engine has; may be incomplete.
        span: releases that have it.
    """

    name: str
    type: str
    labels: tuple[str, ...]
    span: Span

    @property
    def series(self) -> tuple[str, ...]:
        """Names of the series that stand on the metrics page."""
        base = self.name.removesuffix("_total")
        if self.type == "counter":
            # prometheus_client adds _total to a counter; a few are exposed without it by hand.
            return (
                (f"{base}_total", f"{base}_created") if base == self.name else (self.name, f"{base}_created")
            )
        if self.type == "summary":
            return (self.name, f"{self.name}_sum", f"{self.name}_count")
        if self.type == "histogram":
            return (f"{self.name}_bucket", f"{self.name}_sum", f"{self.name}_count", f"{self.name}_created")
        if self.type == "unknown":
            return (
                self.name,
                f"{self.name}_total",
                *(f"{self.name}_{each}" for each in ("bucket", "sum", "count")),
            )
        return (self.name,)


@dataclass(frozen=True, kw_only=True)
class Table:
    """All that is known of one engine.

    Args:
        engine: its name.
        releases: those whose sources were read, oldest first.
        flags: options by their long spelling.
        variables: releases of each environment variable.
        metrics: by the name the engine declares.
    """

    engine: str
    releases: tuple[Release, ...]
    flags: Mapping[str, KnownFlag]
    variables: Mapping[str, Span]
    metrics: Mapping[str, KnownMetric]

    @cached_property
    def spellings(self) -> Mapping[str, KnownFlag]:
        """Options by every spelling; of two options that shared one, the newer."""
        ordered = sorted(self.flags.values(), key=lambda flag: flag.span.until or flag.span.newest)
        return {spelling: flag for flag in ordered for spelling in flag.spellings}

    @cached_property
    def series(self) -> Mapping[str, KnownMetric]:
        """Metrics by the name of each of their series."""
        ordered = sorted(self.metrics.values(), key=lambda metric: metric.span.until or metric.span.newest)
        return {name: metric for metric in ordered for name in metric.series}


def engines() -> tuple[str, ...]:
    """Engines that have a table."""
    return ENGINES


# What selfhost renders.
ENGINES = ("llamacpp", "ollama", "sglang", "tgi", "triton", "vllm")


@cache
def table(engine: str) -> Table:
    """What is known of an engine.

    Args:
        engine: `vllm`, `sglang`, `tgi`, `llamacpp`, `ollama` or `triton`.

    Raises:
        KeyError: no such table.
    """
    if engine not in ENGINES:
        raise KeyError(engine)
    data = get_data(__package__ or "", str(Path(_FOLDER) / f"{engine}.tsv"))
    assert data is not None
    lines = data.decode().splitlines()
    head = next(line for line in lines if line.startswith("# releases: "))
    releases = tuple(each for text in head.removeprefix("# releases: ").split() if (each := release(text)))
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    assert rows[0] == _COLUMNS, f"{engine}.tsv: columns"
    flags: dict[str, KnownFlag] = {}
    values: dict[str, dict[str, Span]] = {}
    variables: dict[str, Span] = {}
    metrics: dict[str, KnownMetric] = {}
    for what, name, since, until, shape, more in rows[1:]:
        span = _span(since, until, releases)
        listed = () if more == "-" else tuple(more.split(","))
        if what == "value":
            option, _, value = name.partition("=")
            values.setdefault(option, {})[value] = span
        elif what == "variable":
            variables[name] = span
        elif what == "metric":
            metrics[name] = KnownMetric(name=name, type=shape, labels=listed, span=span)
        else:
            form, _, changed = shape.partition("@")
            flags[name] = KnownFlag(
                name=name, aliases=listed, shape=form, shaped=release(changed) if changed else None, span=span,
                values=values.setdefault(name, {}),
            )  # fmt: skip
    return Table(engine=engine, releases=releases, flags=flags, variables=variables, metrics=metrics)


def _span(since: str, until: str, releases: tuple[Release, ...]) -> Span:
    first = release(since)
    assert first is not None
    last = None if until == "-" else release(until)
    at = releases.index(first)
    following = releases[releases.index(last) + 1 :] if last is not None else ()
    return Span(
        since=first,
        until=last,
        before=releases[at - 1] if at else None,
        after=following[0] if following else None,
        newest=releases[-1],
    )


@lru_cache(maxsize=128)
def known_flags(engine: str, version: str | None) -> Mapping[str, KnownFlag]:
    """Options that a release takes, by every spelling.

    Args:
        engine: see `table`.
        version: as its tag says, with or without `v`; None for those of any release read. An option is left out only
            where that release is known not to have it.

    Raises:
        KeyError: no such table.
    """
    found = table(engine)
    if version is None:
        return found.spellings
    # Of an option that was renamed each release has one of the names, and both spellings throughout.
    ordered = sorted(found.flags.values(), key=lambda flag: flag.span.until or flag.span.newest)
    there = [flag for flag in ordered if flag.span.has(version) is not False]
    return {spelling: flag for flag in there for spelling in flag.spellings}

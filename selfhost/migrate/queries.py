"""PromQL with TGI's metrics, rewritten where the new metric says the same."""

from __future__ import annotations

import re
from dataclasses import dataclass

from selfhost.engines import EngineVersion
from selfhost.lint.metric_names import series
from selfhost.lint.promql import parse
from selfhost.migrate.table import NAMES, Row, table
from selfhost.migrate.types import Change, Unmatched

_NAME = re.compile(r"(?<![A-Za-z0-9_:])tgi_[a-z_]+(?![A-Za-z0-9_:])")
_SUFFIX = re.compile(r"_(bucket|sum|count|created|total)$")
_OWN = frozenset(("method", "err", "reason"))  # labels of TGI's own metrics (backends/v3/src, router/src)
_OVERLOADED = re.compile(r'tgi_request_failure\s*\{\s*err\s*=\s*"overloaded"\s*,?\s*\}')
_REJECTED = "vllm:admission_rejections_total"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """A query afterwards.

    Args:
        text: it, None where it is not rewritten.
        renamed: pieces of the old text and what stands in their place.
        because: why, or why not.
        instead: what to do where it is not rewritten.
        metrics: rows of the table that it names.
    """

    text: str | None
    renamed: tuple[tuple[str, str], ...] = ()
    because: str = ""
    instead: str = ""
    metrics: tuple[str, ...] = ()


def names(text: str) -> tuple[str, ...]:
    """Words of a text that look like TGI's metrics, once each."""
    return tuple(dict.fromkeys(_NAME.findall(text)))


def row_of(name: str) -> tuple[Row, str] | None:
    """A series' row and its suffix."""
    rows = table().metrics
    if name in rows:
        return rows[name], ""
    found = _SUFFIX.search(name)
    base = name[: found.start()] if found else name
    return (rows[base], found.group()) if found and base in rows else None


def renamed(name: str, version: EngineVersion) -> str | None:
    """The new name of a series, None where none says the same in that release."""
    found = row_of(name)
    if found is None:
        return None
    row, suffix = found
    outcome = row.outcomes[version.engine]
    if outcome.to is None or outcome.near is not None:
        return None
    return _there(outcome.to + ("" if suffix == "_total" else suffix), version)


def _there(name: str, version: EngineVersion) -> str | None:
    known = series(version.engine)
    metric = known.get(name) or known.get(f"{name}_bucket")
    return None if metric is None or metric.span.has(version.text) is False else name


def rewrite(text: str, version: EngineVersion) -> Rewritten | None:
    """Rewrite a query.

    Args:
        text: PromQL, or the bare name of a metric.
        version: the new engine.

    Returns:
        None where it names no metric of TGI.
    """
    if not names(text):
        return None
    pairs: list[tuple[str, str]] = []
    rest = text
    if version.engine == "vllm" and _there(_REJECTED, version):
        pairs += [(found[0], _REJECTED) for found in _OVERLOADED.finditer(text)]
        rest = _OVERLOADED.sub("", text)
    rows, blocked, instead, because = list[str](), list[str](), "", ""
    for name in names(text):
        known = row_of(name)
        if known is not None:
            rows.append(known[0].name)
    for name in names(rest):
        new, known = renamed(name, version), row_of(name)
        if new is not None and known is not None:
            pairs.append((name, new))
            because = because or known[0].outcomes[version.engine].because
            continue
        blocked.append(name)
        outcome = known[0].outcomes[version.engine] if known else None
        reason = (outcome.near or outcome.instead) if outcome else None
        instead = (
            instead or reason or "no metric of TGI 3.3.7 has this name: see its table in docs/migrate.md"
        )
    metrics = tuple(dict.fromkeys(rows))
    labels = _labels(rest)
    if blocked:
        what = f"{', '.join(blocked)} has no equivalent that says the same"
        return Rewritten(text=None, because=what, instead=instead, metrics=metrics)
    if labels:
        what = f"{NAMES[version.engine]} has no label {', '.join(labels)}"
        return Rewritten(
            text=None, because=what, metrics=metrics,
            instead=f"write it anew with {', '.join(new for _, new in pairs)}",
        )  # fmt: skip
    return Rewritten(
        text=_replaced(text, pairs), renamed=tuple(pairs), metrics=metrics,
        because=because or "requests refused because too many were there",
    )  # fmt: skip


def _replaced(text: str, pairs: list[tuple[str, str]]) -> str:
    new = dict(pairs)
    text = _OVERLOADED.sub(lambda found: new.get(found[0], found[0]), text)
    return _NAME.sub(lambda found: new.get(found[0], found[0]), text)


def _labels(text: str) -> list[str]:
    """Labels of TGI's own that a query matches or groups by."""
    matched = {
        matcher.label
        for selector in parse(text).selectors
        if selector.metric is not None and selector.metric.startswith("tgi_")
        for matcher in selector.matchers
    }
    grouped = {
        word.strip()
        for found in re.finditer(r"\b(?:by|without)\s*\(([^()]*)\)", text)
        for word in found[1].split(",")
    }
    return sorted((matched | grouped) & _OWN)


def metric_changes(wanted: tuple[str, ...], version: EngineVersion) -> tuple[list[Change], list[Unmatched]]:
    """Rows of the table of metrics.

    Args:
        wanted: names of rows; empty for all.
        version: the new engine.
    """
    changes: list[Change] = []
    unmatched: list[Unmatched] = []
    for name, row in table().metrics.items():
        if wanted and name not in wanted:
            continue
        outcome = row.outcomes[version.engine]
        new = None if outcome.to is None else _there(outcome.to, version)
        reason = outcome.near or outcome.because or outcome.instead or ""
        changes.append(Change(old=name, new=new, because=reason))
        if new is None:
            lost = f"{NAMES[version.engine]} {version.text} has no metric for it"
            instead = outcome.instead or "leave its panel or alert out"
            unmatched.append(Unmatched(what=name, because=lost, instead=instead))
    return changes, unmatched

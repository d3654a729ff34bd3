"""Texts to a report: read them all, run every rule, leave out what comments silence."""

from __future__ import annotations

import gc
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from selfhost.lint.compose import COMPOSE_FILE, services_of
from selfhost.lint.files import Text
from selfhost.lint.model import Lot, Object, Pod, Query, Skipped, Unread
from selfhost.lint.objects import is_chart_template, is_template, objects_of, template_skipped
from selfhost.lint.pods import pods_of
from selfhost.lint.queries import queries_of
from selfhost.lint.read import read
from selfhost.lint.rules import rules
from selfhost.lint.suppress import Silences, silences
from selfhost.lint.types import SEVERITIES, Finding, Found, Rule, Settings, Where


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a run found.

    Args:
        findings: by file in the order given, then by line.
        silenced: findings that a comment keeps quiet.
        skipped: documents that were left alone, and why.
        unread: documents that could not be read.
        files: texts that were looked at.
        objects: Kubernetes objects in them.
        engines: inference engines in those.
    """

    findings: tuple[Finding, ...]
    silenced: int
    skipped: tuple[Skipped, ...]
    unread: tuple[Unread, ...]
    files: int
    objects: int
    engines: int


@contextmanager
def _no_collecting() -> Iterator[None]:
    """What is read are trees: looking for cycles among their many nodes takes a third of the time, for none."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def read_lot(
    texts: Iterable[Text], settings: Settings | None = None
) -> tuple[Lot, tuple[Skipped, ...], tuple[Unread, ...]]:
    """Read every text into one lot; never raises for what stands in them."""
    settings = settings or Settings()
    objects: list[Object] = []
    pods: list[Pod] = []
    services: list[Pod] = []
    queries: list[Query] = []
    duplicates: list[tuple[Where, str, int]] = []
    skipped: list[Skipped] = []
    unread: list[Unread] = []
    for text in texts:
        if is_chart_template(text.content):
            skipped.append(template_skipped(text.name))
            continue
        documents, broken = read(text.name, text.content)
        if broken and is_template(text.content):
            skipped.append(template_skipped(text.name))
            continue
        unread.extend(broken)
        for document in documents:
            result = objects_of(text.name, document)
            objects.extend(result.objects)
            for item in result.objects:
                if item.kind == COMPOSE_FILE:
                    services.extend(services_of(item, settings))
                    continue
                pods.extend(pods_of(item, settings))
                queries.extend(queries_of(item))
            if result.skipped is not None:
                skipped.append(result.skipped)
            if result.objects:
                owner = result.objects[0]
                duplicates.extend(
                    (owner.at(span.line, key), key, first) for span, key, first in document.duplicates
                )
    lot = Lot(
        objects=tuple(objects), pods=tuple(pods), queries=tuple(queries), duplicates=tuple(duplicates),
        settings=settings, services=tuple(services),
    )  # fmt: skip
    return lot, tuple(skipped), tuple(unread)


def lint(
    texts: Iterable[Text],
    settings: Settings | None = None,
    *,
    select: Collection[str] = (),
    ignore: Collection[str] = (),
) -> Report:
    """Find the faults in texts, which are judged together: a Service of one file meets the Deployment of another.

    Where one object stands in several folders, each folder is judged by itself.

    Args:
        texts: files with their names.
        settings: what the user knows besides.
        select: codes to look for alone; empty for all.
        ignore: codes not to look for.
    """
    texts = tuple(texts)
    with _no_collecting():
        return _judged(texts, settings, frozenset(select), frozenset(ignore))


def _judged(
    texts: tuple[Text, ...], settings: Settings | None, select: frozenset[str], ignore: frozenset[str]
) -> Report:
    lot, skipped, unread = read_lot(texts, settings)
    if _alternatives(lot):
        folders: dict[str, list[Text]] = {}
        for text in texts:
            folders.setdefault(os.path.dirname(text.name), []).append(text)
        return _joined([_judged(tuple(each), settings, select, ignore) for each in folders.values()])
    quiet = {text.name: silences(text.content) for text in texts}
    order = {text.name: index for index, text in enumerate(texts)}
    kept: list[Finding] = []
    hushed = 0
    for rule in rules():
        if rule.code in ignore or (select and rule.code not in select):
            continue
        for found in _once(_checked(rule, lot)):
            if _silenced(quiet, rule, found):
                hushed += 1
            else:
                kept.append(_finding(rule, found))
    kept.sort(
        key=lambda each: (
            order.get(each.where.file, 0),
            each.where.line,
            SEVERITIES.index(each.severity),
            each.code,
        )
    )
    return Report(
        findings=tuple(kept),
        silenced=hushed,
        skipped=skipped,
        unread=unread,
        files=len(texts),
        objects=len(lot.objects),
        engines=sum(1 for _ in lot.engines()) + sum(1 for _ in Lot(pods=lot.services).engines()),
    )


def _alternatives(lot: Lot) -> bool:
    """One object stands in several folders: they are choices (overlays, examples), not parts of one deployment."""
    folders: dict[tuple[str, str, str], str] = {}
    for item in lot.objects:
        folder = os.path.dirname(item.where.file)
        if item.name and folders.setdefault((item.kind, item.namespace, item.name), folder) != folder:
            return True
    return False


def _joined(reports: list[Report]) -> Report:
    return Report(
        findings=tuple(finding for report in reports for finding in report.findings),
        silenced=sum(report.silenced for report in reports),
        skipped=tuple(each for report in reports for each in report.skipped),
        unread=tuple(each for report in reports for each in report.unread),
        files=sum(report.files for report in reports),
        objects=sum(report.objects for report in reports),
        engines=sum(report.engines for report in reports),
    )


def _checked(rule: Rule, lot: Lot) -> Iterable[Found]:
    """What a rule finds in Kubernetes objects, and in Compose files where it is about the engine alone."""
    yield from rule.check(lot)
    if rule.compose and lot.services:
        engines = tuple(pod for pod in lot.services if any(each.engine for each in pod.containers))
        for each in rule.check(Lot(pods=engines, settings=lot.settings)):
            yield replace(each, edits=(), fix=rule.compose_fix or each.fix)


def _once(found: Iterable[Found]) -> Iterable[Found]:
    """A rule that comes by one place twice says so once."""
    seen: set[tuple[str, int, str, str]] = set()
    for each in found:
        key = (each.where.file, each.where.line, each.where.path, each.message)
        if key not in seen:
            seen.add(key)
            yield each


def _silenced(quiet: dict[str, Silences], rule: Rule, found: Found) -> bool:
    silence = quiet.get(found.where.file)
    return silence is not None and silence.quiet(rule.code, found.where.line)


def _finding(rule: Rule, found: Found) -> Finding:
    return Finding(
        code=rule.code,
        severity=found.severity or rule.severity,
        message=found.message,
        reason=rule.reason,
        fix=found.fix or rule.fix,
        where=found.where,
        edits=found.edits,
    )

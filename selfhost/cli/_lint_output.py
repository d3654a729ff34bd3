"""What `selfhost lint` prints: lines for people, JSON, and SARIF 2.1.0 for code scanners."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from selfhost.cli._output import colours, emit_json

if TYPE_CHECKING:
    from selfhost.lint import Edit, Finding, Report, Severity, Unread

_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}
_LEVELS = {"error": "error", "warning": "warning", "note": "note"}
_SARIF = "https://json.schemastore.org/sarif-2.1.0.json"


def show_text(report: Report, broken: Sequence[Any], fixed: int, *, notes: bool) -> None:
    """Print one line a finding with its fix below, then what was skipped, then the sum."""
    shown = [finding for finding in report.findings if notes or finding.severity != "note"]
    for each in broken:
        click.echo(f"{each.file}:{each.line}  {_paint('error', 'error')}  {_plain(each.message)}")
    for finding in shown:
        where = f"{finding.where.file}:{finding.where.line}"
        owner = f"  [{_plain(finding.where.object)}]" if finding.where.object else ""
        severity = _paint(finding.severity, finding.severity)
        click.echo(f"{where}  {finding.code} {severity}  {_plain(finding.message)}{owner}")
        mark = " (--fix writes it)" if finding.edits else ""
        click.echo(f"    fix: {_plain(finding.fix)}{mark}")
    _skipped(report)
    click.echo(_sum(report, shown, fixed, notes))


def _skipped(report: Report) -> None:
    for each in report.skipped:
        click.echo(f"{each.file}:{each.line}  skipped  {each.why}")


def _sum(report: Report, shown: Sequence[Finding], fixed: int, notes: bool) -> str:
    from selfhost.lint import SEVERITIES

    parts = [_count(report, "error", "error"), _count(report, "warning", "warning")]
    if notes:
        parts.append(_count(report, "note", "note"))
    text = ", ".join(parts)
    hidden = sum(finding.severity == "note" for finding in report.findings)
    if hidden and not notes:
        text += f" ({hidden} note{'s' if hidden > 1 else ''}: --notes)"
    if fixed:
        text += f", {fixed} mended"
    if report.silenced:
        text += f", {report.silenced} ignored by comments"
    text += f" in {_plural(report.objects, 'object')}, {_plural(report.engines, 'engine')}"
    worst = min(shown, key=lambda finding: SEVERITIES.index(finding.severity), default=None)
    return text + (f"; docs/lint.md#{worst.code}" if worst else "")


def _count(report: Report, severity: Severity, word: str) -> str:
    return _plural(sum(finding.severity == severity for finding in report.findings), word)


def _plural(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _paint(text: str, severity: str) -> str:
    seen = colours() and sys.stdout is not None and sys.stdout.isatty()
    return click.style(text, fg=_COLOURS[severity], bold=severity == "error") if seen else text


def _plain(text: str) -> str:
    """Names come from files: control characters in them must not move the cursor or fake a line."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def show_json(report: Report, broken: Sequence[Any], fixed: int) -> None:
    """Print one JSON object, as selfhost/cli/schemas/lint.json describes it."""
    emit_json(
        "lint",
        {
            "findings": [_finding(finding) for finding in report.findings],
            "unread": [{"file": each.file, "line": each.line, "message": each.message} for each in broken],
            "skipped": [{"file": each.file, "line": each.line, "why": each.why} for each in report.skipped],
            "summary": {
                "files": report.files,
                "objects": report.objects,
                "engines": report.engines,
                "errors": sum(finding.severity == "error" for finding in report.findings),
                "warnings": sum(finding.severity == "warning" for finding in report.findings),
                "notes": sum(finding.severity == "note" for finding in report.findings),
                "ignored": report.silenced,
                "mended": fixed,
            },
        },
    )


def _finding(finding: Finding) -> dict[str, object]:
    return {
        "code": finding.code,
        "severity": finding.severity,
        "message": finding.message,
        "reason": finding.reason,
        "fix": finding.fix,
        "fixable": bool(finding.edits),
        "file": finding.where.file,
        "line": finding.where.line,
        "object": finding.where.object or None,
        "path": finding.where.path or None,
    }


def show_sarif(report: Report, broken: Sequence[Any]) -> None:
    """Print one SARIF 2.1.0 log: https://docs.oasis-open.org/sarif/sarif/v2.1.0/."""
    from selfhost import __version__
    from selfhost.lint import rules

    found = rules()
    index = {rule.code: number for number, rule in enumerate(found)}
    driver = {
        "name": "selfhost lint",
        "version": __version__,
        "rules": [
            {
                "id": rule.code,
                "shortDescription": {"text": rule.title},
                "fullDescription": {"text": rule.reason},
                "help": {"text": f"{rule.fix} Source: {'; '.join(rule.sources)}."},
                "defaultConfiguration": {"level": _LEVELS[rule.severity]},
            }
            for rule in found
        ],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": not broken,
                "toolExecutionNotifications": [_notification(each) for each in broken],
            }
        ],
        "results": [_result(finding, index[finding.code]) for finding in report.findings],
    }
    click.echo(json.dumps({"$schema": _SARIF, "version": "2.1.0", "runs": [run]}, indent=2))


def _uri(file: str) -> str:
    from pathlib import PurePath
    from urllib.parse import quote

    return "stdin" if file == "<stdin>" else quote(PurePath(file).as_posix())


def _location(file: str, line: int) -> dict[str, object]:
    return {"artifactLocation": {"uri": _uri(file)}, "region": {"startLine": line}}


def _notification(each: Unread) -> dict[str, object]:
    return {
        "level": "error",
        "message": {"text": each.message},
        "locations": [{"physicalLocation": _location(each.file, each.line)}],
    }


def _result(finding: Finding, index: int) -> dict[str, object]:
    location: dict[str, object] = {"physicalLocation": _location(finding.where.file, finding.where.line)}
    if finding.where.object:
        name = f"{finding.where.object}:{finding.where.path}" if finding.where.path else finding.where.object
        location["logicalLocations"] = [{"fullyQualifiedName": name, "kind": "object"}]
    result: dict[str, object] = {
        "ruleId": finding.code,
        "ruleIndex": index,
        "level": _LEVELS[finding.severity],
        "message": {"text": f"{finding.message}. Fix: {finding.fix}"},
        "locations": [location],
    }
    if finding.edits:
        change = {
            "artifactLocation": {"uri": _uri(finding.where.file)},
            "replacements": [_replacement(edit) for edit in finding.edits],
        }
        result["fixes"] = [{"description": {"text": finding.fix}, "artifactChanges": [change]}]
    return result


def _replacement(edit: Edit) -> dict[str, object]:
    region = {
        "startLine": edit.line, "startColumn": edit.column + 1, "endLine": edit.end_line,
        "endColumn": edit.end_column + 1,
    }  # fmt: skip
    return {"deletedRegion": region, "insertedContent": {"text": edit.text}}

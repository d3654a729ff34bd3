"""How a verdict is printed: worst first with what to do, or as one line for Nagios."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import click

from selfhost.cli._output import colours, folded, width
from selfhost.health import LEVELS, Action, Check, Health, Level
from selfhost.health.suppressions import is_suppressed

# Actions as people are told them.
WORDS: dict[Action, str] = {
    "none": "",
    "fix_configuration": "fix the configuration",
    "check_application": "check the application",
    "restart_engine": "restart the engine",
    "reset_gpu": "reset the GPU",
    "reboot_node": "reboot the node",
    "inspect_hardware": "inspect the hardware",
}
_COLOURS: dict[Level, str] = {"critical": "red", "warn": "yellow", "unknown": "magenta", "ok": "green"}
_INDENT = 10
# A hung driver leaves every check unknown; what hangs stands above them.
_MOST_UNKNOWN = 3
# Of GPUs with the same finding, so many are told apart.
_MOST_EVIDENCE = 2


def show(health: Health, *, code: int, verbose: bool) -> None:
    """Print a verdict for people.

    Args:
        health: the verdict.
        code: exit code, which the last line names where it is not 0.
        verbose: print every check, with its source.
    """
    faults = [check for check in health.checks if verbose or check.level in ("critical", "warn", "unknown")]
    if health.verdict == "ok" or not faults:
        _paint(health.verdict, f"{health.verdict.upper():<{_INDENT}}{_well(health)}")
    unknown = [check for check in faults if check.level == "unknown"]
    shown = [
        check for check in faults if verbose or check.level != "unknown" or check in unknown[:_MOST_UNKNOWN]
    ]
    for group in [[check] for check in shown] if verbose else _gathered(shown):
        _show(group, verbose=verbose)
    if not verbose and len(unknown) > _MOST_UNKNOWN:
        click.echo(
            " " * _INDENT + f"and {len(unknown) - _MOST_UNKNOWN} more that are unknown (-v shows them)"
        )
    if not verbose:
        for check in health.checks:
            if is_suppressed(check):
                _show([replace(check, evidence="")], verbose=False)
    click.echo(_counts(health, code))


def _well(health: Health) -> str:
    if health.verdict != "ok":
        return "nothing could be checked (-v says why)"
    done = sum(check.level == "ok" for check in health.checks)
    else_ = " else" if any(is_suppressed(check) for check in health.checks) else ""
    return f"{health.host or 'this node'}: {done} checks, nothing{else_} wrong"


def _gathered(checks: list[Check]) -> list[list[Check]]:
    """Findings that are told as one: the same of several GPUs, or several of one GPU that ask for the same."""
    alike: dict[tuple[object, ...], list[Check]] = {}
    for check in checks:
        alike.setdefault(
            (check.level, check.code, check.action, check.engine, _unlabelled(check)), []
        ).append(check)
    groups: dict[tuple[object, ...], list[Check]] = {}
    for number, same in enumerate(alike.values()):
        first = same[0]
        alone = len(same) == 1 and first.gpu is not None and first.action != "none"
        groups.setdefault((first.level, first.gpu, first.action) if alone else (number,), []).extend(same)
    return list(groups.values())


def _unlabelled(check: Check) -> str:
    """The sentence without the GPU it begins with."""
    return re.sub(r"^gpu \d+ \([^)]*\): ", "", check.message) if check.gpu is not None else check.message


def _gpus(indices: list[int]) -> str:
    """`gpus 0–7`, `gpus 0, 1 and 5`."""
    if len(indices) > 2 and indices == list(range(indices[0], indices[-1] + 1)):
        return f"gpus {indices[0]}–{indices[-1]}"
    return f"gpus {', '.join(map(str, indices[:-1]))} and {indices[-1]}"


def _show(group: list[Check], *, verbose: bool) -> None:
    """Print findings that belong together: one sentence each, their evidence, and what to do once."""
    first = group[0]
    same = len(group) > 1 and len({check.gpu for check in group}) > 1
    if same:
        sentences = [
            f"{_gpus([check.gpu for check in group if check.gpu is not None])}: {_unlabelled(first)}"
        ]
    else:
        sentences = [first.message, *(_unlabelled(check) for check in group[1:])]
    told = list(dict.fromkeys(check.evidence for check in group if check.evidence))
    if same and len(told) > _MOST_EVIDENCE:
        told = [*told[:_MOST_EVIDENCE], f"and {len(told) - _MOST_EVIDENCE} more like these (-v shows them)"]
    if verbose:
        told.append(f"{first.code}; {first.source}")
    head = f"{first.level.upper():<{_INDENT}}"
    for sentence in sentences:
        for line in folded(_printable(sentence), width() - _INDENT):
            _paint(first.level, f"{head}{line}")
            head = " " * _INDENT
    for text in told:
        for line in folded(_printable(text), width() - _INDENT - 2):
            click.echo(" " * (_INDENT + 2) + line)
    if WORDS[first.action]:
        click.echo(" " * _INDENT + f"→ {WORDS[first.action]}")


def _paint(level: Level, line: str) -> None:
    if colours() and level in _COLOURS and line[:_INDENT].strip():
        click.echo(click.style(line[:_INDENT], fg=_COLOURS[level], bold=True) + line[_INDENT:])
    else:
        click.echo(line)


def _counts(health: Health, code: int) -> str:
    """`ok 23 · unknown 2 (reason) · skipped 4        exit 5`."""
    count = Counter(check.level for check in health.checks)
    parts = []
    for level in LEVELS:
        if not count[level] and level != "ok":
            continue
        text = f"{level} {count[level]}"
        if level == "skipped" and (reason := _log_reason(health)):
            text += f" ({reason})"
        parts.append(text)
    left, right = " · ".join(parts), f"exit {code}"
    return left if not code else f"{left}{' ' * max(4, width() - len(left) - len(right))}{right}"


def _log_reason(health: Health) -> str:
    """That there is no kernel log is said even in short: Xids of before are not known without it."""
    return next(
        (
            "no kernel log"
            for check in health.checks
            if check.code == "kernel-log" and check.level == "skipped"
        ),
        "",
    )


def nagios_line(health: Health) -> str:
    """One line as Nagios' plugins print it: the worst finding, how many more there are, and the counts."""
    words: dict[Level, str] = {
        "critical": "CRITICAL",
        "warn": "WARNING",
        "unknown": "UNKNOWN",
        "ok": "OK",
        "skipped": "UNKNOWN",
    }
    faults = [check for check in health.checks if check.level in ("critical", "warn", "unknown")]
    if faults:
        text = faults[0].message
        if WORDS[faults[0].action]:
            text += f" -> {WORDS[faults[0].action]}"
        if len(faults) > 1:
            text += f"; {len(faults) - 1} more"
    elif health.verdict == "ok":
        text = _well(health)
    else:
        text = "nothing could be checked"
    count = Counter(check.level for check in health.checks)
    data = " ".join(f"{level}={count[level]}" for level in LEVELS)
    return f"{words[health.verdict]}: {_plain(text)} | {data}"


def _plain(text: str) -> str:
    """Text without what would end the line or begin the performance data."""
    return _printable(text).replace("|", "/")


def _printable(text: str) -> str:
    """Names come from drivers, logs and other people's processes: nothing in them moves the cursor."""
    return "".join(char if char.isprintable() else "�" for char in text)

"""What a node's answer is worth: read strictly, held against what is possible, and against what the others say.

A node that should have answered and did not, or whose answer cannot be believed, is unknown; one whose host shows no
sign of life is critical.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace

from selfhost.cluster.values import printable
from selfhost.errors import MalformedAnswerError, SelfhostError
from selfhost.fleet.types import (
    CLOCK,
    DUPLICATE,
    FORBIDDEN,
    LEVELS,
    LYING,
    OTHER,
    STALE,
    Answer,
    NodeAddress,
    NodeResult,
    worst,
)
from selfhost.observation.summary import (
    SUMMARY_SCHEMA,
    CheckSummary,
    EngineSummary,
    GpuSummary,
    Summary,
    SummaryLevel,
    read_summary,
)

# All ours. An exporter polls every few seconds, and its slow lane every minute.
STALE_SECONDS = 120.0
# … unless it says that it polls more seldom.
_STALE_INTERVALS = 3
# A minute is off by any measure, and readings of such a node cannot be joined with those of others.
CLOCK_SECONDS = 60.0
# Wider than anything a board can show, narrower than a sensor that fails.
_CELSIUS = (-60, 200)
_MOST_WATTS = 20_000.0
_MOST_GPUS = 1024
_LONGEST_TEXT = 1000
# A node whose every GPU is claimed elsewhere says so this often.
_MOST_DUPLICATES = 3
_SCHEMA = re.compile(r'"schema"\s*:\s*"(selfhost/summary/v\d{1,4})"')
_DIGITS = re.compile(r"(\d+)", re.ASCII)
# A ratio that was divided in floating point.
_ONE = 1.0 + 1e-6


def finding(code: str, level: SummaryLevel, message: str, action: str = "none") -> CheckSummary:
    """A finding of the fleet about a node."""
    return CheckSummary(code=code, level=level, gpu=None, message=message, action=action)


def judge(address: NodeAddress, answer: Answer, *, now: float) -> NodeResult:
    """One node's result from its answer alone.

    Args:
        address: whom was asked.
        answer: what came of it.
        now: our clock, Unix time.
    """
    summary: Summary | None = None
    found = list(address.findings)
    if answer.fault is not None:
        action = "fix_configuration" if answer.fault == FORBIDDEN else "none"
        found.append(finding(answer.fault, answer.level, _sentence(answer.detail), action))
    elif answer.status != 200:
        found.append(_other_status(answer.status))
    else:
        try:
            summary = _read(answer.body)
        except _OtherVersionError as error:
            found.append(finding(OTHER, "unknown", _sentence(str(error)), "fix_configuration"))
        except SelfhostError as error:
            found.append(finding(LYING, "unknown", f"Not a summary: {error.message}"))
        else:
            found.extend(_times(summary, answer, now))
            wrong = _impossible(summary)
            if wrong:
                found.append(finding(LYING, "unknown", f"Cannot be true: {wrong}."))
    return result_of(address, tuple(found), summary, answer.seconds)


def compare(results: tuple[NodeResult, ...]) -> tuple[NodeResult, ...]:
    """Adds what shows only between nodes, and puts the worst first: one host, or one GPU, at two addresses."""
    hosts: dict[str, list[int]] = defaultdict(list)
    gpus: dict[str, list[int]] = defaultdict(list)
    for at, result in enumerate(results):
        if result.summary is None:
            continue
        hosts[result.summary.host].append(at)
        for uuid in {gpu.uuid for gpu in result.summary.gpus if _is_identity(gpu.uuid)}:
            gpus[uuid].append(at)
    more: dict[int, list[CheckSummary]] = defaultdict(list)
    for host, places in hosts.items():
        for at in places if len(places) > 1 else ():
            others = _others(results, places, at, by_address=True)
            more[at].append(
                finding(DUPLICATE, "warn", f"{host} answers at {others} too.", "fix_configuration")
            )
    for uuid, places in gpus.items():
        # One host at two addresses shows its GPUs twice of course; that was said above.
        if len({results[at].name for at in places}) > 1:
            for at in places:
                others = _others(results, places, at, by_address=False)
                more[at].append(finding(DUPLICATE, "warn", f"GPU {uuid} is claimed by {others} too."))
    judged = (
        result_of(
            result.address, (*result.findings, *more[at][:_MOST_DUPLICATES]), result.summary, result.seconds
        )
        for at, result in enumerate(results)
    )
    return tuple(sorted(judged, key=_trouble))


class _OtherVersionError(Exception):
    """A summary, but not one that this release reads."""


def _trouble(result: NodeResult) -> tuple[int, int, tuple[tuple[int, str], ...]]:
    bad = sum(check.level == result.level for check in result.checks)
    # node-2 before node-10
    parts = _DIGITS.split(result.name)
    natural = tuple((int(part[:18]), "") if part.isdecimal() else (0, part) for part in parts if part)
    return LEVELS.index(result.level), -bad, natural


def result_of(
    address: NodeAddress,
    findings: tuple[CheckSummary, ...],
    summary: Summary | None = None,
    seconds: float = 0.0,
) -> NodeResult:
    """A result whose level is the worst of the findings and of the node's own verdict."""
    levels = [check.level for check in findings]
    if summary is not None:
        levels.append("unknown" if summary.verdict == "skipped" else summary.verdict)
    return NodeResult(
        address=address, level=worst(tuple(levels)), findings=findings, summary=summary, seconds=seconds
    )


def _read(body: bytes) -> Summary:
    """The summary in an answer.

    Raises:
        SelfhostError: it is none.
        _OtherVersionError: it is one of another version.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedAnswerError("the answer is not UTF-8.") from None
    try:
        return _clean(read_summary(text))
    except MalformedAnswerError as error:
        schema = _SCHEMA.search(text[:_LONGEST_TEXT])
        fields = "is not a field" in error.message or "is missing" in error.message
        if schema and (schema[1] != SUMMARY_SCHEMA or fields):
            raise _OtherVersionError(f"another release answers: {error.message}") from None
        raise


def _clean(summary: Summary) -> Summary:
    """The same with texts that a terminal can be shown; almost always the very same."""
    texts = [summary.host, *(engine.name for engine in summary.engines)]
    for gpu in summary.gpus:
        texts += (gpu.uuid, gpu.name)
    for check in summary.checks:
        texts += (check.code, check.message, check.action)
    if summary.host and all(printable(text) == text for text in texts):
        return summary
    return replace(
        summary,
        host=printable(summary.host) or "?",
        checks=tuple(
            replace(
                check,
                code=printable(check.code),
                message=printable(check.message),
                action=printable(check.action),
            )
            for check in summary.checks
        ),
        gpus=tuple(replace(gpu, uuid=printable(gpu.uuid), name=printable(gpu.name)) for gpu in summary.gpus),
        engines=tuple(replace(engine, name=printable(engine.name)) for engine in summary.engines),
    )


def _other_status(status: int) -> CheckSummary:
    if status in (401, 403):
        return finding(FORBIDDEN, "unknown", f"The exporter answered {status}.", "fix_configuration")
    if status == 404:
        words = "No summary there: an exporter of an older release, or another program."
        return finding(OTHER, "unknown", words, "fix_configuration")
    if 300 <= status < 400:
        return finding(
            OTHER, "unknown", f"It answered {status}: redirects are not followed.", "fix_configuration"
        )
    more = ": it has observed nothing yet" if status == 503 else ""
    return finding(OTHER, "unknown", f"The exporter answered {status}{more}.")


def _times(summary: Summary, answer: Answer, now: float) -> list[CheckSummary]:
    """Whether the readings are of now, by the node's own clock where its answer is dated."""
    there = answer.dated if answer.dated is not None else now
    found = []
    off = there - now
    if abs(off) > CLOCK_SECONDS:
        words = f"Its clock is {_span(abs(off))} {'ahead' if off > 0 else 'behind'}."
        found.append(finding(CLOCK, "warn", words, "fix_configuration"))
    age = there - summary.at
    if age > max(STALE_SECONDS, _STALE_INTERVALS * (summary.interval_seconds or 0)):
        found.append(finding(STALE, "unknown", f"Its readings are {_span(age)} old.", "check_application"))
    elif age < -CLOCK_SECONDS:
        found.append(finding(LYING, "unknown", f"Its readings are of {_span(-age)} in the future."))
    return found


def _impossible(summary: Summary) -> str | None:
    """The first thing in a summary that no node can be like, None where all is possible."""
    worst_check = worst(tuple(check.level for check in summary.checks)) if summary.checks else "ok"
    if summary.verdict == "skipped":
        return "a verdict of skipped"
    if LEVELS.index(worst_check) < LEVELS.index(summary.verdict):
        return f"a verdict of {summary.verdict} with a check that is {worst_check}"
    if len(summary.gpus) > _MOST_GPUS:
        return f"{len(summary.gpus)} GPUs"
    for of in ("index", "uuid"):
        if len({getattr(gpu, of) for gpu in summary.gpus}) < len(summary.gpus):
            return f"two GPUs of one {of}"
    for gpu in summary.gpus:
        wrong = _impossible_gpu(gpu)
        if wrong:
            return f"gpu {gpu.index} {wrong}"
    for engine in summary.engines:
        wrong = _impossible_engine(engine)
        if wrong:
            return f"engine {engine.name} {wrong}"
    return None


def _impossible_gpu(gpu: GpuSummary) -> str | None:
    used, total = gpu.memory_used_bytes, gpu.memory_total_bytes
    if gpu.index < 0:
        return "has an index below 0"
    if not _within(gpu.utilization_ratio, 0, _ONE):
        return f"is {gpu.utilization_ratio:g} busy, of 1"
    if not _within(used, 0, None) or not _within(total, 0, None):
        return "has less than no memory"
    if used is not None and total is not None and used > total:
        return f"uses {used} bytes of {total}"
    if not _within(gpu.temperature_celsius, *_CELSIUS):
        return f"is {gpu.temperature_celsius} °C warm"
    if not _within(gpu.power_watts, 0, _MOST_WATTS):
        return f"takes {gpu.power_watts:g} W"
    return None


def _impossible_engine(engine: EngineSummary) -> str | None:
    if not _within(engine.kv_usage_ratio, 0, _ONE):
        return f"fills {engine.kv_usage_ratio:g} of its KV cache, of 1"
    for of in ("running", "waiting", "tokens_per_second"):
        if not _within(getattr(engine, of), 0, None):
            return f"has {of.replace('_', ' ')} below 0"
    return None


def _within(value: float | None, least: float, most: float | None) -> bool:
    return value is None or (least <= value and (most is None or value <= most))


def _is_identity(uuid: str) -> bool:
    """Whether a UUID can tell GPUs of two nodes apart; one that could not be read is `unknown-<index>`."""
    return not uuid.startswith("unknown-")


def _others(results: tuple[NodeResult, ...], places: list[int], but: int, *, by_address: bool) -> str:
    names = [
        results[at].address.url or results[at].address.name if by_address else results[at].name
        for at in places
        if at != but
    ]
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"


def _sentence(phrase: str) -> str:
    plain = printable(phrase).rstrip(".")
    return f"{plain[:1].upper()}{plain[1:]}."

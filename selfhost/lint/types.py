"""What a rule is, what it finds, and how to write one. What rules look at stands in `selfhost/lint/model.py`.

A module in `selfhost/lint/rules/` whose name does not start with an underscore holds `RULES`, a tuple of `Rule`.
Nothing else has to be registered: the command line, docs/lint.md and the tests find it. A check is a function from the
whole lot to what it found:

    def _on_loopback(lot: Lot) -> Iterator[Found]:
        for pod, container, engine in lot.engines():
            if engine.name == "sglang" and engine.complete and engine.flag("host") is None:
                yield Found(
                    where=container.where,
                    message="SGLang listens on 127.0.0.1 only: probes and the Service cannot reach it",
                    fix="add --host=0.0.0.0",
                )

    RULES = (
        Rule(
            code="SH030",
            title="SGLang on loopback",
            severity="error",
            reason="SGLang binds 127.0.0.1 unless told otherwise, so nothing outside the container reaches it.",
            fix="Add `--host=0.0.0.0` to the arguments.",
            sources=("SGLang 0.5.23, srt/server_args.py, read 2026-11-21",),
            check=_on_loopback,
        ),
    )

A rule is quiet where it cannot know: `engine.complete` is False when part of the command could not be read, a value
that refers to something outside the file is None, a pod of an operator (`pod.managed`) may get what its text does not
show. Only `lot.engines()` sees engines; routers, sidecars and operators are plain containers.

Codes: SH001-SH019 and SH030-SH099 shapes of Kubernetes, SH020-SH029 metrics, SH100-SH199 engine flags and environment,
SH200-SH249 sizes. A code never changes its meaning. `tests/lint/cases/` has `<code>_wrong.yaml` and `<code>_right.yaml`
for each rule (further ones as `<code>_wrong_<what>.yaml`); the tests ask for both. `selfhost/lint/edits.py`
makes the edits of a fix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from selfhost.lint.model import Lot

# error: it will fail, or be wrong; warning: it will hurt some day; note: advice, shown with --notes.
Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """A place in a file.

    Args:
        file: name as given on the command line, `<stdin>` for standard input.
        line: from 1.
        path: way there from the top of the document, such as `spec.template.spec.containers[0].args[3]`.
        object: `Kind/name` or `Kind/namespace/name`, empty where there is no object.
    """

    file: str
    line: int
    path: str = ""
    object: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A piece of a file's text to be replaced: a safe fix, written by --fix.

    An insertion has an end equal to its start; a whole line goes with `end_line=line + 1, column=end_column=0`.

    Args:
        line: from 1.
        column: from 0.
        end_line: from 1; the line of the first character that stays.
        end_column: from 0.
        text: what stands there afterwards.
    """

    line: int
    column: int
    end_line: int
    end_column: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a check found, before the runner adds what all findings of its rule share.

    Args:
        where: the place, most often `container.where`, or `thing.at(line, path)` for a line inside it.
        message: one clause that names the values seen; no secret, no full stop.
        fix: what to do here, None takes the rule's own words.
        edits: what --fix writes; empty where no edit is safe.
        severity: None takes the rule's own.
    """

    where: Where
    message: str
    fix: str | None = None
    edits: tuple[Edit, ...] = ()
    severity: Severity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: what it is called, why it stands, and the function that checks it.

    Args:
        code: `SH` and three digits, never used again for something else.
        title: a few words, the heading of its docs.
        severity: of its findings, unless one says otherwise.
        reason: why it matters, a sentence or two.
        fix: what to do, a sentence.
        sources: where the fact is from, with version or date.
        check: what finds it.
        fixable: --fix can write it, at least sometimes.
        compose: it looks at the services of Compose files too; `compose_fix` is what to do there where that differs.
    """

    code: str
    title: str
    severity: Severity
    reason: str
    fix: str
    sources: tuple[str, ...]
    check: Callable[[Lot], Iterable[Found]]
    fixable: bool = False
    compose: bool = False
    compose_fix: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A fault in somebody's file.

    Args:
        code: of the rule.
        severity: see `Severity`.
        message: what is wrong, with the values seen.
        reason: why it matters.
        fix: what to do about it.
        where: file, line, object and path in the document.
        edits: what --fix would write.
    """

    code: str
    severity: Severity
    message: str
    reason: str
    fix: str
    where: Where
    edits: tuple[Edit, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the user said about the lot.

    Args:
        spare_gpus: accelerators free for a rollout, None where unknown.
        engine: name of the engine where an image does not say it.
        version: of that engine.
        kubernetes: minor version of the cluster, such as 34 for 1.34; None where unknown.
    """

    spare_gpus: int | None = None
    engine: str | None = None
    version: str | None = None
    kubernetes: int | None = None

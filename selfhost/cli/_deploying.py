"""What the commands that work on a cluster share: how it is reached, what they print while they work, how they end."""

from __future__ import annotations

import functools
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from selfhost.errors import UsageError

if TYPE_CHECKING:
    from selfhost.cluster import Api
    from selfhost.deploy.settings import Preview, Result
    from selfhost.deploy.types import Desired, Event, Finding

F = TypeVar("F", bound=Callable[..., Any])

EVENT_SCHEMA = "selfhost/event/v1"
DEFAULT_NAMESPACE = "llm"  # as `selfhost render`
_LABELS = {
    "preflight": "Preflight", "preview": "Diff", "apply": "Apply", "progress": "Rollout", "failed": "Failed",
    "rollback": "Rollback", "ready": "Ready", "smoke": "Smoke", "prune": "Prune", "note": "", "done": "",
}  # fmt: skip
_WIDEST = 11
_MARKS = {"ok": "ok", "warning": "WARN", "error": "ERROR", "unknown": "?"}
NOT_HEALTHY, DOES_NOT_FIT = 5, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How the cluster is reached, and how results are printed."""

    context: str | None
    kubeconfig: str | None
    as_json: bool

    def api(self) -> Api:
        """The API server.

        Raises:
            ClusterError: no client, no kubeconfig, or no such context.
        """
        from selfhost.cluster import Api, connect

        # watches and logs hold a connection each while requests go on
        return Api(connect(self.context, self.kubeconfig, connections=24))


def cluster_options(function: F) -> F:
    """`--context`, `--kubeconfig` and `--output`, as one argument `reach`."""

    @click.option("--context", metavar="NAME", help="Context of the kubeconfig; its current one if absent.")
    @click.option("--kubeconfig", metavar="FILE", help="The kubeconfig, where it is not the usual one.")
    @click.option(
        "--output",
        type=click.Choice(("text", "json")),
        default="text",
        help="text, or json: one object a line for each thing that happens (docs/json.md).",
    )
    @functools.wraps(function)
    def gather(*, context: str | None, kubeconfig: str | None, output: str, **given: Any) -> Any:
        return function(
            reach=Reach(context=context, kubeconfig=kubeconfig, as_json=output == "json"), **given
        )

    return cast(F, gather)


def namespace_option(function: F) -> F:
    """`--namespace`, with the default of `selfhost render`."""
    return click.option(
        "-n", "--namespace", default=DEFAULT_NAMESPACE, show_default=True, metavar="NAME",
        help="Namespace of the deployment.",
    )(function)  # fmt: skip


def where(namespace: str) -> str:
    """` -n NAMESPACE` where it is not the usual one, for commands that are printed."""
    return "" if namespace == DEFAULT_NAMESPACE else f" -n {namespace}"


def timeout_option(help_text: str) -> Callable[[F], F]:
    """`--timeout`, in seconds or as 20m; None where it is not given."""
    return click.option("--timeout", type=_Duration(), metavar="TIME", help=help_text)


def yes_option(function: F) -> F:
    """`--yes`, for scripts."""
    return click.option("-y", "--yes", is_flag=True, help="Do not ask; needed where there is no terminal.")(
        function
    )


class _Duration(click.ParamType):  # type: ignore[type-arg]
    """Seconds, or a number with s, m or h."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        text = str(value).strip()
        unit = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:])
        number = text[:-1] if unit else text
        try:
            seconds = float(number) * (unit or 1.0)
        except ValueError:
            self.fail(f"{value!r} is no time; write 90, 90s, 20m or 1h.", param, ctx)
        if not 0 < seconds <= 7 * 86400:  # Ours: a week is longer than anybody waits
            self.fail(f"{value!r} is not between a second and a week.", param, ctx)
        return seconds


class Printer:
    """Prints events as they come: labelled lines for people, one object a line for programs."""

    def __init__(self, *, as_json: bool, clock: Callable[[], float] = time.time) -> None:
        self._as_json = as_json
        self._clock = clock
        self._looked: list[Event] = []
        self._last = ""
        self._open = False

    def __call__(self, event: Event) -> None:
        """One event."""
        if self._as_json:
            self._object(event)
        elif event.type == "preflight":
            self._looked.append(event)
        else:
            self.flush()
            self._text(event)

    def flush(self) -> None:
        """What was held back, as the findings of the preflight are shown together."""
        if self._looked:
            _show_preflight(self._looked)
            self._looked = []
        self._close()

    def line(self, label: str, text: str) -> None:
        """A labelled line, folded to the width."""
        self._close()
        labelled(label if label != self._last else "", text)
        self._last = label

    def _object(self, event: Event) -> None:
        import json

        from selfhost.deploy.revisions import stamp

        facts = {
            "schema": EVENT_SCHEMA,
            "time": stamp(self._clock()),
            "type": event.type,
            "message": event.message,
        }
        click.echo(json.dumps(facts | dict(event.facts), allow_nan=False))

    def _text(self, event: Event) -> None:
        label = _LABELS[event.type]
        if event.type == "progress" and sys.stdout is not None and sys.stdout.isatty():
            from selfhost.cli._output import width

            shown = f"{label:<{_WIDEST}}{event.message}"
            click.echo(f"\r\x1b[K{shown[: width() - 1]}", nl=False)
            self._open, self._last = True, label
            return
        if event.type == "apply":
            return  # the preview named them; a failure names where it stopped
        self.line(label, event.message)
        if event.type == "failed":
            _show_failure(event)

    def _close(self) -> None:
        if self._open:
            click.echo()
            self._open = False


def labelled(label: str, text: str) -> None:
    """`Label      text`, the text folded beside it."""
    from selfhost.cli._output import folded, width

    plain = "".join(
        one if one.isprintable() else "?" for one in text
    )  # annotations and logs may hold anything
    lines = folded(plain, width() - _WIDEST) or [""]
    click.echo(f"{label:<{_WIDEST}}{lines[0]}".rstrip())
    for line in lines[1:]:
        click.echo(f"{'':<{_WIDEST}}{line}")


def _show_failure(event: Event) -> None:
    evidence = event.facts.get("evidence")
    for line in evidence if isinstance(evidence, list) else ():
        labelled("", f"| {line}")
    hint = event.facts.get("hint")
    if isinstance(hint, str) and hint:
        labelled("Next", hint)


def _show_preflight(events: list[Event]) -> None:
    fine = [event for event in events if event.facts.get("level") == "ok"]
    if fine:
        labelled("Preflight", " · ".join(event.message.rstrip(".") for event in fine))
    for event in events:
        level = str(event.facts.get("level"))
        if level != "ok":
            labelled(_MARKS.get(level, level), event.message)
            hint = event.facts.get("hint")
            if isinstance(hint, str) and hint:
                labelled("", f"-> {hint}")


def confirmed(
    printer: Printer, *, yes: bool, as_json: bool, question: str = "apply?"
) -> Callable[[Desired, Preview], bool]:
    """What asks before anything is changed.

    Raises:
        UsageError: nobody is there to answer.
    """

    def ask(wanted: Desired, preview: Preview) -> bool:
        printer.flush()
        if not as_json:
            from selfhost.cli._deploy_preview import show

            show(wanted, preview)
        return yes or agreed(question, as_json=as_json)

    return ask


def agreed(question: str, *, as_json: bool) -> bool:
    """Ask on the terminal; no answer is no.

    Raises:
        UsageError: there is no terminal.
    """
    if as_json or sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(
            "Nobody is there to answer: nothing was changed.", hint="--yes goes on without asking."
        )
    return click.confirm(question, default=False)


@contextmanager
def interruptible(printer: Printer, next_command: str) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the command in order, and say what goes on from there."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        printer.flush()
        click.echo(f"The state is on the cluster: {next_command}", err=True)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def code_of_findings(findings: tuple[Finding, ...]) -> int:
    """Exit code of a preflight: 4 where GPUs are missing, 5 for anything else that is wrong, else 0."""
    wrong = [finding for finding in findings if finding.level == "error"]
    if any(finding.code == "gpus" for finding in wrong):
        return DOES_NOT_FIT
    return NOT_HEALTHY if wrong else 0


def code_of(result: Result) -> int:
    """Exit code of what came of a deployment."""
    if result.ended == "refused":
        return code_of_findings(result.findings)
    return {"failed": NOT_HEALTHY, "rolled-back": NOT_HEALTHY, "superseded": 1}.get(result.ended, 0)

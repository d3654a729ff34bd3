"""Answers of `selfhost advise`: from a file, from options, asked one by one, and written down."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from selfhost.cli._output import say
from selfhost.errors import OutputError, UsageError

if TYPE_CHECKING:
    from selfhost.advise import Answers, Language

_LARGEST_BYTES = (
    1 << 18
)  # of an answers file, as bad input rather than answers; a written advice has a tenth of it


def read(file: str | None, given: tuple[str, ...]) -> Answers:
    """Answers from a file and from `--set`, which counts more.

    Raises:
        UsageError: the file is not readable, is no YAML, TOML or JSON object, or answers what is not asked.
    """
    from selfhost.advise import parse_answers

    answers = parse_answers({} if file is None else _load(file))
    pairs: dict[str, object] = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals:
            raise UsageError(f"--set takes KEY=VALUE, not {one[:60]!r}.", hint="such as --set privacy=yes")
        if key in pairs:
            raise UsageError(f"--set {key} stands twice.", hint="Keep one of them.")
        pairs[key] = value
    own = parse_answers(pairs)
    told, before = own.values.get("currency"), answers.values.get("currency")
    if told is not None and before not in (None, told) and not pairs.keys() & {"currency"}:
        raise UsageError(
            f"An amount of --set is in {told}, and the amounts of the file in {before}.",
            hint="Give all amounts in one currency.",
        )
    values = {key: value for key, value in answers.values.items() if key not in own.unknown}
    unknown = (answers.unknown - own.values.keys()) | own.unknown
    return type(answers)(values={**values, **own.values}, unknown=unknown)


def _load(file: str) -> dict[str, Any]:
    name = "the standard input" if file == "-" else file
    try:
        raw = _stdin() if file == "-" else _bytes_of(Path(file))
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(
            f"{name} cannot be read: {error.strerror}.", hint="--template prints one to fill in."
        ) from None
    except UnicodeDecodeError:
        raise UsageError(f"{name} is not UTF-8 text.", hint="Save it as UTF-8.") from None
    if len(raw) > _LARGEST_BYTES:
        raise UsageError(
            f"{name} is larger than an answers file can be.", hint="--template prints one to fill in."
        )
    data = _parsed(text, file, name)
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UsageError(
            f"{name} holds no answers.", hint="One line is `key: value`; --template prints them all."
        )
    inner, said = data.get("answers"), str(data.get("schema", ""))
    if said.startswith("selfhost/") and said != "selfhost/advice/v1":
        raise UsageError(
            f"{name} is a {said[:60]}, not answers.", hint="--template prints a file to fill in."
        )
    if isinstance(inner, dict) and said:
        return inner  # an advice that was written down
    return inner if isinstance(inner, dict) and set(data) <= {"answers", "schema"} else data


def _stdin() -> bytes:
    if sys.stdin is None:
        raise OSError(errno.EBADF, "it is closed")
    return sys.stdin.buffer.read(_LARGEST_BYTES + 1)


def _bytes_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_LARGEST_BYTES + 1)


def _parsed(text: str, file: str, name: str) -> object:
    """TOML by the file's name, and from the standard input where it is not YAML; else YAML, of which JSON is a part."""
    import tomllib

    import yaml

    if file.endswith(".toml"):
        try:
            return tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"{name} is not TOML: {_failed(error)}.", hint="--template prints one in YAML."
            ) from None
    try:
        data = yaml.load(text, Loader=_strict(yaml))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        failed = _failed(error)
    else:
        if isinstance(data, dict) or data is None or file != "-":
            return data
        failed = "it holds no keys"
    if file == "-":
        try:
            return tomllib.loads(text)
        except (ValueError, RecursionError):
            pass
    mark = getattr(locals().get("error"), "problem_mark", None)
    where = f" (line {mark.line + 1})" if mark is not None else ""
    raise UsageError(f"{name} is not YAML{where}: {failed}.", hint="--template prints one to fill in.")


def _failed(error: Exception) -> str:
    """What is wrong with a file, in a few words."""
    if isinstance(error, RecursionError):
        return "it nests too deep"
    return str(getattr(error, "problem", None) or error).splitlines()[0][:160]


def _strict(yaml: Any) -> Any:
    """A safe loader that refuses a key which stands twice, and references, whose text can be without end."""

    class Strict(yaml.SafeLoader):  # type: ignore[misc]  # yaml is imported where it is needed
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                event = self.peek_event()
                raise yaml.composer.ComposerError(
                    None, None, f"*{event.anchor} refers to another answer", event.start_mark
                )
            return super().compose_node(parent, index)

    def mapping(loader: Any, node: Any, deep: bool = False) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node, deep=True)
            if isinstance(key, (dict, list)) or key in found:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} stands twice", key_node.start_mark
                )
            found[key] = loader.construct_object(value_node, deep=True)
        return found

    def as_written(loader: Any, node: Any) -> str:
        return str(loader.construct_scalar(node))

    Strict.add_constructor("tag:yaml.org,2002:map", mapping)
    # YAML 1.1 reads 010 as 8, 1:30 as 90 and 2026-01-01 as a day; figures are read where a question asks for one.
    for kind in ("int", "float", "timestamp"):
        Strict.add_constructor(f"tag:yaml.org,2002:{kind}", as_written)
    return Strict


def ask(language: Language) -> Answers:
    """Ask the questions whose answer can still matter, one by one; the end of the input leaves the rest unknown."""
    from selfhost.advise.ask import asked_back, next_question
    from selfhost.advise.tables import word
    from selfhost.advise.types import Answers

    answers, skipped = Answers(), frozenset[str]()
    click.echo(word("ask-intro", language), err=True)
    while (one := next_question(answers, skipped)) is not None:
        value = _asked(one, language)
        skipped |= {one.key}
        if value is not None and value is not _END:
            answers = answers.having(one.key, value)
            if (again := asked_back(one.key, answers)) is not None:
                value = _asked(again, language, word("ask-back", language))
                if value is not None and value is not _END:
                    answers = answers.having(one.key, value)
        if value is _END:
            break
    click.echo("", err=True)
    return answers


_END: Any = object()


def _asked(one: Any, language: Language, lead: str | None = None) -> Any:
    """Show a question, and take its answer; a lead comes before it where it is asked back."""
    from selfhost.advise.tables import word
    from selfhost.cli._advice_output import wrapped
    from selfhost.cli._output import width

    click.echo("", err=True)
    for line in wrapped(f"{lead or ''}{one.ask[language]}", width()):
        click.echo(line, err=True)
    for line in wrapped(word("ask-why", language).format(why=one.why[language]), width() - 2):
        click.echo(f"  {line}", err=True)
    for number, choice in enumerate(one.choices, start=1):
        click.echo(f"  {number}  {choice.text[language]}", err=True)
    return _answer(one, language)


def _answer(one: Any, language: Language) -> Any:
    """One answer, asked again until it is one; None for unknown, `_END` where the input ends."""
    from selfhost.advise import parse_value
    from selfhost.advise.tables import unit, word

    taken = {choice.value for choice in one.choices}
    named = unit(one, language)
    prompt = f"{word('ask-choice', language)}{f' ({named})' if named else ''}: "
    while True:
        click.echo(prompt, nl=False, err=True)
        line = sys.stdin.readline() if sys.stdin is not None else ""  # None where it is closed
        if not line:
            return _END
        text = line.strip()
        if text.isdecimal() and one.choices and 1 <= int(text[:3]) <= len(one.choices):
            text = one.choices[int(text[:3]) - 1].value
        try:
            value = parse_value(one.key, text)
        except UsageError:
            value = _END
        if value is None or (value is not _END and (one.kind != "choice" or value in taken)):
            return value
        kind = one.kind if one.kind in ("choice", "number") else "text"
        again = word(f"ask-again-{kind}", language).format(text=text[:60], most=len(one.choices))
        click.echo(again, err=True)


def saved(answers: Answers, path: Path) -> None:
    """Write answers as a file that `--answers` reads.

    Raises:
        OutputError: the file cannot be written.
    """
    import yaml

    values = {
        key: list(value) if isinstance(value, tuple) else value for key, value in answers.values.items()
    }
    values |= dict.fromkeys(sorted(answers.unknown), "unknown")
    try:
        path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from None
    say(f"Answers: {path}") if sys.stdout.isatty() else None

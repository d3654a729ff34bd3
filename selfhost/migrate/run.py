"""Texts and command lines to a migration: find the servers and queries, migrate each, write the texts anew."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from selfhost.engines import EngineVersion, parse_engine
from selfhost.errors import SelfhostError, UsageError
from selfhost.hush import hushed
from selfhost.lint.edits import apply_edits
from selfhost.lint.files import Text
from selfhost.lint.model import Container, Query, Skipped
from selfhost.lint.nodes import Map, text_of
from selfhost.lint.read import Document, read
from selfhost.lint.run import read_lot
from selfhost.lint.types import Edit
from selfhost.migrate.assemble import Assembled, assemble
from selfhost.migrate.edit import container_edits, service_edits
from selfhost.migrate.given import Given, compose_words, of_compose, of_lot, of_script, of_words
from selfhost.migrate.queries import Rewritten, metric_changes, rewrite
from selfhost.migrate.table import ENGINES, table
from selfhost.migrate.types import Change, Migration, Unmatched
from selfhost.plan import SCHEMA, Plan, from_json

NOTHING = "Give a command line of text-generation-launcher, YAML, alerts, a dashboard or a plan for TGI."


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """A migration and the texts afterwards.

    Args:
        migration: what is said.
        texts: of the files, edited where that was safe.
        left: places that `texts` leaves as they were: each with why.
    """

    migration: Migration
    texts: tuple[Text, ...] = ()
    left: tuple[Unmatched, ...] = ()


@dataclass(slots=True)
class _Work:
    version: EngineVersion
    made: list[Assembled] = field(default_factory=list)
    queries: list[Change] = field(default_factory=list)
    unmatched: list[Unmatched] = field(default_factory=list)
    left: list[Unmatched] = field(default_factory=list)
    named: list[str] = field(default_factory=list)
    plans: list[str] = field(default_factory=list)
    edits: dict[str, list[Edit]] = field(default_factory=dict)


def target(text: str) -> EngineVersion:
    """Read `vllm`, `sglang`, or one of them with a release.

    Raises:
        UsageError: another engine, or a release that is not known.
    """
    if text.partition("@")[0] not in ENGINES:
        raise UsageError(
            f"--to {text}: TGI is migrated to vLLM or SGLang.", hint="Write --to vllm or --to sglang."
        )
    return parse_engine(text)


def migrate(texts: Iterable[Text], version: EngineVersion, words: Sequence[str] = ()) -> Migrated:
    """Migrate everything that was given.

    Args:
        texts: files.
        version: the new engine.
        words: a command line, instead of files.

    Raises:
        SelfhostError: nothing of TGI is in it, or a text is neither YAML nor a command line.
    """
    texts = tuple(texts)
    work = _Work(version=version)
    if words:
        found = of_words(words)
        if found is None:
            raise UsageError("The words start no text-generation-launcher.", hint=NOTHING)
        work.made.append(assemble(found, version))
    yaml = [text for text in texts if not _other(text, work)]
    skipped = _yaml(yaml, work)
    if not (work.made or work.queries or work.plans):
        hint = f"The file {skipped[0].file} is {skipped[0].why}." if skipped else NOTHING
        raise SelfhostError("There is nothing of TGI in it.", hint=hint)
    return Migrated(
        migration=hushed(_migration(work)),
        texts=tuple(_edited(text, work) for text in texts),
        left=hushed(tuple(work.left)),
    )


def _other(text: Text, work: _Work) -> bool:
    """The text is a plan or a script, which is taken."""
    plan = _plan(text)
    if plan is not None:
        work.plans.append(plan_line(plan, work.version))
        return True
    found = list(_script(text))
    work.made += [assemble(each, work.version) for each in found]
    if found:
        work.left.append(
            Unmatched(
                what=text.name,
                because="it is a script",
                instead="write the new command line by hand",
                where=text.name,
            )
        )
    return bool(found)


def _plan(text: Text) -> Plan | None:
    if not text.content.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(text.content)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict) and str(found.get("schema", "")).startswith(SCHEMA.rpartition("/")[0]):
        return from_json(text.content)
    return None


def plan_line(plan: Plan, version: EngineVersion) -> str:
    """The command that plans the same load for the new engine.

    Raises:
        UsageError: the plan is for another engine than TGI.
    """
    if plan.engine.name != "tgi":
        raise UsageError(
            f"The plan is for {plan.engine.name}, not for TGI.",
            hint="selfhost plan --engine plans for another.",
        )
    load, words = plan.workload, ["selfhost", "plan", plan.model.id]
    words += ["--engine", str(version), "--gpu", plan.gpu.id, "--tp", str(plan.split.tensor)]
    if load.max_model_len is not None:
        words += ["--context", str(load.max_model_len)]
    words += ["--concurrency", str(load.concurrency)]
    if load.quantization is not None:
        words += ["--quant", load.quantization]
    if load.kv_dtype != "auto":
        words += ["--kv-dtype", load.kv_dtype]
    return " ".join(words)


def _script(text: Text) -> Iterable[Given]:
    if "text-generation" not in text.content:
        return ()
    documents, broken = read(text.name, text.content)
    if not broken and any(isinstance(document.body, Map) for document in documents):
        return ()
    return of_script(text.content, text.name)


def _yaml(texts: list[Text], work: _Work) -> tuple[Skipped, ...]:
    lot, skipped, unread = read_lot(texts)
    if unread:
        first = unread[0]
        raise SelfhostError(f"{first.file}:{first.line}: {first.message}.", hint=NOTHING)
    lines = {text.name: text.content.splitlines() for text in texts}
    for given in of_lot(lot):
        made = assemble(given, work.version)
        work.made.append(made)
        file = given.container.where.file if given.container is not None else ""
        edited = _write(made, file, lines, work)
        for service in lot.of_kind("Service") if edited else ():
            work.edits.setdefault(service.where.file, []).extend(service_edits(service, made))
    for text in texts:
        for document in _compose(text):
            for given in of_compose(document, text.name):
                made = assemble(given, work.version)
                work.made.append(made)
                _write(made, text.name, lines, work)
    for query in lot.queries:
        _query(query, lines, work)
    return skipped


def _compose(text: Text) -> list[Map]:
    documents: list[Document] = read(text.name, text.content)[0]
    bodies = [document.body for document in documents]
    return [body for body in bodies if isinstance(body, Map) and body.map("services") and "kind" not in body]


def _write(made: Assembled, file: str, lines: dict[str, list[str]], work: _Work) -> bool:
    edits = container_edits(made, work.version, lines[file])
    if edits is None:
        work.left.append(
            Unmatched(
                what=made.given.where,
                because="its command is not of the plain form that is edited line by line",
                instead="write it by hand from what is printed",
                where=made.given.at,
            )
        )
    else:
        work.edits.setdefault(file, []).extend(edits)
    return edits is not None


def _query(query: Query, lines: dict[str, list[str]], work: _Work) -> None:
    found = rewrite(query.text, work.version)
    if found is None:
        return
    where = f"{query.where.file}:{query.where.line}"
    work.named += found.metrics
    work.queries.append(Change(old=query.text, new=found.text, because=found.because, where=where))
    if found.text is None:
        work.unmatched.append(
            Unmatched(what=query.text, because=found.because, instead=found.instead, where=where)
        )
        return
    edits = list(_renames(query, found, lines[query.where.file]))
    if edits:
        work.edits.setdefault(query.where.file, []).extend(edits)
    else:
        work.left.append(
            Unmatched(
                what=query.text,
                because="its text stands otherwise in the file",
                instead="write it by hand",
                where=where,
            )
        )


def _renames(query: Query, found: Rewritten, lines: list[str]) -> Iterable[Edit]:
    """The names where they stand, on the lines of the query."""
    last = query.span.end_line if query.span is not None else query.where.line + query.text.count("\n") + 1
    for number in range(query.where.line, min(last, len(lines)) + 1):
        line, taken = lines[number - 1], list[tuple[int, int]]()
        for old, new in found.renamed:
            for spelled in (old, json.dumps(old)[1:-1]):
                at = line.find(spelled)
                while at >= 0:
                    end = at + len(spelled)
                    free = all(end <= start or at >= stop for start, stop in taken)
                    if free and _whole(line, at, end):
                        taken.append((at, end))
                        yield Edit(line=number, column=at, end_line=number, end_column=end, text=new)
                    at = line.find(spelled, end)


def _whole(line: str, start: int, end: int) -> bool:
    around = (line[start - 1] if start else " ") + (line[end] if end < len(line) else " ")
    return not any(char.isalnum() or char in "_:" for char in around)


def _edited(text: Text, work: _Work) -> Text:
    """The text with its edits, if they leave what was meant."""
    edits = work.edits.get(text.name)
    if not edits:
        return text
    content, written = apply_edits(text.content, edits)
    after = Text(name=text.name, content=content, path=text.path)
    if written and _meant(text, after, work):
        return after
    work.left.append(
        Unmatched(
            what="the file",
            because="edited line by line it would not say what was meant",
            where=text.name,
            instead="write it by hand from what is printed",
        )
    )
    return text


def _meant(before: Text, after: Text, work: _Work) -> bool:
    """The edited text has as many documents, no query of the old names, and the new servers with their arguments."""
    old, new = read(before.name, before.content), read(after.name, after.content)
    if new[1] or len(new[0]) != len(old[0]):
        return False
    skipped = {lost.where for lost in work.left}
    wanted = [
        (made.given.where, sorted(made.server.args))
        for made in work.made
        if made.server is not None and made.given.at.rpartition(":")[0] == before.name
        and made.given.at not in skipped
    ]  # fmt: skip
    lot = read_lot([after])[0]
    there = [
        (f"{container.where.object or pod.owner.kind} {container.name}".strip(), _arguments(container))
        for pod in lot.pods
        for container in pod.containers
    ]
    there += [
        (f"service {name}", _arguments_of(service))
        for document in _compose(after)
        for name, service in document.map("services").items()
        if isinstance(service, Map)
    ]
    return all(each in there for each in wanted)


def _arguments(container: Container) -> list[str]:
    return sorted(text_of(word) or "" for word in container.body.seq("args"))


def _arguments_of(service: Map) -> list[str]:
    words = [word.text for word in compose_words(service)]
    start = 3 if words[:1] == ["python3"] else 0
    return sorted(words[start:])


def _migration(work: _Work) -> Migration:
    version = work.version
    wanted = tuple(dict.fromkeys(work.named))
    metrics: list[Change] = []
    if work.made or wanted:
        metrics, _ = metric_changes(() if work.made else wanted, version)
    endpoints = [
        Change(old=name, new=outcome.to, because=outcome.because or outcome.instead or "")
        for name, row in table().endpoints.items()
        for outcome in (row.outcomes[version.engine],)
    ]
    return Migration(
        to=str(version),
        servers=tuple(made.server for made in work.made if made.server is not None),
        arguments=tuple(change for made in work.made for change in made.arguments),
        environment=tuple(change for made in work.made for change in made.environment),
        serving=tuple(change for made in work.made for change in made.serving),
        metrics=tuple(metrics),
        queries=tuple(work.queries),
        endpoints=tuple(endpoints) if work.made else (),
        unmatched=(*(lost for made in work.made for lost in made.unmatched), *work.unmatched),
        plan=tuple(work.plans),
    )

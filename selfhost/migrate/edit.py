"""A server's migration written into its YAML line by line: comments and everything that is not TGI's stay.

A container whose arguments are a shell script or refer to aliases is left as it is, and the caller says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from selfhost.engines import EngineVersion, get_engine
from selfhost.lint.edits import replace_value, set_key
from selfhost.lint.model import Object, Word
from selfhost.lint.nodes import Map, Seq, Span, Value
from selfhost.lint.types import Edit
from selfhost.migrate.assemble import Assembled, Piece
from selfhost.migrate.given import LAUNCHER
from selfhost.migrate.shell import needs_entry

_PLAIN = re.compile(r"[A-Za-z/.][A-Za-z0-9/._-]*")
_WORDS = frozenset(("true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan", "inf"))


def scalar(text: str) -> str:
    """A string as YAML that is read as that string."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS and not text.startswith("."):
        return text
    return json.dumps(text, ensure_ascii=False)


def container_edits(made: Assembled, version: EngineVersion, lines: list[str]) -> tuple[Edit, ...] | None:
    """Edits of one container or service, None where it is not of a form that can be edited.

    Args:
        made: its migration.
        version: the new engine.
        lines: of the file.
    """
    given = made.given
    body = given.container.body if given.container is not None else given.service
    if body is None or body.flow or made.server is None:
        return None
    if given.container is not None and not given.container.complete:
        return None
    key = "args" if given.kind == "pod" else "command"
    args = _args(made, body, key, version, lines)
    env = _environment(made, body, lines)
    if args is None or env is None:
        return None
    edits = [*replace_value(body.values_at.get("image"), scalar(made.server.image)), *args, *env]
    if made.given.kind == "pod":
        edits += _around(made, version, body)
    return tuple(edits)


def _item(word: str, indent: int, because: str = "") -> str:
    return f"{' ' * indent}- {scalar(word)}" + (f"  # {because}" if because else "") + "\n"


def _block(pieces: list[Piece], indent: int, kept: str = "") -> str:
    return "".join(
        _item(word, indent, (kept or piece.because) if index == 0 else "")
        for piece in pieces
        for index, word in enumerate(piece.words)
    )


def _whole_lines(first: int, after: int, text: str) -> Edit:
    return Edit(line=first, column=0, end_line=after, end_column=0, text=text)


def _args(
    made: Assembled, body: Map, key: str, version: EngineVersion, lines: list[str]
) -> list[Edit] | None:
    given, added = made.given, [piece for piece in made.pieces if not _by_flag(piece)]
    entry = _command(made, body, key, version)
    if entry is None:
        return None
    found = body.get(key)
    words = given.words
    in_command = isinstance(found, Seq) and any(
        word.span is not None and word.span in found.spans for word in words
    )
    if words and not in_command:
        return None  # they stand in `command`, or in one string
    if not isinstance(found, Seq) or not found:
        if found is not None and key in body:
            return None
        return [*entry, *_new_list(body, key, made.pieces, version)]
    if found.flow:
        if found.span.end_line != found.span.line and found.span.column == 0:
            return None
        every = [word for piece in made.pieces for word in piece.words]
        if given.kind == "compose" and needs_entry(made.server.command if made.server else ()):
            every = [*(made.server.command if made.server else ()), *every]
        text = "[" + ", ".join(json.dumps(word, ensure_ascii=False) for word in every) + "]"
        span = found.span
        return [
            *entry,
            Edit(
                line=span.line,
                column=span.column,
                end_line=span.end_line,
                end_column=span.end_column,
                text=text,
            ),
        ]
    return _block_list(made, found, entry, added, lines)


def _block_list(
    made: Assembled, found: Seq, entry: list[Edit], added: list[Piece], lines: list[str]
) -> list[Edit] | None:
    spans, words, indent = found.spans, made.given.words, found.span.column
    if len({span.line for span in spans}) != len(spans) or any(span.end_line != span.line for span in spans):
        return None
    edits = list(entry)
    ordered = sorted(
        (piece for piece in made.pieces if _by_flag(piece)),
        key=lambda piece: piece.setting.words if piece.setting and piece.setting.words else (0, 0),
    )
    model = next((piece for piece in made.pieces if _leads(piece) and piece.words), None)
    start_words = made.server.command if made.server is not None and made.given.kind == "compose" else ()
    head = "".join(_item(word, indent) for word in start_words if needs_entry(start_words))
    if model is not None:  # it comes first in the new command line, wherever it stood
        head += _block([model], indent, _comments(_spans(model, words), lines))
    edits.append(Edit(line=spans[0].line, column=0, end_line=spans[0].line, end_column=0, text=head))
    taken: set[int] = set()
    for piece in ordered:
        own = _spans(piece, words)
        if None in own:
            return None
        kept = _comments(own, lines)
        for index, span in enumerate(span for span in own if span is not None):
            if span.line not in taken:
                taken.add(span.line)
                text = _block([piece], indent, kept) if index == 0 and piece is not model else ""
                edits.append(_whole_lines(span.line, span.line + 1, text))
    rest = [piece for piece in added if not _leads(piece)]
    last = spans[-1].line + 1
    tail = _block(rest, indent)
    if tail:
        edits.append(Edit(line=last, column=0, end_line=last, end_column=0, text=tail))
    edits += [
        _whole_lines(span.line, span.line + 1, "")
        for index, span in enumerate(spans)
        if str(found[index]).rpartition("/")[2] == LAUNCHER
    ]
    return edits


def _spans(piece: Piece, words: tuple[Word, ...]) -> list[Span | None]:
    """Where the words of a setting stand."""
    start, end = piece.setting.words if piece.setting and piece.setting.words else (0, -1)
    return [words[at].span for at in range(start, end + 1)]


def _comments(spans: list[Span | None], lines: list[str]) -> str:
    """What people wrote behind items; it stands in the place of the reason."""
    behind = [lines[span.line - 1][span.end_column :].strip() for span in spans if span is not None]
    return ", ".join(dict.fromkeys(text.lstrip("# ") for text in behind if text.startswith("#")))


def _by_flag(piece: Piece) -> bool:
    return piece.setting is not None and piece.setting.words is not None


def _leads(piece: Piece) -> bool:
    return piece.setting is not None and piece.setting.row.name == "MODEL_ID"


def _command(made: Assembled, body: Map, key: str, version: EngineVersion) -> list[Edit] | None:
    """`command` (Compose: `entrypoint`): what starts the engine, where the image's entry point does not."""
    name = "command" if key == "args" else "entrypoint"
    command = get_engine(version.engine).command(version)
    wanted = needs_entry(command)
    if name not in body:
        if not wanted or key == "command":
            return []
        return [_before(body, key, f"command: {json.dumps(list(command))}")]
    found, span = body.get(name), body.values_at[name]
    program = [str(word) for word in found] if isinstance(found, Seq) else [str(found)]
    if (
        not program
        or program[0].rpartition("/")[2] not in (LAUNCHER, "tgi-entrypoint.sh")
        or len(program) > 1
    ):
        return None
    text = json.dumps(list(command))
    if isinstance(found, Seq) and not found.flow:
        first = found.spans[0]
        indent = " " * found.span.column
        written = f"\n{indent}".join(f"- {scalar(word)}" for word in command)
        return [
            Edit(
                line=first.line, column=found.span.column, end_line=first.end_line, end_column=first.end_column,
                text=written,
            )
        ]  # fmt: skip
    return list(replace_value(span, text))


def _before(body: Map, key: str, text: str) -> Edit:
    """A line before a key, or before `image` where the key is not there."""
    at = body.keys_at.get(key) or body.keys_at.get("image") or min(body.keys_at.values())
    indent = " " * at.column
    return Edit(
        line=at.line, column=at.column, end_line=at.line, end_column=at.column, text=f"{text}\n{indent}"
    )


def _new_list(body: Map, key: str, pieces: list[Piece], version: EngineVersion) -> list[Edit]:
    at = body.keys_at.get("image") or min(body.keys_at.values())
    leading = "" if key == "args" else "".join(
        _item(word, at.column + 2)
        for word in (get_engine(version.engine).command(version))
        if needs_entry(get_engine(version.engine).command(version))
    )  # fmt: skip
    ordered = [*(p for p in pieces if _leads(p)), *(p for p in pieces if not _leads(p))]
    text = f"{key}:\n{leading}{_block(ordered, at.column + 2)}"
    return [
        Edit(
            line=at.line, column=at.column, end_line=at.line, end_column=at.column,
            text=text + " " * at.column,
        )
    ]  # fmt: skip


def _environment(made: Assembled, body: Map, lines: list[str]) -> list[Edit] | None:
    key = "env" if made.given.kind == "pod" else "environment"
    found = body.get(key)
    by_variable = {
        piece.setting.name: piece
        for piece in made.pieces
        if piece.setting is not None and not piece.setting.flag and not piece.keep
    }
    stay = {piece.setting.name for piece in made.pieces if piece.keep and piece.setting is not None}
    present = {name for name, *_ in _entries(found)} if isinstance(found, Map | Seq) else set()
    added = [
        (piece, name, value if piece.setting is None or piece.setting.flag else f"$({piece.setting.name})")
        for piece in made.pieces
        if piece.setting is None or piece.setting.flag or piece.setting.name not in present  # of a ConfigMap
        for name, value in piece.env
        if piece.setting is None or name != piece.setting.name
    ]
    if found is None:
        at = body.keys_at.get("image") or min(body.keys_at.values())
        if not added:
            return []
        entries = "".join(_entry(made, name, value, at.column + 2, piece) for piece, name, value in added)
        return [
            Edit(
                line=at.line, column=at.column, end_line=at.line, end_column=at.column,
                text=f"{key}:\n{entries}{' ' * at.column}",
            )
        ]  # fmt: skip
    if not isinstance(found, Map | Seq) or found.flow or not found:
        return None
    edits: list[Edit] = []
    indent = found.span.column
    places = list(_entries(found))
    left = 0
    for name, first, after, name_span in places:
        piece = by_variable.get(name)
        if piece is None or name in stay:
            left += 1
            continue
        if piece.env:
            left += 1
            edits += _renamed(piece, name, name_span, lines)
            continue
        edits.append(_whole_lines(first, after, ""))
    end = places[-1][2]
    text = "".join(
        _entry(made, name, value, indent, piece, list_form=isinstance(found, Seq))
        for piece, name, value in added
    )
    if not left and not text:
        line = body.keys_at[key].line
        if min(body.keys_at.values()).line == line:
            return None
        edits.append(_whole_lines(line, line + 1, ""))
    elif text:
        edits.append(Edit(line=end, column=0, end_line=end, end_column=0, text=text))
    return edits


def _renamed(piece: Piece, name: str, span: Span, lines: list[str]) -> Iterator[Edit]:
    """The variable's new name, and its new value where it has another."""
    (new, value), line = piece.env[0], lines[span.line - 1]
    start = line.find(name, span.column)
    if start < 0:
        return
    yield Edit(line=span.line, column=start, end_line=span.line, end_column=start + len(name), text=new)
    old = piece.setting.value if piece.setting is not None else None
    if value is not None and value != old and old is not None:
        for number in (span.line, span.line + 1):
            at = lines[number - 1].rfind(old) if number <= len(lines) else -1
            if at > start or (number > span.line and at >= 0):
                quoted = lines[number - 1][max(0, at - 1)] in "\"'"
                text = value if quoted else scalar(value)
                yield Edit(line=number, column=at, end_line=number, end_column=at + len(old), text=text)
                return


def _entry(
    made: Assembled, name: str, value: str | None, indent: int, piece: Piece, *, list_form: bool = True
) -> str:
    space = " " * indent
    comment = f"  # {piece.because}" if piece.because else ""
    if made.given.kind == "compose":
        if list_form:
            return f"{space}- {scalar(name if value is None else f'{name}={value}')}{comment}\n"
        return f"{space}{name}:{'' if value is None else ' ' + json.dumps(value)}{comment}\n"
    if value is None or (
        piece.setting is not None and piece.setting.row.secret and not value.startswith("$(")
    ):
        source = f"{{secretKeyRef: {{name: {secret_name(name)}, key: {name}}}}}"
        return f"{space}- name: {name}{comment}\n{space}  valueFrom: {source}\n"
    return f"{space}- name: {name}{comment}\n{space}  value: {json.dumps(value, ensure_ascii=False)}\n"


def secret_name(variable: str) -> str:
    """Name of the Secret that a key goes into."""
    return variable.lower().replace("_", "-")


def _entries(found: Map | Seq) -> Iterator[tuple[str, int, int, Span]]:
    """Name, first line, line after, and place of the name of each entry."""
    if isinstance(found, Map):
        for name, at in found.keys_at.items():
            yield name, at.line, _last(found[name], found.values_at[name]) + 1, at
        return
    for index, item in enumerate(found):
        span = found.spans[index]
        if isinstance(item, Map):
            named = item.values_at.get("name", span)
            last = max((_last(item[key], item.values_at[key]) for key in item), default=span.line)
            yield item.text("name") or "", span.line, last + 1, named
        else:
            yield str(item).partition("=")[0], span.line, span.end_line + 1, span


def _last(value: Value, span: Span) -> int:
    """Last line of a value; a block's end mark stands after what follows it."""
    if isinstance(value, Map):
        below = [_last(value[key], value.values_at[key]) for key in value]
    elif isinstance(value, Seq):
        below = [_last(item, value.spans[index]) for index, item in enumerate(value)]
    else:
        return span.end_line - (1 if span.end_column == 0 and span.end_line > span.line else 0)
    return span.line if value.flow is False and not below else max(below) if not value.flow else span.end_line


def _around(made: Assembled, version: EngineVersion, body: Map) -> list[Edit]:
    """Ports, probes and the grace period of the pod."""
    edits: list[Edit] = []
    old, new = made.old_port, made.port
    probes = get_engine(version.engine).probes(version)
    for _, port in body.seq("ports").maps():
        if old is not None and new is not None and old != new and port.number("containerPort") == old:
            edits += replace_value(port.values_at["containerPort"], str(new))
    for key in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = body.map(key)
        http = probe.map("httpGet")
        for holder in (http, probe.map("tcpSocket")):
            if old is not None and new is not None and old != new and holder.number("port") == old:
                edits += replace_value(holder.values_at["port"], str(new))
        path = (http.text("path") or "").partition("?")[0]
        wanted = probes.live if key == "livenessProbe" else probes.ready
        if path in ("/", "/health", "/ping", "/info") and path != wanted:
            edits += replace_value(http.values_at["path"], wanted)
    pod, wanted_seconds = made.given.pod, made.grace_seconds
    notes = pod.owner.body.at("spec", "template", "metadata", "annotations") if pod is not None else Map()
    if notes.text("prometheus.io/port") == str(old) and new is not None and old != new:
        edits += replace_value(notes.values_at["prometheus.io/port"], json.dumps(str(new)))
    if pod is not None and wanted_seconds is not None and (pod.grace_seconds or 30) < wanted_seconds:
        edits += (
            () if pod.spec.flow else set_key(pod.spec, "terminationGracePeriodSeconds", str(wanted_seconds))
        )
    return edits


def service_edits(item: Object, made: Assembled) -> list[Edit]:
    """A Service that sends to the old port of this pod."""
    pod, edits = made.given.pod, list[Edit]()
    selector = item.body.map("spec").map("selector")
    chosen = pod is not None and selector and all(pod.labels.text(k) == selector.text(k) for k in selector)
    if not chosen or made.old_port is None or made.port is None or made.old_port == made.port:
        return []
    for _, port in item.body.map("spec").seq("ports").maps():
        if "targetPort" in port:
            if port.number("targetPort") == made.old_port:
                edits += replace_value(port.values_at["targetPort"], str(made.port))
        elif port.number("port") == made.old_port:
            edits += set_key(port, "targetPort", str(made.port))
    return edits

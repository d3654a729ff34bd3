"""Servers of TGI in what was given: a command line, a `docker run`, containers of Kubernetes, services of Compose."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from selfhost.catalog.flags import table as known
from selfhost.hush import is_secret
from selfhost.lint.command import command_line
from selfhost.lint.images import image_engine, image_of
from selfhost.lint.model import Container, Image, Lot, Pod, Word
from selfhost.lint.nodes import Map, Seq, text_of
from selfhost.migrate.table import Row, table

Kind = Literal["pod", "compose", "docker", "line"]
LAUNCHER = "text-generation-launcher"
_RUNNERS = ("docker", "podman", "nerdctl")
_SHORT = {"-p": "--port", "-e": "--env", "-g": "--graceful-termination-timeout"}
# Options of `docker run` without a value (docker run --help, 28.5); every other takes the next word.
_PLAIN = frozenset(
    (
        "-d", "--detach", "-i", "--interactive", "-t", "--tty", "--rm", "--init", "--privileged", "--read-only", "-P",
        "--publish-all", "--no-healthcheck", "--oom-kill-disable", "-q", "--quiet", "--sig-proxy", "--help",
    )
)  # fmt: skip
_MOST_WORDS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting as it was given.

    Args:
        row: of the table.
        value: its value, None where that stands elsewhere (a Secret).
        flag: it came as an option of the command line.
        shown: as it was written, without the value of a secret.
        where: `file:line`.
        words: indexes of its first and last word on the command line; None for a variable.
        name: of the variable.
    """

    row: Row
    value: str | None
    flag: bool
    shown: str
    where: str = ""
    words: tuple[int, int] | None = None
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One server of TGI.

    Args:
        kind: how it is started.
        where: object and container.
        at: `file:line`.
        settings: in order; flags, then variables.
        unknown: words that TGI does not have, and where.
        image: None for a bare command line.
        gpus: accelerators that the container asks for, None where that is not said.
        elsewhere: ConfigMaps, Secrets and files with variables that are not in what was given.
        words: its command line after the launcher.
        options: of `docker run`, up to the image.
        env: names and values of its other variables; None for a value that stands elsewhere.
        pod, container: where it is a container of Kubernetes.
        service: where it is a service of Compose.
    """

    kind: Kind
    where: str
    at: str = ""
    settings: tuple[Setting, ...] = ()
    unknown: tuple[tuple[str, str], ...] = ()
    image: Image | None = None
    gpus: int | None = None
    elsewhere: tuple[str, ...] = ()
    words: tuple[Word, ...] = ()
    options: tuple[str, ...] = ()
    env: tuple[tuple[str, str | None], ...] = ()
    pod: Pod | None = None
    container: Container | None = None
    service: Map | None = None

    def effective(self, name: str) -> Setting | None:
        """The setting that counts: the last flag, else the last variable."""
        found = [each for each in self.settings if each.row.name == name]
        return next(
            (each for each in reversed(found) if each.flag), found[-1] if found else None
        )  # fmt: skip


def flag_settings(words: Sequence[Word], file: str) -> tuple[list[Setting], list[tuple[str, str]]]:
    """Options of the launcher's command line, and words that are none."""
    flags, shapes = table().flags, known("tgi").spellings
    settings: list[Setting] = []
    unknown: list[tuple[str, str]] = []
    at = 0
    while at < len(words):
        first, where = at, _place(file, words[at].line)
        written, joined, value = words[at].text.partition("=")
        name = _SHORT.get(written, written.replace("_", "-"))
        row = flags.get(name)
        if row is None:
            unknown.append((written if written.startswith("-") else "a word", where))
        else:
            shape = shapes[name].shape if name in shapes else "value"
            # The launcher's switches take no value; people write one all the same.
            takes = shape != "switch" or _next(words, at).lower() in ("true", "false")
            if not joined and takes and _next(words, at) and not _next(words, at).startswith("--"):
                at += 1
                value = words[at].text
            elif not joined:
                value = "true" if shape == "switch" else ""
            shown = written if shape == "switch" else f"{written} {'…' if row.secret else value}"
            settings.append(
                Setting(row=row, value=value, flag=True, shown=shown, where=where, words=(first, at))
            )
        at += 1
    return settings, unknown


def _next(words: Sequence[Word], at: int) -> str:
    return words[at + 1].text if at + 1 < len(words) else ""


def _place(file: str, line: int) -> str:
    return f"{file}:{line}" if file else ""


def variable_settings(
    variables: Iterable[tuple[str, str | None, str]],
) -> tuple[list[Setting], list[tuple[str, str | None]]]:
    """Settings among variables (name, value, place), and the other variables."""
    rows = table().settings
    settings: list[Setting] = []
    others: list[tuple[str, str | None]] = []
    for name, value, where in variables:
        row = rows.get(name)
        if row is None or name.startswith("-"):
            others.append((name, value))
            continue
        hidden = value is None or row.secret
        shown = f"{name}={'…' if hidden else value}"
        settings.append(
            Setting(row=row, value=value, flag=False, shown=shown, where=where, name=name)
        )  # fmt: skip
    return settings, others


def of_words(words: Sequence[str], *, line: int = 1, file: str = "") -> Given | None:
    """A command line, from assignments before it to its last word; None where it starts no TGI."""
    words = words[:_MOST_WORDS]
    variables: list[tuple[str, str | None, str]] = []
    at = 0
    while at < len(words):
        name, equals, value = words[at].partition("=")
        if equals and name.isidentifier():
            variables.append((name, value, _place(file, line)))
        elif words[at] not in ("exec", "nohup", "env", "export", "sudo", "command"):
            break
        at += 1
    program = words[at].rpartition("/")[2] if at < len(words) else ""
    rest = words[at + 1 :]
    if program == LAUNCHER:
        return _line(rest, variables, line, file)
    if program in _RUNNERS and rest[:1] in (["run"], ["create"], ("run",), ("create",)):
        start = [word for word in words[: at + 2] if "=" not in word or not is_secret(word.partition("=")[0])]
        return _docker(start, rest[1:], line, file)  # secrets stay in the environment of whoever starts it
    return None


def _line(rest: Sequence[str], variables: list[tuple[str, str | None, str]], line: int, file: str) -> Given:
    words = tuple(Word(text=text, known=True, line=line) for text in rest)
    flags, unknown = flag_settings(words, file)
    settings, others = variable_settings(variables)
    return Given(
        kind="line", where="", at=_place(file, line), settings=(*flags, *settings), unknown=tuple(unknown),
        words=words, env=tuple(others),
    )  # fmt: skip


def _docker(start: Sequence[str], rest: Sequence[str], line: int, file: str) -> Given | None:
    options, variables, elsewhere = list(start), list[tuple[str, str | None, str]](), list[str]()
    gpus: int | None = None
    at = 0
    while at < len(rest) and rest[at].startswith("-"):
        name, equals, value = rest[at].partition("=")
        taken = [rest[at]]
        if name not in _PLAIN and not equals and (name.startswith("--") or len(name) == 2):
            at += 1
            value = rest[at] if at < len(rest) else ""
            taken.append(value)
        elif name.startswith("-e") and len(name) > 2 and not name.startswith("--"):
            name, value = "-e", taken[0][2:]
        if name in ("-e", "--env"):
            variable, has, text = value.partition("=")
            variables.append((variable, text if has else None, _place(file, line)))
        else:
            options += taken
        if name == "--env-file":
            elsewhere.append(f"the file {value}")
        if name == "--gpus" and value.isdigit():
            gpus = int(value)
        at += 1
    image = image_of(rest[at]) if at < len(rest) else None
    if image_engine(image) != "tgi":
        return None
    words = tuple(Word(text=text, known=True, line=line) for text in rest[at + 1 :])
    if words and words[0].text.rpartition("/")[2] == LAUNCHER:
        words = words[1:]
    flags, unknown = flag_settings(words, file)
    settings, others = variable_settings(variables)
    return Given(
        kind="docker", where="", at=_place(file, line), settings=(*flags, *settings), unknown=tuple(unknown),
        image=image, gpus=gpus, elsewhere=tuple(elsewhere), words=words, options=tuple(options), env=tuple(others),
    )  # fmt: skip


def of_script(text: str, file: str) -> Iterator[Given]:
    """Every command line of a text that starts TGI; `export NAME=value` lines before it count."""
    exported: list[str] = []
    number, start, joined = 0, 1, ""
    for number, raw in enumerate([*text.splitlines(), ""], 1):
        if not joined:
            start = number
        if raw.endswith("\\"):
            joined += raw[:-1] + " "
            continue
        whole, joined = joined + raw, ""
        try:
            words = shlex.split(whole, comments=True)
        except ValueError:
            continue
        while words and words[0] in ("$", "#", ">"):
            words = words[1:]
        assigned = words[1:] if words[:1] == ["export"] else words
        if assigned and all(word.partition("=")[0].isidentifier() and "=" in word for word in assigned):
            exported += assigned
            continue
        found = of_words([*exported, *words], line=start, file=file)
        if found is not None:
            yield found


def of_lot(lot: Lot) -> Iterator[Given]:
    """Containers of Kubernetes objects that run TGI."""
    maps = {item.name: item.body.map("data") for item in lot.of_kind("ConfigMap")}
    for pod, container, engine in lot.engines():
        if engine.name != "tgi":
            continue
        file = container.where.file
        words = _launched(container)
        flags, unknown = flag_settings(words, file)
        variables, elsewhere = _from_maps(container, maps)
        variables += [
            (each.name, each.value, _place(file, each.where.line)) for each in container.variables
        ]  # fmt: skip
        settings, others = variable_settings(variables)
        yield Given(
            kind="pod", where=f"{container.where.object or pod.owner.kind} {container.name}".strip(),
            at=_place(file, container.where.line), settings=(*flags, *settings), unknown=tuple(unknown),
            image=container.image, gpus=container.gpus, elsewhere=elsewhere, words=words, env=tuple(others), pod=pod,
            container=container,
        )  # fmt: skip


def _launched(container: Container) -> tuple[Word, ...]:
    """The launcher's arguments: of its own command alone where a shell runs several."""
    values = {each.name: each.value for each in container.variables}
    for command in command_line(container.body, values).commands:
        names = [word.text.rpartition("/")[2] for word in command.words]
        starts = [
            at for at, name in enumerate(names) if name in (LAUNCHER, "tgi-entrypoint.sh", "entrypoint.sh")
        ]
        if starts:
            return command.words[starts[-1] + 1 :]
    return container.words


def _from_maps(
    container: Container, maps: dict[str, Map]
) -> tuple[list[tuple[str, str | None, str]], tuple[str, ...]]:
    variables: list[tuple[str, str | None, str]] = []
    elsewhere: list[str] = []
    for _, source in container.body.seq("envFrom").maps():
        name = source.map("configMapRef").text("name") or ""
        if name in maps:
            prefix = source.text("prefix") or ""
            variables += [(prefix + key, text_of(value), "") for key, value in maps[name].items()]
        elif name:
            elsewhere.append(f"ConfigMap {name}")
        elif source.map("secretRef").text("name"):
            elsewhere.append(f"Secret {source.map('secretRef').text('name')}")
    return variables, tuple(elsewhere)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeVariable:
    """One entry of a service's `environment`, which may be a mapping or a list."""

    name: str
    value: str | None
    line: int = 0


def compose_variables(service: Map) -> tuple[ComposeVariable, ...]:
    """Variables of a service."""
    found = service.get("environment")
    if isinstance(found, Map):
        return tuple(
            ComposeVariable(name=name, value=text_of(value), line=found.keys_at[name].line)
            for name, value in found.items()
        )
    if isinstance(found, Seq):
        texts = ((text_of(item) or "", found.line(index)) for index, item in enumerate(found))
        return tuple(
            ComposeVariable(name=name, value=value if equals else None, line=line)
            for text, line in texts
            for name, equals, value in [text.partition("=")]
        )
    return ()


def compose_words(service: Map) -> tuple[Word, ...]:
    """Words of `command`, without the launcher's own name."""
    found, words = service.get("command"), list[Word]()
    if isinstance(found, str):
        try:
            split = shlex.split(found)
        except ValueError:
            split = found.split()
        words = [Word(text=text, known=True, line=service.line("command")) for text in split]
    elif isinstance(found, Seq):
        words = [
            Word(text=text_of(item) or "", known=True, line=found.line(index), span=found.spans[index])
            for index, item in enumerate(found)
        ]
    return tuple(words[1:] if words and words[0].text.rpartition("/")[2] == LAUNCHER else words)


def of_compose(body: Map, file: str) -> Iterator[Given]:
    """Services of a Compose file that run TGI."""
    for name, service in body.map("services").items():
        image = image_of(service.text("image")) if isinstance(service, Map) else None
        if not isinstance(service, Map) or image_engine(image) != "tgi":
            continue
        words = compose_words(service)
        flags, unknown = flag_settings(words, file)
        read = ((each.name, each.value, _place(file, each.line)) for each in compose_variables(service))
        settings, others = variable_settings(read)
        elsewhere = ("its env_file",) if "env_file" in service else ()
        yield Given(
            kind="compose", where=f"service {name}", at=_place(file, service.line()), settings=(*flags, *settings),
            unknown=tuple(unknown), image=image, gpus=None, elsewhere=elsewhere, words=words, env=tuple(others),
            service=service,
        )  # fmt: skip

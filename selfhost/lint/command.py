"""A container's command and arguments as words: Kubernetes' `$(VAR)` resolved, `sh -c` strings taken apart.

A shell string is split by a reader of the little that launch scripts use: quotes, backslashes, variables with their
defaults, and the operators between commands. What it cannot know it says (`Word.known`); it runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from selfhost.lint.model import Word
from selfhost.lint.nodes import Map, Span, text_of

_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][-A-Za-z0-9_.]*)\)")
_SHELLS = frozenset(("sh", "bash", "ash", "dash", "zsh", "ksh"))
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?::?-([^{}]*))?\})")
# Words of the shell's own grammar, and programs that start another one, before the program that is looked for.
_INIT = frozenset(("exec", "nohup", "env", "tini", "dumb-init", "--", "-s", "-g"))
_BEFORE = _INIT | {"time", "then", "else", "do", "{", "!", "if", "elif", "while", "export"}
_LONGEST = 200_000  # characters of a script that are looked at

# Values of the environment: the text, or None for a variable whose value stands elsewhere.
Environment = Mapping[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One program with its arguments.

    Args:
        words: program first.
        loose: indexes of words that may be any number of words: unknown variables of a shell that are not quoted.
        scripted: it comes out of a shell string.
    """

    words: tuple[Word, ...]
    loose: frozenset[int] = frozenset()
    scripted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """What a container runs.

    Args:
        given: `command` is there; otherwise the image's entry point takes the arguments.
        commands: the program, or every program of a shell string.
        shell: a shell runs it.
    """

    given: bool
    commands: tuple[Command, ...]
    shell: bool = False


def command_line(container: Map, environment: Environment) -> CommandLine:
    """The words of `command` and `args` of a container."""
    command, args = _words(container, "command", environment), _words(container, "args", environment)
    words = (*command, *args)
    script = _script(words)
    if script is None:
        return CommandLine(given=bool(command), commands=(Command(words=words),) if words else ())
    return CommandLine(given=bool(command), commands=shell_commands(words[script], environment), shell=True)


def _words(container: Map, key: str, environment: Environment) -> tuple[Word, ...]:
    found = container.get(key)
    if isinstance(found, str):  # wrong in Kubernetes, right in a compose file: read it as one line of shell
        span = container.values_at.get(key, container.span)
        inside = shell_commands(Word(text=found, known=True, line=_text_line(found, span)), environment)
        return tuple(word for command in inside for word in command.words)
    items = container.seq(key)
    words = []
    for index, item in enumerate(items):
        text = text_of(item)
        if text is None:
            continue
        span = items.spans[index]
        resolved, known = expand(text, environment)
        words.append(Word(text=resolved, known=known, line=_text_line(text, span), span=span))
    return tuple(words)


def _text_line(text: str, span: Span) -> int:
    """Line of the first character of a scalar's text: a block scalar starts below its `|`."""
    return span.line + 1 if "\n" in text.rstrip("\n") and span.end_line > span.line else span.line


def expand(text: str, environment: Environment) -> tuple[str, bool]:
    """Kubernetes' `$(VAR)` replaced where the value stands in the same container; False where one does not."""
    if "$" not in text:
        return text, True
    known = True

    def value(found: re.Match[str]) -> str:
        nonlocal known
        if found[0] == "$$":
            return "$"
        text = environment.get(found[1])
        if text is None:
            known = False
            return found[0]
        return text

    return _REFERENCE.sub(value, text), known


def _script(words: tuple[Word, ...]) -> int | None:
    """Index of the string that a shell runs, None where no shell does."""
    at = 0
    while at < len(words) and words[at].text.rpartition("/")[2] in (
        "tini",
        "dumb-init",
        "--",
        "-s",
        "-g",
        "env",
        "exec",
    ):
        at += 1
    if at >= len(words) or words[at].text.rpartition("/")[2] not in _SHELLS:
        return None
    for index in range(at + 1, len(words)):
        text = words[index].text
        if text.startswith("-") and not text.startswith("--") and "c" in text[1:]:
            index += 1
            while index < len(words) and words[index].text in ("--", "-e", "-x", "-u", "-o", "pipefail"):
                index += 1
            return index if index < len(words) else None
        if not text.startswith(("-", "+")) and text != "pipefail":
            return None
    return None


def shell_commands(script: Word, environment: Environment) -> tuple[Command, ...]:
    """The simple commands of a shell string, in order; assignments before and between them count for later words."""
    known: dict[str, str | None] = dict(environment)
    commands: list[Command] = []
    for pieces in _Shell(script.text[:_LONGEST], script.line).commands():
        words: list[Word] = []
        loose: set[int] = set()
        for piece in pieces:
            split = _resolved(piece, known)
            if any(not word.known and not piece.quoted and word.text.startswith("$") for word in split):
                loose.add(len(words))
            words.extend(split)
        start = 0
        while start < len(words):
            text = words[start].text
            if _ASSIGNMENT.match(text):
                name, _, value = text.partition("=")
                known[name] = value if words[start].known else None
            elif text.rpartition("/")[2] not in _BEFORE:
                break
            start += 1
        if words[start:]:
            left = frozenset(index - start for index in loose if index >= start)
            commands.append(Command(words=tuple(words[start:]), loose=left, scripted=True))
    return tuple(commands)


@dataclass(slots=True)
class _Piece:
    """A word of a script before its variables are resolved; a NUL stands for a `$` that is no variable."""

    text: str
    line: int
    quoted: bool


def _resolved(piece: _Piece, environment: Environment) -> list[Word]:
    known = True

    def value(found: re.Match[str]) -> str:
        nonlocal known
        name = found[1] or found[2]
        text = environment.get(name)
        if text is None and name not in environment and found[3] is not None:
            text = found[3]
        if text is None:
            known = False
            return found[0]
        return text

    text = _VARIABLE.sub(value, piece.text)
    if "$" in text or "`" in text:
        known = False
    text = text.replace("\0", "$")
    if known and not piece.quoted and text != piece.text and any(char.isspace() for char in text):
        return [Word(text=part, known=True, line=piece.line) for part in text.split()]
    if known and not text and not piece.quoted:
        return []
    return [Word(text=text, known=known, line=piece.line)]


class _Shell:
    """Splits a script into commands and words."""

    def __init__(self, text: str, line: int) -> None:
        self.text, self.line = text, line
        self.at = 0
        self.found: list[list[_Piece]] = [[]]
        self.word: list[str] | None = None
        self.word_line = line
        self.quoted = False

    def commands(self) -> list[list[_Piece]]:
        while self.at < len(self.text):
            self._step(self.text[self.at])
        self._end_word()
        return [command for command in self.found if command]

    def _add(self, text: str) -> None:
        if self.word is None:
            self.word, self.word_line = [], self.line
        self.word.append(text)

    def _end_word(self) -> None:
        if self.word is not None:
            self.found[-1].append(_Piece("".join(self.word), self.word_line, self.quoted))
        self.word, self.quoted = None, False

    def _end_command(self) -> None:
        self._end_word()
        if self.found[-1]:
            self.found.append([])

    def _step(self, char: str) -> None:
        if char == "\\":
            self._backslash()
        elif char in "'\"":
            self._quote(char)
        elif char == "$" and self.text[self.at : self.at + 2] in ("${", "$("):
            self._nested()
        elif char == "#" and self.word is None:
            end = self.text.find("\n", self.at)
            self.at = len(self.text) if end < 0 else end
        elif char in " \t\r":
            self._end_word()
            self.at += 1
        elif char == "\n":
            self._end_command()
            self.line += 1
            self.at += 1
        elif char in ";&|()":
            self._end_command()
            self.at += 1
        elif char in "<>":
            self._redirect()
        else:
            self._add(char)
            self.at += 1

    def _redirect(self) -> None:
        """`2>&1`, `> file`: neither operator nor target is an argument."""
        if self.word is not None and "".join(self.word).isdigit():
            self.word, self.quoted = None, False
        self._end_word()
        while self.at < len(self.text) and self.text[self.at] in "<>&|":
            self.at += 1
        while self.at < len(self.text) and self.text[self.at] in " \t":
            self.at += 1
        while (
            self.at < len(self.text) and not self.text[self.at].isspace() and self.text[self.at] not in ";|&"
        ):
            self.at += 1

    def _backslash(self) -> None:
        after = self.text[self.at + 1 : self.at + 2]
        if after == "\n":
            self.line += 1
        elif after:
            self._add("\0" if after == "$" else after)
            self.quoted = True
        self.at += 2

    def _quote(self, quote: str) -> None:
        self._add("")
        self.quoted = True
        self.at += 1
        while self.at < len(self.text) and self.text[self.at] != quote:
            char = self.text[self.at]
            if (
                quote == '"'
                and char == "\\"
                and self.text[self.at + 1 : self.at + 2] in ('"', "\\", "$", "`", "\n")
            ):
                self.at += 1
                char = self.text[self.at]
                if char == "\n":
                    self.line += 1
                    self.at += 1
                    continue
                self._add("\0" if char == "$" else char)
            else:
                self.line += char == "\n"
                self._add("\0" if char == "$" and quote == "'" else char)
            self.at += 1
        self.at += 1

    def _nested(self) -> None:
        """`${…}` and `$(…)` stay one piece of a word, whatever stands in them."""
        opening = self.text[self.at + 1]
        closing, depth, start = ("}" if opening == "{" else ")"), 0, self.at
        while self.at < len(self.text):
            char = self.text[self.at]
            depth += (char == opening) - (char == closing)
            self.line += char == "\n"
            self.at += 1
            if char == closing and depth == 0:
                break
        self._add(self.text[start : self.at])

"""PromQL, as far as lint needs it: metrics a query selects, with which labels, and whether it may give several series.

A query may hold what is filled in later: Grafana's `$variable`, `${variable}` and `[[variable]]`, the adapter's
`<<.Series>>`, Go templates. What cannot be understood gives no selectors, or None.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
    |(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)
    |(?P<hole><<.*?>>|\{\{.*?\}\})
    |(?P<range>\[(?!\[)[^\]]*\])
    |(?P<number>(?:0x[0-9a-fA-F]+|\d+(?:\.\d*)?(?:e[-+]?\d+)?|\.\d+)(?:ms|[smhdwy])?(?:\d+(?:ms|[smhdwy]))*(?![A-Za-z_:]))
    |(?P<word>(?:[A-Za-z_:0-9.]|\$\{[^}]*\}|\$[A-Za-z_]\w*|\[\[\w+\]\])+)
    |(?P<op>=~|!~|==|!=|<=|>=|[-+*/%^<>=])
    |(?P<mark>[(){},@])""",
    re.VERBOSE | re.DOTALL,
)
AGGREGATES = frozenset(
    (
        "sum", "min", "max", "avg", "group", "stddev", "stdvar", "count", "count_values", "bottomk", "topk", "quantile",
        "limitk", "limit_ratio",
    )
)  # fmt: skip
# Aggregates that keep their elements, functions whose result is one element or a number.
_KEEPING = frozenset(("count_values", "bottomk", "topk", "limitk", "limit_ratio"))
_SINGLE = frozenset(("scalar", "time", "vector", "absent", "absent_over_time", "pi"))
_GROUPING = frozenset(("by", "without", "on", "ignoring", "group_left", "group_right"))
_WORDS = _GROUPING | {"and", "or", "unless", "bool", "offset", "atan2", "inf", "nan", "start", "end"}
# Labels that one pod, or one target, has to itself.
_ONE_TARGET = frozenset(("pod", "instance"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher:
    """`label="value"` of a selector; `operator` is `=`, `!=`, `=~` or `!~`."""

    label: str
    operator: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """A metric and its label matchers; `metric` is None where the name is a pattern or is filled in later."""

    metric: str | None
    matchers: tuple[Matcher, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What a query says.

    Args:
        selectors: in order.
        several: its result may have more than one element; None where that cannot be known.
        alternatives: it names another metric for when one is missing (`or`).
        names: every word that stands for a metric or a pattern of metrics, patterns of plain names taken apart.
    """

    selectors: tuple[Selector, ...]
    several: bool | None
    alternatives: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Metrics it names."""
        return tuple(selector.metric for selector in self.selectors if selector.metric is not None)


class UnreadableError(Exception):
    """The text is no PromQL this module knows."""


@dataclass(slots=True)
class _Token:
    kind: str
    text: str


@lru_cache(maxsize=4096)
def parse(text: str) -> Query:
    """Read a query; never raises.

    Args:
        text: PromQL, with whatever templates stand in it.
    """
    reader = _Reader(_tokens(text))
    try:
        several: bool | None = reader.expression()
        if reader.at < len(reader.tokens):
            raise UnreadableError
        if reader.holes:
            several = None
    except (UnreadableError, RecursionError):
        # Something of it is unknown: the metrics that can be told are still worth a look.
        return Query(selectors=_loose(text), several=None, alternatives=" or " in text)
    return Query(selectors=tuple(reader.selectors), several=several, alternatives=reader.alternatives)


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            tokens.append(_Token("unknown", text[at]))
            at += 1
            continue
        at = found.end()
        if found.lastgroup != "space":
            tokens.append(_Token(found.lastgroup or "", found.group()))
    return tokens


def _loose(text: str) -> tuple[Selector, ...]:
    """Selectors by looks alone, where the text as a whole could not be read."""
    tokens = _tokens(text)
    found: list[Selector] = []
    for index, token in enumerate(tokens):
        after = tokens[index + 1].text if index + 1 < len(tokens) else ""
        before = tokens[index - 1].text if index else ""
        # A colon tells a metric of an engine from a label, a function or a word of another language.
        if (
            token.kind == "word"
            and ":" in token.text.strip(":")
            and after != "("
            and not before.startswith("$")
        ):
            reader = _Reader(tokens[index:])
            try:
                reader.expression_part()
            except (UnreadableError, RecursionError):
                found.append(Selector(metric=_name(token.text), matchers=()))
            else:
                found.extend(reader.selectors[:1])
    return tuple(found)


def _name(text: str) -> str | None:
    return text if re.fullmatch(r"[A-Za-z_:][\w:]*", text) else None


def _unquoted(text: str) -> str:
    return text[1:-1].replace("\\\\", "\\") if text[:1] in "\"'`" else text


class _Reader:
    """Recursive descent over tokens; each part returns whether it may have several elements."""

    def __init__(self, tokens: list[_Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.selectors: list[Selector] = []
        self.alternatives = False
        self.holes = False
        self.quantiles = 0

    def peek(self, ahead: int = 0) -> _Token:
        index = self.at + ahead
        return self.tokens[index] if index < len(self.tokens) else _Token("end", "")

    def take(self, text: str | None = None) -> _Token:
        token = self.peek()
        if token.kind == "end" or (text is not None and token.text != text):
            raise UnreadableError
        self.at += 1
        return token

    def expression(self) -> bool:
        """Parts joined by operators. Precedence does not matter here: one part with several elements is enough."""
        several = self.expression_part()
        while True:
            token = self.peek()
            word = token.text.lower()
            if token.kind == "op" or word in ("and", "or", "unless", "atan2"):
                self.alternatives |= word == "or"
                self.take()
                self.modifiers()
                several |= self.expression_part()
            else:
                return several

    def modifiers(self) -> None:
        while self.peek().text.lower() in _GROUPING | {"bool"}:
            word = self.take().text.lower()
            if word in _GROUPING and self.peek().text == "(":
                self.labels()

    def labels(self) -> tuple[str, ...]:
        """`(a, b)` after `by` or its like."""
        self.take("(")
        names: list[str] = []
        while self.peek().text != ")":
            token = self.take()
            if token.kind == "hole":
                self.holes = True
            if token.kind in ("word", "string", "hole"):
                names.append(_unquoted(token.text))
            elif token.text != ",":
                raise UnreadableError
        self.take(")")
        return tuple(names)

    def expression_part(self) -> bool:
        """One operand with what may follow it: a range, `offset`, `@`."""
        while self.peek().text in ("-", "+"):
            self.take()
        token = self.peek()
        if token.text == "(":
            self.take()
            several = self.expression()
            self.take(")")
        elif token.kind in ("number", "string"):
            self.take()
            several = False
        elif (
            token.kind == "word"
            and token.text.lower() in AGGREGATES
            and self.peek(1).text.lower() in ("(", "by", "without")
        ):
            several = self.aggregate()
        elif token.kind == "word" and self.peek(1).text == "(" and token.text.lower() not in _WORDS:
            several = self.call()
        elif token.kind in ("word", "hole") or token.text == "{":
            several = self.selector()
        else:
            raise UnreadableError
        self.suffix()
        return several

    def suffix(self) -> None:
        while True:
            token = self.peek()
            if token.kind == "range":
                self.take()
            elif token.text.lower() == "offset" or token.text == "@":
                self.take()
                if self.peek().text in ("-", "+"):
                    self.take()
                self.take()
                if self.peek().text == "(":
                    self.labels()
            else:
                return

    def arguments(self) -> list[bool]:
        self.take("(")
        found: list[bool] = []
        while self.peek().text != ")":
            found.append(self.expression())
            if self.peek().text == ",":
                self.take()
        self.take(")")
        return found

    def call(self) -> bool:
        name = self.take().text.lower()
        # histogram_quantile takes `le` away.
        inside = name == "histogram_quantile"
        self.quantiles += inside
        several = any(self.arguments())
        self.quantiles -= inside
        return several and name not in _SINGLE

    def aggregate(self) -> bool:
        name = self.take().text.lower()
        first = len(self.selectors)
        grouping: tuple[str, tuple[str, ...]] | None = None
        if self.peek().text.lower() in ("by", "without"):
            grouping = (self.take().text.lower(), self.labels())
        arguments = self.arguments()
        if self.peek().text.lower() in ("by", "without"):
            grouping = (self.take().text.lower(), self.labels())
        if name in ("topk", "bottomk", "limitk"):
            return False if self.tokens[self.at - 1].text == ")" and grouping is None else any(arguments)
        if name in _KEEPING:
            return any(arguments)
        if grouping is None or not any(arguments):
            return False
        word, labels = grouping
        if word == "without":
            return True
        return not all(self.fixed(label, first) for label in labels if label != "le" or not self.quantiles)

    def fixed(self, label: str, first: int) -> bool:
        """Each selector since `first` holds the label to one value."""
        below = self.selectors[first:]
        return bool(below) and all(
            any(each.label == label and each.operator == "=" for each in selector.matchers)
            for selector in below
        )

    def selector(self) -> bool:
        name: str | None = None
        names: list[str] = []
        token = self.peek()
        if token.kind == "hole":
            self.holes = True
            self.take()
        elif token.kind == "word":
            if token.text.lower() in _WORDS - {"inf", "nan"}:
                raise UnreadableError
            self.take()
            name = _name(token.text)
            if token.text.lower() in ("inf", "nan"):
                return False
            self.holes |= name is None
        matchers: tuple[Matcher, ...] = ()
        if self.peek().text == "{":
            matchers, quoted = self.matchers()
            name = name or quoted
        for matcher in matchers:
            if matcher.label == "__name__" and matcher.operator in ("=", "=~"):
                names = matcher.value.strip("^$").strip("()").split("|")
        matchers = tuple(each for each in matchers if each.label != "__name__")
        if name is None and names and all(_name(each) for each in names):
            self.selectors.extend(Selector(metric=each, matchers=matchers) for each in names)
        else:
            self.selectors.append(Selector(metric=name, matchers=matchers))
        return not any(each.label in _ONE_TARGET and each.operator == "=" for each in matchers)

    def matchers(self) -> tuple[tuple[Matcher, ...], str | None]:
        self.take("{")
        found: list[Matcher] = []
        quoted: str | None = None
        while self.peek().text != "}":
            token = self.take()
            if token.text == ",":
                continue
            if token.kind == "hole":
                self.holes = True
            elif token.kind == "string" and self.peek().kind != "op":
                quoted = _name(_unquoted(token.text))
            elif token.kind in ("word", "string") and self.peek().text in ("=", "!=", "=~", "!~"):
                operator = self.take().text
                value = self.take()
                if value.kind not in ("string", "hole", "word"):
                    raise UnreadableError
                found.append(
                    Matcher(label=_unquoted(token.text), operator=operator, value=_unquoted(value.text))
                )
            elif token.kind == "word" and "$" in token.text:
                self.holes = True
            else:
                raise UnreadableError
        self.take("}")
        return tuple(found), quoted

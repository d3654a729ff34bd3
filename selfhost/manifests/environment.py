"""The one Jinja environment: templates fill in what was decided, they decide and compute nothing.

Every value a template prints has to come out of a filter, so that no text from outside can leave its place: `q` makes a
quoted YAML scalar, `unit` a word of a systemd unit, `note` text for the rest of a comment line. Whole numbers may stand
as they are.

A part that stands in several templates is included at the depth where it is needed: `kubernetes/_pod.j2@6` is _pod.j2,
each line moved by six spaces.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from selfhost.assets import asset_dir

if TYPE_CHECKING:
    from jinja2 import Environment

# Everything but printable ASCII, and the two of it that mean something between quotes.
_ESCAPED = re.compile(r"[^ !#-\[\]-~]")
_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


class Printable(str):
    """Text that came out of a filter and may stand in a document."""

    __slots__ = ()


def quote(value: object) -> Printable:
    """A double-quoted YAML scalar in ASCII that every YAML 1.1 and 1.2 reader turns back into the same text."""
    if not isinstance(value, str):
        # str() of a name that does not exist raises jinja2's own error, which says which one.
        raise TypeError(f"q takes text, not {str(value)!r}")
    return Printable('"' + _ESCAPED.sub(_escape, value) + '"')


def _escape(found: re.Match[str]) -> str:
    char = found[0]
    if char in _SHORT:
        return _SHORT[char]
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def note(value: object) -> Printable:
    """Text for the rest of a comment line or of a line of prose: one line, nothing invisible."""
    text = str(value)
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    return Printable(" ".join(text.split()))


def finalize(value: object) -> object:
    """Let through what a filter made, and whole numbers; anything else is a fault of the template."""
    if isinstance(value, Printable) or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise TypeError(f"a template printed {type(value).__name__} without a filter")


def unit(value: object) -> Printable:
    r"""A double-quoted word of a systemd unit in ASCII, which systemd turns back into the same text.

    Its escapes are C's, where `\x` is a byte: what is beyond ASCII is written by its number in Unicode. A `%` would
    begin a specifier (systemd.syntax(7), systemd.unit(5)). What ExecStart= makes of `$` is the view's affair.
    """
    if not isinstance(value, str):
        raise TypeError(f"unit takes text, not {str(value)!r}")
    return Printable('"' + _ESCAPED.sub(_escape_unit, value).replace("%", "%%") + '"')


def _escape_unit(found: re.Match[str]) -> str:
    char = found[0]
    code = ord(char)
    if 0x7F < code <= 0xFF:
        return f"\\u{code:04x}"
    return _escape(found)


FILTERS = {"q": quote, "note": note, "unit": unit}


_INCLUDED = re.compile(r'({% include "[^"@]+)(?:@(\d+))?(" %})')


def indented(text: str, spaces: int) -> str:
    """A template's text with each line that holds something moved to the right, and so what it includes."""
    moved = re.sub(r"^(?=.)", " " * spaces, text, flags=re.MULTILINE)
    return _INCLUDED.sub(lambda found: f"{found[1]}@{int(found[2] or 0) + spaces}{found[3]}", moved)


def source(name: str) -> str:
    """The text of a template, `@N` at the end of the name moves it by N spaces."""
    file, _, spaces = name.partition("@")
    text = (asset_dir("templates") / file).read_text(encoding="utf-8")
    return indented(text, int(spaces)) if spaces else text


@cache
def environment() -> Environment:
    """Jinja over templates/, strict about names that do not exist."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    jinja = Environment(
        loader=FunctionLoader(source),
        undefined=StrictUndefined,
        finalize=finalize,
        autoescape=False,  # YAML, not HTML: `finalize` refuses what no filter quoted
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.filters = dict(FILTERS)
    jinja.globals = {}
    return jinja

"""Any text in any field of a plan or an option is data in every target's output, or refused with its field named.

Each target is tried with its first case of the matrix. Hostile text must not change what an output is made of: the keys
and the lengths of lists in YAML and JSON, the lines and what they begin with elsewhere. It may change values alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfhost.errors import PlanFormatError, SelfhostError
from selfhost.manifests import Document, Manifests, RenderOptions, render
from selfhost.plan import from_json, to_json
from tests.matrix import CASES, LOADER, Case

NASTY = [
    "x\n  privileged: true", "x\r\nUser=root", 'a"b', "a'b", "a: b", "# no", "- x", "{{ .Values.x }}", "{{ plan }}",
    '{{ include "x" . }}', "{% include 'x' %}", "${HOME}", "$(HOME)", "$$(HOME)", "$HOME", "%h", "%%", "`id`",
    "; rm -rf /", "\u2028x: y", "\x85x: y", "\ufeff", "\\", "\\n", "!!python/object:os.system", "&a *a", "%YAML",
    "---\nkind: Pod", "yes", "null", "~", "1e3", "0x1f", "012", "12:30:45", "2026-01-01", "<<", "=", "\U0001f600",
    "\u202e", "\t", "", " ", "|", ">", "@", "\x7f", "\x1b[31m", "../../etc/passwd", "a" * 5000, "</script>", "--flag",
    "-v", "a,b", "*", "Ünïcode", "\0",
]  # fmt: skip
TEXT = st.one_of(st.sampled_from(NASTY), st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
SETTINGS = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


@cache
def bases() -> dict[str, Case]:
    """Target -> its first case."""
    return {case.target: case for case in reversed(list(CASES.values()))}


TARGETS = sorted({case.target for case in CASES.values()})


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths of every text in a plan's JSON."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from leaves(item, (*path, number))
    elif isinstance(value, str):
        yield path


def with_text(value: Any, path: tuple[str | int, ...], text: str) -> Any:
    """A copy with another text at a path."""
    if not path:
        return text
    first, *rest = path
    made = dict(value) if isinstance(value, dict) else list(value)
    made[first] = with_text(value[first], tuple(rest), text)  # type: ignore[index]
    return made


def shape(value: Any) -> Any:
    """What a document is made of, without its values; keys that are words of the plan's own are values too."""
    if isinstance(value, dict):
        return {str(key): shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value).__name__ if not isinstance(value, str) else "text"


def made_of(document: Document) -> Any:
    """The shape of a document; raises where it cannot be read as what its name says."""
    name = document.name
    if name.endswith((".yaml", ".yml")):
        return [shape(value) for value in yaml.load_all(document.text, LOADER)]
    if name.endswith(".json"):
        return shape(json.loads(document.text))
    # Words up to what a value may follow: `Key=`, `KEY=`, a heading.
    return [re.match(r"[\w\[\]#.-]*[= ]?", line)[0] for line in document.text.split("\n")]  # type: ignore[index]


def outline(manifests: Manifests) -> dict[str, Any]:
    return {
        document.name: made_of(document)
        for document in manifests.documents
        if document.data is None and document.name not in ("plan.json", "README.md")
    }


@cache
def expected(target: str, path: tuple[str | int, ...]) -> dict[str, Any] | None:
    """The outline with a harmless word at a path; None where that is refused, as any word is there."""
    base = bases()[target]
    try:
        harmless = from_json(json.dumps(with_text(plan_json(target), path, "harmless")))
        return outline(render(harmless, target=target, options=base.options))
    except SelfhostError:
        return None


@cache
def plan_json(target: str) -> Any:
    return json.loads(to_json(bases()[target].plan))


def no_control(manifests: Manifests) -> None:
    """Nothing that moves a terminal's cursor or ends a line where none ends."""
    for document in manifests.documents:
        if document.data is None and not document.name.endswith(".json"):
            odd = re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\ufeff]", document.text)
            assert odd is None, f"{document.name}: {odd!r}"


@pytest.mark.parametrize("target", TARGETS)
@SETTINGS
@given(data=st.data(), text=TEXT)
def test_any_text_in_a_plan(target: str, data: st.DataObject, text: str) -> None:
    whole = plan_json(target)
    path = data.draw(st.sampled_from(list(leaves(whole))))
    hostile = refusal = None
    try:
        hostile = from_json(json.dumps(with_text(whole, path, text)))
        manifests = render(hostile, target=target, options=bases()[target].options)
    except SelfhostError as error:
        refusal = error
    if refusal is not None:
        assert not CONTROL.search(str(refusal))
        if isinstance(refusal, PlanFormatError) and path != ("schema",):
            assert any(isinstance(step, str) and step in str(refusal) for step in path), (path, refusal)
        return
    no_control(manifests)
    (carried,) = (document.text for document in manifests.documents if document.name == "plan.json")
    assert from_json(carried) == hostile
    found = outline(manifests)
    assert found == (expected(target, path) or found), path


def text_fields(options: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Path and flag of every option that takes text."""
    for field in fields(options):
        value = getattr(options, field.name)
        if is_dataclass(value):
            yield from text_fields(value, (*path, field.name))
        elif field.metadata.get("kind") in ("str", "many"):
            yield (*path, field.name), field.metadata["flag"]


def with_option(options: Any, path: tuple[str, ...], value: Any) -> Any:
    first, *rest = path
    below = with_option(getattr(options, first), tuple(rest), value) if rest else value
    return replace(options, **{first: below})


def kind_of(path: tuple[str, ...]) -> str:
    found: Any = RenderOptions()
    for name in path[:-1]:
        found = getattr(found, name)
    (kind,) = (field.metadata["kind"] for field in fields(found) if field.name == path[-1])
    return str(kind)


FIELDS = dict(text_fields(RenderOptions()))


@pytest.mark.parametrize("target", TARGETS)
@SETTINGS
@given(path=st.sampled_from(sorted(FIELDS)), text=TEXT)
def test_any_text_in_an_option(target: str, path: tuple[str, ...], text: str) -> None:
    base = bases()[target]
    value: Any = (text,) if kind_of(path) == "many" else text
    refusal = None
    try:
        options = with_option(base.options, path, value)
        manifests = render(base.plan, target=target, options=options)
    except SelfhostError as error:
        refusal = error
    if refusal is not None:
        said = f"{refusal} {refusal.hint or ''}"
        assert FIELDS[path] in said or "image" in path[-1], (path, said)
        assert not CONTROL.search(str(refusal))
        return
    no_control(manifests)
    outline(manifests)  # everything is still read as what it is


def test_every_target_and_group_of_options_is_tried() -> None:
    from selfhost.assets import targets

    assert set(TARGETS) == set(targets())
    groups = {
        field.name for field in fields(RenderOptions) if is_dataclass(getattr(RenderOptions(), field.name))
    }
    asked = {
        name for name in groups
        if any(field.metadata.get("kind") in ("str", "many") for field in fields(getattr(RenderOptions(), name)))
    }  # fmt: skip
    assert asked == {path[0] for path in FIELDS if len(path) > 1}

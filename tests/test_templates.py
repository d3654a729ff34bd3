"""Templates decide and compute nothing: their syntax trees hold loops, conditions, names of `plan` and two filters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError, meta, nodes

from selfhost.assets import asset_dir, targets
from selfhost.errors import OutputError
from selfhost.manifests.environment import FILTERS, Printable, environment, finalize, note, quote
from selfhost.report.render import FILTERS as OF_PAGES
from selfhost.report.render import environment as environment_of_pages

ROOT = asset_dir("templates")
TEMPLATES = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.j2"))
# What a template may be made of. No arithmetic, no comparison, no call, no assignment, no macro, no subscript.
ALLOWED = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Getattr, nodes.Filter, nodes.For, nodes.If,
    nodes.Include, nodes.Const, nodes.With,
)  # fmt: skip


def walk(node: nodes.Node) -> Iterator[nodes.Node]:
    yield node
    for child in node.iter_child_nodes():
        yield from walk(child)


def tree(name: str) -> nodes.Template:
    if name.startswith("report/"):
        return environment_of_pages().parse((ROOT / name).read_text(encoding="utf-8"))
    return environment().parse((ROOT / name).read_text(encoding="utf-8"))


def test_there_is_a_target() -> None:
    assert "kubernetes" in targets()
    assert TEMPLATES


@pytest.mark.parametrize("name", TEMPLATES)
class TestEveryTemplate:
    def test_is_made_of_loops_conditions_and_names(self, name: str) -> None:
        found = {type(node).__name__ for node in walk(tree(name)) if not isinstance(node, ALLOWED)}
        assert not found

    def test_constants_only_name_included_templates(self, name: str) -> None:
        found = list(walk(tree(name)))
        includes = [node.template for node in found if isinstance(node, nodes.Include)]
        constants = [node for node in found if isinstance(node, nodes.Const)]
        assert all(any(constant is include for include in includes) for constant in constants)

    def test_sees_only_the_plan(self, name: str) -> None:
        """A part that others include sees what they name with it."""
        part = name.rpartition("/")[2].removesuffix(".j2").lstrip("_")
        seen = "page" if name.startswith("report/") else "plan"
        allowed = {seen, part} if "/_" in name else {seen}
        assert meta.find_undeclared_variables(tree(name)) <= allowed

    def test_another_name_is_for_something_of_the_plan(self, name: str) -> None:
        for node in walk(tree(name)):
            if isinstance(node, nodes.With):
                assert all(isinstance(value, nodes.Getattr) for value in node.values)

    def test_uses_only_the_filters_of_its_kind(self, name: str) -> None:
        known = OF_PAGES if name.startswith("report/") else FILTERS
        assert {node.name for node in walk(tree(name)) if isinstance(node, nodes.Filter)} <= set(known)

    def test_every_loop_goes_over_the_plan(self, name: str) -> None:
        for node in walk(tree(name)):
            if isinstance(node, nodes.For):
                assert isinstance(node.iter, nodes.Getattr)
                assert not node.recursive
                assert node.test is None

    def test_notes_stand_in_comments_only(self, name: str) -> None:
        """`note` is for people; a value for the cluster goes through `q`."""
        if ".yaml" not in name and "_head" not in name:
            pytest.skip("prose")
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            before, _, _ = line.partition("#")
            assert "note" not in before.partition("{{")[2], line

    def test_tabs_and_trailing_spaces(self, name: str) -> None:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "\t" not in text
        assert all(line == line.rstrip() for line in text.splitlines())


@given(st.text())
def test_any_text_survives_quoting(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    quoted = quote(text)
    assert quoted.isascii()
    assert "\n" not in quoted
    assert yaml.safe_load(f"- key: {quoted} # rest") == [{"key": text}]
    if len(quoted) < 1024:  # YAML ends the search for a key's colon there; keys of objects are shorter
        assert yaml.safe_load(f"{{{quoted}: [{quoted}]}}") == {text: [text]}


@given(st.text())
def test_any_text_stays_in_its_comment(text: str) -> None:
    line = note(text)
    assert line.isprintable()
    assert yaml.safe_load(f"a: 1 # {line}\n# {line}\nb: 2\n") == {"a": 1, "b": 2}


def test_only_text_is_quoted() -> None:
    for value in (1, None, True, b"x"):
        with pytest.raises(TypeError):
            quote(value)


def test_nothing_is_printed_without_a_filter() -> None:
    assert finalize(Printable("x")) == "x"
    assert finalize(7) == 7
    for value in ("x", True, None, 1.5, ["x"]):
        with pytest.raises(TypeError):
            finalize(value)
    with pytest.raises(TypeError):
        environment().from_string("{{ plan }}").render(plan="a: b")


def test_a_name_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        environment().from_string("{{ plan.absent | q }}").render(plan=object())


def test_an_installation_without_templates_says_so() -> None:
    with pytest.raises(OutputError, match="nothing-here"):
        asset_dir("nothing-here")


def test_assets_are_folders_of_the_checkout_or_the_package() -> None:
    assert ROOT.name == "templates"
    assert Path(ROOT / "kubernetes").is_dir()

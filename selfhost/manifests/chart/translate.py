"""Jinja's syntax tree of a template -> lines of a Go template for Helm, by the types of the view that it prints.

The language of templates/ is small: loops over fields, conditions, `with` for a part of the view, includes, names and
the filters `q` and `note`. A chart's values are the view itself, so every name has its place in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, nodes

from selfhost.manifests.chart.lines import (
    Block,
    Branch,
    Builder,
    Line,
    Node,
    Print,
    Ref,
    TranslationError,
    without_notes,
)
from selfhost.manifests.chart.shapes import (
    Field,
    Group,
    Items,
    Pairs,
    Reasoned,
    Switch,
    Text,
    Whole,
    camel,
    shape_of,
)

NAMESPACE = "namespace"  # the one value that Helm has itself, where the file leaves it out
_NAMESPACE_GO = f"(default $.Release.Namespace $.Values.{NAMESPACE})"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRef:
    """One entry of a map."""

    key: Ref
    value: Ref


Scope = Mapping[str, Ref | PairRef]


def translate(
    jinja: Environment, name: str, kind: type[Any], *, prose: bool = False, skip: Sequence[str] = ()
) -> tuple[Node, ...]:
    """Lines of a template, without what `note` prints.

    Args:
        jinja: the environment that finds it and what it includes.
        name: of the template.
        kind: type of what it sees as `plan`.
        prose: notes are text (README, NOTES.txt) instead of comments of YAML.
        skip: names of templates whose inclusion is left out.

    Raises:
        TranslationError: something that Go's templates or the values cannot say.
    """
    root = Ref(go="$.Values", path=(), shape=shape_of(kind))
    made = _Translator(jinja=jinja, skip=frozenset(skip)).template(name, {"plan": root})
    return made if prose else without_notes(made)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Translator:
    jinja: Environment
    skip: frozenset[str]

    def template(self, name: str, scope: Scope) -> tuple[Node, ...]:
        assert self.jinja.loader is not None
        source, _, _ = self.jinja.loader.get_source(self.jinja, name)
        try:
            return self.body(self.jinja.parse(source, name).body, scope)
        except TranslationError as error:
            if str(error).startswith("templates/"):
                raise
            raise TranslationError(f"templates/{name}: {error}") from None

    def body(self, found: Sequence[nodes.Node], scope: Scope) -> tuple[Node, ...]:
        builder = Builder()
        for node in found:
            if isinstance(node, nodes.Output):
                for child in node.nodes:
                    self.output(child, scope, builder)
            elif not builder.at_start:
                raise TranslationError(f"line {node.lineno}: a control word in the middle of a line")
            else:
                builder.nodes += self.control(node, scope)
        return builder.done()

    def output(self, node: nodes.Node, scope: Scope, builder: Builder) -> None:
        if isinstance(node, nodes.TemplateData):
            builder.text(node.data)
            return
        if isinstance(node, nodes.Filter) and node.node is not None and not node.args:
            ref = self.scalar(node.node, scope)
            if node.name == "note":
                builder.put(Print(ref=ref, way="note"))
                return
            if node.name == "q" and isinstance(ref.shape, Text):
                file = ref.shape.file
                if file is None:
                    builder.put(Print(ref=ref, way="text"))
                else:
                    there = Ref(go=file.path, path=(), shape=ref.shape)
                    builder.put(Print(ref=there, way="word" if file.word else "bytes"))
                return
            raise TranslationError(f"line {node.lineno}: filter {node.name} of {'.'.join(ref.path)}")
        ref = self.scalar(node, scope)
        if not isinstance(ref.shape, Whole):
            raise TranslationError(f"line {node.lineno}: {'.'.join(ref.path)} is printed without a filter")
        builder.put(Print(ref=ref, way="number"))

    def control(self, node: nodes.Node, scope: Scope) -> Sequence[Node]:
        if isinstance(node, nodes.Include):
            if not isinstance(node.template, nodes.Const) or not isinstance(node.template.value, str):
                raise TranslationError(f"line {node.lineno}: an include without a name")
            name = node.template.value
            return () if name in self.skip else self.template(name, scope)
        if isinstance(node, nodes.With):
            bound = dict(scope)
            for target, value in zip(node.targets, node.values, strict=True):
                assert isinstance(target, nodes.Name)
                bound[target.name] = self.resolve(value, scope)
            return self.body(node.body, bound)
        if isinstance(node, nodes.For):
            return (self.loop(node, scope),)
        if isinstance(node, nodes.If):
            return (self.condition(node, scope),)
        raise TranslationError(f"line {node.lineno}: {type(node).__name__}")

    def loop(self, node: nodes.For, scope: Scope) -> Block:
        if not isinstance(node.target, nodes.Name) or node.else_ or node.test is not None:
            raise TranslationError(f"line {node.lineno}: a loop with more than a name")
        over = self.reference(node.iter, scope)
        name, item = node.target.name, _variable(node.target.name, scope)
        bound: dict[str, Ref | PairRef]
        if isinstance(over.shape, Pairs):
            key, value = (
                Ref(go=f"{item}{part.capitalize()}", path=(*over.path, f"{{{part}}}"), shape=Text())
                for part in ("key", "value")
            )
            head, bound = (
                f"range {key.go}, {value.go} := {over.go}",
                {name: PairRef(key=key, value=value)},
            )
        elif isinstance(over.shape, Items):
            ref = Ref(go=item, path=(*over.path, "[]"), shape=over.shape.item)
            head, bound = f"range {item} := {over.go}", {name: ref}
        else:
            raise TranslationError(f"line {node.lineno}: {'.'.join(over.path)} is no list")
        body = self.body(node.body, {**scope, **bound})
        return Block((Branch(head=head, refs=(over,), body=body),))

    def condition(self, node: nodes.If, scope: Scope) -> Block:
        branches = []
        for word, one in [("if", node), *(("else if", other) for other in node.elif_)]:
            test, refs = self.test(one.test, scope)
            branches.append(Branch(head=f"{word} {test}", refs=refs, body=self.body(one.body, scope)))
        if node.else_:
            branches.append(Branch(head="else", body=self.body(node.else_, scope)))
        return Block(tuple(branches))

    def test(self, node: nodes.Node, scope: Scope) -> tuple[str, tuple[Ref, ...]]:
        """A condition as Go writes it, and what it looks at."""
        if isinstance(node, nodes.Not):
            inner, refs = self.test(node.node, scope)
            return f"not {_operand(inner)}", refs
        if isinstance(node, nodes.And | nodes.Or):
            (left, first), (right, second) = self.test(node.left, scope), self.test(node.right, scope)
            word = "and" if isinstance(node, nodes.And) else "or"
            return f"{word} {_operand(left)} {_operand(right)}", (*first, *second)
        ref = self.reference(node, scope)
        if isinstance(ref.shape, Reasoned):  # in Python an object, true whatever its value
            return f'not (kindIs "invalid" {ref.go})', (ref,)
        return ref.go, (ref,)

    def resolve(self, node: nodes.Node, scope: Scope) -> Ref | PairRef:
        if isinstance(node, nodes.Name):
            if node.name not in scope:
                raise TranslationError(f"line {node.lineno}: no {node.name}")
            return scope[node.name]
        if isinstance(node, nodes.Getattr):
            return _member(self.resolve(node.node, scope), node.attr, node.lineno)
        raise TranslationError(f"line {node.lineno}: {type(node).__name__} where a name is expected")

    def reference(self, node: nodes.Node, scope: Scope) -> Ref:
        found = self.resolve(node, scope)
        if isinstance(found, PairRef):
            raise TranslationError(f"line {node.lineno}: a pair where a value is expected")
        return found

    def scalar(self, node: nodes.Node, scope: Scope) -> Ref:
        ref = self.reference(node, scope)
        if ref.shape is not None and not isinstance(ref.shape, Text | Whole | Switch):
            raise TranslationError(f"line {node.lineno}: {'.'.join(ref.path)} is no single value")
        return ref


def _operand(test: str) -> str:
    return f"({test})" if " " in test else test


def _variable(name: str, scope: Scope) -> str:
    """A variable of Go that none in scope has: a part of the view that `with` named may still begin with it."""
    used = {
        ref.go.split(".")[0]
        for one in scope.values()
        for ref in ([one] if isinstance(one, Ref) else [one.key])
    }
    wanted, number = f"${camel(name)}", 2
    found = wanted
    while found in used or f"{found}Key" in used:
        found, number = f"{wanted}{number}", number + 1
    return found


def _member(of: Ref | PairRef, name: str, line: int) -> Ref:
    if isinstance(of, PairRef):
        if name not in ("key", "value"):
            raise TranslationError(f"line {line}: a pair has no {name}")
        return of.key if name == "key" else of.value
    if isinstance(of.shape, Reasoned):
        if name == "value":
            return Ref(go=of.go, path=of.path, shape=of.shape.value, optional=of.optional)
        if name == "because":
            return Ref(go=of.go, path=(*of.path, name), shape=None)
    if not isinstance(of.shape, Group) or name not in of.shape.fields:
        raise TranslationError(f"line {line}: {'.'.join(of.path) or 'plan'} has no {name}")
    field: Field = of.shape.fields[name]
    if field.flat:
        return Ref(go=of.go, path=of.path, shape=field.shape)
    key = camel(name)
    if not of.path and key == NAMESPACE:
        return Ref(go=_NAMESPACE_GO, path=(key,), shape=field.shape, optional=True)
    return Ref(go=f"{of.go}.{key}", path=(*of.path, key), shape=field.shape, optional=field.optional)


__all__ = ["Line", "TranslationError", "translate"]

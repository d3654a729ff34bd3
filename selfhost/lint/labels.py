"""Namespaces, labels and selectors: which objects of a lot belong together."""

from __future__ import annotations

from selfhost.lint.model import Object
from selfhost.lint.nodes import Map, Value, text_of


def same_namespace(one: Object, other: Object) -> bool:
    """Two objects of one namespace, as far as their text says it."""
    return not one.namespace or not other.namespace or one.namespace == other.namespace


def has_label(labels: Map, key: str, value: Value) -> bool:
    """A label is there with its value."""
    return key in labels and text_of(labels[key]) == text_of(value)


def selects(selector: Map, labels: Map) -> bool:
    """All labels of a selector are there; an empty selector selects nothing here."""
    return bool(selector) and all(has_label(labels, key, value) for key, value in selector.items())

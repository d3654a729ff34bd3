"""Options of the rendering on top of those that a deployment was made with: what was typed changes, the rest stays."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import Field, fields, replace
from typing import Any, TypeVar, cast

import click
from click.core import ParameterSource

from selfhost.cli._options import _option_of, _options_in
from selfhost.manifests.options import RenderOptions

F = TypeVar("F", bound=Callable[..., Any])

# Another namespace is another deployment; whether to surge and the image are options of the upgrade's own.
_WITHOUT = frozenset({"namespace", "surge", "image"})


def override_options(function: F) -> F:
    """Give a command the options of `selfhost render`, and those that were typed as one mapping, `typed`."""
    found = [
        (each, title)
        for field in fields(RenderOptions)
        if field.name not in _WITHOUT and not _is_elsewhere(field)
        for each, title in _options_in(field)
        if not _is_elsewhere(each)
    ]

    @functools.wraps(function)
    def gather(**given: Any) -> Any:
        context = click.get_current_context()
        typed: dict[str, Any] = {}
        for field, _ in found:
            value = given.pop(field.name)
            if context.get_parameter_source(field.name) is ParameterSource.COMMANDLINE:
                off = field.metadata["kind"] == "off_flag"
                typed[field.name] = not value if off else tuple(value) if isinstance(value, list) else value
        return function(**given, typed=typed)

    wrapped: Any = gather
    for each, title in reversed(found):
        wrapped = _option_of(each, title)(wrapped)
    return cast(F, wrapped)


def overridden(options: RenderOptions, typed: Mapping[str, Any]) -> RenderOptions:
    """The options with what was typed in their place.

    Raises:
        UsageError: together they contradict each other.
    """
    values: dict[str, Any] = {}
    for field in fields(RenderOptions):
        if field.metadata:
            values |= {field.name: typed[field.name]} if field.name in typed else {}
            continue
        group = getattr(options, field.name)
        inner = {one.name: typed[one.name] for one in fields(group) if one.name in typed}
        values |= {field.name: replace(group, **inner)} if inner else {}
    return replace(options, **values)


def _is_elsewhere(field: Field[Any]) -> bool:
    """Whether only targets take it that no cluster is given object by object: one machine's, the monitor's."""
    only = field.metadata.get("only", ()) if field.metadata else ()
    return bool(only) and not set(only) & {"kubernetes", "lws", "gateway", "kserve", "hybrid"}

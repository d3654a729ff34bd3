"""Options that several commands share; those of Workload and Split are made from the dataclass fields."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from selfhost.units import parse_count, parse_size
from selfhost.workload import Split, Workload

F = TypeVar("F", bound=Callable[..., Any])

# A second spelling for an option whose first is the engine's own name.
SHORT = {"--max-model-len": ("--context",)}
LARGEST_INT = 1 << 40


class _Parsed(click.ParamType[int]):
    """A parameter read by one of the functions in `selfhost/units.py`."""

    def __init__(self, name: str, parse: Callable[[str], int]) -> None:
        self.name = name
        self.parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            number = self.parse(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)
        if number < 1:
            self.fail(f"{value!r} must be at least 1.", param, ctx)
        return number


SIZE = _Parsed("size", parse_size)
COUNT = _Parsed("count", parse_count)
TYPES: dict[str, click.ParamType[Any] | None] = {
    "int": click.IntRange(0, LARGEST_INT),
    "count": COUNT,
    "size": SIZE,
    "ratio": click.FloatRange(0, 1, min_open=True),
    "str": click.STRING,
    "kv_dtype": click.STRING,
}


def _complete_gpu(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from selfhost.catalog.gpus import gpus

    return [CompletionItem(gpu.id, help=gpu.name) for gpu in gpus() if gpu.id.startswith(incomplete.lower())]


def _complete_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from selfhost.catalog.models import models

    found = [
        CompletionItem(model.id) for model in models() if model.id.lower().startswith(incomplete.lower())
    ]
    return found or [CompletionItem(incomplete, type="file")]


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object (docs/json.md) instead of text."
)
model_argument = click.argument("model", metavar="MODEL", shell_complete=_complete_model)
engine_option = click.option(
    "--engine",
    default="vllm",
    show_default=True,
    metavar="E@V",
    help="Engine, with a version if not the newest.",
)


def gpu_option(*, multiple: bool, help_text: str) -> Callable[[F], F]:
    """The `--gpu ID` option, once or several times."""
    return click.option(
        "--gpu", metavar="ID", multiple=multiple, help=help_text, shell_complete=_complete_gpu
    )


def _option_of(field: Field[Any]) -> Callable[[F], F]:
    """One click option for one field of `Workload` or `Split`."""
    flag, help_text, kind = field.metadata["flag"], field.metadata["help"], field.metadata["kind"]
    names = (flag, *SHORT.get(flag, ()), field.name)
    if kind in ("flag", "off_flag"):
        return click.option(*names, is_flag=True, default=False, help=help_text)
    default = None if field.default is MISSING else field.default
    if default is not None:
        help_text = f"{help_text}  [default: {default}]"
    return click.option(
        *names, type=TYPES[kind], default=None, metavar=field.metadata["metavar"], help=help_text
    )


def _value_of(field: Field[Any], given: dict[str, Any]) -> dict[str, Any]:
    value = given.pop(field.name)
    kind = field.metadata["kind"]
    if kind == "off_flag":
        return {field.name: not value}
    return {} if value is None else {field.name: value}


def _gathers(kind: type[Workload] | type[Split], argument: str) -> Callable[[F], F]:
    own = fields(kind)

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def gather(**given: Any) -> Any:
            values: dict[str, Any] = {}
            for field in own:
                values |= _value_of(field, given)
            return function(**given, **{argument: kind(**values)})

        wrapped: Any = gather
        for field in reversed(own):
            wrapped = _option_of(field)(wrapped)
        result: F = wrapped
        return result

    return decorate


def workload_options(function: F) -> F:
    """Give a command one option per field of `Workload`, and the value itself as its argument `workload`."""
    return _gathers(Workload, "workload")(function)


def split_options(function: F) -> F:
    """Give a command one option per field of `Split`, and the value itself as its argument `split`."""
    return _gathers(Split, "split")(function)

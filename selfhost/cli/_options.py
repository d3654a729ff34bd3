"""Options that several commands share; those of Workload and Split are made from the dataclass fields."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar, cast

import click
from click.shell_completion import CompletionItem

from selfhost.units import parse_count, parse_size
from selfhost.workload import KV_DTYPES, LARGEST, Split, Workload

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_ENGINE = "vllm"
# A second spelling for an option whose first is the engine's own name.
SHORT = {"--max-model-len": ("--context",), "--namespace": ("-n",)}


# Subscripted, these classes could not be made with click before 8.4, which is what engines' images have.
class _Parsed(click.ParamType):  # type: ignore[type-arg]
    """A whole number of at least `least`, read by a function that raises ValueError."""

    def __init__(self, name: str, parse: Callable[[str], int], *, least: int = 1) -> None:
        self.name = name
        self.parse = parse
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            number = self.parse(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)
        if number < self.least:
            self.fail(f"{value} must be at least {self.least}.", param, ctx)
        if number > LARGEST:
            self.fail(f"{value} is more than {LARGEST:,}.", param, ctx)
        return number


class _Ratio(click.ParamType):  # type: ignore[type-arg]
    """A share, more than 0 and at most 1."""

    name = "ratio"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            share = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number.", param, ctx)
        if not 0 < share <= 1:
            self.fail(f"{value} is not a share between 0 and 1.", param, ctx)
        return share


def _whole(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 40:
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


class Seconds(click.FloatRange):
    """A number of seconds in a range; `nan`, which is in every range, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = float(super().convert(value, param, ctx))
        if seconds != seconds:
            self.fail("nan is not a number of seconds.", param, ctx)
        return seconds


class NamedPath(click.Path):
    """A path that is not empty: what a script's unset variable gives would mean the current directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("the path is empty.", param, ctx)
        return super().convert(value, param, ctx)


SIZE = _Parsed("size", parse_size)
COUNT = _Parsed("count", parse_count)
RATIO = _Ratio()
AT_LEAST = (_Parsed("number", _whole, least=0), _Parsed("number", _whole, least=1))
TYPES: dict[str, click.ParamType[Any] | None] = {
    "count": COUNT,
    "size": SIZE,
    "ratio": RATIO,
    "str": click.STRING,
    "kv_dtype": click.STRING,  # Workload knows which there are
    "access_mode": click.Choice(["ReadWriteOnce", "ReadWriteMany"]),
    "autoscale": click.Choice(["keda", "hpa"]),
    "expose": click.Choice(["none", "ingress", "gateway"]),
    "spread": click.Choice(["node", "zone"]),
    "route_by": click.Choice(["own", "simple", "header"]),
    "mig_strategy": click.Choice(["single", "mixed"]),
    "pod_security": click.Choice(["restricted", "baseline", "privileged"]),
}


def complete_gpu(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of the GPU catalogue that begin with what is typed."""
    from selfhost.catalog.gpus import gpu_ids

    return [CompletionItem(gpu_id) for gpu_id in gpu_ids() if gpu_id.startswith(incomplete.lower())]


def _complete_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from selfhost.catalog.models import models

    found = [
        CompletionItem(model.id) for model in models() if model.id.lower().startswith(incomplete.lower())
    ]
    return found or [CompletionItem(incomplete, type="file")]


def _complete_quantization(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from selfhost.quantization import names

    return [CompletionItem(name) for name in names() if name.startswith(incomplete)]


def _complete_kv_dtype(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in KV_DTYPES if name.startswith(incomplete)]


def _complete_engine(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from selfhost.engines import engine_names, get_engine

    names = engine_names()
    if "@" not in incomplete:
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]
    found = [f"{name}@{get_engine(name).default_version}" for name in names]
    return [CompletionItem(name) for name in found if name.startswith(incomplete)]


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object (docs/json.md) instead of text."
)
model_argument = click.argument("model", metavar="MODEL", shell_complete=_complete_model)
engine_option = click.option(
    "--engine",
    default=DEFAULT_ENGINE,
    show_default=True,
    metavar="E@V",
    help="Engine, with a version if not the newest.",
    shell_complete=_complete_engine,
)


# What completes the value of an option that is made from a field.
COMPLETE = {"--quant": _complete_quantization, "--kv-dtype": _complete_kv_dtype}


def gpu_option(*, multiple: bool, help_text: str) -> Callable[[F], F]:
    """The `--gpu ID` option, once or several times."""
    return click.option("--gpu", metavar="ID", multiple=multiple, help=help_text, shell_complete=complete_gpu)


def gpu_memory_option(help_text: str) -> Callable[[F], F]:
    """The `--gpu-memory BYTES` option."""
    return click.option("--gpu-memory", type=SIZE, metavar="BYTES", help=help_text)


class _Titled(click.Option):
    """An option that `--help` lists below a title of its own, where it has one."""

    def __init__(self, *names: Any, title: str | None = None, **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.title = title


class Grouped(click.Command):
    """A command with so many options that `--help` lists them in groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Options without a title first, then each group in the order of its first option."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            row = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if row is not None:
                groups.setdefault(getattr(param, "title", None) or "Options", []).append(row)
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def _option_of(field: Field[Any], title: str | None = None) -> Callable[[F], F]:
    """One click option for one field that carries `flag`, `help`, `kind` and `metavar` as metadata."""
    option = functools.partial(click.option, cls=_Titled, title=title)
    flag, help_text, kind = field.metadata["flag"], field.metadata["help"], field.metadata["kind"]
    names = (flag, *SHORT.get(flag, ()), field.name)
    if kind in ("flag", "off_flag"):
        return option(*names, is_flag=True, default=False, help=help_text)
    if kind == "many":
        return option(*names, multiple=True, metavar=field.metadata["metavar"], help=help_text)
    default = None if field.default is MISSING else field.default
    if default is not None:
        help_text = f"{help_text}  [default: {default}]"
    of = AT_LEAST[default is None or default > 0] if kind == "int" else TYPES[kind]
    complete = COMPLETE.get(flag)
    return option(
        *names,
        type=of,
        default=None,
        metavar=field.metadata["metavar"],
        help=help_text,
        shell_complete=complete,
    )


def _value_of(field: Field[Any], given: dict[str, Any]) -> dict[str, Any]:
    value = given.pop(field.name)
    if field.metadata["kind"] == "off_flag":
        return {field.name: not value}
    if field.metadata["kind"] == "many":
        return {field.name: tuple(value)}
    return {} if value is None else {field.name: value}


def options_of(
    kind: Callable[..., Any], argument: str, *, without: frozenset[str] = frozenset()
) -> Callable[[F], F]:
    """Give a command one option per field of a dataclass, and the value made of them as one argument.

    Args:
        kind: the dataclass; each field's metadata describes its option.
        argument: name of the command's parameter that receives the value.
        without: fields that keep their default and get no option.
    """
    own = tuple(field for field in fields(cast(Any, kind)) if field.name not in without)

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def gather(**given: Any) -> Any:
            made = kind(**_values_of(own, given))  # takes its own out of what was given
            return function(**given, **{argument: made})

        wrapped: Any = gather
        for each, title in reversed([option for field in own for option in _options_in(field)]):
            wrapped = _option_of(each, title)(wrapped)
        return cast(F, wrapped)

    return decorate


def _options_in(field: Field[Any]) -> tuple[tuple[Field[Any], str | None], ...]:
    """The field itself, or those of the group that it holds, with the group's first words as their title."""
    if field.metadata:
        return ((field, None),)
    group = cast(Any, field.default_factory)
    title = (group.__doc__ or "").partition("\n")[0].rstrip(".")
    return tuple((inner, title) for inner in fields(group))


def _values_of(own: tuple[Field[Any], ...], given: dict[str, Any]) -> dict[str, Any]:
    """Values for the fields, out of what was typed."""
    values: dict[str, Any] = {}
    for field in own:
        if field.metadata:
            values |= _value_of(field, given)
        else:
            group = cast(Any, field.default_factory)
            values[field.name] = group(**_values_of(fields(group), given))
    return values


workload_options = options_of(Workload, "workload")
split_options = options_of(Split, "split")

"""Parsers written with argparse: vLLM and SGLang."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from flag_readers import Option, Read

METRIC_TYPES = ("gauge", "counter", "histogram", "summary")
# Parsers of `vllm serve` (the file moved in 0.29 and 0.33), relative to the tree.
VLLM_PARSERS = (
    "vllm/engine/arg_utils.py",
    "vllm/entrypoints/openai/cli_args.py",
    "vllm/entrypoints/launchers/cli_args.py",
    "vllm/entrypoints/common/cli_args.py",
    "vllm/entrypoints/cli/serve.py",
    "vllm/entrypoints/utils.py",
)
TESTS = re.compile(r"(^|/)(tests?|bench(mark)?s?|examples)(/|_)")


def vllm(tree: Path) -> Read:
    """vLLM: argparse fed from dataclasses."""
    classes = _classes([tree / "vllm" / "config.py", *sorted((tree / "vllm" / "config").glob("**/*.py"))])
    read = Read()
    for name in VLLM_PARSERS:
        path = tree / name
        if path.exists():
            module = ast.parse(path.read_text())
            own = _classes([path])
            known = {**classes, **own, "": {**classes[""], **own[""]}}
            _arguments(module, known, read, boolean="BooleanOptionalAction" in path.read_text())
            _frontend(module, known[""], read)
    _names(tree / "vllm", r"VLLM_[A-Z0-9_]+", r"vllm:[a-z0-9_]+", read)
    return read


def sglang(tree: Path) -> Read:
    """SGLang: argparse to 0.5.13, annotated fields from 0.5.14."""
    read = Read()
    paths = [
        tree / "sglang/srt/server_args.py",
        *sorted((tree / "sglang/srt/arg_groups/fields").glob("*.py")),
    ]
    for path in paths:
        module = ast.parse(path.read_text())
        lists = _lists(module)
        _arguments(module, {}, read, boolean=False, lists=lists)
        for node in ast.walk(module):
            if isinstance(node, ast.ClassDef):
                _annotated(node, lists, read)
    _names(tree / "sglang", r"(?:SGLANG|SGL)_[A-Z0-9_]+", r"sglang:[a-z0-9_]+", read)
    return read


def _classes(paths: list[Path]) -> dict[str, dict[str, ast.expr]]:
    """Annotations of each class' fields, those of its bases included, by the class' name; named types by theirs."""
    found: dict[str, dict[str, ast.expr]] = {"": {}}
    bases: dict[str, list[str]] = {}
    for path in paths:
        if not path.exists():
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                fields = {
                    item.target.id: item.annotation
                    for item in node.body
                    if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
                }
                found.setdefault(node.name, {}).update(fields)
                bases[node.name] = [base.id for base in node.bases if isinstance(base, ast.Name)]
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found[""][node.targets[0].id] = node.value
    for name, parents in bases.items():
        for parent in parents:
            for field, annotation in found.get(parent, {}).items():
                found[name].setdefault(field, annotation)
    return found


def _lists(module: ast.Module) -> dict[str, list[str]]:
    """Lists of words at the top of a module."""
    found: dict[str, list[str]] = {}
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            words = _words(node.value, found)
            if words is not None:
                found[node.targets[0].id] = words
    return found


def _words(node: ast.expr, lists: dict[str, list[str]]) -> list[str] | None:
    """Words of a literal list, None where it is not all literal."""
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        values = [item.value for item in node.elts if isinstance(item, ast.Constant)]
        return [str(value) for value in values] if len(values) == len(node.elts) and values else None
    return lists.get(node.id) if isinstance(node, ast.Name) else None


def _arguments(
    module: ast.Module,
    classes: dict[str, dict[str, ast.expr]],
    read: Read,
    *,
    boolean: bool,
    lists: dict[str, list[str]] | None = None,
) -> None:
    """Every `add_argument` with a literal name."""
    groups = _groups(module)
    for node in ast.walk(module):
        if not (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "add_argument"
        ):
            continue
        names = [
            arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
        ]
        long = [name for name in names if name.startswith("--")]
        if not long:
            continue
        option = _shape(node, classes, groups, boolean=boolean, lists=lists or {})
        option.aliases |= {name for name in names if name != long[0]}
        read.options[long[0]] = option


def _groups(module: ast.Module) -> dict[str, str]:
    """`x_kwargs = get_kwargs(XConfig)`: class by the name of the variable."""
    return {
        node.targets[0].id: node.value.args[0].id
        for node in ast.walk(module)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id == "get_kwargs"
        and node.value.args
        and isinstance(node.value.args[0], ast.Name)
    }


def _shape(
    node: ast.Call,
    classes: dict[str, dict[str, ast.expr]],
    groups: dict[str, str],
    *,
    boolean: bool,
    lists: dict[str, list[str]],
) -> Option:
    option = Option()
    for keyword in node.keywords:
        parts = ast.walk(keyword.value) if keyword.arg is None else ()
        for part in parts:
            if (
                isinstance(part, ast.Subscript)
                and isinstance(part.value, ast.Name)
                and isinstance(part.slice, ast.Constant)
            ):
                annotation = classes.get(groups.get(part.value.id, ""), {}).get(str(part.slice.value))
                if annotation is not None:
                    option = _typed(annotation, classes.get("", {}), boolean=boolean)
    for keyword in node.keywords:
        _keyword(keyword, option, lists)
    return option


def _keyword(keyword: ast.keyword, option: Option, lists: dict[str, list[str]]) -> None:
    text = ast.unparse(keyword.value)
    if keyword.arg == "action":
        if "BooleanOptional" in text:
            option.shape = "boolean"
        elif "store_true" in text or "store_false" in text or "StoreTrue" in text or "StoreConst" in text:
            option.shape = "switch"
        elif "StoreBoolean" in text:
            option.shape = "optional"
    elif keyword.arg == "nargs":
        option.shape = {"'?'": "optional", "0": "switch", "1": "value"}.get(text, "list")
    elif keyword.arg == "choices":
        option.choices = set(_words(keyword.value, lists) or ())


def _typed(annotation: ast.expr, named: dict[str, ast.expr], *, boolean: bool) -> Option:
    """Shape of a field from its type, as `get_kwargs` reads it."""
    words: set[str] = set()
    types: set[str] = set()
    waiting = [annotation]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            waiting.append(ast.parse(node.value, mode="eval").body)
        elif isinstance(node, ast.Subscript):
            waiting += _subscript(node, words, types)
        elif isinstance(node, ast.BinOp):
            waiting += [node.left, node.right]
        elif isinstance(node, ast.Tuple):
            waiting += node.elts
        elif isinstance(node, ast.Name) and node.id in named:
            waiting.append(named[node.id])
        elif isinstance(node, ast.Name):
            types.add(node.id)
    if {"bool", "str"} <= types:
        return Option(shape="optional")
    if "bool" in types and not words:
        return Option(shape="boolean" if boolean else "switch")
    if types & {"list", "tuple", "set", "sequence"}:
        return Option(shape="list")
    # `str` beside the literals takes any word; other types are made in code and do not widen the choice.
    return Option(choices=words - {"None"} if "str" not in types else set())


def _subscript(node: ast.Subscript, words: set[str], types: set[str]) -> list[ast.expr]:
    """What stands in `X[...]`: words of a Literal, parts of a union (returned), or a type of its own."""
    head = ast.unparse(node.value)
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if head.endswith("Literal"):
        words |= {str(item.value) for item in inner if isinstance(item, ast.Constant)}
        return [item for item in inner if not isinstance(item, ast.Constant)]
    if head in ("Optional", "Union", "SkipValidation"):
        return inner
    types.add(head.lower().split(".")[-1])
    return []


def _frontend(module: ast.Module, named: dict[str, ast.expr], read: Read) -> None:
    """Classes whose fields all become options (`for key, value in frontend_kwargs.items()`)."""
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef) and node.name in ("FrontendArgs", "BaseFrontendArgs"):
            for item in node.body:
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                    name = "--" + item.target.id.replace("_", "-")
                    read.options[name] = _typed(item.annotation, named, boolean=True)


def _annotated(node: ast.ClassDef, lists: dict[str, list[str]], read: Read) -> None:
    """`field: A[type, Arg(...)]`."""
    for item in node.body:
        if not (
            isinstance(item, ast.AnnAssign)
            and isinstance(item.target, ast.Name)
            and isinstance(item.annotation, ast.Subscript)
            and ast.unparse(item.annotation.value) == "A"
            and isinstance(item.annotation.slice, ast.Tuple)
        ):
            continue
        option = _typed(item.annotation.slice.elts[0], {}, boolean=False)
        name = "--" + item.target.id.replace("_", "-")
        keywords = [
            keyword
            for part in item.annotation.slice.elts[1:]
            if isinstance(part, ast.Call) and ast.unparse(part.func) == "Arg"
            for keyword in part.keywords
        ]
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in keywords}
        if given.get("no_cli") == "True":
            continue
        for keyword in keywords:
            _keyword(keyword, option, lists)
            if keyword.arg == "aliases":
                option.aliases |= set(_words(keyword.value, lists) or ())
            elif keyword.arg == "cli_name" and isinstance(keyword.value, ast.Constant):
                name = str(keyword.value.value)
        read.options[name if name.startswith("--") else "--" + name] = option


def _names(folder: Path, variable: str, metric: str, read: Read) -> None:
    """Variables and metrics named in string constants (and, for SGLang's table of variables, by assignment)."""
    for path in sorted(folder.rglob("*.py")):
        inside = str(path.relative_to(folder))
        if TESTS.search(inside):
            continue
        text = path.read_text(errors="replace")
        if "metric" in inside or re.search(metric, text):
            for name, kind, labels in _metrics(text, metric):
                if kind != "unknown" or name not in read.metrics:
                    read.metrics[name] = (kind, labels)
        read.variables |= set(re.findall(rf"""["'f]({variable})["'=\{{]""", text))
        read.variables |= set(re.findall(rf"^    ({variable})\s*=", text, re.MULTILINE))
        read.variables |= set(re.findall(rf"\b(?:envs?\.|getenv\(['\"])({variable})\b", text))


def _metrics(text: str, pattern: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Names in string constants, with the type of the call they stand in."""
    try:
        module = ast.parse(text)
    except SyntaxError:
        return
    for node in ast.walk(module):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.fullmatch(pattern, node.value)
        ):
            yield node.value, "unknown", ()
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        kind = next((each for each in METRIC_TYPES if each in ast.unparse(node.func).lower()), None)
        names = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "name")]
        for name in names:
            if kind and isinstance(name, ast.Constant) and re.fullmatch(pattern, str(name.value)):
                labels = [
                    keyword.value for keyword in node.keywords if keyword.arg in ("labelnames", "labels")
                ]
                own = [
                    each.value for part in labels for each in ast.walk(part) if isinstance(each, ast.Constant)
                ]
                yield str(name.value), kind, tuple(str(each) for each in own)

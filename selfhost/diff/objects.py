"""Two sets of Kubernetes objects, matched by kind, namespace and name, and compared by what their fields say.

Lists whose items have names are compared by name, arguments by their flags, quantities by their size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from selfhost.diff.load import Key, Plain
from selfhost.diff.types import Field, ObjectChange
from selfhost.hush import hushed, is_secret

# What identifies an item of a list (Kubernetes' own merge keys), the first that every item has.
_NAMES = ("name", "containerPort", "mountPath", "topologyKey", "key", "ip", "port")
_WORDS = ("args", "command")
_QUANTITY = re.compile(r"(\d{1,18})(\.\d{1,9})?(m|[kMGTP]|[KMGTP]i)?")
_UNITS = {
    "": 1000, "m": 1, "k": 10**6, "M": 10**9, "G": 10**12, "T": 10**15, "P": 10**18,
    "Ki": 1000 << 10, "Mi": 1000 << 20, "Gi": 1000 << 30, "Ti": 1000 << 40, "Pi": 1000 << 50,
}  # fmt: skip
_SIZED = ("requests", "limits", "sizeLimit", "storage", "capacity")
_NAMED_VALUE = re.compile(r".*\[([^\[\]]+)\](?:\.value)?|(?:data|stringData)\.(.+)", re.DOTALL)
_HIDDEN = "(another)"
_LONGEST = 200
_BINARY = "binaryData."
# What a rendering carries for itself, and is compared as a plan.
_CARRIED = ("metadata.annotations.selfhost/plan",)


def compare_objects(
    old: dict[Key, dict[str, Plain]], new: dict[Key, dict[str, Plain]]
) -> tuple[ObjectChange, ...]:
    """What differs: objects that are gone, new ones, and fields of those on both sides."""
    found = []
    for key in (*old, *(key for key in new if key not in old)):
        before, after = old.get(key), new.get(key)
        if before is None or after is None:
            found.append(_whole(key, "removed" if after is None else "added"))
            continue
        fields = tuple(differences(before, after))
        if fields:
            kind, namespace, name = key
            found.append(
                ObjectChange(
                    change="changed", kind=kind, namespace=namespace or None, name=name, fields=fields
                )
            )
    return tuple(found)


def _whole(key: Key, change: str) -> ObjectChange:
    kind, namespace, name = key
    return ObjectChange(
        change="added" if change == "added" else "removed",
        kind=kind,
        namespace=namespace or None,
        name=name,
        fields=(),
    )


def differences(old: dict[str, Plain], new: dict[str, Plain]) -> Iterator[Field]:
    """Fields of an object that differ, by their paths."""
    a, b = dict(_leaves(old, "")), dict(_leaves(new, ""))
    for path in (*a, *(path for path in b if path not in a)):
        if path in _CARRIED:
            continue
        before, after = a.get(path), b.get(path)
        if _comparable(path, before) != _comparable(path, after):
            secret = old.get("kind") == "Secret" or _is_secret(path)
            if path.startswith(_BINARY) and not secret:
                before, after = _counted(before), _counted(after)
            yield Field(path=path, old=_shown(before, secret=secret), new=_shown(after, secret=secret))


def _is_secret(path: str) -> bool:
    """Whether the field is the value of a flag, a variable or an entry whose name says that it is a secret."""
    found = _NAMED_VALUE.fullmatch(path)
    return found is not None and is_secret(found[1] or found[2])


def _leaves(value: Plain, path: str) -> Iterator[tuple[str, Plain]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        yield from _items(value, path)
    elif value is not None:  # what is null says nothing
        yield path, value


def _items(value: list[Plain], path: str) -> Iterator[tuple[str, Plain]]:
    if path.rpartition(".")[2] in _WORDS and all(isinstance(item, str) for item in value):
        yield from _flags([str(item) for item in value], path)
        return
    name = next((name for name in _NAMES if _named(value, name)), None)
    for number, item in enumerate(value):
        if name is None or not isinstance(item, dict):
            yield from _leaves(item, f"{path}[{number}]")
        else:
            rest = {key: inner for key, inner in item.items() if key != name}
            yield from _leaves(rest or "there", f"{path}[{item[name]}]")


def _named(value: list[Plain], name: str) -> bool:
    """Whether a key tells all items of a list apart."""
    if not all(isinstance(item, dict) and isinstance(item.get(name), (str, int)) for item in value):
        return False
    return len({str(item[name]) for item in value if isinstance(item, dict)}) == len(value)


def _flags(words: list[str], path: str) -> Iterator[tuple[str, Plain]]:
    """Arguments by their flags: `--a=b` and `--a b` say the same."""
    place = 0
    waiting: str | None = None
    for word in words:
        if re.match(r"--?[A-Za-z]", word):
            if waiting is not None:
                yield f"{path}[{waiting}]", "on"
            waiting, equals, value = word.partition("=")
            if equals:
                yield f"{path}[{waiting}]", value
                waiting = None
        elif waiting is not None:
            yield f"{path}[{waiting}]", word
            waiting = None
        else:
            place += 1
            yield f"{path}[{place}]", word
    if waiting is not None:
        yield f"{path}[{waiting}]", "on"


def _comparable(path: str, value: Plain) -> object:
    if path.startswith(_BINARY) and isinstance(value, str):
        return "".join(value.split())  # base64 in lines, as kustomize writes it, or in one
    if any(part in _SIZED for part in re.split(r"[.\[\]]", path)):
        size = milli(value)
        if size is not None:
            return size
    return value


def milli(value: Plain) -> int | None:
    """Thousandths of a quantity (`1500m`, `2`, `16Gi`); None for what is none."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    found = _QUANTITY.fullmatch(str(value).strip())
    if found is None:
        return None
    unit = _UNITS[found[3] or ""]
    fraction = int(found[2][1:]) * unit // 10 ** (len(found[2]) - 1) if found[2] else 0
    return int(found[1]) * unit + fraction


def _counted(value: Plain) -> Plain:
    """What is told of bytes: nobody reads base64."""
    return f"{len(''.join(value.split())):,} characters of base64" if isinstance(value, str) else value


def _shown(value: Plain, *, secret: bool) -> str | None:
    if value is None:
        return None
    if secret:
        return _HIDDEN
    text = hushed(value if isinstance(value, str) else json.dumps(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"

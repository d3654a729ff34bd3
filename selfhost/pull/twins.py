"""Model + a format's name -> repositories on the Hub that hold the same model quantized so, the publisher's own first.

What a repository is made from and how it is quantized is what its own page says: a name or a tag is a claim, which
`selfhost size` and a pull then hold against the files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import urlencode

from selfhost import quantization
from selfhost.errors import MalformedAnswerError, ModelReferenceError, UsageError
from selfhost.hub.card import declared_by, licence_id
from selfhost.hub.references import check_repository, shown
from selfhost.hub.remote import Hub
from selfhost.hub.safejson import MAXIMUM_BYTES, parse
from selfhost.licence import Gate

MAXIMUM_ROWS = 500  # that one question may answer
MAXIMUM_TWINS = 50

# Properties that the Hub gives for each row of a list (huggingface_hub 2.4, hf_api.py `list_models`).
_EXPAND = ("tags", "downloads", "gated", "config", "cardData")


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """A repository that holds a model quantized.

    Args:
        repo: its name.
        scheme: the format, as `SCHEMES` here names it.
        downloads: in the last 30 days, None where the Hub does not say.
        same_owner: the account that published the model published this too.
        gated: who may read it.
        licence: what its card declares, None where it declares nothing.
        because: how the format is known.
    """

    repo: str
    scheme: str
    downloads: int | None
    same_owner: bool
    gated: Gate
    licence: str | None
    because: str


# Format -> words of it in a repository's name or tags, in the publishers' own spelling but lower case.
SCHEMES: Mapping[str, tuple[str, ...]] = {
    "awq": ("awq",),
    "gptq": ("gptq",),
    "autoround": ("autoround", "auto-round"),
    "nvfp4": ("nvfp4", "fp4"),
    "mxfp4": ("mxfp4",),
    "mxfp8": ("mxfp8",),
    "fp8": ("fp8", "float8"),
    "w4a16": ("w4a16",),
    "w8a16": ("w8a16",),
    "w8a8": ("w8a8",),
    "bnb": ("bnb", "bitsandbytes"),
    "gguf": ("gguf",),
}  # fmt: skip

# What may be asked for -> formats that answer it, beside the formats' own names.
_ASKED: Mapping[str, tuple[str, ...]] = {
    "int4": ("awq", "gptq", "w4a16", "autoround"),
    "4bit": ("awq", "gptq", "w4a16", "autoround", "nvfp4", "mxfp4", "bnb"),
    "int8": ("w8a8",),
    "fp4": ("nvfp4", "mxfp4"),
    "auto-round": ("autoround",),
    "bitsandbytes": ("bnb",),
}

# `quant_method` -> format, and the formats of tools that write several (names: vLLM 0.32, quantization/__init__.py).
_METHODS: Mapping[str, str] = {
    "awq": "awq",
    "gptq": "gptq",
    "auto-round": "autoround",
    "inc": "autoround",
    "fp8": "fp8",
    "fbgemm-fp8": "fp8",
    "mxfp4": "mxfp4",
    "gguf": "gguf",
    "bitsandbytes": "bnb",
}
_TOOLS: Mapping[str, tuple[str, ...]] = {
    "compressed-tensors": ("nvfp4", "mxfp4", "mxfp8", "fp8", "w4a16", "w8a16", "w8a8"),
    "modelopt": ("nvfp4", "mxfp8", "fp8"),
    "quark": ("mxfp4", "fp8", "w8a8"),
}
_LAYOUTS: Mapping[str, str] = {
    "float-quantized": "fp8",
    "int-quantized": "w8a8",
}  # compressed-tensors' `format`

# Words that a name may have beside its format's.
_BESIDE = frozenset((
    "int4", "int8", "4bit", "8bit", "g128", "128g", "gs128", "quantized", "dynamic", "static", "block", "channel",
    "tensor", "kv", "w4", "w8", "a16", "a8",
))  # fmt: skip
_WORD = re.compile(r"[a-z0-9]+")


def find_twins(hub: Hub, repo: str, quant: str) -> tuple[Twin, ...]:
    """Ask the Hub for quantized versions of a model.

    Args:
        hub: whom to ask; two questions.
        repo: the model's repository.
        quant: a format: one of `SCHEMES`, a `--quant` name of `selfhost size`, or int4, int8, fp4 or 4bit.

    Returns:
        The publisher's own first, then the most downloaded; at most `MAXIMUM_TWINS`.

    Raises:
        UsageError: a format that nothing is known of.
        SelfhostError: the Hub's refusals; an answer that makes no sense.
    """
    wanted = schemes_of(quant)
    check_repository(repo)
    owner, _, name = repo.rpartition("/")
    # The card's base_model makes the tag. Publishers do not always write it for versions of their own: the name tells.
    rows = _list(hub, repo, {"filter": f"base_model:quantized:{repo}"})
    if owner:
        rows += _list(hub, repo, {"author": owner, "search": name})
    found: dict[str, Twin] = {}
    for row in rows:
        twin = _twin(row, repo, wanted)
        if twin is not None:
            found.setdefault(twin.repo.lower(), twin)
    order = sorted(found.values(), key=lambda twin: (not twin.same_owner, -(twin.downloads or 0), twin.repo))
    return tuple(order[:MAXIMUM_TWINS])


def schemes_of(quant: str) -> tuple[str, ...]:
    """The formats that a name asks for.

    Raises:
        UsageError: it names none.
    """
    name = quant.strip().lower()
    if name in _ASKED or name in SCHEMES:
        return _ASKED.get(name, (name,))
    if name in quantization.names():
        head = name.partition("-")[0]
        formats = tuple(scheme for scheme in SCHEMES if head in (scheme, f"{scheme}a16"))
        if formats:
            return formats
    known = sorted({*SCHEMES, *_ASKED})
    raise UsageError(
        f"Nothing is known of a format {shown(quant, 60)!r}.", hint=f"write one of {', '.join(known)}."
    )


def _list(hub: Hub, repo: str, question: Mapping[str, str]) -> tuple[Mapping[str, object], ...]:
    query = [*question.items(), ("sort", "downloads"), ("limit", str(MAXIMUM_ROWS))]
    query += [("expand", name) for name in _EXPAND]
    what = f"the quantized versions of {repo}"
    data = hub.json(f"/api/models?{urlencode(query)}", what=what)
    where = f"The Hub's answer about {what}"
    rows = parse(data, where=where, maximum_bytes=MAXIMUM_BYTES, strict_keys=False)
    if not isinstance(rows, list):
        raise MalformedAnswerError(
            f"{where} is no list.", hint="try again; if it stays, the mirror is at fault."
        )
    return tuple(row for row in rows[:MAXIMUM_ROWS] if isinstance(row, dict))


def _twin(row: Mapping[str, object], base: str, wanted: tuple[str, ...]) -> Twin | None:
    """A row of a list as a twin, None where it is another model or another format."""
    repo = row.get("id")
    if not isinstance(repo, str) or repo.lower() == base.lower():
        return None
    try:
        check_repository(repo)
    except ModelReferenceError:  # whoever lists it, it is never shown or asked for
        return None
    owner, _, name = repo.rpartition("/")
    base_owner, _, base_name = base.rpartition("/")
    same_owner = owner.lower() == base_owner.lower()
    declared = declared_by(row)
    is_tagged = f"base_model:quantized:{base}".lower() in (tag.lower() for tag in _tags(row))
    if not is_tagged and (declared.base_models or not same_owner or not _extends(name, base_name)):
        return None
    known = recognise(row, name=_rest(name, base_name))
    if known is None or known[0] not in wanted:
        return None
    scheme, because = known
    downloads = row.get("downloads")
    return Twin(
        repo=repo,
        scheme=scheme,
        downloads=downloads if type(downloads) is int and downloads >= 0 else None,
        same_owner=same_owner,
        gated=declared.gate,
        licence=licence_id(declared),
        because=because,
    )


def recognise(row: Mapping[str, object], *, name: str) -> tuple[str, str] | None:
    """The format of a repository and how it is known, None where its page does not tell.

    Its configuration counts first, then its name, then its tags: a repository is named for one format, while the tags
    of a collection may name several.

    Args:
        row: the Hub's row.
        name: what its name adds to the model's.
    """
    section = _section(row)
    method = _said(section, "quant_method").replace("_", "-").removeprefix("intel/")
    if method:
        # A configuration that names a method nobody here knows is no version that a name could make one.
        return _by_method(method, section, name)
    for text, because in (
        (name, "its name"),
        (" ".join(tag for tag in _tags(row) if ":" not in tag), "its tags"),
    ):
        scheme = _by_words(text, tuple(SCHEMES))
        if scheme is not None:
            return scheme, because
    return None


def _by_method(method: str, section: Mapping[str, object], name: str) -> tuple[str, str] | None:
    """Format by `quant_method`; of tools that write several, what else the section says or the name tells which."""
    because = f"quant_method {method} in its configuration"
    scheme = _METHODS.get(method, "fp8" if method.endswith("-fp8") else None)
    if scheme is not None:
        return scheme, because
    tool = method.partition("-")[0] if method.startswith("modelopt") else method
    for text, how in (
        (f"{method} {_said(section, 'quant_algo')}", ""),
        (_said(section, "format"), ""),
        (name, ", and its name"),
    ):
        scheme = _LAYOUTS.get(text) or _by_words(text, _TOOLS.get(tool, ()))
        if scheme is not None:
            return scheme, because + how
    if tool == "compressed-tensors" and _words(name) & {"awq", "gptq", "int4"}:
        return "w4a16", f"{because}, and its name"  # there these name the algorithm, not the format
    return None


def _by_words(text: str, among: tuple[str, ...]) -> str | None:
    """The first of some formats that a text names."""
    words = _words(text)
    return next((scheme for scheme in among if words.intersection(SCHEMES[scheme])), None)


def _words(text: str) -> set[str]:
    """Words of a name or a tag, neighbours joined too: `auto-round`, `NVFP4A16` and `FP8-dynamic` name a format."""
    words = _WORD.findall(text.lower())
    joined = {f"{first}-{second}" for first, second in pairwise(words)}
    return {*words, *joined, *(word.removesuffix("a16") for word in words if word.endswith("fp4a16"))}


def _extends(name: str, base: str) -> bool:
    """Whether a name is the model's with nothing but a format behind it: `X-AWQ` for `X`, not `X-Instruct-AWQ`."""
    rest = name[len(base) :].lower()
    if not name.lower().startswith(base.lower()) or rest[:1] not in ("-", "_", "."):
        return False
    known = {word for spellings in SCHEMES.values() for spelling in spellings for word in spelling.split("-")}
    return all(word.removesuffix("a16") in known or word in known | _BESIDE for word in _WORD.findall(rest))


def _rest(name: str, base: str) -> str:
    """What a name says beside the model's own, which may hold a format's name itself."""
    at = name.lower().find(base.lower())
    return name if at < 0 else f"{name[:at]} {name[at + len(base) :]}"


def _section(row: Mapping[str, object]) -> Mapping[str, object]:
    config = row.get("config")
    section = config.get("quantization_config") if isinstance(config, dict) else None
    return section if isinstance(section, dict) else {}


def _tags(row: Mapping[str, object]) -> Iterator[str]:
    tags = row.get("tags")
    for tag in tags[:1000] if isinstance(tags, list) else ():
        if isinstance(tag, str) and len(tag) < 300:
            yield tag


def _said(section: Mapping[str, object], field: str) -> str:
    value = section.get(field)
    return value.strip().lower()[:80] if isinstance(value, str) else ""

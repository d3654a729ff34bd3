"""What a model's card, its GGUF header or its lock file declares about licence, access and origin."""

from __future__ import annotations

import re
from collections.abc import Mapping

from selfhost.licence import Declared, Gate

CARD = "README.md"
CARD_BYTES = 1 << 16  # front matter with the questions of a gate has some 10 kB
LOCK = "selfhost.lock.json"

_LONGEST = 300
_LICENCE = re.compile(r"[\w.+ -]{1,80}")
_REPOSITORY = re.compile(r"\w[\w.-]{0,95}(?:/\w[\w.-]{0,95})?", re.ASCII)
_FIELD = re.compile(r"([A-Za-z_]{1,60}):(?=[ \t]|$)")
_HUB_PAGE = re.compile(r"https://huggingface\.co/([\w.-]+/[\w.-]+)/?", re.ASCII)
_MOST_BASES = 16


def declared_by(table: Mapping[str, object]) -> Declared:
    """What the Hub's answer about a model says of its licence and of who may read it."""
    found = table.get("cardData")
    card: Mapping[str, object] = found if isinstance(found, dict) else {}
    gated = table.get("gated")
    gate: Gate = "none" if gated is False else "unknown"
    if gated == "auto" or gated == "manual":
        gate = gated
    return _declared(card, gate)


def declared_by_card(text: bytes) -> Declared:
    """What the front matter of a README.md says, from the file's first bytes.

    Only fields of the outermost level are read, and of YAML only plain and quoted words and lists of them; more is
    not written there.
    """
    return _declared(_front_matter(text.decode("utf-8", errors="replace")), "unknown")


def declared_by_gguf(fields: Mapping[str, object]) -> Declared:
    """What a GGUF header says (`general.license` and its neighbours in ggml's docs/gguf.md)."""
    card: dict[str, object] = {
        "license": fields.get("general.license"),
        "license_name": fields.get("general.license.name"),
        "license_link": fields.get("general.license.link"),
    }
    count = fields.get("general.base_model.count", 0)
    pages = [
        fields.get(f"general.base_model.{number}.repo_url")
        for number in range(min(count, _MOST_BASES) if isinstance(count, int) else 0)
    ]
    matches = [_HUB_PAGE.fullmatch(page) for page in pages if isinstance(page, str)]
    card["base_model"] = [match[1] for match in matches if match is not None]
    return _declared(card, "unknown")


def declared_by_lock(lock: Mapping[str, object], card: Declared) -> tuple[Declared, str | None]:
    """What a pull wrote down, which knows the Hub's page and the base models, and the repository that was pulled.

    Args:
        lock: selfhost.lock.json; what is not as a pull writes it counts as not said.
        card: what the card beside it says.
    """
    repo = lock.get("repo")
    repo = repo if isinstance(repo, str) and _REPOSITORY.fullmatch(repo) else None
    verdict = lock.get("licence")
    if not isinstance(verdict, dict):
        return card, repo
    gate, terms = verdict.get("gate"), verdict.get("terms")
    licence = _said(verdict, "licence")
    return (
        Declared(
            licence=card.licence if licence is None else licence.lower(),
            name=card.name,
            link=card.link,
            gate=gate if gate in ("none", "auto", "manual") else "unknown",
            eu_excluded=card.eu_excluded or (isinstance(terms, list) and "not in EU" in terms),
            base_models=card.base_models,
        ),
        repo,
    )


def licence_id(declared: Declared) -> str | None:
    """The licence in one word, as a card's `license` or, where that is `other`, its `license_name` has it."""
    said = declared.name or declared.licence if declared.licence == "other" else declared.licence
    return said.lower() if said is not None and _LICENCE.fullmatch(said) else None


def _declared(card: Mapping[str, object], gate: Gate) -> Declared:
    licence, name = _said(card, "license"), _said(card, "license_name")
    several = card.get("license")
    if isinstance(several, list) and all(isinstance(one, str) for one in several):
        # Several licences for parts that the card names in prose: which one binds the weights is not said.
        licence = several[0] if len(several) == 1 else "other"
        name = name or " and ".join(several)[:_LONGEST] if len(several) > 1 else name
    found = card.get("base_model")
    bases = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    return Declared(
        licence=None if licence is None else licence.lower(),
        name=name,
        link=_said(card, "license_link"),
        gate=gate,
        eu_excluded=card.get("extra_gated_eu_disallowed") is True,
        base_models=tuple(one for one in bases if isinstance(one, str) and _REPOSITORY.fullmatch(one))[
            :_MOST_BASES
        ],
    )


def _said(card: Mapping[str, object], field: str) -> str | None:
    value = card.get(field)
    return value.strip()[:_LONGEST] or None if isinstance(value, str) else None


def _front_matter(text: str) -> dict[str, object]:
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != "---":
        return {}
    card: dict[str, object] = {}
    last: str | None = None
    for line in lines[1:]:
        if line.rstrip() == "---":
            break
        field = _FIELD.match(line)
        if field is not None:
            last = field[1]
            card.setdefault(last, _value(line[field.end() :].strip()))
            continue
        item, held = line.strip(), card.get(last or "")
        if item.startswith("- ") and last is not None and (held is None or isinstance(held, list)):
            card[last] = [*(held or []), _word(item[2:].strip())]
    return card


def _value(text: str) -> object:
    """A scalar, a flow list of scalars, or None where what follows decides."""
    if not text or text[0] in "|>#":
        return None
    if text.startswith("[") and text.endswith("]"):
        return [_word(part.strip()) for part in text[1:-1].split(",") if part.strip()]
    word = _word(text)
    return {"true": True, "false": False}.get(word.lower(), word) if text[0] not in "\"'" else word


def _word(text: str) -> str:
    """Without quotes, and without the comment behind it."""
    if text[:1] in ("'", '"'):
        return text[1:].partition(text[0])[0]
    return text.partition(" #")[0].strip()

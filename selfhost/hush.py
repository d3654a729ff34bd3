"""Texts without what anybody could log in with, wherever in a line it stood: what migrate and diff print."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

_Any = TypeVar("_Any")
# Names of variables and flags; MAX_TOTAL_TOKENS and HF_TOKEN_PATH are none.
_NAME = re.compile(r"(TOKEN|KEYS?|SECRETS?|PASSWORD|PASSWD|CREDENTIALS?)(?!_(FILE|PATH|NAME|DIR)$)(_|$)")
# A user, or a user and a password without a scheme before them; `name:tag@sha256:…` is an image.
_IN_ADDRESS = re.compile(r"((?<=://)[^\s/@'\"]+|(?<![\w/.-])[^\s/@'\":]+:[^\s/@'\"]+)@(?!sha\d)")
_TOKEN = re.compile(r"\b(hf_|sk-)[\w-]{8,}")  # Hugging Face's and OpenAI's forms


def is_secret(name: str) -> bool:
    """Whether a variable or a flag of this name holds a key or a token."""
    return _NAME.search(name.upper().replace("-", "_")) is not None


def hushed(value: _Any) -> _Any:
    """The same value; its texts name no user of an address, and no token by its form."""
    if isinstance(value, str):
        return cast("_Any", _TOKEN.sub(r"\1…", _IN_ADDRESS.sub("…@", value)))
    if isinstance(value, tuple):
        return cast("_Any", tuple(hushed(item) for item in value))
    if is_dataclass(value) and not isinstance(value, type):
        changed: dict[str, Any] = {one.name: hushed(getattr(value, one.name)) for one in fields(value)}
        return cast("_Any", replace(value, **changed))
    return value

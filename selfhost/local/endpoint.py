"""Whether an engine of this machine answers, and what it calls its model."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from urllib.parse import urlsplit

_LONGEST_BYTES = 1 << 20


def get(address: str, path: str, *, seconds: float, key: str | None = None) -> tuple[int, bytes] | None:
    """Status and body of a GET request, past every proxy; None where nobody answers in time."""
    parts = urlsplit(address)
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=seconds)) as connection:
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(_LONGEST_BYTES)
        except (OSError, http.client.HTTPException):
            return None


def healthy(address: str, path: str, *, seconds: float = 5.0) -> bool:
    """Whether it serves."""
    answer = get(address, path, seconds=seconds)
    return answer is not None and answer[0] == 200


def models(address: str, *, key: str | None, seconds: float = 5.0) -> tuple[str, ...]:
    """Names of the models that it serves; empty where it does not say."""
    answer = get(address, "/v1/models", seconds=seconds, key=key)
    if answer is None or answer[0] != 200:
        return ()
    try:
        listed = json.loads(answer[1])["data"]
        return tuple(str(one["id"]) for one in listed)
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()

"""What a tag names at present: one question to a container registry, without credentials.

The protocol is the OCI distribution specification 1.1 ("Pulling manifests"); tokens are given out as
distribution.github.io/distribution/spec/auth/token says (2026-11).
"""

from __future__ import annotations

import hashlib
import re
from typing import Any
from urllib.parse import urlsplit

from selfhost.bundle.images import DEFAULT_REGISTRY, full_name, split
from selfhost.engines import Image
from selfhost.errors import MalformedAnswerError, OfflineError, SelfhostError

ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
WAIT_SECONDS = 15.0
LARGEST_BYTES = 4 << 20  # what registries have to take as a manifest

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_FIELD = re.compile(r'([a-z]+)="([^"]*)"')
_LOCAL = ("localhost", "127.0.0.1", "[::1]")
_HINT = "name it with its digest, --image REPOSITORY:TAG@sha256:..., or add --allow-unpinned."


def digest_of(image: Image, *, session: Any = None) -> str:
    """The digest of what an image's tag names: of the list of platforms where there is one.

    Args:
        image: as published.
        session: an HTTP client; None takes that of the Hub's library, with its proxies and certificates.

    Returns:
        `sha256:` and 64 digits.

    Raises:
        OfflineError: the registry cannot be reached, does not have it, or asks for credentials.
        MalformedAnswerError: its answer makes no sense.
    """
    if session is None:
        from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

        session = get_session()
    host, path = split(image)
    server = "registry-1.docker.io" if host == DEFAULT_REGISTRY else host
    scheme = "http" if host.partition(":")[0] in _LOCAL or host.startswith(_LOCAL[2]) else "https"
    url = f"{scheme}://{server}/v2/{path}/manifests/{image.tag}"
    what = f"{full_name(image)}:{image.tag}"
    try:
        return _ask(session, url, path, what)
    except SelfhostError:
        raise
    except Exception as error:
        from selfhost.hub.remote import translate

        if translate(error, what=what, endpoint=host) is None:
            raise
        raise OfflineError(f"{host} cannot be asked for the digest of {what}.", hint=_HINT) from None


def _ask(session: Any, url: str, path: str, what: str) -> str:
    headers = {"Accept": ACCEPT, "Accept-Encoding": "identity"}
    answer = session.request("HEAD", url, headers=headers, timeout=WAIT_SECONDS)
    if answer.status_code == 401:
        token = _token(session, answer.headers.get("WWW-Authenticate", ""), path, what)
        headers["Authorization"] = f"Bearer {token}"
        answer = session.request("HEAD", url, headers=headers, timeout=WAIT_SECONDS)
    _check(answer.status_code, what)
    digest = str(answer.headers.get("Docker-Content-Digest", ""))
    if _DIGEST.fullmatch(digest):
        return digest
    if digest:
        raise MalformedAnswerError(
            f"The registry calls {what} {digest[:80]!r}, which is no digest.", hint=_HINT
        )
    return _hashed(session, url, headers, what)


def _hashed(session: Any, url: str, headers: dict[str, str], what: str) -> str:
    """The digest of the manifest itself, for a registry that does not name it."""
    total, size = hashlib.sha256(), 0
    with session.stream("GET", url, headers=headers, timeout=WAIT_SECONDS) as answer:
        _check(answer.status_code, what)
        for piece in answer.iter_raw():
            total.update(piece)
            size += len(piece)
            if size > LARGEST_BYTES:
                raise MalformedAnswerError(f"The manifest of {what} is longer than any.", hint=_HINT)
    return f"sha256:{total.hexdigest()}"


def _token(session: Any, challenge: str, path: str, what: str) -> str:
    """An anonymous token, from where the registry says."""
    kind, _, rest = challenge.partition(" ")
    fields = dict(_FIELD.findall(rest))
    realm = fields.get("realm", "")
    if kind.lower() != "bearer" or urlsplit(realm).scheme not in ("http", "https"):
        raise OfflineError(f"The registry asks for credentials to name {what}.", hint=_HINT)
    asked = {"scope": fields.get("scope") or f"repository:{path}:pull"}
    if "service" in fields:
        asked["service"] = fields["service"]
    answer = session.request("GET", realm, params=asked, timeout=WAIT_SECONDS)
    _check(answer.status_code, what)
    try:
        found = answer.json()
        token = found.get("token") or found.get("access_token")
    except (ValueError, AttributeError):
        token = None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise MalformedAnswerError(f"The registry gives no token for {what}.", hint=_HINT)
    return token


def _check(status: int, what: str) -> None:
    if 200 <= status < 300:
        return
    if status in (401, 403):
        why = "asks for credentials to name"
    else:
        why = "does not have" if status == 404 else f"answered {status} for"
    raise OfflineError(f"The registry {why} {what}.", hint=_HINT)

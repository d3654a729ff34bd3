"""Request + Table -> Answer: the Hub's protocol as its clients speak it, from names in the table and nothing else.

As huggingface_hub 2.4 asks (hf_api.py, file_download.py): `/api/models/X[/revision/R]`, `/api/models/X/tree/R`,
`/api/models/X/refs`, `/X/resolve/R/FILE`; and beside these `/blobs/sha256/HEX` and `/healthz`. No token is looked at.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs

from selfhost.pull.serving.request import RefusedError, Request, span
from selfhost.pull.serving.table import MAIN, Model, Offer, Table

HEALTH = "/healthz"
METHODS = ("GET", "HEAD")

_JSON = "application/json; charset=utf-8"
_MESSAGES = {
    "RepoNotFound": "Repository not found: it is not served here",
    "RevisionNotFound": "Invalid rev id: this commit is not served here",
    "EntryNotFound": "Entry not found: this file is not served here",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is sent back.

    Args:
        status: HTTP status.
        fields: header fields, without those that every answer has.
        body: of an answer that is no file.
        offer: the file, None for any other answer.
        begin: its first byte that is sent.
        length: how many bytes the body has.
    """

    status: int
    length: int
    fields: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    offer: Offer | None = None
    begin: int = 0

    def head(self, *, close: bool, date: str) -> bytes:
        """Status line and header fields."""
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"Date: {date}",
            "Server: selfhost",
        ]
        lines += [f"{name}: {value}" for name, value in self.fields.items()]
        if self.status != HTTPStatus.NOT_MODIFIED:
            lines.append(f"Content-Length: {self.length}")
        if close:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def answer(request: Request, table: Table) -> Answer:
    """What a request gets.

    Raises:
        RefusedError: 405; `refused` makes an answer of it.
    """
    if request.method not in METHODS:
        raise RefusedError(405, "This server is read-only.")
    path = request.path
    if path == HEALTH:
        return _health(table)
    if path.startswith("/blobs/sha256/"):
        offer = table.blobs.get(path.removeprefix("/blobs/sha256/"))
        return _missing("EntryNotFound") if offer is None else _file(request, offer, etag=offer.file.sha256)
    parts = path.split("/")[1:]
    if parts[:2] == ["api", "models"]:
        return _about(request, table, parts[2:])
    return _resolve(request, table, parts)


def refused(error: RefusedError, *, fields: Mapping[str, str] | None = None) -> Answer:
    """The answer to what cannot be answered."""
    more = {"Allow": ", ".join(METHODS)} if error.status == HTTPStatus.METHOD_NOT_ALLOWED else {}
    return _said(error.status, error.message, {**more, **(fields or {})})


def changed(offer: Offer) -> Answer:
    """The answer where a file on disk is not the verified one any more."""
    name = offer.file.path.encode("ascii", "replace").decode()
    gone = not offer.target.exists()
    why = "is gone" if gone else "has changed on disk"
    return _said(
        410 if gone else 409, f"{name} {why} since it was verified; it has to be pulled again there."
    )


def _health(table: Table) -> Answer:
    """Whether every file is still the verified one: a server that is started again verifies, and says which is not."""
    offers = table.offers
    wrong = sum(not offer.is_unchanged() for offer in offers)
    if wrong:
        return _said(503, f"{wrong} of {len(offers)} files have changed on disk since they were verified.")
    body = b"ok\n"
    return Answer(
        status=200,
        length=len(body),
        body=body,
        fields={"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store"},
    )


def _about(request: Request, table: Table, parts: list[str]) -> Answer:
    """What `/api/models/...` says."""
    found = _repository(table, parts)
    if found is None:
        return _missing("RepoNotFound")
    revisions, rest = found
    if rest == ["refs"]:
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": model.commit}
            for name, model in revisions.items()
            if name == MAIN
        ]
        return _body(json.dumps({"branches": branches, "converts": [], "tags": []}).encode())
    if rest[:1] == ["tree"]:
        model = revisions.get(rest[1] if len(rest) > 1 else MAIN)
        return _missing("RevisionNotFound") if model is None else _tree(request, model, "/".join(rest[2:]))
    if rest and rest[0] != "revision":
        return _missing("EntryNotFound")
    model = revisions.get("/".join(rest[1:]) or MAIN)
    return _missing("RevisionNotFound") if model is None else _body(model.page)


def _tree(request: Request, model: Model, folder: str) -> Answer:
    recursive = parse_qs(request.query).get("recursive", [""])[0].lower() in ("1", "true")
    body = model.folder(folder, recursive=recursive)
    return _missing("EntryNotFound") if body is None else _body(body)


def _resolve(request: Request, table: Table, parts: list[str]) -> Answer:
    """A file by its name."""
    found = _repository(table, parts)
    if found is None:
        return _missing("RepoNotFound")
    revisions, rest = found
    if rest[:1] != ["resolve"] or len(rest) < 3:
        return _missing("EntryNotFound")
    model = revisions.get(rest[1])
    if model is None:
        return _missing("RevisionNotFound")
    offer = model.files.get("/".join(rest[2:]))
    if offer is None:
        return _missing("EntryNotFound", {"X-Repo-Commit": model.commit})
    return _file(request, offer, etag=offer.etag)


def _repository(table: Table, parts: list[str]) -> tuple[Mapping[str, Model], list[str]] | None:
    """The repository that the first one or two parts of a path name, and the parts after it."""
    for count in (2, 1):
        revisions = table.models.get("/".join(parts[:count]))
        if revisions is not None and len(parts) >= count:
            return revisions, parts[count:]
    return None


def _file(request: Request, offer: Offer, *, etag: str) -> Answer:
    """A file, or the part of it that is asked for."""
    quoted = f'"{etag}"'
    size = offer.file.size_bytes
    fields = {
        "ETag": quoted,
        "X-Repo-Commit": offer.commit,
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
        "X-Content-Type-Options": "nosniff",
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(offer.file.sha256)).decode()}:",
    }
    if offer.in_lfs:
        fields |= {"X-Linked-Etag": quoted, "X-Linked-Size": str(size)}
    if not offer.is_unchanged():
        return changed(offer)
    if _names(request.fields.get("if-none-match", ""), etag):
        return Answer(status=304, length=0, fields=fields)
    if "if-match" in request.fields and not _names(request.fields["if-match"], etag):
        return _said(412, "The file has another hash.")
    begin, length, status = 0, size, 200
    wanted = request.fields.get("range")
    if wanted is not None and request.method == "GET" and request.fields.get("if-range", quoted) == quoted:
        try:
            found = span(wanted, size)
        except RefusedError as error:
            return refused(error, fields={"Content-Range": f"bytes */{size}"})
        if found is not None:
            begin, length = found
            status = 206
            fields["Content-Range"] = f"bytes {begin}-{begin + length - 1}/{size}"
    return Answer(status=status, length=length, fields=fields, offer=offer, begin=begin)


def _names(text: str, etag: str) -> bool:
    """Whether a list of entity tags holds this one."""
    return any(tag.strip().removeprefix("W/") in ("*", f'"{etag}"') for tag in text.split(","))


def _missing(code: str, fields: Mapping[str, str] | None = None) -> Answer:
    return _said(404, _MESSAGES[code], {"X-Error-Code": code, **(fields or {})})


def _said(status: int, message: str, fields: Mapping[str, str] | None = None) -> Answer:
    body = json.dumps({"error": message}).encode()
    return Answer(
        status=status,
        length=len(body),
        body=body,
        fields={
            "Content-Type": _JSON,
            "Cache-Control": "no-store",
            "X-Error-Message": message,
            **(fields or {}),
        },
    )


def _body(body: bytes) -> Answer:
    return Answer(status=200, length=len(body), body=body, fields={"Content-Type": _JSON})

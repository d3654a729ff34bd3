"""Files of a repository: the Hub's own address, its redirects into the storage, signed links and ranges.

Seen in huggingface_hub 2.4 (file_download.py, utils/_http.py, utils/_xet.py): a file of git is answered in place; one
in LFS with 302 to another origin, whose headers already carry commit, length and hash. A link into the storage is
signed and expires; whoever adds a token there is turned away, as S3 does.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urlencode

from tests.fakes.hub.api import Answer, Asked, denied, refuse, renamed, visible
from tests.fakes.hub.content import Content, size_of
from tests.fakes.hub.faults import Part, Plan, expired, whole
from tests.fakes.hub.state import Blob, FakeHub, Repo

_SECRET = b"only this fake signs with it"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_FILE = re.compile(r"/(?P<name>[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<file>.*)", re.DOTALL)
_CACHED = re.compile(
    r"/api/resolve-cache/models/(?P<name>[^/]+(?:/[^/]+)?)/(?P<revision>[0-9a-f]{40})/(?P<file>.*)", re.DOTALL
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file that is sent from here.

    Args:
        file: `ORG/NAME/FILE`.
        content: what it holds.
        headers: beside length and range.
    """

    file: str
    content: Content
    headers: Mapping[str, str]


def find(asked: Asked) -> Found | Answer | None:
    """What stands at an address of the Hub; None where it is not the address of a file."""
    cached = _CACHED.fullmatch(asked.path)
    match = cached or _FILE.fullmatch(asked.path)
    if match is None:
        return None
    name, file = unquote(match["name"]), unquote(match["file"])
    if name in asked.hub.renamed:
        return renamed(asked, name)
    repo = visible(asked, name)
    if isinstance(repo, Answer):
        return repo
    commit = repo.commit(unquote(match["revision"]))
    if commit is None:
        return refuse(404, "RevisionNotFound")
    no = denied(asked, repo)
    if no is not None:
        return no
    content = repo.at(commit).get(file)
    if content is None:
        return refuse(404, "EntryNotFound", **{"X-Repo-Commit": commit})
    blob = repo.blob(file, content)
    headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
    if blob.sha256 is not None:
        return _redirect(asked.hub, repo, blob, headers, (name, commit, file))
    if asked.hub.resolve_cache and cached is None:
        place = f"/api/resolve-cache/models/{quote(name)}/{commit}/{quote(file)}?etag=%22{blob.oid}%22"
        headers |= {"X-Linked-Size": str(blob.size), "X-Linked-Etag": f'"{blob.oid}"'}
        return Answer(status=307, headers={**headers, "Location": place})
    headers |= {"Content-Type": "text/plain; charset=utf-8", "ETag": f'"{blob.etag}"'}
    headers |= {"Content-Disposition": f'inline; filename="{_plain(file)}"'}
    return Found(file=f"{name}/{file}", content=content, headers=headers)


def _redirect(
    hub: FakeHub, repo: Repo, blob: Blob, headers: Mapping[str, str], key: tuple[str, str, str]
) -> Answer:
    more = {
        "X-Linked-Size": str(blob.size),
        "X-Linked-Etag": f'"{blob.sha256}"',
        "ETag": f'"{blob.oid}"',
        "Location": sign(hub, *key, sha256=blob.sha256 or ""),
    }
    if blob.xet_hash and repo.xet_storage:
        token = f"{hub.url}/api/models/{quote(key[0])}/xet-read-token/{key[1]}"
        more |= {"X-Xet-Hash": blob.xet_hash, "Link": f'<{token}>; rel="xet-auth"'}
    text = f"Found. Redirecting to {more['Location']}".encode()
    return Answer(status=302, headers={**headers, **more, "Vary": "Origin, Accept"}, body=text)


def sign(hub: FakeHub, name: str, commit: str, file: str, *, sha256: str) -> str:
    """A link into the storage that is good for `hub.link_seconds`."""
    policy = base64.urlsafe_b64encode(json.dumps([name, commit, file]).encode()).decode()
    disposition = f"inline; filename*=UTF-8''{quote(file.rpartition('/')[2])}"
    until = int(hub.clock() + hub.link_seconds)
    folder = hashlib.sha256(name.encode()).hexdigest()
    path = f"/repos/{folder[:2]}/{folder[2:4]}/{folder}/{sha256}"
    query = {
        "response-content-disposition": disposition,
        "Expires": str(until),
        "Policy": policy,
        "Signature": _signature(path, str(until), policy),
        "Key-Pair-Id": "KFAKE",
    }
    return f"{hub.storage_url}{path}?{urlencode(query)}"


def _signature(path: str, until: str, policy: str) -> str:
    return hmac.new(_SECRET, f"{path}\n{until}\n{policy}".encode(), hashlib.sha256).hexdigest()


def key_of(query: str) -> tuple[str, str, str] | None:
    """Repository, commit and file of a link into the storage, whether or not it is signed well."""
    try:
        name, commit, file = json.loads(base64.urlsafe_b64decode(_one(query, "Policy")))
    except ValueError:
        return None
    return name, commit, file


def fetch_stored(hub: FakeHub, path: str, query: str, *, authorized: bool) -> Found | Answer:
    """What the storage answers."""
    if authorized:
        return _denied(400, "InvalidArgument", "Only one auth mechanism allowed")
    key, until = key_of(query), _one(query, "Expires")
    wanted = _signature(path, until, _one(query, "Policy"))
    if key is None or not hmac.compare_digest(_one(query, "Signature"), wanted):
        return _denied(403, "SignatureDoesNotMatch", "The signature does not match")
    if hub.clock() >= int(until):
        late = expired()
        return Answer(status=late.status, headers=late.headers, body=late.body)
    name, commit, file = key
    repo = hub.repos.get(name)
    content = repo.at(commit).get(file) if repo else None
    if repo is None or content is None or not path.endswith(f"/{repo.blob(file, content).sha256}"):
        return _denied(404, "NoSuchKey", "The specified key does not exist")
    headers = {
        "ETag": f'"{path.rpartition("/")[2]}"',
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
        "Content-Disposition": _one(query, "response-content-disposition"),
    }
    return Found(file=f"{name}/{file}", content=content, headers=headers)


def _one(query: str, name: str) -> str:
    return parse_qs(query).get(name, [""])[0]


def _denied(status: int, code: str, message: str) -> Answer:
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Answer(status=status, headers={"Content-Type": "application/xml"}, body=body.encode())


def plan(found: Found, *, wanted: str | None, condition: str | None, ranges: bool) -> Plan:
    """The part of a file that a request asks for.

    Args:
        found: the file.
        wanted: the Range header; several ranges at once are answered with the whole file (RFC 9110, 14.2).
        condition: the If-Range header.
        ranges: whether ranges are understood.
    """
    size = size_of(found.content)
    match = _RANGE.fullmatch(wanted or "")
    fits = condition is None or condition == found.headers.get("ETag")
    if not ranges or not fits or match is None or match.groups() == ("", ""):
        return _plan(found, 200, {}, 0, size)
    if match[1]:
        begin, end = int(match[1]), min(int(match[2] or size) + 1, size)
    else:
        begin, end = max(0, size - int(match[2])), size
    if match[1] and match[2] and int(match[1]) > int(match[2]):
        return _plan(found, 200, {}, 0, size)  # not a range at all
    if begin >= size:
        return Plan(
            status=416,
            headers={"Content-Range": f"bytes */{size}"},
            content=b"",
            begin=0,
            parts=(),
            declared=0,
        )
    return _plan(found, 206, {"Content-Range": f"bytes {begin}-{end - 1}/{size}"}, begin, end)


def _plan(found: Found, status: int, more: Mapping[str, str], begin: int, end: int) -> Plan:
    return Plan(
        status=status,
        headers={**found.headers, **more},
        content=found.content,
        begin=begin,
        parts=(Part(content=found.content, begin=begin, end=end),),
        declared=end - begin,
    )


def small(answer: Answer) -> Plan:
    """An answer without a file."""
    return Plan(
        status=answer.status,
        headers=answer.headers,
        content=answer.body,
        begin=0,
        parts=whole(answer.body),
        declared=len(answer.body),
    )


def _plain(file: str) -> str:
    """The last part of a name as a header may hold it."""
    return re.sub(r"[^ !#-\[\]-~]", "_", file.rpartition("/")[2])

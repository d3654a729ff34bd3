"""The Hub's JSON answers about models, as huggingface_hub 2.4 reads them (hf_api.py)."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode

from tests.fakes.hub.content import Content, read, size_of
from tests.fakes.hub.state import FakeHub, Repo

TREE_PAGE, EXPANDED_PAGE, MODELS_PAGE = 1000, 50, 1000  # the Hub's own; hf_api.py, _iter_repo_tree_pages
TOKEN_SECONDS = 3600
MESSAGES = {
    "RepoNotFound": "Repository not found",
    "RevisionNotFound": "Invalid rev id",
    "EntryNotFound": "Entry not found",
    "GatedRepo": "Access to this model is restricted",
}
_ABOUT = re.compile(
    r"(?P<name>[^/]+(?:/[^/]+)?)(?:/(?P<verb>revision|tree|paths-info|refs|xet-read-token)(?:/(?P<rest>.*))?)?",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A small answer."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request to the Hub.

    Args:
        hub: the fake.
        path: as sent, still quoted, without the query.
        query: as sent.
        token: from Authorization, None without.
        form: body of a POST.
    """

    hub: FakeHub
    path: str
    query: str
    token: str | None
    form: bytes = b""

    def values(self, name: str) -> list[str]:
        """All values of a query parameter."""
        return parse_qs(self.query, keep_blank_values=True).get(name, [])

    def flag(self, name: str) -> bool:
        """Whether a parameter says yes."""
        return self.values(name)[:1] in (["true"], ["True"], ["1"])


def answer_api(asked: Asked) -> Answer:
    """The answer to anything that is no file."""
    if asked.path == "/_fake":
        return _json({"sent": asked.hub.sent, "peak": asked.hub.peak, "requests": len(asked.hub.seen)})
    if asked.path == "/api/whoami-v2":
        return _who(asked)
    if asked.path in ("/api/models", "/api/models/"):
        return _models(asked)
    match = _ABOUT.fullmatch(asked.path.removeprefix("/api/models/"))
    if not asked.path.startswith("/api/models/") or match is None:
        return refuse(404, "EntryNotFound")
    name = unquote(match["name"])
    if name in asked.hub.renamed:
        return renamed(asked, name)
    repo = visible(asked, name)
    if isinstance(repo, Answer):
        return repo
    return _VERBS[match["verb"] or "revision"](asked, name, repo, match["rest"] or "")


def renamed(asked: Asked, name: str) -> Answer:
    """307 to the same address under the new name; Location is relative, as the Hub's is."""
    new = quote(asked.hub.renamed[name])
    place = asked.path.replace(quote(name), new, 1) + (f"?{asked.query}" if asked.query else "")
    return Answer(status=307, headers={"Location": place})


def visible(asked: Asked, name: str) -> Repo | Answer:
    """The repository, or the refusal to somebody who may not see it."""
    repo = asked.hub.repos.get(name)
    if repo is None or (repo.token and asked.token != repo.token):
        return refuse(401 if asked.token is None else 404, "RepoNotFound")
    if repo.disabled:
        return refuse(403, None, message="Access to this resource is disabled.")
    return repo


def denied(asked: Asked, repo: Repo) -> Answer | None:
    """The refusal of a gated repository's files to whoever has not been granted access."""
    if not repo.gated or asked.token in repo.granted:
        return None
    if asked.token is None:
        return refuse(401, "GatedRepo", message=f"{MESSAGES['GatedRepo']}. Please log in.")
    return refuse(
        403, "GatedRepo", message=f"{MESSAGES['GatedRepo']} and you are not in the authorized list."
    )


def refuse(status: int, code: str | None, *, message: str | None = None, **headers: str) -> Answer:
    """A refusal as the Hub words it: X-Error-Code and X-Error-Message."""
    text = message or MESSAGES.get(code or "", "Refused")
    named = {"X-Error-Code": code} if code else {}
    body = json.dumps({"error": text}).encode()
    return Answer(
        status=status,
        headers={"Content-Type": "application/json", **named, "X-Error-Message": text, **headers},
        body=body,
    )


def _who(asked: Asked) -> Answer:
    if asked.token is None:
        return refuse(401, None, message="Invalid username or password.")
    return _json(
        {"type": "user", "name": "tester", "fullname": "Tester", "orgs": [], "auth": {"type": "access_token"}}
    )


def _json(value: object, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(
        status=200,
        headers={"Content-Type": "application/json; charset=utf-8", **(headers or {})},
        body=json.dumps(value).encode(),
    )


def _commit(repo: Repo, quoted: str) -> str | Answer:
    return repo.commit(unquote(quoted) or "main") or refuse(404, "RevisionNotFound")


def _model(asked: Asked, name: str, repo: Repo, rest: str) -> Answer:
    commit = _commit(repo, rest)
    if isinstance(commit, Answer):
        return commit
    page = describe(name, repo, commit, blobs=asked.flag("blobs"))
    expand = asked.values("expand")
    if expand and asked.flag("blobs"):
        return refuse(400, None, message="expand and blobs cannot be combined")
    if expand:
        page = {key: page[key] for key in ("_id", "id", *expand) if key in page}
    return _json(page)


def describe(name: str, repo: Repo, commit: str, *, blobs: bool = False) -> dict[str, Any]:
    """The page of one model at a commit."""
    files = repo.at(commit)
    return {
        "_id": _made_up(name)[:24],
        "id": name,
        "modelId": name,
        "author": name.partition("/")[0],
        "sha": commit,
        "createdAt": "2026-01-02T03:04:05.000Z",
        "lastModified": "2026-02-03T04:05:06.000Z",
        "private": repo.token is not None,
        "disabled": repo.disabled,
        "gated": "manual" if repo.gated is True else repo.gated,
        "downloads": 0,
        "likes": 0,
        "tags": tags_of(repo),
        "cardData": repo.card,
        "spaces": [],
        "usedStorage": sum(size_of(content) for content in files.values()),
        "siblings": [_sibling(repo, file, content, blobs=blobs) for file, content in files.items()],
        **_config(files.get("config.json")),
        **repo.facts,
    }


def _made_up(name: str) -> str:
    """An id that stays the same: 40 hexadecimal digits."""
    return hashlib.sha1(name.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def _config(content: Content | None) -> dict[str, object]:
    """The part of config.json that the Hub repeats."""
    try:
        found = json.loads(read(content, 0, 1 << 20)) if content is not None else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return {}
    kept = {key: found[key] for key in ("architectures", "model_type", "quantization_config") if key in found}
    return {"config": kept, "library_name": "transformers"}


def _sibling(repo: Repo, name: str, content: Content, *, blobs: bool) -> dict[str, object]:
    if not blobs:
        return {"rfilename": name}
    blob = repo.blob(name, content)
    row: dict[str, object] = {"rfilename": name, "blobId": blob.oid, "size": blob.size}
    if blob.sha256:
        row["lfs"] = {"sha256": blob.sha256, "size": blob.size, "pointerSize": blob.pointer_size}
    return row


def tags_of(repo: Repo) -> list[str]:
    """Given tags and those that the Hub makes of a card's licence and base model."""
    found = list(repo.tags)
    licence = repo.card.get("license")
    if isinstance(licence, str):
        found.append(f"license:{licence}")
    bases = repo.card.get("base_model") or []
    for base in [bases] if isinstance(bases, str) else bases if isinstance(bases, list) else []:
        found.append(f"base_model:{base}")
        relation = repo.card.get("base_model_relation")
        if relation:
            found.append(f"base_model:{relation}:{base}")
    return [*dict.fromkeys(found), "region:us"]


def _models(asked: Asked) -> Answer:
    search, author = (
        asked.values(key)[0].lower() if asked.values(key) else "" for key in ("search", "author")
    )
    rows = []
    for name, repo in asked.hub.repos.items():
        if (repo.token and repo.token != asked.token) or search not in name.lower():
            continue
        if author and name.lower().partition("/")[0] != author:
            continue
        if set(asked.values("filter")) <= set(tags_of(repo)):
            rows.append(_row(asked, name, repo))
    key = (asked.values("sort") or ["id"])[0]
    rows.sort(key=lambda row: (row["_sort"], row["id"]), reverse=key != "id")
    for row in rows:
        del row["_sort"]
    limit = asked.values("limit")[:1]
    size = min(int(limit[0]) if limit else MODELS_PAGE, asked.hub.page_size or MODELS_PAGE)
    return _page(asked, rows, size, lambda row: row)


def _row(asked: Asked, name: str, repo: Repo) -> dict[str, Any]:
    page = describe(name, repo, repo.commit("main") or "")
    kept: Sequence[str] = (
        "_id",
        "id",
        "modelId",
        "private",
        "downloads",
        "likes",
        "tags",
        "createdAt",
        "library_name",
    )
    if asked.flag("full"):
        kept = [*kept, "sha", "lastModified", "gated", "disabled", "author", "siblings"]
    if asked.flag("cardData"):
        kept = [*kept, "cardData"]
    if asked.values("expand"):
        kept = ("_id", "id", *asked.values("expand"))
    key = (asked.values("sort") or ["id"])[0]
    return {**{key: page[key] for key in kept if key in page}, "_sort": page.get(key, 0)}


def _page(asked: Asked, rows: Sequence[Any], size: int, show: Callable[[Any], object]) -> Answer:
    """One page of a list with the Link to the next one."""
    cursor = asked.values("cursor")
    try:
        start = int(base64.urlsafe_b64decode(cursor[0])) if cursor else 0
    except ValueError:
        return refuse(400, None, message="Invalid cursor")
    headers = {}
    if start + size < len(rows):
        query = parse_qs(asked.query, keep_blank_values=True)
        query["cursor"] = [base64.urlsafe_b64encode(str(start + size).encode()).decode()]
        headers["Link"] = f'<{asked.hub.url}{asked.path}?{urlencode(query, doseq=True)}>; rel="next"'
    return _json([show(row) for row in rows[start : start + size]], headers)


def _tree(asked: Asked, name: str, repo: Repo, rest: str) -> Answer:
    revision, _, quoted = rest.partition("/")
    commit = _commit(repo, revision)
    if isinstance(commit, Answer):
        return commit
    files, folder = repo.at(commit), unquote(quoted)
    rows: Sequence[tuple[str, str]] = repo.entries(files)
    if folder:
        rows = [row for row in rows if row[1].startswith(f"{folder}/")]
        if not rows:
            return refuse(404, "EntryNotFound", message=f"{folder} does not exist on {commit!r}")
    if not asked.flag("recursive"):
        depth = len(folder) + 1 if folder else 0
        hidden = {path for kind, path in rows if kind == "directory"}
        rows = [row for row in rows if "/" not in row[1][depth:] or not _below(row[1], depth, hidden)]
    expand = asked.flag("expand")
    size = asked.hub.page_size or (EXPANDED_PAGE if expand else TREE_PAGE)
    return _page(asked, rows, size, lambda row: _entry(repo, files, row, expand=expand))


def _below(path: str, depth: int, folders: set[str]) -> bool:
    """Whether a folder that is listed itself holds the path."""
    return path[:depth] + path[depth:].partition("/")[0] in folders


def _entry(
    repo: Repo, files: Mapping[str, Content], row: tuple[str, str], *, expand: bool
) -> dict[str, object]:
    kind, path = row
    more: dict[str, object] = {}
    if expand:
        more["lastCommit"] = {
            "id": repo.commit("main"),
            "title": "Upload",
            "date": "2026-02-03T04:05:06.000Z",
        }
    if kind == "directory":
        return {"type": kind, "oid": _made_up(path), "size": 0, "path": path, **more}
    blob = repo.blob(path, files[path])
    if expand:
        more["securityFileStatus"] = {"status": "safe", "avScan": None, "pickleImportScan": None}
    if blob.sha256:
        more["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": blob.pointer_size}
    if blob.xet_hash:
        more["xetHash"] = blob.xet_hash
    return {"type": kind, "oid": blob.oid, "size": blob.size, "path": path, **more}


def _paths_info(asked: Asked, name: str, repo: Repo, rest: str) -> Answer:
    commit = _commit(repo, rest)
    if isinstance(commit, Answer):
        return commit
    form = parse_qs(asked.form.decode())
    files, expand = repo.at(commit), form.get("expand") == ["True"]
    known = {path: (kind, path) for kind, path in repo.entries(files)}
    return _json(
        [_entry(repo, files, known[path], expand=expand) for path in form.get("paths", []) if path in known]
    )


def _refs(asked: Asked, name: str, repo: Repo, rest: str) -> Answer:
    rows = [
        {"name": key, "ref": f"refs/heads/{key}", "targetCommit": commit}
        for key, commit in repo.revisions.items()
        if not key.startswith("refs/")
    ]
    return _json({"branches": rows, "converts": [], "tags": []})


def _xet_token(asked: Asked, name: str, repo: Repo, rest: str) -> Answer:
    commit = _commit(repo, rest)
    if isinstance(commit, Answer):
        return commit
    if repo.xet_storage is None:
        return refuse(404, "EntryNotFound")
    no = denied(asked, repo)
    if no is not None:
        return no
    until = int(asked.hub.clock()) + TOKEN_SECONDS
    values = {"accessToken": "xet_fake", "exp": until, "casUrl": repo.xet_storage}
    return _json(
        values,
        {
            "X-Xet-Access-Token": "xet_fake",
            "X-Xet-Token-Expiration": str(until),
            "X-Xet-Cas-Url": repo.xet_storage,
        },
    )


_VERBS: Mapping[str, Callable[[Asked, str, Repo, str], Answer]] = {
    "revision": _model,
    "tree": _tree,
    "paths-info": _paths_info,
    "refs": _refs,
    "xet-read-token": _xet_token,
}

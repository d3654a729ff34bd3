"""The wire of the API server: requests of HTTP to verbs, and their answers; watches as they come."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.fakes.kube import discovery, relay, watching
from tests.fakes.kube.authorization import MASTERS, Asked, Authorizer, User
from tests.fakes.kube.kinds import Kind
from tests.fakes.kube.listing import listed, partial_of, selector
from tests.fakes.kube.store import Store
from tests.fakes.kube.verbs import Verbs, Writing, bind
from tests.fakes.kube.wire import Object, RefusalError, at, invalid, success, uid_of

_REVIEWS = {
    "selfsubjectaccessreviews": Authorizer.access_review,
    "selfsubjectrulesreviews": Authorizer.rules_review,
    "selfsubjectreviews": Authorizer.review,
}
_REVIEWING = ("authorization.k8s.io", "authentication.k8s.io")
_PATCHES = ("application/apply-patch+yaml", "application/apply-patch+json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One that came in, for tests to look at."""

    method: str
    path: str
    query: dict[str, str]
    user: str
    agent: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(slots=True)
class Server:
    """What every request has to do with."""

    store: Store
    verbs: Verbs
    authorizer: Authorizer
    users: dict[str, User]
    bookmark_seconds: float = 60.0
    minor: int = 36
    requests: list[Request] = field(default_factory=list)
    before: list[Callable[[Request], RefusalError | None]] = field(default_factory=list)
    open_watches: int = 0
    stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What an address means."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "fake"
    timeout = 120
    fake: Server
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Nothing on the screen."""

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def _answer(self) -> None:
        fake = self.fake
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length) if length else b""
        warnings: list[str] = []
        user = self._user()
        noted = Request(
            method=self.command, path=unquote(parts.path), query=query, user=user.name if user else "",
            agent=self.headers.get("User-Agent") or "",
        )  # fmt: skip
        fake.requests.append(noted)
        try:
            for look in fake.before:
                refusal = look(noted)
                if refusal is not None:
                    raise refusal
            if user is None:
                raise RefusalError(401, "Unauthorized", "Unauthorized")
            code, body = self._do(noted, user, raw, warnings)
        except RefusalError as refusal:
            self.send(refusal.code, refusal.body(), refusal.headers, warnings)
            return
        except (ConnectionError, TimeoutError):
            self.close_connection = True
            return
        if body is not None:
            self.send(code, body, {}, warnings)

    def _user(self) -> User | None:
        given = self.headers.get("Authorization") or ""
        found = self.fake.users.get(given.removeprefix("Bearer "))
        other = self.headers.get("Impersonate-User")
        if found is not None and MASTERS in found.groups and other:
            return User(name=other, groups=tuple(self.headers.get_all("Impersonate-Group") or ()))
        return found

    def _do(
        self, asked: Request, user: User, raw: bytes, warnings: list[str]
    ) -> tuple[int, Object | str | None]:
        plain = discovery.answer(self.fake.store, asked.path, self.fake.minor)
        if plain is not None and self.command == "GET":
            return 200, plain
        body = _parsed(raw, self.headers.get("Content-Type") or "")
        words = [unquote(one) for one in urlsplit(self.path).path.strip("/").split("/")]
        if words[0] == "apis" and words[1:2] and words[1] in _REVIEWING and words[-1] in _REVIEWS:
            return 201, _REVIEWS[words[-1]](self.fake.authorizer, user, body)
        target = _target(self.fake.store, words)
        if target is None:
            return self._nowhere()
        if target.kind.name == "Pod" and target.subresource in ("log", "portforward"):
            verb = "get" if target.subresource == "log" or self.command == "GET" else "create"
            self._require(user, verb, target)
            relay.serve(self, self.fake.store, target.namespace, target.name, target.subresource, asked.query)
            return 200, None
        how = self._how(user, asked.query, warnings)
        if self.command == "GET":
            return self._read(user, target, asked.query)
        if self.command == "DELETE":
            return self._delete(user, target, asked.query, body or {})
        return self._write(user, target, how, body)

    def _nowhere(self) -> tuple[int, None]:
        """404 of what is no API: text, as the server's own multiplexer says it."""
        self.send(404, "404 page not found\n", {}, [])
        return 404, None

    def _require(self, user: User, verb: str, target: Target) -> None:
        kind = target.kind
        namespace = target.namespace
        if kind.name == "Namespace" and not kind.group:
            namespace = target.name  # as the server takes it (requestinfo.go)
        self.fake.authorizer.require(
            user,
            Asked(
                verb=verb, group=kind.group, resource=kind.plural, namespace=namespace, name=target.name,
                subresource=target.subresource,
            ),
        )  # fmt: skip

    def _how(self, user: User, query: dict[str, str], warnings: list[str]) -> Writing:
        agent = (self.headers.get("User-Agent") or "unknown").split("/")[0]
        return Writing(
            user=user.name, manager=query.get("fieldManager") or agent, dry_run=query.get("dryRun") == "All",
            force=query.get("force") in ("true", "True", "1"), strict=query.get("fieldValidation") == "Strict",
            warnings=warnings,
        )  # fmt: skip

    # -- reading ----------------------------------------------------------------------------------------------------

    def _read(self, user: User, target: Target, query: dict[str, str]) -> tuple[int, Object | None]:
        accept = self.headers.get("Accept") or ""
        if target.name:
            self._require(user, "get", target)
            found = self.fake.store.get(target.kind, target.namespace, target.name)
            if target.subresource == "scale":
                return 200, _scale(found)
            return 200, partial_of(found) if "as=PartialObjectMetadata" in accept else found
        if query.get("watch") in ("true", "1", "True"):
            self._require(user, "watch", target)
            partial = "as=PartialObjectMetadata" in accept
            watching.serve(self, self.fake, target.kind, target.namespace, query, partial=partial)
            return 200, None
        self._require(user, "list", target)
        return 200, listed(
            self.fake.store, target.kind, target.namespace, query, partial="as=PartialObjectMetadataList" in accept
        )  # fmt: skip

    # -- writing ----------------------------------------------------------------------------------------------------

    def _write(self, user: User, target: Target, how: Writing, body: Any) -> tuple[int, Object]:
        verbs, kind = self.fake.verbs, target.kind
        verb = {"POST": "create", "PUT": "update", "PATCH": "patch"}[self.command]
        self._require(user, verb, target)
        if not isinstance(body, dict) and (self.command != "PATCH" or not isinstance(body, list)):
            raise RefusalError(400, "BadRequest", "the body of the request is not an object")
        if self.command == "PATCH":
            return self._patch(user, target, how, body)
        assert isinstance(body, dict)
        if self.command == "POST":
            if kind.name == "Pod" and target.subresource in ("binding", "eviction"):
                return 201, self._special(target, how, body)
            if target.name:
                raise RefusalError(
                    405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
                )
            return 201, verbs.create(kind, target.namespace, body, how)
        if target.subresource == "scale":
            return 200, self._rescale(target, how, body)
        return 200, verbs.update(kind, target.namespace, target.name, body, how, target.subresource)

    def _patch(self, user: User, target: Target, how: Writing, body: Any) -> tuple[int, Object]:
        verbs, kind = self.fake.verbs, target.kind
        form = (self.headers.get("Content-Type") or "").partition(";")[0].strip()
        if target.subresource == "scale":
            return 200, self._rescale(target, how, body)
        if form not in _PATCHES:
            item = verbs.patch(kind, target.namespace, target.name, body, form, how, target.subresource)
            return 200, item
        if "fieldManager" not in urlsplit(self.path).query:
            missing = ("fieldManager", "FieldValueRequired", "Required value: is required for apply patch")
            raise invalid("PatchOptions", "meta.k8s.io", "", [missing])
        if self.fake.store.find(kind, target.namespace, target.name) is None:
            self._require(user, "create", target)
        item, new = verbs.apply(kind, target.namespace, target.name, body, how, target.subresource)
        return 201 if new else 200, item

    def _special(self, target: Target, how: Writing, body: Any) -> Object:
        verbs, kind = self.fake.verbs, target.kind
        if target.subresource == "eviction":
            verbs.delete(
                kind, target.namespace, target.name, body.get("deleteOptions") or {}, dry_run=how.dry_run
            )
            return success({})
        found = verbs.store.get(kind, target.namespace, target.name)
        bind(verbs, found, body["target"]["name"])
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}

    def _rescale(self, target: Target, how: Writing, body: Any) -> Object:
        change = {"spec": {"replicas": at(body, "spec", "replicas")}}
        form = "application/merge-patch+json"
        kind = target.kind
        return _scale(self.fake.verbs.patch(kind, target.namespace, target.name, change, form, how, "scale"))

    def _delete(self, user: User, target: Target, query: dict[str, str], body: Object) -> tuple[int, Object]:
        options: Object = {}
        options |= {"propagationPolicy": query["propagationPolicy"]} if "propagationPolicy" in query else {}
        if "gracePeriodSeconds" in query:
            options["gracePeriodSeconds"] = int(query["gracePeriodSeconds"])
        options |= body
        dry = query.get("dryRun") == "All" or body.get("dryRun") == ["All"]
        verbs, kind = self.fake.verbs, target.kind
        if not target.name:
            self._require(user, "deletecollection", target)
            test = selector(kind, query)
            found = [one for one in self.fake.store.all(kind, target.namespace) if test(one)]
            for one in found:
                verbs.delete(
                    kind,
                    at(one, "metadata", "namespace") or "",
                    one["metadata"]["name"],
                    options,
                    dry_run=dry,
                )
            return 200, {
                "kind": f"{kind.name}List", "apiVersion": kind.api_version,
                "metadata": {"resourceVersion": str(self.fake.store.version)}, "items": found,
            }  # fmt: skip
        self._require(user, "delete", target)
        left, gone = verbs.delete(kind, target.namespace, target.name, options, dry_run=dry)
        if not gone or kind.name == "Pod":
            return 200, left
        details: Object = {"name": target.name} | ({"group": kind.group} if kind.group else {})
        return 200, success(details | {"kind": kind.plural, "uid": uid_of(left)})

    # -- answers ----------------------------------------------------------------------------------------------------

    def send(self, code: int, body: Object | str, headers: dict[str, str], warnings: list[str]) -> None:
        """One answer as a whole."""
        text = body if isinstance(body, str) else json.dumps(body, separators=(",", ":")) + "\n"
        raw = text.encode()
        try:
            self.send_response(code)
            self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
            self.send_header("Content-Length", str(len(raw)))
            for name, value in headers.items():
                self.send_header(name, value)
            for one in warnings:
                quoted = one.replace("\\", "\\\\").replace('"', '\\"')
                self.send_header("Warning", f'299 - "{quoted}"')
            self.end_headers()
            self.wfile.write(raw)
            self.wfile.flush()
        except (ConnectionError, TimeoutError):
            self.close_connection = True


def _scale(item: Object) -> Object:
    labels = at(item, "spec", "selector", "matchLabels") or {}
    metadata = {
        key: item["metadata"].get(key)
        for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    }
    return {
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {"replicas": at(item, "spec", "replicas") or 0},
        "status": {"replicas": at(item, "status", "replicas") or 0,
                   "selector": ",".join(f"{key}={value}" for key, value in sorted(labels.items()))},
    }  # fmt: skip


def _parsed(raw: bytes, form: str) -> Any:
    if not raw:
        return None
    try:
        return json.loads(raw)
    except ValueError:
        pass
    if "yaml" in form:
        import yaml

        return yaml.safe_load(raw)
    raise RefusalError(400, "BadRequest", "the object provided is unrecognized (must be of type JSON)")


def _target(store: Store, words: list[str]) -> Target | None:
    """What an address means, None where nothing is served."""
    if words[:1] == ["api"] and len(words) > 2:
        group, version, rest = "", words[1], words[2:]
    elif words[:1] == ["apis"] and len(words) > 3:
        group, version, rest = words[1], words[2], words[3:]
    else:
        return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    kind = store.kind(group, version, rest[0])
    if kind is None or (namespace and not kind.namespaced) or len(rest) > 3:
        return None
    name, subresource = [*rest, "", ""][1:3]
    known = {"", "log", "portforward", "binding", "eviction", "finalize"}
    known |= {"status"} if kind.status else set()
    known |= {"scale"} if kind.scale else set()
    if subresource not in known:
        return None
    return Target(kind=kind, namespace=namespace, name=name, subresource=subresource)

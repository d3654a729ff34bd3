"""A Kubernetes API server on loopback, with the controllers that a deployment needs, for tests without a real one.

It speaks the wire protocol of Kubernetes 1.36 as far as selfhost and the node simulator use it: server-side apply with
field managers and conflicts, lists and watches with bookmarks and 410, preconditions, owners' garbage, RBAC, quotas,
Pod Security, and the controllers of Deployments, ReplicaSets, Jobs, claims, quotas and a scheduler.
tests/test_fake_kube.py asks a real server the same, where there is one.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.fakes.kube.admission import Admission, Webhook
from tests.fakes.kube.authorization import MASTERS, Authorizer, Denial, User
from tests.fakes.kube.controllers import Manager, namespaces
from tests.fakes.kube.controllers.tools import Tools
from tests.fakes.kube.handler import Handler, Request, Server
from tests.fakes.kube.kinds import Kind
from tests.fakes.kube.store import Store
from tests.fakes.kube.verbs import Verbs, writing
from tests.fakes.kube.wire import Object, RefusalError

__all__ = ["Kube", "Object", "RefusalError", "Request", "kube_api"]

Objects = list[Object]
ADMIN = "admin"
_SPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


class _Listener(ThreadingHTTPServer):
    """Keeps its connections, so that they can be dropped as a restart drops them."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[Handler]) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing to report."""
        import sys

        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError, ValueError)):
            super().handle_error(request, client_address)

    def drop(self) -> None:
        for one in list(self.connections):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@dataclass(slots=True)
class Kube:
    """The server, and what a test does to it."""

    store: Store
    verbs: Verbs
    server: Server
    admission: Admission
    authorizer: Authorizer
    manager: Manager
    token: str
    port: int = 0
    _listener: _Listener | None = None
    _faults: list[Callable[[Request], RefusalError | None]] = field(default_factory=list)

    # -- reaching it ------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kubeconfig(
        self, path: Path, *, token: str | None = None, context: str = "test", namespace: str = ""
    ) -> str:
        """Writes one with a context of that name; its path."""
        place: Object = {"cluster": "c", "user": "u"} | ({"namespace": namespace} if namespace else {})
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": context,
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": token or self.token}}],
            "contexts": [{"name": context, "context": place}],
        }  # fmt: skip
        path.write_text(json.dumps(config), encoding="utf-8")
        return str(path)

    def user(self, name: str, *groups: str) -> str:
        """The token of a user who may do what roles on the server say, and nothing else."""
        token = f"token-of-{name}"
        self.server.users[token] = User(name=name, groups=groups)
        return token

    # -- looking at it ----------------------------------------------------------------------------------------------

    @property
    def requests(self) -> tuple[Request, ...]:
        """Every request so far: method, path, query, user, agent."""
        return tuple(self.server.requests)

    @property
    def watches(self) -> int:
        """How many are open."""
        return self.server.open_watches

    def objects(self, namespace: str | None = None, *, events: bool = True) -> Objects:
        """Every object, or those of a namespace."""
        return [
            one
            for one in self.store.everything()
            if (namespace is None or one["metadata"].get("namespace") == namespace)
            and (events or one["kind"] != "Event")
        ]

    def get(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """An object by its kind's name."""
        found = next((one for one in self.store.kinds if one.name == kind), None)
        return self.store.find(found, namespace, name) if found is not None else None

    def list(self, kind: str, namespace: str = "") -> Objects:
        """Objects of a kind by its name."""
        found = next((one for one in self.store.kinds if one.name == kind), None)
        return self.store.all(found, namespace) if found is not None else []

    def until(self, test: Callable[[], Any], seconds: float = 10.0) -> Any:
        """What a test gives, once it gives anything; it is asked again whenever an object changes."""
        ends = time.monotonic() + seconds
        with self.store.lock:
            while not (found := test()):
                left = ends - time.monotonic()
                assert left > 0, (
                    f"not within {seconds} s; controllers: {self.manager.failures[-1:] or 'no failure'}"
                )
                self.store.changed.wait(min(left, 1.0))
            return found

    # -- writing to it without the wire -----------------------------------------------------------------------------

    def add(self, *items: Object, manager: str = "tests") -> Objects:
        """New objects, without a request; a namespace that is missing is made."""
        made = []
        for item in items:
            kind = self._kind(item)
            namespace = item["metadata"].get("namespace") or ("default" if kind.namespaced else "")
            if kind.namespaced and self.get("Namespace", namespace) is None:
                self.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
            made.append(self.verbs.create(kind, namespace, item, writing(manager=manager)))
            if "status" in item and kind.status:
                made[-1] = self.set_status(made[-1], item["status"], manager=manager)
        return made

    def change(self, item: Object, change: Object, manager: str = "tests") -> Object:
        """A merge patch, without a request."""
        kind = self._kind(item)
        return self.verbs.patch(
            kind, item["metadata"].get("namespace") or "", item["metadata"]["name"], change,
            "application/merge-patch+json", writing(manager=manager),
        )  # fmt: skip

    def set_status(self, item: Object, status: Object, manager: str = "tests") -> Object:
        """A status, without a request."""
        kind = self._kind(item)
        namespace, name = item["metadata"].get("namespace") or "", item["metadata"]["name"]
        live = self.store.get(kind, namespace, name)
        return self.verbs.update(
            kind, namespace, name, live | {"status": status}, writing(manager=manager), "status"
        )

    def define(self, *definitions: Object) -> None:
        """Serve custom resources."""
        for one in definitions:
            self.add(one)

    def _kind(self, item: Object) -> Kind:
        found = self.store.named(item["apiVersion"], item["kind"])
        assert found is not None, f"{item['apiVersion']} {item['kind']} is not served"
        return found

    # -- faults -----------------------------------------------------------------------------------------------------

    def fail_next(
        self, method: str = "", path: str = "", *, code: int = 503, reason: str = "ServiceUnavailable",
        message: str = "the server is currently unable to handle the request", times: int = 1,
        retry_after: int | None = None, when: Callable[[Request], bool] | None = None,
    ) -> None:  # fmt: skip
        """Answer the next requests with an error.

        Args:
            method: of those alone; any if empty.
            path: a part of their path.
            code: of HTTP.
            reason: the Status object's word.
            message: its words.
            times: how many.
            retry_after: seconds.
            when: further test.
        """
        left = [times]

        def look(asked: Request) -> RefusalError | None:
            fits = (
                (not method or asked.method == method)
                and path in asked.path
                and (when is None or when(asked))
            )
            if not fits or left[0] <= 0:
                return None
            left[0] -= 1
            headers = {"Retry-After": str(retry_after)} if retry_after is not None else {}
            details = {"retryAfterSeconds": retry_after} if retry_after is not None else None
            return RefusalError(code, reason, message, details=details, headers=headers)

        self.server.before.append(look)

    def throttle(self, times: int = 1, *, seconds: int = 1, method: str = "", path: str = "") -> None:
        """Answer the next requests with 429 and Retry-After (API priority and fairness)."""
        self.fail_next(
            method, path, code=429, reason="TooManyRequests", times=times, retry_after=seconds,
            message="Too many requests, please try again later.",
        )  # fmt: skip

    def expire_watches(self) -> None:
        """Tell every open watch that it has expired (410), and forget what has changed so far."""
        self.store.compact()

    def restart(self, seconds: float = 0.5) -> None:
        """Drop every connection, refuse new ones for a while, and go on with what is stored. Returns at once."""
        self._end()
        threading.Timer(seconds, self._begin).start()

    def deny(
        self, user: str, *, verbs: tuple[str, ...] = ("*",), resources: tuple[str, ...] = ("*",), namespace: str = ""
    ) -> None:  # fmt: skip
        """Let a user not do something, whatever roles say: verbs, resources as `pods/log`, `*` for any."""
        self.authorizer.denials.append(
            Denial(user=user, verbs=verbs, resources=resources, namespace=namespace)
        )

    def refuse(
        self, wanted: Callable[[Object], bool], message: str, *, name: str = "policy.example.com", code: int = 403
    ) -> None:  # fmt: skip
        """A validating webhook that denies the objects a test is true of."""
        self.admission.webhooks.append(Webhook(name=name, wanted=wanted, message=message, code=code))

    def lose_webhook(self, wanted: Callable[[Object], bool], *, name: str = "policy.example.com") -> None:
        """A validating webhook that does not answer: 500 for the objects a test is true of."""
        words = "dial tcp 10.0.0.9:443: connect: connection refused"
        self.admission.webhooks.append(Webhook(name=name, wanted=wanted, message=words, away=True))

    # -- its life ---------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self.server.stopped = False
        bound = type("BoundHandler", (Handler,), {"fake": self.server})
        self._listener = _Listener(("127.0.0.1", self.port), bound)
        self.port = self._listener.server_address[1]
        threading.Thread(
            target=self._listener.serve_forever, kwargs={"poll_interval": 0.02}, name="fake-kube", daemon=True
        ).start()  # fmt: skip

    def _end(self) -> None:
        listener, self._listener = self._listener, None
        if listener is None:
            return
        self.server.stopped = True
        with self.store.lock:
            self.store.changed.notify_all()
        listener.shutdown()
        listener.server_close()
        listener.drop()


@contextmanager
def kube_api(
    *,
    definitions: tuple[Object, ...] = (),
    controllers: bool = True,
    service_accounts: bool = True,
    pace: float = 1.0,
    bookmark_seconds: float = 60.0,
    minor: int = 36,
) -> Iterator[Kube]:
    """The server, until the block ends.

    Args:
        definitions: CustomResourceDefinitions that are served.
        controllers: whether they run.
        service_accounts: whether pods need theirs to exist.
        pace: what controllers wait for (a job's back-off, retries) is this many times shorter.
        bookmark_seconds: between two bookmarks of a watch.
        minor: the release of Kubernetes that it says it is.
    """
    store = Store()
    admission = Admission(store, service_accounts=service_accounts)
    verbs = Verbs(store, admission)
    authorizer = Authorizer(store)
    token = "a-token-of-the-administrator"
    users = {token: User(name=ADMIN, groups=(MASTERS, "system:authenticated"))}
    server = Server(
        store=store, verbs=verbs, authorizer=authorizer, users=users, bookmark_seconds=bookmark_seconds, minor=minor
    )  # fmt: skip
    manager = Manager(Tools(verbs, pace=pace))
    kube = Kube(
        store=store, verbs=verbs, server=server, admission=admission, authorizer=authorizer, manager=manager,
        token=token,
    )  # fmt: skip
    for name in _SPACES:
        kube.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    kube.define(*definitions)
    if controllers:
        admission.fill = lambda name: namespaces.fill(manager.tools, name)
        manager.start()
    kube._begin()
    try:
        yield kube
    finally:
        kube._end()
        if controllers:
            manager.stop()

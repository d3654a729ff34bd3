"""The smoke test of a deployment on a cluster: a pod that serves, the key, a forwarded port, the engine's log."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from selfhost.cluster import Api, ApiError, ForbiddenError, Object, Ref
from selfhost.cluster.kinds import POD
from selfhost.cluster.paths import path_of
from selfhost.cluster.portforward import ForwardError, Stream, forward
from selfhost.cluster.values import part, parts, text, texts, whole
from selfhost.deploy.channel import Channel
from selfhost.deploy.settings import Settings
from selfhost.deploy.smoke import TIMEOUT_SECONDS, ApiKey, Check, Smoke, smoke
from selfhost.deploy.smoke.facts import facts_of
from selfhost.deploy.types import COMPONENT_LABEL, Cause, Desired, Event, Tell, selector_of
from selfhost.errors import ClusterError, SelfhostError
from selfhost.plan import Plan

_CONNECT_SECONDS = 15.0
_LOG_SECONDS = 20.0
# Ours: what an engine prints of its memory stands in its first minutes, debug output included within this.
_LOG_BYTES = 4 << 20
_LARGEST_KEY_BYTES = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A smoke test of a pod."""

    pod: str
    smoke: Smoke


def smoke_of(api: Api, wanted: Desired, settings: Settings, tell: Tell) -> Cause | None:
    """Try a deployment that is ready, and say what came of it; the cause where it does not do what it should.

    What keeps us from trying, as a right that is missing, is no fault of the deployment and is only said.
    """
    try:
        tried = attempt(api, wanted, api_key_file=settings.api_key_file)
    except SelfhostError as error:
        tell(Event(type="note", message=f"the smoke test was not made: {error.message.rstrip('.')}"))
        return None
    found = tried.smoke
    tell(Event(type="smoke", message=line_of(found), facts=facts_of(found) | {"pod": tried.pod}))
    if not found.failed:
        return None
    worst = found.failed[0]
    return Cause(
        code="smoke-test",
        sentence=f"Its pods are ready, but the smoke test fails: {worst.because}.",
        evidence=tuple(f"{check.code}: {check.because}" for check in found.failed),
        hint=f"selfhost test {wanted.name} -n {wanted.namespace} tries it again",
        final=True,
        pod=tried.pod,
    )


def line_of(found: Smoke) -> str:
    """A smoke test in a line: how many checks, how fast, and the memory next to the plan."""
    words = [found.sentence.rstrip(".")]
    if found.stream is not None:
        words.append(f"TTFT {1000 * found.stream.first_token_seconds:,.0f} ms")
        if found.stream.tokens_per_second is not None:
            words.append(f"{found.stream.tokens_per_second:,.1f} tok/s in one stream")
    if found.memory is not None and found.memory.line:
        words.append(found.memory.line)
    return " · ".join(words)


def attempt(
    api: Api,
    wanted: Desired,
    *,
    pod: str = "",
    api_key_file: str | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
    tell: Callable[[Check], None] | None = None,
) -> Tried:
    """Try one pod of a deployment: 3 requests to the API server, and one for the Secret with the key.

    Args:
        api: the cluster.
        wanted: what was deployed.
        pod: which; one that is ready where none is named.
        api_key_file: file with the key that clients send.
        timeout_seconds: of all checks together.
        tell: of each check as it ends.

    Raises:
        ClusterError: no pod serves, or its port cannot be reached.
        SelfhostError: the key's file cannot be read.
    """
    key = key_of(api, wanted, api_key_file)
    found = _named(api, wanted, pod) if pod else _serving(api, wanted)
    name = text(part(found, "metadata"), "name")
    ref = Ref(api_version="v1", kind="Pod", namespace=wanted.namespace, name=name)
    container, port = server_of(found, wanted.plan)
    with forwarded(api, ref, port) as channel:
        metrics = wanted.plan.engine.metrics_port
        second = forwarded(api, ref, metrics) if metrics is not None and metrics != port else None
        try:
            result = smoke(
                wanted.plan, channel, key, words=_words(found, container),
                log=log_head(api, ref, container), metrics=second, timeout_seconds=timeout_seconds, tell=tell,
            )  # fmt: skip
        finally:
            if second is not None:
                second.close()
    return Tried(pod=name, smoke=result)


def forwarded(api: Api, pod: Ref, port: int) -> Channel:
    """HTTP to a port of a pod; connected at once, so that what is not permitted shows at once.

    Raises:
        ApiError: not permitted, or no such pod.
        ForwardError: no connection.
    """
    opened = [forward(api, pod, port, seconds=_CONNECT_SECONDS)]

    def connect(seconds: float) -> Stream:
        return opened.pop() if opened else forward(api, pod, port, seconds=seconds)

    return Channel(connect, host=f"localhost:{port}")


def key_of(api: Api, wanted: Desired, file: str | None) -> ApiKey:
    """The key that clients send: of a file, else of the Secret where that may be read. It is never printed.

    Raises:
        SelfhostError: the file cannot be read.
    """
    secret, key = wanted.options.access.api_key_secret, wanted.plan.engine.key
    asked = secret is not None and key is not None
    if file is not None:
        return ApiKey(asked=asked, value=read_key(file))
    if secret is None or key is None:
        return ApiKey(asked=False)
    ref = Ref(api_version="v1", kind="Secret", namespace=wanted.namespace, name=secret)
    entry = key.file_name or "api-key"
    try:
        item = api.get(ref)
    except ForbiddenError:
        why = f"Secret {secret} may not be read, and no --api-key-file names a file with it"
        return ApiKey(asked=True, why=why)
    except ApiError as error:
        return ApiKey(asked=True, why=error.message.rstrip("."))
    packed = texts(item or {}, "data").get(entry)
    if packed is None:
        return ApiKey(asked=True, why=f"Secret {secret} has no {entry}")
    try:
        kept = base64.b64decode(packed).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ApiKey(asked=True, why=f"{entry} of Secret {secret} is no text")
    before, _, after = key.file_text.partition("{key}")
    value = kept.strip().removeprefix(before.strip()).removesuffix(after.strip()).strip().strip("\"'")
    if not value or not value.isprintable():
        return ApiKey(asked=True, why=f"{entry} of Secret {secret} holds no key")
    return ApiKey(asked=True, value=value)


def read_key(file: str) -> str:
    """A key from a file, without the end of its line.

    Raises:
        SelfhostError: it cannot be read, or holds no key.
    """
    try:
        with Path(file).open("rb") as opened:
            raw = opened.read(_LARGEST_KEY_BYTES)
    except OSError as error:
        raise SelfhostError(
            f"The key's file {file} cannot be read: {(error.strerror or 'error').lower()}.",
            hint="--api-key-file names a file that holds the key alone.",
        ) from None
    value = raw.decode("utf-8", errors="replace").strip()
    if not value or not value.isascii() or not value.isprintable():
        raise SelfhostError(
            f"The file {file} holds no key.", hint="It has to hold the key alone, in one line."
        )
    return value


def server_of(pod: Object, plan: Plan) -> tuple[str, int]:
    """Name of the container that serves, and its port: the one that is named http, else the plan's."""
    containers = parts(part(pod, "spec"), "containers")
    for container in containers:
        for port in parts(container, "ports"):
            if text(port, "name") == "http":
                return text(container, "name"), whole(port, "containerPort") or plan.engine.port
    for container in containers:
        if any(whole(port, "containerPort") == plan.engine.port for port in parts(container, "ports")):
            return text(container, "name"), plan.engine.port
    return (text(containers[0], "name") if containers else "server"), plan.engine.port


def log_head(api: Api, pod: Ref, container: str) -> str | None:
    """The beginning of a container's log, None where it cannot be had. Of a log that was rotated it is the rest."""
    query = {"container": container, "limitBytes": str(_LOG_BYTES)}
    try:
        with api.stream(
            f"{path_of(pod)}/log",
            query,
            what=f"read the log of Pod {pod.namespace}/{pod.name}",
            seconds=_LOG_SECONDS,
        ) as response:
            return bytes(response.read()).decode("utf-8", errors="replace")
    except ClusterError:
        return None


def is_ready(pod: Object) -> bool:
    """Whether it is ready, and is not being ended."""
    if "deletionTimestamp" in part(pod, "metadata"):
        return False
    conditions = parts(part(pod, "status"), "conditions")
    return any(text(one, "type") == "Ready" and text(one, "status") == "True" for one in conditions)


def _serving(api: Api, wanted: Desired) -> Object:
    """The newest pod that is ready and serves."""
    pods = api.list(POD, wanted.namespace, labels=selector_of(wanted.name)).items
    ready = [pod for pod in pods if is_ready(pod) and _serves(pod)]
    if not ready:
        raise ClusterError(
            f"No pod of {wanted.name} is ready in the namespace {wanted.namespace}.",
            hint=f"`selfhost status {wanted.name} -n {wanted.namespace}` says why.",
        )
    return max(ready, key=lambda pod: text(part(pod, "metadata"), "creationTimestamp"))


def _serves(pod: Object) -> bool:
    component = texts(part(pod, "metadata"), "labels").get(COMPONENT_LABEL, "")
    return component not in ("download", "worker", "proxy", "picker") and any(
        parts(container, "ports") for container in parts(part(pod, "spec"), "containers")
    )


def _named(api: Api, wanted: Desired, pod: str) -> Object:
    found = api.get(Ref(api_version="v1", kind="Pod", namespace=wanted.namespace, name=pod))
    if found is None:
        raise ClusterError(
            f"There is no Pod {pod} in the namespace {wanted.namespace}.",
            hint=f"`kubectl -n {wanted.namespace} get pods -l {selector_of(wanted.name)}` lists them.",
        )
    return found


def _words(pod: Object, container: str) -> tuple[str, ...]:
    """Arguments that a container was given."""
    for one in parts(part(pod, "spec"), "containers"):
        if text(one, "name") == container:
            given = one.get("args")
            return tuple(str(word) for word in given) if isinstance(given, list) else ()
    return ()


__all__ = ["ForwardError", "Tried", "attempt", "forwarded", "key_of", "line_of", "log_head", "smoke_of"]

"""What was deployed is kept on the cluster, a ConfigMap for each revision, so that a rollback needs no files.

A ConfigMap and not a Secret: nothing in it is secret, and who deploys needs no right to read Secrets. It is written
before the first object of its revision is applied, so that whatever may have been made is known to the next command.
"""

from __future__ import annotations

import base64
import getpass
import gzip
import json
import socket
from datetime import UTC, datetime

from selfhost import strict
from selfhost.cluster import AbsentError, Api, Object, Ref, TakenError
from selfhost.cluster.kinds import CONFIG_MAP
from selfhost.cluster.values import part, text, texts
from selfhost.deploy.types import (
    COMPONENT_LABEL,
    INSTANCE_LABEL,
    MANAGED_BY,
    MANAGED_LABEL,
    Desired,
    Head,
    Revision,
    State,
)
from selfhost.errors import ClusterError, SelfhostError, UnsupportedError

SCHEMA = "selfhost/revision/v1"
COMPONENT = "revision"
STATE_LABEL = "selfhost/state"
KEEP = 5  # Ours: each is some 0.2 MB, nearly all of it the download's archive; Helm keeps 10 of a few KB.
_MOST_SKIPPED = 10  # Ours: names that something else has; more is somebody's mischief.
_KEY = "revision.json.gz"
# Of the Kubernetes API 1.37 (core/v1 ConfigMap): a ConfigMap's data may not be larger; base64 takes a third more.
_LARGEST_BYTES = 1 << 20
# Nothing that is kept is larger unpacked; more would be somebody's mischief.
_LARGEST_UNPACKED_BYTES = 32 << 20
_STATES: tuple[State, ...] = ("pending", "deployed", "failed", "superseded")
_PREFIX = "selfhost/"


def who() -> str:
    """User and host, for people who wonder who deployed this."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user ID without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def stamp(now: float) -> str:
    """UTC time in ISO 8601 of a Unix time."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def heads(api: Api, namespace: str, name: str = "") -> tuple[Head, ...]:
    """Revisions without their content, of each deployment the newest first.

    Args:
        api: the cluster.
        namespace: of which; every one where empty.
        name: of the deployment; all where empty.

    Raises:
        ClusterError: they cannot be read.
    """
    labels = f"{MANAGED_LABEL}={MANAGED_BY},{COMPONENT_LABEL}={COMPONENT}"
    labels += f",{INSTANCE_LABEL}={name}" if name else ""
    listed = api.list(CONFIG_MAP, namespace, labels=labels, metadata_only=True)
    found = [head for item in listed.items if (head := _head(item)) is not None]
    return tuple(sorted(found, key=lambda head: (head.namespace, head.name, -head.number)))


def load(api: Api, head: Head) -> Revision:
    """A revision with its content.

    Raises:
        ClusterError: it is gone.
        SelfhostError: it cannot be read by this release.
    """
    item = api.get(head.ref)
    if item is None:
        raise ClusterError(f"Revision {head.number} of {head.name} is gone.", hint="Run the command again.")
    return Revision(
        number=head.number,
        state=head.state,
        desired=_unpack(texts(item, "binaryData").get(_KEY, ""), head),
        created=head.created,
        by=head.by,
        because=head.because,
    )


def save(
    api: Api,
    wanted: Desired,
    number: int,
    *,
    because: str,
    by: str,
    created: str,
    state: State = "pending",
) -> Head:
    """Keep a revision.

    Raises:
        TakenError: somebody else was faster with this number.
        UnsupportedError: it is larger than the cluster takes.
    """
    packed = base64.b64encode(gzip.compress(_packed(wanted).encode(), mtime=0)).decode("ascii")
    if len(packed) > _LARGEST_BYTES:
        raise UnsupportedError(
            f"The objects of {wanted.name} are too large to be kept as a revision ({len(packed) >> 10} KiB packed).",
            hint="Leave files out: --dashboard adds the most.",
        )
    made = api.create(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"{wanted.name}.selfhost.v{number}",
                "namespace": wanted.namespace,
                "labels": {
                    MANAGED_LABEL: MANAGED_BY,
                    INSTANCE_LABEL: wanted.name,
                    COMPONENT_LABEL: COMPONENT,
                    STATE_LABEL: state,
                },
                "annotations": {
                    f"{_PREFIX}revision": str(number),
                    f"{_PREFIX}hash": wanted.hash,
                    f"{_PREFIX}plan-hash": wanted.plan_hash,
                    f"{_PREFIX}target": wanted.target,
                    f"{_PREFIX}model": wanted.plan.model.id,
                    f"{_PREFIX}created": created,
                    f"{_PREFIX}by": by,
                    f"{_PREFIX}because": because,
                },
            },
            "binaryData": {_KEY: packed},
        }
    )
    head = _head(made)
    assert head is not None
    return head


def save_after(
    api: Api, wanted: Desired, newest: Head | None, *, because: str, by: str, created: str
) -> Head:
    """Keep a revision under the next number that is free: a ConfigMap in its place may be damaged, or another owner's.

    Raises:
        TakenError: somebody else saved a revision meanwhile.
        ClusterError: too many stand in its place.
        UnsupportedError: it is larger than the cluster takes.
    """
    first = newest.number + 1 if newest else 1
    for number in range(first, first + _MOST_SKIPPED):
        try:
            return save(api, wanted, number, because=because, by=by, created=created)
        except TakenError:
            if any(head.number >= number for head in heads(api, wanted.namespace, wanted.name)):
                raise
    raise ClusterError(
        f"ConfigMaps that are no revisions have the names {wanted.name}.selfhost.v{first} to v{number}.",
        hint=f"Look at them and delete them: kubectl -n {wanted.namespace} get configmaps",
    )


def mark(api: Api, head: Head, state: State) -> Head:
    """Say what became of a revision; nothing where that is known already.

    Raises:
        ClusterError: it is gone.
    """
    if head.state == state:
        return head
    try:
        marked = _head(api.patch(head.ref, {"metadata": {"labels": {STATE_LABEL: state}}}))
    except AbsentError:
        raise ClusterError(
            f"Somebody deleted revision {head.number} of {head.name} meanwhile.",
            hint=f"`selfhost status {head.name} -n {head.namespace}` shows what is left; the same command goes on.",
        ) from None
    assert marked is not None
    return marked


def trim(api: Api, found: tuple[Head, ...], keep: int = KEEP) -> int:
    """Forget the oldest revisions; the newest that was deployed is always kept, as a rollback goes there.

    Args:
        api: the cluster.
        found: of one deployment, the newest first.
        keep: how many stay.

    Returns:
        How many were forgotten.
    """
    good = next((head for head in found if head.state == "deployed"), None)
    old = [head for head in found[max(1, keep) :] if head is not good]
    return sum(api.delete(head.ref, version=head.version) for head in old)


def _head(item: Object) -> Head | None:
    """None for what is no revision, whatever its labels say."""
    metadata = part(item, "metadata")
    labels, notes = texts(metadata, "labels"), texts(metadata, "annotations")
    number = notes.get(f"{_PREFIX}revision", "")
    state = next((known for known in _STATES if known == labels.get(STATE_LABEL)), None)
    if not number.isdecimal() or len(number) > 9 or state is None:
        return None
    name, namespace = text(metadata, "name"), text(metadata, "namespace")
    return Head(
        name=labels.get(INSTANCE_LABEL, ""),
        namespace=namespace,
        number=int(number),
        state=state,
        hash=notes.get(f"{_PREFIX}hash", ""),
        plan_hash=notes.get(f"{_PREFIX}plan-hash", ""),
        target=notes.get(f"{_PREFIX}target", ""),
        model=notes.get(f"{_PREFIX}model", ""),
        created=notes.get(f"{_PREFIX}created", ""),
        by=notes.get(f"{_PREFIX}by", ""),
        because=notes.get(f"{_PREFIX}because", ""),
        ref=Ref(api_version="v1", kind="ConfigMap", namespace=namespace, name=name),
        version=text(metadata, "resourceVersion"),
    )


def _packed(wanted: Desired) -> str:
    from selfhost.plan import to_json

    return json.dumps(
        {
            "schema": SCHEMA,
            "target": wanted.target,
            "options": strict.encode(wanted.options),
            "plan": json.loads(to_json(wanted.plan)),
            "plan_hash": wanted.plan_hash,
            "hash": wanted.hash,
            "objects": wanted.objects,
        }
    )


def _unpack(packed: str, head: Head) -> Desired:
    def refuse(sentence: str) -> SelfhostError:
        return SelfhostError(
            f"Revision {head.number} of {head.name} cannot be read: {sentence.rstrip('.')}.",
            hint="Deploy from a plan, or roll back to another revision.",
        )

    import zlib

    from selfhost.manifests import RenderOptions  # a list of revisions need not wait for what reads one
    from selfhost.plan import from_json

    try:
        unpacked = zlib.decompressobj(wbits=31).decompress(base64.b64decode(packed), _LARGEST_UNPACKED_BYTES)
        words = unpacked.decode()
    except (ValueError, zlib.error):
        raise refuse("it is damaged") from None
    data = strict.parse(words, lambda end: refuse(f"it {end}"))
    if data.get("schema") != SCHEMA:
        raise refuse(f"it is of another release ({str(data.get('schema'))[:60]})")
    options = strict.decode(RenderOptions, data.get("options"), "options", refuse)
    assert isinstance(options, RenderOptions)
    objects = data.get("objects")
    return Desired(
        plan=from_json(json.dumps(data.get("plan"))),
        target=text(data, "target"),
        options=options,
        objects=tuple(one for one in objects if isinstance(one, dict)) if isinstance(objects, list) else (),
        plan_hash=text(data, "plan_hash"),
        hash=text(data, "hash"),
    )

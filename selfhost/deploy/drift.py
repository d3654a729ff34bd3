"""What runs against what was deployed, field by field, and whose doing each difference is.

A server-side dry-run of each object of the revision shows it, so that defaults, quantities in other words, and fields
that others own by right (replicas under an autoscaler) are no difference. Who may not apply gets the fields that the
revision names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from selfhost.cluster import MANAGER, AbsentError, Api, ApiError, ForbiddenError, Object, Ref
from selfhost.cluster.kinds import ref_of
from selfhost.cluster.values import part, parts, text, texts
from selfhost.deploy.apply import lasting
from selfhost.deploy.canary import WEIGHT_ANNOTATION
from selfhost.deploy.rollout import PAUSED_ANNOTATION
from selfhost.deploy.types import Desired
from selfhost.diff import Field, compare_objects
from selfhost.hush import hushed

What = Literal["missing", "changed", "added", "unknown"]
_PARALLEL = 8
# Who works on objects by right: what they set is no drift (field managers of Kubernetes 1.36, KEDA 2.20, LWS, KServe).
_CONTROLLERS = re.compile(
    r"kube-(controller-manager|scheduler|apiserver)|kubelet|cloud-controller-manager|keda.*|lws.*|manager|"
    r"kserve.*|llmisvc.*|kubectl-rollout|csi-.*|.*-provisioner|pvc?-protection.*"
)
# Fields that somebody may have added to what selfhost says; labels and annotations of others are theirs.
_ADDED = ("spec.", "data.", "binaryData.")
_MOST_ADDED = 20
_NOTED = (PAUSED_ANNOTATION, WEIGHT_ANNOTATION, "autoscaling.keda.sh/paused-replicas")
_INDEX = re.compile(r"\[[^\[\]]*\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One difference.

    Args:
        ref: of which object.
        what: `missing`: the object is gone; `changed`: the field is not as deployed; `added`: somebody added it, and
            applying would leave it; `unknown`: the object could not be compared.
        path: of the field, empty for a whole object.
        wanted: as deployed, None where it was not.
        live: as it is, None where it is not.
        owner: field manager who changed it, empty where nobody is on record.
        because: why it could not be compared.
    """

    ref: Ref
    what: What
    path: str = ""
    wanted: str | None = None
    live: str | None = None
    owner: str = ""
    because: str = ""


def drift(api: Api, wanted: Desired) -> tuple[Drift, ...]:
    """Every difference, in the order of the objects. Two requests for each object; nothing is changed.

    Raises:
        ClusterError: the server cannot be reached.
    """
    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="drift") as pool:
        found = pool.map(lambda item: tuple(_of_object(api, item)), wanted.objects)
        return tuple(one for each in found for one in each)


def _of_object(api: Api, item: Object) -> Iterator[Drift]:
    ref = ref_of(item)
    try:
        live = api.get(ref)
    except ApiError as error:
        yield Drift(ref=ref, what="unknown", because=_sentence(error))
        return
    if live is None:
        yield Drift(ref=ref, what="missing")
        return
    try:
        after = api.apply(item, dry_run=True, force=True).object
    except ForbiddenError:
        after = None
    except AbsentError:
        yield Drift(ref=ref, what="missing")
        return
    except ApiError as error:
        yield Drift(ref=ref, what="unknown", because=_sentence(error))
        return
    yield from compare(item, live, after)


def compare(item: Object, live: Object, after: Object | None) -> Iterator[Drift]:
    """Differences of one object; pure.

    Args:
        item: as it was deployed.
        live: as it is.
        after: as applying would leave it; None where that could not be asked, so that only what `item` names counts.
    """
    ref = ref_of(item)
    owners = _owners(live)
    key = (ref.kind, ref.namespace, ref.name)
    changed = compare_objects({key: lasting(live)}, {key: lasting(item if after is None else after)})
    fields = [field for one in changed for field in one.fields]
    if after is None:
        fields = [field for field in fields if field.new is not None]
    for field in fields:
        if _meant(live, field.path):
            continue
        yield _changed(ref, field, owners)
    taken = {field.path for field in fields}
    yield from _added(ref, live, owners, taken)


def _meant(live: Object, path: str) -> bool:
    """Whether selfhost itself made the difference, and noted it: a pause, or a canary's share of the requests."""
    notes = texts(part(live, "metadata"), "annotations")
    if any(path == f"metadata.annotations.{name}" for name in _NOTED):
        return True
    if PAUSED_ANNOTATION in notes and path == "spec.replicas":
        return True
    return WEIGHT_ANNOTATION in notes and path.startswith("spec.rules")


def _changed(ref: Ref, field: Field, owners: dict[str, tuple[tuple[str, ...], ...]]) -> Drift:
    return Drift(
        ref=ref,
        what="changed",
        path=field.path,
        wanted=field.new,
        live=field.old,
        owner=_owner(field.path, owners),
    )


def _added(
    ref: Ref, live: Object, owners: dict[str, tuple[tuple[str, ...], ...]], taken: set[str]
) -> Iterator[Drift]:
    """Fields that somebody else added, and selfhost does not own."""
    mine = set(owners.get(MANAGER, ()))
    count = 0
    for manager, paths in owners.items():
        if manager == MANAGER or _CONTROLLERS.fullmatch(manager):
            continue
        for path in paths:
            shown = _joined(path)
            # an item of a list that is selfhost's is owned as such by whoever touched a field of it
            if path in mine or path[-1] == "." or not shown.startswith(_ADDED):
                continue
            if any(one.startswith(shown) or shown.startswith(one) for one in taken):
                continue
            value = _value(live, path)
            if value is None or count >= _MOST_ADDED:
                continue
            count += 1
            yield Drift(ref=ref, what="added", path=shown, live=_short(value, shown), owner=manager)


def _owners(live: Object) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Field manager -> paths of the fields it owns, the last who wrote first; status and scale are not asked after."""
    found: dict[str, list[tuple[str, ...]]] = {}
    entries = parts(part(live, "metadata"), "managedFields")
    for entry in sorted(entries, key=lambda one: text(one, "time"), reverse=True):
        if text(entry, "subresource") == "status":
            continue
        paths = found.setdefault(text(entry, "manager"), [])
        paths += _paths(part(entry, "fieldsV1"), ())
    return {manager: tuple(paths) for manager, paths in found.items()}


def _paths(fields: Object, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Leaves of managedFields: `f:` a field, `k:` an item by its keys, `v:` one by its value, `.` the thing itself."""
    for key, below in fields.items():
        step = key.removeprefix("f:")
        path = (*above, step)
        if isinstance(below, dict) and below:
            yield from _paths(below, path)
        else:
            yield path


def _owner(path: str, owners: dict[str, tuple[tuple[str, ...], ...]]) -> str:
    """Who owns a field, selfhost left out: by its path, else by the same path without the items of lists."""
    for bare in (False, True):
        wanted = _INDEX.sub("", path) if bare else path
        for manager, every in owners.items():
            if manager == MANAGER:
                continue
            for one in every:
                mine = _joined(one)
                mine = _INDEX.sub("", mine) if bare else mine
                if wanted == mine or wanted.startswith((f"{mine}.", f"{mine}[")):
                    return manager
    return ""


def _joined(path: tuple[str, ...]) -> str:
    """A path as selfhost's comparisons write it: `spec.containers[server].image`."""
    shown = ""
    for step in path:
        if step.startswith("k:"):
            try:
                keys = json.loads(step[2:])
            except ValueError:
                keys = {}
            first = next(iter(keys.values()), "?") if isinstance(keys, dict) else "?"
            shown += f"[{keys.get('name', first) if isinstance(keys, dict) else first}]"
        elif step.startswith(("v:", "i:")):
            shown += f"[{step[2:]}]"
        elif step != ".":
            shown += f".{step}" if shown else step
    return shown


def _value(live: Object, path: tuple[str, ...]) -> object:
    """The value at a path of managedFields, None where there is none."""
    found: object = live
    for step in path:
        if step == ".":
            return found
        if step.startswith("k:"):
            keys = json.loads(step[2:])
            items = found if isinstance(found, list) else []
            found = next(
                (one for one in items if isinstance(one, dict) and keys.items() <= one.items()), None
            )
        elif step.startswith("v:"):
            return json.loads(step[2:])
        elif isinstance(found, dict):
            found = found.get(step)
        else:
            return None
    return found


def _short(value: object, path: str) -> str:
    from selfhost.hush import is_secret

    if is_secret(path.rpartition(".")[2]) or any(is_secret(name[1:-1]) for name in _INDEX.findall(path)):
        return "(hidden)"
    words = hushed(value if isinstance(value, str) else json.dumps(value))
    return words if len(words) <= 200 else f"{words[:200]}…"


def _sentence(error: ApiError) -> str:
    return error.message.rstrip(".")

"""All or nothing: the whole set is tried by a server-side dry-run, shown, then applied in rank order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from selfhost.cluster import (
    AbsentError,
    Api,
    ApiError,
    Applied,
    Claim,
    ConflictError,
    Object,
    Ref,
    RefusedError,
)
from selfhost.cluster.kinds import ref_of
from selfhost.cluster.values import part, texts
from selfhost.deploy.settings import Preview
from selfhost.deploy.types import (
    HASH_ANNOTATION,
    INSTANCE_LABEL,
    MANAGED_BY,
    MANAGED_LABEL,
    PLAN_ANNOTATION,
    Desired,
    is_ours,
)
from selfhost.diff import ObjectChange, Side, compare, compare_objects
from selfhost.errors import ClusterError

# What the server itself keeps in an object, and nobody applies.
_SERVER_METADATA = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")
_SERVER_ANNOTATIONS = (
    "deployment.kubernetes.io/",
    "deprecated.daemonset.template.generation",
    "pv.kubernetes.io/",
    "volume.",
)
# Weights are expensive to fetch again: they go when somebody says so.
_KEPT = ("PersistentVolumeClaim", "PersistentVolume")
# apimachinery field.Forbidden/Invalid of what cannot be changed in place (apps/v1, batch/v1, core/v1; 1.37).
_IMMUTABLE = re.compile(
    r"field is immutable|is immutable after creation|may not be (?:changed|updated)|updates to .* are forbidden"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One object of a dry-run: as it is on the cluster (None where it is not), and as it would be."""

    ref: Ref
    live: Object | None
    after: Object


def dry_run(api: Api, wanted: Desired, *, force: bool) -> tuple[tuple[Tried, ...], tuple[Claim, ...]]:
    """Try every object without changing anything.

    Args:
        api: the cluster.
        wanted: what is to be on it.
        force: take over fields that others own.

    Returns:
        Every object, and the fields that would be taken over.

    Raises:
        ConflictError: others own fields; every object's are named.
        ClusterError: an object is another owner's, or is refused.
    """
    tried: list[Tried] = []
    claims: list[Claim] = []
    for item in wanted.objects:
        ref = ref_of(item)
        found, owned = _try(api, item, ref, wanted.name)
        claims += owned
        as_it_is = found.object if found.unchanged and not owned else None
        live = None if found.created else as_it_is or api.get(ref)
        if live is not None and not is_ours(live, wanted.name):
            raise _foreign(live, ref)
        tried.append(Tried(ref=ref, live=live, after=found.object))
    if claims and not force:
        owners = ", ".join(sorted({claim.manager for claim in claims}))
        fields = "; ".join(f"{claim.field} ({claim.manager})" for claim in claims[:5])
        raise ConflictError(
            f"Fields are owned by {owners}: {fields}{f' and {len(claims) - 5} more' if len(claims) > 5 else ''}.",
            claims=tuple(claims),
            said="",
            hint="Let the owner give them up, or take them over with --force-conflicts.",
        )
    return tuple(tried), tuple(claims)


def _try(api: Api, item: Object, ref: Ref, name: str) -> tuple[Applied, tuple[Claim, ...]]:
    """One object of the dry-run, and whose fields it would take over."""
    claims: tuple[Claim, ...] = ()
    try:
        try:
            return api.apply(item, dry_run=True), claims
        except ConflictError as error:
            claims = tuple(Claim(manager=one.manager, field=f"{ref}: {one.field}") for one in error.claims)
            return api.apply(item, dry_run=True, force=True), claims
    except AbsentError as error:
        raise _no_place(error, ref) from None
    except RefusedError as error:
        there = api.get(ref)  # merged with another owner's object it may be anything
        if there is not None and not is_ours(there, name):
            raise _foreign(there, ref) from None
        raise _refused(error, ref) from None


def preview(
    wanted: Desired,
    tried: tuple[Tried, ...],
    *,
    before: Desired | None,
    earlier: Iterable[Ref],
    claims: tuple[Claim, ...],
) -> Preview:
    """What applying would change.

    Args:
        wanted: what is to be there.
        tried: the dry-run of it.
        before: what was deployed last; None for a first deployment.
        earlier: objects of every revision that is kept.
        claims: fields that are taken over.
    """
    changes: list[ObjectChange] = []
    created, same = [], []
    for one in tried:
        if one.live is None:
            created.append(one.ref)
            continue
        key = (one.ref.kind, one.ref.namespace, one.ref.name)
        found = compare_objects({key: lasting(one.live)}, {key: lasting(one.after)})
        changes += found
        if not found and _is_same(one.live, one.after):
            same.append(one.ref)
    refs = {one.ref for one in tried}
    gone = tuple(ref for ref in dict.fromkeys(earlier) if ref not in refs)
    return Preview(
        created=tuple(created),
        changes=tuple(changes),
        unchanged=tuple(same),
        pruned=tuple(ref for ref in gone if ref.kind not in _KEPT),
        kept=tuple(ref for ref in gone if ref.kind in _KEPT),
        report=None if before is None else compare(side_of(before), side_of(wanted)),
        claims=claims,
        first=before is None,
    )


def side_of(desired: Desired) -> Side:
    """A side of a comparison."""
    objects = {
        (ref.kind, ref.namespace, ref.name): item for item in desired.objects for ref in (ref_of(item),)
    }
    return Side(name=desired.name, plan=desired.plan, objects=objects)


def lasting(item: Object) -> Object:
    """An object without what the server keeps in it, and without what stands for the plan."""
    metadata = {key: value for key, value in part(item, "metadata").items() if key not in _SERVER_METADATA}
    notes = {
        key: value
        for key, value in texts(metadata, "annotations").items()
        if not key.startswith(_SERVER_ANNOTATIONS) and key not in (PLAN_ANNOTATION, HASH_ANNOTATION)
    }
    metadata.pop("annotations", None)
    metadata |= {"annotations": notes} if notes else {}
    return {key: value for key, value in item.items() if key != "status"} | {"metadata": metadata}


def apply(
    api: Api,
    wanted: Desired,
    tried: tuple[Tried, ...],
    *,
    force: bool,
    before_each: Callable[[], object],
    applied: Callable[[Ref, int], object],
) -> None:
    """Apply every object that is not there as it should be, in the order given.

    Args:
        api: the cluster.
        wanted: what is to be there.
        tried: the dry-run of it.
        force: take over fields that others own.
        before_each: called before every request that changes something; raises where it may not.
        applied: called after each, with its number from 1.

    Raises:
        ClusterError: the server refuses what it accepted a moment ago.
    """
    number = 0
    for item, one in zip(wanted.objects, tried, strict=True):
        if one.live is not None and _is_same(one.live, one.after):
            continue
        before_each()
        api.apply(item, force=force)
        number += 1
        applied(one.ref, number)


def remove(
    api: Api, refs: Iterable[Ref], name: str, *, before_each: Callable[[], object] = lambda: None
) -> tuple[tuple[Ref, ...], tuple[Ref, ...]]:
    """Delete objects that are selfhost's and belong to a deployment; others are left alone.

    Args:
        api: the cluster.
        refs: which, deleted from the last to the first.
        name: of the deployment.
        before_each: called before every request that changes something.

    Returns:
        What was deleted, and what was left because it is another owner's.
    """
    deleted, foreign = [], []
    for ref in reversed(tuple(refs)):
        try:
            live = api.get(ref)
        except (
            ApiError
        ):  # the definition of its kind is gone, or it may not be read: then it is not ours to delete
            foreign.append(ref)
            continue
        if live is None:
            continue
        if not is_ours(live, name):
            foreign.append(ref)
            continue
        before_each()
        if api.delete(ref, uid=str(part(live, "metadata").get("uid", ""))):
            deleted.append(ref)
    return tuple(deleted), tuple(foreign)


def _is_same(live: Object, after: Object) -> bool:
    """Whether applying changes nothing at all: managedFields carry times, and say nothing of the object."""
    bare = [
        {
            **item,
            "metadata": {
                k: v
                for k, v in part(item, "metadata").items()
                if k not in ("managedFields", "resourceVersion", "generation")
            },
        }
        for item in (live, after)
    ]
    versions = [part(item, "metadata").get("generation") for item in (live, after)]
    return bare[0] == bare[1] and versions[0] == versions[1]


def _foreign(live: Object, ref: Ref) -> ClusterError:
    labels = texts(part(live, "metadata"), "labels")
    owner = labels.get(MANAGED_LABEL) or _first_manager(live)
    whose = f"is not selfhost's (managed by {owner})"
    if owner == MANAGED_BY:
        whose = f"belongs to selfhost's deployment {labels.get(INSTANCE_LABEL) or 'of no name'}"
    return ClusterError(
        f"{ref.kind} {ref.namespace}/{ref.name} is there already and {whose}.",
        hint="Rename or delete it, or plan under another name (selfhost plan --name).",
    )


def _first_manager(live: Object) -> str:
    fields = part(live, "metadata").get("managedFields")
    first = fields[0] if isinstance(fields, list) and fields and isinstance(fields[0], dict) else {}
    return str(first.get("manager") or "somebody else")


def _no_place(error: AbsentError, ref: Ref) -> ClusterError:
    if 'namespaces "' in error.said or f'namespace "{ref.namespace}"' in error.said:
        return ClusterError(f"There is no namespace {ref.namespace}.", hint="--create-namespace makes it.")
    return ClusterError(
        f"The cluster does not know the kind {ref.kind} ({ref.api_version}).",
        hint="`selfhost preflight` names the option that leaves it out, or what has to be installed.",
    )


def _refused(error: RefusedError, ref: Ref) -> ClusterError:
    if _IMMUTABLE.search(error.said):
        delete = f"kubectl -n {ref.namespace} delete {ref.kind.lower()} {ref.name}"
        return ClusterError(
            f"{ref} cannot be changed in place: {error.said.rstrip('.')}.",
            hint=f"Delete it first (`{delete}`), then run this again.",
        )
    from selfhost.deploy.causes import refusal

    cause = refusal(error.said, what=str(ref))
    return (
        error
        if cause is None
        else ClusterError(f"{cause.sentence.rstrip('.')}: {error.said.rstrip('.')}.", hint=cause.hint)
    )

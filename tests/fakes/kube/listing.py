"""Lists: what selectors take, page by page, whole or their metadata alone."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

from tests.fakes.kube import selectors
from tests.fakes.kube.kinds import Kind
from tests.fakes.kube.store import Store
from tests.fakes.kube.wire import Object, RefusalError, at


def listed(store: Store, kind: Kind, namespace: str, query: dict[str, str], *, partial: bool) -> Object:
    """A list, or a page of it.

    Raises:
        RefusalError: a selector that is none, or a page of what is no more.
    """
    test = selector(kind, query)
    with store.lock:
        found = [one for one in store.all(kind, namespace) if test(one)]
        version = str(store.version)
    limit, token = int(query.get("limit") or 0), query.get("continue") or ""
    if token:
        try:
            version, after = json.loads(base64.b64decode(token))
        except ValueError:
            raise RefusalError(400, "BadRequest", "continue key is not valid: invalid encoding") from None
        if int(version) < store.oldest:
            raise RefusalError(
                410, "Expired",
                "The provided continue parameter is too old to display a consistent list result. You can start a "
                "new list without the continue parameter, or use the continue token in this response to retrieve "
                "the remainder of the results.",
            )  # fmt: skip
        found = [
            one for one in found if [at(one, "metadata", "namespace") or "", one["metadata"]["name"]] > after
        ]
    metadata: Object = {"resourceVersion": version}
    if limit and len(found) > limit:
        last = found[limit - 1]["metadata"]
        place = json.dumps([version, [last.get("namespace") or "", last["name"]]])
        metadata |= {
            "continue": base64.b64encode(place.encode()).decode(),
            "remainingItemCount": len(found) - limit,
        }
        found = found[:limit]
    if partial:
        items = [partial_of(one) for one in found]
        return {
            "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            "items": items,
        }  # fmt: skip
    # the items of a list name neither their version nor their kind, except custom resources
    custom = kind.group.count(".") and not kind.group.endswith(".k8s.io")
    drop = () if custom else ("kind", "apiVersion")
    items = [{name: value for name, value in one.items() if name not in drop} for one in found]
    return {
        "kind": f"{kind.name}List", "apiVersion": kind.api_version, "metadata": metadata, "items": items,
    }  # fmt: skip


def selector(kind: Kind, query: dict[str, str]) -> Callable[[Object], bool]:
    """What the selectors of a request take."""
    by_label = selectors.labels(query.get("labelSelector") or "")
    by_field = selectors.fields(query.get("fieldSelector") or "", kind.plural)
    return lambda item: by_label(item) and by_field(item)


def partial_of(item: Object) -> Object:
    return {
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"],
    }  # fmt: skip

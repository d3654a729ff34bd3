"""Events as client-go's recorder writes them: one object for what repeats, with a count."""

from __future__ import annotations

import threading
from typing import Any
from uuid import uuid4

from tests.simulator.box import now_text
from tests.simulator.client import MERGE, Client, RefusalError

Object = dict[str, Any]


class Recorder:
    """Writes events about objects."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[tuple[str, ...], tuple[str, int]] = {}
        self._lock = threading.Lock()

    def say(
        self,
        item: Object,
        kind: str,
        reason: str,
        message: str,
        *,
        container: str = "",
        init: bool = False,
        component: str = "kubelet",
        host: str = "",
    ) -> None:
        """An event about an object.

        Args:
            item: the object.
            kind: `Normal` or `Warning`.
            reason: one word.
            message: a sentence.
            container: which of a pod's, if it is about one.
            init: whether that is an init container.
            component: who says it.
            host: on which node.
        """
        metadata = item["metadata"]
        namespace = metadata.get("namespace", "default")
        field = f"spec.{'initContainers' if init else 'containers'}{{{container}}}" if container else ""
        key = (metadata["uid"], kind, reason, message, field, component)
        path = f"/api/v1/namespaces/{namespace}/events"
        with self._lock:
            name, count = self._known.get(key, ("", 0))
            count += 1
            if name:
                self._known[key] = (name, count)
        try:
            if name:
                change = {"count": count, "lastTimestamp": now_text()}
                if self._client.try_ask("PATCH", f"{path}/{name}", change, MERGE) is not None:
                    return
            name = f"{metadata['name']}.{uuid4().hex[:16]}"
            involved: Object = {
                "apiVersion": item.get("apiVersion", "v1"),
                "kind": item.get("kind", "Pod"),
                "name": metadata["name"],
                "namespace": metadata.get("namespace"),
                "uid": metadata["uid"],
                "resourceVersion": metadata.get("resourceVersion"),
            }
            if field:
                involved["fieldPath"] = field
            document = {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": name, "namespace": namespace},
                "involvedObject": {key: value for key, value in involved.items() if value is not None},
                "type": kind,
                "reason": reason,
                "message": message,
                "source": {"component": component} | ({"host": host} if host else {}),
                "reportingComponent": component,
                "reportingInstance": host,
                "firstTimestamp": now_text(),
                "lastTimestamp": now_text(),
                "count": count,
            }
            self._client.ask("POST", path, document)
        except RefusalError as answer:
            if answer.status not in (403, 404, 409):  # the namespace is going or gone
                raise
            return
        with self._lock:
            self._known[key] = (name, count)

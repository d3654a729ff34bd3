"""Requests to a Kubernetes API server, one after the other: what the fake is held to a real one by.

Each dialogue has a namespace of its own. What a server gives by chance (UIDs, times, versions, addresses) is written as
marks, in the order in which it comes: two answers with one version have one mark.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

from tests.kube_dialogues.ruled import RULED
from tests.kube_dialogues.steps import Ask, Step, obj
from tests.kube_dialogues.written import WRITTEN

DIALOGUES: dict[str, tuple[Step, ...]] = WRITTEN | RULED


class Marks:
    """What comes by chance, as marks in the order of its coming."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._seen: dict[str, str] = {}

    def of(self, value: Any, key: str = "") -> Any:
        """A value with its marks."""
        if isinstance(value, dict):
            found = {name: self.of(one, name) for name, one in value.items()}
            if str(found.get("kind", "")).endswith("Review"):
                found["metadata"] = {}
            if str(found.get("kind", "")).endswith("List"):
                found["metadata"] = {}
            return found
        if key == "managedFields":  # sorted by seconds
            value = sorted(
                value, key=lambda one: (one["operation"], one["manager"], one.get("subresource", ""))
            )
        if isinstance(value, list):
            return [self.of(one, key) for one in value]
        if not isinstance(value, str):
            return value
        if key == "resourceVersion":
            return self._mark("version", value)
        text = value.replace(self._namespace, "NS")
        text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID", text)
        text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME", text)
        # Go values, and a diff of them
        text = re.sub(r"(Invalid value: \{).*\"[Ss]pec\":.*(\}: field is immutable)", r"\1…\2", text)
        text = re.sub(r"\n@@.*", "", text, flags=re.DOTALL)
        text = re.sub(r"in record \(\d+\)", "in record (VERSION)", text)
        return self._mark("address", text) if re.fullmatch(r"10\.0\.\d+\.\d+", text) else text

    def _mark(self, kind: str, value: str) -> str:
        known = sum(mark.startswith(kind) for mark in self._seen.values())
        return self._seen.setdefault(f"{kind} {value}", f"{kind}-{known + 1}")


def transcript(name: str, ask: Ask, namespace: str) -> list[list[Any]]:
    """What a server answers in a dialogue: status, body, warnings of each request."""
    marks = Marks(namespace)
    said: list[list[Any]] = []
    space = obj("v1", "Namespace", namespace)
    ask(Step(method="POST", path="/api/v1/namespaces", body=space))
    for step in DIALOGUES[name]:
        body = json.loads(json.dumps(step.body).replace("NS", namespace)) if step.body is not None else None
        path = step.path.replace("NS", quote(namespace))
        code, answer, warnings = ask(
            Step(method=step.method, path=path, body=body, form=step.form, user=step.user)
        )
        said.append([code, marks.of(answer), [marks.of(one) for one in warnings]])
    return said

"""Every case of the matrix: valid for its releases of Kubernetes, consistent, restricted, without secret or finding."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from selfhost.assets import targets
from selfhost.engines import engine_names
from selfhost.errors import SelfhostError
from selfhost.lint.files import Text
from selfhost.lint.run import lint
from selfhost.manifests import render
from selfhost.plan import from_json
from tests import crds
from tests.matrix import CASES, REFUSED, objects, rendered
from tests.podsecurity import pods, violations
from tests.validators import VERSIONS, problems

# Names that several objects may refer to, and kinds that select pods by labels.
_SELECTING = {
    "Service",
    "PodDisruptionBudget",
    "PodMonitor",
    "NetworkPolicy",
    "InferencePool",
    "Deployment",
    "DaemonSet",
}
# Targets whose pods another project makes; their own tests hold what they select against what it makes.
PEERS = {"kserve", "llm-d", "production-stack"}
# What a secret would look like: none is known to a plan, so that nothing may have this shape.
_SECRET = re.compile(
    r"\b(hf_[A-Za-z0-9]{8,}|sk-[A-Za-z0-9]{16,}|AKIA[0-9A-Z]{16})\b|-----BEGIN [A-Z ]*PRIVATE KEY"
)


@cache
def _validated(text: str, version: str) -> tuple[str, ...]:
    """Problems of an object that is given as JSON: cases share most of theirs."""
    return tuple(problems(json.loads(text), version))


def _without_plan(document: Any) -> str:
    """The object as JSON, without the plan in its annotation, which makes equal objects different."""
    metadata = document.get("metadata") or {}
    notes = {
        key: value for key, value in (metadata.get("annotations") or {}).items() if key != "selfhost/plan"
    }
    return json.dumps(
        document | {"metadata": metadata | ({"annotations": notes} if notes else {})}, sort_keys=True
    )


def is_valid(name: str) -> Iterator[str]:
    """Strictly, for every release from the one that has what was asked for."""
    oldest = int(CASES[name].since.removeprefix("1."))
    for document in objects(name):
        text = (
            _without_plan(document) if "annotations" in document.get("metadata", {}) else json.dumps(document)
        )
        for version in VERSIONS:
            if int(version.removeprefix("1.")) >= oldest:
                yield from (f"{version}: {problem}" for problem in _validated(text, version))


def is_where_it_belongs(name: str) -> Iterator[str]:
    """In the namespace that was asked for; and no two objects of a kind have one name there."""
    case = CASES[name]
    allowed = {case.options.namespace}
    if case.target == "monitor":
        allowed.add(case.options.monitor_namespace or case.options.monitoring_namespace)
    seen: Counter[tuple[Any, ...]] = Counter()
    for document in objects(name):
        metadata = document["metadata"]
        if metadata.get("namespace") not in allowed and not _is_cluster_wide(document):
            yield f"{document['kind']} {metadata['name']} is in {metadata.get('namespace')}"
        seen[document["apiVersion"], document["kind"], metadata.get("namespace"), metadata["name"]] += 1
    yield from (f"{key} is there {count} times" for key, count in seen.items() if count > 1)


def _is_cluster_wide(document: Any) -> bool:
    found = crds.definition(document["apiVersion"], document["kind"])
    core = {"PriorityClass", "ClusterRole", "ClusterRoleBinding", "PersistentVolume", "DeviceClass"}
    return not found.namespaced if found is not None else document["kind"] in core


def _labelled(document: Any) -> Iterator[dict[str, str]]:
    """Labels of the pods that an object makes."""
    if isinstance(document, dict):
        if isinstance(document.get("spec"), dict) and isinstance(document["spec"].get("containers"), list):
            yield (document.get("metadata") or {}).get("labels") or {}
        for value in document.values():
            yield from _labelled(value)
    elif isinstance(document, list):
        for value in document:
            yield from _labelled(value)


def _selectors(document: Any) -> Iterator[dict[str, str]]:
    spec = document.get("spec") or {}
    selector = spec.get("podSelector") if document["kind"] == "NetworkPolicy" else spec.get("selector")
    if isinstance(selector, dict):
        labels = selector if document["kind"] == "Service" else selector.get("matchLabels")
        if labels:
            yield labels
    for pod in pods(document):
        for spread in pod.get("topologySpreadConstraints") or ():
            yield spread["labelSelector"]["matchLabels"]


def selects_something(name: str) -> Iterator[str]:
    """Every selector finds a pod that the case makes; an object that makes pods finds its own."""
    made = [labels for document in objects(name) for labels in _labelled(document)]
    if not made or CASES[name].target in PEERS:
        return  # a target whose pods a controller makes
    for document in objects(name):
        if (
            document["kind"] == "NetworkPolicy"
            and document["metadata"]["namespace"] != CASES[name].options.namespace
        ):
            continue
        own = list(_labelled(document)) if document["kind"] in ("Deployment", "DaemonSet") else made
        for labels in _selectors(document):
            if document["kind"] not in _SELECTING:
                continue
            if CASES[name].target == "monitor" and labels.get("app.kubernetes.io/component") == "server":
                continue  # the engine's pods, which the target kubernetes makes
            if not any(labels.items() <= found.items() for found in own):
                yield f"{document['kind']} {document['metadata']['name']} selects {labels}, which no pod has"


def keeps_secrets_out(name: str) -> Iterator[str]:
    """No text looks like a secret, and what is called one in an environment comes from a Secret."""
    for document in rendered(name).documents:
        if document.data is None and (found := _SECRET.search(document.text)):
            yield f"{document.name} holds {found[0][:6]}…"
    for document in objects(name):
        if document["kind"] == "Secret" and (document.get("data") or document.get("stringData")):
            yield f"Secret {document['metadata']['name']} holds values"
        for pod in pods(document):
            for container in [*(pod.get("initContainers") or ()), *pod["containers"]]:
                for item in container.get("env") or ():
                    word = item["name"].rpartition("_")[2]
                    if word in ("TOKEN", "KEY", "SECRET", "PASSWORD") and item.get("value"):
                        yield f"{container['name']}: {item['name']} has its value in the manifest"


def is_restricted(name: str) -> Iterator[str]:
    """Pod Security *restricted*, unless the case says why not; then there has to be a violation."""
    found = [problem for document in objects(name) for problem in violations(document)]
    reason = CASES[name].unrestricted
    if reason and not found:
        yield f"is restricted although it is said not to be: {reason}"
    elif not reason:
        yield from found


def has_no_finding(name: str) -> Iterator[str]:
    """`selfhost lint` finds nothing in it, and reads all of it."""
    documents = [document for document in rendered(name).documents if document.name.endswith(".yaml")]
    report = lint(Text(name=document.name, content=document.text) for document in documents)
    for finding in report.findings:
        yield f"{finding.code} {finding.where.file}:{finding.where.line} {finding.message}"
    yield from map(str, report.unread)


def carries_its_plan(name: str) -> Iterator[str]:
    """plan.json reads back as the plan that was rendered, but for an image that was asked for."""
    case = CASES[name]
    (text,) = (document.text for document in rendered(name).documents if document.name == "plan.json")
    if case.options.image is None and from_json(text) != case.plan:
        yield "plan.json is another plan"


CHECKS: tuple[Callable[[str], Iterator[str]], ...] = (
    is_valid, is_where_it_belongs, selects_something, keeps_secrets_out, is_restricted, has_no_finding,
    carries_its_plan,
)  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    found = {check.__name__: said for check in CHECKS if (said := list(check(name)))}
    assert found == {}


@pytest.mark.parametrize("name", REFUSED)
def test_refusal(name: str) -> None:
    case = REFUSED[name]
    with pytest.raises(SelfhostError) as error:
        render(case.plan, target=case.target, options=case.options)
    assert error.value.hint


def test_the_matrix_is_large_and_has_every_target_and_engine() -> None:
    assert len({(case.plan, case.target, case.options) for case in CASES.values()}) >= 200
    assert {case.target for case in CASES.values()} == set(targets())
    assert {case.plan.engine.name for case in CASES.values()} == set(engine_names())


def test_rendering_again_gives_the_same() -> None:
    for name in list(CASES)[::40]:
        case = CASES[name]
        assert render(case.plan, target=case.target, options=case.options) == rendered(name), name

"""The validators of rendered objects find what an API server would refuse."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests import crds
from tests.validators import VERSIONS, problems

METADATA = {"name": "x", "namespace": "llm"}
SCALED: dict[str, Any] = {
    "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": METADATA,
    "spec": {
        "scaleTargetRef": {"name": "x"}, "minReplicaCount": 1, "maxReplicaCount": 3,
        "triggers": [{"type": "prometheus", "metadata": {"query": "sum(up)", "threshold": "5"}}],
    },
}  # fmt: skip
ROUTE: dict[str, Any] = {
    "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": METADATA,
    "spec": {
        "parentRefs": [{"name": "gateway", "namespace": "gateway"}],
        "rules": [{
            "matches": [{"path": {"value": "/v1"}}],
            "backendRefs": [{"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "x"}],
        }],
    },
}  # fmt: skip
POOL: dict[str, Any] = {
    "apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool", "metadata": METADATA,
    "spec": {
        "targetPorts": [{"number": 8000}], "selector": {"matchLabels": {"app": "x"}},
        "endpointPickerRef": {"name": "epp", "port": {"number": 9002}},
    },
}  # fmt: skip
POD = {"containers": [{"name": "x", "image": "x", "env": [{"name": "A", "value": "1"}]}]}
SET: dict[str, Any] = {
    "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "metadata": METADATA,
    "spec": {"leaderWorkerTemplate": {"size": 2, "workerTemplate": {"spec": POD}}},
}  # fmt: skip
DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": METADATA,
    "spec": {
        "selector": {"matchLabels": {"app": "x"}},
        "template": {"metadata": {"labels": {"app": "x"}}, "spec": POD},
    },
}  # fmt: skip
GOOD = {"scaled": SCALED, "route": ROUTE, "pool": POOL, "set": SET, "deployment": DEPLOYMENT}


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with another value at a path of names and numbers."""
    made = copy.deepcopy(document)
    below: Any = made
    *steps, last = (int(step) if step.isdigit() else step for step in path.split("."))
    for step in steps:
        below = below[step]
    below[last] = value
    return made


@pytest.mark.parametrize("name", GOOD)
def test_takes_a_good_object_for_every_release(name: str) -> None:
    assert [problem for version in VERSIONS for problem in problems(GOOD[name], version)] == []


CONTAINER = "spec.leaderWorkerTemplate.workerTemplate.spec.containers.0"


@pytest.mark.parametrize(
    ("name", "path", "value", "says"),
    [
        ("scaled", "spec.maxReplicas", 3, "maxReplicas"),
        ("scaled", "spec.maxReplicaCount", "3", "integer"),
        ("scaled", "spec.triggers.0.metadata.threshold", 5, "string"),
        ("scaled", "spec.minReplicaCount", 7, "minReplicaCount"),  # a rule in CEL
        ("scaled", "metadata.namespace", "a_b", "a_b"),
        ("route", "spec.rules.0.backendRefs.0", {"name": "x"}, "port"),  # a rule about defaults: a Service
        ("route", "spec.rules.0.matches.0.path.value", "v1", "must"),
        ("route", "spec.rules.0.timeouts", {"request": "fast"}, "fast"),
        ("pool", "spec.targetPorts", [{"number": 8000}, {"number": 8000}], "unique"),
        ("pool", "spec.endpointPickerRef.port", None, "null"),
        ("set", f"{CONTAINER}.env", None, "null"),
        ("set", f"{CONTAINER}.commands", ["x"], "commands"),
        ("set", f"{CONTAINER}.env.0", {"value": "1"}, "name"),
        ("set", "spec.leaderWorkerTemplate.restartPolicy", "Sometimes", "Sometimes"),
        ("deployment", "spec.replica", 2, "replica"),
        ("deployment", "spec.template.spec.containers.0.env", [{"name": "A"}, {"name": "A"}], "twice"),
        ("deployment", "apiVersion", "apps/v1beta9", "no such kind"),
        ("deployment", "kind", "Deploiment", "no such kind"),
    ],
)
def test_finds(name: str, path: str, value: Any, says: str) -> None:
    found = problems(changed(GOOD[name], path, value))
    assert any(says in problem for problem in found), found


def test_a_list_that_is_a_map_has_a_key_once() -> None:
    twice = changed(ROUTE, "spec.rules.0", {"name": "a"})
    gateway = {
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": METADATA,
        "spec": {
            "gatewayClassName": "x",
            "listeners": [{"name": "http", "port": port, "protocol": "HTTP"} for port in (80, 81)],
        },
    }  # fmt: skip
    assert problems(twice) == []
    assert any("twice" in problem for problem in problems(gateway))


def test_a_kind_comes_with_its_release() -> None:
    gpu = {"name": "gpu", "exactly": {"deviceClassName": "gpu.nvidia.com"}}
    claim = {
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate", "metadata": METADATA,
        "spec": {"spec": {"devices": {"requests": [gpu]}}},
    }  # fmt: skip
    assert problems(claim, "1.34") == []
    assert "no such kind" in problems(claim, "1.33")[0]


def test_every_definition_makes_a_validator() -> None:
    for api_version, kind in crds.known():
        found = crds.definition(api_version, kind)
        assert found is not None
        assert not found.validator.is_valid({"apiVersion": api_version, "kind": kind})


def test_an_object_without_a_kind() -> None:
    assert problems({"a": 1}) == ["kind or apiVersion is missing"]

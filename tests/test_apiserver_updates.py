"""Renderings applied over others, and the chart from install to uninstall, on a real API server of the tests' own.

`selfhost diff` names what Kubernetes refuses to change; the server has to refuse just that. Nothing binds claims there,
which decides what may be changed in one, so the test writes down what the controller of volumes would.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfhost.diff import Side, compare
from selfhost.manifests import RenderOptions, render, write_manifests
from selfhost.manifests.options import AccessMode
from selfhost.manifests.options.access import AccessOptions
from selfhost.manifests.options.gpus import GpuOptions
from selfhost.manifests.options.scaling import ScalingOptions
from selfhost.manifests.options.weights import WeightOptions
from selfhost.plan import Plan
from tests.apiservers import ASSETS, NEEDED, Cluster
from tests.charts import LOADER, chart
from tests.plans import plan
from tests.programs import helm

pytestmark = [
    NEEDED,
    pytest.mark.skipif(not ASSETS, reason="objects would stay behind: set KUBEBUILDER_ASSETS"),
    pytest.mark.timeout(300),
]
IMAGE = f"oci://registry.example/qwen:1@sha256:{'ab' * 32}"
GATEWAY = AccessOptions(expose="gateway", host="llm.example.org", gateway="public/gateways")
PLAIN, ROUTED = RenderOptions(), RenderOptions(access=GATEWAY)
SHARED: AccessMode = "ReadWriteMany"


def _weights(uri: str) -> RenderOptions:
    return RenderOptions(weights=WeightOptions(uri=uri))


VARIANTS: dict[str, dict[str, tuple[Plan, RenderOptions]]] = {
    "kubernetes": {
        "plain": (plan(), PLAIN),
        "three": (plan(replicas=3), PLAIN),
        "surge": (plan(), RenderOptions(surge=True, access_mode=SHARED)),
        "older": (plan(engine="vllm@0.11"), RenderOptions(access_mode=SHARED)),
        "class": (plan(stored_bytes=2**37), RenderOptions(storage_class="fast")),
        "claim": (plan(), _weights("pvc:weights")),
        "nfs": (plan(), _weights("nfs://files.example/models")),
        "other-nfs": (plan(), _weights("nfs://files.example/other")),
        "image": (plan(), _weights(IMAGE)),
        "dra": (plan(), RenderOptions(gpus=GpuOptions(dra=True))),
        "dra-else": (plan(), RenderOptions(gpus=GpuOptions(dra=True, or_gpus=("h200-sxm-141gb",)))),
        "keda": (plan(), RenderOptions(scaling=ScalingOptions(autoscale="keda", max_replicas=4))),
        "sglang": (plan(engine="sglang"), RenderOptions(hub_endpoint="http://hub.models.svc:8765")),
    },
    "lws": {
        "plain": (plan(), PLAIN),
        "three": (plan(replicas=3), PLAIN),
        "older": (plan(engine="vllm@0.11"), PLAIN),
        "nfs": (plan(), _weights("nfs://files.example/models")),
    },
    "gateway": {
        "plain": (plan(), ROUTED),
        "three": (plan(replicas=3), ROUTED),
        "sglang": (plan(engine="sglang"), ROUTED),
    },
    "kserve": {
        "plain": (plan(), PLAIN),
        "three": (plan(replicas=3), PLAIN),
        "claim": (plan(engine="vllm@0.11"), _weights("pvc:weights")),
    },
}


@cache
def objects(target: str, name: str) -> tuple[Any, ...]:
    """The objects of a variant."""
    made, options = VARIANTS[target][name]
    documents = render(made, target=target, options=options).documents
    texts = [document.text for document in documents if document.is_object]
    return tuple(one for text in texts for one in yaml.load_all(text, LOADER) if one is not None)


def side(target: str, name: str) -> Side:
    """A variant as `selfhost diff` reads it."""
    found = {
        (one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]): one
        for one in objects(target, name)
    }
    return Side(name=name, plan=VARIANTS[target][name][0], objects=found)


@dataclass(frozen=True, slots=True)
class Update:
    """One rendering over another, in a namespace of its own."""

    cluster: Cluster
    space: str

    def apply(self, target: str, name: str) -> dict[str, str]:
        """What the server refuses, by kind and name."""
        refused = {}
        for one in objects(target, name):
            answer = self.cluster.apply(self._here(one), self.space)
            if answer.objection:
                refused[f"{one['kind']} {one['metadata']['name']}"] = answer.objection
        return refused

    def bind(self, target: str, name: str) -> None:
        """A claim as it is when its volume is there: with the volume, a class and a capacity."""
        for one in objects(target, name):
            if one["kind"] != "PersistentVolumeClaim":
                continue
            spec, path = one["spec"], self.cluster.path(one, self.space, named=True)
            bound = {"volumeName": spec.get("volumeName", "made"), "storageClassName": "standard"}
            bound |= {key: spec[key] for key in bound if key in spec}
            status = {
                "phase": "Bound",
                "capacity": spec["resources"]["requests"],
                "accessModes": spec["accessModes"],
            }
            for place, change in ((path, {"spec": bound}), (f"{path}/status", {"status": status})):
                answer = self.cluster.ask("PATCH", place, change, "application/merge-patch+json")
                assert answer.objection == ""

    def _here(self, document: dict[str, Any]) -> dict[str, Any]:
        """A PersistentVolume is the whole cluster's: its name says the namespace too."""
        if document["kind"] != "PersistentVolume":
            return document
        name = f"{document['metadata']['name']}-{self.space}"
        return document | {"metadata": document["metadata"] | {"name": name}}


@pytest.mark.parametrize("target", VARIANTS)
def test_an_update_is_refused_where_diff_says_so(target: str, cluster: Cluster) -> None:
    found = {}
    for old, new in itertools.permutations(VARIANTS[target], 2):
        update = Update(cluster, cluster.namespace("restricted"))
        assert update.apply(target, old) == {}
        update.bind(target, old)
        refused = update.apply(target, new)
        blocked = compare(side(target, old), side(target, new)).effects.blocked
        said = {text.partition(":")[0] for text in blocked}
        if said != set(refused):
            found[f"{old} -> {new}"] = {"said": said, "refused": refused}
    assert found == {}


@dataclass(frozen=True, slots=True)
class Release:
    """A release of the chart in a namespace of its own."""

    cluster: Cluster
    space: str
    chart: Path
    home: Path

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Helm, with nothing of whoever runs the tests."""
        homes = {f"HELM_{name}_HOME": str(self.home / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
        line = [str(helm()), *words, "--namespace", self.space, "--kubeconfig", str(self.cluster.config)]
        env = {"PATH": os.environ["PATH"], "HOME": str(self.home), **homes}
        return subprocess.run(line, capture_output=True, text=True, check=False, timeout=120, env=env)

    def done(self, *words: str) -> str:
        """What Helm printed; nothing on its other output, where warnings of Pod Security would be."""
        ran = self.run(*words)
        assert ran.returncode == 0, ran.stderr
        assert "would violate" not in ran.stderr
        return ran.stdout

    def there(self) -> dict[str, Any]:
        """Objects of the chart that are in the namespace and are not on their way out."""
        kinds = (
            "deployments,jobs,services,serviceaccounts,configmaps,persistentvolumeclaims,networkpolicies,"
            "poddisruptionbudgets,podmonitors,prometheusrules,scaledobjects,pods,secrets"
        )
        listed = self.cluster.run("get", kinds, "--namespace", self.space, "-o", "json")
        assert listed.returncode == 0, listed.stderr
        return {
            f"{one['kind']} {one['metadata']['name']}": one
            for one in json.loads(listed.stdout)["items"]
            if one["metadata"]["name"] != "kube-root-ca.crt"
            and "deletionTimestamp" not in one["metadata"]
            and one.get("type") != "helm.sh/release.v1"
        }


@pytest.fixture
def release(cluster: Cluster, tmp_path: Path) -> Release:
    copy = tmp_path / "chart"
    shutil.copytree(chart(), copy)
    if str(cluster.ask("GET", "/version").body["gitVersion"]).startswith("v0."):  # built without its number
        text = (copy / "Chart.yaml").read_text(encoding="utf-8")
        (copy / "Chart.yaml").write_text(re.sub(r"(?m)^kubeVersion:.*\n", "", text), encoding="utf-8")
    return Release(cluster, cluster.namespace("restricted"), copy, tmp_path / "helm")


def values(folder: Path, made: Plan, options: RenderOptions) -> list[str]:
    """The option with a rendering's values file."""
    write_manifests(render(made, target="helm", options=options), folder)
    return ["-f", str(folder / "values.yaml")]


def test_chart_from_install_to_uninstall(release: Release, tmp_path: Path) -> None:
    """The chart's own values, the same again, and back."""
    said = release.done("install", "it", str(release.chart))
    assert f"namespace {release.space}" in said
    first = release.there()
    assert {name.partition(" ")[0] for name in first} >= {
        "Deployment",
        "Job",
        "Service",
        "PersistentVolumeClaim",
    }
    release.done("upgrade", "it", str(release.chart))
    assert {name: one["metadata"].get("generation") for name, one in release.there().items()} == {
        name: one["metadata"].get("generation") for name, one in first.items()
    }
    hooks = release.done("get", "hooks", "it")
    assert "helm.sh/hook: test" in hooks
    (pod,) = (one for one in yaml.load_all(hooks, LOADER) if one is not None)
    assert release.cluster.create(pod, release.space).objection == ""
    release.done("rollback", "it", "1")
    assert set(release.there()) == set(first)
    release.done("uninstall", "it")
    assert {name.partition(" ")[0] for name in release.there()} == {
        "PersistentVolumeClaim"
    }  # the weights stay


def test_chart_with_the_values_of_two_plans(release: Release, tmp_path: Path) -> None:
    """Three replicas and another engine over one replica, and back with what the first had."""
    options = RenderOptions(namespace=release.space, access_mode=SHARED)
    one = values(tmp_path / "one", plan(), options)
    other = plan(replicas=3, engine="vllm@0.11")
    three = values(tmp_path / "three", other, replace(options, surge=True))
    release.done("install", "it", str(release.chart), *one)
    first = release.there()
    release.done("upgrade", "it", str(release.chart), *three)
    (deployment,) = (found for name, found in release.there().items() if name.startswith("Deployment"))
    assert deployment["spec"]["replicas"] == 3
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    release.done("rollback", "it", "1")
    again = release.there()
    assert set(again) == set(first)
    for name, found in again.items():
        if not name.startswith("Job"):  # made anew under the name it had: its selector is another
            assert found.get("spec") == first[name].get("spec"), name
    release.done("uninstall", "it")
    assert {name.partition(" ")[0] for name in release.there()} == {
        "PersistentVolumeClaim"
    }  # the weights stay

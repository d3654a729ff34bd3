"""`selfhost up MODEL` on a cluster: planned for the GPUs that its nodes have free, deployed, tested, addressed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import selfhost.cli
from selfhost.cli._up_cluster import counted
from selfhost.deploy.capacity import GpuNode
from tests import crds
from tests.conftest import Cli, Ran
from tests.fakes.kube import Kube, kube_api
from tests.simulator import Simulator

MODEL = "Qwen/Qwen3-32B"
H100, L4 = "NVIDIA-H100-80GB-HBM3", "NVIDIA-L4"
SCHEMA = Path(selfhost.cli.__file__).parent / "schemas" / "event.json"
EVENT = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
LOAD = ("--context", "8k", "--concurrency", "4")


@dataclass(frozen=True, kw_only=True)
class Place:
    kube: Kube
    sim: Simulator
    cli: Cli
    config: str

    def up(self, *words: str | Path) -> Ran:
        given = (MODEL, *LOAD, "--kubeconfig", self.config, "--yes", "--output", "json", "--create-namespace")
        return self.cli("up", *given, *words)

    def holds(self, node: str, gpus: int) -> None:
        """A pod of somebody else's that has GPUs of a node."""
        limits = {"nvidia.com/gpu": str(gpus)}
        container = {"name": "c", "image": "i", "resources": {"limits": limits, "requests": limits}}
        self.kube.add(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": f"other-{node}", "namespace": "default"},
                "spec": {"nodeName": node, "containers": [container]},
            }
        )


@pytest.fixture
def place(cli: Cli, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        kube = stack.enter_context(
            kube_api(definitions=crds.definitions(), pace=0.02, service_accounts=False)
        )
        sim = stack.enter_context(Simulator(kube.url, kube.token, pace=0.002))
        sim.storage("standard", default=True)
        yield Place(kube=kube, sim=sim, cli=cli, config=kube.kubeconfig(tmp_path / "config"))


def events(ran: Ran) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in ran.out.splitlines()]
    for one in found:
        EVENT.validate(one)
    return found


def ours(place: Place) -> list[str]:
    """What selfhost made."""
    return [
        f"{one['kind']} {one['metadata']['name']}"
        for one in place.kube.objects(events=False)
        if one["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") == "selfhost"
    ]


def test_it_plans_for_what_is_free_and_serves(place: Place, tmp_path: Path) -> None:
    place.sim.node("a", gpus=8, product=H100)
    place.sim.node("b", gpus=4, product=L4)
    place.holds("a", 8)
    file = tmp_path / "plan.json"
    ran = place.up("-o", file)
    assert ran.code == 0, ran.out + ran.err
    said = events(ran)
    plan = json.loads(file.read_text())
    assert (plan["gpu"]["id"], plan["gpu"]["count"]) == ("l4-24gb", 4)  # the H100s are taken
    assert said[-1]["ended"] == "ready"
    (address,) = (event["address"] for event in said if "address" in event)
    assert address == f"http://{plan['name']}.llm.svc:8000/v1"
    assert any(event["type"] == "smoke" for event in said)
    # the plan alone, and only looked at
    looked = place.cli("deploy", file, "--check", "--kubeconfig", place.config, "--output", "json")
    assert [(one["type"], one.get("ended")) for one in events(looked)][-1] == ("done", "unchanged")
    # its own GPUs are no hindrance: nothing changes
    again = place.up()
    assert again.code == 0, again.out + again.err
    assert events(again)[-1]["revision"] == 1, "the same is no revision of its own"
    before = place.kube.get("Deployment", plan["name"], "llm")
    assert before is not None
    assert before["metadata"]["generation"] == 1
    assert len(place.kube.requests) < 200


def test_nothing_that_is_free_carries_it(place: Place) -> None:
    place.sim.node("a", gpus=2, product=H100)
    place.holds("a", 2)
    ran = place.up()
    assert ran.code == 4, ran.out + ran.err
    why, ending = events(ran)[-2:]
    assert why["because"] == "1 needed, 0 are free"
    assert (ending["type"], ending["exit_code"]) == ("done", 4)
    shown = place.cli("up", MODEL, *LOAD, "--kubeconfig", place.config)
    assert shown.code == 4, shown.out + shown.err
    assert "0 are free" in shown.out
    assert ours(place) == []


def test_a_dry_run_changes_nothing(place: Place) -> None:
    place.sim.node("a", gpus=2, product=H100)
    place.kube.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm"}})
    ran = place.up("--dry-run")
    assert ran.code == 0, ran.out + ran.err
    assert events(ran)[-1]["ended"] == "dry-run"
    assert ours(place) == []


def test_a_gpu_that_the_cluster_has_not_is_refused(place: Place) -> None:
    place.sim.node("a", gpus=2, product=H100)
    ran = place.up("--gpu", "l4-24gb")
    assert ran.code == 1
    assert "The cluster has no l4-24gb." in ran.err
    assert "h100-sxm-80gb" in ran.err


def gpu_node(**changes: Any) -> GpuNode:
    facts: dict[str, Any] = {
        "node": "n", "resource": "nvidia.com/gpu", "product": H100, "capacity": 8, "allocatable": 8, "requested": 0,
    }  # fmt: skip
    return GpuNode(**(facts | changes))


def test_products_become_the_catalogues_ids() -> None:
    room = counted(
        (
            gpu_node(requested=5),
            gpu_node(node="m", requested=2),
            gpu_node(node="o", closed="cordoned"),
            gpu_node(product="NVIDIA-L4", allocatable=4, capacity=4),
            gpu_node(product="Wonder-9000"),
            gpu_node(product=""),
        )
    )
    assert room.most == {"h100-sxm-80gb": 6, "l4-24gb": 4}
    assert room.total == {"h100-sxm-80gb": 24, "l4-24gb": 4}
    assert room.strange[0] == "Wonder-9000"
    assert "no label" in room.strange[1]

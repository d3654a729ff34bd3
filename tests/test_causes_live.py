"""Faults made on simulated nodes: each is explained by its own cause, and `selfhost logs` ends with it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

import selfhost.cli
from selfhost.cluster import Api
from selfhost.deploy.causes import explain
from selfhost.deploy.logs import known_of, why
from selfhost.deploy.types import Cause
from tests import clusters
from tests.conftest import Cli, Ran
from tests.fakes.kube import kube_api
from tests.simulator import Simulator, crashes, faults
from tests.simulator.box import Behaviour
from tests.worlds import PRODUCT, Object, World, a_plan, real_world

_WELL = "well"
_KEPT = ("out of GPU memory", "unknown flag")  # their logs are read later
# What is made -> the cause, without a command that waits; tests/test_deploy_causes.py deploys every fault.
FAULTS: dict[str, tuple[Behaviour, str]] = {
    "image not found": (faults.image_not_found(), "image-not-found"),
    "out of GPU memory": (crashes.cuda_out_of_memory(), "gpu-memory"),
    "unknown flag": (crashes.unknown_flag(), "unknown-option"),
    "host memory": (crashes.out_of_memory(), "oom-killed"),
    "evicted": (crashes.evicted(), "evicted"),
}


# True as well, and not final: it ended, and its log was not read yet, or, at a hundredfold pace, that of the next run.
_ON_THE_WAY = {"crashed", "crash-loop"}


@pytest.fixture(scope="module", params=["fake", pytest.param("real", marks=clusters.NEEDED)])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Every fault at once, each in a deployment of its own, and one deployment that starts well."""
    if request.param == "fake":
        folder = tmp_path_factory.mktemp("world")
        # without definitions of custom resources: nothing of them is needed, and they take the fake its time
        with kube_api(pace=1000.0) as kube, Simulator(kube.url, kube.token, pace=0.01) as sim:
            kube.kubeconfig(folder / "kubeconfig")
            yield filled(World(config=folder / "kubeconfig", sim=sim, folder=folder, fake=kube))
    else:
        with real_world(request.getfixturevalue("plane")) as made:
            yield filled(made)


def filled(world: World) -> World:
    world.sim.node("gpu-1", gpus=64, product=PRODUCT)
    for number, (behaviour, _) in enumerate(FAULTS.values()):
        world.sim.behave(behaviour, deployment=f"fault-{number}", container="server")
        world.make(a_deployment(f"fault-{number}"))
    world.make(a_deployment(_WELL))
    return world


def a_deployment(name: str) -> Object:
    """A server alone, as the rendered one runs it, without volumes and downloads."""
    labels = {"app.kubernetes.io/managed-by": "selfhost", "app.kubernetes.io/instance": name}
    restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True,
                  "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}  # fmt: skip
    server = {
        "name": "server", "image": "registry.example.com/vllm/vllm-openai:v0.32.0", "securityContext": restricted,
        "command": ["vllm", "serve"], "args": ["Qwen/Qwen3-32B", "--port=8000"],
        "ports": [{"name": "http", "containerPort": 8000}],
        "resources": {"requests": {"nvidia.com/gpu": "1"}, "limits": {"nvidia.com/gpu": "1", "memory": "16Gi"}},
        "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}},
        "startupProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 10, "failureThreshold": 200},
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }  # fmt: skip
    template = {
        "metadata": {"labels": labels | {"app.kubernetes.io/component": "server"}},
        "spec": {"containers": [server]},
    }
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
    }


def labelled(fault: str) -> str:
    return f"fault-{list(FAULTS).index(fault)}"


def looked(api: Api, world: World, name: str) -> Cause | None:
    return why(api, replace(known_of(api, world.namespace, name), plan=a_plan()))


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_explained_by_its_own_cause(world: World, name: str) -> None:
    _, code = FAULTS[name]
    api, named, cause = world.api(), set(), None
    until = time.monotonic() + 30
    while time.monotonic() < until and (cause is None or cause.code != code):
        cause = looked(api, world, labelled(name))
        if cause is not None:
            named.add(cause.code)
        if cause is None or cause.code != code:
            time.sleep(0.1)
    if name not in _KEPT:  # it would crash on and on while the others are looked at
        place = f"/apis/apps/v1/namespaces/{world.namespace}/deployments/{labelled(name)}"
        world.sim.client.ask("DELETE", place)
    assert cause is not None
    assert cause.code == code, named
    assert named - {code} <= _ON_THE_WAY
    assert cause.sentence.endswith(".")
    assert cause.evidence
    assert cause.hint


def test_deployment_that_starts_well_is_not_explained(world: World) -> None:
    api, ready = world.api(), False
    until = time.monotonic() + 60
    while time.monotonic() < until and not ready:
        assert explain(known_of(api, world.namespace, _WELL)) == ()
        item = world.get("apps/v1", "Deployment", _WELL) or {}
        ready = item.get("status", {}).get("readyReplicas") == 1
        time.sleep(0.05)
    assert ready
    assert looked(api, world, _WELL) is None


def logs(cli: Cli, world: World, *words: str) -> Ran:
    return cli("logs", *words, "-n", world.namespace, "--kubeconfig", str(world.config))


def test_logs_mark_what_counts_and_end_with_the_cause(world: World, cli: Cli) -> None:
    ran = logs(cli, world, labelled("out of GPU memory"), "--previous")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert any(
        line.startswith("! ") and "torch.OutOfMemoryError: CUDA out of memory" in line for line in lines
    )
    assert any(line.startswith("> ") for line in lines)
    assert any(line.startswith("Cause      Out of GPU memory") for line in lines)
    assert any(line.startswith("Next       ") for line in lines)
    short = logs(cli, world, labelled("unknown flag"), "--tail", "1")
    assert (
        sum("unrecognized arguments" in line for line in short.out.splitlines() if line.startswith("! ")) == 1
    )


def test_logs_as_json_follow_their_schema(world: World, cli: Cli) -> None:
    ran = logs(cli, world, labelled("unknown flag"), "--output", "json")
    schema = json.loads((Path(selfhost.cli.__file__).parent / "schemas" / "log.json").read_text("utf-8"))
    found = [json.loads(line) for line in ran.out.splitlines()]
    for one in found:
        jsonschema.validate(one, schema)
    assert (found[-1]["type"], found[-1]["code"]) == ("cause", "unknown-option")
    assert {one["mark"] for one in found[:-1]} >= {"error"}


def test_logs_are_followed_until_the_container_ends(world: World, cli: Cli) -> None:
    ran = logs(cli, world, labelled("unknown flag"), "--follow")
    assert ran.code == 0, ran.err
    assert "Cause      " in ran.out


def test_logs_of_a_server_that_is_well_name_no_cause(world: World, cli: Cli) -> None:
    ran = logs(cli, world, _WELL)
    assert any(line.startswith("* ") for line in ran.out.splitlines())
    assert "Cause" not in ran.out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nobody",), 1, "No pod of a deployment nobody"),
        ((_WELL, "--previous"), 1, "No container of well was started again"),
        ((_WELL, "--download"), 1, "download's pod"),
        ((_WELL, "--follow", "--previous"), 2, "contradict"),
    ],
)
def test_logs_that_are_not_there(
    world: World, cli: Cli, words: tuple[str, ...], code: int, said: str
) -> None:
    ran = logs(cli, world, *words)
    assert ran.code == code
    assert said in ran.err
    assert "Hint: " in ran.err

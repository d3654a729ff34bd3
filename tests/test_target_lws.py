"""Target lws: one group of pods for each replica, every pod told what it is, and no layer between nodes."""

from __future__ import annotations

from typing import Any

import pytest

from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests import Manifests, RenderOptions, render
from selfhost.manifests.lws import Spread, spread_of
from selfhost.manifests.options.nodes import NodeOptions
from selfhost.workload import Split
from tests.plans import plan
from tests.test_manifests import kind, kinds, objects
from tests.validators import problems

TWO_NODES = Split(tensor=8, pipeline=2)


def rendered(split: Split = TWO_NODES, **changes: Any) -> Manifests:
    nodes = {name: changes.pop(name) for name in ("ray", "gpus_per_node") if name in changes}
    made = plan(split=split, engine=changes.pop("engine", "vllm"), replicas=changes.pop("replicas", 1))
    return render(made, target="lws", options=RenderOptions(nodes=NodeOptions(**nodes), **changes))


def group(manifests: Manifests) -> Any:
    return kind(manifests, "LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]


def told(template: Any) -> list[str]:
    (server,) = template["spec"]["containers"]
    words: list[str] = server["args"]
    return words


@pytest.mark.parametrize(
    ("split", "per_node", "expected"),
    [
        (TWO_NODES, None, Spread(nodes=2, gpus=8)),
        (Split(tensor=8), None, Spread(nodes=1, gpus=8)),
        (Split(tensor=8, pipeline=4), None, Spread(nodes=4, gpus=8)),
        (Split(tensor=4, pipeline=4), None, Spread(nodes=2, gpus=8)),
        (Split(tensor=4, pipeline=3), None, Spread(nodes=3, gpus=4)),
        (Split(tensor=4, pipeline=2), 4, Spread(nodes=2, gpus=4)),
        (Split(tensor=8, data=2), None, Spread(nodes=2, gpus=8)),
        (Split(tensor=1, data=32), None, Spread(nodes=4, gpus=8)),
    ],
)
def test_a_replica_takes_the_fewest_even_nodes(split: Split, per_node: int | None, expected: Spread) -> None:
    assert spread_of(plan(split=split), RenderOptions(nodes=NodeOptions(gpus_per_node=per_node))) == expected


def test_no_layer_lies_between_nodes() -> None:
    with pytest.raises(UnsupportedError, match="TP 16") as refused:
        rendered(Split(tensor=16))
    assert refused.value.hint == "Plan with --tp 8 --pp 2."


def test_every_pod_knows_its_place() -> None:
    manifests = rendered()
    whole = group(manifests)
    leader, worker = told(whole["leaderTemplate"]), told(whole["workerTemplate"])
    assert whole["size"] == 2
    assert leader[-4:] == [
        "--nnodes=2", "--node-rank=$(LWS_WORKER_INDEX)", "--master-addr=$(LWS_LEADER_ADDRESS)", "--master-port=29501",
    ]  # fmt: skip
    assert worker == [*leader, "--headless"]
    assert whole["restartPolicy"] == "RecreateGroupOnPodRestart"


def test_each_pod_asks_for_its_own_gpus_and_memory() -> None:
    whole = group(rendered())
    for name in ("leaderTemplate", "workerTemplate"):
        spec = whole[name]["spec"]
        limits = spec["containers"][0]["resources"]["limits"]
        assert limits["nvidia.com/gpu"] == "8"
        shm = next(volume for volume in spec["volumes"] if volume["name"] == "shm")["emptyDir"]
        assert shm == {"medium": "Memory", "sizeLimit": "16Gi"}
        assert int(limits["memory"].removesuffix("Gi")) > 16
        names = [item["name"] for item in spec["containers"][0]["env"]]
        assert "VLLM_HOST_IP" in names
        assert len(names) == len(set(names))


def test_only_the_first_pod_serves() -> None:
    manifests = rendered()
    whole = group(manifests)
    (leader,), (worker,) = (
        whole["leaderTemplate"]["spec"]["containers"],
        whole["workerTemplate"]["spec"]["containers"],
    )
    assert "startupProbe" in leader
    assert not {"startupProbe", "readinessProbe", "livenessProbe", "ports", "lifecycle"} & set(worker)
    selects = kind(manifests, "Service")["spec"]["selector"].items()
    assert selects <= whole["leaderTemplate"]["metadata"]["labels"].items()
    assert not selects <= whole["workerTemplate"]["metadata"]["labels"].items()


def test_pods_of_a_group_may_talk_to_one_another() -> None:
    manifests = rendered()
    whole = group(manifests)
    policy = next(
        one
        for one in objects(manifests)
        if one["metadata"]["name"] == "qwen3-32b" and one["kind"] == "NetworkPolicy"
    )
    chosen = policy["spec"]["podSelector"]["matchLabels"].items()
    for name in ("leaderTemplate", "workerTemplate"):
        assert chosen <= whole[name]["metadata"]["labels"].items()
    job = kind(manifests, "Job")["spec"]["template"]["metadata"]["labels"].items()
    assert not chosen <= job
    inside = [{"podSelector": {"matchLabels": dict(chosen)}}]
    assert any(rule.get("from") == inside for rule in policy["spec"]["ingress"])
    assert any(rule.get("to") == inside for rule in policy["spec"]["egress"])


def test_weights_are_shared_between_the_nodes() -> None:
    assert kind(rendered(), "PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteMany"]
    with pytest.raises(UsageError, match="several nodes"):
        rendered(access_mode="ReadWriteOnce")


def test_ray_starts_before_the_server_and_is_looked_for() -> None:
    manifests = rendered(ray=True)
    whole = group(manifests)
    leader, worker = told(whole["leaderTemplate"]), told(whole["workerTemplate"])
    assert leader[1:4] == ["leader", "2", "2020"]
    assert "--distributed-executor-backend=ray" in leader
    assert not any(word.startswith("--nnodes") for word in leader)
    assert worker[1:] == ["worker", "$(LWS_LEADER_ADDRESS)"]
    for script in (leader[0], worker[0]):
        assert "$(" not in script.replace("$$", "")  # Kubernetes would look for a variable of that name
    readme = next(document.text for document in manifests.documents if document.name == "README.md")
    assert "the image has to have it" in readme


def test_sglang_starts_the_same_server_on_each_node() -> None:
    whole = group(rendered(engine="sglang"))
    leader, worker = told(whole["leaderTemplate"]), told(whole["workerTemplate"])
    assert leader == worker
    assert leader[-3:] == [
        "--nnodes=2",
        "--node-rank=$(LWS_WORKER_INDEX)",
        "--dist-init-addr=$(LWS_LEADER_ADDRESS):20000",
    ]
    with pytest.raises(UnsupportedError, match="Ray"):
        rendered(engine="sglang", ray=True)


def test_an_engine_or_a_release_that_cannot_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="several nodes without Ray"):
        rendered(engine="vllm@0.11.0")
    with pytest.raises(UnsupportedError, match="data-parallel"):
        rendered(Split(tensor=8, data=2), engine="vllm@0.20")


@pytest.mark.parametrize(
    ("split", "ray"),
    [(TWO_NODES, False), (TWO_NODES, True), (Split(tensor=8), False), (Split(tensor=4, pipeline=4), True)],
)
def test_every_object_is_valid(split: Split, ray: bool) -> None:
    manifests = rendered(split, ray=ray, replicas=2)
    assert "Deployment" not in kinds(manifests)
    assert {
        document["kind"]: problems(document) for document in objects(manifests) if problems(document)
    } == {}

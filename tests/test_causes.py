"""What a deployment does not get ready for: each cause made, and things that look like it and are another or none."""

from __future__ import annotations

import pytest

from selfhost.deploy.causes import explain, known, refusal, wanted_logs
from selfhost.deploy.types import LogRef
from tests.causes import (
    BUSY,
    LACK_OF_GPUS,
    LOADED,
    NAME,
    POD,
    TORCH,
    TWO,
    box,
    cluster,
    crashed,
    download,
    engine,
    failed,
    places,
    pod,
    process,
    said,
    snap,
    waiting,
)

CASES = cluster.CASES | places.CASES | engine.CASES | process.CASES


@pytest.mark.parametrize("name", CASES)
def test_cause_that_is_seen_is_named_and_no_other(name: str) -> None:
    snapshot, code, words = CASES[name]
    causes = explain(snapshot)
    assert (causes[0].code if causes else None) == code, causes[:2]
    if causes:
        assert words in f"{causes[0].sentence} {causes[0].hint}"


@pytest.mark.parametrize("name", CASES)
def test_every_cause_has_a_sentence_evidence_and_a_way_out(name: str) -> None:
    for cause in explain(CASES[name][0]):
        assert cause.sentence.endswith(".")
        assert len(cause.sentence) < 500
        assert "  " not in cause.sentence
        assert cause.hint
        assert cause.code in {one.code for one in known()}


def test_every_cause_that_is_known_is_made_here() -> None:
    made = {code for _, code, _ in CASES.values()}
    assert {one.code for one in known()} - made == set()


def test_every_cause_is_documented() -> None:
    for one in known():
        assert one.says.endswith("."), one.code
        assert one.way_out.endswith("."), one.code


def test_keys_in_a_log_are_not_in_a_cause() -> None:
    token = "hf_" + "a" * 30
    causes = explain(
        failed(f"PermissionError: [Errno 13] Permission denied: 'https://me:{token}@hub/{token}'")
    )
    assert token not in str(causes)


def test_control_characters_of_a_log_are_not_in_a_cause() -> None:
    causes = explain(failed("vllm: error: unrecognized arguments: --x\x1b[2J\x07"))
    assert causes[0].code == "unknown-option"
    assert "\x1b" not in str(causes[0].evidence) + causes[0].sentence


def test_out_of_memory_stands_beside_the_plan() -> None:
    (cause,) = explain(failed(LOADED + said(TORCH.format(asks="0.90", free="0.20"))))
    assert any(
        line.startswith("plan, GiB on each GPU: weights 30.50, activations 2.00") for line in cause.evidence
    )
    assert any("Model loading took 30.52 GiB" in line for line in cause.evidence)
    assert cause.final


def test_lack_of_gpus_is_final_once_it_lasted_and_the_nodes_are_known() -> None:
    unknown, lasted = explain(waiting(LACK_OF_GPUS)), explain(waiting(LACK_OF_GPUS, nodes=TWO, others=BUSY))
    short = explain(snap(pod(scheduler=LACK_OF_GPUS, ago=10), nodes=TWO, others=BUSY))
    assert [one[0].final for one in (unknown, lasted, short)] == [False, True, False]
    assert "held by team-a/train (7)" in " ".join(lasted[0].evidence)


def test_autoscaler_gets_its_time() -> None:
    (cause, *_) = explain(CASES["autoscaler"][0])
    assert not cause.final
    assert cause.patience_seconds == 900


def test_logs_that_are_wanted_are_those_of_runs_that_failed() -> None:
    snapshot = snap(
        pod(box(running=True, last=1, restarts=2), name="a", phase="Running"),
        pod(box(ended=1), name="b", phase="Running"),
        pod(box(), name="c"),
        download(box("download", running=True), phase="Running"),
    )
    assert wanted_logs(snapshot) == (
        LogRef(pod="a", container="server", previous=True),
        LogRef(pod="b", container="server"),
        LogRef(pod=f"{NAME}-download-1-x", container="download"),
        LogRef(pod="a", container="server"),
    )


def test_end_of_a_log_that_the_kubelet_kept_is_read_too() -> None:
    tail = "vllm: error: unrecognized arguments: --new-thing"
    (cause,) = explain(snap(pod(crashed(2, message=tail), phase="Running")))
    assert (cause.code, cause.pod, cause.node) == ("unknown-option", POD, "gpu-1")


def test_refusal_of_an_apply_is_the_same_cause() -> None:
    cause = refusal('admission webhook "a.b" denied the request: no', what="Deployment qwen3-32b")
    assert cause is not None
    assert cause.sentence == "The policy of the admission webhook a.b refuses Deployment qwen3-32b: no."
    assert refusal("the object has been modified") is None


def test_same_snapshot_is_explained_the_same_way() -> None:
    snapshot = CASES["busy"][0]
    assert explain(snapshot) == explain(snapshot)

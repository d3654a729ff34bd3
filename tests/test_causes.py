"""What a deployment does not get ready for: each cause made, and things that look like it and are another or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfhost.deploy.causes import explain, known, refusal, wanted_logs
from selfhost.deploy.engine_log import progress
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

LOGS = Path(__file__).parent / "data" / "engine_logs"
# Recorded on one H100 80GB HBM3 (the first line of each says how): what is named first.
RECORDED = {
    "free_memory_less_than_desired": ("gpu-shared", "31.1 of 79.2 GiB"),
    "kv_cache_too_small": ("kv-cache-too-small", "--set max-model-len=30720"),
    "kv_dtype_unknown": ("option-refused", "--kv-cache-dtype: invalid choice: 'fp9'"),
    "max_model_len_too_long": ("option-refused", "--set max-model-len=40960"),
    "no_gpu_visible": ("no-cuda-device", "sees no GPU"),
    "no_such_model": ("weights-missing", "not on the volume"),
    "out_of_memory_at_load": ("gpu-shared", "Another process holds 30.60 GiB"),
    "package_missing": ("package-missing", "flashinfer"),
    "tensor_parallel_without_gpus": ("too-few-gpus", "1 of 2"),
    "wrong_flag": ("unknown-option", "--max-model-length"),
    "wrong_quantization": ("option-refused", "Cannot find the config file for awq."),
}

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


@pytest.mark.parametrize("name", RECORDED)
def test_log_of_a_real_gpu_is_explained(name: str) -> None:
    code, words = RECORDED[name]
    log = (LOGS / f"{name}.log").read_text(encoding="utf-8")
    cause = explain(failed(log))[0]
    assert cause.code == code
    assert words in f"{cause.sentence} {cause.hint}"
    assert cause.evidence[0]


@pytest.mark.parametrize("name", ["started_llama_3_1_8b", "started_qwen3_8b"])
def test_log_of_a_start_that_went_well_has_no_reason(name: str) -> None:
    log = (LOGS / f"{name}.log").read_text(encoding="utf-8")
    assert [cause.code for cause in explain(failed(log))] == ["crash-loop"]
    stages = [
        found.stage
        for n in range(len(log.splitlines()))
        if (found := progress(log.splitlines()[: n + 1], "vllm"))
    ]
    assert list(dict.fromkeys(stages)) == ["starting", "loading", "compiling", "warming", "ready"]


def test_every_cause_that_is_known_is_made_here() -> None:
    made = {code for _, code, _ in CASES.values()} | {code for code, _ in RECORDED.values()}
    assert {one.code for one in known()} - made == set()


def test_every_cause_is_documented() -> None:
    for one in known():
        assert one.says.endswith("."), one.code
        assert one.way_out.endswith("."), one.code
    page = (Path(__file__).parent.parent / "docs" / "failures.md").read_text(encoding="utf-8")
    assert {one.code for one in known() if f"| `{one.code}` |" not in page} == set()


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

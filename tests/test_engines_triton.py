"""Triton: releases and the vLLM inside, the model repository, what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfhost.catalog.flags import known_flags, table
from selfhost.engines import get_engine, parse_engine
from selfhost.engines.triton.repository import model_name, tokenizer_of
from selfhost.engines.triton.tables import FIRST, LAST, VLLM, inside
from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests import render
from selfhost.manifests.requests import request_of
from selfhost.workload import Split, Workload
from tests.conftest import Cli
from tests.plans import COMMIT, plan
from tests.test_engines import serving

ENGINE = get_engine("triton")


def model_json(**changes: Any) -> dict[str, Any]:
    """What vLLM's engine is given."""
    files = {file.path: file.text for file in ENGINE.files(serving("triton", **changes))}
    found: dict[str, Any] = json.loads(files["/models/Qwen3-32B/1/model.json"])
    return found


class TestReleases:
    def test_a_release_is_a_year_and_a_month(self) -> None:
        assert parse_engine("triton@26.07").text == "26.07"
        assert parse_engine("triton@26.7") == parse_engine("triton@26.07")
        image = ENGINE.image(parse_engine("triton@26.07"), "cuda")
        assert image.reference == "nvcr.io/nvidia/tritonserver:26.07-vllm-python-py3"

    @pytest.mark.parametrize("text", ["26", "26.13", "26.09", "25.11", "0.32.0", "latest"])
    def test_others_are_refused(self, text: str) -> None:
        with pytest.raises(UsageError) as error:
            parse_engine(f"triton@{text}")
        assert "25.12 to 26.08" in (error.value.hint or "")

    def test_every_known_release_holds_a_vllm_that_is_known(self) -> None:
        months = [FIRST[:2], *((26, month) for month in range(1, LAST[1] + 1))]
        assert list(VLLM) == months
        for year, month in months:
            held = inside(parse_engine(f"triton@{year}.{month:02}"))
            assert parse_engine(str(held)) == held

    @pytest.mark.parametrize("platform", ["rocm", "xpu", "hpu", "cpu"])
    def test_for_nvidia_alone(self, platform: Any) -> None:
        with pytest.raises(UnsupportedError):
            ENGINE.image(parse_engine("triton"), platform)


class TestRepository:
    def test_the_engine_s_arguments_are_vllms(self) -> None:
        found = model_json()
        assert found["model"] == "Qwen/Qwen3-32B"
        assert found["revision"] == COMMIT
        assert found["tensor_parallel_size"] == 2
        assert found["max_model_len"] == 16384
        assert not {"port", "served_model_name", "shutdown_timeout"} & set(found)

    def test_switches_and_objects(self) -> None:
        load = Workload(enforce_eager=True, prefix_caching=False, speculative_tokens=2, kv_dtype="fp8")
        found = model_json(workload=load)
        assert found["enforce_eager"] is True
        assert found["enable_prefix_caching"] is False
        assert found["speculative_config"]["num_speculative_tokens"] == 2
        assert found["kv_cache_dtype"] == "fp8"

    @pytest.mark.parametrize("release", ["25.12", "26.04", "26.08"])
    def test_every_field_is_a_flag_of_the_vllm_inside(self, release: str) -> None:
        version = parse_engine(f"triton@{release}")
        known = known_flags("vllm", inside(version).text)
        load = Workload(
            max_model_len=8192, enforce_eager=True, prefix_caching=False, kv_dtype="fp8", block_size=32
        )
        for name in model_json(version=version, workload=load, split=Split(tensor=2, pipeline=2)):
            assert name == "model" or f"--{name.replace('_', '-')}" in known, name

    def test_the_backend_has_all_gpus_of_the_pod(self) -> None:
        texts = {file.path: file.text for file in ENGINE.files(serving("triton"))}
        assert "kind: KIND_MODEL" in texts["/models/Qwen3-32B/config.pbtxt"]

    @pytest.mark.parametrize(
        ("asked", "name"),
        [("Qwen/Qwen3-32B", "Qwen3-32B"), ("a b", "a-b"), ("../..", "model"), ("x/é", "model")],
    )
    def test_names_are_directories(self, asked: str, name: str) -> None:
        assert model_name(asked) == name

    def test_the_tokenizer_is_of_the_planned_commit(self) -> None:
        asked = serving("triton")
        assert tokenizer_of(asked) == f"/weights/hub/models--Qwen--Qwen3-32B/snapshots/{COMMIT}"
        assert tokenizer_of(replace(asked, revision=None)) == "Qwen/Qwen3-32B"


class TestFrontEnd:
    def test_answers_without_a_length_are_not_cut_at_16(self) -> None:
        found = {word.flag: word.value for word in ENGINE.args(serving("triton"))}
        assert found["--default-max-tokens"] == "4096"
        older = serving("triton@25.12")
        assert "--default-max-tokens" not in {word.flag for word in ENGINE.args(older)}
        assert any("16 tokens" in note for note in ENGINE.notes(older))

    @pytest.mark.parametrize("release", ["24.12", "25.12", "26.7"])
    def test_metrics(self, release: str) -> None:
        known = table("triton").metrics
        for name in ENGINE.metrics(parse_engine("triton")):
            assert known[name].span.has(release), name

    def test_no_key_by_argument(self) -> None:
        assert ENGINE.key(parse_engine("triton")) is None
        assert any("key" in note for note in ENGINE.notes(serving("triton")))


@pytest.mark.parametrize(
    "changes",
    [
        {"platform": "rocm"},
        {"split": Split(data=2)},
        {"workload": Workload(max_loras=1)},
        {"gguf": True},
        {"compute_capability": (7, 0)},
        {"workload": Workload(max_model_len=10**6)},
    ],
)
def test_refusals(changes: dict[str, Any]) -> None:
    assert ENGINE.object_to(serving("triton", **changes)) is not None


def test_the_pod(tmp_path: Path, cli: Cli) -> None:
    made = plan(engine="triton")
    assert request_of(made).model == "Qwen3-32B"
    assert made.provenance.sizing is not None
    assert "vllm@0.27.1" in made.provenance.sizing
    texts = {one.name: one.text for one in render(made).documents if one.is_object}
    (server,) = yaml.safe_load(texts["50-deployment.yaml"])["spec"]["template"]["spec"]["containers"]
    paths = {mount["mountPath"] for mount in server["volumeMounts"]}
    assert {"/models/Qwen3-32B/config.pbtxt", "/models/Qwen3-32B/1/model.json"} <= paths
    planned = cli(
        "plan", "Qwen/Qwen3-8B", "--engine", "triton@26.07", "--gpu", "l40s", "-o", tmp_path / "plan.json"
    )
    assert planned.code == 0, planned.err

"""llama.cpp: builds, arguments against its own parser, the bill of memory, refusals, the walk to manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from selfhost.catalog.flags import known_flags, table
from selfhost.catalog.gpus import find_gpu, main_memory
from selfhost.engines import Argument, get_engine, parse_engine
from selfhost.engines._gguf import CONTEXT_BYTES, compute_buffer_bytes, slot_tokens
from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests import render
from selfhost.manifests.requests import request_of
from selfhost.place import splits
from selfhost.sizing import budget_for, why_certain
from selfhost.units import GIB, MIB
from selfhost.workload import Split, Workload
from tests.conftest import Cli
from tests.ggufs import gguf_plan, gguf_serving, gguf_spec
from tests.test_hub import write_gguf

ENGINE = get_engine("llamacpp")


def words(arguments: tuple[Argument, ...]) -> dict[str, str | None]:
    """Flags and their values, as the parser pairs them."""
    found: dict[str, str | None] = {}
    last = ""
    for argument in arguments:
        if argument.flag is not None:
            last = argument.flag
            found[last] = None
        else:
            found[last] = argument.value
    return found


class TestBuilds:
    def test_a_build_is_a_number(self) -> None:
        assert parse_engine("llamacpp@b11312").text == "b11312"
        assert parse_engine("llamacpp@11312") == parse_engine("llamacpp@b11312")
        assert parse_engine("llamacpp").text == ENGINE.default_version

    @pytest.mark.parametrize("text", ["b1", "b9013", "b999999", "1.0", "latest", "b11065; rm", ""])
    def test_others_are_refused(self, text: str) -> None:
        with pytest.raises(UsageError) as error:
            parse_engine(f"llamacpp@{text}")
        assert "b9014 to b" in (error.value.hint or "")

    @pytest.mark.parametrize(
        ("platform", "tag"),
        [
            ("cuda", "server-cuda-b11065"),
            ("rocm", "server-rocm-b11065"),
            ("xpu", "server-intel-b11065"),
            ("cpu", "server-b11065"),
        ],
    )
    def test_images_are_a_variant_for_each_platform(self, platform: Any, tag: str) -> None:
        image = ENGINE.image(parse_engine("llamacpp"), platform)
        assert image.reference == f"ghcr.io/ggml-org/llama.cpp:{tag}"

    def test_none_for_gaudi(self) -> None:
        with pytest.raises(UnsupportedError):
            ENGINE.image(parse_engine("llamacpp"), "hpu")


class TestParser:
    """What is emitted is what the parsers of the copies that were read take."""

    NEWEST = ("0.3.20", "0.3.28", "0.3.36")

    @pytest.mark.parametrize("release", NEWEST)
    def test_every_flag_is_known_and_takes_what_it_is_given(self, release: str) -> None:
        known = known_flags("llamacpp", release)
        asked = gguf_serving(
            "llamacpp",
            split=Split(pipeline=2),
            workload=Workload(max_model_len=2000, kv_dtype="fp8", prefix_caching=False),
        )
        for serving in (asked, gguf_serving("llamacpp", platform="cpu", compute_capability=None)):
            for name, value in words(ENGINE.args(serving)).items():
                assert name in known, name
                assert (known[name].shape in ("switch", "boolean")) == (value is None), name

    @pytest.mark.parametrize("release", NEWEST)
    def test_metrics_and_the_variable_of_the_key(self, release: str) -> None:
        known = table("llamacpp")
        for name in ENGINE.metrics(parse_engine("llamacpp")):
            assert known.metrics[name].span.has(release), name
        key = ENGINE.key(parse_engine("llamacpp"))
        assert key is not None
        assert key.variable is not None
        assert known.variables[key.variable].has(release)
        assert key.guards_metrics

    def test_values_are_words_of_their_own(self) -> None:
        """Its parser looks a whole word up, and knows no `--flag=value`."""
        assert all("=" not in argument.text for argument in ENGINE.args(gguf_serving("llamacpp")))


class TestArguments:
    def test_slots_share_the_context(self) -> None:
        found = words(ENGINE.args(gguf_serving("llamacpp")))
        assert slot_tokens(2000) == 2048
        assert found["--ctx-size"] == str(4 * 2048)
        assert found["--parallel"] == "4"
        assert found["--host"] == "0.0.0.0"
        assert found["--alias"] == "small"

    def test_layers_over_the_gpus_of_the_pod(self) -> None:
        found = words(ENGINE.args(gguf_serving("llamacpp", split=Split(pipeline=4))))
        assert found["--split-mode"] == "layer"
        assert found["--tensor-split"] == "1,1,1,1"
        one = words(ENGINE.args(gguf_serving("llamacpp")))
        assert one["--split-mode"] == "none"
        assert "--tensor-split" not in one

    def test_a_cpu_has_no_layers_on_a_gpu(self) -> None:
        found = words(ENGINE.args(gguf_serving("llamacpp", platform="cpu", compute_capability=None)))
        assert not {"--n-gpu-layers", "--split-mode"} & set(found)

    def test_a_quantized_cache_brings_flash_attention(self) -> None:
        found = words(ENGINE.args(gguf_serving("llamacpp", workload=Workload(kv_dtype="fp8"))))
        assert (found["--cache-type-k"], found["--cache-type-v"], found["--flash-attn"]) == (
            "q8_0",
            "q8_0",
            "on",
        )


class TestBill:
    def test_the_compute_buffer_is_twice_what_logs_of_llama_3_show_and_the_mask(self) -> None:
        assert compute_buffer_bytes(128256, 4096, 0) == 2 * int(258.5 * MIB)
        assert compute_buffer_bytes(128256, 4096, 8192) - compute_buffer_bytes(128256, 4096, 0) == 16 * MIB

    def test_the_certainty_is_not_said_to_rest_on_start_ups_of_vllm(self) -> None:
        for name in ("llamacpp", "ollama"):
            assert "vLLM" not in why_certain(parse_engine(name))

    def test_the_lines_add_up_and_the_cache_follows_its_type(self, tmp_path: Path) -> None:
        spec, card = gguf_spec(tmp_path), find_gpu("l4-24gb")
        needed = {}
        for kind in ("auto", "fp8", "fp4"):
            load = Workload(max_model_len=2048, concurrency=4, kv_dtype=kind)
            bill = budget_for(spec, load, Split(), card, parse_engine("llamacpp"))
            assert sum(term.bytes for term in bill.terms) == card.memory_bytes
            needed[kind] = bill.kv_needed_bytes
        # One layer of 2 heads of 64, keys and values in 16 bits, for 4 slots of 2,048 tokens.
        assert 0 <= needed["auto"] - 4 * 2048 * 2 * 64 * 2 * 2 < 64 * 2 * 2 * 64  # and a step of tokens
        assert needed["fp8"] == needed["auto"] * 17 // 32
        assert needed["fp4"] == needed["auto"] * 9 // 32

    def test_what_does_not_fit_is_short_by_what_is_missing(self, tmp_path: Path) -> None:
        spec = gguf_spec(tmp_path)
        card = main_memory(CONTEXT_BYTES)
        bill = budget_for(spec, Workload(max_model_len=2048), Split(), card, parse_engine("llamacpp"))
        assert not bill.fits
        assert bill.short_bytes == bill.kv_needed_bytes - (bill.kv_available_bytes or 0)

    def test_without_a_gpu_there_is_no_answer_about_one(self, tmp_path: Path) -> None:
        bill = budget_for(gguf_spec(tmp_path), Workload(), Split(), None, parse_engine("llamacpp"))
        assert bill.fits is None
        assert bill.kv_available_bytes is None

    def test_only_layers_are_searched(self) -> None:
        assert [split.pipeline for split in splits(layers_only=True)] == [1, 2, 4, 8]
        assert all(split.tensor == 1 for split in splits(layers_only=True))


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"gguf": False}, "GGUF files alone"),
            ({"workload": Workload(quantization="fp8")}, "does not make fp8"),
            ({"split": Split(tensor=2)}, "by layers"),
            ({"split": Split(data=2)}, "data parallelism"),
            ({"workload": Workload(max_loras=1)}, "--max-loras"),
            ({"workload": Workload(speculative_tokens=1)}, "--speculative-tokens"),
            ({"workload": Workload(kv_dtype="fp8_e5m2")}, "no KV cache"),
            ({"workload": Workload(max_model_len=5000)}, "beyond the model's"),
            ({"workload": Workload(concurrency=4, max_num_seqs=2)}, "slots"),
            ({"workload": Workload(kv_cache_memory_bytes=GIB)}, "--kv-cache-memory"),
            ({"split": Split(pipeline=2), "mig": True}, "MIG"),
            ({"split": Split(pipeline=2), "platform": "cpu"}, "one device"),
        ],
    )
    def test_what_it_cannot(self, changes: dict[str, Any], words: str) -> None:
        against = ENGINE.object_to(gguf_serving("llamacpp", **changes))
        assert against is not None
        assert words in against.because
        assert against.hint

    def test_what_it_can(self) -> None:
        assert ENGINE.object_to(gguf_serving("llamacpp")) is None


def test_the_pod(tmp_path: Path) -> None:
    made = gguf_plan(gguf_spec(tmp_path), "llamacpp")
    assert request_of(made).model == "small"
    texts = {one.name: one.text for one in render(made).documents if one.is_object}
    pod = yaml.safe_load(texts["50-deployment.yaml"])["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    assert server["command"] == ["/app/llama-server"]
    assert server["args"][:2] == ["--model", "/weights/small.gguf"]
    assert pod["terminationGracePeriodSeconds"] == 45
    assert "80-podmonitor.yaml" in texts


def test_from_a_file_to_manifests(cli: Cli, tmp_path: Path) -> None:
    file, written, folder = write_gguf(tmp_path / "small.gguf"), tmp_path / "plan.json", tmp_path / "out"
    planned = cli("plan", file, "--engine", "llamacpp", "--gpu", "l4", "--context", "2k", "-o", written)
    assert planned.code == 0, planned.err
    assert "estimate" in planned.out
    assert cli("render", written, "-o", folder).code == 0
    text = (folder / "50-deployment.yaml").read_text(encoding="utf-8")
    assert "ghcr.io/ggml-org/llama.cpp:server-cuda-b" in text


def test_a_repository_is_refused_with_the_way_out(cli: Cli) -> None:
    refused = cli("plan", "Qwen/Qwen3-8B", "--engine", "llamacpp", "--gpu", "l4")
    assert refused.code == 1
    assert "--engine vllm" in refused.err

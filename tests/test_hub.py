"""Where a model comes from: a Hub on loopback with all its refusals, directories, GGUF files and hostile input."""

from __future__ import annotations

import json
import os
import re
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfhost.errors import (
    ConfigError,
    GatedModelError,
    MalformedAnswerError,
    ModelNotFoundError,
    OfflineError,
    RateLimitedError,
    RenamedModelError,
    SelfhostError,
    UnsupportedError,
)
from selfhost.hub import load_model
from selfhost.hub.headers import parse_header
from selfhost.hub.safejson import parse_object
from tests.fakes.hub import COMMIT, OTHER_COMMIT, FakeHub, Repo, safetensors, serve

T = TypeVar("T")

CORPUS = Path(__file__).with_name("corpus")
CONFIG = {"architectures": ["LlamaForCausalLM"], "hidden_size": 8, "num_hidden_layers": 1}
WEIGHTS = {
    "model.embed_tokens.weight": ("BF16", (16, 8), 256),
    "model.norm.weight": ("F32", (8,), 32),
}
NAME = "acme/tiny"


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


def repo(**more: bytes) -> Repo:
    files = {"config.json": as_json(CONFIG), "model.safetensors": safetensors(WEIGHTS)}
    return Repo(files=files | {name.replace("__", "."): data for name, data in more.items()})


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serve(repos={NAME: repo()}) as running:
        yield running


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is reached without the machine's proxy."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class TestHub:
    def test_a_repository_gives_commit_config_and_exact_tensors(self, hub: FakeHub) -> None:
        raw = load_model(NAME, environ=hub.environ())
        assert (raw.id, raw.revision, raw.origin, raw.reference) == (NAME, COMMIT, "hub", NAME)
        assert raw.source == f"{hub.url}/{NAME}/tree/{COMMIT}"
        assert raw.config == CONFIG
        assert raw.tensors is not None
        assert [(t.name, t.dtype, t.shape, t.bytes) for t in raw.tensors] == [
            ("model.embed_tokens.weight", "bfloat16", (16, 8), 256),
            ("model.norm.weight", "float32", (8,), 32),
        ]
        assert not raw.pooling
        assert raw.quantization is None

    def test_a_revision_is_resolved_and_everything_is_read_at_its_commit(self, hub: FakeHub) -> None:
        hub.repos[NAME].revisions["refs/pr/1"] = OTHER_COMMIT
        raw = load_model(f"{NAME}@refs/pr/1", environ=hub.environ())
        assert raw.revision == OTHER_COMMIT
        assert all(OTHER_COMMIT in path for path in hub.paths() if "resolve" in path)

    def test_the_token_is_sent_and_only_when_there_is_one(self, hub: FakeHub) -> None:
        load_model(NAME, environ=hub.environ())
        assert all("Authorization" not in headers for _, headers in hub.requests)
        hub.repos[NAME].token = "hf_secret"
        raw = load_model(NAME, environ=hub.environ(HF_TOKEN="hf_secret"))
        assert raw.revision == COMMIT

    def test_quantization_licence_and_pooling(self, hub: FakeHub) -> None:
        hub.repos[NAME] = repo(
            hf_quant_config__json=b'{"quantization": {"quant_algo": "FP8"}}', modules__json=b"[]"
        )
        hub.repos[NAME].card = {"license": "other", "license_name": "Acme-1.0"}
        raw = load_model(NAME, environ=hub.environ())
        assert raw.quantization == {"quantization": {"quant_algo": "FP8"}}
        assert raw.pooling
        assert raw.licence == "acme-1.0"

    def test_shards_named_by_the_index_and_not_the_consolidated_copy(self, hub: FakeHub) -> None:
        one, two = (safetensors({name: spec}) for name, spec in WEIGHTS.items())
        index = {
            "weight_map": {"model.embed_tokens.weight": "a.safetensors", "model.norm.weight": "b.safetensors"}
        }
        hub.repos[NAME].files = {
            "config.json": as_json(CONFIG),
            "model.safetensors.index.json": as_json(index),
            "a.safetensors": one,
            "b.safetensors": two,
            "consolidated.safetensors": safetensors(WEIGHTS),
        }
        raw = load_model(NAME, environ=hub.environ())
        assert raw.tensors is not None
        assert sum(t.bytes for t in raw.tensors) == 288
        assert not any("consolidated" in path for path in hub.paths())

    @pytest.mark.parametrize("ranges", [True, False])
    def test_only_headers_are_fetched_whether_or_not_the_server_knows_ranges(
        self, hub: FakeHub, ranges: bool
    ) -> None:
        hub.ranges = ranges
        big = {f"layer.{n}.{'x' * 200}": ("U8", (1000,), 1000) for n in range(2000)} | {
            "rest": ("U8", (64 << 20,), 64 << 20)
        }
        hub.repos[NAME].files["model.safetensors"] = safetensors(big)
        raw = load_model(NAME, environ=hub.environ())
        assert raw.tensors is not None
        assert len(raw.tensors) == 2001
        assert hub.sent_bytes < 16 << 20

    def test_weights_in_another_format_give_no_tensors(self, hub: FakeHub) -> None:
        hub.repos[NAME].files = {"config.json": as_json(CONFIG), "pytorch_model.bin": b"x"}
        assert load_model(NAME, environ=hub.environ()).tensors is None

    def test_a_file_that_the_cache_holds_is_not_asked_for(self, hub: FakeHub, tmp_path: Path) -> None:
        snapshot = cached(tmp_path, NAME, COMMIT)
        (snapshot / "config.json").write_bytes(as_json(CONFIG | {"from": "cache"}))
        raw = load_model(NAME, environ=hub.environ(HF_HUB_CACHE=str(tmp_path)))
        assert raw.config["from"] == "cache"
        assert not any(path.endswith("config.json") for path in hub.paths())

    def test_nothing_is_written(self, hub: FakeHub, tmp_path: Path) -> None:
        load_model(
            NAME, environ=hub.environ(HF_HUB_CACHE=str(tmp_path / "cache"), HF_HOME=str(tmp_path / "home"))
        )
        assert list(tmp_path.iterdir()) == []


class TestRefusals:
    def test_missing_names_close_bundled_models(self, hub: FakeHub) -> None:
        with pytest.raises(ModelNotFoundError, match="No model deepsek/DeepSeek-V3 on the Hub") as caught:
            load_model("deepsek/DeepSeek-V3", environ=hub.environ())
        assert "did you mean deepseek-ai/DeepSeek-V3" in (caught.value.hint or "")

    def test_missing_with_a_token_reads_the_same(self, hub: FakeHub) -> None:
        with pytest.raises(ModelNotFoundError, match="No model acme/none"):
            load_model("acme/none", environ=hub.environ(HF_TOKEN="hf_x"))

    def test_a_local_directory_of_that_name_is_pointed_at(
        self, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model_directory(tmp_path / "out" / "tuned")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ModelNotFoundError) as caught:
            load_model("out/tuned", environ=hub.environ())
        assert caught.value.hint == "for the local directory write ./out/tuned"
        with pytest.raises(OfflineError) as offline:
            load_model("out/tuned", environ={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")})
        assert offline.value.hint == caught.value.hint

    def test_missing_revision(self, hub: FakeHub) -> None:
        with pytest.raises(ModelNotFoundError, match=f"{NAME} has no revision nope"):
            load_model(f"{NAME}@nope", environ=hub.environ())

    def test_gated(self, hub: FakeHub) -> None:
        hub.repos[NAME].gated = True
        with pytest.raises(GatedModelError, match="granted by its owner") as caught:
            load_model(NAME, environ=hub.environ())
        assert "HF_TOKEN" in (caught.value.hint or "")
        with pytest.raises(GatedModelError) as caught:
            load_model(NAME, environ=hub.environ(HF_TOKEN="hf_x"))
        assert "the account that the token belongs to" in (caught.value.hint or "")

    def test_a_refused_token(self, hub: FakeHub) -> None:
        hub.accepted_token = "hf_good"
        with pytest.raises(GatedModelError, match="did not accept the token"):
            load_model(NAME, environ=hub.environ(HF_TOKEN="hf_bad"))
        with pytest.raises(GatedModelError, match="characters that no token has"):
            load_model(NAME, environ=hub.environ(HF_TOKEN="hf_a\r\nX-Evil: 1"))

    def test_renamed_names_the_new_id(self, hub: FakeHub) -> None:
        hub.renamed["acme/old"] = NAME
        with pytest.raises(RenamedModelError, match=f"acme/old is now called {NAME}") as caught:
            load_model("acme/old", environ=hub.environ())
        assert caught.value.hint == f"write {NAME} if that is what you mean."

    def test_other_letter_case_and_legacy_short_names_are_no_renaming(self, hub: FakeHub) -> None:
        hub.renamed |= {"ACME/Tiny": NAME, "tiny": NAME}
        assert load_model("ACME/Tiny", environ=hub.environ()).id == NAME
        assert load_model("tiny", environ=hub.environ()).id == NAME

    @pytest.mark.parametrize(
        ("headers", "hint"),
        [
            ({"Retry-After": "120"}, "wait 120 s"),
            ({"RateLimit": '"api";r=0;t=55'}, "wait 55 s"),
            ({}, "wait some minutes"),
            ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, "wait some minutes"),
        ],
    )
    def test_rate_limited(self, hub: FakeHub, headers: dict[str, str], hint: str) -> None:
        hub.answers = [(429, headers, b"{}")]
        with pytest.raises(RateLimitedError, match="429") as caught:
            load_model(NAME, environ=hub.environ())
        assert hint in (caught.value.hint or "")
        assert len(hub.requests) == 1

    @pytest.mark.parametrize(
        ("status", "headers", "kind"),
        [
            (500, {}, OfflineError),
            (503, {"Retry-After": "5"}, OfflineError),
            (403, {}, GatedModelError),
            (403, {"X-Error-Message": "Access to this resource is disabled."}, GatedModelError),
            (451, {}, GatedModelError),
            (404, {}, ModelNotFoundError),
            (400, {}, MalformedAnswerError),
            (204, {}, MalformedAnswerError),
            (304, {}, MalformedAnswerError),
            (302, {"Location": "file:///etc/passwd"}, MalformedAnswerError),
            (302, {"Location": "http://[::bad"}, SelfhostError),
        ],
    )
    def test_other_statuses(
        self, hub: FakeHub, status: int, headers: dict[str, str], kind: type[SelfhostError]
    ) -> None:
        hub.answers = [(status, headers, b"")]
        with pytest.raises(kind):
            load_model(NAME, environ=hub.environ())

    def test_redirects_in_a_circle(self, hub: FakeHub) -> None:
        hub.renamed |= {"acme/a": "acme/b", "acme/b": "acme/a"}
        with pytest.raises(MalformedAnswerError, match="circle"):
            load_model("acme/a", environ=hub.environ())

    def test_unreachable(self) -> None:
        with pytest.raises(OfflineError, match="cannot be reached"):
            load_model(NAME, environ={"HF_ENDPOINT": "http://127.0.0.1:1"})

    def test_an_endpoint_that_is_no_address(self) -> None:
        with pytest.raises(OfflineError, match="HF_ENDPOINT"):
            load_model(NAME, environ={"HF_ENDPOINT": "ftp://example.org"})

    @pytest.mark.parametrize(
        "body",
        [
            b"", b"null", b"[]", b"{}", b"<html>", b"{" * 50_000, b'{"id": 1, "sha": 2}',
            as_json({"id": NAME, "sha": "main", "siblings": []}),
            as_json({"id": NAME, "sha": COMMIT, "siblings": "all"}),
            as_json({"id": NAME, "sha": COMMIT + "/..", "siblings": []}),
            as_json({"id": "../../etc", "sha": COMMIT, "siblings": []}),
        ],
    )  # fmt: skip
    def test_hostile_model_pages(self, hub: FakeHub, body: bytes) -> None:
        hub.answers = [(200, {}, body)]
        with pytest.raises((MalformedAnswerError, RenamedModelError)):
            load_model(NAME, environ=hub.environ())

    @pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
    def test_truncated(self, hub: FakeHub, file: str) -> None:
        hub.truncate = file
        with pytest.raises(MalformedAnswerError, match="broke off"):
            load_model(NAME, environ=hub.environ())

    def test_a_shard_that_is_missing(self, hub: FakeHub) -> None:
        hub.repos[NAME].files["model.safetensors.index.json"] = as_json(
            {"weight_map": {"a": "gone.safetensors"}}
        )
        with pytest.raises(MalformedAnswerError, match="lacks 1 of the 1 files"):
            load_model(NAME, environ=hub.environ())

    @pytest.mark.parametrize(
        "name", ["../x.safetensors", "/etc/passwd", "a/../../b.safetensors", "x.bin", "", 7, None]
    )
    def test_an_index_that_climbs_out(self, hub: FakeHub, name: object) -> None:
        hub.repos[NAME].files["model.safetensors.index.json"] = as_json({"weight_map": {"a": name}})
        with pytest.raises(MalformedAnswerError, match="outside or no shard"):
            load_model(NAME, environ=hub.environ())

    @pytest.mark.parametrize("part", ["/api/models", "config.json", "model.safetensors"])
    def test_a_peer_that_falls_silent_is_left_at_the_deadline(self, hub: FakeHub, part: str) -> None:
        hub.stall = part
        start = time.monotonic()
        with pytest.raises(OfflineError):
            load_model(NAME, environ=hub.environ(), timeout_seconds=0.5)
        assert time.monotonic() - start < 3

    def test_a_peer_that_drips_is_left_at_the_deadline(self, hub: FakeHub) -> None:
        hub.drip = "config.json"
        start = time.monotonic()
        with pytest.raises(OfflineError):
            load_model(NAME, environ=hub.environ(), timeout_seconds=0.5)
        assert time.monotonic() - start < 3

    @pytest.mark.parametrize(
        ("files", "kind", "hint"),
        [
            ({"adapter_config.json": b"{}"}, UnsupportedError, "base model"),
            ({"params.json": b"{}"}, UnsupportedError, "Hugging Face layout"),
            ({"README.md": b"x"}, ModelNotFoundError, "no language model"),
            ({"a-q4.gguf": b"x", "a-q8.gguf": b"x"}, ModelNotFoundError, f"{NAME}:a-q4.gguf"),
        ],
    )
    def test_repositories_without_a_config(
        self, hub: FakeHub, files: dict[str, bytes], kind: type[SelfhostError], hint: str
    ) -> None:
        hub.repos[NAME].files = files
        with pytest.raises(kind) as caught:
            load_model(NAME, environ=hub.environ())
        assert hint in (caught.value.hint or "")

    @pytest.mark.parametrize("path", sorted((CORPUS / "safetensors").iterdir()), ids=lambda path: path.stem)
    def test_hostile_weights(self, hub: FakeHub, path: Path) -> None:
        hub.repos[NAME].files["model.safetensors"] = path.read_bytes()
        with pytest.raises(MalformedAnswerError) as caught:
            load_model(NAME, environ=hub.environ())
        assert "model.safetensors" in caught.value.message


class TestOffline:
    def test_the_cache_answers(self, tmp_path: Path) -> None:
        snapshot = cached(tmp_path, NAME, COMMIT)
        blob = tmp_path / "models--acme--tiny" / "blobs" / "abc"
        blob.parent.mkdir()
        blob.write_bytes(as_json(CONFIG))
        (snapshot / "config.json").symlink_to(os.path.join("..", "..", "blobs", "abc"))
        environ = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}
        raw = load_model(NAME, environ=environ)
        assert (raw.id, raw.revision, raw.origin) == (NAME, COMMIT, "hub")
        assert "cached" in raw.source
        assert raw.tensors is None
        assert load_model(f"{NAME}@{COMMIT}", environ=environ).revision == COMMIT
        assert (
            load_model(NAME, environ={"HF_ENDPOINT": "http://127.0.0.1:1", "HF_HUB_CACHE": str(tmp_path)})
            == raw
        )

    def test_a_cached_index_without_its_shards_gives_the_config_alone(self, tmp_path: Path) -> None:
        snapshot = cached(tmp_path, NAME, COMMIT)
        (snapshot / "config.json").write_bytes(as_json(CONFIG))
        (snapshot / "model.safetensors.index.json").write_bytes(
            as_json({"weight_map": {"a": "a.safetensors"}})
        )
        assert (
            load_model(NAME, environ={"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}).tensors is None
        )

    @pytest.mark.parametrize("flag", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
    def test_not_in_the_cache(self, hub: FakeHub, tmp_path: Path, flag: str) -> None:
        with pytest.raises(OfflineError, match="not in the cache"):
            load_model(NAME, environ=hub.environ(**{flag: "1", "HF_HOME": str(tmp_path)}))
        assert hub.requests == []

    @pytest.mark.parametrize("text", ["../../../../etc", "x/y\n", "", "\xff"])
    def test_a_cache_whose_ref_climbs_out(self, tmp_path: Path, text: str) -> None:
        cached(tmp_path, NAME, COMMIT)
        (tmp_path / "models--acme--tiny" / "refs" / "main").write_bytes(text.encode("latin-1"))
        with pytest.raises(OfflineError):
            load_model(NAME, environ={"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)})


class TestBundled:
    def test_a_bundled_model_asks_nobody(self, hub: FakeHub) -> None:
        raw = load_model("Qwen/Qwen3-32B", environ=hub.environ())
        assert (raw.id, raw.origin, raw.revision, raw.tensors) == ("Qwen/Qwen3-32B", "catalogue", None, None)
        assert "bundled" in raw.source
        assert hub.requests == []

    def test_with_a_revision_or_on_request_the_hub_is_asked(self, hub: FakeHub) -> None:
        hub.repos["Qwen/Qwen3-32B"] = repo()
        assert load_model("Qwen/Qwen3-32B@main", environ=hub.environ()).origin == "hub"
        assert load_model("Qwen/Qwen3-32B", prefer_hub=True, environ=hub.environ()).origin == "hub"

    def test_the_hub_on_request_is_not_replaced_in_silence(self) -> None:
        with pytest.raises(OfflineError):
            load_model("Qwen/Qwen3-32B", prefer_hub=True, environ={"HF_ENDPOINT": "http://127.0.0.1:1"})
        with pytest.raises(OfflineError) as caught:
            load_model("Qwen/Qwen3-32B@main", environ={"HF_HUB_OFFLINE": "1", "HF_HOME": "/nonexistent"})
        assert "bundled configuration" in (caught.value.hint or "")

    def test_catalog_means_the_catalogue_alone(self, hub: FakeHub) -> None:
        assert load_model("catalog:qwen3-32b", environ=hub.environ()).id == "Qwen/Qwen3-32B"
        with pytest.raises(ModelNotFoundError, match="No bundled model"):
            load_model(f"catalog:{NAME}", environ=hub.environ())


class TestDirectory:
    def test_a_directory_is_read_in_place(self, tmp_path: Path) -> None:
        path = model_directory(tmp_path / "tiny")
        (path / "README.md").write_text("---\nlicense: Apache-2.0\n---\n# Tiny\n")
        (path / "quantize_config.json").write_text('{"bits": 4}')
        raw = load_model(str(path))
        assert (raw.id, raw.revision, raw.origin, raw.source) == ("tiny", None, "directory", str(path))
        assert raw.tensors is not None
        assert sum(t.bytes for t in raw.tensors) == 288
        assert raw.quantization == {"bits": 4}
        assert raw.licence == "apache-2.0"

    def test_a_snapshot_of_the_cache_is_a_directory_too(self, tmp_path: Path) -> None:
        snapshot = cached(tmp_path, NAME, COMMIT)
        (tmp_path / "blob").write_bytes(as_json(CONFIG))
        (snapshot / "config.json").symlink_to(tmp_path / "blob")
        raw = load_model(str(snapshot))
        assert (raw.id, raw.revision) == (NAME, COMMIT)

    def test_pickled_weights_give_no_tensors(self, tmp_path: Path) -> None:
        path = model_directory(tmp_path)
        (path / "model.safetensors").rename(path / "pytorch_model.bin")
        assert load_model(str(path)).tensors is None

    def test_missing_directory_file_and_config(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        (tmp_path / "empty").mkdir()
        (tmp_path / "ggufs").mkdir()
        (tmp_path / "ggufs" / "a.gguf").write_text("x")
        for name in ("none", "file", "empty", "ggufs", "x" * 300):
            with pytest.raises(ModelNotFoundError) as caught:
                load_model(str(tmp_path / name))
            assert caught.value.hint

    def test_a_missing_shard(self, tmp_path: Path) -> None:
        path = model_directory(tmp_path)
        (path / "model.safetensors.index.json").write_bytes(
            as_json({"weight_map": {"a": "gone.safetensors"}})
        )
        with pytest.raises(MalformedAnswerError, match="lacks 1 of the 1"):
            load_model(str(path))

    @pytest.mark.parametrize("file", ["config.json", "model.safetensors", "hf_quant_config.json"])
    def test_a_link_that_leads_out(self, tmp_path: Path, file: str) -> None:
        secret = tmp_path / "secret.json"
        secret.write_bytes(as_json(CONFIG))
        path = model_directory(tmp_path / "model")
        (path / file).unlink(missing_ok=True)
        (path / file).symlink_to(secret)
        with pytest.raises(MalformedAnswerError, match="leads out"):
            load_model(str(path))

    @pytest.mark.parametrize(
        "make", ["directory", "fifo", "link to itself", "link to nowhere", "link to a device"]
    )
    def test_odd_files(self, tmp_path: Path, make: str) -> None:
        path = tmp_path / "config.json"
        match make:
            case "directory":
                path.mkdir()
            case "fifo":
                os.mkfifo(path)
            case "link to itself":
                path.symlink_to(path)
            case "link to nowhere":
                path.symlink_to("nowhere")
            case _:
                path.symlink_to("/dev/zero")
        with pytest.raises((MalformedAnswerError, ModelNotFoundError)):
            load_model(str(tmp_path))

    def test_two_checkpoints_in_one_directory(self, tmp_path: Path) -> None:
        path = model_directory(tmp_path)
        (path / "model.safetensors").rename(path / "a.safetensors")
        (path / "b.safetensors").write_bytes(safetensors({"model.norm.weight": ("BF16", (8,), 16)}))
        with pytest.raises(MalformedAnswerError, match=r"another model\.norm\.weight"):
            load_model(str(path))

    @pytest.mark.parametrize("path", sorted((CORPUS / "config").iterdir()), ids=lambda path: path.stem)
    def test_hostile_configs(self, tmp_path: Path, path: Path) -> None:
        (tmp_path / "config.json").write_bytes(path.read_bytes())
        with pytest.raises(MalformedAnswerError, match=r"config\.json") as caught:
            load_model(str(tmp_path))
        assert caught.value.hint
        assert len(caught.value.message) < 400

    @pytest.mark.parametrize("path", sorted((CORPUS / "safetensors").iterdir()), ids=lambda path: path.stem)
    def test_hostile_weights(self, tmp_path: Path, path: Path) -> None:
        (tmp_path / "config.json").write_bytes(as_json(CONFIG))
        (tmp_path / "model.safetensors").write_bytes(path.read_bytes())
        with pytest.raises(MalformedAnswerError, match=r"model\.safetensors"):
            load_model(str(tmp_path))

    def test_a_config_too_long_to_read(self, tmp_path: Path) -> None:
        with (tmp_path / "config.json").open("wb") as file:
            file.truncate(1 << 40)
        with pytest.raises(MalformedAnswerError, match="more than"):
            load_model(str(tmp_path))

    def test_infinity_is_read_as_published_configurations_have_it(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text('{"time_step_limit": [0.0, Infinity], "hidden_size": 1e30}')
        assert load_model(str(tmp_path)).config["time_step_limit"] == [0.0, float("inf")]


class TestGguf:
    gguf = pytest.importorskip("gguf")

    def test_a_file_reads_as_the_model_it_was_converted_from(self, tmp_path: Path) -> None:
        path = write_gguf(tmp_path / "tiny-q4.gguf")
        raw = load_model(str(path))
        assert (raw.id, raw.origin, raw.source) == ("tiny-q4", "gguf", str(path))
        assert raw.config["architectures"] == ["Qwen3ForCausalLM"]
        expected = {
            "hidden_size": 256, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
            "head_dim": 64, "intermediate_size": 512, "vocab_size": 32, "max_position_embeddings": 4096,
            "tie_word_embeddings": True, "rope_theta": 1e6,
        }  # fmt: skip
        assert {name: raw.config[name] for name in expected} == expected
        assert raw.quantization == {"quant_method": "gguf", "file_type": "q4_k_m"}

    def test_tensors_have_the_librarys_own_bytes(self, tmp_path: Path) -> None:
        path = write_gguf(tmp_path / "tiny.gguf")
        raw = load_model(str(path))
        assert raw.tensors is not None
        known = {tensor.name: tensor for tensor in raw.tensors}
        assert known["model.layers.0.self_attn.q_proj.weight"].dtype == "q4_k"
        assert known["model.layers.0.self_attn.q_proj.weight"].shape == (256, 256)
        assert known["model.layers.0.mlp.down_proj.weight"].dtype == "q6_k"
        reader = self.gguf.GGUFReader(path)
        assert sum(t.bytes for t in raw.tensors) == sum(int(t.n_bytes) for t in reader.tensors)

    def test_experts_become_one_tensor_each(self, tmp_path: Path) -> None:
        raw = load_model(str(write_gguf(tmp_path / "moe.gguf", architecture="qwen3moe", experts=4)))
        assert raw.tensors is not None
        names = [t.name for t in raw.tensors if "experts" in t.name]
        assert names == [f"model.layers.0.mlp.experts.{n}.gate_proj.weight" for n in range(4)]
        assert raw.config["num_experts"] == 4

    def test_a_file_of_a_repository_is_read_by_ranges(self, hub: FakeHub, tmp_path: Path) -> None:
        data = write_gguf(tmp_path / "tiny.gguf").read_bytes()
        hub.repos[NAME].files = {"tiny.gguf": data, "other.gguf": data}
        raw = load_model(f"{NAME}:tiny.gguf", environ=hub.environ())
        assert (raw.id, raw.origin, raw.revision) == (NAME, "gguf", COMMIT)
        assert raw.tensors == load_model(str(tmp_path / "tiny.gguf")).tensors
        del hub.repos[NAME].files["other.gguf"]
        assert load_model(NAME, environ=hub.environ()).config == raw.config
        with pytest.raises(ModelNotFoundError, match="no file"):
            load_model(f"{NAME}:none.gguf", environ=hub.environ())

    @pytest.mark.parametrize("path", sorted((CORPUS / "gguf").iterdir()), ids=lambda path: path.stem)
    def test_hostile_files(self, path: Path) -> None:
        with pytest.raises((MalformedAnswerError, UnsupportedError, ConfigError)) as caught:
            load_model(str(path))
        assert path.name in caught.value.message

    def test_odd_paths(self, tmp_path: Path) -> None:
        (tmp_path / "dir.gguf").mkdir()
        os.mkfifo(tmp_path / "fifo.gguf")
        for name in ("dir.gguf", "fifo.gguf", "none.gguf"):
            with pytest.raises((MalformedAnswerError, ModelNotFoundError)):
                load_model(str(tmp_path / name))

    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(data=st.data())
    def test_a_damaged_file_is_one_clear_error(self, tmp_path: Path, data: st.DataObject) -> None:
        path = tmp_path / "damaged.gguf"
        if not (tmp_path / "whole.gguf").exists():
            write_gguf(tmp_path / "whole.gguf")
        whole = bytearray((tmp_path / "whole.gguf").read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, 1200))
            whole[at : at + 8] = data.draw(st.binary(min_size=1, max_size=8))
        path.write_bytes(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
        _, error = attempt(lambda: load_model(str(path)))
        assert error is None or error.message.isprintable()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_one_clear_error(data: bytes) -> None:
    value, error = attempt(lambda: parse_object(data, where="config.json"))
    assert isinstance(value, dict) or (error and "config.json" in error.message)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_any_finite_json_object_is_read_as_python_reads_it(value: dict[str, object]) -> None:
    data = json.dumps(value).encode()
    read, error = attempt(lambda: parse_object(data, where="config.json"))
    assert read == json.loads(data) or (error and re.search("NaN|surrogate", error.message))


ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "BF16", "F4", "I99"]) | JSON,
        "shape": st.lists(st.integers(-1, 9), max_size=3) | JSON,
        "data_offsets": st.lists(st.integers(-1, 99), max_size=3) | JSON,
    },
)


@given(st.dictionaries(st.text(max_size=8), ENTRY | JSON, max_size=4), st.none() | st.integers(0, 200))
def test_any_header_adds_up_or_is_refused(table: dict[str, object], file_bytes: int | None) -> None:
    data = json.dumps(table).encode()
    tensors, error = attempt(lambda: parse_header(data, file_bytes=file_bytes, where="x.safetensors"))
    if tensors is None:
        assert error
        assert "x.safetensors" in error.message
        return
    if file_bytes is not None:
        assert 8 + len(data) + sum(tensor.bytes for tensor in tensors) == file_bytes


@pytest.mark.parametrize("prefix", [struct.pack("<Q", 2**63), struct.pack("<Q", 100_000_001)])
def test_a_header_longer_than_any_is_never_fetched(hub: FakeHub, prefix: bytes) -> None:
    hub.repos[NAME].files["model.safetensors"] = prefix + bytes(1000)
    with pytest.raises(MalformedAnswerError):
        load_model(NAME, environ=hub.environ())
    assert sum("model.safetensors" in path for path in hub.paths()) == 1


def attempt(work: Callable[[], T]) -> tuple[T | None, SelfhostError | None]:
    """What came of it: a value or one of our errors; anything else fails the test."""
    try:
        return work(), None
    except SelfhostError as error:
        return None, error


def model_directory(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_bytes(as_json(CONFIG))
    (path / "model.safetensors").write_bytes(safetensors(WEIGHTS))
    return path


def cached(cache: Path, name: str, commit: str) -> Path:
    folder = cache / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    return snapshot


def write_gguf(path: Path, *, architecture: str = "qwen3", experts: int = 0) -> Path:
    """A one-layer model as llama.cpp's converter writes it."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(4096)
    writer.add_embedding_length(256)
    writer.add_block_count(1)
    writer.add_feed_forward_length(512)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(64)
    writer.add_rope_freq_base(1e6)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M)
    writer.add_token_list([f"token{n}" for n in range(5000)])
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(2)
        writer.add_expert_feed_forward_length(512)
    kinds = gguf.GGMLQuantizationType

    def quantized(name: str, kind: gguf.GGMLQuantizationType, *shape: int) -> None:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        rows = np.zeros((*shape[:-1], shape[-1] // block * size), dtype=np.uint8)
        writer.add_tensor(name, rows, raw_dtype=kind)

    quantized("token_embd.weight", kinds.Q6_K, 32, 256)
    quantized("blk.0.attn_q.weight", kinds.Q4_K, 256, 256)
    if experts:
        quantized("blk.0.ffn_gate_exps.weight", kinds.Q4_K, experts, 512, 256)
    quantized("blk.0.ffn_down.weight", kinds.Q6_K, 256, 512)
    writer.add_tensor("output_norm.weight", np.zeros(256, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path

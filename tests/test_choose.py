"""Which files of a repository are pulled, and why: one format, nothing twice, nothing that runs code unasked."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfhost.errors import MalformedAnswerError, ModelNotFoundError, UnsupportedError, UsageError
from selfhost.licence import Declared
from selfhost.pull.choose import Wish, check_globs, choose
from selfhost.pull.names import check_collisions, check_name, fault_of
from selfhost.pull.types import Choice, Listing, RemoteFile

INDEX = "model.safetensors.index.json"


def listing(*names: str) -> Listing:
    files = tuple(RemoteFile(path=name, size_bytes=1, git_oid="0" * 40) for name in sorted(names))
    return Listing(
        repo="acme/m", commit="1" * 40, revision="main", endpoint="http://h", files=files, declared=Declared()
    )


Indexes = Mapping[str, Mapping[str, object]]


def picked(*names: str, wish: Wish | None = None, indexes: Indexes | None = None) -> dict[str, Choice]:
    return {c.file.path: c for c in choose(listing(*names), wish or Wish(), indexes=indexes)}


def kept(*names: str, wish: Wish | None = None, indexes: Indexes | None = None) -> set[str]:
    return {name for name, choice in picked(*names, wish=wish, indexes=indexes).items() if choice.keep}


TEXT = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "LICENSE",
    "README.md",
)


def test_what_loads_and_speaks_a_model_comes_along_and_nothing_else() -> None:
    more = (
        ".gitattributes", "figures/benchmark.png", "onnx/model.onnx", "original/consolidated.00.pth", "tf_model.h5",
        "pytorch_model.bin", "model.gguf", "consolidated.safetensors", "params.json", "flax_model.msgpack",
        "runs/events.out.tfevents.1", "training_args.bin", "optimizer.pt", "modeling_acme.py", "notes.md",
    )  # fmt: skip
    needed = (
        *TEXT,
        "chat_template.jinja",
        "preprocessor_config.json",
        "merges.txt",
        "vocab.json",
        "USE_POLICY.md",
    )
    assert kept("model.safetensors", *needed, *more) == {"model.safetensors", *needed}


def test_every_decision_has_a_reason() -> None:
    found = picked("model.safetensors", *TEXT, "modeling.py", "pytorch_model.bin", "a.png", "original/x.pth")
    assert all(choice.because for choice in found.values())
    assert found["pytorch_model.bin"].because == "the same weights in another format"
    assert "--trust-remote-code" in found["modeling.py"].because
    assert found["tokenizer.json"].because == "tokenizer"
    assert found["generation_config.json"].because == "default sampling"


def test_the_index_decides_which_shards_are_weights() -> None:
    shards = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    index = {"weight_map": {"a": shards[0], "b": shards[1]}}
    names = ("config.json", INDEX, *shards, "model-00001-of-00009.safetensors", "consolidated.safetensors")
    assert kept(*names, indexes={INDEX: index}) == {"config.json", INDEX, *shards}


def test_an_upload_that_lacks_a_shard_is_refused() -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    with pytest.raises(ModelNotFoundError, match="lacks 1 of the 1"):
        kept("config.json", INDEX, indexes={INDEX: index})


def test_pickles_only_where_they_are_asked_for_and_there_is_nothing_safer() -> None:
    names = ("config.json", "pytorch_model.bin", "tokenizer.json")
    with pytest.raises(UnsupportedError, match="pickles"):
        kept(*names)
    assert kept(*names, wish=Wish(allow_pickle=True)) == set(names)
    safe = (*names, "model.safetensors")
    assert "pytorch_model.bin" not in kept(*safe, wish=Wish(allow_pickle=True))


def test_code_only_where_it_is_trusted() -> None:
    names = ("config.json", "model.safetensors", "modeling_acme.py", "kernels/ops.py")
    assert kept(*names) == {"config.json", "model.safetensors"}
    assert kept(*names, wish=Wish(trust_remote_code=True)) == set(names)


def test_folders_of_sentence_transformers_bring_their_weights() -> None:
    modules = {"modules": [{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Dense"}]}
    names = (
        "config.json",
        "model.safetensors",
        "modules.json",
        "1_Pooling/config.json",
        "2_Dense/config.json",
    )
    dense = ("2_Dense/model.safetensors", "2_Dense/pytorch_model.bin", "3_Other/model.safetensors")
    assert kept(*names, *dense, indexes={"modules.json": modules}) == {*names, "2_Dense/model.safetensors"}


def test_a_gguf_file_brings_all_its_parts() -> None:
    parts = tuple(f"m-Q4-{number:05}-of-00003.gguf" for number in (1, 2, 3))
    names = (*parts, "m-Q8.gguf", "README.md", "config.json")
    assert kept(*names, wish=Wish(gguf=parts[0])) == {*parts, "README.md", "config.json"}
    with pytest.raises(ModelNotFoundError, match="lacks m-Q4-00003"):
        kept(*parts[:2], wish=Wish(gguf=parts[0]))
    with pytest.raises(ModelNotFoundError, match="no file"):
        kept(*names, wish=Wish(gguf="other.gguf"))


def test_several_gguf_files_need_a_choice() -> None:
    with pytest.raises(UnsupportedError, match="2 GGUF files"):
        kept("a-Q4.gguf", "a-Q8.gguf", "README.md")
    assert kept("a-Q4.gguf", "README.md") == {"a-Q4.gguf", "README.md"}


def test_adapters_are_pulled_as_what_they_are() -> None:
    names = ("adapter_config.json", "adapter_model.safetensors", "README.md")
    assert kept(*names, "adapter_model.bin") == set(names)


def test_mistral_layout_alone_is_kept() -> None:
    names = ("consolidated.safetensors", "params.json", "tekken.json")
    assert kept(*names) == set(names)


def test_include_names_exactly_what_comes_and_exclude_takes_away() -> None:
    names = ("config.json", "model.safetensors", "onnx/model.onnx", "onnx/config.json", "run.py")
    assert kept(*names, wish=Wish(include=("onnx/*",))) == {"onnx/model.onnx", "onnx/config.json"}
    assert kept(*names, wish=Wish(include=("*",))) == {name for name in names if name != "run.py"}
    assert kept(*names, wish=Wish(exclude=("*.safetensors",))) == {"config.json"}
    with pytest.raises(ModelNotFoundError, match="left to pull"):
        kept(*names, wish=Wish(include=("*.zip",)))


@pytest.mark.parametrize("pattern", ["", "/etc/*"])
def test_globs_that_match_nothing_are_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="matches no file"):
        check_globs(Wish(include=(pattern,)))


@pytest.mark.parametrize(
    "name",
    ["", "../../etc/passwd", "/etc/passwd", "a/../../b", "a//b", "./a", "a/.", "C:\\x", "C:x", "a\\b", "a\0b", "a\nb",
     "\x1b[2J", ".git/config", ".selfhost/ok/x", "selfhost.lock.json", "SELFHOST.LOCK.JSON", "a" * 256,
     "a/" * 600 + "b", "\ud800"],
)  # fmt: skip
def test_hostile_names_are_refused(name: str) -> None:
    with pytest.raises(MalformedAnswerError) as caught:
        check_name(name, repo="acme/m")
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    "name", ["config.json", "a b.txt", "ü/model.safetensors", ".gitattributes", "..a", "a..b"]
)
def test_usual_names_pass(name: str) -> None:
    assert check_name(name, repo="acme/m") == name


@pytest.mark.parametrize(
    "names", [("A.json", "a.json"), ("a", "a/b"), ("é.txt", "e\u0301.txt"), ("X/a", "x")]
)
def test_names_that_a_file_system_takes_for_one_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(MalformedAnswerError, match="keep apart"):
        check_collisions(names, repo="acme/m")


@given(st.text(max_size=40))
def test_a_name_that_passes_stays_inside(name: str) -> None:
    import posixpath

    if fault_of(name) is None:
        joined = posixpath.normpath(posixpath.join("/root/model", name))
        assert joined.startswith("/root/model/")
        assert joined == f"/root/model/{name}"


@given(st.lists(st.text(alphabet="ab./_-C:\\é", min_size=1, max_size=12), max_size=8, unique=True))
def test_any_list_of_names_gives_a_choice_or_a_clear_error(names: list[str]) -> None:
    safe = [name for name in names if fault_of(name) is None]
    try:
        found = choose(listing("config.json", "model.safetensors", *safe), Wish())
    except (MalformedAnswerError, ModelNotFoundError, UnsupportedError):
        return
    assert {choice.file.path for choice in found} == {"config.json", "model.safetensors", *safe}

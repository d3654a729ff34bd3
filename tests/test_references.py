"""The reference syntax: what each form means, and that nothing else gets through."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfhost.errors import ModelReferenceError
from selfhost.hub.references import Reference, parse_reference


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Qwen/Qwen3-32B", {"kind": "hub", "name": "Qwen/Qwen3-32B"}),
        ("gpt2", {"kind": "hub", "name": "gpt2"}),
        ("01-ai/Yi-34B", {"kind": "hub", "name": "01-ai/Yi-34B"}),
        ("org/name@main", {"kind": "hub", "name": "org/name", "revision": "main"}),
        ("org/name@refs/pr/2", {"kind": "hub", "name": "org/name", "revision": "refs/pr/2"}),
        ("org/name@" + "a" * 40, {"kind": "hub", "name": "org/name", "revision": "a" * 40}),
        ("org/name:q4.gguf", {"kind": "hub", "name": "org/name", "file": "q4.gguf"}),
        ("org/name@v1:d/q4.GGUF", {"kind": "hub", "name": "org/name", "revision": "v1", "file": "d/q4.GGUF"}),
        ("./model", {"kind": "directory", "name": "./model"}),
        ("../model", {"kind": "directory", "name": "../model"}),
        ("/srv/model", {"kind": "directory", "name": "/srv/model"}),
        ("~/model", {"kind": "directory", "name": "~/model"}),
        (".", {"kind": "directory", "name": "."}),
        ("/srv/a b/ü", {"kind": "directory", "name": "/srv/a b/ü"}),
        ("model.gguf", {"kind": "gguf", "name": "model.gguf"}),
        ("models/model.gguf", {"kind": "gguf", "name": "models/model.gguf"}),
        ("./model.GGUF", {"kind": "gguf", "name": "./model.GGUF"}),
        ("catalog:Qwen/Qwen3-32B", {"kind": "catalogue", "name": "Qwen/Qwen3-32B"}),
        ("catalogue:qwen3-32b", {"kind": "catalogue", "name": "qwen3-32b"}),
    ],
)
def test_forms(text: str, expected: dict[str, str]) -> None:
    assert parse_reference(text) == Reference(text=text, **expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "", " ", " gpt2", "gpt2 ", "a/b/c", "models/llama/7b", "org//name", "/org\x00",
        "org/", "org/.name", "org/name.",
        "-org/name", "org/na--me", "org/na..me", "org/../name", "org/name.git", "org/na me", "org/naïve", "org/name;ls",
        "org/$(ls)", "org/`ls`", "org/name\n", "{{ 1 }}", "org/name: value", "!!python/object", "&anchor/x", "*alias/x",
        "org/name@", "org/name@-x", "org/name@a..b", "org/name@/x", "org/name@a//b", "org/name@a/.b", "org/name@x.lock",
        "org/name@a b", "org/name@a@b", "org/name@a~1", "org/name@a^", "org/name@x:y",
        "org/name:../q4.gguf", "org/name:/q4.gguf", "org/name:q4.bin", "org/name:a//b.gguf", "org/name:a/../b.gguf",
        "org/name:.gguf", "catalog:", "catalog:../x", "catalog:a/b/c", "x" * 97, "x" * 5000, "org/" + "x" * 97,
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(ModelReferenceError) as caught:
        parse_reference(text)
    assert caught.value.hint
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("https://huggingface.co/Qwen/Qwen3-32B", "write Qwen/Qwen3-32B"),
        ("huggingface.co/Qwen/Qwen3-32B/tree/main", "write Qwen/Qwen3-32B@main"),
        ("models/llama/7b", "for a local directory write ./models/llama/7b"),
        ("llama/config.json", "write ./llama"),
    ],
)
def test_near_misses_say_what_to_write(text: str, hint: str) -> None:
    with pytest.raises(ModelReferenceError) as caught:
        parse_reference(text)
    assert caught.value.hint == hint


SAFE_NAME = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?")


@given(st.text(max_size=60) | st.from_regex(r"[a-z./@:~$-]{1,20}", fullmatch=True))
def test_any_text_is_a_reference_or_one_clear_error(text: str) -> None:
    try:
        reference = parse_reference(text)
    except ModelReferenceError as error:
        refusal = error
        reference = None
    if reference is None:
        assert refusal.message.isprintable()
        return
    assert reference.text == text
    if reference.kind in ("hub", "catalogue"):
        assert SAFE_NAME.fullmatch(reference.name)
        assert ".." not in reference.name
    if reference.revision is not None:
        assert re.fullmatch(r"[A-Za-z0-9._/+-]+", reference.revision)
        assert ".." not in reference.revision
    if reference.file is not None:
        assert not reference.file.startswith("/")
        assert ".." not in reference.file

"""Image digests from a registry on loopback: tokens, refusals, and registries that do not name them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub  # noqa: F401 -- reads HF_HUB_OFFLINE when it is first imported, so here and not in a test
import pytest

from selfhost.bundle.images import Moved, full_name, split
from selfhost.bundle.registry import digest_of
from selfhost.engines import Image, parse_image
from selfhost.errors import MalformedAnswerError, OfflineError, SelfhostError
from selfhost.plan import write_plan
from tests.bundles import members
from tests.fakes import registry
from tests.fakes.registry import FakeRegistry
from tests.plans import plan as make_plan


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRegistry]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with registry.serve() as running:
        yield running


def image(server: FakeRegistry, name: str = "vllm/vllm-openai", tag: str = "v0.32.0") -> Image:
    return parse_image(f"{server.host}/{name}:{tag}")


def test_the_digest_of_the_list_of_platforms_is_found(server: FakeRegistry) -> None:
    digest = server.add("vllm/vllm-openai", "v0.32.0")
    assert digest_of(image(server)) == digest
    assert [method for method, _ in server.requests] == [
        "HEAD",
        "GET",
        "HEAD",
    ]  # refused, a token, the answer


def test_a_registry_that_lets_everybody_in(server: FakeRegistry) -> None:
    server.token = None
    digest = server.add("vllm/vllm-openai", "v0.32.0")
    assert digest_of(image(server)) == digest
    assert len(server.requests) == 1


def test_a_registry_that_does_not_name_the_digest(server: FakeRegistry) -> None:
    server.silent = True
    digest = server.add("vllm/vllm-openai", "v0.32.0")
    assert digest_of(image(server)) == digest


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({}, OfflineError, "does not have"),
        ({"private": True}, OfflineError, "credentials"),
        ({"basic": True}, OfflineError, "credentials"),
        ({"status": 503}, OfflineError, "answered 503"),
        ({"status": 429}, OfflineError, "answered 429"),
        ({"nonsense": "sha256:../../x"}, MalformedAnswerError, "no digest"),
    ],
)
def test_refusals_are_one_sentence_with_the_way_out(
    server: FakeRegistry, change: dict[str, Any], kind: type[SelfhostError], words: str
) -> None:
    if change:
        server.add("vllm/vllm-openai", "v0.32.0")
    for name, value in change.items():
        setattr(server, name, value)
    with pytest.raises(kind, match=words) as caught:
        digest_of(image(server))
    assert "vllm/vllm-openai:v0.32.0" in caught.value.message
    assert "--image" in str(caught.value.hint)


def test_a_registry_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(OfflineError, match=r"127\.0\.0\.1:9 cannot be asked"):
        digest_of(parse_image("127.0.0.1:9/vllm/vllm-openai:v0.32.0"))


@pytest.mark.parametrize(
    ("reference", "host", "path"),
    [
        ("vllm/vllm-openai:v1", "docker.io", "vllm/vllm-openai"),
        ("ubuntu:24.04", "docker.io", "library/ubuntu"),
        ("ghcr.io/acme/app:1", "ghcr.io", "acme/app"),
        ("localhost/app:1", "localhost", "app"),
        ("registry:5000/a/b:1", "registry:5000", "a/b"),
    ],
)
def test_short_names_are_spelt_out(reference: str, host: str, path: str) -> None:
    found = parse_image(reference)
    assert split(found) == (host, path)
    assert full_name(found) == f"{host}/{path}"


def test_a_line_of_the_list_has_a_tag_or_a_digest_never_both() -> None:
    plain = parse_image("vllm/vllm-openai:v1")
    pinned = parse_image(f"registry.internal/vllm/vllm-openai:v1@sha256:{'0' * 64}")
    assert Moved(old=plain, new=plain).line == "docker.io/vllm/vllm-openai:v1 vllm/vllm-openai:v1"
    source, target = Moved(old=plain, new=pinned).line.split()
    assert source == f"docker.io/vllm/vllm-openai@sha256:{'0' * 64}"
    assert target == "registry.internal/vllm/vllm-openai:v1"


def test_the_command_asks_the_registry(server: FakeRegistry, tmp_path: Path) -> None:
    digest = server.add("vllm/vllm-openai", "v0.32.0")
    write_plan(make_plan(), tmp_path / "plan.json")
    environ = {name: value for name, value in os.environ.items() if not name.endswith("OFFLINE")}
    words = [
        "create",
        str(tmp_path / "plan.json"),
        "-o",
        str(tmp_path / "b.tar"),
        "--mirror",
        "inside.internal",
    ]
    subprocess.run(
        [sys.executable, "-m", "selfhost", "bundle", *words, "--image", image(server).reference],
        env=environ,
        check=True,
        capture_output=True,
    )
    lines = members(tmp_path / "b.tar")["images.txt"].decode().splitlines()
    assert lines[1:] == [f"{server.host}/vllm/vllm-openai@{digest} inside.internal/vllm/vllm-openai:v0.32.0"]

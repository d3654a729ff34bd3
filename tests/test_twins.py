"""Quantized versions of a model: found by what their pages say, the publisher's own first, hostile rows left out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from selfhost import quantization
from selfhost.errors import MalformedAnswerError, ModelReferenceError, RateLimitedError, UsageError
from selfhost.hub.remote import Hub, connect
from selfhost.pull import twins
from selfhost.pull.twins import SCHEMES, Twin, find_twins, recognise, schemes_of
from tests.fakes.hub import FakeHub, Repo, serve

BASE = "Qwen/Qwen3-32B"


def quantized(
    method: str | None = None,
    *,
    base: str | None = BASE,
    downloads: int = 0,
    tags: tuple[str, ...] = (),
    **more: Any,
) -> Repo:
    """A repository of which the card says what it was made from, and config.json how it is quantized."""
    section = {"quant_method": method, **more.pop("section", {})} if method else more.pop("section", None)
    config = {"architectures": ["Qwen3ForCausalLM"]} | ({"quantization_config": section} if section else {})
    card: dict[str, object] = {"license": "apache-2.0"}
    card |= {"base_model": base, "base_model_relation": "quantized"} if base else {}
    return Repo(
        files={"config.json": json.dumps(config).encode()},
        card=card,
        tags=tags,
        facts={"downloads": downloads},
        **more,
    )


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    repos = {
        BASE: quantized(base="Qwen/Qwen3-32B-Base", downloads=2_000_000),
        "Qwen/Qwen3-32B-AWQ": quantized("awq", downloads=300, section={"bits": 4}),
        "Qwen/Qwen3-32B-FP8": quantized("fp8", base=None, downloads=900),
        "Qwen/Qwen3-32B-GGUF": quantized(downloads=800, tags=("gguf",)),
        "Qwen/Qwen3-32B-Instruct-AWQ": quantized("awq", base=None),
        "Qwen/Qwen3-32B-Coder-AWQ": quantized("awq", base="Qwen/Qwen3-32B-Coder"),
        "RedHatAI/Qwen3-32B-quantized.w4a16": quantized(
            "compressed-tensors", downloads=5000, section={"format": "pack-quantized"}
        ),
        "RedHatAI/Qwen3-32B-FP8-dynamic": quantized(
            "compressed-tensors", downloads=7000, section={"format": "float-quantized"}
        ),
        "nvidia/Qwen3-32B-NVFP4": quantized("modelopt", downloads=4000, section={"quant_algo": "NVFP4"}),
        "nvidia/Qwen3-32B-FP8": quantized("modelopt", downloads=100, gated="auto"),
        "unsloth/Qwen3-32B-bnb-4bit": quantized("bitsandbytes", downloads=40),
        "Intel/Qwen3-32B-int4-AutoRound": quantized("auto-round", downloads=30),
        "somebody/qwen-awq": quantized("awq", downloads=10_000),
        "somebody/Qwen3-32B-AWQ": quantized("awq", base="another/Model"),
        "somebody/Qwen3-32B-AWQ-private": quantized("awq", token="hf_other"),
    }
    with serve(repos=repos) as running:
        yield running


def ask(hub: FakeHub, quant: str, repo: str = BASE) -> tuple[Twin, ...]:
    return find_twins(to(hub), repo, quant)


def to(hub: FakeHub) -> Hub:
    return connect(hub.environ(), deadline=time.monotonic() + 20)


@pytest.mark.parametrize(
    ("quant", "repos"),
    [
        ("awq", ["Qwen/Qwen3-32B-AWQ", "somebody/qwen-awq"]),
        ("awq-int4", ["Qwen/Qwen3-32B-AWQ", "somebody/qwen-awq"]),
        ("FP8", ["Qwen/Qwen3-32B-FP8", "RedHatAI/Qwen3-32B-FP8-dynamic", "nvidia/Qwen3-32B-FP8"]),
        ("fp8-block", ["Qwen/Qwen3-32B-FP8", "RedHatAI/Qwen3-32B-FP8-dynamic", "nvidia/Qwen3-32B-FP8"]),
        ("w4a16", ["RedHatAI/Qwen3-32B-quantized.w4a16"]),
        ("nvfp4", ["nvidia/Qwen3-32B-NVFP4"]),
        ("fp4", ["nvidia/Qwen3-32B-NVFP4"]),
        ("gguf", ["Qwen/Qwen3-32B-GGUF"]),
        ("gguf-q4_k_m", ["Qwen/Qwen3-32B-GGUF"]),
        ("bnb", ["unsloth/Qwen3-32B-bnb-4bit"]),
        ("bnb-nf4", ["unsloth/Qwen3-32B-bnb-4bit"]),
        ("autoround-int4", ["Intel/Qwen3-32B-int4-AutoRound"]),
        ("gptq", []),
        (
            "int4",
            [
                "Qwen/Qwen3-32B-AWQ",
                "somebody/qwen-awq",
                "RedHatAI/Qwen3-32B-quantized.w4a16",
                "Intel/Qwen3-32B-int4-AutoRound",
            ],
        ),
    ],
)
def test_twins_by_format(hub: FakeHub, quant: str, repos: list[str]) -> None:
    assert [twin.repo for twin in ask(hub, quant)] == repos


def test_what_is_said_of_a_twin(hub: FakeHub) -> None:
    own, other = ask(hub, "awq")
    assert own == Twin(
        repo="Qwen/Qwen3-32B-AWQ",
        scheme="awq",
        downloads=300,
        same_owner=True,
        gated="none",
        licence="apache-2.0",
        because="quant_method awq in its configuration",
    )
    assert not other.same_owner
    assert [twin.gated for twin in ask(hub, "fp8")] == ["none", "none", "auto"]
    assert (
        ask(hub, "w4a16")[0].because == "quant_method compressed-tensors in its configuration, and its name"
    )
    assert ask(hub, "gguf")[0].because == "its name"


def test_two_questions_with_a_limit(hub: FakeHub) -> None:
    ask(hub, "awq")
    first, second = (parse_qs(urlsplit(path).query) for path, _ in hub.requests)
    assert first["filter"] == [f"base_model:quantized:{BASE}"]
    assert (second["author"], second["search"]) == (["Qwen"], ["Qwen3-32B"])
    assert first["expand"] == ["tags", "downloads", "gated", "config", "cardData"]
    assert first["limit"] == second["limit"] == [str(twins.MAXIMUM_ROWS)]
    hub.requests.clear()
    assert ask(hub, "awq", "gpt2") == ()
    assert len(hub.requests) == 1  # nobody owns it, so nobody's own version is looked for


def row(name: str = "", tags: tuple[str, ...] = (), **section: object) -> dict[str, object]:
    return {"tags": list(tags), "config": {"quantization_config": section} if section else {}}


@pytest.mark.parametrize(
    ("name", "page", "scheme"),
    [
        ("-GPTQ-Int8", row(), "gptq"),
        ("-GPTQ-Int4", row(quant_method="gptq", bits=4), "gptq"),
        ("-NVFP4A16", row(), "nvfp4"),
        ("-FP4", row(quant_method="modelopt_fp4"), "nvfp4"),
        ("-MXFP4", row(quant_method="mxfp4"), "mxfp4"),
        ("-MXFP4", row(quant_method="quark"), "mxfp4"),
        ("-AWQ", row(quant_method="compressed-tensors", format="pack-quantized"), "w4a16"),
        ("-quantized.w8a8", row(quant_method="compressed-tensors", format="int-quantized"), "w8a8"),
        ("-W8A8", row(quant_method="compressed_tensors"), "w8a8"),
        ("-NVFP4", row(quant_method="compressed-tensors", format="nvfp4-pack-quantized"), "nvfp4"),
        ("-FP8", row(quant_method="fbgemm_fp8"), "fp8"),
        ("-auto-round", row(), "autoround"),
        ("-int4", row(quant_method="intel/auto-round"), "autoround"),
        ("-whatever", row(tags=("awq", "4-bit")), "awq"),
        ("-AWQ", row(tags=("gptq",)), "awq"),
        ("-AWQ", row(quant_method="gptq"), "gptq"),
        ("-whatever", row(tags=("license:awq", "base_model:x/y-awq")), None),
        ("-AWQ", row(quant_method="nobody-knows"), None),
        ("-exl2-4bit", row(), None),
        ("-awqward", row(), None),
        ("", row(), None),
        ("-AWQ", {"tags": "awq", "config": [1]}, "awq"),
        ("", {"tags": [1, None, "x" * 1000], "config": {"quantization_config": "awq"}}, None),
        ("-W4A16", row(quant_method=5), "w4a16"),
    ],
)
def test_a_format_is_recognised(name: str, page: dict[str, object], scheme: str | None) -> None:
    found = recognise(page, name=name)
    assert (found and found[0]) == scheme


def test_a_format_in_the_models_own_name_counts_for_nothing(hub: FakeHub) -> None:
    hub.repos = {
        "nvidia/Model-FP8": quantized("fp8", base=None),
        "nvidia/Model-FP8-GGUF": quantized(base="nvidia/Model-FP8"),
    }
    assert ask(hub, "fp8", "nvidia/Model-FP8") == ()
    assert [twin.repo for twin in ask(hub, "gguf", "nvidia/Model-FP8")] == ["nvidia/Model-FP8-GGUF"]


def test_rows_of_a_stranger(hub: FakeHub) -> None:
    tag = f"base_model:quantized:{BASE}"
    names = [
        "../../etc/AWQ",
        "a/b/AWQ",
        "x/AWQ\nInstalled",
        "x/--AWQ",
        "",
        5,
        None,
        "x/" + "a" * 200 + "AWQ",
        BASE,
    ]
    rows: list[object] = [{"id": name, "tags": [tag, "awq"]} for name in names]
    rows += [
        "text",
        None,
        [1],
        {},
        {"id": "x/AWQ"},
        {"id": "x/AWQ", "tags": [tag], "downloads": -1, "gated": 7},
    ]
    rows += [{"id": "x/More-AWQ", "tags": [tag], "downloads": "many", "cardData": {"license": "a\nb"}}]
    body = json.dumps(rows).encode()
    hub.answers += [(200, {}, body), (200, {}, b"[]")]
    assert [(twin.repo, twin.downloads, twin.gated, twin.licence) for twin in ask(hub, "awq")] == [
        ("x/AWQ", None, "unknown", None),
        ("x/More-AWQ", None, "unknown", None),
    ]


def test_a_mirror_that_knows_no_filter_finds_nothing_wrong(hub: FakeHub) -> None:
    rows = [
        {"id": f"x/Model{number}-AWQ", "tags": ["awq", "base_model:quantized:x/Y"]} for number in range(2000)
    ]
    hub.answers += [(200, {}, json.dumps(rows).encode())] * 2
    assert ask(hub, "awq") == ()


def test_answers_are_bounded(hub: FakeHub) -> None:
    tag = f"base_model:quantized:{BASE}"
    rows = [{"id": f"x/M{number}-AWQ", "tags": [tag], "downloads": number} for number in range(2000)]
    hub.answers += [(200, {}, json.dumps(rows).encode()), (200, {}, b"[]")]
    found = ask(hub, "awq")
    assert len(found) == twins.MAXIMUM_TWINS
    assert found[0].downloads == twins.MAXIMUM_ROWS - 1


@pytest.mark.parametrize("body", [b"{}", b"null", b"[", b"\xff"])
def test_an_answer_that_is_no_list(hub: FakeHub, body: bytes) -> None:
    hub.answers.append((200, {}, body))
    with pytest.raises(MalformedAnswerError):
        ask(hub, "awq")


def test_refusals_are_passed_on(hub: FakeHub) -> None:
    hub.answers.append((429, {"Retry-After": "3"}, b""))
    with pytest.raises(RateLimitedError) as caught:
        ask(hub, "awq")
    assert caught.value.after_seconds == 3
    with pytest.raises(ModelReferenceError):
        ask(hub, "awq", "../etc")
    with pytest.raises(UsageError, match="'5bit'") as unknown:
        ask(hub, "5bit")
    assert "awq" in (unknown.value.hint or "")


def test_every_quant_name_asks_for_something() -> None:
    for name in quantization.names():
        if name not in quantization.PLAIN:
            assert set(schemes_of(name)) <= set(SCHEMES)
    assert schemes_of("nvfp4a16") == ("nvfp4",)
    assert schemes_of("fp8-tensor") == ("fp8",)
    assert schemes_of("gptq-int8") == ("gptq",)

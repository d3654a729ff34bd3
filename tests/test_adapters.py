"""LoRA adapters: fetched before the model, loaded by name, and refused where nothing would hold or fetch them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from selfhost.engines import Adapts, engine_names, get_engine, parse_engine
from selfhost.errors import UnsupportedError, UsageError
from selfhost.manifests import Manifests, RenderOptions, render
from selfhost.manifests.adapters import adapted
from selfhost.manifests.options.nodes import NodeOptions
from selfhost.manifests.options.weights import WeightOptions
from selfhost.workload import Workload
from tests.plans import plan
from tests.test_manifests import kind, objects, server
from tests.validators import problems

LOAD = Workload(max_model_len=16384, concurrency=16, max_loras=2)
COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB, DIRECTORY = f"sql=team/sql-lora@{COMMIT}", "law=/lora/law"


def rendered(
    *lora: str, weights: str | None = None, workload: Workload = LOAD, engine: str = "vllm"
) -> Manifests:
    options = RenderOptions(nodes=NodeOptions(lora=lora), weights=WeightOptions(uri=weights))
    return render(plan(workload=workload, engine=engine), options=options)


def words(container: Any) -> list[str]:
    found: list[str] = container["args"]
    return found


def test_adapters_are_loaded_by_their_names() -> None:
    args = words(server(rendered(HUB, DIRECTORY)))
    assert args[-3:] == ["--lora-modules", "sql=/weights/adapters/sql", "law=/weights/lora/law"]
    assert "--max-loras=2" in args


def test_those_of_the_hub_are_fetched_before_the_model() -> None:
    manifests = rendered(HUB, DIRECTORY)
    pod = kind(manifests, "Job")["spec"]["template"]["spec"]
    (fetched,), (model,) = pod["initContainers"], pod["containers"]
    assert words(fetched) == ["pull", f"team/sql-lora@{COMMIT}", "--dir=/weights/adapters/sql"]
    assert any(word.startswith("--ready-file=") for word in words(model))
    assert fetched["command"] == model["command"]
    assert not [problem for document in objects(manifests) for problem in problems(document)]


def test_the_reader_is_told_what_is_loaded() -> None:
    readme = next(document.text for document in rendered(HUB).documents if document.name == "README.md")
    assert "loaded at start: sql" in readme


def test_what_nothing_would_hold_or_fetch_is_refused() -> None:
    with pytest.raises(UsageError, match="no memory for adapters") as refused:
        rendered(HUB, workload=Workload(max_model_len=16384, concurrency=16))
    assert refused.value.hint == "Plan with --max-loras 1."
    with pytest.raises(UsageError, match="nothing downloads") as refused:
        rendered(HUB, weights="oci://models/qwen:v1")
    assert "--lora sql=/DIR" in (refused.value.hint or "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "x=",
        "=a/b@" + COMMIT,
        "x=a/b",
        "x=a/b@main",
        "x=/a/../b",
        "x=a b/c@" + COMMIT,
        "a b=/x",
        'x=/"y',
    ],
)
def test_what_names_no_adapter_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="names no adapter"):
        NodeOptions(lora=(text,))


def test_a_name_stands_once() -> None:
    with pytest.raises(UsageError, match="twice"):
        NodeOptions(lora=(HUB, "sql=/x"))


def test_engines_say_how_or_refuse() -> None:
    for name in engine_names():
        engine = get_engine(name)
        if isinstance(engine, Adapts):
            found = engine.adapters(parse_engine(name), (("a", "/x"), ("b", "/y")))
            assert [word.text for word in found][1:] == ["a=/x", "b=/y"]
    made = plan(workload=LOAD)
    other = replace(made, engine=replace(made.engine, name="tgi", version="3.3.7"))
    options = RenderOptions(nodes=NodeOptions(lora=(HUB,)))
    with pytest.raises(UnsupportedError, match="no adapters"):
        adapted(other, options)

"""plan.json: round trips, strictness with the field's name, derived clocks and names."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfhost.errors import OutputError, PlanFormatError, UnsupportedError, UsageError
from selfhost.plan import SCHEMA, Plan, from_json, read_plan, to_json, write_plan
from selfhost.plan.check import NAME
from selfhost.plan.derive import clocks, load_seconds, object_name, volume_bytes
from selfhost.units import GIB
from selfhost.workload import Split, Workload
from tests.plans import COMMIT, plan

EXAMPLE = plan()


def data() -> Any:
    return json.loads(to_json(EXAMPLE))


def broken(change: Callable[[Any], object]) -> str:
    found = data()
    change(found)
    return json.dumps(found)


def test_round_trip() -> None:
    assert from_json(to_json(EXAMPLE)) == EXAMPLE
    assert from_json(to_json(EXAMPLE, indent=None)) == EXAMPLE


def test_schema_comes_first() -> None:
    assert next(iter(data())) == "schema"
    assert data()["schema"] == SCHEMA == "selfhost/plan/v1"


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "plan.json"
    write_plan(EXAMPLE, path)
    assert read_plan(path) == EXAMPLE
    write_plan(replace(EXAMPLE, name="other"), path)
    assert read_plan(path).name == "other"
    assert [found.name for found in path.parent.iterdir()] == ["plan.json"]


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError):
        write_plan(EXAMPLE, tmp_path / "file" / "plan.json")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PlanFormatError, match="absent") as absent:
        read_plan(tmp_path / "absent.json")
    assert "selfhost plan" in (absent.value.hint or "")
    (tmp_path / "latin").write_bytes(b'{"schema": "\xe4"}')
    with pytest.raises(PlanFormatError, match="UTF-8"):
        read_plan(tmp_path / "latin")
    with pytest.raises(PlanFormatError):
        read_plan(tmp_path)


def paths(value: Any, path: str = "plan") -> list[str]:
    """Every field of the example, dotted."""
    if isinstance(value, dict):
        return [f for key, item in value.items() for f in (f"{path}.{key}", *paths(item, f"{path}.{key}"))]
    if isinstance(value, list):
        return [f for number, item in enumerate(value[:1]) for f in paths(item, f"{path}[{number}]")]
    return []


def locate(document: Any, path: str) -> tuple[Any, str]:
    """The object that holds a dotted path, and the last key."""
    *steps, last = path.removeprefix("plan.").replace("[", ".[").split(".")
    for step in steps:
        document = document[int(step[1:-1])] if step.startswith("[") else document[step]
    return document, last


FIELDS = paths(data())


# Fields that came after the first release of the format: a plan without them is read.
LATER = {
    "plan.licence",
    *(f"plan.licence.{name}" for name in ("terms", "verification", "openness_because", "notes")),
    *(
        f"plan.engine.{name}"
        for name in (
            "live_path",
            "probe_timeout_seconds",
            "probe_because",
            "metrics_port",
            "key",
            "files",
            "shell",
            "notes",
            "needs_root",
        )
    ),
    "plan.memory.context_bytes",
    "plan.gpu.platform",
    "plan.provenance.sizing",
}


@pytest.mark.parametrize("path", sorted(LATER))
def test_a_plan_of_before_a_field_is_read(path: str) -> None:
    def remove(document: Any) -> None:
        holder, key = locate(document, path)
        del holder[key]

    older = from_json(broken(remove))
    found, before = json.loads(to_json(older)), data()
    remove(found)
    remove(before)
    assert found == before
    assert (older.licence is None) == (path == "plan.licence")


@pytest.mark.parametrize("use", ["commercial", "internal", "research"])
def test_a_plan_for_a_use_that_its_licence_does_not_cover_is_refused(use: str) -> None:
    def spoil(document: Any) -> None:
        document["licence"] |= {"use": use, "permission": "conditional"}

    with pytest.raises(PlanFormatError, match=f"licence.permission does not cover {use} use"):
        from_json(broken(spoil))
    for permission, accepted in (("yes", False), ("conditional", True), ("unknown", True)):

        def cover(document: Any, permission: str = permission, accepted: bool = accepted) -> None:
            document["licence"] |= {"use": use, "permission": permission, "accepted": accepted}

        assert from_json(broken(cover)).licence is not None

    def forbid(document: Any) -> None:
        document["licence"] |= {"use": use, "permission": "no", "accepted": True}

    with pytest.raises(PlanFormatError, match="does not cover"):
        from_json(broken(forbid))


@pytest.mark.parametrize("text", ["two\nlines", "\x1b[31mred", "x" * 501])
def test_a_licence_is_told_in_lines(text: str) -> None:
    for field, value in (("name", text), ("source", text), ("terms", [text]), ("obligations", [text])):

        def spoil(document: Any, field: str = field, value: object = value) -> None:
            document["licence"][field] = value

        with pytest.raises(PlanFormatError, match=r"plan\.licence"):
            from_json(broken(spoil))


@pytest.mark.parametrize("path", [path for path in FIELDS if path != "plan.schema" and path not in LATER])
def test_every_field_is_needed(path: str) -> None:
    def remove(document: Any) -> None:
        holder, key = locate(document, path)
        del holder[key]

    with pytest.raises(PlanFormatError) as error:
        from_json(broken(remove))
    assert error.value.message == f"{path} is missing."


@pytest.mark.parametrize("path", [path for path in FIELDS if path != "plan.schema"])
def test_every_field_has_a_type(path: str) -> None:
    def spoil(document: Any) -> None:
        holder, key = locate(document, path)
        holder[key] = {"a": [1]} if not isinstance(holder[key], dict) else 7

    with pytest.raises(PlanFormatError) as error:
        from_json(broken(spoil))
    assert error.value.message.startswith(f"{path} must be ")


def test_an_unknown_field_is_named_wherever_it_stands() -> None:
    for path in ["plan", *(f for f in FIELDS if isinstance(dig(data(), f), dict))]:

        def add(document: Any, path: str = path) -> None:
            holder = document if path == "plan" else dig(document, path)
            holder["tensorParalelSize"] = 2

        with pytest.raises(PlanFormatError) as error:
            from_json(broken(add))
        assert error.value.message == f"{path}.tensorParalelSize is not a field of a plan."


def dig(document: Any, path: str) -> Any:
    holder, key = locate(document, path)
    return holder[key]


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "7", '"plan"', "{", "{}", '{"schema": null}', '{"schema": "selfhost/plan/v2"}',
        '{"schema": "selfhost/plan/v1"}', '{"schema": "selfhost/plan/v1", "schema": "selfhost/plan/v1"}',
        "[" * 100_000, "NaN", '{"schema": NaN}', "9" * 10_000,
    ],
)  # fmt: skip
def test_what_is_no_plan(text: str) -> None:
    with pytest.raises(PlanFormatError):
        from_json(text)


def put(*steps: Any) -> Callable[[Any], None]:
    """Set a value deep inside: the last two of `steps` are a key and the value."""

    def change(document: Any) -> None:
        *way, key, value = steps
        for step in way:
            document = document[step]
        document[key] = value

    return change


WRONG: list[tuple[Callable[[Any], None], str]] = [
    (put("replicas", 0), "plan.replicas"),
    (put("replicas", True), "plan.replicas"),
    (put("replicas", 1.0), "plan.replicas"),
    (put("replicas", 10**30), "plan.replicas"),
    (put("replicas", "2"), "plan.replicas"),
    (put("name", "Vllm_1"), "plan.name"),
    (put("name", "a" * 41), "plan.name"),
    (put("name", "1st"), "plan.name"),
    (put("name", "x\n"), "plan.name"),
    (put("model", "revision", "main"), "plan.model.revision"),
    (put("model", "id", "half \ud800 pair"), "plan.model.id"),
    (put("model", "id", "nul \0"), "plan.model.id"),
    (put("model", "origin", "ftp"), "plan.model.origin"),
    (put("engine", "port", 80), "plan.engine.port"),
    (put("engine", "image", "tag", "latest"), "plan.engine.image.tag"),
    (put("engine", "image", "tag", "v1\nprivileged: true"), "plan.engine.image.tag"),
    (put("engine", "image", "digest", "sha256:1"), "plan.engine.image.digest"),
    (put("engine", "health_path", "health"), "plan.engine.health_path"),
    (put("engine", "home_path", "/home/../etc"), "plan.engine.home_path"),
    (put("engine", "command", []), "plan.engine.command"),
    (put("engine", "env", 0, "name", "A-B"), "plan.engine.env[0].name"),
    (put("engine", "env", 0, "name", "USER"), "plan.engine.env[1].name"),
    (put("gpu", "count", 4), "plan.gpu.count"),
    (put("gpu", "label", "product"), "plan.gpu.label"),
    (put("gpu", "label_values", ["a b"]), "plan.gpu.label_values[0]"),
    (put("gpu", "label_values", []), "plan.gpu.label_values"),
    (put("memory", "gpu_id", "l4-24gb"), "plan.memory.gpu_id"),
    (put("memory", "max_concurrency", True), "plan.memory.max_concurrency"),
    (put("memory", "weights_bytes", -1), "plan.memory.weights_bytes"),
    (put("model", "parameters", 0), "plan.model.parameters"),
    (put("gpu", "memory_bytes", -1), "plan.gpu.memory_bytes"),
    (put("workload", "concurrency", 0), "plan.workload"),
    (put("workload", "kv_dtype", "fp3"), "plan.workload"),
    (put("workload", "gpu_memory_utilization", 1.5), "plan.workload"),
    (put("engine", "args", 1, "flag", "-x; y"), "plan.engine.args[1].flag"),
    (put("split", "tensor", 0), "plan.split"),
    (put("clocks", "startup_failures", "value", 3), "plan.clocks.startup_failures"),
    (put("clocks", "engine_ready_seconds", "value", 600), "plan.clocks.engine_ready_seconds"),
    (put("clocks", "progress_deadline_seconds", "value", 600), "plan.clocks.progress_deadline_seconds"),
    (put("clocks", "grace_seconds", "value", 30), "plan.clocks.grace_seconds"),
    (put("clocks", "load_seconds", "value", -1), "plan.clocks.load_seconds.value"),
    (put("pod", "memory_bytes", "value", GIB), "plan.pod.memory_bytes"),
    (put("pod", "cpu_limit", "value", 1), "plan.pod.cpu_limit"),
    (put("pod", "ephemeral_bytes", "value", 1), "plan.pod.ephemeral_bytes"),
    (put("weights", "volume_bytes", "value", 1), "plan.weights.volume_bytes"),
    (put("weights", "mount_path", "weights"), "plan.weights.mount_path"),
]


@pytest.mark.parametrize(("change", "path"), WRONG)
def test_what_cannot_be_is_named(change: Callable[[Any], None], path: str) -> None:
    with pytest.raises(PlanFormatError) as error:
        from_json(broken(change))
    assert error.value.message.startswith(path), error.value.message


text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(
    text,
    text,
    text,
    st.integers(1, 1000),
    st.one_of(st.none(), st.text("0123456789abcdef", min_size=40, max_size=40)),
)
def test_any_text_survives(
    model_id: str, source: str, because: str, replicas: int, revision: str | None
) -> None:
    made = replace(
        EXAMPLE,
        model=replace(EXAMPLE.model, id=model_id, source=source, revision=revision),
        replicas=replicas,
        clocks=replace(EXAMPLE.clocks, drain_seconds=replace(EXAMPLE.clocks.drain_seconds, because=because)),
    )
    assert from_json(to_json(made)) == made


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(FIELDS), json_values)
def test_anything_in_a_field_is_a_plan_or_one_clear_error(path: str, value: Any) -> None:
    document = data()
    holder, key = locate(document, path)
    holder[key] = value
    with suppress(PlanFormatError):
        assert isinstance(from_json(json.dumps(document)), Plan)


@given(st.binary(max_size=200))
def test_any_bytes_are_one_clear_error(content: bytes) -> None:
    with pytest.raises(PlanFormatError):
        from_json(content.decode("utf-8", "replace"))


def test_clocks_follow_from_the_load_time() -> None:
    small, large = load_seconds(2 * GIB), load_seconds(1300 * GIB)
    assert small.value == 1800
    assert large.value == 900 + 18 * 1300
    found = clocks(1300 * GIB, drains=True)
    assert found.startup_failures.value * found.probe_period_seconds.value >= large.value
    assert found.engine_ready_seconds.value == large.value
    assert found.progress_deadline_seconds.value > large.value
    ending = found.pre_stop_seconds.value + found.drain_seconds.value
    assert found.grace_seconds.value > ending == 60


def test_an_engine_that_cannot_drain_is_not_waited_for() -> None:
    found = clocks(GIB, drains=False)
    assert found.drain_seconds.value == 0
    assert found.grace_seconds.value == 45


@given(st.integers(1, 4000 * GIB), st.integers(0, 4000 * GIB))
def test_more_weights_never_mean_less_time_or_room(size: int, more: int) -> None:
    assert load_seconds(size).value <= load_seconds(size + more).value
    assert volume_bytes(size).value <= volume_bytes(size + more).value
    assert volume_bytes(size).value > size


@given(st.text())
def test_any_id_makes_a_name(model_id: str) -> None:
    assert NAME.fullmatch(object_name(model_id))


@pytest.mark.parametrize(
    ("model_id", "name"),
    [
        ("Qwen/Qwen3-32B", "qwen3-32b"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama-3-3-70b-instruct"),
        ("/models/My Model_v2/", "my-model-v2-7c2b3a0f"),
        ("01-ai/01-yi", "m-01-yi"),
        ("x/model.gguf", "model"),
    ],
)
def test_names_read_like_the_model(model_id: str, name: str) -> None:
    found = object_name(model_id)
    assert found == name or (name[-9] == "-" and found.startswith(name[:-8]))


def test_different_ids_that_lose_letters_get_different_names() -> None:
    assert object_name("a/模型一") != object_name("a/模型二")


def test_what_is_decided() -> None:
    words = [argument.text for argument in EXAMPLE.engine.args]
    assert f"--revision={COMMIT}" in words
    assert "--tensor-parallel-size=2" in words
    assert EXAMPLE.gpu.count == 2
    assert EXAMPLE.gpu.label == "nvidia.com/gpu.product"
    assert "NVIDIA-H100-80GB-HBM3" in EXAMPLE.gpu.label_values
    assert EXAMPLE.weights.stored_bytes.value == EXAMPLE.model.parameters * 2
    assert {"--max-num-seqs=1024", "--max-num-batched-tokens=8192", "--gpu-memory-utilization=0.92"} <= set(
        words
    )


def test_a_directory_is_served_from_the_volume() -> None:
    made = plan(model={"id": "/data/tiny", "origin": "directory", "revision": None})
    assert made.weights.kind == "volume"
    assert made.weights.location == made.engine.args[0].text == "/weights/tiny"
    assert made.engine.args[1].text == "--served-model-name=tiny"


def test_a_gguf_file_is_served_by_its_name() -> None:
    changes = {"id": "tiny-Q8_0", "origin": "gguf", "revision": None}
    made = plan(model=changes, engine="vllm@0.23")
    assert made.weights.location == made.engine.args[0].text == "/weights/tiny-Q8_0.gguf"
    assert made.engine.args[1].text == "--served-model-name=tiny-Q8_0"


@pytest.mark.parametrize("path", ["..", "/", ".", "../..", "/data/.."])
def test_a_directory_cannot_climb_out_of_the_volume(path: str) -> None:
    made = plan(model={"id": path, "origin": "directory", "revision": None})
    assert made.weights.location == "/weights/model"
    document = json.loads(to_json(made))
    document["weights"]["location"] = "/weights/../etc"
    with pytest.raises(PlanFormatError, match=r"plan\.weights\.location"):
        from_json(json.dumps(document))


def test_what_the_engine_refuses_makes_no_plan() -> None:
    with pytest.raises(UnsupportedError, match="unquantized") as error:
        plan(workload=Workload(quantization="awq-int4"))
    assert error.value.hint


@pytest.mark.parametrize("name", ["", "UPPER", "a" * 41, "x;y", "-a", "a-"])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        plan(name=name)


def test_alternatives_leave_the_chosen_one_out() -> None:
    assert plan(split=Split(tensor=4)).alternatives == ()


def test_the_page_about_the_format_names_every_field() -> None:
    page = (Path(__file__).parent.parent / "docs" / "plan-format.md").read_text(encoding="utf-8")
    missing = [path for path in FIELDS if f"`{path.removeprefix('plan.').replace('[0]', '[]')}`" not in page]
    assert not missing

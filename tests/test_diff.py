"""`selfhost diff`: what counts is found, what does not is not, and what applying it does is said."""

from __future__ import annotations

import copy
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfhost.cli.diff import command
from selfhost.diff import Report, Side, compare, load
from selfhost.diff.objects import differences, milli
from selfhost.errors import UsageError
from selfhost.manifests import RenderOptions, render, write_manifests
from selfhost.manifests.options.box import BoxOptions
from selfhost.plan import Plan, write_plan
from selfhost.workload import Workload
from tests.plans import plan
from tests.programs import helm


def side(name: str, value: Plan) -> Side:
    return Side(name=name, plan=value, objects={})


def found(report: Report) -> dict[str, tuple[str | None, str | None]]:
    return {change.what: (change.old, change.new) for change in report.changes}


def rendered(
    folder: Path, made: Plan, options: RenderOptions | None = None, target: str = "kubernetes"
) -> str:
    write_manifests(render(made, target=target, options=options), folder)
    return str(folder)


def both(tmp_path: Path, old: Plan, new: Plan, **options: Any) -> Report:
    asked = RenderOptions(**options)
    sides = [
        load(rendered(tmp_path / name, made, asked), None) for name, made in (("old", old), ("new", new))
    ]
    return compare(*sides)


def test_a_plan_is_the_same_as_itself() -> None:
    report = compare(side("a", plan()), side("b", plan()))
    assert report.same
    assert not report.effects.restarts


def test_more_context_is_flags_and_memory_and_a_restart() -> None:
    longer = plan(workload=Workload(max_model_len=32768, concurrency=16))
    terms = (
        replace(longer.memory.terms[0], bytes=1 << 30),
    )  # the bill of the tests' plans does not follow the load
    bigger = replace(longer, memory=replace(longer.memory, terms=terms, max_model_len=32768))
    report = compare(side("a", plan()), side("b", bigger))
    assert [change.term for change in report.memory] == ["weights"]
    assert found(report)["longest request"] == ("16,384", "32,768")
    assert report.effects.restarts


def test_gpus_are_counted_before_and_after() -> None:
    report = compare(side("a", plan()), side("b", plan(tensor=4, replicas=2)))
    assert found(report)["GPUs of a replica"] == ("2", "4")
    assert found(report)["--tensor-parallel-size"] == ("2", "4")
    assert (report.effects.gpus_before, report.effects.gpus_after) == (2, 8)


def test_replicas_alone_leave_running_pods_alone() -> None:
    report = compare(side("a", plan()), side("b", plan(replicas=3)))
    assert set(found(report)) == {"replicas"}
    assert not report.effects.restarts
    assert report.effects.gpus_after == 6


def test_another_commit_is_downloaded_again() -> None:
    report = compare(side("a", plan()), side("b", plan(model={"revision": "f" * 40})))
    assert report.effects.download_bytes == plan().weights.stored_bytes.value
    assert found(report)["--revision"][1] == "f" * 40


def test_an_engine_s_version_changes_image_and_flags() -> None:
    report = compare(side("a", plan(engine="vllm@0.11")), side("b", plan()))
    assert found(report)["engine"] == ("vllm 0.11.0", "vllm 0.32.0")
    assert found(report)["--shutdown-timeout"] == (None, "45")
    assert {change.section for change in report.changes} >= {"engine", "flags", "clocks"}


def test_two_renderings_of_one_plan_are_the_same(tmp_path: Path) -> None:
    assert both(tmp_path, plan(), plan()).same


def test_a_rendering_says_how_long_nothing_serves(tmp_path: Path) -> None:
    changed = replace(plan(), engine=replace(plan().engine, port=9000))
    effects = both(tmp_path, plan(), changed).effects
    assert effects.restarts
    assert effects.downtime_seconds == 2020
    assert effects.gpus_meanwhile == 2


def test_spare_gpus_serve_all_the_while(tmp_path: Path) -> None:
    changed = replace(plan(), engine=replace(plan().engine, port=9000))
    effects = both(tmp_path, plan(), changed, surge=True, access_mode="ReadWriteMany").effects
    assert effects.downtime_seconds == 0
    assert effects.gpus_meanwhile == 4


def test_what_kubernetes_refuses_is_said(tmp_path: Path) -> None:
    report = both(tmp_path, plan(), plan(replicas=2))
    assert any("accessModes" in text for text in report.effects.blocked)
    renamed = both(tmp_path / "x", plan(), plan(name="other"))
    assert {change.change for change in renamed.objects} == {"added", "removed"}
    assert any("PersistentVolumeClaim" in text and "weights" in text for text in renamed.effects.lost)


def test_a_group_of_pods_counts_all_of_them(tmp_path: Path) -> None:
    from selfhost.workload import Split

    made = plan(split=Split(tensor=8, pipeline=2))
    sides = [load(rendered(tmp_path / name, made, target="lws"), None) for name in "ab"]
    assert compare(*sides).effects.gpus_before == 16


def test_what_is_no_longer_rendered_keeps_its_gpus(tmp_path: Path) -> None:
    effects = both(tmp_path, plan(), plan(name="other")).effects
    assert not effects.restarts
    assert (effects.gpus_before, effects.gpus_after, effects.gpus_meanwhile) == (2, 2, 4)


@pytest.mark.parametrize(
    ("kind", "spec", "down", "meanwhile"),
    [
        ("StatefulSet", {"template": "POD"}, 600, 2),
        ("StatefulSet", {"template": "POD", "replicas": 2}, 0, 4),
        ("Deployment", {"template": "POD"}, 0, 4),
        ("LeaderWorkerSet", {"leaderWorkerTemplate": {"size": 1, "workerTemplate": "POD"}}, 600, 2),
        ("InferenceService", {"predictor": {"minReplicas": 3, "containers": "CONTAINERS"}}, 0, 8),
        (
            "InferenceService",
            {"predictor": {"containers": "CONTAINERS", "deploymentStrategy": {"type": "Recreate"}}},
            600,
            2,
        ),
    ],
)
def test_kinds_replace_their_pods_as_they_do(kind: str, spec: Any, down: int, meanwhile: int) -> None:
    """A StatefulSet and a LeaderWorkerSet start no pod before the old one has ended, if nothing is said."""

    def made(image: str) -> Side:
        container = {
            "name": "server",
            "image": image,
            "resources": {"limits": {"nvidia.com/gpu": "2"}},
            "startupProbe": {"periodSeconds": 10, "failureThreshold": 60},
        }
        text = json.dumps({"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec})
        text = text.replace('"POD"', json.dumps({"spec": {"containers": [container]}}))
        value = json.loads(text.replace('"CONTAINERS"', json.dumps([container])))
        return Side(name=image, plan=None, objects={(kind, "", "x"): value})

    effects = compare(made("a"), made("b")).effects
    assert effects.restarts
    assert effects.downtime_seconds == down
    assert effects.gpus_meanwhile == meanwhile


def test_two_charts_are_compared_by_their_plans(tmp_path: Path) -> None:
    sides = [
        load(rendered(tmp_path / made.name, made, target="helm"), None) for made in (plan(), plan(name="b"))
    ]
    assert found(compare(*sides))["name"] == ("qwen3-32b", "b")


DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "x"},
    "spec": {
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "server",
                        "args": ["model", "--port=8000", "--enforce-eager"],
                        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                        "resources": {"limits": {"memory": "1Gi", "cpu": "2"}},
                    }
                ]
            }
        }
    },
}


def changed(**fields: Any) -> dict[str, Any]:
    other = copy.deepcopy(DEPLOYMENT)
    other["spec"]["template"]["spec"]["containers"][0] |= fields
    return other


@pytest.mark.parametrize(
    "fields",
    [
        {"args": ["model", "--enforce-eager", "--port", "8000"]},
        {"env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]},
        {"resources": {"limits": {"memory": "1024Mi", "cpu": "2000m"}}},
        {"lifecycle": None},
    ],
)
def test_what_says_the_same_is_the_same(fields: dict[str, Any]) -> None:
    assert list(differences(DEPLOYMENT, changed(**fields))) == []


def test_a_field_is_named_by_its_path() -> None:
    (one,) = differences(DEPLOYMENT, changed(args=["model", "--port=8001", "--enforce-eager"]))
    assert (one.path, one.old, one.new) == (
        "spec.template.spec.containers[server].args[--port]",
        "8000",
        "8001",
    )
    (gone,) = differences(DEPLOYMENT, changed(env=[{"name": "A", "value": "1"}]))
    assert (gone.path.rpartition("containers")[2], gone.old, gone.new) == ("[server].env[B].value", "2", None)


def test_secrets_are_not_shown() -> None:
    old: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "k"},
        "data": {"key": "c2VjcmV0"},
    }
    (field,) = differences(old, old | {"data": {"key": "b3RoZXI="}})
    assert "c2VjcmV0" not in f"{field}"
    assert "b3RoZXI=" not in f"{field}"


@pytest.mark.parametrize(
    "fields",
    [
        {"args": ["--api-key", "MINE"]},
        {"args": ["--hf-token=MINE"]},
        {"env": [{"name": "HF_TOKEN", "value": "MINE"}]},
        {"env": [{"name": "PROXY", "value": "http://me:MINE@proxy:3128"}]},
    ],
)
def test_secrets_outside_of_secrets_are_not_shown(fields: dict[str, Any]) -> None:
    sides = [
        json.loads(json.dumps(changed(**fields)).replace("MINE", text)) for text in ("mine-1234", "mine-5678")
    ]
    (field,) = differences(*sides)
    assert "mine" not in f"{field}"


def test_names_that_only_sound_like_secrets_are_shown() -> None:
    (field,) = differences(
        changed(args=["--max-num-batched-tokens=1"]), changed(args=["--max-num-batched-tokens=2"])
    )
    assert (field.old, field.new) == ("1", "2")
    one, other = (changed(env=[{"name": "HF_TOKEN_PATH", "value": text}]) for text in ("/a", "/b"))
    (field,) = differences(one, other)
    assert (field.old, field.new) == ("/a", "/b")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1000),
        ("1500m", 1500),
        ("1Gi", 1000 << 30),
        ("0.5", 500),
        (2, 2000),
        ("x", None),
        (True, None),
        ("", None),
    ],
)
def test_quantities(text: Any, expected: int | None) -> None:
    assert milli(text) == expected


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=4))
def test_anything_is_the_same_as_itself(value: dict[str, Any]) -> None:
    assert list(differences(value, copy.deepcopy(value))) == []


def run(*words: str, stdin: str | None = None) -> Any:
    return CliRunner().invoke(command, [*words], input=stdin, standalone_mode=False)


def test_the_command_says_it_and_ends_as_asked(tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    write_plan(plan(), old)
    write_plan(plan(tensor=4), new)
    done = run(str(old), str(new), "--exit-code")
    assert done.return_value == 5
    assert "The pods are made anew" in done.output
    assert "--tensor-parallel-size" in done.output
    assert max(map(len, done.output.splitlines())) <= 80
    assert run(str(old), str(old), "--exit-code").return_value == 0
    facts = json.loads(run(str(old), str(new), "--json").output)
    assert facts["effects"]["gpus_after"] == 4


def test_a_stream_of_objects_is_a_side(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(yaml.safe_dump(DEPLOYMENT), encoding="utf-8")
    other = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": [changed(args=["x"])]})
    done = run(str(file), "-", stdin=other)
    assert "args[1]" in done.output


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    old, objects, nothing = tmp_path / "old.json", tmp_path / "a.yaml", tmp_path / "n.yaml"
    write_plan(plan(), old)
    objects.write_text(yaml.safe_dump(DEPLOYMENT), encoding="utf-8")
    nothing.write_text("a: 1\n", encoding="utf-8")
    for words in (
        (str(old), str(objects)),
        (str(old), str(nothing)),
        (str(old), str(tmp_path / "absent")),
        ("-", "-"),
    ):
        done = run(*words)
        assert isinstance(done.exception, UsageError)
        assert done.exception.hint


def test_bytes_in_lines_are_the_same_bytes_and_are_not_printed() -> None:
    one: dict[str, Any] = {"kind": "ConfigMap", "binaryData": {"a.pyz": "QUJD\nREVG\n"}}
    assert list(differences(one, {"kind": "ConfigMap", "binaryData": {"a.pyz": "QUJDREVG"}})) == []
    (field,) = differences(one, {"kind": "ConfigMap", "binaryData": {"a.pyz": "QUJDREVGR0hJ"}})
    assert (field.old, field.new) == ("8 characters of base64", "12 characters of base64")


@pytest.mark.parametrize("target", ["compose", "systemd", "helm"])
def test_files_that_are_no_objects_are_compared(tmp_path: Path, target: str) -> None:
    made = plan(tensor=2)
    other = replace(made, engine=replace(made.engine, port=9000))
    sides = [
        load(rendered(tmp_path / name, one, target=target), None)
        for name, one in (("a", made), ("b", made), ("c", other))
    ]
    assert compare(sides[0], sides[1]).same
    report = compare(sides[0], sides[2])
    assert {one.kind for one in report.objects} & {"Compose file", "systemd unit", "values file"}
    assert report.effects.restarts


def test_an_option_of_one_box_is_a_difference(tmp_path: Path) -> None:
    bound = RenderOptions(box=BoxOptions(bind="0.0.0.0"))
    sides = [
        load(rendered(tmp_path / name, plan(), asked, target="compose"), None)
        for name, asked in (("a", RenderOptions()), ("b", bound))
    ]
    report = compare(*sides)
    assert [one.kind for one in report.objects] == ["Compose file"]
    assert report.effects.restarts


def test_a_chart_s_output_is_the_same_as_the_manifests(tmp_path: Path) -> None:
    program = helm()
    folder = rendered(tmp_path / "plain", plan())
    chart = rendered(tmp_path / "helm", plan(), target="helm")
    done = subprocess.run(
        [program, "template", "qwen3-32b", f"{chart}/chart", "-f", f"{chart}/values.yaml"],
        capture_output=True, text=True, check=True, timeout=50,
    )  # fmt: skip
    (tmp_path / "all.yaml").write_text(done.stdout, encoding="utf-8")
    report = compare(load(folder, None), load(str(tmp_path / "all.yaml"), None))
    assert [(one.kind, one.name, one.change) for one in report.objects] == []

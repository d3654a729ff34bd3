"""values.schema.json: as its types and templates make it, closed to the leaves, and deaf to no fault of a hand."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from selfhost.manifests import RenderOptions
from selfhost.manifests.chart import values_schema
from selfhost.manifests.chart.contents import uses
from selfhost.manifests.options.access import AccessOptions
from tests.charts import chart, objects_of, template, values_of
from tests.plans import plan

CHART = Path(__file__).parent.parent / "charts/selfhost"


def nodes(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of the schema with its path."""
    for name, below in schema.get("properties", {}).items():
        yield f"{path}.{name}", below
        yield from nodes(below, f"{path}.{name}")
    for below in (schema.get("items"), *schema.get("patternProperties", {}).values()):
        if below is not None:
            yield f"{path}[]", below
            yield from nodes(below, f"{path}[]")


def kinds(node: Any) -> set[str]:
    return {node["type"]} if isinstance(node["type"], str) else set(node["type"])


class TestSchema:
    def test_is_the_committed_one(self) -> None:
        committed = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
        assert committed == json.loads(json.dumps(values_schema())), "`make docs` writes it"

    def test_is_a_schema(self) -> None:
        Draft7Validator.check_schema(dict(values_schema()))

    def test_every_value_is_described(self) -> None:
        for path, node in nodes(values_schema()):
            words = node["description"]
            assert len(words) >= 10, path
            assert words.endswith("."), path

    def test_is_closed_to_the_leaves(self) -> None:
        for path, node in [("", values_schema()), *nodes(values_schema())]:
            assert kinds(node) <= {"object", "array", "string", "integer", "boolean", "null"}, path
            if "object" in kinds(node):
                assert node["additionalProperties"] is False, path
                assert bool(node.get("properties")) != bool(node.get("patternProperties")), path
                for key in node.get("patternProperties", ()):
                    assert key.startswith("^"), path
                    assert key.endswith("$"), path
            if "array" in kinds(node):
                assert "items" in node, path
            if "integer" in kinds(node):
                assert {"minimum", "maximum"} <= set(node), path

    def test_every_condition_holds_for_something(self) -> None:
        said = [rule["$comment"] for rule in values_schema()["allOf"]]
        assert len(said) == len(set(said)) >= 6

    def test_what_is_there_may_be_taken_away_with_null(self) -> None:
        for path, node in nodes(values_schema()):
            if "null" in kinds(node) and "enum" in node:
                assert None in node["enum"], path


@cache
def good() -> Any:
    """Values with most of what there is: three replicas, a download, a key and a way in."""
    options = RenderOptions(
        gateway_namespace="ingress",
        access=AccessOptions(api_key_secret="keys", expose="ingress", host="llm.example.org"),
    )
    return yaml.safe_load(values_of(plan(replicas=3), options))


def at(path: str, change: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Change what stands at a path (`a.0.b`)."""

    def apply(values: Any) -> None:
        *above, last = [int(word) if word.isdigit() else word for word in path.split(".")]
        for word in above:
            values = values[word]
        values[last] = change(values[last] if isinstance(last, int) or last in values else None)

    return apply


def put(path: str, value: Any) -> Callable[[Any], None]:
    return at(path, lambda _: value)


def rename(path: str, new: str) -> Callable[[Any], None]:
    """Misspell a key."""

    def apply(values: Any) -> None:
        *above, last = path.split(".")
        for word in above:
            values = values[int(word) if word.isdigit() else word]
        values[new] = values.pop(last)

    return apply


C = "server.containers.0"
MUTATIONS: dict[str, tuple[Callable[[Any], None], tuple[str, ...]]] = {
    # a typo at every level
    "root": (rename("replicas", "replica"), ("replica",)),
    "new key": (put("nodeSelector", {}), ("nodeSelector",)),
    "snake case": (put("max_surge", 0), ("max_surge",)),
    "server": (rename("server.grace", "gracePeriod"), ("/server", "gracePeriod")),
    "container": (rename(f"{C}.image", "imagee"), ("/server/containers/0", "imagee")),
    "probes": (rename(f"{C}.probes.period", "periodSeconds"), ("/server/containers/0/probes", "periodSeconds")),
    "device": (rename(f"{C}.devices.0.count", "number"), ("/server/containers/0/devices/0", "number")),
    "variable": (rename(f"{C}.env.0.value", "val"), ("/server/containers/0/env/0", "val")),
    "port": (rename(f"{C}.ports.0.number", "containerPort"), ("/server/containers/0/ports/0", "containerPort")),
    "mount": (rename(f"{C}.mounts.0.path", "mountPath"), ("/server/containers/0/mounts/0", "mountPath")),
    "volume": (rename("server.volumes.0.claim", "pvc"), ("/server/volumes/0", "pvc")),
    "empty dir": (rename("server.volumes.1.empty.size", "sizeLimit"), ("/server/volumes/1/empty", "sizeLimit")),
    "node rule": (rename("server.nodes.0.values", "value"), ("/server/nodes/0", "value")),
    "download": (rename("download.attempts", "retries"), ("/download", "retries")),
    "pod of the download": (rename("download.pod.userId", "runAsUser"), ("/download/pod", "runAsUser")),
    "storage": (rename("storage.newClaim.size", "storage"), ("/storage/newClaim", "storage")),
    "test": (rename("test.body", "payload"), ("/test", "payload")),
    # another type
    "text for a number": (put("replicas", "3"), ("/replicas", "string")),
    "number for text": (put("name", 3), ("/name",)),
    "fraction": (put("server.grace", 7.5), ("/server/grace",)),
    "number for a quantity": (put(f"{C}.cpuLimit", 8), ("/server/containers/0/cpuLimit",)),
    "bool for text": (put(f"{C}.env.0.value", True), ("/server/containers/0/env/0/value",)),
    "text for a bool": (put("server.spread", "yes"), ("/server/spread",)),
    "text for a list": (put(f"{C}.args", "--help"), ("/server/containers/0/args",)),
    "map for a list": (put("server.volumes", {"a": 1}), ("/server/volumes",)),
    "list for a map": (put("labels", [{"key": "a"}]), ("/labels",)),
    "number in a list": (put(f"{C}.args.0", 3), ("/server/containers/0/args/0",)),
    "number for a label": (put("labels", {"app.kubernetes.io/name": 1}), ("/labels/app.kubernetes.io~1name",)),
    "null for what has to be": (put("port", None), ("port",)),
    "text for a group": (put("storage", "10Gi"), ("/storage",)),
    # out of what Kubernetes takes
    "negative": (put("replicas", -1), ("/replicas", "minimum")),
    "port 0": (put("port", 0), ("/port", "minimum")),
    "port of root": (put(f"{C}.ports.0.number", 80), ("/server/containers/0/ports/0/number",)),
    "port too high": (put("port", 65536), ("/port", "maximum")),
    "no probe budget": (put(f"{C}.probes.startupFailures", 0), ("/server/containers/0/probes/startupFailures",)),
    "no time between probes": (put(f"{C}.probes.period", 0), ("/server/containers/0/probes/period",)),
    "root user": (put("server.userId", 0), ("/server/userId",)),
    "upper case name": (put("name", "Qwen"), ("/name", "pattern")),
    "name with a dot and a space": (put("server.serviceAccount", "a. b"), ("/server/serviceAccount",)),
    "namespace": (put("namespace", "a.b"), ("/namespace",)),
    "image without a tag": (put(f"{C}.image", "vllm/vllm-openai"), ("/server/containers/0/image",)),
    "digest too short": (put(f"{C}.image", "a/b:c@sha256:12"), ("/server/containers/0/image",)),
    "decimal comma": (put(f"{C}.memoryLimit", "1,5Gi"), ("/server/containers/0/memoryLimit",)),
    "unit in words": (put("server.volumes.1.empty.size", "4 GiB"), ("/server/volumes/1/empty/size",)),
    "no GPUs": (put(f"{C}.devices.0.count", "0"), ("/server/containers/0/devices/0/count",)),
    "half a GPU": (put(f"{C}.devices.0.count", "0.5"), ("/server/containers/0/devices/0/count",)),
    "variable with a blank": (put(f"{C}.env.0.name", "A B"), ("/server/containers/0/env/0/name",)),
    "relative mount": (put(f"{C}.mounts.0.path", "weights"), ("/server/containers/0/mounts/0/path",)),
    "probe without a slash": (put(f"{C}.probes.readyPath", "health"), ("/server/containers/0/probes/readyPath",)),
    "label key": (put("labels", {"a b": "c"}), ("/labels", "a b")),
    "label value": (put("labels", {"a": "-"}), ("/labels/a",)),
    "access mode": (put("storage.newClaim.accessMode", "ReadWriteSometimes"), ("/storage/newClaim/accessMode",)),
    # what contradicts itself
    "several replicas, one node": (put("storage.newClaim.accessMode", "ReadWriteOnce"), ("/storage/newClaim",)),
    "several replicas, no budget": (put("spread", False), ("/spread",)),
    "several replicas, not spread": (put("server.spread", False), ("/server/spread",)),
    "one replica, a budget": (put("replicas", 1), ("/spread",)),
    "an update that cannot begin": (put("maxUnavailable", 0), ("/maxUnavailable",)),
    "a volume of two kinds": (put("server.volumes.0.hostPath", "/weights"), ("/server/volumes/0",)),
    "a volume of no kind": (lambda values: values["server"]["volumes"][0].pop("claim"), ("/server/volumes/0",)),
    "a variable of no kind": (lambda values: values["server"]["containers"][0]["env"][0].pop("value"),
                              ("/server/containers/0/env/0", "value")),
    "a list with nothing": (put("server.nodes.0.values", []), ("/server/nodes/0/values",)),
    # what only sums say
    "grace": (put("server.grace", 15), ("server.grace", "preStop")),
    "deadline": (put("progressDeadline", 100), ("progressDeadline", "startupFailures")),
    "GPUs": (put(f"{C}.devices.0.count", "1"), ("2 GPUs", "asks for 1")),
    "mount of nothing": (put(f"{C}.mounts.0.name", "weight"), ("mounts weight",)),
    "variable twice": (at(f"{C}.env", lambda env: [*env, env[0]]), ("HOME twice",)),
    "volume twice": (at("server.volumes", lambda one: [*one, one[0]]), ("two volumes are called weights",)),
}  # fmt: skip


def refusal(name: str) -> str:
    values = copy.deepcopy(good())
    MUTATIONS[name][0](values)
    return template(json.dumps(values)).stderr


@pytest.fixture(scope="module")
def refusals() -> dict[str, str]:
    """What Helm says to each, by two processes at a time."""
    chart()
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(MUTATIONS, pool.map(refusal, MUTATIONS), strict=True))


class TestMutations:
    def test_there_are_enough(self) -> None:
        assert len(MUTATIONS) >= 50

    def test_without_one_they_are_taken(self) -> None:
        done = template(json.dumps(good()))
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize("name", MUTATIONS)
    def test_each_is_refused_with_its_field(self, name: str, refusals: dict[str, str]) -> None:
        said = refusals[name]
        assert "Error: " in said, said or "taken"
        for words in MUTATIONS[name][1]:
            assert words in said


def leaves(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Places of every text in values."""
    if isinstance(node, dict):
        for key, below in node.items():
            yield from leaves(below, (*path, key))
    elif isinstance(node, list):
        for at, below in enumerate(node):
            yield from leaves(below, (*path, at))
    elif isinstance(node, str):
        yield path


def with_texts(texts: dict[tuple[str | int, ...], str]) -> str:
    values = copy.deepcopy(good())
    for path, text in texts.items():
        _put(values, path, text)
    return yaml.dump(values)  # JSON writes two halves of a character, which Helm's YAML refuses


def _put(values: Any, path: tuple[str | int, ...], text: str) -> None:
    for word in path[:-1]:
        values = values[word]
    values[path[-1]] = text


def pointer(path: tuple[str | int, ...]) -> str:
    return "".join(f"/{str(word).replace('~', '~0').replace('/', '~1')}" for word in path)


def printed(path: tuple[str | int, ...]) -> bool:
    """Whether a value stands in an object, not in the notes alone."""
    general = tuple("[]" if isinstance(word, int) else word for word in path)
    found = uses().get(general) or uses().get((*general[:-1], "{value}"), ())
    return any(use.place and use.role == "value" for use in found)


def texts_in(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for below in node.values():
            yield from texts_in(below)
    elif isinstance(node, list):
        for below in node:
            yield from texts_in(below)
    elif isinstance(node, str):
        yield node


NAME = re.compile(r"[-.\w/:@]*")  # a name in place of another contradicts what is called by it


@settings(
    max_examples=6, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
@example("{{ .Values.name }}")
@example("\n- x: 'y\"\\ #")
@example("\x7f\x85\u2028\ufeff\uffff$(A)")
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60).filter(
        lambda text: not NAME.fullmatch(text)
    )
)
def test_any_text_in_any_value_survives_or_is_refused_with_its_field(text: str) -> None:
    asked = {path: f"{text}{at}" for at, path in enumerate(leaves(good()))}
    said = template(with_texts(asked)).stderr
    refused = set(re.findall(r"^ *- at '([^']*)': ", said, re.MULTILINE))
    taken = {path: text for path, text in asked.items() if pointer(path) not in refused}
    assert len(taken) < len(asked)
    done = template(with_texts(taken))
    assert done.returncode == 0, done.stderr
    found = set(texts_in(objects_of(done.stdout)))
    for path, text in taken.items():
        assert text in found or not printed(path), path

"""Observations: a reading is a value or a reason, and survives a recording; metric names point at fields."""

from __future__ import annotations

import dataclasses
import re
import typing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfhost.errors import SelfhostError
from selfhost.metrics import ENGINE_METRICS, GPU_METRICS, METRICS, NODE_METRICS, Metric, metric_names
from selfhost.observation import (
    EngineSnapshot,
    GpuIdentity,
    GpuSnapshot,
    Missing,
    NodeSnapshot,
    Observation,
    known,
    number,
    supported,
)
from selfhost.observation.node import SCHEMA
from selfhost.strict import decode, encode

LEAVES: dict[object, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**60), 2**60),
    float: st.floats(-1e15, 1e15, allow_nan=False),
    str: st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
    bool: st.booleans(),
    type(None): st.none(),
}


def values(kind: object) -> st.SearchStrategy[Any]:
    """Any value of a type that a recording can hold."""
    origin = typing.get_origin(kind)
    if kind in LEAVES:
        return LEAVES[kind]
    if origin is typing.Literal:
        return st.sampled_from(typing.get_args(kind))
    if origin is tuple:
        return st.lists(values(typing.get_args(kind)[0]), max_size=2).map(tuple)
    if origin is not None:
        return st.one_of([values(option) for option in typing.get_args(kind)])
    assert isinstance(kind, type)
    assert dataclasses.is_dataclass(kind)
    hints = typing.get_type_hints(kind)
    return st.fixed_dictionaries(
        {field.name: values(hints[field.name]) for field in dataclasses.fields(kind)}
    ).map(lambda found: kind(**found))


def refuse(sentence: str) -> SelfhostError:
    return SelfhostError(sentence)


@given(values(GpuSnapshot))
@settings(max_examples=60, deadline=None)
def test_any_gpu_survives_a_recording(gpu: GpuSnapshot) -> None:
    assert decode(GpuSnapshot, encode(gpu), "gpu", refuse) == gpu


@given(values(EngineSnapshot))
@settings(max_examples=40, deadline=None)
def test_any_engine_survives_a_recording(engine: EngineSnapshot) -> None:
    assert decode(EngineSnapshot, encode(engine), "engine", refuse) == engine


def test_an_observation_survives_a_recording_with_reasons_and_codes() -> None:
    lost = GpuSnapshot(
        identity=GpuIdentity(
            index=3,
            uuid="GPU-3f",
            pci_address="00000000:18:00.0",
            name="H100",
            serial=Missing(missing="no", code=3),
        ),
        fault=Missing(missing="fell off the bus", code=15),
    )
    seen = Observation(schema=SCHEMA, at=1.5, node=NodeSnapshot(host="n1", gpus=(lost,)))
    data = encode(seen)
    assert decode(Observation, data, "observation", refuse) == seen
    assert isinstance(data, dict)
    assert data["node"]["gpus"][0]["fault"] == {"missing": "fell off the bus", "code": 15}


def test_a_reading_of_another_type_is_refused_by_name() -> None:
    data = encode(GpuIdentity(index=0, uuid="GPU-1", pci_address="0", name="H100", pcie_max_width=16))
    assert isinstance(data, dict)
    for wrong, sentence in (
        ("sixteen", "identity.pcie_max_width must be"),
        ({"mising": "x"}, "pcie_max_width"),
    ):
        with pytest.raises(SelfhostError) as caught:
            decode(GpuIdentity, {**data, "pcie_max_width": wrong}, "identity", refuse)
        assert sentence in caught.value.message


def test_missing_tells_absent_from_failed() -> None:
    absent, failed = Missing(missing="not supported", code=3), Missing(missing="unknown error", code=999)
    assert absent.absent
    assert not failed.absent
    assert not Missing(missing="not read yet").absent
    assert (known(5), known(absent), number(5), number(absent)) == (True, False, 5, None)
    assert (supported(5), supported(absent), supported(failed)) == (True, False, True)


SCOPES = {"gpu": GpuSnapshot, "engine": EngineSnapshot, "node": NodeSnapshot}
UNITS = re.compile(
    r"(_bytes|_seconds|_celsius|_watts|_joules|_hertz|_ratio)(_total)?$"
    r"|_(total|info|up|level|active|enabled|pending|failed|action|state|generation|lanes|healthy|wedged|gpus|expected)$"
    r"|_(generation_max|lanes_max|requests_running|requests_waiting)$"
)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_metrics_are_well_formed(metric: Metric) -> None:
    """Prometheus' naming conventions: a prefix, base units, `_total` for counters alone."""
    assert re.fullmatch(r"selfhost_[a-z][a-z0-9_]*", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.name.endswith("_info") == (metric.kind == "info")
    assert metric.help.endswith(".")
    assert UNITS.search(metric.name) or metric.name == "selfhost_gpus", "a unit, or what is counted"


@pytest.mark.parametrize("metric", [m for m in METRICS if m.path], ids=lambda metric: metric.name)
def test_metrics_point_at_readings(metric: Metric) -> None:
    kind: Any = SCOPES[metric.scope]
    assert metric.path is not None
    for name in metric.path.split("."):
        hints = typing.get_type_hints(kind)
        assert name in hints, f"{kind} has no {name}"
        kind = hints[name]


def test_metric_names_are_unique() -> None:
    assert len(GPU_METRICS + ENGINE_METRICS + NODE_METRICS) == len(metric_names())
    dcgm = [metric.dcgm.name for metric in METRICS if metric.dcgm]
    assert len(set(dcgm)) == len(dcgm)
    assert metric_names() < metric_names(dcgm=True)

"""Conditions on several values of a chart at once, so that a file edited by hand cannot contradict itself.

JSON Schema says what follows from one value for another; templates/helm/_checks.tpl checks sums and differences.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from selfhost.manifests.pod import Container, PodView, Variable, Volume

Schema = dict[str, Any]
# What a group of a type has to be, beside its fields.
ALONE: Mapping[type[Any], Schema] = {
    Volume: {"minProperties": 2, "maxProperties": 2},  # its name and one kind
    PodView: {"allOf": [{"properties": {"userId": {"minimum": 1}}}]},
    Container: {  # root is said aloud, with its reason
        "if": {"properties": {"asRoot": {"type": "null"}}},
        "then": {"properties": {"userId": {"minimum": 1}}},
    },
    Variable: {
        "if": {"not": {"anyOf": [{"required": ["secret"]}, {"required": ["podField"]}]}},
        "then": {"required": ["name", "value"]},
    },
}
_SHARED = ["ReadWriteMany", "ReadOnlyMany"]


def conditions(properties: Mapping[str, Any]) -> list[Schema]:
    """Conditions whose values the chart has.

    Args:
        properties: of the values' schema.
    """
    return [made for made in _all() if all(_known(one, properties) for one in (made["if"], made["then"]))]


def _all() -> Iterator[Schema]:
    several, one = {"replicas": {"minimum": 2}}, {"replicas": {"maximum": 1}}
    yield _when(
        "several replicas are spread, and a PodDisruptionBudget guards them",
        several,
        {"spread": {"const": True}},
    )
    yield _when("several replicas are spread over nodes", several, _at("server.spread", {"const": True}))
    yield _when(
        "a PodDisruptionBudget of one replica would keep its node from being drained",
        one,
        {"spread": {"const": False}},
    )
    yield _when(
        "several replicas share the weights", several, _at("storage.newClaim.accessMode", {"enum": _SHARED})
    )
    yield _when(
        "an update has to be able to begin", {"maxSurge": {"const": 0}}, {"maxUnavailable": {"minimum": 1}}
    )
    yield _when(
        "a new pod beside the old one shares its weights",
        {"maxSurge": {"minimum": 1}},
        _at("storage.newClaim.accessMode", {"enum": _SHARED}),
    )
    yield _when(
        "an update must not stop more pods than there are",
        one,
        {"maxUnavailable": {"maximum": 1}},
    )


def _when(because: str, test: Schema, then: Schema) -> Schema:
    return {
        "$comment": because,
        "if": {"properties": test, "required": list(test)},
        "then": {"properties": then},
    }


def _at(path: str, rule: Schema) -> Schema:
    """Properties that lead down to a value, where what is on the way is there."""
    first, _, rest = path.partition(".")
    return {first: {"properties": _at(rest, rule)} if rest else rule}


def _known(rule: Mapping[str, Any], properties: Mapping[str, Any]) -> bool:
    for key, below in rule.get("properties", {}).items():
        if key not in properties or not _known(below, properties[key].get("properties", {})):
            return False
    return True

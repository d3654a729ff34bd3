"""Configurations for tests, as a directory would give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfhost.model.parse import parse_model
from selfhost.model.raw import RawModel
from selfhost.model.spec import ModelSpec


def raw(config: Mapping[str, object], **more: Any) -> RawModel:
    return RawModel(
        reference="test", id="test", revision=None, origin="directory", source="test", config=config, **more
    )


def parse(config: Mapping[str, object], **more: Any) -> ModelSpec:
    return parse_model(raw(config, **more))

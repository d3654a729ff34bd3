"""Bundled models for tests, parsed once."""

from __future__ import annotations

from functools import cache

from selfhost.catalog.models import load
from selfhost.model.parse import parse_model
from selfhost.model.raw import RawModel
from selfhost.model.spec import ModelSpec


@cache
def bundled(model_id: str) -> ModelSpec:
    """A model of the catalogue, by its id."""
    model = load(model_id)
    raw = RawModel(
        reference=model.id,
        id=model.id,
        revision=None,
        origin="catalogue",
        source=model.entry.source,
        config=model.config,
        licence=model.entry.licence,
    )
    return parse_model(raw)

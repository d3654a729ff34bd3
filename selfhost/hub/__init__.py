"""Where a model comes from: the Hub, a directory, a GGUF file or the bundled catalogue, behind one reference syntax."""

from __future__ import annotations

from selfhost.hub.load import load_model
from selfhost.hub.references import Reference, parse_reference

__all__ = ["Reference", "load_model", "parse_reference"]

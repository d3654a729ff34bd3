"""What an edge hands over about a model, before anybody has understood it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from selfhost.licence import Declared  # sizing does without

Origin = Literal["hub", "directory", "gguf", "catalogue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorHeader:
    """One stored tensor: its name, canonical dtype (`dtypes.BITS`), shape in elements and bytes on disk."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RawModel:
    """A model as it was found.

    Args:
        reference: what the user wrote.
        id: repository id, or the directory's or file's name.
        revision: resolved commit, None where there is none.
        origin: which kind of place answered.
        source: where exactly (URL, path, or the catalogue's own source line), for the output.
        config: config.json, or the equivalent built from a GGUF header.
        quantization: hf_quant_config.json or quantize_config.json where config.json does not carry it.
        tensors: headers of the weights that would be loaded, None when only a configuration is known.
        pooling: the repository declares sentence-transformers modules.
        licence: licence id as the origin states it.
        declared: everything that the origin states of licence and access, None where `licence` is all of it.
        repository: where the files are from, None where nothing says it.
    """

    reference: str
    id: str
    revision: str | None
    origin: Origin
    source: str
    config: Mapping[str, object]
    quantization: Mapping[str, object] | None = None
    tensors: tuple[TensorHeader, ...] | None = None
    pooling: bool = False
    licence: str | None = None
    declared: Declared | None = None
    repository: str | None = None

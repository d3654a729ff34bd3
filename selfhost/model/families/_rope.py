"""Rotary tables: how many elements each cos/sin cache has, by the scaling that the configuration asks for.

vLLM 0.32 builds one table per distinct (dimension, positions, parameters) and shares it between layers
(layers/rotary_embedding/__init__.py `get_rope`, `_ROPE_DICT`).
"""

from __future__ import annotations

from collections.abc import Mapping

from selfhost.model.config import Config
from selfhost.model.modules import Buffer

# transformers' names of layer types, under which `rope_parameters` may be nested (configuration_utils.py).
LAYER_TYPES = (
    "full_attention",
    "sliding_attention",
    "chunked_attention",
    "linear_attention",
    "sparse_attention",
)
_SCALED_BY_ORIGINAL = ("yarn", "telechat3-yarn", "deepseek_yarn", "deepseek_llama_scaling")


def parameters(config: Config, layer_type: str | None = None) -> Config:
    """The rotary parameters of one layer type, from `rope_parameters` or the older `rope_scaling`.

    Top-level `rope_theta` and `partial_rotary_factor` fill what the section leaves out, as transformers standardizes
    them (modeling_rope_utils.py `standardize_rope_params`).
    """
    section = config.optional_section("rope_scaling", "rope_parameters")
    if section is None:
        section = Config({}, config.name("rope_parameters"))
    if any(isinstance(section.data.get(name), Mapping) for name in LAYER_TYPES):
        found = section.optional_section(layer_type) if layer_type else None
        section = found if found is not None else Config({}, section.path)
    top: dict[str, object] = {}
    for field, names in (
        ("rope_theta", ("rope_theta", "rotary_emb_base")),
        ("partial_rotary_factor", ("partial_rotary_factor", "rotary_pct", "rotary_emb_fraction")),
    ):
        for name in names:
            if config.has(name):
                top[field] = config.data[name]
                break
    return Config({**top, **section.data}, section.path)


def rotary_elements(given: Config, head_dim: int, *, share: float = 1.0) -> int:
    """Elements of a head that rotate: `rope_dim`, or the head's share `partial_rotary_factor`."""
    dim = given.int("rope_dim", default=0, minimum=0)
    if dim:
        return dim
    factor = given.float("partial_rotary_factor", default=share)
    if not 0 < factor <= 1:
        raise given.error("partial_rotary_factor", f"is {factor:g}, outside 0 to 1")
    return int(head_dim * factor)


def table(
    config: Config,
    head_dim: int,
    positions: int,
    *,
    given: Config | None = None,
    share: float = 1.0,
    dtype: str = "model",
    name: str = "rotary cos/sin",
    mrope_factor: int = 4,
) -> Buffer:
    """One cos/sin table.

    `head_dim` is the width of a head, of which a share rotates: the configuration's, else `share`. `positions` is the
    longest context. `given` are the rotary parameters where they are not the configuration's own. Multimodal positions
    run `mrope_factor` times further than tokens (rotary_embedding/mrope.py:347-351).
    """
    given = parameters(config) if given is None else given
    kind = given.str("rope_type", "type", default="default")
    width = rotary_elements(given, head_dim, share=share)
    rows = positions
    if kind in _SCALED_BY_ORIGINAL:
        original = config.int("original_max_position_embeddings", default=None)
        original = original or given.int("original_max_position_embeddings", default=positions)
        rows = _scaled(given, original)
    elif kind in ("longrope", "su"):
        original = config.int("original_max_position_embeddings", default=None)
        rows = positions + (original or given.int("original_max_position_embeddings", default=positions))
    elif kind == "linear":
        rows = _scaled(given, positions)
    elif kind == "proportional":
        width = head_dim
    if given.has("mrope_section") and kind in ("default", "mrope", "yarn"):
        rows *= mrope_factor
    return Buffer(name=name, elements=rows * width, dtype=dtype)


def _scaled(given: Config, rows: int) -> int:
    factor = given.float("factor", default=1.0)
    if not 0 < factor <= 1 << 20:
        raise given.error("factor", f"is {factor:g}, not a sensible scaling")
    return -(-int(rows * factor * 1000) // 1000)


def tables(
    config: Config, dims: Mapping[str, int], positions: int, *, share: float = 1.0
) -> tuple[Buffer, ...]:
    """The tables of a model whose layer types rotate differently; equal parameters share one.

    `dims` is the head width of each layer type that occurs.
    """
    known: list[tuple[int, dict[str, object]]] = []
    found: list[Buffer] = []
    for kind, dim in dims.items():
        given = parameters(config, kind)
        key = (dim, dict(given.data))
        if key not in known:
            known.append(key)
            found.append(
                table(config, dim, positions, given=given, share=share, name=f"rotary cos/sin, {kind}")
            )
    return tuple(found)

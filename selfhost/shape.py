"""ModelSpec -> ModelShape: the plain widths from which the engine's activation peak follows."""

from __future__ import annotations

from selfhost.attention import (
    GatedDeltaState,
    KimiDeltaState,
    LinearState,
    Mamba1State,
    Mamba2State,
    ShortConvState,
)
from selfhost.dtypes import itemsize
from selfhost.model.modules import Block, Embedding, Experts, Matrix
from selfhost.model.spec import ModelSpec
from selfhost.reserves import ModelShape

_RECURRENT = (GatedDeltaState, KimiDeltaState, LinearState, Mamba1State, Mamba2State, ShortConvState)


def _rows(item: Matrix) -> int:
    return sum(part.units * part.unit for part in item.parts)


def _distinct(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    return tuple({id(block): block for block in blocks}.values())


def shape_of(spec: ModelSpec, *, language_model_only: bool = False) -> ModelShape:
    """The widths of the widest layers, unsharded.

    Args:
        spec: the model.
        language_model_only: leave the towers out.
    """
    facts = spec.facts
    query = kv = dense = shared = latent_up = recurrent = inner = experts = 0
    for block in _distinct(spec.layers):
        is_recurrent = any(isinstance(kind, _RECURRENT) for kind in block.keeps)
        for item in block.items:
            if isinstance(item, Experts):
                inner, experts = max(inner, item.intermediate), max(experts, item.count)
            elif isinstance(item, Matrix):
                rows = _rows(item)
                leaf = item.name.rpartition(".")[2]
                if leaf == "qkv_proj" and len(item.parts) == 3:
                    query = max(query, item.parts[0].units * item.parts[0].unit)
                    kv = max(kv, item.parts[1].units * item.parts[1].unit)
                elif leaf in ("q_b_proj", "q_proj"):
                    query = max(query, rows)
                elif leaf == "kv_b_proj":
                    latent_up = max(latent_up, rows)
                elif is_recurrent and item.division == "column":
                    recurrent = max(recurrent, rows)
                elif "shared" in item.name and item.division == "row":
                    shared = max(shared, item.inputs)
                elif item.division == "row" and "attn" not in item.name and "attention" not in item.name:
                    dense = max(dense, item.inputs)
    if not query:
        query, kv = facts.heads * facts.head_dim, facts.kv_heads * facts.head_dim
    return ModelShape(
        architecture=spec.architecture,
        hidden_size=facts.hidden_size,
        num_layers=max(1, len(spec.layers)),
        query_width=query,
        kv_width=kv,
        intermediate_size=dense or facts.intermediate_size,
        vocab_size=_vocabulary(spec),
        dtype_bytes=itemsize(spec.dtype),
        num_experts=experts,
        experts_per_token=facts.experts_per_token,
        moe_intermediate_size=inner,
        shared_intermediate_size=shared,
        latent_up_width=latent_up,
        recurrent_width=recurrent,
        quantization=spec.scheme.id if spec.scheme else None,
        pooling=facts.pooling or facts.encoder_only,
        hybrid=bool(recurrent),
        vision=None if language_model_only else facts.image_encoder,
    )


def _vocabulary(spec: ModelSpec) -> int:
    for item in (*spec.last.items, *spec.first.items):
        if isinstance(item, Embedding) and item.divided:
            return item.rows
    return spec.facts.vocab_size

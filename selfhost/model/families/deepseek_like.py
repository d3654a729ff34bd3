"""Models that vLLM runs with DeepSeek V3's shape under names of their own: A.X K1 and Mistral Large 3."""

from __future__ import annotations

from dataclasses import replace

from selfhost.model.config import Config
from selfhost.model.families.common import Builder, Draught, norm
from selfhost.model.families.deepseek import deepseek_v3, latent_moe
from selfhost.model.modules import Item


def axk1(config: Config) -> Draught:
    """AXK1ForCausalLM: with a correction bias unless `topk_method` says otherwise, and a norm behind the MLP.

    vLLM 0.32 models/AXK1.py.
    """
    one = latent_moe(Config({"topk_method": "noaux_tc", **config.data}, config.path), sparse=False)
    extra = norm("post_mlp_layernorm", one.facts.hidden_size)
    known: dict[int, tuple[Item, ...]] = {}
    layers = tuple(
        replace(block, items=known.setdefault(id(block.items), (*block.items, extra))) for block in one.layers
    )
    return replace(one, layers=layers)


ARCHITECTURES: dict[str, Builder] = {
    "AXK1ForCausalLM": axk1,
    # A DeepSeek V3 with the weights' names of Mistral's own format (models/mistral_large_3.py).
    "MistralLarge3ForCausalLM": deepseek_v3,
}

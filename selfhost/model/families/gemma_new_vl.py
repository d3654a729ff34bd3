"""Gemma 4's descendants: DiffusionGemma, which denoises blocks of tokens, and EmbeddingGemma 2."""

from __future__ import annotations

from dataclasses import replace

from selfhost.model.config import Config
from selfhost.model.families._pooling import without_head
from selfhost.model.families.common import Builder, Draught, norm, whole
from selfhost.model.families.gemma_vl import gemma4_towers
from selfhost.model.families.multimodal import language, plain, text_config, with_towers
from selfhost.model.modules import Embedding


def diffusion_gemma(config: Config) -> Draught:
    """DiffusionGemmaForBlockDiffusion: Gemma 4 and layers that feed a denoising step's guess into the next.

    models/diffusion_gemma.py:160-260; the states of running requests are not part of the weights.
    """
    section = text_config(config, model_type="diffusion_gemma_text", outer_tie=True)
    # Its text class has no second embedding, no shared caches and no wider MLPs (transformers 5.19).
    absent = {"hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0, "use_double_wide_mlp": False}
    section = Config({**section.data, **absent, "attention_k_eq_v": True}, section.path)
    draught = language(
        section, "Gemma4ForCausalLM", prefixes=("model.decoder", "model.encoder.language_model", "model")
    )
    hidden = draught.facts.hidden_size
    inner = config.int("self_conditioning_size", default=draught.facts.intermediate_size)
    condition = (
        norm("self_conditioning.pre_norm", hidden),
        plain("self_conditioning.gate_and_up_proj", inner, hidden, bias=False, copies=2),
        plain("self_conditioning.down_proj", hidden, inner, bias=False),
    )
    draught = replace(draught, last=replace(draught.last, items=(*draught.last.items, *condition)))
    towers, buffers, modality = gemma4_towers(config, hidden, audio=False)
    return with_towers(draught, towers, modality=modality, buffers=buffers)


def embedding_gemma2(config: Config) -> Draught:
    """EmbeddingGemma2Model: Gemma 4's layers looking both ways, no second embedding, a projection at the end.

    models/embedding_gemma2.py:95-440.
    """
    section = text_config(config, model_type="embedding_gemma2_text")
    data = {
        "hidden_size_per_layer_input": 512, "num_global_key_value_heads": 1, **section.data,
        "attention_k_eq_v": True, "use_bidirectional_attention": "all", "tie_word_embeddings": True,
    }  # fmt: skip
    section = Config(data, section.path)
    draught = without_head(
        language(section, "Gemma4ForCausalLM", prefixes=("language_model", "model.language_model"))
    )
    hidden = draught.facts.hidden_size
    # The language model is named without `model.`, and the per-layer input comes from the tokens' only embedding.
    kept = tuple(
        item
        for item in draught.first.items
        if not (isinstance(item, Embedding) and item.name == "embed_tokens_per_layer")
    )
    projection = whole("embedding_projection", section.int("embedding_dim", default=768), hidden)
    draught = replace(
        draught,
        first=replace(draught.first, items=kept),
        last=replace(draught.last, items=(*draught.last.items, projection)),
        facts=replace(draught.facts, pooling=True),
    )
    towers, buffers, modality = gemma4_towers(config, hidden, audio=True)
    return with_towers(draught, towers, modality=modality, buffers=buffers)


ARCHITECTURES: dict[str, Builder] = {
    "DiffusionGemmaForBlockDiffusion": diffusion_gemma,
    "EmbeddingGemma2Model": embedding_gemma2,
}

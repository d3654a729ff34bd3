"""Decoders made into embedders, rankers and reward models with heads of their own (other conversions: _pooling.py)."""

from __future__ import annotations

from dataclasses import replace

from selfhost.model.config import Config
from selfhost.model.families._pooling import score, without_head
from selfhost.model.families.common import Builder, Draught, column, row, whole
from selfhost.model.families.deepseek import deepseek_v3
from selfhost.model.families.encoder import head_dtype
from selfhost.model.families.hybrid import lfm2
from selfhost.model.families.llama import llama, qwen2, qwen3
from selfhost.model.modules import Item


def _both_ways(config: Config) -> Config:
    """The configuration of a model whose attention goes both ways, hence keeps nothing."""
    return config.replaced(is_causal=False)


def llama_both_ways(config: Config) -> Draught:
    """LlamaBidirectionalModel (Llama-Nemotron embeddings)."""
    return without_head(llama(_both_ways(config)))


def llama_ranker(config: Config) -> Draught:
    """LlamaBidirectionalForSequenceClassification (Llama-Nemotron rerankers)."""
    draught = llama(_both_ways(config))
    return without_head(draught, score(config, draught.facts.hidden_size))


def voyage(config: Config) -> Draught:
    """VoyageQwen3BidirectionalEmbedModel: Qwen3 both ways, then one projection."""
    draught = qwen3(_both_ways(config))
    width = config.int("num_labels")
    return without_head(draught, whole("linear", width, draught.facts.hidden_size, quantizable=False))


def jina_ranker(config: Config) -> Draught:
    """JinaForRanking: Qwen3 and a projector to 512 (models/jina.py:55-67, models/config.py:555-558)."""
    draught = qwen3(config)
    half = draught.facts.hidden_size // 2
    return without_head(
        draught,
        whole("projector.0", half, draught.facts.hidden_size, quantizable=False),
        whole("projector.2", 512, half, quantizable=False),
    )


def jina_embeddings(config: Config) -> Draught:
    """JinaEmbeddingsV5Model: Qwen3, or a Llama both ways where `is_decoder` is false."""
    if config.bool("is_decoder", default=True):
        return without_head(qwen3(config))
    return llama_both_ways(config)


def _reward(config: Config, outputs: int) -> Draught:
    """Qwen2 with a two-layer score, divided over ranks (models/qwen2_rm.py:48-68)."""
    draught = qwen2(config)
    hidden, dtype = draught.facts.hidden_size, head_dtype(config)
    layers: tuple[Item, ...] = (
        replace(column("score.0", hidden, hidden, bias=True), dtype=dtype),
        replace(row("score.2", outputs, hidden, bias=True), dtype=dtype),
    )
    return without_head(draught, *layers)


def qwen2_reward(config: Config) -> Draught:
    """Qwen2ForRewardModel: one number per sequence."""
    return _reward(config, 1)


def qwen2_process_reward(config: Config) -> Draught:
    """Qwen2ForProcessRewardModel: two numbers per step."""
    return _reward(config, 2)


def lfm2_colbert(config: Config) -> Draught:
    """ColBERTLfm2Model: LFM2 and a projection."""
    draught = lfm2(config)
    projection = whole(
        "colbert_linear", config.int("colbert_dim", "dim", "projection_dim", default=128), draught.facts.hidden_size,
        dtype=head_dtype(config), quantizable=False,
    )  # fmt: skip
    return without_head(draught, projection)


ARCHITECTURES: dict[str, Builder] = {
    "ColBERTLfm2Model": lfm2_colbert,
    # Registered under the generation class, so the head stays.
    "DeepseekV3BidirectionalModel": deepseek_v3,
    "JinaEmbeddingsV5Model": jina_embeddings,
    "JinaForRanking": jina_ranker,
    "LlamaBidirectionalForSequenceClassification": llama_ranker,
    "LlamaBidirectionalModel": llama_both_ways,
    "Qwen2ForProcessRewardModel": qwen2_process_reward,
    "Qwen2ForRewardModel": qwen2_reward,
    "VoyageQwen3BidirectionalEmbedModel": voyage,
}

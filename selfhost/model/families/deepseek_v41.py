"""DeepSeek V4.1: V4's windows and hyper-connections, compressed caches in a few source layers, Engram, a vision tower.

vLLM 0.32 models/deepseek_v41/{attention,compressor}.py, nvidia/model.py, common/engram.py and
deepseek_v4/common/vision.py.
The Engram tables lie in host memory (config/engram.py `cpu_offload`) and are not counted here.
"""

from __future__ import annotations

from dataclasses import replace

from selfhost.attention import Attention, V4Compressed, V4Indexer, V4Window, V41CompressorRing
from selfhost.model.config import Config
from selfhost.model.families._stack import Layer, draft_count, facts, numbered, same_items
from selfhost.model.families.common import (
    Builder,
    Draught,
    Heads,
    column,
    embedding,
    experts_item,
    gated_mlp,
    head,
    norm,
    qkv,
    rope_buffer,
    router,
    row,
    whole,
)
from selfhost.model.families.deepseek_v4 import fused_attention, v4_text
from selfhost.model.families.glm_next import hyper_connections
from selfhost.model.families.longcat import bare
from selfhost.model.modules import Block, Buffer, Item, Matrix, Part, Vector


def _compressor(name: str, width: int, hidden: int, ratio: int) -> tuple[Item, ...]:
    """Keys, and a gate where more than one token shares an entry."""
    parts = [Part(name=f"{name}.wkv", units=width)]
    if ratio > 1:
        parts.append(Part(name=f"{name}.wgate", units=width))
    return (
        Matrix(
            name=f"{name}.fused_wkv_wgate",
            parts=tuple(parts),
            inputs=hidden,
            division="none",
            quantizable=False,
        ),
        norm(f"{name}.norm", width),
    )


def _indexer(text: Config, hidden: int, *, owns_keys: bool) -> tuple[Item, ...]:
    """Only source layers of the cache make index keys; the others score those (attention.py:1310-1356)."""
    heads, dim = text.int("index_n_heads"), text.int("index_head_dim")
    items: list[Item] = [
        whole("attn.indexer.wq_b", heads * dim, text.int("q_lora_rank")),
        whole("attn.indexer.weights_proj", heads, hidden, quantizable=False),
    ]
    if owns_keys:
        items.append(whole("attn.indexer.wk", dim, text.int("head_dim"), quantizable=False))
        items.append(norm("attn.indexer.k_norm", dim))
    return tuple(items)


def _experts(text: Config, hidden: int, count: int, *, vision: bool) -> tuple[Item, ...]:
    inner = text.int("moe_intermediate_size")
    shared = text.int("n_shared_experts", default=0, minimum=0, maximum=1 << 10)
    items: list[Item] = [
        router("ffn.gate", count, hidden),
        experts_item("ffn.experts", count, hidden, inner, names=("w1", "w3", "w2")),
    ]
    if text.str("topk_method", default="") == "noaux_tc":
        items.append(Vector(name="ffn.gate.e_score_correction_bias", units=count, dtype="float32"))
    if vision:
        items.append(Vector(name="ffn.gate.bias_vl", units=count, dtype="float32"))
    if shared:
        names = ("gate_up_proj", "w1", "w3", "w2")
        items.extend(gated_mlp("ffn.shared_experts", hidden, inner * shared, names=names))
    return tuple(items)


def _engram(text: Config, hidden: int, streams: int) -> tuple[Item, ...]:
    """The projection of the looked-up rows; the tables themselves are in host memory (engram.py:1555-1572)."""
    orders = text.int("engram_max_ngram_size", minimum=2, maximum=64) - 1
    columns = orders * text.int("engram_n_heads", maximum=1 << 10) * text.int("engram_head_dim")
    return (
        column("engram.wkv", hidden * (streams + 1), columns),
        Vector(name="engram.qk_weights", units=streams, unit=hidden, dtype="bfloat16", copies=2),
    )


def _keeps(text: Config, ratio: int, *, source: bool) -> tuple[Attention, ...]:
    """Every layer has its window; source layers the compressed rows, their index keys and the compressor's ring."""
    dim = text.int("head_dim")
    kept: list[Attention] = [V4Window(head_dim=dim, window=text.int("sliding_window"), v41=True)]
    if source:
        kept.append(V4Compressed(head_dim=dim, ratio=ratio, v41=True))
        kept.append(V4Indexer(head_dim=text.int("index_head_dim"), ratio=ratio, v41=True))
        if ratio > 1:
            kept.append(V41CompressorRing(head_dim=dim))
    return tuple(kept)


def vision_tower(vision: Config, hidden: int, *, specials: int) -> tuple[Block, ...]:
    """DeepSeek V4's image encoder and its aligner, divided over ranks (deepseek_v4/common/vision.py).

    Args:
        vision: its section.
        hidden: the language model's hidden size.
        specials: learned vectors of the language model's width (image start, end, line break).
    """
    width, inner = vision.int("hidden_size", default=1024), vision.int("intermediate_size", default=2816)
    heads = vision.int("num_attention_heads", default=16, maximum=1 << 12)
    if width % heads:
        raise vision.error("hidden_size", f"is {width}, which {heads} heads do not divide")
    patch, ratio = vision.int("patch_size", default=14), vision.int("downsample_ratio", default=3)
    layer = bare(
        (
            qkv("attn.wqkv", width, heads, heads, width // heads, bias=True, names=("wqkv", "wqkv", "wqkv")),
            row("attn.wo", width, width, bias=True),
            norm("norms", width, copies=2),
            *gated_mlp("mlp", width, inner, names=("w1", "w1", "w1", "w2")),
        ),
        keep=False,
    )
    rest = bare(
        (
            Vector(name="vision.patch_embed.proj", units=width, unit=3 * patch * patch + 1),
            norm("vision.norm", width),
            column("aligner.w1", hidden, width * ratio * ratio, bias=True),
            row("aligner.w2", hidden, hidden, bias=True),
            Vector(name="image_tokens", units=hidden, dtype="float32", copies=specials),
        ),
        keep=False,
    )
    blocks = [
        Block(prefixes=(f"vision.blocks.{index}",), items=layer, tower=True)
        for index in range(vision.layers("num_hidden_layers"))
    ]
    return (*blocks, Block(prefixes=("",), items=rest, tower=True))


def deepseek_v41(config: Config) -> Draught:
    """DeepseekV41ForCausalLM: text and vision in sections of their own."""
    text = config.optional_section("text_config") or config
    vision = config.optional_section("vision_config")
    sees = vision is not None and vision.int("num_hidden_layers", default=0, minimum=0) > 0
    heads = text.int("num_attention_heads", maximum=1 << 16)
    sizes = Heads(
        hidden=text.int("hidden_size"), layers=text.layers(), heads=heads, kv_heads=1, head_dim=text.int("head_dim"),
        vocab=text.int("vocab_size"), positions=text.int("max_position_embeddings"),
    )  # fmt: skip
    hidden = sizes.hidden
    ratios = text.ints("compress_ratios")
    if len(ratios) < sizes.layers:
        raise text.error("compress_ratios", f"names {len(ratios)} layers, but there are {sizes.layers}")
    if any(ratio not in (0, 1, 2) for ratio in ratios[: sizes.layers]):
        raise text.error("compress_ratios", "holds a ratio other than 0, 1 and 2")
    sources = set(text.ints("kv_source_layer_ids", default=()))
    if any(index < sizes.layers and not ratios[index] for index in sources):
        raise text.error("kv_source_layer_ids", "names a layer without compression")
    indexed = set(text.ints("index_source_layer_ids", default=()))
    recalls = set(text.ints("engram_layer_ids", default=()))
    count = text.int("n_routed_experts", maximum=1 << 16)
    streams = text.int("hc_mult", maximum=256)

    def build(ratio: int, source: bool, index: bool, recall: bool, experts: int) -> tuple[Item, ...]:
        return (
            *fused_attention(text, hidden),
            *(_compressor("attn.compressor", sizes.head_dim, hidden, ratio) if source else ()),
            *(_indexer(text, hidden, owns_keys=source) if index else ()),
            *(_engram(text, hidden, streams) if recall else ()),
            *_experts(text, hidden, experts, vision=sees),
            *hyper_connections(hidden, streams),
            norm("norms", hidden, copies=2),
        )

    items = same_items(build)

    def layer(index: int) -> Layer:
        source = index in sources
        own = items(ratios[index] if source else 0, source, index in indexed, index in recalls, count)
        return own, _keeps(text, ratios[index], source=source)

    names = ("layers", "language_model.model.layers", "model.layers")
    table = rope_buffer(sizes.positions, text.int("qk_rope_head_dim"), dtype="float32")
    buffers = [table] * len({ratio > 0 for ratio in ratios[: sizes.layers]})
    if recalls:
        buffers.append(Buffer(name="engram token map", elements=sizes.vocab, dtype="int32"))
    draft_items = items(0, False, False, False, text.int("dspark_n_routed_experts", default=count))
    inner = text.int("moe_intermediate_size")
    return Draught(
        facts=facts(
            text, sizes, intermediate=inner, experts_per_token=text.int("num_experts_per_tok"),
            modality="text+image" if sees else "text",
        ),
        first=Block(prefixes=("model",), items=(embedding("embed_tokens", sizes.vocab, hidden),)),
        layers=numbered(names, map(layer, range(sizes.layers))),
        last=Block(prefixes=("",), items=(norm("norm", hidden), head("lm_head", sizes.vocab, hidden))),
        towers=vision_tower(vision, hidden, specials=3) if sees and vision is not None else (),
        buffers=tuple(buffers),
        draft=tuple(
            Block(prefixes=(f"mtp.{index}",), items=draft_items, keeps=_keeps(text, 0, source=False))
            for index in range(draft_count(text))
        ),
    )  # fmt: skip


def deepseek_v4_vision(config: Config) -> Draught:
    """DeepseekV4ForConditionalGeneration: V4 whose routers have a bias for image tokens, in flat `vision_*` fields."""
    text = v4_text(config)
    if not config.int("vision_n_layers", default=0, minimum=0):
        return text
    hidden, count = text.facts.hidden_size, config.int("n_routed_experts")
    fields = {
        "n_layers": "num_hidden_layers",
        "dim": "hidden_size",
        "n_heads": "num_attention_heads",
        "inter_dim": "intermediate_size",
        "patch_size": "patch_size",
        "downsample_ratio": "downsample_ratio",
    }
    vision = Config(
        {new: config.data.get(f"vision_{old}") for old, new in fields.items()}, config.name("vision")
    )
    seeing = Vector(name="ffn.gate.bias_vl", units=count, dtype="float32")
    scored = Vector(name="ffn.gate.e_score_correction_bias", units=count, dtype="float32")
    known: dict[int, tuple[Item, ...]] = {}

    def with_bias(block: Block) -> Block:
        more = (seeing,) if any(item.name == scored.name for item in block.items) else (seeing, scored)
        return replace(block, items=known.setdefault(id(block.items), (*block.items, *more)))

    return replace(
        text,
        facts=replace(text.facts, modality="text+image"),
        layers=tuple(with_bias(block) for block in text.layers),
        towers=vision_tower(vision, hidden, specials=4),
    )


ARCHITECTURES: dict[str, Builder] = {
    "DeepseekV41ForCausalLM": deepseek_v41,
    "DeepseekV4ForConditionalGeneration": deepseek_v4_vision,
}

"""Bidirectional encoders for embedding, ranking and classification: BERT, RoBERTa, ModernBERT, Nomic, GTE."""

from __future__ import annotations

from collections.abc import Callable

from selfhost.attention import EncoderOnly
from selfhost.model.config import Config
from selfhost.model.families._defaults import with_defaults
from selfhost.model.families._pooling import labels
from selfhost.model.families._rope import parameters, table
from selfhost.model.families._stack import stack
from selfhost.model.families.common import (
    Builder,
    Draught,
    Heads,
    column,
    gated_mlp,
    norm,
    plain_mlp,
    projections,
    read_heads,
    row,
    whole,
)
from selfhost.model.modules import Buffer, Embedding, Item, Matrix, Vector

Last = Callable[[Config, Heads], tuple[Item, ...]]


def head_dtype(config: Config) -> str | None:
    """Element type of poolers and classifiers: float32 unless asked otherwise (config/model.py `_get_head_dtype`)."""
    asked = config.str("head_dtype", default="float32")
    return None if asked == "model" else asked


def linear(config: Config, name: str, outputs: int, inputs: int, *, bias: bool = True) -> Matrix:
    """A plain linear layer in the head's element type, whole on every rank."""
    return whole(name, outputs, inputs, bias=bias, quantizable=False, dtype=head_dtype(config))


def no_head(config: Config, sizes: Heads) -> tuple[Item, ...]:
    """An embedding model: pooling has no parameters."""
    return ()


def pooler_classifier(config: Config, sizes: Heads) -> tuple[Item, ...]:
    """BERT's pooler, then the classes."""
    return linear(config, "pooler.dense", sizes.hidden, sizes.hidden), classifier(config, sizes)[0]


def classifier(config: Config, sizes: Heads) -> tuple[Item, ...]:
    """The classes of each token, or of the pooled state."""
    return (linear(config, "classifier", labels(config), sizes.hidden),)


def roberta_classifier(config: Config, sizes: Heads) -> tuple[Item, ...]:
    """RoBERTa's two-layer classifier."""
    return (
        linear(config, "classifier.dense", sizes.hidden, sizes.hidden),
        linear(config, "classifier.out_proj", labels(config), sizes.hidden),
    )


def masked_head(config: Config, sizes: Heads) -> tuple[Item, ...]:
    """BERT's masked-language head, used for sparse embeddings (models/bert.py:570-586)."""
    return (
        whole("mlm_head.dense", sizes.hidden, sizes.hidden, bias=True, quantizable=False),
        norm("mlm_head.layer_norm", sizes.hidden, bias=True),
        whole("mlm_head.decoder", sizes.vocab, sizes.hidden, bias=True, quantizable=False),
    )


def bge_m3_heads(config: Config, sizes: Heads) -> tuple[Item, ...]:
    """Sparse and multi-vector heads of BGE-M3 (models/roberta.py:221-224)."""
    return (
        linear(config, "sparse_linear", 1, sizes.hidden),
        linear(config, "colbert_linear", sizes.hidden, sizes.hidden),
    )


def colbert_head(config: Config, sizes: Heads) -> tuple[Item, ...]:
    """ColBERT's projection; its width stands in one of three fields, else it is read from the weights."""
    width = config.int("colbert_dim", "dim", "projection_dim", default=128)
    return (linear(config, "colbert_linear", width, sizes.hidden, bias=False),)


def _tables(sizes: Heads, *, positions: bool, types: int) -> tuple[Item, ...]:
    """Embeddings beside the words', all divided by rows as vocabularies are, and the norm behind them."""
    items: list[Item] = []
    if positions:
        items.append(Embedding(name="position_embeddings", rows=sizes.positions, width=sizes.hidden))
    if types:
        items.append(Embedding(name="token_type_embeddings", rows=types, width=sizes.hidden))
    return (*items, norm("embeddings.LayerNorm", sizes.hidden, bias=True))


def bert(config: Config, last: Last, *, model_type: str = "bert", name: str = "bert") -> Draught:
    """BERT and RoBERTa: learned positions, biases everywhere."""
    config = with_defaults(config, model_type)
    sizes = read_heads(config.replaced(num_key_value_heads=None, head_dim=None))
    hidden = sizes.hidden
    inner = config.int("intermediate_size")
    items: tuple[Item, ...] = (
        *projections(
            sizes, name="attention.self.qkv_proj", parts=("query", "key", "value"), out=None, bias=True
        ),
        row("attention.output.dense", hidden, hidden, bias=True),
        column("intermediate.dense", inner, hidden, bias=True),
        row("output.dense", hidden, inner, bias=True),
        norm("layer_norms", hidden, copies=2, bias=True),
    )
    return _encoder(
        config, sizes, items, last, name=f"{name}.encoder", layers="layer", inner=inner,
        first=_tables(sizes, positions=True, types=config.int("type_vocab_size", default=2, minimum=0)),
        buffers=(Buffer(name="position ids", elements=sizes.positions, dtype="int64"),),
    )  # fmt: skip


def _encoder(
    config: Config,
    sizes: Heads,
    items: tuple[Item, ...],
    last: Last,
    *,
    name: str,
    layers: str,
    inner: int,
    first: tuple[Item, ...],
    buffers: tuple[Buffer, ...],
    final: tuple[Item, ...] = (),
    plan: Callable[[int], tuple[Item, ...]] | None = None,
) -> Draught:
    kept = (EncoderOnly(),)
    return stack(
        config, sizes, lambda index: (items if plan is None else plan(index), kept), prefix=name, layers_name=layers,
        embed="word_embeddings", first=first, final=(*final, *last(config, sizes)), head_name=None, intermediate=inner,
        buffers=buffers, pooling=True, encoder_only=True,
    )  # fmt: skip


def roberta(config: Config, last: Last) -> Draught:
    """RoBERTa and XLM-RoBERTa; Jina's with rotary positions."""
    if config.str("position_embedding_type", default="absolute") in ("rotary", "rope"):
        return jina_roberta(config, last)
    return bert(config, last, model_type="roberta", name="roberta")


def _rope_encoder(
    config: Config,
    sizes: Heads,
    last: Last,
    *,
    bias: bool,
    gated: bool,
    up_bias: bool,
    types: int,
    rotary: Buffer,
) -> Draught:
    """BERT with rotary positions (models/bert_with_rope.py)."""
    hidden = sizes.hidden
    inner = config.int("intermediate_size")
    if gated:
        mlp: tuple[Item, ...] = (
            gated_mlp("mlp", hidden, inner, bias=up_bias)[0],
            gated_mlp("mlp", hidden, inner, bias=bias)[1],
        )
    else:
        mlp = plain_mlp("mlp", hidden, inner, bias=bias)
    attention = projections(
        sizes, name="attn.qkv_proj", parts=("qkv_proj",) * 3, out="out_proj", bias=bias, output_bias=bias
    )
    norms = norm("layer_norms", hidden, copies=2, bias=True)
    dense: tuple[Item, ...] = (*attention, *mlp, norms)
    period = config.int("moe_every_n_layers", default=0, minimum=0, maximum=1 << 16)
    plan = None
    if period:
        sparse: tuple[Item, ...] = (*attention, *_nomic_experts(config, hidden, inner), norms)

        def plan(index: int) -> tuple[Item, ...]:
            return sparse if index % period == 1 else dense

    return _encoder(
        config, sizes, dense, last, name="encoder", layers="layers", inner=inner, plan=plan,
        first=_tables(sizes, positions=False, types=types), buffers=(rotary,),
    )  # fmt: skip


def _nomic_experts(config: Config, hidden: int, inner: int) -> tuple[Item, ...]:
    """Nomic's experts: two matrices per expert, divided, and one bias (models/bert_with_rope.py:236-285)."""
    count = config.int("num_experts", maximum=1 << 16)
    return (
        whole("mlp.router", count, hidden, quantizable=False),
        Vector(name="mlp.w1", units=inner, unit=count * hidden, divided=True),
        Vector(name="mlp.w2", units=inner, unit=count * hidden, divided=True),
        norm("mlp.bias", hidden),
    )


def jina_roberta(config: Config, last: Last) -> Draught:
    """Jina embeddings v3: XLM-RoBERTa with rotary positions."""
    config = with_defaults(config, "xlm-roberta")
    sizes = read_heads(config.replaced(num_key_value_heads=None, head_dim=None))
    # The table is rounded up to whole groups of eight rows (models/config.py:561-586).
    rows = -(-sizes.positions // 8) * 8
    width = config.int("rotary_emb_dim", default=sizes.head_dim)
    return _rope_encoder(
        config, sizes, last, bias=config.bool("bias", default=True), gated=False, up_bias=True,
        types=config.int("type_vocab_size", default=1, minimum=0),
        rotary=Buffer(name="rotary cos/sin", elements=rows * width, dtype="model"),
    )  # fmt: skip


def gte(config: Config, last: Last) -> Draught:
    """GteModel (Snowflake Arctic Embed 2) and GteNewModel: gated MLP whose first matrix has no bias."""
    config = with_defaults(config, "gte")
    sizes = read_heads(config.replaced(num_key_value_heads=None, head_dim=None))
    width = config.int("rotary_emb_dim", default=sizes.head_dim)
    return _rope_encoder(
        config, sizes, last, bias=config.bool("bias", default=True), gated=True, up_bias=False,
        types=config.int("type_vocab_size", default=1, minimum=0),
        rotary=Buffer(name="rotary cos/sin", elements=sizes.positions * width, dtype="model"),
    )  # fmt: skip


def nomic(config: Config) -> Draught:
    """NomicBertModel: Nomic Embed 1, 1.5 and 2 (with experts)."""
    data = dict(config.data)
    for old, new in (
        ("n_embd", "hidden_size"),
        ("n_layer", "num_hidden_layers"),
        ("n_inner", "intermediate_size"),
        ("n_head", "num_attention_heads"),
    ):
        if data.get(old) is not None:
            data[new] = data[old]
    config = Config({"max_position_embeddings": 2048, **data}, config.path)
    activation = config.str("activation_function", default="")
    if activation not in ("swiglu", "gelu"):
        raise config.error("activation_function", f"is {activation[:40]!r}, neither swiglu nor gelu")
    sizes = read_heads(config.replaced(num_key_value_heads=None, head_dim=None))
    bias = config.bool("qkv_proj_bias", default=False)
    return _rope_encoder(
        config, sizes, no_head, bias=bias, gated=activation == "swiglu", up_bias=bias,
        types=config.int("type_vocab_size", default=2, minimum=0),
        rotary=table(config, sizes.head_dim, config.int("max_position_embeddings", "n_positions")),
    )  # fmt: skip


def modernbert_pooling(config: Config, sizes: Heads) -> tuple[Item, ...]:
    """ModernBERT's pooler and classes."""
    dtype = head_dtype(config)
    return (
        linear(config, "classifier", labels(config), sizes.hidden),
        linear(
            config,
            "pooling.dense",
            sizes.hidden,
            sizes.hidden,
            bias=config.bool("classifier_bias", default=False),
        ),
        norm("pooling.norm", sizes.hidden, bias=config.bool("norm_bias", default=False), dtype=dtype),
    )


def modernbert_tokens(config: Config, sizes: Heads) -> tuple[Item, ...]:
    """ModernBERT's prediction head in the model's dtype, and the classes."""
    bias = config.bool("classifier_bias", default=False)
    return (
        whole("head.dense", sizes.hidden, sizes.hidden, bias=bias, quantizable=False),
        norm("head.norm", sizes.hidden, bias=config.bool("norm_bias", default=False)),
        linear(config, "classifier", labels(config), sizes.hidden),
    )


def modernbert(config: Config, last: Last) -> Draught:
    """ModernBERT: gated MLPs, most layers with a window, the first without a norm before attention."""
    config = with_defaults(config, "modernbert")
    sizes = read_heads(config.replaced(num_key_value_heads=None, head_dim=None))
    hidden = sizes.hidden
    inner = config.int("intermediate_size")
    bias = config.bool("norm_bias", default=False)
    attention_bias = config.bool("attention_bias", default=False)
    mlp_bias = config.bool("mlp_bias", default=False)
    shared: tuple[Item, ...] = (
        *projections(
            sizes,
            name="attn.Wqkv",
            parts=("Wqkv",) * 3,
            out="Wo",
            bias=attention_bias,
            output_bias=attention_bias,
        ),
        *gated_mlp("mlp", hidden, inner, bias=mlp_bias, names=("Wi", "Wi", "Wi", "Wo")),
    )
    first_layer: tuple[Item, ...] = (*shared, norm("mlp_norm", hidden, bias=bias))
    others: tuple[Item, ...] = (*shared, norm("layer_norms", hidden, bias=bias, copies=2))
    given = parameters(config, "full_attention")
    full = table(config, sizes.head_dim, sizes.positions, given=given, name="rotary cos/sin, full layers")
    local = table(
        config, sizes.head_dim, sizes.positions, given=parameters(config, "sliding_attention"),
        name="rotary cos/sin, window layers",
    )  # fmt: skip
    same = config.data.get("global_rope_theta", 160000.0) == config.data.get("local_rope_theta", 10000.0)
    buffers = (full,) if same and not given.has("rope_theta") else (full, local)
    return _encoder(
        config, sizes, others, last, name="model", layers="layers", inner=inner,
        plan=lambda index: others if index else first_layer,
        first=(norm("embeddings.norm", hidden, bias=bias),),
        final=(norm("final_norm", hidden, bias=bias),), buffers=buffers,
    )  # fmt: skip


ARCHITECTURES: dict[str, Builder] = {
    "BertModel": lambda config: bert(config, no_head),
    "BertForMaskedLM": lambda config: bert(config, masked_head),
    "BertSpladeSparseEmbeddingModel": lambda config: bert(config, masked_head),
    "BertForSequenceClassification": lambda config: bert(config, pooler_classifier),
    "BertForTokenClassification": lambda config: bert(config, classifier),
    "BgeM3EmbeddingModel": lambda config: roberta(config, bge_m3_heads),
    "ColBERTJinaRobertaModel": lambda config: jina_roberta(config, colbert_head),
    "ColBERTModernBertModel": lambda config: modernbert(config, colbert_head),
    "GteModel": lambda config: gte(config, no_head),
    "GteNewModel": lambda config: gte(config, no_head),
    "GteNewForSequenceClassification": lambda config: gte(config, pooler_classifier),
    "HF_ColBERT": lambda config: bert(config, colbert_head),
    "ModernBertModel": lambda config: modernbert(config, no_head),
    "ModernBertForSequenceClassification": lambda config: modernbert(config, modernbert_pooling),
    "ModernBertForTokenClassification": lambda config: modernbert(config, modernbert_tokens),
    "NomicBertModel": nomic,
    "RobertaModel": lambda config: roberta(config, no_head),
    "RobertaForMaskedLM": lambda config: roberta(config, no_head),
    "RobertaForSequenceClassification": lambda config: roberta(config, roberta_classifier),
    "RobertaForTokenClassification": lambda config: roberta(config, classifier),
    "XLMRobertaModel": lambda config: roberta(config, no_head),
    "XLMRobertaForSequenceClassification": lambda config: roberta(config, roberta_classifier),
    "XLMRobertaForTokenClassification": lambda config: roberta(config, classifier),
}

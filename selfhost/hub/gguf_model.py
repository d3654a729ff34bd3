"""A GGUF header as a Hugging Face configuration and tensor list: the same model, in the names the parser knows.

Field names: github.com/ggml-org/ggml, docs/gguf.md; tensor names: the `gguf` library, tensor_mapping.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from selfhost.errors import ConfigError
from selfhost.hub.gguf_file import MAXIMUM_TENSORS, GgufHeader, GgufTensor
from selfhost.hub.references import shown
from selfhost.model.raw import TensorHeader


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """How one `general.architecture` reads as a Hugging Face configuration."""

    architecture: str
    model_type: str
    tensors: Mapping[str, str]
    extra: Callable[[_Fields], dict[str, object]] = lambda fields: {}


def to_config(header: GgufHeader, *, where: str) -> dict[str, object]:
    """config.json that says what the header says.

    Raises:
        ConfigError: an architecture that is not mapped, or a field that is missing or no whole number.
    """
    fields = _fields(header, where)
    kind = _kind(fields)
    embedding = next((t for t in header.tensors if t.name == "token_embd.weight"), None)
    if embedding is None or len(embedding.shape) != 2:
        raise ConfigError(
            f"{where} has no tensor token_embd.weight of two dimensions.", field="token_embd.weight"
        )
    heads = fields.whole("attention.head_count")
    hidden = fields.whole("embedding_length")
    config: dict[str, object] = {
        "architectures": [kind.architecture],
        "model_type": kind.model_type,
        "vocab_size": embedding.shape[0],
        "hidden_size": hidden,
        "num_hidden_layers": fields.whole("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": fields.whole("attention.head_count_kv", default=heads),
        "max_position_embeddings": fields.whole("context_length"),
        "tie_word_embeddings": all(t.name != "output.weight" for t in header.tensors),
        "torch_dtype": _dtype(header.tensors),
        "head_dim": fields.whole("attention.key_length", default=hidden // max(heads, 1)),
    }
    if fields.has("feed_forward_length"):
        config["intermediate_size"] = fields.whole("feed_forward_length")
    if any(t.name.startswith("blk.0.attn_q.bias") for t in header.tensors):
        config["attention_bias"] = True
    return config | kind.extra(fields)


def to_quantization(header: GgufHeader) -> dict[str, object] | None:
    """What a quantization file would say: method and file type; None for an unquantized file."""
    quantized = [t.type for t in header.tensors if t.type not in _PLAIN]
    if not quantized:
        return None
    code = header.fields.get("general.file_type")
    name = _FILE_TYPES.get(code) if isinstance(code, int) else None
    if name is None:
        sizes: dict[str, int] = {}
        for tensor in header.tensors:
            if tensor.type not in _PLAIN:
                sizes[tensor.type] = sizes.get(tensor.type, 0) + tensor.bytes
        name = max(sizes, key=sizes.__getitem__)
    return {"quant_method": "gguf", "file_type": name}


def to_tensors(header: GgufHeader, *, where: str) -> tuple[TensorHeader, ...]:
    """Tensor headers under their Hugging Face names; fused experts become one tensor each.

    Quantized tensors keep their ggml type in lower case as dtype (`q4_k`) and their exact bytes. Tables of rotary
    factors are no parameters and are left out.
    """
    kind = _kind(_fields(header, where))
    found: list[TensorHeader] = []
    for tensor in header.tensors:
        if not tensor.name.startswith(("rope_freqs", "rope_factors")) and ".rope_" not in tensor.name:
            found += _renamed(tensor, kind)
        if len(found) > MAXIMUM_TENSORS:
            raise ConfigError(
                f"{where} describes more than {MAXIMUM_TENSORS:,} tensors.", field="expert_count"
            )
    return tuple(found)


_PLAIN = {
    "f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16",
    "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
}  # fmt: skip

# general.file_type (llama.h, `llama_ftype`; gguf 0.19 constants.py, LlamaFileType).
_FILE_TYPES = {
    2: "q4_0", 3: "q4_1", 7: "q8_0", 8: "q5_0", 9: "q5_1", 10: "q2_k", 11: "q3_k_s", 12: "q3_k_m", 13: "q3_k_l",
    14: "q4_k_s", 15: "q4_k_m", 16: "q5_k_s", 17: "q5_k_m", 18: "q6_k", 19: "iq2_xxs", 20: "iq2_xs", 21: "q2_k_s",
    22: "iq3_xs", 23: "iq3_xxs", 24: "iq1_s", 25: "iq4_nl", 26: "iq3_s", 27: "iq3_m", 28: "iq2_s", 29: "iq2_m",
    30: "iq4_xs", 31: "iq1_m", 36: "tq1_0", 37: "tq2_0", 38: "mxfp4",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fields:
    """Fields of one architecture, read by the part of their name after its prefix."""

    header: GgufHeader
    architecture: str
    where: str

    def has(self, name: str) -> bool:
        return f"{self.architecture}.{name}" in self.header.fields

    def whole(self, name: str, *, default: int | None = None) -> int:
        key = f"{self.architecture}.{name}"
        value = self.header.fields.get(key, default)
        if isinstance(value, tuple) and value and all(item == value[0] for item in value):
            value = value[0]  # type: ignore[assignment]
        if type(value) is not int or value < 0:
            what = "is missing" if value is None else "is not one whole number"
            raise ConfigError(f"{self.where}: the field {key} {what}.", field=key)
        return value

    def number(self, name: str, default: float) -> float:
        value = self.header.fields.get(f"{self.architecture}.{name}", default)
        return float(value) if isinstance(value, int | float) else default


def _fields(header: GgufHeader, where: str) -> _Fields:
    architecture = header.fields.get("general.architecture")
    if not isinstance(architecture, str):
        raise ConfigError(f"{where} has no general.architecture.", field="general.architecture")
    return _Fields(header=header, architecture=architecture, where=where)


def _kind(fields: _Fields) -> _Kind:
    name = fields.architecture
    if name == "llama" and fields.whole("expert_count", default=0):
        name = "mixtral"
    kind = _KINDS.get(name)
    if kind is None:
        raise ConfigError(
            f"{fields.where} is of the architecture {shown(fields.architecture, 40)!r}, which selfhost does not read "
            "from GGUF.",
            field="general.architecture",
            hint=f"known ones: {', '.join(sorted(_KINDS))}; or size the model it was converted from.",
        )
    return kind


def _dtype(tensors: tuple[GgufTensor, ...]) -> str:
    """The dtype that unquantized weights have; quantized ones are multiplied in float16."""
    types = {t.type for t in tensors if len(t.shape) > 1}
    if types <= {"f32"}:
        return "float32"
    return "bfloat16" if "bf16" in types else "float16"


def _renamed(tensor: GgufTensor, kind: _Kind) -> list[TensorHeader]:
    dtype = _PLAIN.get(tensor.type, tensor.type)
    match = _LAYER.fullmatch(tensor.name)
    if match is None:
        name = _TOP.get(tensor.name, tensor.name)
        return [TensorHeader(name=name, dtype=dtype, shape=tensor.shape, bytes=tensor.bytes)]
    layer, part, ending = match[1], match[2], match[3]
    target = kind.tensors.get(part)
    if target is None:
        return [TensorHeader(name=tensor.name, dtype=dtype, shape=tensor.shape, bytes=tensor.bytes)]
    prefix = f"model.layers.{layer}."
    experts, *rest = tensor.shape or (0,)
    if "{}" not in target or not rest or not 0 < experts <= 4096:
        target = target.replace(".{}", "")
        name = f"{prefix}{target}.{ending}"
        return [TensorHeader(name=name, dtype=dtype, shape=tensor.shape, bytes=tensor.bytes)]
    each = tensor.bytes // experts
    return [
        TensorHeader(name=f"{prefix}{target.format(i)}.{ending}", dtype=dtype, shape=tuple(rest), bytes=each)
        for i in range(experts)
    ]


_LAYER = re.compile(r"blk\.(\d{1,5})\.([a-z0-9_]+)\.(weight|bias)")
_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_ATTENTION = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
}  # fmt: skip
_DENSE = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
_LLAMA = _ATTENTION | _DENSE | {"ffn_norm": "post_attention_layernorm"}
_GEMMA = (
    _ATTENTION
    | _DENSE
    | {
        "ffn_norm": "pre_feedforward_layernorm",
        "post_attention_norm": "post_attention_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    }
)
_MIXTRAL = _ATTENTION | {
    "ffn_norm": "post_attention_layernorm", "ffn_gate_inp": "block_sparse_moe.gate",
    "ffn_gate_exps": "block_sparse_moe.experts.{}.w1", "ffn_down_exps": "block_sparse_moe.experts.{}.w2",
    "ffn_up_exps": "block_sparse_moe.experts.{}.w3",
}  # fmt: skip
_MOE = _LLAMA | {
    "ffn_gate_inp": "mlp.gate", "ffn_gate_exps": "mlp.experts.{}.gate_proj", "ffn_up_exps": "mlp.experts.{}.up_proj",
    "ffn_down_exps": "mlp.experts.{}.down_proj", "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
    "ffn_up_shexp": "mlp.shared_expert.up_proj", "ffn_down_shexp": "mlp.shared_expert.down_proj",
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
}  # fmt: skip
_PHI3 = _ATTENTION | {
    "ffn_norm": "post_attention_layernorm", "ffn_up": "mlp.gate_up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def _rope(fields: _Fields) -> dict[str, object]:
    return {
        "rope_theta": fields.number("rope.freq_base", 10000.0),
        "rms_norm_eps": fields.number("attention.layer_norm_rms_epsilon", 1e-5),
    }


def _mixtral(fields: _Fields) -> dict[str, object]:
    return _rope(fields) | {
        "num_local_experts": fields.whole("expert_count"),
        "num_experts_per_tok": fields.whole("expert_used_count"),
    }


def _moe(fields: _Fields) -> dict[str, object]:
    config = _rope(fields) | {
        "num_experts": fields.whole("expert_count"),
        "num_experts_per_tok": fields.whole("expert_used_count"),
        "moe_intermediate_size": fields.whole("expert_feed_forward_length"),
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }
    if fields.has("expert_shared_feed_forward_length"):
        config["shared_expert_intermediate_size"] = fields.whole("expert_shared_feed_forward_length")
    return config


def _windowed(fields: _Fields) -> dict[str, object]:
    return _rope(fields) | {"sliding_window": fields.whole("attention.sliding_window", default=0) or None}


def _gemma3(fields: _Fields) -> dict[str, object]:
    # llama.cpp does not store the pattern; the library's Gemma 3 has five local layers before each global one.
    return _windowed(fields) | {"sliding_window_pattern": 6}


_KINDS = {
    "llama": _Kind(architecture="LlamaForCausalLM", model_type="llama", tensors=_LLAMA, extra=_rope),
    "mixtral": _Kind(
        architecture="MixtralForCausalLM", model_type="mixtral", tensors=_MIXTRAL, extra=_mixtral
    ),
    "mistral3": _Kind(architecture="MistralForCausalLM", model_type="mistral", tensors=_LLAMA, extra=_rope),
    "qwen2": _Kind(architecture="Qwen2ForCausalLM", model_type="qwen2", tensors=_LLAMA, extra=_rope),
    "qwen3": _Kind(architecture="Qwen3ForCausalLM", model_type="qwen3", tensors=_LLAMA, extra=_rope),
    "qwen2moe": _Kind(architecture="Qwen2MoeForCausalLM", model_type="qwen2_moe", tensors=_MOE, extra=_moe),
    "qwen3moe": _Kind(architecture="Qwen3MoeForCausalLM", model_type="qwen3_moe", tensors=_MOE, extra=_moe),
    "gemma2": _Kind(architecture="Gemma2ForCausalLM", model_type="gemma2", tensors=_GEMMA, extra=_windowed),
    "gemma3": _Kind(
        architecture="Gemma3ForCausalLM", model_type="gemma3_text", tensors=_GEMMA, extra=_gemma3
    ),
    "phi3": _Kind(architecture="Phi3ForCausalLM", model_type="phi3", tensors=_PHI3, extra=_windowed),
}

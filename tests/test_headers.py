"""Tensor headers against the configuration: agreement, refusal, and block types that come from a GGUF file."""

from __future__ import annotations

import pytest

from selfhost.errors import MalformedAnswerError
from selfhost.model.raw import TensorHeader
from selfhost.model.spec import ModelSpec
from selfhost.weights import Ranks, blocks_bytes
from tests.configs import parse

CONFIG: dict[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "max_position_embeddings": 128,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}
SHAPES = {
    "self_attn.q_proj": (256, 256),
    "self_attn.k_proj": (128, 256),
    "self_attn.v_proj": (128, 256),
    "self_attn.o_proj": (256, 256),
    "mlp.gate_proj": (512, 256),
    "mlp.up_proj": (512, 256),
    "mlp.down_proj": (256, 512),
}
NORMS = 2 * (2 * 2 * 256 + 256)  # bytes


def headers(
    changes: dict[str, tuple[int, int]] | None = None, *, dtype: str = "bfloat16"
) -> tuple[TensorHeader, ...]:
    shapes = {"model.embed_tokens": (320, 256), "lm_head": (320, 256)}
    for layer in range(2):
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in SHAPES.items()}
    shapes |= changes or {}
    return tuple(
        TensorHeader(name=f"{name}.weight", dtype=dtype, shape=shape, bytes=2 * shape[0] * shape[1])
        for name, shape in shapes.items()
    )


def weights(spec: ModelSpec) -> int:
    return blocks_bytes((spec.first, *spec.layers, spec.last), Ranks(dtype=spec.dtype))


def test_headers_that_agree_give_their_own_bytes() -> None:
    tensors = headers()
    assert weights(parse(CONFIG, tensors=tensors)) == sum(t.bytes for t in tensors) + NORMS


@pytest.mark.parametrize(
    "name", ["model.embed_tokens", "model.layers.1.mlp.down_proj", "model.layers.0.self_attn.k_proj"]
)
def test_a_weight_of_another_size_is_refused_by_name(name: str) -> None:
    with pytest.raises(MalformedAnswerError, match=name):
        parse(CONFIG, tensors=headers({name: (7, 256)}))


def test_a_missing_dtype_comes_from_the_headers() -> None:
    config = {key: value for key, value in CONFIG.items() if key != "torch_dtype"}
    assert parse(config, tensors=headers(dtype="float16")).dtype == "float16"


def test_layers_the_engine_does_not_load_are_said() -> None:
    extra = TensorHeader(
        name="model.layers.2.eh_proj.weight", dtype="bfloat16", shape=(4096, 256), bytes=2 << 20
    )
    spec = parse(CONFIG, tensors=(*headers(), extra))
    assert any("no part" in note for note in spec.notes)
    assert not parse(CONFIG, tensors=headers()).notes


def test_gguf_blocks_are_those_of_each_tensor() -> None:
    def kind(name: str) -> str:
        if name.endswith("v_proj.weight"):
            return "q6_k"
        return "f32" if name.startswith("model.embed") else "q4_k"

    tensors = tuple(
        TensorHeader(name=t.name, dtype=kind(t.name), shape=t.shape, bytes=t.bytes) for t in headers()
    )
    model = parse(CONFIG, tensors=tensors, quantization={"quant_method": "gguf", "file_type": "q4_k_m"})
    expected = 0
    for tensor in tensors:
        cells = tensor.shape[0] * tensor.shape[1]
        expected += {"q4_k": cells * 144 // 256, "q6_k": cells * 210 // 256, "f32": cells * 2}[tensor.dtype]
    assert weights(model) == expected + NORMS

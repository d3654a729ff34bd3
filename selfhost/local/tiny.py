"""A model of about 1 MB with random weights, made on the spot: what anybody can try the whole way with.

A Llama of four layers over bytes, in the files of a Hugging Face repository. Its answers are printable characters
without a meaning. The layout of safetensors is its own README's: eight bytes of length, JSON, then the tensors.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path

NAME = "tiny"
_HIDDEN, _INNER, _LAYERS, _HEADS, _KV_HEADS, _HEAD = 128, 256, 4, 4, 2, 32
_CONTEXT = 2048
_SPECIAL = ("<s>", "</s>")
# Of the likely characters of an answer: printable ASCII, as byte-level tokenizers show it.
_PRINTABLE = range(0x21, 0x7F)
_CHAT = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
# High bytes of a bfloat16: 0x3D begins values of 0.03 to 0.12, 0x3F 0.5 to 2; 0x80 is the sign.
_SMALL, _ONE = 0x3D, 0x3F
_LOUD = 0x3E  # 0.12 to 0.5: rows of the last matrix whose characters win


def make(folder: Path) -> Path:
    """Write the model into a folder, unless it is there.

    Args:
        folder: made if it does not exist.

    Returns:
        The folder.
    """
    from selfhost.pull.lockfile import write_whole

    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "tokenizer.json": _json(_tokenizer()),
        "tokenizer_config.json": _json(_tokenizer_config()),
        "generation_config.json": _json({"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}),
        "model.safetensors": _weights(),
        "config.json": _json(_config()),  # last: what has it is whole
    }
    if not all((folder / name).is_file() for name in files):
        for name, data in files.items():
            write_whole(folder / name, data)
    return folder


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _config() -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
        "vocab_size": len(_vocabulary()), "hidden_size": _HIDDEN, "intermediate_size": _INNER,
        "num_hidden_layers": _LAYERS, "num_attention_heads": _HEADS, "num_key_value_heads": _KV_HEADS,
        "head_dim": _HEAD, "max_position_embeddings": _CONTEXT, "hidden_act": "silu", "rms_norm_eps": 1e-06,
        "rope_theta": 10000.0, "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
    }  # fmt: skip


def _vocabulary() -> dict[str, int]:
    """Special tokens and a character for each byte, as GPT-2's tokenizer writes it (openai/gpt-2 encoder.py)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [256 + number for number in range(256 - len(plain))]
    return {token: number for number, token in enumerate((*_SPECIAL, *map(chr, sorted((*plain, *others)))))}


def _tokenizer() -> dict[str, object]:
    added = [
        {"id": number, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for number, token in enumerate(_SPECIAL)
    ]  # fmt: skip
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": level, "post_processor": None, "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": _vocabulary(), "merges": []},
    }  # fmt: skip


def _tokenizer_config() -> dict[str, object]:
    first, last = _SPECIAL
    return {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": first, "eos_token": last, "pad_token": last,
        "model_max_length": _CONTEXT, "chat_template": _CHAT,
    }  # fmt: skip


def _tensors() -> Iterator[tuple[str, tuple[int, ...], bytes]]:
    source = random.Random(0)  # the same model everywhere
    tokens = _vocabulary()

    def matrix(rows: int, columns: int) -> tuple[tuple[int, ...], bytes]:
        return (rows, columns), _bfloat16(source, rows * columns, _SMALL)

    yield "model.embed_tokens.weight", *matrix(len(tokens), _HIDDEN)
    for layer in range(_LAYERS):
        name = f"model.layers.{layer}."
        yield f"{name}input_layernorm.weight", (_HIDDEN,), _ones(_HIDDEN)
        yield f"{name}post_attention_layernorm.weight", (_HIDDEN,), _ones(_HIDDEN)
        for part, width in (("q", _HEADS), ("k", _KV_HEADS), ("v", _KV_HEADS)):
            yield f"{name}self_attn.{part}_proj.weight", *matrix(width * _HEAD, _HIDDEN)
        yield f"{name}self_attn.o_proj.weight", *matrix(_HIDDEN, _HEADS * _HEAD)
        yield f"{name}mlp.gate_proj.weight", *matrix(_INNER, _HIDDEN)
        yield f"{name}mlp.up_proj.weight", *matrix(_INNER, _HIDDEN)
        yield f"{name}mlp.down_proj.weight", *matrix(_HIDDEN, _INNER)
    yield "model.norm.weight", (_HIDDEN,), _ones(_HIDDEN)
    loud = {tokens[chr(code)] for code in _PRINTABLE}
    rows = (
        _bfloat16(source, _HIDDEN, _LOUD) if number in loud else bytes(2 * _HIDDEN)
        for number in range(len(tokens))
    )
    yield "lm_head.weight", (len(tokens), _HIDDEN), b"".join(rows)


def _bfloat16(source: random.Random, count: int, high: int) -> bytes:
    """Random numbers of either sign between two powers of two."""
    signs = bytes(high | (byte & 0x80) for byte in range(256))
    made = bytearray(2 * count)
    made[0::2] = source.randbytes(count)
    made[1::2] = source.randbytes(count).translate(signs)
    return bytes(made)


def _ones(count: int) -> bytes:
    return struct.pack("<H", _ONE << 8 | 0x80) * count


def _weights() -> bytes:
    head: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = bytearray()
    for name, shape, values in _tensors():
        head[name] = {"dtype": "BF16", "shape": shape, "data_offsets": (len(data), len(data) + len(values))}
        data += values
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    return struct.pack("<Q", len(text)) + text + bytes(data)

"""Make three tiny random models in Hugging Face layout; runs in the environment that vLLM is installed in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

CHAT = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
SMALL: dict[str, Any] = {
    "vocab_size": 512, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 1024,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
}  # fmt: skip


def configurations() -> dict[str, Any]:
    """One configuration per way of keeping a KV cache, and one with experts."""
    from transformers import Gemma3TextConfig, LlamaConfig, Qwen3MoeConfig

    sliding = SMALL | {"num_hidden_layers": 6, "sliding_window": 256, "query_pre_attn_scalar": 32}
    experts = SMALL | {
        "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "decoder_sparse_step": 1
    }  # fmt: skip
    return {
        "tiny-llama": LlamaConfig(**SMALL),
        "tiny-sliding": Gemma3TextConfig(**sliding),
        "tiny-moe": Qwen3MoeConfig(**experts),
    }


def make_tokenizer(folder: Path) -> None:
    """A byte-level tokenizer: 256 bytes and the special tokens, no merges, so that any text is short enough."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(
        models.BPE(vocab={token: number for number, token in enumerate(alphabet)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    wrapped.chat_template = CHAT
    wrapped.save_pretrained(folder)


def main(target: Path) -> None:
    """Write every model into a folder of its own."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    for name, config in configurations().items():
        folder = target / name
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
        make_tokenizer(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

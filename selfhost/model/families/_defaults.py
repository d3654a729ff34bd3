"""Values that transformers' configuration classes give to fields which config.json leaves out.

Read from the classes of transformers 5.19 (models/*/configuration_*.py), 2026-11-23; only fields that a family reads.
Core sizes are left out (a config without them is refused), except where published text sections rely on them (Gemma).
"""

from __future__ import annotations

from selfhost.model.config import Config

DEFAULTS: dict[str, dict[str, int | bool | str | float]] = {
    "llama": {
        "attention_bias": False, "max_position_embeddings": 2048, "mlp_bias": False,
        "tie_word_embeddings": False,
    },
    "ministral3": {
        "head_dim": 128, "max_position_embeddings": 262144, "num_key_value_heads": 8,
        "tie_word_embeddings": False,
    },
    "mistral": {
        "max_position_embeddings": 131072, "num_key_value_heads": 8, "sliding_window": 4096,
        "tie_word_embeddings": False,
    },
    "phi3": {
        "max_position_embeddings": 4096, "original_max_position_embeddings": 4096,
        "tie_word_embeddings": False,
    },
    "qwen2": {
        "max_position_embeddings": 32768, "max_window_layers": 28, "num_key_value_heads": 32,
        "sliding_window": 4096, "tie_word_embeddings": False, "use_sliding_window": False,
    },
    "qwen3": {
        "attention_bias": False, "head_dim": 128, "max_position_embeddings": 32768, "max_window_layers": 28,
        "num_key_value_heads": 32, "sliding_window": 4096, "tie_word_embeddings": False,
        "use_sliding_window": False,
    },
}  # fmt: skip


def with_defaults(config: Config, model_type: str) -> Config:
    """The configuration with its transformers class's defaults where a field is absent (null counts as given)."""
    return Config({**DEFAULTS[model_type], **config.data}, config.path)

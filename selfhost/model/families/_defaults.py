"""Values that transformers' configuration classes give to fields which config.json leaves out.

Read from the classes of transformers 5.19 (models/*/configuration_*.py), 2026-11-23; only fields that a family reads.
Core sizes are left out (a config without them is refused), except where published text sections rely on them (Gemma).
"""

from __future__ import annotations

from selfhost.model.config import Config

DEFAULTS: dict[str, dict[str, int | bool | str | float]] = {
    "afmoe": {
        "attention_bias": False, "head_dim": 128, "max_position_embeddings": 16384,
        "moe_intermediate_size": 1408, "num_dense_layers": 1, "num_experts": 64, "num_experts_per_tok": 6,
        "num_shared_experts": 2, "sliding_window": 1024, "tie_word_embeddings": False,
    },
    "apertus": {
        "attention_bias": False, "max_position_embeddings": 65536, "tie_word_embeddings": False,
    },
    "arcee": {
        "attention_bias": False, "max_position_embeddings": 4096, "mlp_bias": False,
        "tie_word_embeddings": False,
    },
    "bert": {
        "max_position_embeddings": 512, "tie_word_embeddings": True, "type_vocab_size": 2,
    },
    "bloom": {
        "tie_word_embeddings": True,
    },
    "cohere": {
        "attention_bias": False, "max_position_embeddings": 8192, "tie_word_embeddings": True,
        "use_qk_norm": False,
    },
    "cohere2": {
        "attention_bias": False, "max_position_embeddings": 8192, "sliding_window": 4096,
        "tie_word_embeddings": True,
    },
    "cwm": {
        "head_dim": 128, "max_position_embeddings": 131072, "mlp_bias": False, "num_key_value_heads": 8,
        "sliding_window": 8192, "tie_word_embeddings": False,
    },
    "ernie4_5": {
        "head_dim": 128, "max_position_embeddings": 131072, "num_key_value_heads": 2,
        "tie_word_embeddings": True, "use_bias": False,
    },
    "ernie4_5_moe": {
        "max_position_embeddings": 131072, "moe_intermediate_size": 1536, "moe_k": 6,
        "moe_layer_end_index": -1, "moe_layer_interval": 1, "moe_layer_start_index": 1,
        "moe_num_experts": 64, "moe_num_shared_experts": 2, "num_key_value_heads": 4,
        "tie_word_embeddings": True, "use_bias": False,
    },
    "exaone4": {
        "max_position_embeddings": 2048, "num_key_value_heads": 32, "sliding_window": 4096,
        "sliding_window_pattern": 4, "tie_word_embeddings": False,
    },
    "falcon": {
        "alibi": False, "bias": False, "max_position_embeddings": 2048, "multi_query": True,
        "new_decoder_architecture": False, "parallel_attn": True, "tie_word_embeddings": True,
    },
    "falcon_h1": {
        "attention_bias": False, "mamba_conv_bias": True, "mamba_d_conv": 4, "mamba_d_head": "auto",
        "mamba_d_ssm": 1024, "mamba_d_state": 256, "mamba_expand": 2, "mamba_n_groups": 1,
        "mamba_n_heads": 128, "mamba_proj_bias": False, "max_position_embeddings": 8192, "mlp_bias": False,
        "num_key_value_heads": 8, "tie_word_embeddings": False,
    },
    "falcon_mamba": {
        "conv_kernel": 4, "expand": 2, "state_size": 16, "tie_word_embeddings": True, "use_bias": False,
        "use_conv_bias": True,
    },
    "flex_olmo": {
        "attention_bias": False, "max_position_embeddings": 4096, "num_experts": 7,
        "num_experts_per_tok": 5, "tie_word_embeddings": False,
    },
    "gemma": {
        "attention_bias": False, "head_dim": 256, "intermediate_size": 24576,
        "max_position_embeddings": 8192, "num_attention_heads": 16, "num_key_value_heads": 16,
        "tie_word_embeddings": True, "vocab_size": 256000,
    },
    "gemma2": {
        "attention_bias": False, "head_dim": 256, "intermediate_size": 9216,
        "max_position_embeddings": 8192, "num_attention_heads": 8, "num_key_value_heads": 4,
        "sliding_window": 4096, "tie_word_embeddings": True, "vocab_size": 256000,
    },
    "gemma3_text": {
        "attention_bias": False, "head_dim": 256, "intermediate_size": 9216,
        "max_position_embeddings": 131072, "num_attention_heads": 8, "num_key_value_heads": 4,
        "sliding_window": 4096, "tie_word_embeddings": True, "use_bidirectional_attention": False,
        "vocab_size": 262208,
    },
    "gemma3n_text": {
        "altup_num_inputs": 4, "attention_bias": False, "head_dim": 256, "hidden_size_per_layer_input": 256,
        "intermediate_size": 16384, "laurel_rank": 64, "max_position_embeddings": 32768,
        "num_attention_heads": 8, "num_key_value_heads": 2, "num_kv_shared_layers": 15,
        "sliding_window": 512, "tie_word_embeddings": True, "vocab_size": 262400,
        "vocab_size_per_layer_input": 262144,
    },
    "gemma4_text": {
        "attention_bias": False, "attention_k_eq_v": False, "head_dim": 256,
        "hidden_size_per_layer_input": 256, "intermediate_size": 9216, "max_position_embeddings": 131072,
        "num_attention_heads": 8, "num_key_value_heads": 4, "num_kv_shared_layers": 0,
        "sliding_window": 512, "tie_word_embeddings": True, "use_double_wide_mlp": False,
        "vocab_size": 262144, "vocab_size_per_layer_input": 262144,
    },
    "glm": {
        "attention_bias": True, "head_dim": 128, "max_position_embeddings": 131072,
        "num_key_value_heads": 2, "tie_word_embeddings": False,
    },
    "glm4": {
        "attention_bias": True, "head_dim": 128, "max_position_embeddings": 131072,
        "num_key_value_heads": 2, "tie_word_embeddings": False,
    },
    "gpt2": {
        "n_positions": 1024, "tie_word_embeddings": True,
    },
    "gpt_bigcode": {
        "multi_query": True, "n_positions": 1024, "tie_word_embeddings": True,
    },
    "gpt_neox": {
        "attention_bias": True, "max_position_embeddings": 2048, "tie_word_embeddings": False,
    },
    "gptj": {
        "n_positions": 2048, "rotary_dim": 64, "tie_word_embeddings": False,
    },
    "granite": {
        "attention_bias": False, "max_position_embeddings": 2048, "mlp_bias": False,
        "tie_word_embeddings": False,
    },
    "granite_swa": {
        "attention_bias": False, "max_position_embeddings": 8192, "mlp_bias": False,
        "num_key_value_heads": 4, "sliding_window": 128, "tie_word_embeddings": True,
    },
    "granitemoe": {
        "attention_bias": False, "max_position_embeddings": 2048, "num_experts_per_tok": 2,
        "num_local_experts": 8, "tie_word_embeddings": False,
    },
    "granitemoe_swa": {
        "attention_bias": False, "max_position_embeddings": 2048, "num_experts_per_tok": 2,
        "num_local_experts": 8, "shared_intermediate_size": 0, "sliding_window": 128,
        "tie_word_embeddings": False,
    },
    "granitemoehybrid": {
        "attention_bias": False, "mamba_conv_bias": True, "mamba_d_conv": 4, "mamba_d_head": "auto",
        "mamba_d_state": 256, "mamba_expand": 2, "mamba_n_groups": 1, "mamba_n_heads": 128,
        "mamba_proj_bias": False, "max_position_embeddings": 2048, "num_experts_per_tok": 2,
        "num_local_experts": 8, "shared_intermediate_size": 1024, "tie_word_embeddings": False,
    },
    "granitemoeshared": {
        "attention_bias": False, "max_position_embeddings": 2048, "num_experts_per_tok": 2,
        "num_local_experts": 8, "shared_intermediate_size": 0, "tie_word_embeddings": False,
    },
    "gte": {
        "max_position_embeddings": 8192, "tie_word_embeddings": True, "type_vocab_size": 1,
    },
    "hrm_text": {
        "H_cycles": 2, "L_cycles": 3, "attention_bias": False, "head_dim": 128,
        "max_position_embeddings": 2048, "mlp_bias": False, "tie_word_embeddings": False,
    },
    "hunyuan_v1_dense": {
        "attention_bias": False, "max_position_embeddings": 2048, "tie_word_embeddings": False,
    },
    "hunyuan_v1_moe": {
        "attention_bias": False, "max_position_embeddings": 2048, "moe_topk": 1, "num_experts": 1,
        "tie_word_embeddings": False,
    },
    "hyperclovax": {
        "attention_bias": False, "max_position_embeddings": 2048, "mlp_bias": False,
        "tie_word_embeddings": False, "use_post_norm": True,
    },
    "jais2": {
        "attention_bias": True, "max_position_embeddings": 8192, "mlp_bias": True,
        "tie_word_embeddings": False,
    },
    "jamba": {
        "attn_layer_offset": 4, "attn_layer_period": 8, "expert_layer_offset": 1, "expert_layer_period": 2,
        "mamba_conv_bias": True, "mamba_d_conv": 4, "mamba_d_state": 16, "mamba_dt_rank": "auto",
        "mamba_expand": 2, "mamba_proj_bias": False, "max_position_embeddings": 262144, "num_experts": 16,
        "num_experts_per_tok": 2, "num_key_value_heads": 8, "tie_word_embeddings": False,
    },
    "kimi_linear": {
        "attention_bias": False, "kv_lora_rank": 512, "linear_conv_kernel_dim": 4, "linear_head_dim": 128,
        "linear_num_heads": 32, "max_position_embeddings": 1048576, "moe_intermediate_size": 1024,
        "n_shared_experts": 1, "num_experts_per_tok": 8, "num_key_value_heads": 32,
        "num_local_experts": 256, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
        "tie_word_embeddings": False, "v_head_dim": 128,
    },
    "laguna": {
        "attention_bias": False, "gating": True, "head_dim": 128, "max_position_embeddings": 131072,
        "moe_intermediate_size": 512, "num_experts": 256, "num_experts_per_tok": 8,
        "num_key_value_heads": 8, "shared_expert_intermediate_size": 512, "sliding_window": 512,
        "tie_word_embeddings": False,
    },
    "lfm2": {
        "block_auto_adjust_ff_dim": True, "block_multiple_of": 256, "conv_bias": False,
        "max_position_embeddings": 128000, "num_key_value_heads": 8, "tie_word_embeddings": True,
    },
    "lfm2_moe": {
        "conv_bias": False, "max_position_embeddings": 128000, "moe_intermediate_size": 1792,
        "num_dense_layers": 2, "num_experts": 32, "num_experts_per_tok": 4, "num_key_value_heads": 8,
        "tie_word_embeddings": True, "use_expert_bias": True,
    },
    "llama": {
        "attention_bias": False, "max_position_embeddings": 2048, "mlp_bias": False,
        "tie_word_embeddings": False,
    },
    "mamba": {
        "conv_kernel": 4, "expand": 2, "state_size": 16, "tie_word_embeddings": True, "use_bias": False,
        "use_conv_bias": True,
    },
    "mamba2": {
        "conv_kernel": 4, "expand": 2, "head_dim": 64, "n_groups": 8, "num_heads": 128, "state_size": 128,
        "tie_word_embeddings": False, "use_bias": False, "use_conv_bias": True,
    },
    "mellum": {
        "attention_bias": False, "head_dim": 128, "max_position_embeddings": 131072,
        "moe_intermediate_size": 896, "num_experts": 64, "num_experts_per_tok": 8, "num_key_value_heads": 4,
        "sliding_window": 1024, "tie_word_embeddings": False,
    },
    "minicpm3": {
        "attention_bias": False, "kv_lora_rank": 256, "max_position_embeddings": 32768, "mlp_bias": False,
        "num_key_value_heads": 40, "q_lora_rank": 768, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32,
        "tie_word_embeddings": True,
    },
    "ministral3": {
        "head_dim": 128, "max_position_embeddings": 262144, "num_key_value_heads": 8,
        "tie_word_embeddings": False,
    },
    "mistral": {
        "max_position_embeddings": 131072, "num_key_value_heads": 8, "sliding_window": 4096,
        "tie_word_embeddings": False,
    },
    "modernbert": {
        "attention_bias": False, "max_position_embeddings": 8192, "mlp_bias": False, "norm_bias": False,
        "tie_word_embeddings": True,
    },
    "nemotron": {
        "attention_bias": False, "max_position_embeddings": 4096, "mlp_bias": False,
        "tie_word_embeddings": False,
    },
    "nemotron_h": {
        "attention_bias": False, "conv_kernel": 4, "expand": 2, "head_dim": 128, "mamba_head_dim": 64,
        "mamba_num_heads": 128, "mamba_proj_bias": False, "max_position_embeddings": 4096,
        "mlp_bias": False, "moe_intermediate_size": 7688, "moe_shared_expert_intermediate_size": 7688,
        "n_groups": 8, "n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2,
        "num_key_value_heads": 8, "num_nextn_predict_layers": 0, "ssm_state_size": 128,
        "tie_word_embeddings": False, "use_bias": False, "use_conv_bias": True,
    },
    "nomic_bert": {
        "max_position_embeddings": 2048, "type_vocab_size": 2,
    },
    "olmo": {
        "attention_bias": False, "max_position_embeddings": 2048, "tie_word_embeddings": False,
    },
    "olmo2": {
        "attention_bias": False, "max_position_embeddings": 2048, "tie_word_embeddings": False,
    },
    "olmo3": {
        "attention_bias": False, "max_position_embeddings": 2048, "sliding_window": 4096,
        "tie_word_embeddings": False,
    },
    "olmo_hybrid": {
        "attention_bias": False, "linear_conv_kernel_dim": 4, "max_position_embeddings": 65536,
        "tie_word_embeddings": False,
    },
    "olmoe": {
        "attention_bias": False, "max_position_embeddings": 4096, "num_experts": 64,
        "num_experts_per_tok": 8, "tie_word_embeddings": False,
    },
    "openai_privacy_filter": {
        "attention_bias": True, "head_dim": 64, "max_position_embeddings": 131072, "num_experts_per_tok": 4,
        "num_key_value_heads": 2, "num_local_experts": 128, "sliding_window": 128,
        "tie_word_embeddings": False,
    },
    "opt": {
        "_remove_final_layer_norm": False, "do_layer_norm_before": True, "enable_bias": True,
        "ffn_dim": 3072, "layer_norm_elementwise_affine": True, "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
    },
    "phi": {
        "max_position_embeddings": 2048, "qk_layernorm": False, "tie_word_embeddings": False,
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
    "qwen3_5": {
        "tie_word_embeddings": False,
    },
    "qwen3_5_moe": {
        "tie_word_embeddings": False,
    },
    "qwen3_5_moe_text": {
        "attention_bias": False, "head_dim": 256, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
        "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_value_head_dim": 128,
        "max_position_embeddings": 32768, "moe_intermediate_size": 512, "num_experts": 256,
        "num_experts_per_tok": 8, "num_key_value_heads": 2, "shared_expert_intermediate_size": 512,
        "tie_word_embeddings": False,
    },
    "qwen3_5_text": {
        "attention_bias": False, "head_dim": 256, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
        "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_value_head_dim": 128,
        "max_position_embeddings": 32768, "num_key_value_heads": 4, "tie_word_embeddings": False,
    },
    "qwen3_next": {
        "attention_bias": False, "decoder_sparse_step": 1, "head_dim": 256, "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
        "linear_value_head_dim": 128, "max_position_embeddings": 32768, "moe_intermediate_size": 512,
        "num_experts": 512, "num_experts_per_tok": 10, "num_key_value_heads": 2,
        "shared_expert_intermediate_size": 512, "tie_word_embeddings": False,
    },
    "roberta": {
        "max_position_embeddings": 512, "tie_word_embeddings": True, "type_vocab_size": 2,
    },
    "seed_oss": {
        "attention_bias": True, "attention_out_bias": False, "head_dim": 128,
        "max_position_embeddings": 524288, "mlp_bias": False, "num_key_value_heads": 8,
        "tie_word_embeddings": False,
    },
    "smollm3": {
        "attention_bias": False, "max_position_embeddings": 32768, "mlp_bias": False,
        "no_rope_layer_interval": 4, "num_key_value_heads": 4, "tie_word_embeddings": True,
        "use_sliding_window": False,
    },
    "stablelm": {
        "max_position_embeddings": 4096, "num_key_value_heads": 32, "qk_layernorm": False,
        "tie_word_embeddings": False, "use_qkv_bias": False,
    },
    "starcoder2": {
        "max_position_embeddings": 4096, "num_key_value_heads": 2, "tie_word_embeddings": True,
        "use_bias": True,
    },
    "vaultgemma": {
        "attention_bias": False, "head_dim": 256, "max_position_embeddings": 8192, "num_key_value_heads": 4,
        "sliding_window": 4096, "tie_word_embeddings": True,
    },
    "xlm-roberta": {
        "max_position_embeddings": 512, "tie_word_embeddings": True, "type_vocab_size": 2,
    },
    "zamba2": {
        "adapter_rank": 128, "add_bias_linear": False, "mamba_d_conv": 4, "mamba_d_state": 64,
        "mamba_expand": 2, "mamba_ngroups": 1, "max_position_embeddings": 4096, "n_mamba_heads": 8,
        "num_mem_blocks": 1, "tie_word_embeddings": True, "use_conv_bias": True, "use_long_context": False,
        "use_mem_rope": False, "use_shared_attention_adapter": False,
    },
}  # fmt: skip


def with_defaults(config: Config, model_type: str) -> Config:
    """The configuration with its transformers class's defaults where a field is absent (null counts as given)."""
    return Config({**DEFAULTS[model_type], **config.data}, config.path)

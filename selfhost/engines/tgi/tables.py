"""TGI's releases, variables, models and metrics, each with the release that has it.

Read from the tags v2.4.0 to v3.3.7 of huggingface/text-generation-inference (launcher/src/main.rs, whose every argument
has a variable of its name; server/text_generation_server/models/; router/src/; Dockerfile) on 2026-11-26.
"""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.engines import Flag

FIRST = (2, 4, 0)
LAST = (3, 3, 7)
RELEASES = (
    (2, 4, 0), (2, 4, 1), (3, 0, 0), (3, 0, 1), (3, 0, 2), (3, 1, 0), (3, 1, 1), (3, 2, 0), (3, 2, 1), (3, 2, 2),
    (3, 2, 3), (3, 3, 0), (3, 3, 1), (3, 3, 2), (3, 3, 3), (3, 3, 4), (3, 3, 5), (3, 3, 6), (3, 3, 7),
)  # fmt: skip
# The images' Python moved below /root, which root alone may enter (text-generation-inference#3082, open; #3197).
ROOT_SINCE = (3, 1, 1)
CHUNKS_SINCE = (3, 0, 0)  # PREFILL_CHUNKING is on by itself (models/globals.py)
WIGGLE_ROOM = 0.90  # TGI_WIGGLE_ROOM of models/globals.py, a share of what CUDA_MEMORY_FRACTION leaves

# Everything but the address goes by variables: the image's entry point splits its arguments at spaces.
FLAGS = (Flag(name="--hostname", since=FIRST, source="v2.4.0 launcher/src/main.rs"),)
VARIABLES: dict[str, tuple[int, int, int]] = {
    "MODEL_ID": FIRST,
    "REVISION": FIRST,
    "PORT": FIRST,
    "PROMETHEUS_PORT": (3, 3, 0),
    "NUM_SHARD": FIRST,
    "SHARDED": FIRST,
    "QUANTIZE": FIRST,
    "DTYPE": FIRST,
    "KV_CACHE_DTYPE": FIRST,
    "MAX_INPUT_TOKENS": FIRST,
    "MAX_TOTAL_TOKENS": FIRST,
    "MAX_BATCH_PREFILL_TOKENS": FIRST,
    "MAX_BATCH_SIZE": FIRST,
    "MAX_CONCURRENT_REQUESTS": FIRST,
    "CUDA_MEMORY_FRACTION": FIRST,
    "CUDA_GRAPHS": FIRST,
    "HUGGINGFACE_HUB_CACHE": FIRST,
    "USAGE_STATS": FIRST,
    "GRACEFUL_TERMINATION_TIMEOUT": (3, 2, 2),
    "PREFIX_CACHING": FIRST,
}

KV_DTYPES = {"fp8": "fp8_e4m3fn", "fp8_e4m3": "fp8_e4m3fn", "fp8_e5m2": "fp8_e5m2"}
PLAIN = {"bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Online:
    """A format that is made while an unquantized checkpoint loads: QUANTIZE, and the least compute capability."""

    name: str
    capability: int


ONLINE = {"fp8": Online(name="fp8", capability=80), "bnb-nf4": Online(name="bitsandbytes-nf4", capability=75)}
# `quant_method` of stored weights -> the first release that reads it (get_model of models/__init__.py).
STORED = {
    "gptq": FIRST, "awq": FIRST, "fp8": FIRST, "fbgemm_fp8": FIRST, "compressed-tensors": (2, 4, 1),
}  # fmt: skip

# Text models with a class of their own that keeps keys and values head by head, in pages (FlashCausalLM).
ARCHITECTURES = {
    "LlamaForCausalLM": FIRST,
    "MistralForCausalLM": FIRST,
    "MixtralForCausalLM": FIRST,
    "Phi3ForCausalLM": FIRST,
    "PhiForCausalLM": FIRST,
    "PhimoeForCausalLM": FIRST,
    "PhiMoEForCausalLM": FIRST,
    "GraniteForCausalLM": FIRST,
    "GemmaForCausalLM": FIRST,
    "Gemma2ForCausalLM": FIRST,
    "Gemma3ForCausalLM": (3, 2, 0),
    "CohereForCausalLM": FIRST,
    "DbrxForCausalLM": FIRST,
    "BaichuanForCausalLM": FIRST,
    "FalconForCausalLM": FIRST,
    "Starcoder2ForCausalLM": FIRST,
    "Qwen2ForCausalLM": FIRST,
    "GPTBigCodeForCausalLM": FIRST,
    "GPT2LMHeadModel": FIRST,
    "GPTNeoXForCausalLM": FIRST,
    "GPTJForCausalLM": FIRST,
}

# No release changed these names; none has a label with the model (router/src/, backends/v3/src/).
METRICS = (
    "tgi_queue_size", "tgi_batch_current_size", "tgi_batch_current_max_tokens", "tgi_batch_max_total_tokens",
    "tgi_request_count", "tgi_request_success", "tgi_request_failure", "tgi_request_duration",
    "tgi_request_queue_duration", "tgi_request_inference_duration", "tgi_request_validation_duration",
    "tgi_request_mean_time_per_token_duration", "tgi_request_input_length_sum", "tgi_request_generated_tokens_sum",
    "tgi_batch_inference_duration", "tgi_batch_forward_duration",
)  # fmt: skip

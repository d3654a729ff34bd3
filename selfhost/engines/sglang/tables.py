"""SGLang's flags, formats, variables and metrics, each with the release that has it.

Read from the parsers of the wheels of 0.5.3, 0.5.5, 0.5.8, 0.5.10, 0.5.12, 0.5.15 and 0.5.19 to 0.5.23
(srt/server_args.py, srt/arg_groups/fields/, srt/environ.py, srt/observability/metrics_collector.py) on 2026-11-26. A
release that is named here is the first of these that has the thing.
"""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.engines import Flag

FIRST = (0, 5, 3)
_WHEEL = "wheel of 0.5.3, srt/server_args.py"


def _flag(name: str, since: tuple[int, int, int] = FIRST, source: str = _WHEEL) -> Flag:
    return Flag(name=name, since=since, source=source)


FLAGS = (
    _flag("--model-path"),
    _flag("--served-model-name"),
    _flag("--revision"),
    _flag("--host"),
    _flag("--port"),
    _flag("--tp-size"),
    _flag("--pp-size"),
    _flag("--dp-size"),
    _flag("--ep-size"),
    _flag("--enable-dp-attention"),  # `--dp-size N --enable-dp-attention` became `--attn-dp-size N`
    _flag("--attn-dp-size", (0, 5, 22), "wheel of 0.5.22, srt/arg_groups/fields/parallel.py"),
    _flag("--context-length"),
    _flag("--mem-fraction-static"),
    _flag("--max-running-requests"),
    _flag("--chunked-prefill-size"),
    _flag("--kv-cache-dtype"),
    _flag("--page-size"),
    _flag("--dtype"),
    _flag("--quantization"),
    _flag("--load-format"),
    _flag("--disable-cuda-graph"),
    _flag("--disable-radix-cache"),
    _flag("--enable-lora"),
    _flag("--max-loras-per-batch"),
    _flag("--max-lora-rank"),
    _flag("--lora-target-modules"),
    _flag("--speculative-algorithm"),
    _flag("--speculative-num-steps"),
    _flag("--speculative-eagle-topk"),
    _flag("--speculative-num-draft-tokens"),
    _flag("--language-model-only", (0, 5, 19), "wheel of 0.5.19, srt/arg_groups"),
    _flag("--enable-metrics"),
    _flag("--watchdog-timeout"),
    _flag("--uvicorn-access-log-exclude-prefixes", (0, 5, 8), "wheel of 0.5.8, srt/server_args.py"),
)
BY_NAME = {flag.name: flag for flag in FLAGS}

READY_SINCE = (0, 5, 20)  # GET /ready of srt/entrypoints/http_server.py
# The tag without a suffix brings CUDA 13 and -cu129 CUDA 12, which ended with 0.5.19 (lmsysorg/sglang, 2026-11).
CUDA13_SINCE = (0, 5, 19)
# ROCm images name their ROCm; of both names releases were seen in use: 0.5.5 to 0.5.9, and 0.5.16 to 0.5.23.
ROCM_TAGS = (((0, 5, 16), "rocm720"), ((0, 5, 5), "rocm700"))

# Variables of srt/environ.py that hold a directory, with what lies there.
CACHES = (
    ("SGLANG_CACHE_DIR", (0, 5, 12), "sglang", "compiled kernels"),
    ("SGLANG_DG_CACHE_DIR", FIRST, "deep_gemm", "DeepGEMM kernels"),
)

# KV-cache dtype as selfhost names it -> as SGLang does, with the first release that takes it.
KV_DTYPES = {
    "bf16": ("bfloat16", (0, 5, 5)), "bfloat16": ("bfloat16", (0, 5, 5)),
    "fp8": ("fp8_e4m3", FIRST), "fp8_e4m3": ("fp8_e4m3", FIRST), "fp8_e5m2": ("fp8_e5m2", FIRST),
    "fp4": ("nvfp4", (0, 5, 19)), "nvfp4": ("nvfp4", (0, 5, 19)),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A weight format: least compute capability (get_min_capability of 0.5.23), whether AMD runs it, how it is made.

    `online` is the `--quantization` that makes it while an unquantized checkpoint loads, None where there is none.
    """

    capability: int
    amd: bool = True
    online: str | None = None


FORMATS = {
    "fp8": Format(capability=80, online="fp8"),
    "fp8-tensor": Format(capability=80, online="fp8"),
    "fp8-block": Format(capability=80),
    "int8": Format(capability=75),
    "awq-int4": Format(capability=75),
    "gptq-int4": Format(capability=75),
    "gptq-int8": Format(capability=75),
    "autoround-int4": Format(capability=75),
    "w4a16": Format(capability=75),
    "w8a16": Format(capability=75),
    "nvfp4": Format(capability=80, amd=False),
    "nvfp4a16": Format(capability=80, amd=False),
    "mxfp4": Format(capability=80),
    "mxfp8": Format(capability=100, amd=False),
    "bnb-nf4": Format(capability=75, amd=False, online="bitsandbytes"),
    "bnb-int8": Format(capability=75, amd=False),
}
PLAIN = {"bf16": "bfloat16", "fp16": "float16"}
NVFP4_BELOW = ((0, 5, 19), 100)  # before, ModelOptFp4Config asked for Blackwell

# Models whose own MTP layers the release takes as its draft without being told where they are (speculative hooks).
MTP: dict[str, tuple[int, int, int]] = {
    "DeepseekV32ForCausalLM": FIRST,
    "DeepseekV3ForCausalLM": FIRST,
    "Glm4MoeForCausalLM": FIRST,
    "BailingMoeForCausalLM": FIRST,
    "BailingMoeV2ForCausalLM": FIRST,
    "Glm4MoeLiteForCausalLM": (0, 5, 10),
    "GlmMoeDsaForCausalLM": (0, 5, 10),
    "BailingMoeV2_5ForCausalLM": (0, 5, 10),
    "MistralLarge3ForCausalLM": (0, 5, 10),
    "HYV3ForCausalLM": (0, 5, 19),
    "DeepseekV4ForCausalLM": (0, 5, 23),
    "HYV4ForCausalLM": (0, 5, 23),
    "Qwen4ExpForConditionalGeneration": (0, 5, 23),
}

_METRICS = {
    FIRST: (
        "sglang:num_running_reqs", "sglang:num_queue_reqs", "sglang:token_usage", "sglang:gen_throughput",
        "sglang:cache_hit_rate", "sglang:prompt_tokens_total", "sglang:generation_tokens_total",
        "sglang:cached_tokens_total", "sglang:num_requests_total", "sglang:num_aborted_requests_total",
        "sglang:time_to_first_token_seconds", "sglang:inter_token_latency_seconds",
        "sglang:e2e_request_latency_seconds", "sglang:queue_time_seconds",
    ),
    (0, 5, 8): (
        "sglang:num_retracted_requests_total", "sglang:realtime_tokens_total", "sglang:max_total_num_tokens",
    ),
}  # fmt: skip


def metrics_of(number: tuple[int, int, int]) -> tuple[str, ...]:
    """Names that a release emits with --enable-metrics."""
    return tuple(name for since, names in _METRICS.items() if number >= since for name in names)

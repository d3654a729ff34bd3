"""vLLM's flags, formats and metrics, each with the release that has it.

Read from vLLM 0.32.0 (engine/arg_utils.py, config/, v1/metrics/loggers.py) on 2026-11-21; the release that brought or
removed something is from the pull request named beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.engines import Flag

FIRST = (0, 6, 0)
_DOCS_06 = "engine arguments page of v0.6.3.post1"

FLAGS = (
    Flag(name="--served-model-name", since=FIRST, source=_DOCS_06),
    Flag(name="--revision", since=FIRST, source=_DOCS_06),
    Flag(name="--port", since=FIRST, source=_DOCS_06),
    Flag(name="--dtype", since=FIRST, source=_DOCS_06),
    Flag(name="--quantization", since=FIRST, source=_DOCS_06),
    Flag(name="--load-format", since=FIRST, source=_DOCS_06),
    Flag(name="--tensor-parallel-size", since=FIRST, source=_DOCS_06),
    Flag(name="--pipeline-parallel-size", since=FIRST, source=_DOCS_06),
    Flag(
        name="--data-parallel-size", since=(0, 9, 0), source="engine arguments page of v0.9.0 (first checked)"
    ),
    Flag(name="--enable-expert-parallel", since=(0, 8, 0), source="vllm#12583"),
    Flag(name="--max-model-len", since=FIRST, source=_DOCS_06),
    Flag(name="--max-num-seqs", since=FIRST, source=_DOCS_06),
    Flag(name="--max-num-batched-tokens", since=FIRST, source=_DOCS_06),
    Flag(name="--gpu-memory-utilization", since=FIRST, source=_DOCS_06),
    Flag(name="--kv-cache-memory-bytes", since=(0, 11, 0), source="vllm#21489"),
    Flag(name="--kv-cache-dtype", since=FIRST, source=_DOCS_06),
    Flag(name="--block-size", since=FIRST, source=_DOCS_06),
    Flag(name="--enforce-eager", since=FIRST, source=_DOCS_06),
    Flag(name="--enable-prefix-caching", since=FIRST, source=_DOCS_06),
    Flag(name="--no-enable-prefix-caching", since=(0, 8, 0), source="on by default with the V1 engine"),
    Flag(name="--enable-lora", since=FIRST, source=_DOCS_06),
    Flag(name="--max-loras", since=FIRST, source=_DOCS_06),
    Flag(name="--max-lora-rank", since=FIRST, source=_DOCS_06),
    Flag(
        name="--speculative-config", since=(0, 12, 0), source="method `mtp` for every family (first checked)"
    ),
    Flag(name="--language-model-only", since=(0, 17, 0), source="vllm#34120"),
    Flag(name="--shutdown-timeout", since=(0, 18, 0), source="vllm#34730"),
    Flag(
        name="--disable-access-log-for-endpoints", since=(0, 16, 0), source="deployment facts of 2026-11-21"
    ),
)
BY_NAME = {flag.name: flag for flag in FLAGS}

# KV-cache dtype as selfhost names it -> as vLLM does, with the first release that was checked to take it.
KV_DTYPES = {
    "bf16": ("bfloat16", (0, 11, 0)), "bfloat16": ("bfloat16", (0, 11, 0)),
    "fp16": ("float16", (0, 32, 0)), "float16": ("float16", (0, 32, 0)),
    "fp8": ("fp8", FIRST), "fp8_e4m3": ("fp8_e4m3", FIRST), "fp8_e5m2": ("fp8_e5m2", FIRST),
    "fp4": ("nvfp4", (0, 32, 0)), "nvfp4": ("nvfp4", (0, 32, 0)),
}  # fmt: skip
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # config/lora.py MaxLoRARanks


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A weight format: least compute capability on NVIDIA (get_min_capability in 0.32), whether AMD runs it."""

    capability: int
    amd: bool


FORMATS = {
    "fp8": Format(capability=75, amd=True),
    "fp8-tensor": Format(capability=75, amd=True),
    "fp8-block": Format(capability=75, amd=True),
    "int8": Format(capability=75, amd=True),
    "awq-int4": Format(capability=75, amd=True),
    "gptq-int4": Format(capability=75, amd=True),
    "gptq-int8": Format(capability=75, amd=True),
    "autoround-int4": Format(capability=75, amd=True),
    "w4a16": Format(capability=75, amd=True),
    "w8a16": Format(capability=75, amd=True),
    "nvfp4": Format(
        capability=75, amd=False
    ),  # emulated on ROCm (kernels/linear/__init__.py:592), no way to serve
    "nvfp4a16": Format(capability=75, amd=False),
    "mxfp4": Format(capability=80, amd=True),
    "mxfp8": Format(capability=75, amd=True),
    "bnb-nf4": Format(capability=70, amd=False),
    "bnb-int8": Format(capability=70, amd=False),
}
PLAIN = {"bf16": "bfloat16", "fp16": "float16"}

METRICS = (
    "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
    "vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total", "vllm:num_preemptions_total",
    "vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:request_success_total",
    "vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds",
    "vllm:request_time_per_output_token_seconds", "vllm:e2e_request_latency_seconds",
    "vllm:request_queue_time_seconds", "vllm:lora_requests_info",
)  # fmt: skip

"""llama.cpp's flags, metrics and images.

Read from common/arg.cpp and tools/server/ in the source archives of llama-cpp-python 0.3.20, 0.3.28 and 0.3.36 on
2026-11-26. Builds are numbered by commit; the archives do not name theirs.
"""

from __future__ import annotations

from selfhost.catalog.accelerators import Platform
from selfhost.engines import Flag

FIRST = (
    9014,
    0,
    0,
)  # of 2026-05: the first build whose images for CUDA, ROCm and Intel were seen in use by digest
LAST = (11429, 0, 0)  # the newest build whose image was seen in use
REPOSITORY = "ghcr.io/ggml-org/llama.cpp"
# server-cuda is built with CUDA 12, server-cuda13 with 13 (.devops/cuda.Dockerfile and the list of docs/docker.md).
VARIANTS: dict[Platform, str] = {
    "cuda": "server-cuda",
    "rocm": "server-rocm",
    "xpu": "server-intel",
    "cpu": "server",
}
_ARGS = "llama.cpp common/arg.cpp in llama-cpp-python 0.3.20, 0.3.28, 0.3.36"
NAMES = (
    "--model", "--alias", "--host", "--port", "--ctx-size", "--parallel", "--batch-size", "--ubatch-size",
    "--n-gpu-layers",
    "--split-mode", "--tensor-split", "--cache-type-k", "--cache-type-v", "--flash-attn", "--threads", "--metrics",
    "--no-webui", "--offline", "--no-cache-prompt", "--fit",
)  # fmt: skip
FLAGS = tuple(Flag(name=name, since=FIRST, source=_ARGS) for name in NAMES)
METRICS = (
    "llamacpp:requests_processing", "llamacpp:requests_deferred", "llamacpp:n_busy_slots_per_decode",
    "llamacpp:prompt_tokens_total", "llamacpp:tokens_predicted_total", "llamacpp:prompt_tokens_seconds",
    "llamacpp:predicted_tokens_seconds", "llamacpp:n_decode_total", "llamacpp:prompt_seconds_total",
    "llamacpp:tokens_predicted_seconds_total",
)  # fmt: skip

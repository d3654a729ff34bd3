"""Triton's releases and the vLLM inside each; flags of its OpenAI front end.

Releases: triton-inference-server/server docs/introduction/compatibility.md, read 2026-11-26; newer ones (26.09, 26.10)
are published, but it does not say which vLLM they hold. Flags: python/openai/openai_frontend/main.py at 7e31829.
"""

from __future__ import annotations

from selfhost.engines import EngineVersion, Flag

FIRST, LAST = (25, 12, 0), (26, 8, 0)
REPOSITORY = "nvcr.io/nvidia/tritonserver"
VLLM = {
    (25, 12): (0, 11, 1),
    (26, 1): (0, 13, 0),
    (26, 2): (0, 15, 1),
    (26, 3): (0, 17, 1),
    (26, 4): (0, 19, 0),
    (26, 5): (0, 19, 0),
    (26, 6): (0, 22, 1),
    (26, 7): (0, 24, 0),
    (26, 8): (0, 27, 1),
}
_FRONT_END = "triton-inference-server/server python/openai/openai_frontend/main.py"
FLAGS = (
    Flag(name="--model-repository", since=FIRST, source=_FRONT_END),
    Flag(name="--tokenizer", since=FIRST, source=_FRONT_END),
    Flag(name="--backend", since=FIRST, source=_FRONT_END),
    Flag(name="--host", since=FIRST, source=_FRONT_END),
    Flag(name="--openai-port", since=FIRST, source=_FRONT_END),
    Flag(name="--default-max-tokens", since=(26, 1, 0), source=f"{_FRONT_END} as of 2025"),
)
BY_NAME = {flag.name: flag for flag in FLAGS}
METRICS = (
    "nv_inference_request_success", "nv_inference_request_failure", "nv_inference_count",
    "nv_inference_queue_duration_us", "nv_inference_request_duration_us", "nv_inference_pending_request_count",
)  # fmt: skip


def inside(version: EngineVersion) -> EngineVersion:
    """The release of vLLM that an image holds, in NVIDIA's own build."""
    number = VLLM[version.number[:2]]
    return EngineVersion(engine="vllm", number=number, text=".".join(map(str, number)))

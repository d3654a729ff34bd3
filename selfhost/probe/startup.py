"""What vLLM prints of its memory while it starts -> bytes per term.

Lines of vLLM 0.9 to 0.32 (v1/worker/gpu_worker.py, gpu_model_runner.py, v1/core/kv_cache_utils.py, and the start-up
logs that tests/data/startup_logs.json names; read 2026-11-21). Every rank prints them; those of the first are taken.
With the V2 model runner activation and non-torch memory stand in the line "Actual usage is …" alone (vLLM 0.26.0,
tests/data/engine_logs/started_qwen3_8b.log).
"""

from __future__ import annotations

import re
from pathlib import Path

from selfhost.observation import Missing, Reading, StartupMemory
from selfhost.units import GIB, MIB

_NUMBER = r"(\d[\d,]*(?:\.\d+)?)"
_SIZES = {
    "weights_bytes": (
        rf"Model loading took {_NUMBER} (GiB|GB|MiB)",
        rf"weights memory: {_NUMBER} ?(GiB|MiB)",
    ),
    "activation_bytes": (
        rf"torch peak memory increase: {_NUMBER} ?(GiB|MiB)",
        rf"PyTorch activation peak memory takes {_NUMBER} ?(GiB|MiB)",
        rf"{_NUMBER} (GiB|MiB) for peak activation",
    ),
    "non_torch_bytes": (
        rf"non-torch forward increase memory: {_NUMBER} ?(GiB|MiB)",
        rf"non_torch_memory takes {_NUMBER} ?(GiB|MiB)",
        rf"{_NUMBER} (GiB|MiB) for non-torch memory",
    ),
    "graphs_bytes": (
        rf"CUDA graph pool memory: {_NUMBER} ?(GiB|MiB) \(actual\)",
        rf"Graph capturing finished in \d+ secs?, took {_NUMBER} ?(GiB|MiB)",
    ),
    "kv_available_bytes": (rf"Available KV cache memory: {_NUMBER} ?(GiB|MiB)",),
}
_PATTERNS = {field: tuple(re.compile(text) for text in every) for field, every in _SIZES.items()}
_TOKENS = re.compile(rf"KV cache size: {_NUMBER} tokens")
_UNITS = {"GiB": GIB, "GB": GIB, "MiB": MIB}  # older releases wrote GB and divided by 2^30
# The lines stand in the first minutes of a log; debug output included they come within this.
_HEAD_BYTES = 16 * 2**20


def read_startup_log(text: str) -> StartupMemory | None:
    """Bytes per term, as printed (to 0.01 GiB); None where no such line is there.

    Of an engine that was started more than once in the same log the last start counts.
    """
    start = text.rfind("Model loading took")
    # The ranks of one start print the line one after the other: the first of them is what the last start begins with.
    while start > 0:
        earlier = text.rfind("Model loading took", 0, start)
        if (
            earlier < 0
            or "KV cache size" in text[earlier:start]
            or "Available KV cache" in text[earlier:start]
        ):
            break
        start = earlier
    part = text[max(0, start) :]
    found: dict[str, int] = {}
    for field, patterns in _PATTERNS.items():
        for pattern in patterns:
            match = pattern.search(part)
            if match is not None:
                found[field] = round(float(match[1].replace(",", "")) * _UNITS[match[2]])
                break
    tokens = _TOKENS.search(part)
    if tokens is not None:
        found["kv_tokens"] = int(float(tokens[1].replace(",", "")))
    return StartupMemory(**found) if found else None


def read_startup_file(path: str) -> Reading[StartupMemory]:
    """The same of a file; a Missing where it cannot be read or says nothing of memory."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(_HEAD_BYTES).decode("utf-8", errors="replace")
    except OSError as error:
        return Missing(missing=f"its log cannot be read: {(error.strerror or 'error').lower()}")
    return read_startup_log(text) or Missing(missing="its log says nothing of memory")

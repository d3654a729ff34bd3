"""Which element type the KV cache really gets: the user's wish, the checkpoint's word, the architecture's demand."""

from __future__ import annotations

from selfhost.attention import Attention, LatentAttention, V4Window
from selfhost.errors import UnsupportedError
from selfhost.kv.settings import KvSettings

# What a user may write -> vLLM's `--kv-cache-dtype` value.
REQUESTS = {
    "auto": "auto", "bf16": "bfloat16", "bfloat16": "bfloat16", "fp16": "float16", "float16": "float16",
    "fp8": "fp8_e4m3", "fp8_e4m3": "fp8_e4m3", "fp8_e5m2": "fp8_e5m2", "fp4": "nvfp4", "nvfp4": "nvfp4",
}  # fmt: skip


def resolve_kv_dtype(layers: tuple[Attention, ...], settings: KvSettings) -> str:
    """The element type before a kernel is chosen (a sparse MLA kernel may still turn fp8 into its packed row).

    Order, vLLM 0.32: the user's own value; the checkpoint's (utils/torch_utils.py:512-530,
    layers/attention/attention.py:287-291); fp8 for GlmMoeDsa on SM10x (models/config.py:44-56); DeepSeek V4 always
    its packed fp8 row (models/deepseek_v4/attention.py:92-123).

    Returns:
        auto (the model's dtype), float16, bfloat16, fp8_e4m3, fp8_e5m2, nvfp4 or fp8_ds_mla.

    Raises:
        UnsupportedError: a type that no cache can have, or that DeepSeek V4 cannot have.
    """
    asked = REQUESTS.get(settings.kv_dtype)
    if asked is None:
        raise UnsupportedError(
            f"KV-cache type {settings.kv_dtype!r} is not known.", hint=f"Use one of {', '.join(REQUESTS)}."
        )
    if asked == "auto" and settings.declared_kv_dtype is not None:
        asked = REQUESTS.get(settings.declared_kv_dtype, "auto")
    if any(isinstance(layer, V4Window) for layer in layers):
        if asked != "auto" and not asked.startswith("fp8"):
            raise UnsupportedError(
                f"DeepSeek V4 keeps its cache in packed fp8 rows; {settings.kv_dtype} is not possible.",
                hint="Leave the KV-cache type at auto.",
            )
        return "fp8_ds_mla"
    glm_dsa = any(isinstance(layer, LatentAttention) and layer.glm_dsa for layer in layers)
    return "fp8_e4m3" if asked == "auto" and glm_dsa and _sm10x(settings) else asked


def _sm10x(settings: KvSettings) -> bool:
    return settings.vendor == "nvidia" and settings.compute_capability[0] == 10

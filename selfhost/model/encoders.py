"""config.json -> ImageEncoder: what the engine's profiling run feeds through an image tower, per model type.

The largest image is a setting of the image processor, which lies in preprocessor_config.json beside config.json; each
rule carries what the publisher ships there (read 2026-11). A model type without a rule has no ImageEncoder: its image
peak is left out of the activation estimate, not guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from selfhost.errors import ConfigError
from selfhost.model.config import Config
from selfhost.model.spec import ImageEncoder
from selfhost.units import ceil_div

_PIXEL_BYTES = 2  # pixels travel in the model's dtype
_CHANNELS = 3


def image_encoder(config: Config, model_type: str) -> ImageEncoder | None:
    """The image encoder of a composite model, None where its model type has no rule or its section lacks a field.

    Args:
        config: the whole configuration.
        model_type: config.json's own, which selects the rule.
    """
    rule = _RULES.get(model_type)
    whole = config.optional_section("thinker_config") or config
    vision = whole.optional_section("vision_config")
    if rule is None or vision is None:
        return None
    try:
        return rule(whole, vision)
    except ConfigError:
        return None


def _square(side: int) -> int:
    return side * side


def _merged(
    vision: Config,
    *,
    hidden: int,
    intermediate: int,
    max_patches: int,
    merge: int,
    copies: int = 1,
    frames: int = 1,
) -> ImageEncoder:
    """An encoder over patches of which merge x merge become a token; `frames` images make up one patch."""
    patch = vision.int("patch_size", "spatial_patch_size")
    per_token = _square(merge)
    return ImageEncoder(
        hidden_size=hidden,
        intermediate_size=intermediate,
        patches_per_token=per_token,
        pixel_bytes_per_token=per_token * frames * _CHANNELS * _square(patch) * _PIXEL_BYTES,
        max_tokens_per_item=max_patches // per_token,
        output_copies=copies,
    )


def _qwen(max_pixels: int, *, images: int = 1) -> Callable[[Config, Config], ImageEncoder]:
    """Qwen-VL: pixels up to the processor's max_pixels (size.longest_edge), each patch `temporal_patch_size` frames.

    vLLM 0.32 models/qwen2_vl.py `Qwen2VLProcessingInfo.get_image_size_with_most_features`. Deepstack layers
    (qwen3_vl.py) add an output per token each.
    """

    def rule(config: Config, vision: Config) -> ImageEncoder:
        patch = vision.int("patch_size", "spatial_patch_size", default=14)
        # Qwen2-VL calls its width embed_dim; its hidden_size is the language model's.
        hidden = vision.int("embed_dim", "hidden_size")
        ratio = vision.int("mlp_ratio", default=4)
        return _merged(
            vision,
            hidden=hidden,
            intermediate=vision.int("intermediate_size", default=ratio * hidden),
            max_patches=max_pixels // images // _square(patch),
            merge=vision.int("spatial_merge_size", default=2),
            copies=1 + len(vision.list("deepstack_visual_indexes", default=())),
            frames=vision.int("temporal_patch_size", default=2),
        )

    return rule


def _kimi(max_patches: int) -> Callable[[Config, Config], ImageEncoder]:
    """MoonViT: the processor's in_token_limit or in_patch_limit counts patches (models/kimi_vl.py, kimi_k25.py)."""

    def rule(config: Config, vision: Config) -> ImageEncoder:
        merge = vision.ints("merge_kernel_size", minimum=1, default=(2, 2))
        return _merged(
            vision,
            hidden=vision.int("hidden_size", "vt_hidden_size"),
            intermediate=vision.int("intermediate_size", "vt_intermediate_size"),
            max_patches=max_patches,
            merge=merge[0],
        )

    return rule


def _whole(vision: Config, *, tokens: int, patches: int, pixels: int) -> ImageEncoder:
    """An encoder whose largest image gives a fixed count of tokens, patches and pixels."""
    if min(tokens, patches, pixels) < 1:
        raise vision.error("image_size", "is smaller than a patch")
    return ImageEncoder(
        hidden_size=vision.int("hidden_size"),
        intermediate_size=vision.int("intermediate_size"),
        patches_per_token=ceil_div(patches, tokens),
        pixel_bytes_per_token=ceil_div(_CHANNELS * pixels * _PIXEL_BYTES, tokens),
        max_tokens_per_item=tokens,
    )


def _gemma3(config: Config, vision: Config) -> ImageEncoder:
    """SigLIP on one square image, averaged to mm_tokens_per_image (models/gemma3_mm.py; pan and scan is off)."""
    side, patch = vision.int("image_size", default=896), vision.int("patch_size", default=14)
    tokens = config.int("mm_tokens_per_image", default=256)
    return _whole(vision, tokens=tokens, patches=_square(side // patch), pixels=_square(side))


def _gemma4(config: Config, vision: Config) -> ImageEncoder:
    """Patches pooled in squares; an image gives at most vision_soft_tokens_per_image (models/gemma4_mm.py)."""
    tokens = config.int(
        "vision_soft_tokens_per_image", default=vision.int("default_output_length", default=280)
    )
    return _merged(
        vision,
        hidden=vision.int("hidden_size"),
        intermediate=vision.int("intermediate_size"),
        max_patches=tokens * _square(vision.int("pooling_kernel_size", default=3)),
        merge=vision.int("pooling_kernel_size", default=3),
    )


def _pixtral(config: Config, vision: Config) -> ImageEncoder:
    """Pixtral: the processor's longest edge is the config's image_size; a break token ends each row of the grid.

    models/mistral3.py, transformers image_processing_pixtral.py.
    """
    side, patch = vision.int("image_size", default=1024), vision.int("patch_size", default=16)
    merge = config.int("spatial_merge_size", default=1 if config.str("model_type") == "llava" else 2)
    rows = side // (patch * merge)
    return _whole(
        vision, tokens=rows * (rows + 1), patches=_square(rows * merge), pixels=_square(rows * merge * patch)
    )


def _llava(config: Config, vision: Config) -> ImageEncoder:
    """LLaVA 1.5: one square image, a token per patch (models/llava.py)."""
    if vision.str("model_type") == "pixtral":
        return _pixtral(config, vision)
    side, patch = vision.int("image_size"), vision.int("patch_size")
    patches = _square(side // patch)
    return _whole(vision, tokens=patches, patches=patches, pixels=_square(side))


def _llava_next(config: Config, vision: Config) -> ImageEncoder:
    """LLaVA-NeXT and Granite Vision: the largest of image_grid_pinpoints in tiles, and the whole once more.

    models/llava_next.py `get_num_image_tokens`: a token per patch and one for the end of each row.
    """
    side, patch = vision.int("image_size"), vision.int("patch_size")
    grid = side // patch
    largest = (0, 0)
    for item in config.list("image_grid_pinpoints"):
        if isinstance(item, (list, tuple)) and len(item) == 2 and all(isinstance(n, int) for n in item):
            height, width = (ceil_div(int(n), side) for n in item)
            largest = max(largest, (height * width * _square(grid) + height * grid, height * width))
    tokens, tiles = largest[0] + _square(grid), largest[1] + 1
    return _whole(vision, tokens=tokens, patches=tiles * _square(grid), pixels=tiles * _square(side))


def _llama4(config: Config, vision: Config) -> ImageEncoder:
    """Llama 4: 16 tiles (the processor's max_patches) and the whole once more (models/mllama4.py)."""
    side, patch = vision.int("image_size"), vision.int("patch_size")
    ratio = vision.float("pixel_shuffle_ratio", default=0.5)
    patches = _square(side // patch)
    tokens = max(1, round(patches * ratio * ratio))
    tiles = 17
    return _whole(vision, tokens=tiles * tokens, patches=tiles * patches, pixels=tiles * _square(side))


def _side(vision: Config, field: str) -> int:
    """A length that is written as one number or as [height, width]."""
    if isinstance(vision.data.get(field), list):
        return max(vision.ints(field, minimum=1), default=1)
    return vision.int(field)


def _internvl(config: Config, vision: Config) -> ImageEncoder:
    """InternVL: up to max_dynamic_patch tiles and a thumbnail, pixels unshuffled (models/internvl.py)."""
    side, patch = _side(vision, "image_size"), _side(vision, "patch_size")
    ratio = config.float("downsample_ratio", default=0.5)
    patches = _square(side // patch)
    tiles = config.int("max_dynamic_patch", default=12) + 1
    tokens = max(1, round(patches * ratio * ratio)) * tiles
    return _whole(vision, tokens=tokens, patches=tiles * patches, pixels=tiles * _square(side))


# What the publishers' preprocessor_config.json allows in an image: max_pixels or size.longest_edge, in pixels.
_QWEN2_PIXELS = 12_845_056
_QWEN3_PIXELS = 16_777_216
_GLM_PIXELS = (
    9_633_792  # of both frames that a single image is repeated into (models/glm4_1v.py smart_resize)
)

_RULES: Mapping[str, Callable[[Config, Config], ImageEncoder]] = {
    "qwen2_vl": _qwen(_QWEN2_PIXELS),
    "qwen2_5_vl": _qwen(_QWEN2_PIXELS),
    "qwen2_5_omni": _qwen(_QWEN2_PIXELS),
    "qwen3_omni_moe": _qwen(_QWEN2_PIXELS),
    "qwen3_vl": _qwen(_QWEN3_PIXELS),
    "qwen3_vl_moe": _qwen(_QWEN3_PIXELS),
    "qwen3_5": _qwen(_QWEN3_PIXELS),
    "qwen3_5_moe": _qwen(_QWEN3_PIXELS),
    "glm4v": _qwen(_GLM_PIXELS, images=2),
    "glm4v_moe": _qwen(_GLM_PIXELS, images=2),
    "glm_ocr": _qwen(_GLM_PIXELS, images=2),
    "kimi_vl": _kimi(4096),  # in_token_limit
    "kimi_k25": _kimi(16_384),  # in_patch_limit
    "gemma3": _gemma3,
    "gemma4": _gemma4,
    "mistral3": _pixtral,
    "llava": _llava,
    "llava_next": _llava_next,
    "llama4": _llama4,
    "internvl_chat": _internvl,
    "internvl": _internvl,
}

"""ModelSpec: everything the rest of selfhost knows about a model."""

from __future__ import annotations

from dataclasses import dataclass, replace

from selfhost.model.modules import Block, Buffer
from selfhost.quantization.schemes import Scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEncoder:
    """An image encoder as the engine's profiling run meets it.

    Args:
        hidden_size: width of its layers.
        intermediate_size: width of its MLPs.
        patches_per_token: patches that become one token of the language model.
        pixel_bytes_per_token: bytes of preprocessed pixels behind one token.
        max_tokens_per_item: tokens of the largest image the processor makes by default.
        output_copies: hidden-sized outputs per token (Qwen3-VL's deepstack adds some).
    """

    hidden_size: int
    intermediate_size: int
    patches_per_token: int
    pixel_bytes_per_token: int
    max_tokens_per_item: int
    output_copies: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """Plain numbers of the language model that estimates need.

    Args:
        intermediate_size: width of the dense MLP, for models whose modules do not show it.
        max_context_tokens: the longest context the configuration states, stretched by rope scaling.
        experts_per_token: routed experts that one token visits, 0 without experts.
        modality: what goes in: `text`, `text+image`, `audio` and so on.
        pooling: what comes out is an embedding or a score.
        encoder_only: tokens attend both ways and nothing is cached.
        image_encoder: how the engine profiles the image encoder, None without one.
    """

    hidden_size: int
    vocab_size: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    max_context_tokens: int
    experts_per_token: int = 0
    modality: str = "text"
    pooling: bool = False
    encoder_only: bool = False
    image_encoder: ImageEncoder | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelSpec:
    """A model, parsed once.

    Args:
        id: repository id, or the name of the directory or file.
        revision: commit of the repository, None where none is known.
        architecture: the class that config.json names.
        origin: where it was read: see `raw.Origin`.
        source: that place, for people.
        dtype: element type the engine computes in.
        first: what the first pipeline stage holds beside layers (embeddings).
        layers: decoder layers in order; equal layers are the same object.
        last: what the last stage holds (final norm, output head).
        towers: vision and audio towers.
        tied: the output head is the input embedding.
        draft: layers that only speculative decoding loads.
        buffers: GPU memory that is no parameter.
        scheme: the quantization most of the weights have, None when unquantized.
        quantization: the name of the checkpoint's quantization method, None when unquantized.
        kv_dtype: KV-cache dtype the checkpoint declares (`fp8`), None when it declares none.
        parameters: whole-model count without draft layers.
        licence: what the repository declares, None where it declares none.
        notes: sentences for the user about what was read.
    """

    id: str
    revision: str | None
    architecture: str
    origin: str
    source: str
    dtype: str
    facts: ModelFacts
    first: Block
    layers: tuple[Block, ...]
    last: Block
    towers: tuple[Block, ...] = ()
    tied: bool = False
    draft: tuple[Block, ...] = ()
    buffers: tuple[Buffer, ...] = ()
    scheme: Scheme | None = None
    quantization: str | None = None
    kv_dtype: str | None = None
    parameters: int = 0
    licence: str | None = None
    notes: tuple[str, ...] = ()

    def with_blocks(
        self,
        *,
        first: Block,
        layers: tuple[Block, ...],
        last: Block,
        towers: tuple[Block, ...],
        draft: tuple[Block, ...],
    ) -> ModelSpec:
        """A copy with other blocks."""
        return replace(self, first=first, layers=layers, last=last, towers=towers, draft=draft)

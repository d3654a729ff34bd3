"""Layers of one rank -> pages: the block size every kernel takes, grown until a page holds a recurrent state."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product

from selfhost.attention import Attention, LatentAttention, RankCache, Setting
from selfhost.errors import UnsupportedError
from selfhost.kv.backends import Backend, select_backend
from selfhost.kv.dtype import resolve_kv_dtype
from selfhost.kv.settings import KvSettings
from selfhost.units import ceil_div

DEFAULT_BLOCK_TOKENS = 16  # vLLM 0.32 config/cache.py, `CacheConfig.DEFAULT_BLOCK_SIZE`
HYBRID_LATENT_ALIGNMENT_TOKENS = (
    128  # MLA decode kernels split blocks into pages of 128: platforms/interface.py:1062-1067
)
# First vLLM release in which models with recurrent states cache prefixes by default: pull request 50991, August 2026.
CACHES_STATES_SINCE = (0, 28)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One layer's block: what it holds, how many tokens, and its bytes with any padding.

    `block_tokens` of a recurrent state is the span after which a state is kept for prefix caching, 0 where none is.
    Where pages of several sizes lie side by side, blocks are a multiple of `stride_bytes` apart.
    """

    cache: RankCache
    block_tokens: int
    bytes: int
    stride_bytes: int = 1

    def of_bytes(self, page_bytes: int) -> Page:
        """The same layer with a page of another size (padding)."""
        return replace(self, bytes=page_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paging:
    """All layers as pages, before they are grouped.

    Attributes:
        pages: one per distinct kind of layer, in the order given; None where a layer keeps nothing.
        block_tokens: the engine's block size (`cache_config.block_size`).
        kv_dtype: the element type that resulted.
        backends: kernel names, in layer order.
        block_outermost: pages of all layers lie side by side in a block.
        states_cached: recurrent states are kept at block ends (mamba_cache_mode "align").
    """

    pages: tuple[Page | None, ...]
    block_tokens: int
    kv_dtype: str
    backends: tuple[str, ...]
    block_outermost: bool
    states_cached: bool


def pages_of(kinds: tuple[Attention, ...], settings: KvSettings) -> Paging:
    """Block size and page of every kind of layer on one rank.

    Args:
        kinds: distinct kinds of layers, in layer order.
        settings: the deployment.

    Raises:
        UnsupportedError: no kernel runs a layer, or the kernels share no block size.
    """
    kv_dtype = resolve_kv_dtype(kinds, settings)
    chosen = [(kind, select_backend(kind, kv_dtype, settings)) for kind in kinds]
    if any(backend is not None and backend.packed_rows for _, backend in chosen):
        # The sparse kernel's packed row replaces plain fp8 for the whole cache: mla_attention.py:356-376, :519-530.
        kv_dtype = "fp8_ds_mla"
    setting = Setting(
        tensor=settings.tensor,
        kv_dtype=kv_dtype,
        model_dtype=settings.model_dtype,
        speculative_tokens=settings.speculative_tokens,
        sm_major=settings.compute_capability[0] if settings.vendor == "nvidia" else 0,
    )
    caches = [(kind, backend, kind.of_rank(setting)) for kind, backend in chosen]
    backends = list(dict.fromkeys(backend for _, backend in chosen if backend is not None))
    states = [cache for _, _, cache in caches if cache is not None and cache.reach == "state"]
    # Models without attention do not cache prefixes by default (config/model.py:2221-2273), hybrids only lately.
    by_default = settings.engine >= CACHES_STATES_SINCE
    states_cached = bool(backends) and (
        by_default if settings.prefix_caching is None else settings.prefix_caching
    )
    block = settings.block_size or DEFAULT_BLOCK_TOKENS
    state_page = 0
    if backends:
        if settings.block_size is None:
            block = _common_block(backends)
        if states:
            largest = max(cache.state_bytes for cache in states)
            block, state_page = _grow_for_states(caches, backends, block, largest, setting)
    pages = tuple(
        None if cache is None else _page(cache, backend, block, state_page, states_cached=states_cached)
        for _, backend, cache in caches
    )
    return Paging(
        pages=pages,
        block_tokens=block,
        kv_dtype=kv_dtype,
        backends=tuple(dict.fromkeys(backend.name for backend in backends)),
        block_outermost=any(backend.block_outermost for backend in backends),
        states_cached=states_cached,
    )


def _common_block(backends: list[Backend]) -> int:
    """Smallest block size that every kernel accepts.

    vLLM 0.32 platforms/interface.py:691-742 (`_preferred_block_size_for_backends`).
    """
    named = {backend.name: backend for backend in backends}
    if len(named) == 1:
        # One kernel for heads of several widths: the widest asks for the most.
        return max(backend.prefer(DEFAULT_BLOCK_TOKENS) for backend in backends)
    if all(backend.takes(DEFAULT_BLOCK_TOKENS) for backend in backends):
        return DEFAULT_BLOCK_TOKENS
    candidates = sorted({math.lcm(*sizes) for sizes in product(*(backend.sizes for backend in backends))})
    for candidate in candidates:
        if all(backend.takes(candidate) for backend in backends):
            return candidate
    raise UnsupportedError(
        f"The attention kernels {', '.join(named)} share no block size.", hint="Name one with --block-size."
    )


def _grow_for_states(
    caches: list[tuple[Attention, Backend | None, RankCache | None]],
    backends: list[Backend],
    block: int,
    state_bytes: int,
    setting: Setting,
) -> tuple[int, int]:
    """Grow the attention block until its page holds the largest state; pad states to that page.

    vLLM 0.32 platforms/interface.py:939-1110 (`_align_hybrid_block_size`): one attention layer speaks for all.

    Returns:
        (block size in tokens, bytes of a state page).
    """
    latent = next((kind for kind, _, _ in caches if isinstance(kind, LatentAttention)), None)
    step = max(min(backends[0].sizes), block)
    if latent is not None:
        token_bytes = (latent.rank + latent.rope_dim) * setting.element_bytes
        step = max(step, HYBRID_LATENT_ALIGNMENT_TOKENS)
    else:
        # The model's head size and KV heads: those of its first attention layer.
        token_bytes = next(cache.page_bytes(1) for _, backend, cache in caches if backend and cache)
    grown = step * ceil_div(state_bytes, step * token_bytes)
    kernel_step = math.lcm(*(min(entry.sizes) for entry in backends))
    grown = kernel_step * ceil_div(grown, kernel_step)
    block = max(block, grown)
    return block, block * token_bytes


def _page(
    cache: RankCache, backend: Backend | None, block: int, state_page: int, *, states_cached: bool
) -> Page:
    if cache.reach == "state":
        return Page(
            cache=cache, block_tokens=block if states_cached else 0, bytes=max(cache.state_bytes, state_page)
        )
    tokens = cache.block_tokens or block
    if cache.reach == "window" and not cache.latent and cache.block_tokens is None and backend is not None:
        tokens = _window_block(backend, block)
    return Page(
        cache=cache,
        block_tokens=tokens,
        bytes=cache.page_bytes(tokens),
        stride_bytes=1 if backend is None else _stride(cache, backend, tokens),
    )


def _stride(cache: RankCache, backend: Backend, tokens: int) -> int:
    """Bytes of which the distance between blocks must be a multiple, so that kernels find their rows or pages.

    vLLM 0.32 v1/kv_cache_interface.py:199-208, v1/worker/utils.py:476-487, backends/mla/sparse_utils.py:44-47.
    """
    if backend.rows:
        return backend.rows * cache.content_bytes
    kernel = math.gcd(max(backend.sizes), tokens) if backend.exact else tokens
    return 1 if kernel == tokens else cache.page_bytes(kernel)


def _window_block(backend: Backend, block: int) -> int:
    """Largest block the kernel runs unsplit that is no larger than the common one, else its smallest.

    vLLM 0.32 layers/attention/attention.py:101-130 (`_largest_kernel_block_within`), :623-668.
    """
    if backend.exact:
        sizes = backend.sizes
        return max((size for size in sizes if size <= block), default=min(sizes))
    return max(max(size, block // size * size) for size in backend.sizes)

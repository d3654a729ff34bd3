"""Which attention kernel vLLM picks for a layer, as far as it decides block sizes and the packing of pages.

Every rule is read from vLLM 0.32: the priorities in platforms/cuda.py:84-180 and platforms/rocm.py (AMD), what a kernel
accepts in v1/attention/backends/*.py (`validate_configuration`), its block sizes in `get_supported_kernel_block_sizes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from selfhost.attention import (
    Attention,
    BlockSparse,
    BlockSparseIndexer,
    ChunkedLocal,
    CrossAttention,
    FullAttention,
    LatentAttention,
    PooledKeyRing,
    PooledKeys,
    PoolTail,
    SlidingWindow,
    SparseIndexer,
    V4Compressed,
    V4CompressorState,
    V4Indexer,
    V4Window,
    V41CompressorRing,
)
from selfhost.errors import UnsupportedError
from selfhost.kv.settings import KvSettings

PLAIN = ("auto", "float16", "bfloat16")
Grouped = FullAttention | SlidingWindow | ChunkedLocal | CrossAttention


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A kernel's demands on blocks.

    Attributes:
        name: vLLM's name.
        sizes: block sizes in tokens of which a block must be a multiple of at least one.
        exact: the kernel runs exactly these sizes (larger blocks are split), not every multiple.
        preferred: block size it asks for where nothing is said; None for the engine's default if it takes that.
        block_outermost: pages of all layers lie side by side in a block.
        packed_rows: turns a quantized cache into DeepSeek's packed row.
        rows: blocks must lie a multiple of this many rows apart; 0 where kernel blocks decide.
    """

    name: str
    sizes: tuple[int, ...]
    exact: bool = False
    preferred: int | None = None
    block_outermost: bool = False
    packed_rows: bool = False
    rows: int = 0

    def takes(self, block_tokens: int) -> bool:
        """Whether blocks of this size can be used (v1/attention/backend.py, `supports_block_size`)."""
        return any(block_tokens % size == 0 for size in self.sizes)

    def prefer(self, default: int) -> int:
        """Block size where this is the only kernel (`get_preferred_block_size`)."""
        if self.preferred is not None:
            return self.preferred
        return default if self.takes(default) else min(self.sizes)


def select_backend(layer: Attention, kv_dtype: str, settings: KvSettings) -> Backend | None:
    """The kernel for one layer; None for recurrent and encoder-only layers, which have no say in block sizes.

    Raises:
        UnsupportedError: no kernel of the engine runs this layer with this cache on this GPU.
    """
    candidates = _candidates(layer, kv_dtype, settings)
    if candidates is None:
        return None
    refused = False
    for backend in candidates:
        if settings.block_size is None or backend.takes(settings.block_size):
            return backend
        refused = True
    if refused:
        raise UnsupportedError(
            f"No attention kernel takes blocks of {settings.block_size} tokens for {layer.kind} layers here.",
            hint="Leave --block-size to the engine.",
        )
    raise UnsupportedError(
        f"vLLM has no attention kernel for {layer.kind} layers with --kv-dtype {kv_dtype} on this GPU"
        f" ({_shown(settings)}).",
        hint="Take a GPU of another generation."
        if kv_dtype == "auto"
        else "Try --kv-dtype auto, or a GPU of another generation.",
    )


def _shown(settings: KvSettings) -> str:
    if settings.vendor == "amd":
        return "AMD"
    return f"compute capability {'.'.join(map(str, settings.compute_capability))}"


def _candidates(layer: Attention, kv_dtype: str, settings: KvSettings) -> Iterator[Backend] | None:
    match layer:
        case FullAttention() | SlidingWindow() | ChunkedLocal() | CrossAttention():
            grouped = _grouped_amd if settings.vendor == "amd" else _grouped_nvidia
            return grouped(layer, kv_dtype, settings)
        case LatentAttention():
            return (
                _latent_amd(layer) if settings.vendor == "amd" else _latent_nvidia(layer, kv_dtype, settings)
            )
        case SparseIndexer():
            return iter((_indexer(layer, settings),))
        case PooledKeys() | PooledKeyRing():
            return iter((Backend(name="QWEN4_EXP_QSA_STATE", sizes=(1,), block_outermost=True),))
        case PoolTail():
            return iter((Backend(name="KPOOL_TAIL", sizes=(1,), block_outermost=True),))
        case BlockSparse():
            if kv_dtype == "nvfp4" and settings.compute_capability[0] != 10:
                return iter(())
            return iter((Backend(name="MINIMAX_M3_SPARSE", sizes=(128,), exact=True),))
        case BlockSparseIndexer():
            return iter((Backend(name="MINIMAX_M3_SPARSE_INDEXER", sizes=(128,), exact=True),))
        case V4Window() | V4Compressed() | V4CompressorState() | V41CompressorRing() | V4Indexer():
            return iter((_deepseek_v4(layer, settings),))
        case _:
            return None


def _indexer(layer: SparseIndexer, settings: KvSettings) -> Backend:
    """v1/attention/backends/mla/indexer.py:284-306; pages of a pooled indexer count uncompressed tokens."""
    if settings.vendor == "amd":
        return Backend(name="DEEPSEEK_V32_INDEXER", sizes=(1, 16))
    if layer.pool == 1:
        return Backend(name="DEEPSEEK_V32_INDEXER", sizes=(64,), exact=True)
    entries = (64,) if settings.compute_capability[0] == 12 else (32, 64)
    return Backend(name="GLM5_NEXT_INDEXER", sizes=tuple(layer.pool * count for count in entries), exact=True)


def _deepseek_v4(
    layer: V4Window | V4Compressed | V4CompressorState | V41CompressorRing | V4Indexer, settings: KvSettings
) -> Backend:
    """models/deepseek_v4/sparse_mla.py:61, models/deepseek_v41/sparse_mla.py:89; indexer.py:330-380.

    The indexer's pages lie beside the latent ones, so blocks are outermost.
    """
    if isinstance(layer, V4Window):
        return Backend(name="DEEPSEEK_SPARSE_SWA", sizes=(32,))
    if isinstance(layer, V4CompressorState | V41CompressorRing):
        return Backend(name="COMPRESSOR", sizes=(1,))
    size = 256
    if layer.v41:
        size = 64 if settings.compute_capability[0] == 9 and settings.vendor == "nvidia" else 128
    if isinstance(layer, V4Indexer):
        return Backend(name="DEEPSEEK_V4_INDEXER", sizes=(size,), exact=True, block_outermost=True)
    return Backend(name="FLASHMLA_SPARSE_DSV4", sizes=(size,), exact=True)


def _grouped_nvidia(layer: Grouped, kv_dtype: str, settings: KvSettings) -> Iterator[Backend]:
    major = settings.compute_capability[0]
    head = layer.head_dim
    sinks = isinstance(layer, FullAttention | SlidingWindow) and layer.sinks
    prefix = isinstance(layer, FullAttention | SlidingWindow) and layer.prefix_bidirectional
    value = layer.value_dim if isinstance(layer, FullAttention | SlidingWindow) else None
    if value is not None and value != head:
        # MiMo-V2 names its kernel itself: FA3/FA4 where they run, Triton elsewhere; both take multiples of 16.
        if kv_dtype in PLAIN or (
            kv_dtype == "fp8_e4m3" and major != 10 and _triton_reads(kv_dtype, settings)
        ):
            yield Backend(name="FLASH_ATTN_DIFFKV" if major in (9, 10) else "TRITON_ATTN_DIFFKV", sizes=(16,))
        return
    if isinstance(layer, FullAttention) and layer.selected:
        # vLLM 0.32 models/qwen4_exp/nvidia/qsa.py:150-200.
        if kv_dtype in PLAIN or kv_dtype == "fp8_e4m3":
            yield Backend(name="QWEN4_EXP_QSA_TRITON", sizes=(16,))
        return
    half = settings.model_dtype in ("float16", "bfloat16")
    # FA3/FA4 read 64-token pages where an SM90 dequantises fp8 for heads of 512 (flash_attn.py:300-329).
    flash_size = 64 if major == 9 and kv_dtype == "fp8_e4m3" and head == 512 else 16
    if prefix and major == 10 and head in (256, 512) and kv_dtype != "nvfp4" and half and not sinks:
        yield Backend(name="TRITON_FLASHINFER", sizes=(64,), exact=True)  # triton_flashinfer.py
    if (
        prefix
        and major == 9
        and head in (256, 512)
        and kv_dtype in (*PLAIN, "fp8_e4m3")
        and half
        and not sinks
    ):
        yield Backend(name="TRITON_FLASH_ATTN", sizes=(flash_size,), exact=flash_size == 64)
    flash = Backend(name="FLASH_ATTN", sizes=(flash_size,), exact=flash_size == 64)
    flash_runs = half and _flash_attention_runs(head, kv_dtype, sinks, prefix, settings)
    if flash_runs and major != 10:
        yield flash
    if half and not prefix and _flashinfer_runs(head, kv_dtype, sinks, settings):
        # Pages of 128 and more need the SM10x kernels; they change how blocks are split, not how large they are.
        large = (128, 256, 512, 1024) if major == 10 else ()
        yield Backend(name="FLASHINFER", sizes=(16, 32, 64, *large), exact=True)
    if flash_runs and major == 10:
        yield flash
    if head >= 32 and _triton_reads(kv_dtype, settings):
        yield Backend(name="TRITON_ATTN", sizes=(16,))


def _triton_reads(kv_dtype: str, settings: KvSettings) -> bool:
    """Triton kernels read fp8 from compute capability 8.9 on (Ada, Hopper, ...), and nvfp4 never."""
    return kv_dtype in PLAIN or (kv_dtype != "nvfp4" and settings.compute_capability >= (8, 9))


def _flash_attention_runs(head: int, kv_dtype: str, sinks: bool, prefix: bool, settings: KvSettings) -> bool:
    """flash_attn.py:430-535 with fa_utils.py:92-222: FA2 on SM8x and SM12x, FA3/FA4 on SM9x, FA4/FA2 on SM10x."""
    major = settings.compute_capability[0]
    if major < 8 or head % 8 or head > (512 if major in (9, 10, 11) else 256):
        return False
    if sinks and major not in (9, 10):
        return False
    version4 = (major == 9 and head > 256) or (major == 10 and head <= 128)
    if prefix and (not version4 or (major == 9 and kv_dtype not in PLAIN)):
        return False
    if kv_dtype in PLAIN:
        return True
    return kv_dtype == "fp8_e4m3" and (
        (major == 9 and (head <= 256 or head == 512)) or (major == 10 and version4)
    )


def _flashinfer_runs(head: int, kv_dtype: str, sinks: bool, settings: KvSettings) -> bool:
    """flashinfer.py:448-602."""
    major, minor = settings.compute_capability
    if not (8, 0) <= (major, minor) <= (12, 1) or head not in (64, 128, 256, 512):
        return False
    if sinks and not ((major, minor) == (9, 0) or major in (10, 12)):
        return False
    if kv_dtype == "nvfp4":
        return major == 10 or (major in (8, 9, 12) and head != 64 and not sinks)
    return True


def _grouped_amd(layer: Grouped, kv_dtype: str, settings: KvSettings) -> Iterator[Backend]:
    """ROCM_ATTN first, AITER's unified kernel (it asks for 64) for what that refuses, then Triton.

    platforms/rocm.py (`_get_backend_priorities`) with AITER installed and VLLM_ROCM_USE_AITER unset, as in the image;
    v1/attention/backends/rocm_attn.py:148-232, rocm_aiter_unified_attn.py:66-130.
    """
    if kv_dtype == "nvfp4":
        return
    sinks = isinstance(layer, FullAttention | SlidingWindow) and layer.sinks
    prefix = isinstance(layer, FullAttention | SlidingWindow) and layer.prefix_bidirectional
    symmetric = not (
        isinstance(layer, FullAttention | SlidingWindow) and layer.value_dim not in (None, layer.head_dim)
    )
    heads = (32, 64, 80, 96, 128, 160, 192, 224, 256)
    if layer.head_dim in heads and symmetric and not (sinks or prefix or isinstance(layer, CrossAttention)):
        yield Backend(name="ROCM_ATTN", sizes=(16,))
    if layer.head_dim >= 32 and symmetric and not prefix:
        yield Backend(name="ROCM_AITER_UNIFIED_ATTN", sizes=(16,), preferred=settings.block_size or 64)
    if layer.head_dim >= 32:
        yield Backend(name="TRITON_ATTN", sizes=(16,))


def _latent_nvidia(layer: LatentAttention, kv_dtype: str, settings: KvSettings) -> Iterator[Backend]:
    """platforms/cuda.py:96-156 with v1/attention/backends/mla/*.py."""
    major = settings.compute_capability[0]
    if kv_dtype in ("nvfp4", "fp8_e5m2"):
        return
    if layer.sparse:
        yield from _sparse_latent_nvidia(layer, kv_dtype, settings)
        return
    if major == 10:
        if layer.nope_dim in (64, 128, 192):
            yield Backend(name="FLASHINFER_MLA", sizes=(32, 64), exact=True)
        yield Backend(name="CUTLASS_MLA", sizes=(128,), exact=True)
        yield Backend(name="FLASHMLA", sizes=(64,), exact=True)
    elif major == 9:
        if kv_dtype in PLAIN:
            yield Backend(name="FLASH_ATTN_MLA", sizes=(16,))
        yield Backend(name="FLASHMLA", sizes=(64,), exact=True)
    if _triton_reads(kv_dtype, settings):
        yield Backend(name="TRITON_MLA", sizes=(16,))


def _sparse_latent_nvidia(layer: LatentAttention, kv_dtype: str, settings: KvSettings) -> Iterator[Backend]:
    major = settings.compute_capability[0]
    plain = kv_dtype in PLAIN
    ropeless = layer.rope_dim == 0
    if major == 10:
        shape = (layer.nope_dim == 256 and layer.rank == 512) if ropeless else layer.nope_dim in (128, 192)
        if shape and (ropeless or not plain):
            yield Backend(name="FLASHINFER_MLA_SPARSE", sizes=(32,), rows=32)
        # fp8 becomes the packed row here; bf16 is as large with either kernel (head count decides between them).
        if not ropeless:
            yield Backend(name="FLASHMLA_SPARSE", sizes=(64,), packed_rows=not plain, rows=1)
    elif major == 9:
        if ropeless and layer.rank == 512:
            yield Backend(name="FLASHINFER_MLA_SPARSE_SM90", sizes=(64,), rows=1)
        if plain:
            yield Backend(name="FLASH_ATTN_MLA_SPARSE", sizes=(64,), rows=1)
        if not ropeless:
            yield Backend(name="FLASHMLA_SPARSE", sizes=(64,), packed_rows=not plain, rows=1)
    elif major == 12 and kv_dtype in ("auto", "fp8_e4m3"):
        yield Backend(name="FLASHINFER_MLA_SPARSE_SM120", sizes=(64,), packed_rows=True, rows=64)


def _latent_amd(layer: LatentAttention) -> Iterator[Backend]:
    if layer.sparse:
        yield Backend(name="ROCM_AITER_MLA_SPARSE", sizes=(1, 16))
    else:
        yield Backend(name="TRITON_MLA", sizes=(16,))

"""Names that a pickle may import: those that rebuild tensors; and the best known of those that run code."""

from __future__ import annotations

from collections.abc import Iterable


def runs_code(name: str) -> bool:
    """Whether a name is known to run code. For the wording only: whatever is not in `REBUILDING` is a finding."""
    return name.partition(".")[0] in _RUNNERS or name in _RUNNING_NAMES


def _named(module: str, names: Iterable[str]) -> Iterable[str]:
    return (f"{module}.{name}" for name in names)


_KINDS = (
    "Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool", "ComplexDouble",
    "ComplexFloat", "QUInt8", "QInt8", "QInt32", "QUInt4x2", "QUInt2x4",
)  # fmt: skip
_DTYPES = (
    "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz",
    "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2", "complex32", "complex64", "complex128", "bool", "qint8",
    "quint8", "qint32", "quint4x2", "quint2x4",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (*range(1, 9), 16, 32, 64)),
)  # fmt: skip
_QUANTIZATION = (
    "per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric",
    "per_channel_affine_float_qparams",
)  # fmt: skip
_REBUILD = (
    "parameter", "parameter_with_state", "qtensor", "tensor", "tensor_v2", "tensor_v3", "sparse_tensor",
    "meta_tensor_no_storage", "wrapper_subclass", "device_tensor_from_numpy", "device_tensor_from_cpu_tensor",
)  # fmt: skip
_BUILTINS = ("set", "frozenset", "bytearray", "bytes", "complex")
_NUMPY = ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
_NUMPY_DTYPES = (
    "Bool", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float16", "Float32",
    "Float64", "Complex64", "Complex128",
)  # fmt: skip

# PyTorch's own list (torch/_weights_only_unpickler.py, read 2026-11-26), plain containers, numpy's arrays and numbers.
REBUILDING = frozenset((
    *_named("torch", (f"{kind}{what}" for kind in _KINDS for what in ("Storage", "Tensor"))),
    *_named("torch.cuda", (f"{kind}{what}" for kind in _KINDS for what in ("Storage", "Tensor"))),
    *_named("torch", ("storage.TypedStorage", "storage.UntypedStorage", "Tensor", "Size", "device")),
    *_named("torch", (*_DTYPES, *_QUANTIZATION)),
    *_named("torch._utils", (f"_rebuild_{what}" for what in _REBUILD)),
    "torch.nn.parameter.Parameter",
    "torch.serialization._get_layout",
    "torch._tensor._rebuild_from_type_v2",
    "collections.OrderedDict",
    "collections.Counter",
    "_codecs.encode",  # how protocol 2 writes bytes
    *_named("builtins", _BUILTINS),
    *_named("__builtin__", _BUILTINS),  # the same, of protocols 0 to 2
    *_named("numpy", ("dtype", "ndarray")),
    *_named("numpy.core", _NUMPY),
    *_named("numpy._core", _NUMPY),
    *_named("numpy.dtypes", (f"{name}DType" for name in _NUMPY_DTYPES)),
))  # fmt: skip

_RUNNERS = frozenset((
    "os", "posix", "nt", "subprocess", "sys", "importlib", "runpy", "pty", "socket", "shutil", "ctypes", "marshal",
    "pickle", "_pickle", "cloudpickle", "dill", "webbrowser", "urllib", "requests", "http", "commands",
    "multiprocessing", "threading", "operator", "_operator", "functools", "types", "code", "codeop", "bdb", "pdb",
    "timeit", "pip", "io", "_io", "pathlib", "tempfile", "signal", "asyncio", "concurrent", "inspect", "builtins",
    "__builtin__",
))  # fmt: skip
_RUNNING_NAMES = frozenset((
    "torch.load", "torch.serialization.load", "torch.storage._load_from_bytes", "torch.hub.load", "torch.jit.load",
    "torch._inductor.codecache.compile_file", "torch.utils.collect_env.run", "numpy.load", "pandas.read_pickle",
    "joblib.load", "numpy.testing._private.utils.runstring",
))  # fmt: skip

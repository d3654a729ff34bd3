"""A directory in Hugging Face layout: configuration, quantization files and safetensors headers, read in place."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from selfhost.errors import MalformedAnswerError, ModelNotFoundError, UnsupportedError
from selfhost.hub import headers
from selfhost.hub.card import CARD, CARD_BYTES, LOCK, declared_by_card, declared_by_lock
from selfhost.hub.licence_text import TEXT_BYTES, with_clauses
from selfhost.hub.references import shown
from selfhost.hub.safejson import MAXIMUM_BYTES, parse_object
from selfhost.licence import Declared
from selfhost.model.raw import TensorHeader

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
# Where config.json does not carry the quantization: ModelOpt, AutoGPTQ and llm-awq (each method's
# get_config_filenames in vllm 0.32.0, model_executor/layers/quantization/).
QUANTIZATION_FILES = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")
MAXIMUM_SHARDS = 4096

_SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,250}\.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a directory or repository holds about a model.

    Args:
        config: config.json.
        quantization: the first of QUANTIZATION_FILES that exists.
        tensors: headers of the weights, None where there are none to read.
        pooling: modules.json exists (sentence-transformers).
        declared: what the model card says of licence and origin, and what a pull wrote down of it.
        repository: the repository that was pulled into it, None where no lock file says it.
    """

    config: dict[str, object]
    quantization: dict[str, object] | None
    tensors: tuple[TensorHeader, ...] | None
    pooling: bool
    declared: Declared
    repository: str | None


def read_directory(path: Path, *, allowed: Path | None = None, complete: bool = True) -> Found:
    """Read a model directory.

    Args:
        path: the directory.
        allowed: symbolic links may lead anywhere under this; the directory itself when None.
        complete: missing shards are an error; otherwise there are then no tensor headers (a cache that holds
            the configuration only).

    Raises:
        ModelNotFoundError: no such directory, or no config.json in it.
        MalformedAnswerError: a file is damaged, lies about itself or leads out of the directory.
        UnsupportedError: the directory holds another format or an adapter.
    """
    files = Files(path=path, root=_resolved(allowed or path))
    if not os.path.isdir(path):  # unlike Path.is_dir, false for a name that is too long
        raise _no_directory(path)
    config = files.json(CONFIG)
    if config is None:
        raise _no_config(path, files)
    quantization = None
    for name in QUANTIZATION_FILES:
        quantization = files.json(name)
        if quantization is not None:
            break
    declared, repository = _declared(files)
    return Found(
        config=config,
        quantization=quantization,
        tensors=_tensors(files, complete=complete),
        pooling=files.exists("modules.json"),
        declared=declared,
        repository=repository,
    )


def weight_files(names: list[str], index: dict[str, object] | None, *, where: str) -> tuple[str, ...]:
    """The safetensors files that would be loaded, in order.

    An index decides where there is one (`consolidated.safetensors` beside it holds the same weights again);
    otherwise `model.safetensors`, otherwise every file but adapters and, if others remain, consolidated ones.

    Args:
        names: all file names.
        index: model.safetensors.index.json.
        where: the directory or repository, for the error.

    Raises:
        MalformedAnswerError: the index is not one, or names a file elsewhere.
    """
    if index is not None:
        weight_map = index.get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise MalformedAnswerError(f"{INDEX} of {where} has no weight_map.", hint=_HINT)
        wanted = dict.fromkeys(map(str, weight_map.values()))  # a list among them is no dictionary key
        for name in wanted:
            if not _SHARD.fullmatch(name) or ".." in name:
                raise MalformedAnswerError(
                    f"{INDEX} of {where} names the file {shown(name, 80)!r}, which is outside or no shard.",
                    hint=_HINT,
                )
        if len(wanted) > MAXIMUM_SHARDS:
            raise MalformedAnswerError(f"{INDEX} of {where} names {len(wanted):,} files.", hint=_HINT)
        return tuple(sorted(wanted))
    if SINGLE in names:
        return (SINGLE,)
    plain = [name for name in names if _SHARD.fullmatch(name) and not name.startswith("adapter_")]
    own = [name for name in plain if not name.startswith("consolidated")]
    return tuple(sorted(own or plain)[:MAXIMUM_SHARDS])


def snapshot_path(cache: Path, name: str, commit: str) -> Path:
    """Where huggingface_hub keeps the files of one commit (docs: "Understand caching")."""
    return cache / f"models--{name.replace('/', '--')}" / "snapshots" / commit


def cache_root(path: Path) -> Path | None:
    """For a snapshot inside huggingface_hub's cache the cache itself, as its files are links into `blobs`."""
    absolute = Path(os.path.abspath(path))
    if absolute.parent.name == "snapshots" and absolute.parents[1].name.startswith("models--"):
        return absolute.parents[2]
    return None


def local_name(path: Path) -> str:
    """The directory's name, or the repository's where the directory is a snapshot of huggingface_hub's cache."""
    absolute = Path(os.path.abspath(path))
    if cache_root(absolute):
        return absolute.parents[1].name.removeprefix("models--").replace("--", "/", 1)
    return shown(absolute.name) or "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The files of one directory, opened only where they are regular files under `root`."""

    path: Path
    root: Path

    def exists(self, name: str) -> bool:
        """Whether the directory has an entry of that name."""
        return os.path.lexists(self.path / name)

    def names(self) -> list[str]:
        """All entries, sorted."""
        try:
            return sorted(os.listdir(self.path))
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading.

        Raises:
            MalformedAnswerError: it leads out of the directory or is no regular file.
            ModelNotFoundError: it cannot be read.
        """
        path = self.path / name
        try:
            target = path.resolve(strict=True)
            if not target.is_relative_to(self.root):
                raise MalformedAnswerError(
                    f"{path} leads out of the model's directory, to {target}.",
                    hint="copy the file into the directory, or name the directory that holds it.",
                )
            # Without O_NONBLOCK opening a FIFO would wait for its writer.
            descriptor = os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, RuntimeError) as error:
            raise _unreadable(path, error) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise MalformedAnswerError(f"{path} is not a regular file.", hint=_HINT)
        return os.fdopen(descriptor, "rb")

    def start(self, name: str, limit: int) -> bytes:
        """The first bytes of a file, empty where there is none."""
        if not self.exists(name):
            return b""
        with self.open(name) as file:
            return file.read(limit)

    def json(self, name: str) -> dict[str, object] | None:
        """A JSON object, None where there is no such file."""
        if not self.exists(name):
            return None
        with self.open(name) as file:
            return parse_object(file.read(MAXIMUM_BYTES + 1), where=str(self.path / name))

    def header(self, name: str) -> tuple[TensorHeader, ...]:
        """Tensor headers of one safetensors file."""
        where = str(self.path / name)
        with self.open(name) as file:
            size = os.fstat(file.fileno()).st_size
            length = headers.header_bytes(file.read(headers.PREFIX_BYTES), file_bytes=size, where=where)
            return headers.parse_header(file.read(length), file_bytes=size, where=where)


_HINT = "fetch the model again, or name another revision."


def _declared(files: Files) -> tuple[Declared, str | None]:
    card = declared_by_card(files.start(CARD, CARD_BYTES))
    lock = files.json(LOCK)
    declared, repository = (card, None) if lock is None else declared_by_lock(lock, card)
    return with_clauses(declared, lambda name: files.start(name, TEXT_BYTES)), repository


def _tensors(files: Files, *, complete: bool) -> tuple[TensorHeader, ...] | None:
    names = files.names()
    shards = weight_files(names, files.json(INDEX), where=str(files.path))
    if not shards:
        return None
    missing = [name for name in shards if name not in names]
    if missing:
        if not complete:
            return None
        raise MalformedAnswerError(
            f"{files.path} lacks {len(missing)} of the {len(shards)} files that {INDEX} names, such as {missing[0]}.",
            hint="finish the download, or remove the index and the shards to size from config.json alone.",
        )
    return headers.merge(tuple((str(files.path / name), files.header(name)) for name in shards))


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise _unreadable(path, error) from error


def _no_directory(path: Path) -> ModelNotFoundError:
    if os.path.exists(path):
        return ModelNotFoundError(
            f"{path} is a file, not a model directory.",
            hint="name the directory that holds it, or a .gguf file.",
        )
    return ModelNotFoundError(
        f"There is no directory {shown(str(path))}.",
        hint="a local model is a directory that holds config.json.",
    )


def _no_config(path: Path, files: Files) -> ModelNotFoundError | UnsupportedError:
    names = files.names()
    gguf = [name for name in names if name.lower().endswith(".gguf")]
    if "adapter_config.json" in names:
        return UnsupportedError(
            f"{path} holds an adapter, not a model.", hint="name the adapter's base model."
        )
    if "params.json" in names:
        return UnsupportedError(
            f"{path} holds Mistral's own format (params.json) and no {CONFIG}.",
            hint="use the same model in Hugging Face layout.",
        )
    if gguf:
        return ModelNotFoundError(f"{path} holds no {CONFIG}.", hint=f"name the file: {path / gguf[0]}")
    return ModelNotFoundError(
        f"{path} holds no {CONFIG}.", hint="a local model is a directory that holds config.json."
    )


def _unreadable(path: Path, error: Exception) -> ModelNotFoundError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else "its links lead in a circle"
    return ModelNotFoundError(f"{path} cannot be read: {reason}.", hint="check the path and its permissions.")

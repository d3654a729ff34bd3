"""Listing -> which files are pulled, and why: one weight format, what loads and speaks it, and nothing twice."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from selfhost.errors import ModelNotFoundError, UnsupportedError, UsageError
from selfhost.hub.directory import CONFIG, INDEX, weight_files
from selfhost.pull.names import check_collisions
from selfhost.pull.types import Choice, Listing, RemoteFile
from selfhost.units import gib

PICKLE_INDEX = "pytorch_model.bin.index.json"
MODULES = "modules.json"  # sentence-transformers: which folders belong to the model
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
# Weights of other frameworks (huggingface_hub 2.4, constants.py: *_WEIGHTS_NAME) and of other run times.
OTHER_WEIGHTS = (
    ".h5", ".msgpack", ".onnx", ".onnx_data", ".tflite", ".ot", ".mlmodel", ".mlpackage", ".llamafile", ".engine",
    ".nemo", ".tar", ".zip", ".gz", ".7z", ".rar", ".data", ".npz", ".npy", ".safetensors.bak",
)  # fmt: skip
# Folders in which repositories keep a second copy, a run's leftovers or pictures.
DUPLICATE_FOLDERS = frozenset(
    ("original", "onnx", "openvino", "coreml", "gguf", "mlx", "metal", "tensorrt", "tflite", "flax", "consolidated",
     "runs", "logs", "wandb", "assets", "figures", "images", "imgs", "img", "media", "docs", "examples", "samples",
     "eval", "evals", "evaluation", "evaluations", ".eval_results", "eval_results", "benchmarks", "benchmark")
)  # fmt: skip
_CHECKPOINT = re.compile(r"(checkpoint|global_step|step|epoch)[-_]?\d+")
_PICTURES = (
    ".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".mp4", ".webm", ".mov", ".wav", ".mp3", ".flac", ".pdf",
    ".ipynb",
)  # fmt: skip
_TRAINING = re.compile(
    r"(optimizer|scheduler|training_args|trainer_state|rng_state|scaler|events\.out\.tfevents)[^/]*"
)
_LEGAL = re.compile(
    r"(licen[cs]e|notice|use_policy|usage_policy|readme|copying|attribution)[^/]*", re.IGNORECASE
)
_SMALL = (
    ".json", ".jinja", ".jinja2", ".txt", ".model", ".tiktoken", ".spm", ".bpe", ".vocab", ".yaml", ".yml", ".toml",
    ".jsonl", ".proto", ".cfg", ".ini",
)  # fmt: skip
_GGUF_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the user says about the choice.

    Args:
        include: globs; where there are any, only files that match one are pulled.
        exclude: globs of files to leave out.
        gguf: the GGUF file that is wanted.
        trust_remote_code: pull Python files of the repository.
        allow_pickle: pull pickled weights where there is no safe format.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    gguf: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False


def choose(
    listing: Listing, wish: Wish, *, indexes: Mapping[str, Mapping[str, object]] | None = None
) -> tuple[Choice, ...]:
    """Decide about every file of a repository.

    Args:
        listing: the repository; its names are safe already.
        wish: what the user asked for.
        indexes: contents of INDEX, PICKLE_INDEX and MODULES, where the repository has them.

    Returns:
        One choice a file, in the listing's order.

    Raises:
        ModelNotFoundError: nothing is left to pull, or a GGUF file is not there.
        UnsupportedError: only pickles, and they were not asked for; or several GGUF files and none named.
        MalformedAnswerError: the chosen names collide.
    """
    names = [file.path for file in listing.files]
    if wish.include:
        picked = [_included(file, wish) for file in listing.files]
    else:
        weights, why = _weights(listing, wish, indexes or {})
        folders = _module_folders(indexes or {})
        picked = [_decide(file, wish, weights, why, folders, names) for file in listing.files]
    kept = [choice.file.path for choice in picked if choice.keep]
    if not kept:
        raise ModelNotFoundError(
            f"No file of {listing.repo} is left to pull.", hint="change --include or --exclude."
        )
    check_collisions(kept, repo=listing.repo)
    return tuple(picked)


def is_pickle(name: str) -> bool:
    """Whether a file of that name is read by unpickling."""
    return name.lower().endswith(PICKLES)


def is_weight(name: str) -> bool:
    """Whether a file of that name holds weights in a format that an engine loads."""
    return name.lower().endswith((".safetensors", ".gguf", *PICKLES))


def check_globs(wish: Wish) -> None:
    """Refuse globs that can match nothing.

    Raises:
        UsageError: an empty or absolute pattern.
    """
    for flag, patterns in (("--include", wish.include), ("--exclude", wish.exclude)):
        for pattern in patterns:
            if not pattern or pattern.startswith("/"):
                raise UsageError(f"{flag} {pattern!r} matches no file of a repository.", hint="Write *.json.")


def _included(file: RemoteFile, wish: Wish) -> Choice:
    name = file.path
    pattern = _match(name, wish.include)
    if pattern is None:
        return Choice(file=file, keep=False, because="matches no --include")
    return _guarded(file, wish, f"--include {pattern}")


def _decide(
    file: RemoteFile,
    wish: Wish,
    weights: frozenset[str],
    why: str,
    folders: frozenset[str],
    names: Sequence[str],
) -> Choice:
    name = file.path
    if name in weights:
        return _guarded(file, wish, why)
    because = _left_out(name, folders, names, weights)
    if because is not None:
        return Choice(file=file, keep=False, because=because)
    return _guarded(file, wish, _role(name))


def _guarded(file: RemoteFile, wish: Wish, because: str) -> Choice:
    """A file to keep, unless the user leaves it out or it could run code that was not trusted."""
    name = file.path.lower()
    pattern = _match(file.path, wish.exclude)
    if pattern is not None:
        return Choice(file=file, keep=False, because=f"--exclude {pattern}")
    if name.endswith((".py", ".so", ".sh", ".pyc")) and not wish.trust_remote_code:
        return Choice(file=file, keep=False, because="code; --trust-remote-code pulls it")
    if is_pickle(name) and not wish.allow_pickle:
        return Choice(file=file, keep=False, because="pickle, can run code when loaded; --allow-pickle")
    return Choice(file=file, keep=True, because=because)


def _weights(
    listing: Listing, wish: Wish, indexes: Mapping[str, Mapping[str, object]]
) -> tuple[frozenset[str], str]:
    """The weight files of the one format that is pulled, and why these."""
    names = [file.path for file in listing.files]
    if wish.gguf is not None:
        return _gguf_parts(listing, wish.gguf), "the GGUF file that was named"
    index = indexes.get(INDEX)
    root = [name for name in names if "/" not in name]
    folders = _module_folders(indexes)
    extra = frozenset(n for n in names if n.rpartition("/")[0] in folders and n.endswith(".safetensors"))
    adapters = [name for name in root if name.startswith("adapter_") and name.endswith(".safetensors")]
    if CONFIG not in names and adapters and "adapter_config.json" in names:
        return frozenset(adapters), "adapter weights"
    shards = weight_files(root, dict(index) if index else None, where=listing.repo)
    if shards:
        missing = [name for name in shards if name not in root]
        if missing:
            raise ModelNotFoundError(
                f"{listing.repo} lacks {len(missing)} of the {len(shards)} files that {INDEX} names, such as "
                f"{missing[0]}.",
                hint="the upload is not complete; name another revision.",
            )
        return frozenset(shards) | extra, "weights, named by the index" if index else "weights"
    if extra:
        return extra, "weights of a module"
    return _other_weights(listing, wish, root, indexes)


def _other_weights(
    listing: Listing, wish: Wish, root: list[str], indexes: Mapping[str, Mapping[str, object]]
) -> tuple[frozenset[str], str]:
    gguf = [name for name in root if name.lower().endswith(".gguf")]
    pickles = _pickle_shards(root, indexes)
    if pickles and CONFIG in root:
        if not wish.allow_pickle:
            raise UnsupportedError(
                f"{listing.repo} holds its weights as pickles ({pickles[0]}), which can run code when loaded.",
                hint="name a repository with safetensors, or add --allow-pickle: they are scanned after the pull.",
            )
        return frozenset(pickles), "weights, pickled; scanned after the pull"
    whole = {_GGUF_PART.sub(r"\1", name) for name in gguf}
    if len(whole) == 1:
        return frozenset(gguf), "the one GGUF file"
    if gguf:
        sizes = {file.path: file.size_bytes for file in listing.files}
        some = ", ".join(f"{name} ({gib(sizes[name])} GiB)" for name in gguf[:4])
        raise UnsupportedError(
            f"{listing.repo} holds {len(gguf)} GGUF files: {some}{' …' if len(gguf) > 4 else ''}.",
            hint=f"name one of them: {listing.repo}:{gguf[0]}",
        )
    return frozenset(), "no weights"


def _pickle_shards(root: Sequence[str], indexes: Mapping[str, Mapping[str, object]]) -> list[str]:
    index = indexes.get(PICKLE_INDEX)
    if index is not None and isinstance(weight_map := index.get("weight_map"), dict):
        return sorted({name for name in weight_map.values() if isinstance(name, str) and name in root})
    if "pytorch_model.bin" in root:
        return ["pytorch_model.bin"]
    return sorted(
        n for n in root if is_pickle(n) and not _TRAINING.fullmatch(n) and not n.startswith("adapter_")
    )


def _gguf_parts(listing: Listing, wanted: str) -> frozenset[str]:
    """The named file, or all parts of the split file it belongs to."""
    names = [file.path for file in listing.files]
    if wanted not in names:
        others = [name for name in names if name.lower().endswith(".gguf")]
        hint = f"it has {', '.join(others[:4])}" if others else "it has no GGUF file."
        raise ModelNotFoundError(f"{listing.repo} has no file {wanted}.", hint=hint)
    match = _GGUF_PART.fullmatch(wanted)
    if match is None:
        return frozenset((wanted,))
    parts = {f"{match[1]}-{number:05}-of-{match[3]}.gguf" for number in range(1, int(match[3]) + 1)}
    missing = sorted(parts.difference(names))
    if missing:
        raise ModelNotFoundError(
            f"{listing.repo} lacks {missing[0]}, a part of {wanted}.", hint="the upload is not complete."
        )
    return frozenset(parts)


def _module_folders(indexes: Mapping[str, Mapping[str, object]]) -> frozenset[str]:
    """Folders that sentence-transformers' modules.json names."""
    modules = indexes.get(MODULES, {}).get("modules", ())
    if not isinstance(modules, (list, tuple)):
        return frozenset()
    paths = (module.get("path") for module in modules if isinstance(module, dict))
    return frozenset(path for path in paths if isinstance(path, str) and path)


def _left_out(
    name: str, folders: frozenset[str], names: Sequence[str], weights: frozenset[str]
) -> str | None:
    """Why a file that is none of the chosen weights stays behind, None where it comes along."""
    lower = name.lower()
    folder, _, base = lower.rpartition("/")
    top = lower.partition("/")[0] if folder else ""
    if top in DUPLICATE_FOLDERS or _CHECKPOINT.fullmatch(top):
        return f"in {top}/, which is not served from"
    if _TRAINING.fullmatch(base):
        return "left from training"
    if base.startswith("consolidated") or (base == "params.json" and CONFIG in names):
        return "the same weights in another layout"
    if is_weight(lower):
        if folder and folder not in folders:
            return f"weights in {folder}/, which the engine does not load; --include takes them"
        return "the same weights in another format" if weights else "not loaded"
    if lower.endswith(OTHER_WEIGHTS):
        return "for another framework"
    if base in (INDEX, PICKLE_INDEX) and not _index_used(base, weights):
        return "index of files that are not pulled"
    if _LEGAL.fullmatch(base) or lower.endswith((*_SMALL, ".py", ".so", ".sh")):
        return None
    if lower.endswith(_PICTURES) or base.startswith(".") or lower.endswith(".md"):
        return "not read when serving"
    return None if _is_tokenizer(base) else "not read when serving"


def _index_used(base: str, weights: frozenset[str]) -> bool:
    end = ".safetensors" if base == INDEX else ".bin"
    return any(name.endswith(end) for name in weights)


def _is_tokenizer(base: str) -> bool:
    return base.startswith(("vocab", "merges", "tokenizer", "spiece", "sentencepiece", "tekken", "bpe"))


def _role(name: str) -> str:
    """What a small file is for."""
    base = name.lower().rpartition("/")[2]
    if _LEGAL.fullmatch(base):
        return "licence and terms" if not base.startswith("readme") else "model card, names the licence"
    if "chat_template" in base or base.endswith((".jinja", ".jinja2")):
        return "chat template"
    if base.startswith("generation_config"):
        return "default sampling"
    if "processor" in base or "preprocess" in base or base.startswith("video"):
        return "processor"
    if base in (INDEX, PICKLE_INDEX):
        return "index of the weights"
    if base.endswith(".py"):
        return "code of the model"
    if (
        _is_tokenizer(base)
        or base in ("special_tokens_map.json", "added_tokens.json")
        or base.endswith((".model", ".tiktoken", ".spm"))
    ):
        return "tokenizer"
    return "configuration"


def _match(name: str, patterns: Sequence[str]) -> str | None:
    """The first glob that matches, as huggingface_hub matches them: over the whole path, a folder for all below it."""
    for pattern in patterns:
        if fnmatch.fnmatchcase(name, pattern + "*" if pattern.endswith("/") else pattern):
            return pattern
    return None

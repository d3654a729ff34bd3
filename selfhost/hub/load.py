"""From a reference to a RawModel: which place answers, and what happens when the Hub cannot be asked.

Order for `org/name`: the bundled model of that name, so that a known model costs no network and no wait; else the Hub;
else, offline, huggingface_hub's cache. With a revision, or when the Hub is preferred, the bundled models are left out:
they follow no commit.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from selfhost.catalog import models
from selfhost.catalog.models import BundledModel
from selfhost.errors import ModelNotFoundError, OfflineError
from selfhost.hub.references import Reference, parse_reference, shown
from selfhost.model.raw import RawModel

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_SECONDS = 60.0
TRUE = ("1", "ON", "YES", "TRUE")  # huggingface_hub's own reading of HF_HUB_OFFLINE


def load_model(
    reference: str,
    *,
    prefer_hub: bool = False,
    environ: Mapping[str, str] = os.environ,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> RawModel:
    """Load what is known about a model; never its weights.

    Args:
        reference: see `selfhost.hub.references`.
        prefer_hub: ask the Hub even for a bundled model, for exact tensor headers and the present commit.
        environ: HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE, HF_HOME and HF_HUB_CACHE are read.
        timeout_seconds: longest wait for the Hub, all requests together.

    Raises:
        ModelReferenceError: the reference has no known form.
        ModelNotFoundError: no such model, revision, directory or file.
        GatedModelError, RenamedModelError, OfflineError, RateLimitedError: the Hub's refusals.
        MalformedAnswerError: a file or an answer is damaged or hostile.
        UnsupportedError, ConfigError: a format that selfhost does not read.
    """
    if (
        " " in reference and (spelled := models.find(reference)) is not None
    ):  # no repository has a space in its name
        return _bundled(Reference(text=reference, kind="catalogue", name=spelled.id), spelled)
    found = parse_reference(reference)
    if found.kind == "catalogue":
        return _bundled(found, models.load(found.name))
    if found.kind == "directory":
        return _directory(found)
    if found.kind == "gguf":
        return _gguf(found)
    if found.revision is None and found.file is None and not prefer_hub:
        bundled = models.find(found.name)
        if bundled is not None:
            return _bundled(found, bundled)
    return _hub(found, environ, timeout_seconds)


def cache_directory(environ: Mapping[str, str]) -> Path:
    """huggingface_hub's cache: HF_HUB_CACHE, or `hub` under HF_HOME (its constants.py)."""
    from pathlib import Path

    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environ.get(name):
            return Path(os.path.expanduser(os.path.expandvars(environ[name])))
    if environ.get("HF_HOME"):
        return Path(os.path.expanduser(os.path.expandvars(environ["HF_HOME"]))) / "hub"
    base = environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "huggingface" / "hub"


def is_offline(environ: Mapping[str, str]) -> bool:
    """Whether HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids asking the Hub."""
    return (environ.get("HF_HUB_OFFLINE") or environ.get("TRANSFORMERS_OFFLINE") or "").upper() in TRUE


def _bundled(found: Reference, bundled: BundledModel) -> RawModel:
    entry = bundled.entry
    of = "" if bundled.id == entry.id else f" of {entry.id}, which has the same architecture"
    return RawModel(
        reference=found.text,
        id=bundled.id,
        revision=None,
        origin="catalogue",
        source=f"bundled configuration{of}: {entry.source} (checked {entry.checked})",
        config=bundled.config,
        quantization=bundled.quantization,
        pooling=bundled.pooling,
        licence=bundled.licence,
        repository=bundled.id,
    )


def _directory(found: Reference) -> RawModel:
    from selfhost.hub.card import licence_id
    from selfhost.hub.directory import cache_root, local_name, read_directory

    path = _expanded(found)
    read = read_directory(path, allowed=cache_root(path))
    return RawModel(
        reference=found.text,
        id=local_name(path),
        revision=path.name if cache_root(path) else None,
        origin="directory",
        source=str(path),
        config=read.config,
        quantization=read.quantization,
        tensors=read.tensors,
        pooling=read.pooling,
        licence=licence_id(read.declared),
        declared=read.declared,
        repository=read.repository or (local_name(path) if cache_root(path) else None),
    )


def _gguf(found: Reference) -> RawModel:
    from selfhost.hub.card import declared_by_gguf, licence_id
    from selfhost.hub.gguf_file import read_gguf
    from selfhost.hub.gguf_model import to_config, to_quantization, to_tensors

    path = _expanded(found)
    header = read_gguf(path)
    declared = declared_by_gguf(header.fields)
    return RawModel(
        reference=found.text,
        id=path.stem,
        revision=None,
        origin="gguf",
        source=str(path),
        config=to_config(header, where=str(path)),
        quantization=to_quantization(header),
        tensors=to_tensors(header, where=str(path)),
        licence=licence_id(declared),
        declared=declared,
    )


def _hub(found: Reference, environ: Mapping[str, str], timeout_seconds: float) -> RawModel:
    cache = cache_directory(environ)
    here = found.revision is None and os.path.isfile(os.path.join(found.name, "config.json"))
    local = f"for the local directory write ./{found.name}" if here else None
    if is_offline(environ):
        error = OfflineError(
            f"HF_HUB_OFFLINE is set and {found.text} is not in the cache {cache}.",
            hint=local or _offline_hint(found),
        )
        return _cached(found, cache, error)
    from selfhost.hub.repository import load_repository

    try:
        return load_repository(found, environ=environ, cache=cache, timeout_seconds=timeout_seconds)
    except OfflineError as error:
        if local:
            error.hint = local
        elif models.close_matches(found.name):
            # Offline, a mistyped name and an unreachable Hub look alike: say the likelier way out first.
            error.hint = f"{models.suggestion(found.name)} Otherwise {error.hint}"
        return _cached(found, cache, error)
    except ModelNotFoundError as error:
        if local:
            raise ModelNotFoundError(error.message, hint=local) from error
        raise


def _cached(found: Reference, cache: Path, error: OfflineError) -> RawModel:
    """The cached snapshot of a repository.

    Raises:
        OfflineError: `error`, when there is none.
    """
    from selfhost.hub.card import licence_id
    from selfhost.hub.directory import CONFIG, read_directory, snapshot_path

    commit = _cached_commit(found, snapshot_path(cache, found.name, "").parent)
    path = snapshot_path(cache, found.name, commit) if commit else None
    if path is None or found.file is not None or not os.path.lexists(path / CONFIG):
        raise error
    read = read_directory(path, allowed=cache, complete=False)
    return RawModel(
        reference=found.text,
        id=found.name,
        revision=commit,
        origin="hub",
        source=f"{path} (cached; the Hub was not asked or did not answer)",
        config=read.config,
        quantization=read.quantization,
        tensors=read.tensors,
        pooling=read.pooling,
        licence=licence_id(read.declared),
        declared=read.declared,
        repository=found.name,
    )


def _cached_commit(found: Reference, folder: Path) -> str | None:
    """The commit that a repository's cache folder knows for a revision."""
    revision = found.revision or "main"
    try:
        if "/" not in revision and (folder / "snapshots" / revision).is_dir():
            return revision
        with (folder / "refs" / revision).open("rb") as file:
            commit = file.read(64).decode("ascii").strip()
    except (OSError, ValueError):
        return None
    return commit if commit.isalnum() and len(commit) <= 64 else None


def _offline_hint(found: Reference) -> str:
    if models.find_id(found.name):
        return f"write {found.name} alone for the bundled configuration."
    return f"unset HF_HUB_OFFLINE; {models.suggestion(found.name)}"


def _expanded(found: Reference) -> Path:
    from pathlib import Path

    try:
        return Path(found.name).expanduser()
    except RuntimeError as error:
        raise ModelNotFoundError(
            f"{shown(found.name)} names no home directory.", hint="write the full path."
        ) from error


__all__ = ["cache_directory", "is_offline", "load_model"]

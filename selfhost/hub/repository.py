"""A model of the Hub: the commit a revision means, its configuration and its tensor headers."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import quote

from selfhost.catalog.models import find_id, suggestion
from selfhost.errors import (
    MalformedAnswerError,
    ModelNotFoundError,
    RenamedModelError,
    SelfhostError,
    UnsupportedError,
)
from selfhost.hub import gguf_model, headers
from selfhost.hub.card import declared_by, licence_id
from selfhost.hub.directory import CONFIG, INDEX, QUANTIZATION_FILES, Files, snapshot_path, weight_files
from selfhost.hub.gguf_file import MAXIMUM_HEADER_BYTES, GgufHeader, NeedMoreError, parse_gguf
from selfhost.hub.references import Reference, check_file
from selfhost.hub.remote import Hub, connect, each, file_path, within
from selfhost.hub.safejson import MAXIMUM_BYTES, parse_object
from selfhost.licence import Declared
from selfhost.model.raw import RawModel, TensorHeader

FIRST_BYTES = 1 << 17  # 97 % of the headers on the Hub are shorter than 100 kB (huggingface_hub PR 1855)
FIRST_GGUF_BYTES = 1 << 23
MAXIMUM_FILES = 100_000

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the Hub's model page says.

    Args:
        id: the repository's present name.
        commit: what the revision resolves to.
        files: name -> length in bytes, None where it is not said.
        entries: name -> everything that is said of the file.
        declared: licence and gate as the page states them.
    """

    id: str
    commit: str
    files: Mapping[str, int | None]
    entries: Mapping[str, Mapping[str, object]]
    declared: Declared


def load_repository(
    reference: Reference, *, environ: Mapping[str, str], cache: Path, timeout_seconds: float
) -> RawModel:
    """Load a model from the Hub.

    Args:
        reference: a Hub reference.
        environ: HF_ENDPOINT and HF_TOKEN are read.
        cache: huggingface_hub's cache; files of the same commit are read there instead of asked for.
        timeout_seconds: for everything together.

    Raises:
        ModelNotFoundError, GatedModelError, RenamedModelError, OfflineError, RateLimitedError, MalformedAnswerError,
        UnsupportedError: as each says.
    """
    hub = connect(environ, deadline=time.monotonic() + timeout_seconds)
    return within(timeout_seconds, lambda: _load(reference, hub, cache), what=reference.name)


def _load(reference: Reference, hub: Hub, cache: Path) -> RawModel:
    facts = ask_about(reference, hub)
    snapshot = snapshot_path(cache, facts.id, facts.commit)
    local = Files(path=snapshot, root=cache.resolve()) if snapshot.is_dir() else None
    source = f"{hub.endpoint}/{facts.id}/tree/{facts.commit}"
    if reference.file is not None:
        return _load_gguf(reference, reference.file, hub, facts, source)
    if CONFIG not in facts.files:
        return _without_config(reference, hub, facts, source)
    config = _json(CONFIG, hub, facts, local)
    quantization = next(
        (_json(name, hub, facts, local) for name in QUANTIZATION_FILES if name in facts.files), None
    )
    return RawModel(
        reference=reference.text,
        id=facts.id,
        revision=facts.commit,
        origin="hub",
        source=source,
        config=config,
        quantization=quantization,
        tensors=_tensors(hub, facts, local),
        pooling="modules.json" in facts.files,
        licence=licence_id(facts.declared),
        declared=facts.declared,
        repository=facts.id,
    )


def ask_about(reference: Reference, hub: Hub) -> Facts:
    """Ask the Hub about a repository.

    Raises:
        SelfhostError: no such repository or revision, no access, no answer, or one that makes no sense.
    """
    name, revision = reference.name, reference.revision
    path = f"/api/models/{name}"
    if revision is not None:
        path += f"/revision/{quote(revision, safe='')}"
    what = name if revision is None else f"{name}@{revision}"
    try:
        answer = hub.json(path + "?blobs=true", what=what)
    except ModelNotFoundError as error:
        raise _not_found(reference, error) from error
    table = parse_object(answer, where=f"The Hub's answer about {what}", maximum_bytes=MAXIMUM_BYTES)
    found, commit, siblings = table.get("id"), table.get("sha"), table.get("siblings")
    if not isinstance(found, str) or not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise MalformedAnswerError(
            f"The Hub's answer about {what} names no repository and commit.", hint=_AGAIN
        )
    if not isinstance(siblings, list) or len(siblings) > MAXIMUM_FILES:
        raise MalformedAnswerError(f"The Hub's answer about {what} lists no files.", hint=_AGAIN)
    _check_name(name, found)
    entries = {entry["rfilename"]: entry for entry in siblings if _is_file(entry)}
    return Facts(
        id=found,
        commit=commit,
        files=_files(entries),
        entries=entries,
        declared=declared_by(table),
    )


def _check_name(asked: str, found: str) -> None:
    """A redirect to another repository is told, except for other letter case and the Hub's own old short names."""
    same = asked.lower() == found.lower()
    legacy = "/" not in asked and found.lower().rpartition("/")[2] == asked.lower()
    if not (same or legacy):
        raise RenamedModelError(
            f"{asked} is now called {found[:200]} on the Hub.",
            hint=f"write {found[:200]} if that is what you mean.",
        )
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", found, re.ASCII):
        raise MalformedAnswerError(
            f"The Hub's answer about {asked} names an impossible repository.", hint=_AGAIN
        )


def _is_file(entry: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(entry, dict) and isinstance(entry.get("rfilename"), str)


def _files(entries: Mapping[str, Mapping[str, object]]) -> dict[str, int | None]:
    sizes = {name: entry.get("size") for name, entry in entries.items()}
    return {name: size if type(size) is int and size >= 0 else None for name, size in sizes.items()}


def _json(name: str, hub: Hub, facts: Facts, local: Files | None) -> dict[str, object]:
    where = f"{name} of {facts.id}"
    if local is not None:
        cached = local.json(name)
        if cached is not None:
            return cached
    return parse_object(hub.json(file_path(facts.id, facts.commit, name), what=where), where=where)


def _tensors(hub: Hub, facts: Facts, local: Files | None) -> tuple[TensorHeader, ...] | None:
    index = _json(INDEX, hub, facts, local) if INDEX in facts.files else None
    shards = weight_files([name for name in facts.files if "/" not in name], index, where=facts.id)
    if not shards:
        return None
    missing = [name for name in shards if name not in facts.files]
    if missing:
        raise MalformedAnswerError(
            f"{facts.id} lacks {len(missing)} of the {len(shards)} files that {INDEX} names, such as {missing[0]}.",
            hint="the upload is not complete; name another revision.",
        )
    parts = each(shards, lambda name: _header(name, hub, facts, local))
    return headers.merge(tuple(zip(shards, parts, strict=True)))


def _header(name: str, hub: Hub, facts: Facts, local: Files | None) -> tuple[TensorHeader, ...]:
    if local is not None and local.exists(name):
        return local.header(name)
    where = f"{name} of {facts.id}"
    path = file_path(facts.id, facts.commit, name)
    part = hub.start(path, FIRST_BYTES, what=where)
    size = part.file_bytes if part.file_bytes is not None else facts.files[name]
    length = headers.header_bytes(part.data, file_bytes=size, where=where)
    data = part.data[headers.PREFIX_BYTES : headers.PREFIX_BYTES + length]
    if len(data) < length and len(part.data) >= FIRST_BYTES:
        data += hub.start(path, length - len(data), what=where, begin=len(part.data)).data
    if len(data) != length:
        raise MalformedAnswerError(f"{where} broke off inside its header.", hint=_AGAIN)
    return headers.parse_header(data, file_bytes=size, where=where)


def _without_config(reference: Reference, hub: Hub, facts: Facts, source: str) -> RawModel:
    gguf = sorted(name for name in facts.files if name.lower().endswith(".gguf") and "/" not in name)
    if len(gguf) == 1:
        return _load_gguf(reference, check_file(gguf[0], text=reference.text), hub, facts, source)
    if gguf:
        raise ModelNotFoundError(
            f"{facts.id} holds {len(gguf)} GGUF files and no {CONFIG}.",
            hint=f"name one of them: {facts.id}:{gguf[0]}",
        )
    if "adapter_config.json" in facts.files:
        raise UnsupportedError(
            f"{facts.id} holds an adapter, not a model.", hint="name the adapter's base model."
        )
    if "params.json" in facts.files:
        raise UnsupportedError(
            f"{facts.id} holds Mistral's own format (params.json) and no {CONFIG}.",
            hint="use the same model in Hugging Face layout.",
        )
    raise ModelNotFoundError(
        f"{facts.id} holds no {CONFIG}.", hint="it is no language model in Hugging Face layout."
    )


def _load_gguf(reference: Reference, file: str, hub: Hub, facts: Facts, source: str) -> RawModel:
    if file not in facts.files:
        others = sorted(name for name in facts.files if name.lower().endswith(".gguf"))
        hint = f"it has {', '.join(others[:4])}" if others else "it has no GGUF file."
        raise ModelNotFoundError(f"{facts.id} has no file {file}.", hint=hint)
    where = f"{file} of {facts.id}"
    header = _gguf_header(file, where, hub, facts)
    if isinstance(count := header.fields.get("split.count", 1), int) and count > 1:
        raise UnsupportedError(f"{where} is split.", hint="download its parts and name the first one.")
    return RawModel(
        reference=reference.text,
        id=facts.id,
        revision=facts.commit,
        origin="gguf",
        source=f"{source}/{file}",
        config=gguf_model.to_config(header, where=where),
        quantization=gguf_model.to_quantization(header),
        tensors=gguf_model.to_tensors(header, where=where),
        licence=licence_id(facts.declared),
        declared=facts.declared,
        repository=facts.id,
    )


def _gguf_header(file: str, where: str, hub: Hub, facts: Facts) -> GgufHeader:
    path = file_path(facts.id, facts.commit, file)
    size = FIRST_GGUF_BYTES
    part = hub.start(path, size, what=where)
    data = part.data
    file_bytes = part.file_bytes if part.file_bytes is not None else facts.files[file]
    if file_bytes is None:
        raise MalformedAnswerError(f"{where}: the Hub does not say how long it is.", hint=_AGAIN)
    while True:
        try:
            return parse_gguf(data, file_bytes=file_bytes, where=where)
        except NeedMoreError:
            if len(data) >= min(file_bytes, MAXIMUM_HEADER_BYTES):
                raise MalformedAnswerError(f"{where} broke off inside its header.", hint=_AGAIN) from None
            more = hub.start(path, len(data), what=where, begin=len(data)).data
            if not more:
                raise MalformedAnswerError(f"{where} broke off inside its header.", hint=_AGAIN) from None
            data += more


def _not_found(reference: Reference, error: ModelNotFoundError) -> SelfhostError:
    if "revision" in error.message:
        return ModelNotFoundError(
            f"{reference.name} has no revision {reference.revision}.",
            hint="write a branch, tag or commit that its page shows, or leave the part after @ out.",
        )
    if find_id(reference.name) is not None:
        return ModelNotFoundError(
            f"No model {reference.name} on the Hub, or it is private.",
            hint="a mirror (HF_ENDPOINT) may not have it; a private one needs HF_TOKEN.",
        )
    return ModelNotFoundError(
        f"No model {reference.name} on the Hub, or it is private (nor a bundled model of that name).",
        hint=f"{suggestion(reference.name)} A private one needs HF_TOKEN.",
    )


_AGAIN = "try again; if it stays, report it to the repository's owner."

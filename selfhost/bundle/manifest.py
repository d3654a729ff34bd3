"""manifest.json, the first member of a bundle: what else is in it, with lengths and hashes. Strictly read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from selfhost import strict
from selfhost.errors import BundleError, SelfhostError
from selfhost.licence import Verdict
from selfhost.pull.names import check_collisions, fault_of
from selfhost.pull.types import LOCK_NAME

SCHEMA = "selfhost/bundle/v1"
MANIFEST = "manifest.json"
WEIGHTS = "weights/"
LOCK = WEIGHTS + LOCK_NAME
LARGEST_BYTES = 64 << 20  # 100,000 files take about 20 MB

Role = Literal["readme", "images", "plan", "loader", "manifest", "chart", "sums", "lock", "weights"]
_HEX = frozenset("0123456789abcdef")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of the archive. `path` is below its root, `role` what it is for."""

    path: str
    size_bytes: int
    sha256: str
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledImage:
    """A container image that the cluster needs; its bytes are not in the bundle.

    Args:
        source: where it is published.
        target: what the manifests call it.
        digest: of what the tag named when the bundle was made; None where nobody could say.
    """

    source: str
    target: str
    digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledModel:
    """The planned model. `revision` is the planned commit, None where the plan pins none."""

    id: str
    revision: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledWeights:
    """The weights in the bundle: their repository and commit, how many files and bytes."""

    repo: str
    revision: str
    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """What made the bundle, and what it serves with."""

    selfhost: str
    engine: str
    engine_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a bundle is.

    Args:
        schema: name and version of the format.
        name: of the deployment.
        created: UTC time in ISO 8601.
        versions: of selfhost and the engine.
        model: what was planned.
        weights: what is in it, None where the bundle holds no weights.
        licence: the verdict on the model's licence, None where nobody judged it.
        images: what has to be brought to the cluster's registry.
        members: every file after this one, in the archive's order.
    """

    schema: str
    name: str
    created: str
    versions: Versions
    model: BundledModel
    weights: BundledWeights | None
    licence: Verdict | None
    images: tuple[BundledImage, ...]
    members: tuple[Member, ...]

    @property
    def mtime(self) -> int:
        """`created` in seconds since 1970; every member of the archive carries it."""
        return int(datetime.strptime(self.created, _TIME).replace(tzinfo=UTC).timestamp())


def time_text(seconds: float) -> str:
    """Seconds since 1970 as UTC time in ISO 8601."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime(_TIME)


def manifest_text(manifest: Manifest) -> str:
    """The text of manifest.json, ending in a newline. Equal manifests give equal text."""
    return json.dumps(strict.encode(manifest), indent=1, ensure_ascii=False) + "\n"


def parse_manifest(data: bytes, *, where: str) -> Manifest:
    """Understand the bytes of manifest.json.

    Raises:
        BundleError: they are none, or name members that no bundle has.
    """

    def refuse(sentence: str) -> SelfhostError:
        return BundleError(f"{where}: {sentence}.", hint="bring the file over again.")

    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise refuse(f"{MANIFEST} is not UTF-8 text") from None
    table = strict.parse(text, lambda end: refuse(f"{MANIFEST} {end}"))
    if table.get("schema") != SCHEMA:
        raise refuse(f"{MANIFEST} has the schema {table.get('schema')!r:.60}, this selfhost reads {SCHEMA!r}")
    manifest = strict.decode(Manifest, table, "manifest", refuse)
    assert isinstance(manifest, Manifest)
    try:
        in_range = 0 <= manifest.mtime < 8**11
    except ValueError:
        in_range = False
    if not in_range:
        raise refuse(f"manifest.created is {manifest.created!r:.40}, which is no time")
    for number, member in enumerate(manifest.members):
        fault = _fault(member)
        if fault is not None:
            raise refuse(f"manifest.members[{number}] {fault}")
    _check_names(manifest, refuse, where)
    return manifest


def _fault(member: Member) -> str | None:
    fault = fault_of(member.path)
    if fault is not None or member.path == MANIFEST:
        return fault or "is the manifest itself"
    if member.size_bytes < 0:
        return "has no length"
    if len(member.sha256) != 64 or not _HEX.issuperset(member.sha256):
        return "has no SHA-256"
    if member.path.startswith(WEIGHTS) != (member.role in ("weights", "lock")):
        return f"is called {member.path} and said to be {member.role}"
    return None if (member.path == LOCK) == (member.role == "lock") else "is no lock file"


def _check_names(manifest: Manifest, refuse: strict.Refuse, where: str) -> None:
    names = [member.path for member in manifest.members]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise refuse(f"{MANIFEST} lists {twice!r:.80} twice")
    check_collisions(names, repo=where)
    weights = sum(name.startswith(WEIGHTS) and name != LOCK for name in names)
    said = manifest.weights.files if manifest.weights is not None else 0
    if weights != said or (LOCK in names) != (manifest.weights is not None):
        raise refuse(f"{MANIFEST} speaks of {said} files of weights and lists {weights}")

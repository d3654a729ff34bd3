"""Small bundles for tests, and what is in them."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

from selfhost.bundle import Created, create
from selfhost.engines import Image
from selfhost.manifests import RenderOptions
from tests.plans import plan as make_plan
from tests.snapshots import snapshot

CREATED = "2026-11-24T08:00:00Z"
DIGEST = "sha256:" + "ab" * 32
PINNED = RenderOptions(image=f"vllm/vllm-openai:v0.32.0@{DIGEST}")


def nobody(image: Image) -> str | None:
    """A resolver that may not be asked."""
    raise AssertionError(f"{image.reference} was looked up")


def make(tmp_path: Path, name: str = "bundle.tar", **changes: Any) -> Created:
    values: dict[str, Any] = {
        "created": CREATED,
        "resolve": nobody,
        "options": PINNED,
        "mirror": "registry.internal/llm",
    }
    if "snapshot" not in changes:
        values["snapshot"] = snapshot(tmp_path / "model")
    plan = changes.pop("plan", None) or make_plan()
    return create(plan, tmp_path / name, **(values | changes))


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path, "r:") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def tree(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }

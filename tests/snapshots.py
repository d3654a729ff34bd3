"""Small models on disk with their lock, for tests of what becomes of verified weights."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfhost.licence import Verdict
from selfhost.pull.lockfile import write_lock
from selfhost.pull.types import LOCK_NAME, LOCK_SCHEMA, Lock, LockedFile, Snapshot

COMMIT = "9216db5781bf21249d130ec9da846c4624c16137"
LICENCE = Verdict(
    licence="apache-2.0",
    name="Apache License 2.0",
    use=None,
    permission="yes",
    openness="open-weight",
    obligations=("Keep the licence text with copies.",),
    gate="none",
    accepted=False,
    source="https://www.apache.org/licenses/LICENSE-2.0",
    checked="2026-11-20",
)


def _tensor(name: str, data: bytes) -> bytes:
    """A safetensors file of one tensor."""
    table = {name: {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}}
    header = json.dumps(table).encode()
    return struct.pack("<Q", len(header)) + header + data


FILES: Mapping[str, bytes] = {
    "README.md": b"---\nlicense: apache-2.0\n---\n",
    "config.json": b'{"model_type": "qwen3"}\n',
    "model-00001-of-00002.safetensors": _tensor("a", bytes(range(256)) * 40),
    "model-00002-of-00002.safetensors": _tensor("b", b"\1" * 7001),
    "onnx/empty.txt": b"",
    "tokenizer/überlang.json": b"{}",
}


def lock_of(files: Mapping[str, bytes], **changes: Any) -> Lock:
    """The lock of these contents; changes go to the Lock."""
    locked = []
    for path, data in sorted(files.items()):
        sha256 = hashlib.sha256(data).hexdigest()
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        etag = sha256 if path.endswith(".safetensors") else git
        locked.append(LockedFile(path=path, size_bytes=len(data), sha256=sha256, etag=etag))
    values: dict[str, Any] = {
        "schema": LOCK_SCHEMA,
        "repo": "Qwen/Qwen3-32B",
        "revision": COMMIT,
        "endpoint": "https://huggingface.co",
        "created": "2026-11-24T08:00:00Z",
        "selfhost_version": "0.1.0",
        "files": tuple(locked),
        "licence": LICENCE,
    }
    return Lock(**(values | changes))


def snapshot(root: Path, files: Mapping[str, bytes] = FILES, **changes: Any) -> Snapshot:
    """These files and their lock in a directory."""
    lock = lock_of(files, **changes)
    for path, data in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    write_lock(lock, root / LOCK_NAME)
    return Snapshot(root=root, lock=lock)

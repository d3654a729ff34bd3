"""A Hub on loopback: the wire protocol of huggingface.co for models, its storage, and its faults.

Protocol as huggingface_hub 2.4 speaks it: model pages, lists, trees and Xet tokens in `api.py`, files, redirects and
ranges in `files.py`. `faults.py` says what can go wrong, `state.py` what tests may change and ask about afterwards.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping

from tests.fakes.hub.content import Content, Random, Symlink, git_oid_of, pointer_of, read, sha256_of, size_of
from tests.fakes.hub.faults import (
    Cut,
    Drip,
    Fault,
    Flip,
    Gzip,
    IgnoreRange,
    Length,
    Loop,
    Refuse,
    Shorter,
    Stall,
    Throttle,
    WrongRange,
    expired,
    too_many,
)
from tests.fakes.hub.server import serve
from tests.fakes.hub.state import COMMIT, OTHER_COMMIT, FakeHub, Repo, Seen
from tests.fakes.hub.xet import put_in_xet

__all__ = [
    "COMMIT",
    "OTHER_COMMIT",
    "Content",
    "Cut",
    "Drip",
    "FakeHub",
    "Fault",
    "Flip",
    "Gzip",
    "IgnoreRange",
    "Length",
    "Loop",
    "Random",
    "Refuse",
    "Repo",
    "Seen",
    "Shorter",
    "Stall",
    "Symlink",
    "Throttle",
    "WrongRange",
    "expired",
    "git_oid_of",
    "pointer_of",
    "put_in_xet",
    "read",
    "safetensors",
    "serve",
    "sha256_of",
    "size_of",
    "too_many",
]


def safetensors(
    tensors: Mapping[str, tuple[str, tuple[int, ...], int]], *, metadata: Mapping[str, str] | None = None
) -> bytes:
    """A safetensors file: name -> (dtype, shape, bytes), data all zero."""
    table: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, (dtype, shape, size) in tensors.items():
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    header = json.dumps(table).encode()
    return struct.pack("<Q", len(header)) + header + bytes(offset)

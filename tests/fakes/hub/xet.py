"""Xet storage on disk: hf_xet's own local store, so that a client's real Xet code reads what a repository holds.

hf_xet 1.8 takes `local://DIRECTORY` as the address of a storage, for writing and for reading.
"""

from __future__ import annotations

from pathlib import Path

from tests.fakes.hub.content import read, sha256_of, size_of
from tests.fakes.hub.state import Repo

_PIECE_BYTES = 8 << 20


def put_in_xet(repo: Repo, folder: Path) -> dict[str, str]:
    """Store the LFS files of a repository in a local Xet storage and let its answers tell of it.

    Args:
        repo: its `xet` and `xet_storage` are set.
        folder: of the storage; made when it is missing.

    Returns:
        name -> Xet hash.
    """
    import hf_xet  # type: ignore[import-untyped, unused-ignore]

    folder.mkdir(parents=True, exist_ok=True)
    repo.xet_storage = f"local://{folder.absolute()}"
    uploads = {}
    with hf_xet.XetSession().new_upload_commit(endpoint=repo.xet_storage) as commit:
        for name, content in repo.files.items():
            if not repo.in_lfs(name, content):
                continue
            stream = commit.start_upload_stream(name=name, sha256=sha256_of(content))
            for begin in range(0, size_of(content), _PIECE_BYTES):
                stream.write(read(content, begin, begin + _PIECE_BYTES))
            uploads[name] = stream.finish()
    repo.xet = {name: str(done.xet_info.hash) for name, done in uploads.items()}
    return repo.xet

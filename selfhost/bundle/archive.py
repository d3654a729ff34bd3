"""Where everything stands in a bundle: as names and lengths are known first, so is the place of every byte."""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.bundle.manifest import MANIFEST, Manifest, Member
from selfhost.pull import tar


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """One member: its header, and where that begins in the file."""

    member: Member
    header: bytes
    offset_bytes: int

    @property
    def content_offset_bytes(self) -> int:
        """Where the content begins."""
        return self.offset_bytes + len(self.header)

    @property
    def end_bytes(self) -> int:
        """Where the next member begins."""
        size = self.member.size_bytes
        return self.content_offset_bytes + size + tar.padding_bytes(size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """The whole file.

    Args:
        head: header and content of the manifest, with its padding.
        members: what follows.
        size_bytes: length of the file.
    """

    head: bytes
    members: tuple[Placed, ...]
    size_bytes: int


def arrange(manifest: Manifest, text: bytes) -> Archive:
    """Put the members of a manifest one after the other.

    Args:
        manifest: what is in the bundle.
        text: the manifest as it stands in the file.
    """
    mtime = manifest.mtime
    head = tar.file_header(MANIFEST, len(text), mtime=mtime) + text + bytes(tar.padding_bytes(len(text)))
    placed, offset = [], len(head)
    for member in manifest.members:
        header = tar.file_header(member.path, member.size_bytes, mtime=mtime, mode=0o644)
        one = Placed(member=member, header=header, offset_bytes=offset)
        placed.append(one)
        offset = one.end_bytes
    return Archive(head=head, members=tuple(placed), size_bytes=offset + len(tar.END))

"""One file of a rendering: an object for the cluster, or something beside it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One file of the output: text, or `data` where it is none."""

    name: str
    text: str = ""
    data: bytes | None = None

    @property
    def content(self) -> bytes:
        """What stands in the file."""
        return self.text.encode() if self.data is None else self.data

    @property
    def is_object(self) -> bool:
        """Whether it is an object for the cluster rather than a file about them."""
        return self.name[:1].isdigit()

"""Container images of rendered manifests: found, pinned to their bytes, and renamed to a mirror inside."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from selfhost.bundle.manifest import BundledImage
from selfhost.engines import Image, parse_image
from selfhost.errors import UsageError
from selfhost.manifests import Document

DEFAULT_REGISTRY = "docker.io"

_LINE = re.compile(r'^( *(?:- )?image: )"([^"\\]+)"', re.MULTILINE)
_MIRROR = re.compile(r"[a-z0-9][-a-z0-9.]*(:\d{1,5})?(/[a-z0-9][-a-z0-9._]*)*")

Resolve = Callable[[Image], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """One image of the manifests.

    Args:
        old: as it is published, without a digest.
        new: as the cluster is to pull it.
    """

    old: Image
    new: Image

    @property
    def record(self) -> BundledImage:
        """The line of the bundle's manifest."""
        return BundledImage(
            source=f"{full_name(self.old)}:{self.old.tag}", target=self.new.reference, digest=self.new.digest
        )

    @property
    def line(self) -> str:
        """Source and target as `skopeo copy` and `crane copy` take them: skopeo wants a tag or a digest, not both."""
        end = f"@{self.new.digest}" if self.new.digest else f":{self.old.tag}"
        return f"{full_name(self.old)}{end} {self.new.repository}:{self.new.tag}"


def check_mirror(mirror: str) -> str:
    """The registry, and the path in it, below which images are mirrored.

    Raises:
        UsageError: it is none.
    """
    plain = mirror.rstrip("/")
    if _MIRROR.fullmatch(plain) is None:
        raise UsageError(
            f"--mirror {mirror[:80]!r} is no registry.", hint="Write registry.internal/llm, without https://."
        )
    return plain


def references(documents: Iterable[Document]) -> tuple[str, ...]:
    """What stands after `image:` in rendered objects, each once."""
    found = (match[2] for document in documents for match in _LINE.finditer(document.text))
    return tuple(dict.fromkeys(found))


def move(images: Iterable[Image], *, mirror: str | None, resolve: Resolve) -> tuple[Moved, ...]:
    """Pin images and rename them.

    Args:
        images: as published; one with a digest keeps it.
        mirror: what `check_mirror` gave, None to leave the names.
        resolve: says what a tag names at present, or None.

    Raises:
        UsageError: two images would get the same name.
    """
    moved: list[Moved] = []
    for image in images:
        digest = image.digest or resolve(image)
        repository = image.repository if mirror is None else f"{mirror}/{split(image)[1]}"
        moved.append(
            Moved(old=replace(image, digest=None), new=replace(image, repository=repository, digest=digest))
        )
    names = [f"{one.new.repository}:{one.new.tag}" for one in moved]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"Two images would be called {name}.", hint="Leave --mirror out.")
    return tuple(moved)


def split(image: Image) -> tuple[str, str]:
    """Registry and path of an image, spelt out as a container runtime understands the short form."""
    first, slash, rest = image.repository.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first, rest
    return DEFAULT_REGISTRY, image.repository if slash else f"library/{image.repository}"


def full_name(image: Image) -> str:
    """Registry and path, without tag and digest."""
    return "/".join(split(image))


def renamed(documents: Iterable[Document], moved: Iterable[Moved]) -> tuple[Document, ...]:
    """Rendered objects with the images' new names.

    The image of the engine is renamed by rendering; others follow here, and may have lost their digest on the way.
    """
    names: dict[str, str] = {}
    for one in moved:
        for image in (one.old, one.new):
            names[f"{image.repository}:{image.tag}"] = one.new.reference
    return tuple(
        document if document.data is not None else replace(document, text=_rename(document.text, names))
        for document in documents
    )


def _rename(text: str, names: Mapping[str, str]) -> str:
    def new(match: re.Match[str]) -> str:
        image = parse_image(match[2])
        return f'{match[1]}"{names.get(f"{image.repository}:{image.tag}", match[2])}"'

    return _LINE.sub(new, text)

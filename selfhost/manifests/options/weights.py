"""Where the weights lie: the Hub, a volume of the cluster, the node, an image, S3 or NFS."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from selfhost.engines import parse_image
from selfhost.errors import UsageError
from selfhost.manifests.options.fields import option

Kind = Literal["hf", "pvc", "nfs", "hostpath", "oci", "s3"]
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_DIRECTORY = re.compile(r"[A-Za-z0-9._@+~-]{1,120}(/[A-Za-z0-9._@+~-]{1,120}){0,20}")
_HOST = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9.]{0,251}[A-Za-z0-9])?|\[[0-9a-fA-F:]{2,45}\]")
_BUCKET = re.compile(r"[a-z0-9][-a-z0-9.]{1,61}[a-z0-9]")
_URL = re.compile(r"https?://[-A-Za-z0-9._~:/\[\]]{1,300}")
_WAYS = "Write hf, pvc:CLAIM[#DIR], nfs://SERVER/EXPORT[#DIR], hostpath:/DIR, oci://IMAGE[#DIR] or s3://BUCKET/PREFIX."


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A place of weights, taken apart.

    Args:
        kind: what it is.
        name: claim, file server, image, bucket, or directory of the node.
        path: export of the file server or prefix of the bucket.
        directory: the model's own directory in it; None where the Hub's cache is kept there.
    """

    kind: Kind
    name: str = ""
    path: str = ""
    directory: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightOptions:
    """Where the weights come from."""

    uri: str | None = field(
        default=None,
        metadata=option(
            "--weights",
            "Where the weights lie, if the plan's Job is not to put them on a new volume: pvc:CLAIM[#DIR], "
            "nfs://SERVER/EXPORT[#DIR], hostpath:/DIR, oci://IMAGE[#DIR], s3://BUCKET/PREFIX.",
            "str",
            metavar="URI",
        ),
    )
    s3_secret: str | None = field(
        default=None,
        metadata=option(
            "--s3-secret",
            "Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, for s3:// weights.",
            "str",
        ),
    )
    s3_endpoint: str | None = field(
        default=None,
        metadata=option("--s3-endpoint", "Endpoint of S3 that is not Amazon's.", "str", metavar="URL"),
    )
    s3_image: str | None = field(
        default=None,
        metadata=option(
            "--s3-image", "Image with the aws command, for s3:// weights.", "str", metavar="IMAGE"
        ),
    )

    def __post_init__(self) -> None:
        source = self.source
        if self.s3_secret is not None and _NAME.fullmatch(self.s3_secret) is None:
            raise UsageError(f"--s3-secret {self.s3_secret[:80]!r} is not a valid name.")
        if self.s3_endpoint is not None and _URL.fullmatch(self.s3_endpoint) is None:
            raise UsageError(
                f"--s3-endpoint {self.s3_endpoint[:80]!r} is not a web address without a password."
            )
        if self.s3_image is not None:
            parse_image(self.s3_image)
        asked = (self.s3_secret, self.s3_endpoint, self.s3_image) != (None, None, None)
        if asked and (source is None or source.kind != "s3"):
            raise UsageError(
                "--s3-secret, --s3-endpoint and --s3-image go with --weights s3://BUCKET/PREFIX."
            )

    @property
    def source(self) -> Source | None:
        """What `--weights` names, None where the plan decides.

        Raises:
            UsageError: it names nothing that is known.
        """
        return None if self.uri is None else parse_source(self.uri)


def parse_source(uri: str) -> Source:
    """Take a place of weights apart.

    Raises:
        UsageError: it names nothing that is known, or holds what has no place in it.
    """
    whole, hashed, directory = uri.partition("#")
    inside = _directory(uri, directory) if hashed else None
    if uri == "hf":
        return Source(kind="hf")
    if whole.startswith("pvc:") and _NAME.fullmatch(name := whole[4:].removeprefix("//")):
        return Source(kind="pvc", name=name, directory=inside)
    if whole.startswith("nfs://"):
        server, slash, export = whole[6:].partition("/")
        if slash and _HOST.fullmatch(server) and (not export or _is_below(export.rstrip("/"))):
            return Source(kind="nfs", name=server, path=f"/{export.rstrip('/')}", directory=inside)
    if whole.startswith("hostpath:") and not hashed:
        path = "/" + whole[9:].lstrip("/").rstrip("/")
        if _is_below(path[1:]):
            return Source(kind="hostpath", name=path)
    if whole.startswith("oci://"):
        return Source(kind="oci", name=parse_image(whole[6:]).reference, directory=inside)
    if whole.startswith("s3://") and not hashed:
        bucket, _, prefix = whole[5:].partition("/")
        prefix = prefix.rstrip("/")
        if _BUCKET.fullmatch(bucket) and _is_below(prefix):
            return Source(kind="s3", name=bucket, path=prefix)
    raise UsageError(f"--weights {uri[:120]!r} is no place of weights.", hint=_WAYS)


def _directory(uri: str, text: str) -> str:
    directory = text.strip("/")
    if not _is_below(directory):
        raise UsageError(f"--weights {uri[:120]!r}: {text[:80]!r} is no directory below it.", hint=_WAYS)
    return directory


def _is_below(path: str) -> bool:
    """Whether it is a path that stays where it begins."""
    return _DIRECTORY.fullmatch(path) is not None and ".." not in path.split("/")

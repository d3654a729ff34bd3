"""What a cluster without internet needs, in one tar file: weights, manifests, a chart and a list of images."""

from __future__ import annotations

from selfhost.bundle.create import Created, create
from selfhost.bundle.manifest import Manifest
from selfhost.bundle.read import Bundle, open_bundle, verify
from selfhost.bundle.unpack import Unpacked, unpack

__all__ = ["Bundle", "Created", "Manifest", "Unpacked", "create", "open_bundle", "unpack", "verify"]

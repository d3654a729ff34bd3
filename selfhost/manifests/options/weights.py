"""Where the weights lie: the Hub, a volume of the cluster, the node, an image, S3 or NFS."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightOptions:
    """Where the weights come from."""

"""How the cluster hands out accelerators: whole, in parts, by device plugin or by claims (DRA)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from selfhost.errors import UsageError
from selfhost.manifests.options.fields import option

MigStrategy = Literal["single", "mixed"]
_RESOURCE = re.compile(r"[a-z0-9]([-a-z0-9.]{0,200}[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuOptions:
    """How accelerators are asked for."""

    dra: bool = field(
        default=False,
        metadata=option(
            "--dra", "Claim the GPUs (resource.k8s.io/v1, Kubernetes 1.34) instead of counting them.", "flag"
        ),
    )
    or_gpus: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "--or-gpu",
            "With --dra: take this GPU where the plan's is not free; it must hold the plan. Repeat for several.",
            "many",
            metavar="ID",
        ),
    )
    gpu_resource: str | None = field(
        default=None,
        metadata=option(
            "--gpu-resource", "Extended resource to ask for, as nvidia.com/gpu.shared of time-slicing.", "str"
        ),
    )
    mig_strategy: MigStrategy | None = field(
        default=None,
        metadata=option(
            "--mig-strategy",
            "How the cluster names MIG instances; mixed if absent.",
            "mig_strategy",
            metavar="single|mixed",
        ),
    )

    def __post_init__(self) -> None:
        if self.or_gpus and not self.dra:
            raise UsageError(
                "--or-gpu is a choice that only a claim can leave open.", hint="Add --dra (Kubernetes 1.34)."
            )
        if self.dra and self.gpu_resource is not None:
            raise UsageError(
                "--dra claims devices, --gpu-resource counts them.", hint="Leave one of them out."
            )
        if self.dra and self.mig_strategy is not None:
            raise UsageError(
                "--mig-strategy names resources of the device plugin, which --dra does without.",
                hint="Leave it out: a claim finds the profile.",
            )
        if self.gpu_resource is not None and _RESOURCE.fullmatch(self.gpu_resource) is None:
            raise UsageError(
                f"--gpu-resource {self.gpu_resource[:80]!r} is no extended resource.",
                hint="Write it as the node's capacity has it: nvidia.com/gpu.shared.",
            )
        if self.mig_strategy not in (None, "single", "mixed"):
            raise UsageError(f"--mig-strategy {str(self.mig_strategy)[:80]!r} is not single or mixed.")
        if len(self.or_gpus) != len(set(self.or_gpus)):
            raise UsageError("--or-gpu names the same GPU twice.")
        if len(self.or_gpus) > MOST_OTHERS:
            raise UsageError(f"--or-gpu takes at most {MOST_OTHERS} GPUs: a claim has eight choices.")


MOST_OTHERS = (
    7  # FirstAvailableDeviceRequestMaxSize of resource.k8s.io/v1 is 8, one of which is the plan's own
)

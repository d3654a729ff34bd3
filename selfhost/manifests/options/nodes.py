"""Several nodes and several roles: Ray or not, prefill apart from decode, adapters."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from selfhost.engines import parse_image
from selfhost.errors import UsageError
from selfhost.manifests.options.fields import option

if TYPE_CHECKING:
    from selfhost.plan import Plan

MOST_PODS = 1000
_ADAPTER = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9._]{0,61}[A-Za-z0-9])?")
_REPOSITORY = re.compile(r"[A-Za-z0-9][-A-Za-z0-9._]{0,95}/[A-Za-z0-9][-A-Za-z0-9._]{0,95}@[0-9a-f]{40}")
_DIRECTORY = re.compile(r"/[A-Za-z0-9._@+~-]{1,120}(/[A-Za-z0-9._@+~-]{1,120}){0,20}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A LoRA adapter.

    Args:
        name: what clients ask for.
        repository: `ORG/NAME@COMMIT` of the Hub, None where it is a directory.
        directory: below the weights volume; None where it is downloaded.
    """

    name: str
    repository: str | None
    directory: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """How the engine is spread."""

    gpus_per_node: int | None = field(
        default=None,
        metadata=option(
            "--gpus-per-node", "GPUs of one node, for a replica on several; 8 if absent.", "int", metavar="N"
        ),
    )
    ray: bool = field(
        default=False,
        metadata=option(
            "--ray", "Several nodes through Ray instead of the engine's own processes.", "flag", only=("lws",)
        ),
    )
    prefill_replicas: int | None = field(
        default=None,
        metadata=option(
            "--prefill-replicas",
            "Pods that only read prompts, beside the plan's replicas, which then only write.",
            "int",
            metavar="N",
            only=("gateway", "llm-d"),
        ),
    )
    picker_image: str | None = field(
        default=None,
        metadata=option(
            "--picker-image",
            "Image of the endpoint picker of target gateway.",
            "str",
            metavar="IMAGE",
            only=("gateway", "llm-d"),
        ),
    )
    sidecar_image: str | None = field(
        default=None,
        metadata=option(
            "--sidecar-image",
            "Image of the sidecar that --prefill-replicas needs.",
            "str",
            metavar="IMAGE",
            only=("gateway", "llm-d"),
        ),
    )
    lora: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "--lora",
            "A LoRA adapter, NAME=ORG/NAME@COMMIT of the Hub or NAME=/DIR of the weights volume; repeat for several.",
            "many",
            metavar="NAME=WHERE",
        ),
    )

    def __post_init__(self) -> None:
        for flag, value in (
            ("--gpus-per-node", self.gpus_per_node),
            ("--prefill-replicas", self.prefill_replicas),
        ):
            if value is not None and not 1 <= value <= MOST_PODS:
                raise UsageError(f"{flag} must be between 1 and {MOST_PODS:,}, not {value}.")
        if self.sidecar_image is not None and self.prefill_replicas is None:
            raise UsageError(
                "--sidecar-image has no effect without --prefill-replicas.", hint="Leave it out."
            )
        for image in (self.picker_image, self.sidecar_image):
            if image is not None:
                parse_image(image)
        names = [adapter.name for adapter in self.adapters]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"--lora names {name} twice.")

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """What `--lora` names."""
        return tuple(map(parse_adapter, self.lora))

    def node_gpus(self) -> int:
        """GPUs of one node."""
        from selfhost.place import NODE_GPUS

        return self.gpus_per_node or NODE_GPUS

    def several(self, plan: Plan) -> bool:
        """Whether one replica has pods on several nodes, so that they all have to read the weights."""
        return plan.gpu.count > self.node_gpus()


def parse_adapter(text: str) -> Adapter:
    """Read `NAME=ORG/NAME@COMMIT` or `NAME=/DIR`.

    Raises:
        UsageError: it is neither.
    """
    name, _, where = text.partition("=")
    if _ADAPTER.fullmatch(name) is not None:
        if _REPOSITORY.fullmatch(where) is not None:
            return Adapter(name=name, repository=where, directory=None)
        if _DIRECTORY.fullmatch(where) is not None and ".." not in where.split("/"):
            return Adapter(name=name, repository=None, directory=where)
    raise UsageError(
        f"--lora {text[:120]!r} names no adapter.",
        hint="Write NAME=ORG/NAME@COMMIT, with the whole commit, or NAME=/DIR of the weights volume.",
    )

"""What selfhost asks of an engine: one protocol for all, and one for each thing that only some can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from selfhost.catalog.accelerators import Platform
    from selfhost.catalog.gpus import Gpu
    from selfhost.engines import (
        Argument,
        Cuda,
        EngineFile,
        EngineVersion,
        EnvVar,
        Flag,
        Image,
        Join,
        Key,
        Objection,
        Probes,
        Serving,
        Sizing,
        SizingFor,
    )
    from selfhost.memory import MemoryBudget
    from selfhost.model.spec import ModelSpec
    from selfhost.workload import Split, Workload


class Engine(Protocol):
    """What selfhost asks of an engine."""

    @property
    def name(self) -> str:
        """Name on the command line."""

    @property
    def default_version(self) -> str:
        """The release that is planned for when none is named: the one this module was checked against."""

    @property
    def oldest(self) -> tuple[int, int, int]:
        """First release that this module knows."""

    @property
    def newest(self) -> tuple[int, int, int]:
        """Last release that this module knows; (major, minor, 0) stands for every patch of a minor release."""

    @property
    def port(self) -> int:
        """Port the engine listens on by default."""

    @property
    def health_path(self) -> str:
        """Cheap path that answers 200 once requests are served, and needs no key."""

    @property
    def metrics_path(self) -> str:
        """Path of the Prometheus metrics."""

    @property
    def processes(self) -> tuple[str, ...]:
        """Processes of one replica beside its GPU workers, each busy on a core of its own."""

    @property
    def flags(self) -> tuple[Flag, ...]:
        """Every flag that `args` can emit, for any release."""

    def image(self, version: EngineVersion, platform: Platform) -> Image:
        """The published image of a release for a platform.

        Raises:
            UnsupportedError: none is published.
        """

    def command(self, version: EngineVersion) -> tuple[str, ...]:
        """What starts the server, before the arguments."""

    def args(self, serving: Serving) -> tuple[Argument, ...]:
        """The whole argument vector, each word with its reason.

        Raises:
            UnsupportedError: a setting that the release cannot express.
        """

    def env(self, serving: Serving) -> tuple[EnvVar, ...]:
        """Environment of the server, without secrets."""

    def object_to(self, serving: Serving) -> Objection | None:
        """Why the release cannot serve this, None when it can."""

    def drains(self, version: EngineVersion) -> bool:
        """Whether running requests are finished after SIGTERM rather than cut off."""

    def pulls(self, version: EngineVersion) -> bool:
        """Whether the release's image has what `selfhost pull` runs on: Python 3.11, huggingface_hub 1, click 8.2."""

    def host_memory_bytes(self, serving: Serving) -> tuple[int, str]:
        """Main memory the processes need beside shared memory, and why."""

    def shared_memory_bytes(self, serving: Serving) -> tuple[int, str]:
        """Shared memory (/dev/shm) the processes need, and what for."""

    def sizing(self, version: EngineVersion, asked: SizingFor | None = None) -> Sizing:
        """Whose rules of allocation stand in for the release's own; `asked` is None where only the sentence matters."""

    def needs_root(self, version: EngineVersion) -> str | None:
        """Why the release's image starts as root alone, None where any user ID runs it."""

    def cuda(self, version: EngineVersion) -> Cuda | None:
        """What the release's image for NVIDIA GPUs brings, None where that is not known."""

    def notes(self, serving: Serving) -> tuple[str, ...]:
        """What has to be said aloud wherever this is planned or rendered, a sentence each; mostly nothing."""

    def metrics(self, version: EngineVersion) -> tuple[str, ...]:
        """Names of the metrics that the release emits and that operations rely on."""

    def probes(self, version: EngineVersion) -> Probes:
        """What is asked at start, for traffic and for life."""

    def key(self, version: EngineVersion) -> Key | None:
        """How the server takes its API key; None where it has none, so that something before it must check."""

    def metrics_port(self, version: EngineVersion) -> int | None:
        """Port of the metrics, None where it is the server's own."""

    def files(self, serving: Serving) -> tuple[EngineFile, ...]:
        """Files that the server reads at start."""

    def shell(self, version: EngineVersion) -> str:
        """Absolute path of a POSIX shell in the image."""


@runtime_checkable
class Spreads(Protocol):
    """An engine that runs one replica on several nodes."""

    def join(
        self,
        version: EngineVersion,
        split: Split,
        nodes: int,
        *,
        leader: str,
        rank: str,
        ray: bool,
        seconds: int,
    ) -> Join:
        """What each pod is told; `leader` and `rank` are references that the cluster fills in.

        Raises:
            UnsupportedError: the release cannot.
        """


@runtime_checkable
class SpellsVersions(Protocol):
    """An engine whose releases are not numbered as others are: builds, or a year and a month."""

    def read_version(self, text: str) -> EngineVersion | None:
        """The release that a text names, None where it names none."""

    def spell(self, number: tuple[int, int, int]) -> str:
        """A release as people write it."""


@runtime_checkable
class RenamesModels(Protocol):
    """An engine whose clients ask for another name than the model's id, which no argument says."""

    def client_name(self, model_id: str) -> str:
        """What clients send as `model`."""


@runtime_checkable
class KeepsFiles(Protocol):
    """An engine that keeps more in its home directory than what it compiles."""

    def home_bytes(self, serving: Serving) -> tuple[int, str]:
        """Disk for what it keeps, and what that is."""


@runtime_checkable
class Bills(Protocol):
    """An engine whose memory follows rules of its own."""

    def bill(self, spec: ModelSpec, workload: Workload, split: Split, gpu: Gpu | None) -> MemoryBudget:
        """What one GPU holds.

        Raises:
            UnsupportedError: the split or the combination is impossible.
        """


@runtime_checkable
class Adapts(Protocol):
    """An engine that loads LoRA adapters at start."""

    def adapters(self, version: EngineVersion, named: tuple[tuple[str, str], ...]) -> tuple[Argument, ...]:
        """Arguments that load adapters, each a name that clients ask for and a directory in the container.

        Raises:
            UnsupportedError: the release cannot.
        """

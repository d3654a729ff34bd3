"""What is decided, once: the types of plan.json. Nothing chooses after a plan is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from selfhost.catalog.accelerators import Platform, platform_of
from selfhost.engines import Argument, EngineFile, EnvVar, Image, Key, Vendor
from selfhost.licence import Verdict
from selfhost.memory import MemoryBudget
from selfhost.model.raw import Origin
from selfhost.place import Refusal
from selfhost.throughput.types import Provenance as Rests
from selfhost.throughput.types import Range, Traffic
from selfhost.workload import Split, Workload

SCHEMA = "selfhost/plan/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """A number that was computed, and why it is that number."""

    value: int
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedModel:
    """The model as it was understood. `revision` is a commit, null where no commit is known."""

    id: str
    revision: str | None
    architecture: str
    parameters: int
    max_context_tokens: int
    dtype: str
    quantization: str | None
    modality: str
    origin: Origin
    source: str
    licence: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Where the weights come from and the volume that holds them.

    `kind` is `hub` (a Job downloads the repository) or `volume` (somebody copies the files to `location`).
    """

    kind: Literal["hub", "volume"]
    location: str
    skip: tuple[str, ...]
    stored_bytes: Derived
    volume_bytes: Derived
    mount_path: str
    cache_path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedEngine:
    """The engine and everything it is started with. Its arguments come from here alone.

    `live_path` is asked for life, `health_path` at start and for traffic. `metrics_port` is null where the metrics are
    on the server's own port, `key` where the engine cannot check an API key. `files` are mounted beside the image's.
    `notes` are said aloud wherever the plan is shown or rendered. `needs_root` says why the image starts as root alone,
    null where any user ID runs it.
    """

    name: str
    version: str
    image: Image
    command: tuple[str, ...]
    args: tuple[Argument, ...]
    env: tuple[EnvVar, ...]
    port: int
    health_path: str
    metrics_path: str
    metrics: tuple[str, ...]
    home_path: str
    live_path: str | None = field(default=None, metadata={"later": True})
    probe_timeout_seconds: int = field(default=5, metadata={"later": True})
    probe_because: str = field(default="a busy server answers late", metadata={"later": True})
    metrics_port: int | None = field(default=None, metadata={"later": True})
    key: Key | None = field(default=None, metadata={"later": True})
    files: tuple[EngineFile, ...] = field(default=(), metadata={"later": True})
    shell: str = field(default="/bin/sh", metadata={"later": True})
    notes: tuple[str, ...] = field(default=(), metadata={"later": True})
    needs_root: str | None = field(default=None, metadata={"later": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedGpu:
    """The kind of device, and how a cluster calls it. `count` is per replica.

    `resource` is empty on a CPU. `platform` is null in plans of before it was written down; `on` knows.
    """

    id: str
    name: str
    vendor: Vendor
    count: int
    memory_bytes: int
    compute_capability: str | None
    resource: str
    label: str
    label_values: tuple[str, ...]
    platform: Platform | None = field(default=None, metadata={"later": True})

    @property
    def on(self) -> Platform:
        """The platform, from the vendor where it was not written down."""
        return platform_of(self.vendor, self.platform)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """Every waiting time of the deployment. The first is the load-time budget; the others follow from it."""

    load_seconds: Derived
    probe_period_seconds: Derived
    startup_failures: Derived
    engine_ready_seconds: Derived
    progress_deadline_seconds: Derived
    download_attempts: Derived
    download_deadline_seconds: Derived
    pre_stop_seconds: Derived
    drain_seconds: Derived
    grace_seconds: Derived


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What one replica asks of its node besides GPUs."""

    cpu_request: Derived
    cpu_limit: Derived
    memory_bytes: Derived
    shared_memory_bytes: Derived
    home_bytes: Derived
    tmp_bytes: Derived
    ephemeral_bytes: Derived


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """A placement that was not chosen."""

    gpu_id: str
    split: Split
    kv_tokens: int | None
    max_concurrency: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedEstimate:
    """Speed of all replicas under a traffic, as it was estimated when the plan was made.

    `traffic` is of the whole deployment. The goals are null where none was set. `binds` is what limits the speed,
    `provenance` what each number rests on.
    """

    traffic: Traffic
    ttft_goal_ms: float | None
    tpot_goal_ms: float | None
    ttft_ms: Range
    tpot_ms: Range
    output_tokens_per_second: Range
    requests_per_second: float
    concurrency_admitted: int
    binds: str
    queue: str | None
    notes: tuple[str, ...]
    provenance: tuple[Rests, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCost:
    """What all replicas cost, by the prices of the day the plan was made; null where no price is known.

    `tier` and `term` are those of the rent. `per_million_output_tokens` is the rent over the tokens of `estimate`,
    `capital` what buying takes. `date` is that of the oldest price.
    """

    currency: str
    tier: str
    term: str
    per_hour: Range | None
    per_million_output_tokens: Range | None
    capital: Range | None
    capital_because: str | None
    sources: tuple[str, ...]
    date: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What made the plan, and from what. `created` is a UTC time in ISO 8601.

    `sizing` says whose rules of allocation stand in for the engine's; null where they are its own.
    """

    selfhost_version: str
    created: str
    gpu_source: str
    gpu_checked: str
    ranking: str
    sizing: str | None = field(default=None, metadata={"later": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The whole decision: model, engine, GPUs, clocks and the memory bill it rests on. Holds no secret.

    `licence` is what the model's licence means for the use that was named; null in plans of before it was judged.
    `estimate` and `cost` are null where nobody asked for speed or cost.
    """

    schema: str
    name: str
    model: PlannedModel
    weights: Weights
    engine: PlannedEngine
    gpu: PlannedGpu
    split: Split
    replicas: int
    workload: Workload
    clocks: Clocks
    pod: Pod
    memory: MemoryBudget
    alternatives: tuple[Alternative, ...]
    refusals: tuple[Refusal, ...]
    provenance: Provenance
    licence: Verdict | None = field(default=None, metadata={"later": True})
    estimate: PlannedEstimate | None = field(default=None, metadata={"later": True})
    cost: PlannedCost | None = field(default=None, metadata={"later": True})

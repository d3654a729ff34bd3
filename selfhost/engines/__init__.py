"""Inference engines: how each is started, what it refuses and what it shows. A module in this folder is an engine.

An engine module holds one value named `ENGINE` that satisfies `Engine`; nothing else has to be registered.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Literal, cast

from selfhost.catalog.accelerators import Platform
from selfhost.engines._protocol import Adapts as Adapts
from selfhost.engines._protocol import Bills as Bills
from selfhost.engines._protocol import Engine as Engine
from selfhost.engines._protocol import KeepsFiles as KeepsFiles
from selfhost.engines._protocol import RenamesModels as RenamesModels
from selfhost.engines._protocol import SpellsVersions as SpellsVersions
from selfhost.engines._protocol import Spreads as Spreads
from selfhost.engines._sizing import Sizing as Sizing
from selfhost.engines._sizing import SizingFor as SizingFor
from selfhost.errors import UsageError
from selfhost.workload import Split, Workload

if TYPE_CHECKING:
    from selfhost.memory import MemoryBudget

Vendor = Literal["NVIDIA", "AMD", "Intel", "CPU"]
_VERSION = re.compile(
    r"v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?((?:\.post|rc)\d{1,3})?((?:\.dev\d{1,6})?(?:\+[A-Za-z0-9.]{1,64})?)"
)
_IMAGE = re.compile(
    r"(?P<repository>[a-z0-9][-a-z0-9._/]*(?::\d{1,5}/[-a-z0-9._/]+)?):(?P<tag>[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineVersion:
    """One release of one engine.

    Args:
        engine: name of the module in this folder.
        number: major, minor, patch; what gates compare.
        text: the release as its tag spells it, without a leading `v`.
    """

    engine: str
    number: tuple[int, int, int]
    text: str

    @property
    def published(self) -> bool:
        """Whether it is a release, for which an image can be named; builds between releases have none."""
        return "dev" not in self.text and "+" not in self.text

    def at_least(self, major: int, minor: int, patch: int = 0) -> bool:
        """Whether this release is the given one or newer."""
        return self.number >= (major, minor, patch)

    def __str__(self) -> str:
        return f"{self.engine}@{self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A container image. `digest` (sha256:...) pins the bytes; the tag alone pins the release by trust."""

    repository: str
    tag: str
    digest: str | None = None

    @property
    def reference(self) -> str:
        """What a container runtime is given."""
        return f"{self.repository}:{self.tag}" + (f"@{self.digest}" if self.digest else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One command-line argument with its reason: a bare word has no flag, a switch no value."""

    flag: str | None = None
    value: str | None = None
    because: str

    @property
    def text(self) -> str:
        """The argument as one word of an argument vector."""
        if self.flag is None:
            return self.value or ""
        return self.flag if self.value is None else f"{self.flag}={self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvVar:
    """One environment variable with its reason."""

    name: str
    value: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFile:
    """A text file that the server reads at start: it travels as a ConfigMap, and holds no secret.

    Args:
        path: absolute path in the container.
        text: what stands in it.
        because: what it is for.
    """

    path: str
    text: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """How the server is told the key that clients have to send; never by an argument, which everybody can read.

    Args:
        variable: environment variable that holds the key.
        file_flag: flag that takes the path of a file with the key, where the engine has no variable.
        file_name: name of that file, and of the Secret's entry, where the engine reads more than the bare key.
        file_text: what stands in it, with `{key}` for the key.
        separate: the path is a word of its own behind the flag.
        caution: where the engine itself shows the key; None where it does not.
        guards_metrics: the metrics ask for the key too, so that Prometheus has to send it.
        source: where that is known from.
    """

    variable: str | None = None
    file_flag: str | None = None
    file_name: str | None = None
    file_text: str = "{key}"
    separate: bool = False
    caution: str | None = None
    guards_metrics: bool = False
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """Paths that tell the state of the server, none of which needs a key.

    Args:
        ready: 200 once requests are served; start-up and readiness.
        live: 200 while the process is worth keeping.
        timeout_seconds: how long a busy server may take to answer.
        because: why so long.
    """

    ready: str
    live: str
    timeout_seconds: int = 5
    because: str = "a busy server answers late"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuda:
    """Major release of CUDA that an image brings, which decides the oldest driver it runs on."""

    major: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """How pods on several nodes become one server.

    Args:
        leader_args: arguments of the first pod beside the plan's.
        worker_args: arguments of the others beside the plan's.
        leader_command: what starts the first pod, None where the plan's command does.
        leader_before: arguments of the first pod before the plan's.
        worker_command: what starts the others, None where the plan's command does.
        worker_only: all arguments of the others, where they are not the plan's.
        env: variables of both.
        own_address: variable that holds a pod's own address.
        note: what the reader has to know.
    """

    leader_args: tuple[Argument, ...] = ()
    worker_args: tuple[Argument, ...] = ()
    leader_command: tuple[str, ...] | None = None
    leader_before: tuple[Argument, ...] = ()
    worker_command: tuple[str, ...] | None = None
    worker_only: tuple[Argument, ...] | None = None
    env: tuple[EnvVar, ...] = ()
    own_address: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """Why something cannot run, and what can."""

    because: str
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What an engine is asked to start. Facts only; the engine's module knows what they are called.

    Args:
        version: release of the engine.
        model: repository id, or a path inside the container.
        revision: commit of the repository, None for a path or where none is known.
        served_name: the name clients ask for.
        model_dtype: dtype the model computes in (`bfloat16`).
        checkpoint_quantization: method of the stored weights as the checkpoint names it, None when unquantized.
        scheme: format of most stored weights by selfhost's name (`fp8-block`), None when unquantized or not understood.
        experts: the model has routed experts.
        kv_heads: key/value heads of the whole model, 0 where that is not known.
        gguf: the weights are a GGUF file.
        max_context_tokens: the longest context the model itself declares.
        platform: what the devices are to software; a vendor may have several.
        compute_capability: as (9, 0); None off NVIDIA or without a GPU.
        device_bytes: memory of one device as the engine sees it, main memory on a CPU; None without one.
        mig: the GPUs are MIG instances.
        drafts: the model has MTP layers of its own, as far as selfhost knows.
        architecture: class of the model as its config names it; empty where it is not known.
        gfx: an AMD GPU's instruction set (`gfx942`), None for others.
        memory: the bill the plan rests on; None while nothing is sized yet, as when objections are asked for.
        split: how the model is divided.
        workload: the load; None in a field leaves the engine's own default.
        port: TCP port to listen on.
        drain_seconds: how long running requests may take after SIGTERM.
        load_seconds: how long loading may take.
        home_dir: the one writable directory.
        hub_cache_dir: Hub cache on the weights volume.
    """

    version: EngineVersion
    model: str
    revision: str | None = None
    served_name: str
    model_dtype: str = "bfloat16"
    checkpoint_quantization: str | None = None
    scheme: str | None = None
    experts: bool = False
    kv_heads: int = 0
    gguf: bool = False
    max_context_tokens: int | None = None
    platform: Platform = "cuda"
    compute_capability: tuple[int, int] | None = None
    device_bytes: int | None = None
    mig: bool = False
    drafts: bool = True
    architecture: str = ""
    gfx: str | None = None
    memory: MemoryBudget | None = None
    split: Split
    workload: Workload
    port: int
    drain_seconds: int
    load_seconds: int
    home_dir: str
    hub_cache_dir: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One command-line flag an engine module may emit.

    Args:
        name: as typed.
        since: first release that has it (or the first that was checked).
        until: first release that lacks it again.
        source: where that is known from.
    """

    name: str
    since: tuple[int, int, int]
    until: tuple[int, int, int] | None = None
    source: str

    def known_to(self, version: EngineVersion) -> bool:
        """Whether the release's parser has the flag."""
        return self.since <= version.number and (self.until is None or version.number < self.until)


def spelled(engine: Engine, number: tuple[int, int, int]) -> str:
    """A release as people write it."""
    return engine.spell(number) if isinstance(engine, SpellsVersions) else _dotted(number)


def layers_only(engine: Engine) -> bool:
    """Whether the engine divides a model by layers alone, so that only pipelines are searched."""
    return bool(getattr(engine, "divides_layers_only", False))


def engine_names() -> tuple[str, ...]:
    """Names of all engines: the modules of this folder."""
    return tuple(sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_")))


@cache
def get_engine(name: str) -> Engine:
    """The engine of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in engine_names():
        raise UsageError(f"No engine {name!r}.", hint=f"Engines: {', '.join(engine_names())}.")
    return cast(Engine, import_module(f"selfhost.engines.{name}").ENGINE)


def parse_engine(text: str) -> EngineVersion:
    """Read `vllm`, `vllm@0.19`, `vllm@0.19.1`, or a build between releases (`0.26.1rc1.dev156+g0eec856cc`).

    Raises:
        UsageError: no such engine, not a version, or a release that the engine's module does not know.
    """
    name, at, wanted = text.partition("@")
    engine = get_engine(name)
    asked = wanted if at else engine.default_version
    known = f"Known releases: {name} {spelled(engine, engine.oldest)} to {spelled(engine, engine.newest)}"
    read = engine.read_version(asked) if isinstance(engine, SpellsVersions) else _numbered(name, asked)
    if read is None:
        raise UsageError(
            f"{asked!r} is not a version.", hint=f"Write {name}@{engine.default_version}. {known}."
        )
    number, newest = read.number, engine.newest
    if not engine.oldest <= number or number[:2] > newest[:2] or (newest[2] and number > newest):
        raise UsageError(f"{name} {asked} is not known.", hint=f"{known}.")
    return read


def _numbered(name: str, spelled: str) -> EngineVersion | None:
    """A release of major, minor and patch."""
    match = _VERSION.fullmatch(spelled)
    if match is None:
        return None
    number = (int(match[1]), int(match[2]), int(match[3] or 0))
    text = ".".join(map(str, number)) + (match[4] or "") + match[5]
    return EngineVersion(engine=name, number=number, text=text)


def parse_image(text: str) -> Image:
    """Read `registry/repository:tag` with or without `@sha256:...`.

    Raises:
        UsageError: it is no image, or it is not pinned by a tag other than latest.
    """
    match = _IMAGE.fullmatch(text)
    if match is None or match["tag"] == "latest":
        raise UsageError(
            f"{text[:200]!r} is not a pinned image.",
            hint="Write repository:tag or repository:tag@sha256:DIGEST.",
        )
    return Image(repository=match["repository"], tag=match["tag"], digest=match["digest"])


def _dotted(number: tuple[int, int, int]) -> str:
    return f"{number[0]}.{number[1]}" + (f".{number[2]}" if number[2] else "")

"""The GPU catalogue: what each accelerator really offers, read from gpus.toml, one table at a time.

Only the tables that are asked for are parsed: a command that names its GPU pays for one.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from selfhost.catalog.accelerators import Platform, accelerator, platform_of
from selfhost.errors import UnknownGpuError
from selfhost.units import MIB, gib

_FILE = os.path.join(os.path.dirname(__file__), "gpus.toml")
_TABLE = re.compile(r"^\[([a-z0-9-]+)\]$", re.MULTILINE)
_ALIASES = re.compile(r"^aliases = \[(.*)\]$", re.MULTILINE)
_MIG = re.compile(r"(?:[:/ -]+mig)?[:/ -]+(\d+g\.\d+gb)(?:[+.]me)?(?:-shared)?$")
_SEPARATORS = re.compile(r"[\s_/,()-]+")
# Words that vendors, NVML and people add or drop without meaning another product.
_NOISE = frozenset(
    ("nvidia", "amd", "tesla", "geforce", "instinct", "radeon", "generation", "edition", "gpu", "oam",
     "hbm2", "hbm2e", "hbm3", "hbm3e", "blackwell", "shared", "virtualized", "ac")
)  # fmt: skip
# Main memory instead of a GPU, and what Kubernetes calls the machine (label kubernetes.io/arch).
CPUS = {"cpu": "amd64", "cpu-arm64": "arm64"}
_SAME = {"sxm2": "sxm", "sxm4": "sxm", "sxm5": "sxm", "sxm6": "sxm", "maxq": "max-q"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MigProfile:
    """One way to slice a GPU: `count` instances of `memory_bytes` each."""

    name: str
    count: int
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One accelerator, or one MIG instance of it.

    `usable_bytes` is what torch.cuda.mem_get_info gives as total, of which vLLM takes its utilization share;
    `reported_bytes` what nvidia-smi or amd-smi prints. `usable_evidence` says how the former is known: in a
    start-up log, seen in out-of-memory reports, twin of another board, rule, mig or override. Flops are dense;
    None where the GPU has no such unit. `link_bytes_per_second` counts both directions, as vendors do. `label` is a
    node label beside those that `node_label` makes from the name, `device` what a claim (DRA) calls the product.
    """

    id: str
    name: str
    vendor: str
    platform: Platform
    architecture: str
    kind: str
    form_factor: str
    compute_capability: tuple[int, int] | None
    gfx: str | None
    multiprocessors: int
    reported_bytes: int
    usable_bytes: int
    usable_evidence: str
    bandwidth_bytes_per_second: int
    bf16_flops: float | None
    fp16_flops: float | None
    fp8_flops: float | None
    fp4_flops: float | None
    int8_flops: float | None
    link: str | None
    link_bytes_per_second: int
    pcie: str
    tdp_watts: int
    mig: tuple[MigProfile, ...]
    mig_profile: str | None
    aliases: tuple[str, ...]
    resource: str
    label: tuple[str, str] | None
    device: str | None
    source: str
    checked: str
    confidence: str
    notes: str | None

    def __hash__(self) -> int:
        """Of what tells devices apart: caches ask for it more often than all of its fields are worth."""
        return hash((self.id, self.usable_bytes))

    @property
    def memory_bytes(self) -> int:
        """The memory an engine sees as total: `usable_bytes`."""
        return self.usable_bytes

    @property
    def node_label(self) -> tuple[str, str]:
        """Kubernetes node label that the vendor's feature discovery sets, and its value here.

        Of a MIG instance: those of the strategy `mixed`, under which its resource has the profile's name too
        (NVIDIA k8s-device-plugin, internal/lm/mig-strategy.go).
        """
        if self.label is not None:
            return self.label
        if self.vendor == "AMD":
            return "amd.com/gpu.product-name", self.aliases[-1].replace(" ", "_")
        product = self.aliases[0].replace(" ", "-")
        if self.mig_profile:
            return f"nvidia.com/mig-{self.mig_profile}.product", f"{product}-MIG-{self.mig_profile}"
        return "nvidia.com/gpu.product", product


@cache
def _index() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Id -> (its table as text, aliases), without parsing TOML."""
    with open(_FILE, encoding="utf-8") as file:
        text = file.read()
    heads = list(_TABLE.finditer(text))
    index: dict[str, tuple[str, tuple[str, ...]]] = {}
    for number, head in enumerate(heads):
        end = heads[number + 1].start() if number + 1 < len(heads) else len(text)
        table = text[head.end() : end]
        aliases = _ALIASES.search(table)
        names = tuple(name.strip(' "') for name in aliases[1].split(",")) if aliases else ()
        index[head[1]] = (table, names)
    return index


def _flops(table: dict[str, Any], key: str) -> float | None:
    value = table.get(key)
    return None if value is None else float(value) * 1e12


@cache
def _load(gpu_id: str) -> Gpu:
    import tomllib

    table = tomllib.loads(_index()[gpu_id][0])
    capability = str(table["compute_capability"])
    major, _, minor = capability.partition(".")
    platform = platform_of(table["vendor"], table.get("platform"))
    label = table.get("label")
    return Gpu(
        id=gpu_id,
        name=table["name"],
        vendor=table["vendor"],
        platform=platform,
        architecture=table["architecture"],
        kind=table["kind"],
        form_factor=table["form_factor"],
        compute_capability=(int(major), int(minor)) if platform == "cuda" else None,
        gfx=capability if platform == "rocm" else None,
        multiprocessors=table["multiprocessors"],
        reported_bytes=table["reported_mib"] * MIB,
        usable_bytes=table["usable_mib"] * MIB,
        usable_evidence=table["usable_evidence"],
        bandwidth_bytes_per_second=int(table["bandwidth_gb"] * 10**9),
        bf16_flops=_flops(table, "bf16_tflops"),
        fp16_flops=_flops(table, "fp16_tflops") or _flops(table, "bf16_tflops"),
        fp8_flops=_flops(table, "fp8_tflops"),
        fp4_flops=_flops(table, "fp4_tflops"),
        int8_flops=_flops(table, "int8_tflops"),
        link=table.get("link"),
        link_bytes_per_second=int(table.get("link_gb", 0) * 10**9),
        pcie=table["pcie"],
        tdp_watts=table["tdp_watts"],
        mig=tuple(
            MigProfile(name=name, count=count, memory_bytes=mib * MIB)
            for name, (count, mib) in table.get("mig", {}).items()
        ),
        mig_profile=None,
        aliases=tuple(table["aliases"]),
        resource=accelerator(platform).resources[0],
        label=None if label is None else (label[0], label[1]),
        device=table.get("device"),
        source=table["source"],
        checked=table["checked"],
        confidence=table["confidence"],
        notes=table.get("notes"),
    )


def gpu_ids() -> tuple[str, ...]:
    """Ids of all GPUs, sorted; parses nothing."""
    return tuple(_index())


def gpus() -> tuple[Gpu, ...]:
    """All GPUs of the catalogue, sorted by id."""
    return tuple(_load(gpu_id) for gpu_id in _index())


def searched() -> tuple[Gpu, ...]:
    """GPUs that a search without names considers: those whose start-ups the sizes were compared with."""
    return tuple(gpu for gpu in gpus() if not accelerator(gpu.platform).estimated)


def main_memory(memory_bytes: int, *, machine: str = "amd64") -> Gpu:
    """A CPU with so much main memory for the engine, as a device of its own.

    Args:
        memory_bytes: what the engine's pod may hold, which its limit then is.
        machine: `amd64` or `arm64`, as Kubernetes labels nodes.
    """
    return Gpu(
        id="cpu" if machine == "amd64" else f"cpu-{machine}",
        name=f"CPU ({machine}) with {gib(memory_bytes)} GiB of main memory",
        vendor="CPU",
        platform="cpu",
        architecture=machine,
        kind="cpu",
        form_factor="socket",
        compute_capability=None,
        gfx=None,
        multiprocessors=1,
        reported_bytes=memory_bytes,
        usable_bytes=memory_bytes,
        usable_evidence="override",
        bandwidth_bytes_per_second=0,
        bf16_flops=None,
        fp16_flops=None,
        fp8_flops=None,
        fp4_flops=None,
        int8_flops=None,
        link=None,
        link_bytes_per_second=0,
        pcie="",
        tdp_watts=0,
        mig=(),
        mig_profile=None,
        aliases=(machine,),
        resource="",
        label=("kubernetes.io/arch", machine),
        device=None,
        source=accelerator("cpu").source,
        checked=accelerator("cpu").checked,
        confidence="low",
        notes=None,
    )


def mig_instance(gpu: Gpu, profile: str) -> Gpu:
    """One MIG instance of a GPU, as a GPU of its own.

    Bandwidth scales with the memory share, flops with the compute slices (of 7, or of 4 on parts with 4).

    Raises:
        UnknownGpuError: when the GPU has no such profile.
    """
    for slice_ in gpu.mig:
        if slice_.name == profile:
            break
    else:
        known = ", ".join(slice_.name for slice_ in gpu.mig)
        raise UnknownGpuError(
            f"{gpu.name} has no MIG profile {profile!r}.",
            hint=f"Its profiles: {known}." if known else "It cannot be sliced with MIG; use --gpu-memory.",
        )
    slices = max(int(other.name[0]) for other in gpu.mig)
    compute = int(profile[0]) / slices

    def scaled(flops: float | None) -> float | None:
        return None if flops is None else flops * compute

    return replace(
        gpu,
        id=f"{gpu.id}:{profile}",
        name=f"{gpu.name} MIG {profile}",
        reported_bytes=slice_.memory_bytes,
        usable_bytes=slice_.memory_bytes,
        usable_evidence="mig",
        bandwidth_bytes_per_second=int(
            gpu.bandwidth_bytes_per_second * min(1.0, slice_.memory_bytes / gpu.usable_bytes)
        ),
        bf16_flops=scaled(gpu.bf16_flops),
        fp16_flops=scaled(gpu.fp16_flops),
        fp8_flops=scaled(gpu.fp8_flops),
        fp4_flops=scaled(gpu.fp4_flops),
        int8_flops=scaled(gpu.int8_flops),
        multiprocessors=max(1, int(gpu.multiprocessors * compute)),
        link=None,
        link_bytes_per_second=0,
        mig=(),
        mig_profile=profile,
        resource=f"nvidia.com/mig-{profile}",
    )


def with_memory(gpu: Gpu, memory_bytes: int) -> Gpu:
    """The same GPU with another total memory, for shared cards and other memory sizes (`--gpu-memory`)."""
    return replace(
        gpu,
        name=f"{gpu.name} with {gib(memory_bytes)} GiB",
        reported_bytes=memory_bytes,
        usable_bytes=memory_bytes,
        usable_evidence="override",
    )


def _normal(name: str) -> str:
    return _SEPARATORS.sub("-", name.strip().lower()).strip("-")


def _words(name: str) -> frozenset[str]:
    parts = re.findall(r"[a-z]*\d+[a-z]*|[a-z]+", re.sub(r"\b(rtx|gtx|rx)(?=[a-z]?\d)", r"\1-", name))
    return frozenset(_SAME.get(word, word) for word in parts if word not in _NOISE)


def _matches(name: str) -> list[str]:
    """Ids that a normalised name may mean: exact names first, then names it abbreviates."""
    index = _index()
    if name in index:
        return [name]
    names = {gpu_id: [gpu_id, *map(_normal, aliases)] for gpu_id, (_, aliases) in index.items()}
    exact = [gpu_id for gpu_id, known in names.items() if name in known]
    if exact:
        return exact
    wanted = _words(name)
    if not wanted:
        return []
    sets = {gpu_id: [_words(known) for known in all_] for gpu_id, all_ in names.items()}
    same = [gpu_id for gpu_id, known in sets.items() if wanted in known]
    if same:
        return same
    return [gpu_id for gpu_id, known in sets.items() if wanted <= frozenset().union(*known)]


def find_gpu(name: str) -> Gpu:
    """The GPU a name means: an id, an NVML product name, a Kubernetes product label, or a clear abbreviation.

    MIG instances are written `h100-sxm-80gb:3g.40gb`, or as the label `NVIDIA-H100-80GB-HBM3-MIG-3g.40gb`.

    Raises:
        UnknownGpuError: when no GPU, or more than one, goes by that name; the hint lists the closest.
    """
    text = _normal(name)
    if text in CPUS:
        raise UnknownGpuError(
            f"{text} is no GPU.",
            hint="`selfhost plan` and `size` take it with --gpu-memory, the main memory it may use.",
        )
    mig = _MIG.search(text)
    base = text[: mig.start()] if mig else text.removesuffix("-shared")
    found = _matches(base)
    if not found and "(" in name:  # a remark, as in `NVIDIA GeForce RTX 4060 (8 GB)`
        found = _matches(_normal(re.sub(r"\([^()]{0,80}\)", " ", name)))
    if len(found) == 1:
        gpu = _load(found[0])
        return mig_instance(gpu, mig[1]) if mig else gpu
    shown = name if len(name) <= 60 else name[:57] + "..."
    if found:
        raise UnknownGpuError(
            f"{shown!r} could be {len(found)} GPUs.", hint=f"Name one of: {', '.join(found)}."
        )
    import difflib

    index = _index()
    spellings = {gpu_id: gpu_id for gpu_id in index}
    for gpu_id, (_, aliases) in index.items():
        spellings.update((_normal(alias), gpu_id) for alias in aliases)
    close = difflib.get_close_matches(base[:80], spellings, n=6, cutoff=0.5)
    ids = list(dict.fromkeys(spellings[spelling] for spelling in close))[:3]
    hint = f"Did you mean {' or '.join(ids)}?" if ids else "`selfhost gpus` lists the catalogue."
    raise UnknownGpuError(f"No GPU in the catalogue is called {shown!r}.", hint=hint)

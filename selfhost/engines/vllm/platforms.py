"""vLLM off CUDA: images, variables and what is refused there, by platform.

Read from vLLM 0.32.0 (platforms/{xpu,cpu}.py, v1/worker/cpu_worker.py, envs.py) and its installation pages on
2026-11-26.
"""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.catalog.accelerators import Platform, accelerator
from selfhost.engines import EnvVar, Objection, Serving
from selfhost.engines.vllm.tables import FIRST, KV_DTYPES, PLAIN
from selfhost.units import GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Images of a platform: their repository, and the first release that is known to have one."""

    repository: str
    since: tuple[int, int, int]
    source: str


# Gaudi: the plugin's pages build an image from a Dockerfile and name none (docs.vllm.ai/projects/gaudi, 2026-11-26).
IMAGES: dict[Platform, Published] = {
    "cuda": Published(repository="vllm/vllm-openai", since=FIRST, source="Docker Hub"),
    "rocm": Published(repository="vllm/vllm-openai-rocm", since=FIRST, source="Docker Hub"),
    "xpu": Published(
        repository="vllm/vllm-openai-xpu", since=(0, 26, 0), source="vllm installation/gpu.xpu.inc.md"
    ),
    "cpu": Published(
        repository="vllm/vllm-openai-cpu",
        since=(0, 19, 0),
        source="first tag without a machine seen in use; both machines",
    ),
}
# Formats of weights that the platform's own list names (xpu.py supported_quantization; CPU: installation/cpu.md), by
# selfhost's names. What an estimate cannot know is left out.
FORMATS_OF: dict[Platform, frozenset[str]] = {
    "xpu": frozenset(
        (
            "fp8",
            "fp8-tensor",
            "fp8-block",
            "awq-int4",
            "gptq-int4",
            "gptq-int8",
            "autoround-int4",
            "w4a16",
            "mxfp4",
            "mxfp8",
        )
    ),
    "hpu": frozenset(("fp8", "fp8-tensor", "fp8-block", "awq-int4", "gptq-int4")),
    "cpu": frozenset(("int8", "awq-int4", "gptq-int4", "w4a16")),
}
CPU_THREADS = (
    8  # ours: of the one rank, within the limit that derive.py gives a pod; raise both for a larger node
)
_CACHES_8 = ("fp8", "fp8_e4m3", "fp8_e5m2")


def platform_objection(serving: Serving) -> Objection | None:
    """What is known not to run on a platform, or of which nothing is known that a plan could rest on."""
    platform = serving.platform
    if platform in ("cuda", "rocm"):
        return None
    name, load = accelerator(platform).name, serving.workload
    scheme = load.quantization or serving.checkpoint_quantization
    if scheme is not None and scheme not in PLAIN and scheme not in FORMATS_OF[platform]:
        listed = ", ".join(sorted(FORMATS_OF[platform]))
        return Objection(
            because=f"vLLM is not known to run {scheme} weights on {name}",
            hint=f"Take unquantized weights, or one of: {listed}.",
        )
    if KV_DTYPES.get(load.kv_dtype, ("auto", FIRST))[0] not in ("auto", "bfloat16", "float16") and not (
        platform == "xpu" and load.kv_dtype in _CACHES_8
    ):
        return Objection(
            because=f"a KV cache of {load.kv_dtype} is not known to run on {name}",
            hint="Leave --kv-dtype out.",
        )
    if load.speculative_tokens > 0 or load.max_loras > 0:
        wanted = "--speculative-tokens" if load.speculative_tokens > 0 else "--max-loras"
        return Objection(
            because=f"what {wanted} takes of the memory of {name} is not known", hint=f"Leave {wanted} out."
        )
    if platform == "cpu" and serving.split.gpus > 1:
        return Objection(
            because="a CPU is planned as one rank: ranks would share its NUMA nodes, which are not known here",
            hint="Leave --tp, --pp and --dp out, or take more --gpu-memory.",
        )
    return None


def platform_env(serving: Serving) -> tuple[EnvVar, ...]:
    """Variables beside the engine's usual ones."""
    found = [
        EnvVar(name=variable.name, value=variable.value, because=variable.because)
        for variable in accelerator(serving.platform).env
    ]
    if serving.platform == "cpu":
        found += _cpu_env(serving)
    return tuple(found)


def _cpu_env(serving: Serving) -> list[EnvVar]:
    """The KV cache in whole GiB: without it a release takes 4 GiB, or a share of all the node's memory from 0.32 on."""
    fixed, bill = serving.workload.kv_cache_memory_bytes, serving.memory
    whole = -(-(fixed or 0) // GIB)
    if fixed is None and bill is not None:
        whole = max(-(-bill.kv_needed_bytes // GIB), (bill.kv_available_bytes or 0) // GIB)
    found = [
        EnvVar(
            name="VLLM_CPU_OMP_THREADS_BIND",
            value="nobind",
            because="the pod has no cores of its own to bind threads to; the CPU limit holds",
        ),
        EnvVar(
            name="OMP_NUM_THREADS",
            value=str(CPU_THREADS),
            because="else a thread for each core of the node, which the pod's CPU limit would throttle",
        ),
    ]
    if fixed is not None or bill is not None:
        because = (
            "GiB of KV cache as planned; the default is a share of the node, whatever the limit of the pod"
        )
        found.append(EnvVar(name="VLLM_CPU_KVCACHE_SPACE", value=str(max(1, whole)), because=because))
    return found

"""Numbers that follow from others: clocks from the weights' bytes, a pod's resources from its GPUs."""

from __future__ import annotations

import hashlib
import re

from selfhost.engines import Engine, KeepsFiles, Serving
from selfhost.plan.types import Clocks, Derived, Pod
from selfhost.units import GIB, ceil_div, gib, round_up

# KAITO's start-up probe (presets/workspace/models/vllm_model.go, read 2026-11-21): 15 min and 18 s for each GiB, at
# least 30 min. Its upper clamp of 180 min is not kept: it would end the very loads the rate was made for.
BASE_SECONDS = 900
SECONDS_PER_GIB = 18
LEAST_SECONDS = 1800
PROBE_PERIOD_SECONDS = 10
# vLLM's image is some 10 GiB compressed; at the rate above this lets a node pull one three times that size.
IMAGE_SECONDS = 600
DOWNLOAD_ATTEMPTS = 4
PRE_STOP_SECONDS = 15  # llm-d and KServe: endpoints and gateways forget the pod within 15 s
DRAIN_SECONDS = 45  # KServe's and llm-d's default
GRACE_BUFFER_SECONDS = 15  # llm-d: 15 + 45 + 15
UNDRAINED_EXIT_SECONDS = 30  # Kubernetes' own default
NAME_LENGTH = 40
# Files of a repository that no engine reads: copies of the weights in other formats.
SKIP = ("original/*", "*.pth", "*.gguf", "*.onnx", "onnx/*", "*.msgpack", "*.h5", "*.tflite", "*.ot")
SKIP_BESIDE_SAFETENSORS = ("*.bin",)


def load_seconds(stored_bytes: int) -> Derived:
    """The load-time budget: the one number that every other clock is made from."""
    whole_gib = ceil_div(stored_bytes, GIB)
    seconds = max(LEAST_SECONDS, BASE_SECONDS + SECONDS_PER_GIB * whole_gib)
    because = (
        f"{BASE_SECONDS} s + {SECONDS_PER_GIB} s for each of {whole_gib} GiB of weights, at least {LEAST_SECONDS} s "
        "(KAITO's rate)"
    )
    return Derived(value=round_up(seconds, PROBE_PERIOD_SECONDS), because=because)


def clocks(stored_bytes: int, *, drains: bool, drain_seconds: int = DRAIN_SECONDS) -> Clocks:
    """Every waiting time, from the bytes of the weights and how the engine ends."""
    load = load_seconds(stored_bytes)
    seconds = load.value
    period = PROBE_PERIOD_SECONDS
    if drains:
        drain = Derived(value=drain_seconds, because="running requests may finish after SIGTERM")
        grace_value = PRE_STOP_SECONDS + drain_seconds + GRACE_BUFFER_SECONDS
        grace = f"{PRE_STOP_SECONDS} s pre-stop + {drain_seconds} s drain + {GRACE_BUFFER_SECONDS} s to free the GPUs"
    else:
        drain = Derived(value=0, because="this release aborts running requests on SIGTERM")
        grace_value = PRE_STOP_SECONDS + UNDRAINED_EXIT_SECONDS
        grace = f"{PRE_STOP_SECONDS} s pre-stop + {UNDRAINED_EXIT_SECONDS} s to end"
    return Clocks(
        load_seconds=load,
        probe_period_seconds=Derived(value=period, because="a new start is noticed within this time"),
        startup_failures=Derived(
            value=ceil_div(seconds, period),
            because=f"{seconds} s load-time budget / {period} s between probes",
        ),
        engine_ready_seconds=Derived(
            value=seconds, because="the load-time budget, as the engine's own limit"
        ),
        progress_deadline_seconds=Derived(
            value=seconds + IMAGE_SECONDS,
            because=f"{seconds} s load-time budget + {IMAGE_SECONDS} s to schedule the pod and pull its image",
        ),
        download_attempts=Derived(
            value=DOWNLOAD_ATTEMPTS, because="a download that breaks off goes on where it stopped"
        ),
        download_deadline_seconds=Derived(
            value=DOWNLOAD_ATTEMPTS * seconds,
            because=f"{DOWNLOAD_ATTEMPTS} attempts of the {seconds} s load-time budget",
        ),
        pre_stop_seconds=Derived(
            value=PRE_STOP_SECONDS, because="still serves while endpoints and gateways forget the pod"
        ),
        drain_seconds=drain,
        grace_seconds=Derived(value=grace_value, because=grace),
    )


def pod(engine: Engine, serving: Serving) -> Pod:
    """What one replica asks of its node besides GPUs."""
    gpus = serving.split.gpus
    # A core each, as hyperthreads, for the processes of the engine and its GPU workers.
    cpu = 2 * (len(engine.processes) + gpus)
    shared, shared_because = engine.shared_memory_bytes(serving)
    host, host_because = engine.host_memory_bytes(serving)
    home, tmp, home_because = 10 * GIB, 4 * GIB, "compiled graphs and kernels of one start"
    if isinstance(engine, KeepsFiles):
        home, home_because = engine.home_bytes(serving)
    return Pod(
        cpu_request=Derived(
            value=cpu,
            because=f"2 hyperthreads each for {', '.join(engine.processes)} and {gpus} GPU workers",
        ),
        cpu_limit=Derived(
            value=2 * cpu, because="twice the request: compiling and tokenizing come in bursts"
        ),
        memory_bytes=Derived(
            value=host + shared, because=f"{host_because}; {gib(shared)} GiB of shared memory counts too"
        ),
        shared_memory_bytes=Derived(value=shared, because=shared_because),
        home_bytes=Derived(value=home, because=home_because),
        tmp_bytes=Derived(value=tmp, because="sockets and scratch files"),
        ephemeral_bytes=Derived(value=home + tmp + 2 * GIB, because="home, /tmp and 2 GiB of logs"),
    )


def volume_bytes(stored_bytes: int) -> Derived:
    """Size of the weights volume."""
    size = round_up(stored_bytes + stored_bytes // 10 + 2 * GIB, GIB)
    because = f"{gib(stored_bytes)} GiB of weights + 10 % for file system and tokenizer files + 2 GiB"
    return Derived(value=size, because=because)


def object_name(model_id: str) -> str:
    """A name for Kubernetes objects (RFC 1035, at most 40 characters) from any model id.

    Two ids whose readable parts are the same get the same name only if nothing had to be left out.
    """
    base = re.split(r"[/\\]", model_id.rstrip("/\\"))[-1].removesuffix(".gguf")
    slug = re.sub(r"[^a-z0-9]+", "-", base.lower()).strip("-")
    lossy = re.sub(r"[-._]", "", base.lower()) != slug.replace("-", "")
    if slug and not slug[0].isalpha():
        slug = f"m-{slug}"
    if not slug or lossy or len(slug) > NAME_LENGTH:
        digest = hashlib.sha256(model_id.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        slug = f"{slug[: NAME_LENGTH - 9].rstrip('-') or 'model'}-{digest}"
    return slug

"""vLLM on several nodes: what each node is told, without Ray and with it.

Read from vLLM 0.32.0 (engine/arg_utils.py create_engine_config, entrypoints/cli/serve.py, config/parallel.py) on
2026-11-26: `--nnodes` divides the world evenly, the data-parallel rank of a node follows from its number.
"""

from __future__ import annotations

from selfhost.engines import Argument, EngineVersion, EnvVar, Join
from selfhost.errors import UnsupportedError
from selfhost.workload import Split

SINCE = (0, 11, 1)  # --nnodes and --master-addr are in its parser, not in that of 0.11.0
DATA_SINCE = (
    0,
    32,
    0,
)  # first release of which it was read that the data-parallel rank follows from the node
MASTER_PORT = 29501  # config/parallel.py
RAY_PORT = 6379  # Ray's default
_GIB = 2**30

_LEADER = """\
set -eu
command -v ray >/dev/null || { echo "this image has no Ray; name one that has it with --image" >&2; exit 1; }
nodes=$1 seconds=$2
shift 2
ray start --head --port="$RAY_PORT" --object-store-memory="$RAY_STORE_BYTES" --disable-usage-stats
python3 - "$nodes" "$seconds" <<'PYTHON'
import sys, time
import ray

nodes, seconds = int(sys.argv[1]), int(sys.argv[2])
ray.init(address="auto")
end = time.monotonic() + seconds
while (there := sum(node["Alive"] for node in ray.nodes())) < nodes:
    if time.monotonic() > end:
        sys.exit(f"{there} of {nodes} nodes joined within {seconds} s")
    time.sleep(2)
PYTHON
exec vllm serve "$@"
"""
_WORKER = """\
set -eu
command -v ray >/dev/null || { echo "this image has no Ray; name one that has it with --image" >&2; exit 1; }
until ray health-check --address="$1:$RAY_PORT" >/dev/null 2>&1; do sleep 2; done
exec ray start --block --address="$1:$RAY_PORT" --object-store-memory="$RAY_STORE_BYTES" --disable-usage-stats
"""


def join(
    version: EngineVersion, split: Split, nodes: int, *, leader: str, rank: str, ray: bool, seconds: int
) -> Join:
    """How the pods of one replica become one engine.

    Args:
        version: the release.
        split: how the model is divided.
        nodes: pods of a replica; each has the same number of GPUs.
        leader: address of the first pod, as a reference that the cluster fills in.
        rank: number of a pod, from 0, as such a reference.
        ray: through Ray instead of vLLM's own processes.
        seconds: how long pods may wait for one another.

    Raises:
        UnsupportedError: the release cannot.
    """
    if ray:
        return _with_ray(nodes, leader=leader, seconds=seconds)
    since = DATA_SINCE if split.data > 1 else SINCE
    if version.number < since:
        wanted = ".".join(map(str, since))
        what = "data-parallel ranks on several nodes" if split.data > 1 else "several nodes"
        raise UnsupportedError(
            f"{version} does not know {what} without Ray.",
            hint=f"Take vllm@{wanted} or newer, or render with --target lws --ray.",
        )
    words = (
        Argument(flag="--nnodes", value=str(nodes), because="pods of one replica"),
        Argument(flag="--node-rank", value=rank, because="which of them this is"),
        Argument(flag="--master-addr", value=leader, because="the first of them"),
        Argument(flag="--master-port", value=str(MASTER_PORT), because="where the others find it"),
    )
    headless = Argument(flag="--headless", because="serves no requests; the first pod does")
    return Join(leader_args=words, worker_args=(*words, headless), own_address="VLLM_HOST_IP")


def _with_ray(nodes: int, *, leader: str, seconds: int) -> Join:
    backend = Argument(
        flag="--distributed-executor-backend", value="ray", because="workers are Ray actors on every node"
    )
    before = (
        Argument(value=_LEADER, because="starts Ray, waits for every node, then the server"),
        Argument(value="leader", because="name of the script in its messages"),
        Argument(value=str(nodes), because="pods of one replica"),
        Argument(value=str(seconds), because="the load-time budget"),
    )
    return Join(
        leader_command=("/bin/sh", "-c"),
        leader_before=before,
        leader_args=(backend,),
        worker_command=("/bin/sh", "-c"),
        worker_only=(
            Argument(value=_WORKER, because="joins the first pod's Ray and stays"),
            Argument(value="worker", because="name of the script in its messages"),
            Argument(value=leader, because="the first pod"),
        ),
        env=(
            EnvVar(name="RAY_PORT", value=str(RAY_PORT), because="Ray's own default"),
            EnvVar(name="RAY_STORE_BYTES", value=str(_GIB), because="it is taken of the shared memory"),
            EnvVar(name="RAY_USAGE_STATS_ENABLED", value="0", because="no usage reports"),
        ),
        own_address="VLLM_HOST_IP",
        note="Ray: the image has to have it; vLLM's requirements do not name it (requirements/cuda.txt, 2026-11-26)",
    )

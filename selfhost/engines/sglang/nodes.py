"""SGLang on several nodes, and its adapters.

Read from the wheels of 0.5.3 and 0.5.23 (srt/server_args.py, srt/entrypoints/engine.py, srt/lora/) on 2026-11-26: each
node starts the same server, the first one serves, the others wait for its end.
"""

from __future__ import annotations

from selfhost.engines import Argument, Join
from selfhost.errors import UnsupportedError

INIT_PORT = 20000  # any free one; SGLang's own examples take this


def join(nodes: int, *, leader: str, rank: str, ray: bool) -> Join:
    """How the pods of one replica become one engine.

    Args:
        nodes: pods of a replica.
        leader: address of the first pod, as a reference that the cluster fills in.
        rank: number of a pod, from 0, as such a reference.
        ray: asked for.

    Raises:
        UnsupportedError: Ray, which SGLang's server does not start on.
    """
    if ray:
        raise UnsupportedError("SGLang's server does not need Ray.", hint="Leave --ray out.")
    words = (
        Argument(flag="--nnodes", value=str(nodes), because="pods of one replica"),
        Argument(flag="--node-rank", value=rank, because="which of them this is"),
        Argument(
            flag="--dist-init-addr", value=f"{leader}:{INIT_PORT}", because="where the others find the first"
        ),
    )
    return Join(leader_args=words, worker_args=words, own_address="SGLANG_HOST_IP")


def adapters(named: tuple[tuple[str, str], ...]) -> tuple[Argument, ...]:
    """Arguments that load adapters at start."""
    words = (
        Argument(value=f"{name}={path}", because="an adapter, by the name clients send")
        for name, path in named
    )
    return (Argument(flag="--lora-paths", because="adapters loaded at start"), *words)

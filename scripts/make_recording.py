"""Write examples/trouble.jsonl.gz: an invented node in trouble, 80 s of it, to try monitor and health without a GPU."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selfhost.observation import Observation

ROOT = Path(__file__).resolve().parent.parent
RECORDING = ROOT / "examples" / "trouble.jsonl.gz"
TICKS = 40


def main() -> None:
    """Write it again."""
    sys.path.insert(0, str(ROOT))
    from selfhost.monitor import Recorder
    from tests import nodes

    RECORDING.unlink(missing_ok=True)
    with Recorder(RECORDING) as recorder:
        for observation in nodes.history(TICKS):
            recorder.write(_wedged(observation))
    print(f"{RECORDING.relative_to(ROOT)}: {TICKS} observations, {RECORDING.stat().st_size:,} bytes")


def _wedged(observation: Observation) -> Observation:
    """The second engine on two whole GPUs of its own, which spin while its tokens stand still."""
    node = observation.node
    spinning = {4: 0.98, 6: 1.0}
    gpus = tuple(
        replace(
            gpu,
            fast=replace(
                gpu.fast,
                utilization_ratio=spinning[gpu.identity.index],
                power_watts=118.0 + gpu.identity.index,
                tensor_activity_ratio=0.0,
                memory_activity_ratio=0.002,
                sm_activity_ratio=0.01,
                clock_reasons=0,
            ),
        )
        if gpu.identity.index in spinning
        else gpu
        for gpu in node.gpus
    )
    uuids = tuple(gpu.identity.uuid for gpu in gpus if gpu.identity.index in spinning)
    first, second = observation.engines
    return replace(
        observation,
        node=replace(node, gpus=gpus),
        engines=(first, replace(second, gpu_uuids=uuids, pids=(4104, 4106))),
    )


if __name__ == "__main__":
    main()

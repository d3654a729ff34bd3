"""The lines of the bill beside weights and KV cache, and the two questions they answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """One printable line: bytes on one GPU, its reason and its source."""

    name: str
    bytes: int
    because: str
    source: str


class Reserves(NamedTuple):
    """Everything beside weights and KV cache, in bytes on one GPU.

    `graphs` is the engine's own estimate, `captured` what capturing really takes; `graphs_subtracted` says whether this
    version takes the estimate out of the KV cache or leaves it to what the utilization share leaves over. `context`
    (CUDA context, NCCL) lies outside the share. `warmup` is what the sampler needs once more when all is allocated.
    """

    activation: Reserve
    graphs: Reserve
    captured: Reserve
    non_torch: Reserve
    context: Reserve
    warmup: Reserve
    graphs_subtracted: bool
    share_bytes: int
    total_bytes: int
    certainty_bytes: int

    @property
    def items(self) -> tuple[Reserve, ...]:
        """The lines that add up to what the KV cache cannot have, in order."""
        graphs = (self.graphs,) if self.graphs_subtracted else ()
        return (self.activation, self.non_torch, *graphs)

    def kv_available_bytes(self, weights_bytes: int) -> int:
        """Bytes for the KV cache next to `weights_bytes` of weights and buffers; negative when they do not fit."""
        return self.share_bytes - weights_bytes - sum(item.bytes for item in self.items)

    def short_bytes(self, weights_bytes: int, kv_bytes: int) -> int:
        """Bytes missing at start: 0 when it starts.

        Two checks beside `kv_available_bytes`: the utilization share must be free when the worker starts, and once
        weights and `kv_bytes` are allocated and the graphs captured, the sampler must warm up in what is left. Above
        about 0.95 utilization a server can pass profiling and still run out there.
        """
        held = weights_bytes + kv_bytes + self.context.bytes + self.non_torch.bytes + self.captured.bytes
        return max(
            0,
            held + self.warmup.bytes - self.total_bytes,
            self.context.bytes + self.share_bytes - self.total_bytes,
        )

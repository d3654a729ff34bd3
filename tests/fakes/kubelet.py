"""A kubelet's pod-resources socket: a real gRPC server that speaks v1.PodResourcesLister/List.

It writes its messages by hand, byte by byte as the protobuf encoding says, so that it shares no declaration with what
it tests; and it can be slow, refuse, or lie.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes((value & 127 | 128,))
        value >>= 7
    return out + bytes((value,))


def text(number: int, value: str) -> bytes:
    return message(number, value.encode())


def message(number: int, body: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(body)) + body


@dataclass(frozen=True)
class Container:
    name: str
    devices: dict[str, tuple[str, ...]] = field(default_factory=dict)
    # claim -> (driver, pool, device)
    claims: dict[str, tuple[str, str, str]] = field(default_factory=dict)

    def encoded(self) -> bytes:
        body = text(1, self.name)
        for resource, ids in self.devices.items():
            topology = message(3, message(1, varint(1 << 3) + varint(0)))
            body += message(2, text(1, resource) + b"".join(text(2, one) for one in ids) + topology)
        body += message(3, varint(0) + varint(7))  # cpu_ids, packed: not read by anyone here
        for claim, (driver, pool, device) in self.claims.items():
            resource_ = message(1, text(1, f"{driver}/gpu={device}")) + text(2, driver) + text(3, pool)
            body += message(5, text(2, claim) + text(3, "default") + message(4, resource_ + text(4, device)))
        return body


@dataclass(frozen=True)
class Pod:
    namespace: str
    name: str
    containers: tuple[Container, ...]

    def encoded(self) -> bytes:
        own = b"".join(message(3, container.encoded()) for container in self.containers)
        return text(1, self.name) + text(2, self.namespace) + own


@dataclass
class Kubelet:
    """What it answers, and how often it was asked."""

    pods: tuple[Pod, ...] = ()
    seconds: float = 0.0
    refuse: str | None = None
    raw: bytes | None = None
    asked: int = 0

    def answer(self) -> bytes:
        return self.raw if self.raw is not None else b"".join(message(1, pod.encoded()) for pod in self.pods)


@contextmanager
def kubelet(socket: Path, state: Kubelet, *, method: str = "v1.PodResourcesLister") -> Iterator[Kubelet]:
    """Serves `state` on a unix socket until the block ends."""
    import grpc

    def answer(_request: bytes, context: Any) -> bytes:
        state.asked += 1
        if state.refuse:
            context.abort(getattr(grpc.StatusCode, state.refuse), "refused by the test")
        until = time.monotonic() + state.seconds
        while time.monotonic() < until and context.is_active():
            time.sleep(0.01)
        return state.answer()

    plain: Callable[[bytes], bytes] = bytes
    handlers = {
        "List": grpc.unary_unary_rpc_method_handler(
            answer, request_deserializer=plain, response_serializer=plain
        )
    }
    server = grpc.server(ThreadPoolExecutor(max_workers=4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(method, handlers),))
    server.add_insecure_port(f"unix://{socket}")
    server.start()
    try:
        yield state
    finally:
        server.stop(grace=0).wait()

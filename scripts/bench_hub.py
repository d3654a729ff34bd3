"""A Hub on loopback with placeholder checkpoints: real configurations, real tensor headers in size, no weights.

Peers read a model's size from the headers of its .safetensors files. Here each file is its header followed by zeros
that exist only when somebody asks for them, so that 640 GB of weights take a few megabytes.
"""

from __future__ import annotations

import json
import math
import re
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from selfhost.model.modules import Block, Embedding, Experts, Matrix, Vector
from selfhost.model.spec import ModelSpec
from selfhost.quantization.schemes import Fp8, Mx
from selfhost.units import ceil_div

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHARD_BYTES = 5 * 10**9  # what publishers use
_STORED = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
_BYTES = {"BF16": 2, "F16": 2, "F32": 4, "F8_E4M3": 1, "U8": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One stored tensor."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Bytes on disk."""
        return math.prod(self.shape) * _BYTES[self.dtype]


def _matrix(name: str, rows: int, columns: int, dtype: str, scheme: object) -> Iterator[Tensor]:
    if isinstance(scheme, Fp8):
        height, width = scheme.block
        yield Tensor(name=f"{name}.weight", dtype="F8_E4M3", shape=(rows, columns))
        grid = (ceil_div(rows, height), ceil_div(columns, width))
        yield Tensor(name=f"{name}.weight_scale_inv", dtype="F32", shape=grid)
    else:
        yield Tensor(name=f"{name}.weight", dtype=dtype, shape=(rows, columns))


def _packed_experts(name: str, item: Experts, dtype: str) -> Iterator[Tensor]:
    """gpt-oss: all experts of a layer in one tensor, blocks of 32 four-bit numbers and their scales."""
    for part, rows, columns in (
        ("gate_up_proj", 2 * item.intermediate, item.hidden),
        ("down_proj", item.hidden, item.intermediate),
    ):
        shape = (item.count, rows, columns // 32)
        yield Tensor(name=f"{name}.{part}_blocks", dtype="U8", shape=(*shape, 16))
        yield Tensor(name=f"{name}.{part}_scales", dtype="U8", shape=shape)
        yield Tensor(name=f"{name}.{part}_bias", dtype=dtype, shape=(item.count, rows))


def _block(block: Block, model_dtype: str) -> Iterator[Tensor]:
    dot = f"{block.prefixes[0]}." if block.prefixes and block.prefixes[0] else ""
    for item in block.items:
        name, dtype = dot + item.name, _STORED[item.dtype or model_dtype]
        if isinstance(item, Vector):
            for copy in range(item.copies):
                suffix = f".{copy}" if item.copies > 1 else ""
                yield Tensor(name=f"{name}{suffix}.weight", dtype=dtype, shape=(item.units * item.unit,))
        elif isinstance(item, Embedding):
            yield Tensor(name=f"{name}.weight", dtype=dtype, shape=(item.rows, item.width))
        elif isinstance(item, Experts):
            yield from _experts(name, item, dtype)
        else:
            yield from _linear(dot, item, dtype)


def _experts(name: str, item: Experts, dtype: str) -> Iterator[Tensor]:
    if isinstance(item.scheme, Mx):
        yield from _packed_experts(name, item, dtype)
        return
    for expert in range(item.count):
        for part in item.names:
            rows, columns = item.intermediate, item.hidden
            if part == item.names[-1]:
                rows, columns = columns, rows
            yield from _matrix(f"{name}.{expert}.{part}", rows, columns, dtype, item.scheme)


def _linear(dot: str, item: Matrix, dtype: str) -> Iterator[Tensor]:
    stored: dict[str, int] = {}  # fused parts may lie in one tensor
    for part in item.parts:
        stored[part.name] = stored.get(part.name, 0) + part.units * part.unit
    for copy in range(item.copies):
        suffix = f".{copy}" if item.copies > 1 else ""
        for part_name, rows in stored.items():
            name = f"{dot}{part_name}{suffix}"
            yield from _matrix(name, rows, item.inputs, dtype, item.scheme)
            if item.bias:
                yield Tensor(name=f"{name}.bias", dtype=dtype, shape=(rows,))


def checkpoint(spec: ModelSpec) -> tuple[Tensor, ...]:
    """The tensors of a model's repository, draft layers included; small vectors keep their size only."""
    # Equal layers are one object in a spec; a checkpoint numbers them.
    layers = (
        replace(layer, prefixes=(re.sub(r"\.\d+$", f".{number}", layer.prefixes[0]),))
        for number, layer in enumerate(spec.layers)
    )
    tensors = [
        tensor
        for block in (spec.first, *layers, *spec.draft, *spec.towers, spec.last)
        for tensor in _block(block, spec.dtype)
    ]
    # DeepSeek V3's MTP layer comes with copies of both tables.
    if spec.architecture == "DeepseekV3ForCausalLM" and spec.draft:
        tensors += [
            Tensor(
                name=f"{spec.draft[0].prefixes[0]}.copy.{item.name}.weight",
                dtype="BF16",
                shape=(item.rows, item.width),
            )
            for item in (*spec.first.items, *spec.last.items)
            if isinstance(item, Embedding)
        ]
    seen: Counter[str] = Counter()
    found = []
    for tensor in tensors:
        seen[tensor.name] += 1
        count = seen[tensor.name]
        found.append(tensor if count == 1 else replace(tensor, name=f"again{count}.{tensor.name}"))
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of the placeholder repository: what it starts with, and how long it claims to be."""

    head: bytes
    size: int

    def read(self, begin: int, end: int) -> bytes:
        """Bytes from `begin` to before `end`; zeros behind the head."""
        part = self.head[begin:end]
        return part + bytes(max(0, min(end, self.size) - begin - len(part)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A placeholder repository."""

    files: Mapping[str, File]
    parameters: Mapping[str, int]
    config: Mapping[str, object]

    @property
    def weights_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(count * _BYTES[dtype] for dtype, count in self.parameters.items())


def repository(config: Mapping[str, object], tensors: tuple[Tensor, ...]) -> Repository:
    """The files of a model, in shards as publishers make them."""
    shards: list[list[Tensor]] = [[]]
    filled = 0
    for tensor in tensors:
        if shards[-1] and filled + tensor.bytes > SHARD_BYTES:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += tensor.bytes
    names = [f"model-{n:05d}-of-{len(shards):05d}.safetensors" for n in range(1, len(shards) + 1)]
    total = sum(tensor.bytes for tensor in tensors)
    places = {t.name: name for name, shard in zip(names, shards, strict=True) for t in shard}
    index = {"metadata": {"total_size": total}, "weight_map": places}
    texts = {"config.json": json.dumps(config), "model.safetensors.index.json": json.dumps(index)}
    files = {name: File(head=text.encode(), size=len(text.encode())) for name, text in texts.items()}
    files |= {name: _safetensors(shard) for name, shard in zip(names, shards, strict=True)}
    counts: dict[str, int] = {}
    for tensor in tensors:
        counts[tensor.dtype] = counts.get(tensor.dtype, 0) + math.prod(tensor.shape)
    return Repository(files=files, parameters=counts, config=config)


def _safetensors(tensors: list[Tensor]) -> File:
    table: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        end = offset + tensor.bytes
        table[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [offset, end]}
        offset = end
    header = json.dumps(table).encode()
    head = struct.pack("<Q", len(header)) + header
    return File(head=head, size=len(head) + offset)


@contextmanager
def serve(repositories: Mapping[str, Repository]) -> Iterator[str]:
    """Run the Hub until the block ends; gives its address."""

    class Handler(_Handler):
        known = repositories

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    known: Mapping[str, Repository]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay quiet."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        if path.startswith("api/models/"):
            self._about(path.removeprefix("api/models/"))
            return
        name, _, rest = path.partition("/resolve/")
        found = self.known.get(name)
        file = found.files.get(rest.partition("/")[2]) if found else None
        if file is None:
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound" if found else "RepoNotFound"})
            return
        headers = {
            "ETag": f'"{abs(hash((name, rest))):x}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        asked = self.headers.get("Range")
        if not asked:
            self._send(200, file.read(0, min(file.size, 1 << 26)), headers, size=file.size)
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        end = min(int(last) + 1 if last else file.size, file.size, int(first) + (1 << 26))
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{file.size}"
        self._send(206, file.read(int(first), end), headers)

    def _about(self, path: str) -> None:
        name = "/".join(path.split("/")[:2])
        found = self.known.get(name)
        if found is None:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            return
        if "/tree/" in path:
            rows = [
                {"type": "file", "path": key, "size": file.size, "oid": COMMIT}
                for key, file in found.files.items()
            ]
            self._send(200, json.dumps(rows).encode(), {"Content-Type": "application/json"})
            return
        body = {
            "id": name, "modelId": name, "sha": COMMIT, "gated": False, "private": False, "tags": ["safetensors"],
            "library_name": "transformers", "pipeline_tag": "text-generation", "cardData": {},
            "config": {key: found.config.get(key) for key in ("architectures", "model_type")},
            "siblings": [{"rfilename": key, "size": file.size} for key, file in found.files.items()],
            "safetensors": {"parameters": found.parameters, "total": sum(found.parameters.values())},
        }  # fmt: skip
        self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], *, size: int | None = None) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if size is None else size))
        self.end_headers()
        try:
            if self.command != "HEAD":
                self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the client has read enough

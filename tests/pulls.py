"""A small model for the fake Hub, and one way to pull it."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfhost.cli._pulling import Asked, Pulled, pull
from selfhost.pull.choose import Wish
from tests.fakes.hub import FakeHub, Repo
from tests.fakes.hub.content import Content

NAME = "acme/tiny"
CARD = b"---\nlicense: apache-2.0\n---\n# tiny\n"
CONFIG = {"architectures": ["LlamaForCausalLM"], "hidden_size": 8, "num_hidden_layers": 1}


def tensors(size_bytes: int, *, name: str = "w", seed: int = 0) -> bytes:
    """A safetensors file with one tensor of so many pseudo-random bytes."""
    import random

    table = {name: {"dtype": "U8", "shape": [size_bytes], "data_offsets": [0, size_bytes]}}
    header = json.dumps(table).encode()
    return struct.pack("<Q", len(header)) + header + random.Random(seed).randbytes(size_bytes)


def shards(count: int, size_bytes: int) -> dict[str, Content]:
    """Several shards and their index."""
    names = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    index = {"metadata": {}, "weight_map": {f"t{number}": name for number, name in enumerate(names)}}
    files: dict[str, Content] = {
        name: tensors(size_bytes, name=f"t{number}", seed=number) for number, name in enumerate(names)
    }
    return {**files, "model.safetensors.index.json": json.dumps(index).encode()}


def repo(files: Mapping[str, Content] | None = None, **more: Any) -> Repo:
    """A repository with configuration, tokenizer, card and the given weights."""
    weights = files if files is not None else shards(3, 200_000)
    text: dict[str, Content] = {
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer.json": b'{"version": "1.0"}',
        "README.md": CARD,
        ".gitattributes": b"*.safetensors filter=lfs\n",
    }
    return Repo(files={**text, **weights}, card={"license": "apache-2.0"}, **more)


def asked(
    hub: FakeHub, home: Path, model: str = NAME, *, directory: Path | None = None, **more: Any
) -> Asked:
    """What a command line would ask for, with everything below `home`."""
    wish = {
        key: more.pop(key)
        for key in ("include", "exclude", "trust_remote_code", "allow_pickle")
        if key in more
    }
    environ = hub.environ(HF_HOME=str(home / "hf"), **more.pop("environ", {}))
    fields: dict[str, Any] = {
        "use": None, "accepted": (), "quant": None, "limit_rate": None, "jobs": None, "as_json": True,
    }  # fmt: skip
    return Asked(model=model, directory=directory, wish=Wish(**wish), environ=environ, **{**fields, **more})


def pull_tiny(hub: FakeHub, home: Path, model: str = NAME, **more: Any) -> Pulled:
    """Pull the model."""
    return pull(asked(hub, home, model, **more))


def content_of(root: Path) -> dict[str, bytes]:
    """Every file below a directory but selfhost's own."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".selfhost" not in path.parts and path.name != "selfhost.lock.json"
    }

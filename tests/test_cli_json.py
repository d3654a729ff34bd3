"""What `--json` prints is what the schemas beside the commands describe: no field more, none less."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import selfhost.cli
from tests.conftest import Cli

SCHEMAS = Path(selfhost.cli.__file__).parent / "schemas"


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))


MODEL = "Qwen/Qwen3-32B"
COMMANDS: dict[str, list[tuple[str, ...]]] = {
    "version": [("version",)],
    "gpus": [("gpus",), ("gpus", "amd"), ("gpus", "h100-sxm-80gb:3g.40gb")],
    "models": [("models",), ("models", "qwen3", "embedding")],
    "engines": [("engines",)],
    "licences": [("licences",), ("licences", "llama3.3"), ("licences", "non-commercial")],
    "architectures": [("models", "--architectures"), ("models", "--architectures", "llama")],
    "size": [
        ("size", MODEL),
        ("size", MODEL, "--kv-cache-memory", "8GiB"),
        ("size", MODEL, "--gpu", "h100-sxm-80gb", "--tp", "2"),
        ("size", MODEL, "--gpu", "l4", "--concurrency", "64"),
        ("size", "deepseek-ai/DeepSeek-V3.2", "--gpu", "h200-sxm-141gb", "--tp", "8", "--ep", "--dp", "2"),
        ("size", "Qwen/Qwen3-Embedding-8B", "--gpu", "l4-24gb"),
    ],
    "estimate": [
        ("estimate", MODEL, "--gpu", "h100-sxm-80gb", "--tp", "2", "--concurrency", "8"),
        ("estimate", MODEL, "--gpu", "l40s", "--tp", "4", "--request-rate", "0.5", "--tpot-goal", "50"),
        (
            "estimate",
            MODEL,
            "--gpu",
            "l40s",
            "--tp",
            "4",
            "--request-rate",
            "0.5",
            "--arrivals",
            "bursty",
            "--requests",
            "200",
            "--tpot-goal",
            "50",
        ),
    ],
    "placements": [
        ("plan", MODEL, "--context", "8k", "--concurrency", "4"),
        ("plan", MODEL, "--context", "8k", "--concurrency", "4000", "--gpu", "t4", "--gpu", "l4"),
        ("plan", MODEL, "--rank-by", "cost", "--search-quant", "--gpu", "h100-sxm-80gb", "--gpu", "t4-16gb"),
        ("plan", MODEL, "--request-rate", "2", "--ttft-goal", "1", "--gpu", "l4"),
        ("plan", MODEL, "--gpu", "h200-sxm-141gb", "--concurrency", "1", "--use", "commercial"),
    ],
}
CASES = [(name, words) for name, many in COMMANDS.items() for words in many]


@pytest.mark.parametrize(("name", "words"), CASES, ids=[" ".join(words) for _, words in CASES])
def test_output_follows_its_schema(name: str, words: tuple[str, ...], cli: Cli) -> None:
    ran = cli(*words, "--json")
    assert ran.code in (0, 4), ran.err
    assert ran.err == ""
    result = ran.json()
    assert next(iter(result)) == "schema"
    jsonschema.validate(result, schema(name))


def test_errors_follow_their_schema(cli: Cli) -> None:
    ran = cli("gpus", "no-such-gpu", "--json")
    assert (ran.code, ran.out) == (1, "")
    jsonschema.validate(json.loads(ran.err), schema("error"))


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.json")), ids=lambda path: path.stem)
def test_every_field_is_explained(path: Path) -> None:
    def unexplained(node: Any, where: str) -> list[str]:
        fields = node.get("properties", {})
        own = [f"{where}.{name}" for name, field in fields.items() if "description" not in field]
        below = [path for name, field in fields.items() for path in unexplained(field, f"{where}.{name}")]
        return own + below + (unexplained(node["items"], f"{where}[]") if "items" in node else [])

    document = schema(path.stem)
    jsonschema.Draft202012Validator.check_schema(document)
    assert document["properties"]["schema"]["const"] == f"selfhost/{path.stem}/v1"
    assert unexplained(document, path.stem) == []


def test_rendering_follows_its_schema(cli: Cli, tmp_path: Path) -> None:
    plan, folder = tmp_path / "plan.json", tmp_path / "out"
    assert cli("plan", MODEL, "--context", "8k", "-o", plan).code == 0
    result = cli("render", plan, "-o", folder, "--json").json()
    jsonschema.validate(result, schema("render"))
    assert {Path(path).name for path in result["files"]} == {path.name for path in folder.iterdir()}

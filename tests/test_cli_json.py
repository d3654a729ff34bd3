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


COMMANDS: dict[str, list[tuple[str, ...]]] = {
    "version": [("version",)],
    "gpus": [("gpus",), ("gpus", "amd"), ("gpus", "h100-sxm-80gb:3g.40gb")],
    "models": [("models",), ("models", "qwen3", "embedding")],
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

"""What holds for every member of the open sets, and for every module, without anybody adding it here."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import selfhost
from selfhost.assets import targets
from selfhost.attention import KINDS
from selfhost.catalog.gpus import gpu_ids
from selfhost.catalog.models import models
from selfhost.cli import command_names
from selfhost.engines import engine_names, get_engine, parse_engine
from selfhost.errors import UnsupportedError
from selfhost.hub import load_model
from selfhost.memory import budget
from selfhost.model.families import architectures, builder
from selfhost.model.parse import parse_model
from selfhost.quantization import names as quantizations
from selfhost.workload import Split, Workload
from tests.conftest import Cli

ROOT = Path(__file__).parents[1]
PACKAGE = Path(selfhost.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST_LINES = 450
HEAVY = {
    "rich",
    "jinja2",
    "huggingface_hub",
    "kubernetes",
    "gguf",
    "numpy",
    "httpx",
    "httpx2",
    "requests",
    "yaml",
}
# The modules that a sizing needs; what they load, every `selfhost size` pays for.
CORE = (
    "selfhost.memory",
    "selfhost.model.parse",
    "selfhost.hub",
    "selfhost.catalog.gpus",
    "selfhost.engines.vllm",
)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_say_what_they_are_and_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    head = ast.get_docstring(ast.parse(text))
    assert head, "no docstring"
    assert re.search(r"[.:?]$", head.splitlines()[0]) or len(head.splitlines()) > 1, head
    assert text.count("\n") <= LONGEST_LINES


@pytest.mark.parametrize("module", CORE)
def test_the_core_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & HEAVY
    assert "selfhost.plan" not in loaded


@pytest.mark.parametrize("name", engine_names())
def test_every_engine_is_complete(name: str) -> None:
    engine = get_engine(name)
    assert engine.name == name
    assert parse_engine(name).text == engine.default_version
    flags = [flag.name for flag in engine.flags]
    assert len(set(flags)) == len(flags)
    assert all(flag.startswith("--") for flag in flags)
    assert all(flag.source for flag in engine.flags)


@pytest.mark.parametrize("name", quantizations())
def test_every_quantization_sizes_a_model_and_never_makes_it_larger(name: str) -> None:
    spec = parse_model(load_model("catalog:Qwen/Qwen3-32B"))
    plain = budget(spec, Workload(), Split(), None)
    try:
        changed = budget(spec, Workload(quantization=name), Split(), None)
    except UnsupportedError:
        pytest.skip(f"vLLM makes no {name} of this model")
    assert 0 < changed.weights_bytes <= plain.weights_bytes
    assert changed.kv_bytes_per_token == plain.kv_bytes_per_token


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_attention_kind_has_a_name_of_its_own(kind: type) -> None:
    names = [other.kind for other in KINDS]
    assert names.count(kind.kind) == 1  # type: ignore[attr-defined]
    assert kind.__doc__


@pytest.mark.parametrize("name", architectures())
def test_every_architecture_is_found_by_its_name(name: str) -> None:
    assert builder(name) is not None


@pytest.mark.parametrize("entry", models(), ids=lambda entry: entry.id)
def test_every_bundled_model_is_sized(entry: object) -> None:
    spec = parse_model(load_model(f"catalog:{entry.id}"))  # type: ignore[attr-defined]
    found = budget(spec, Workload(), Split(), None)
    assert found.weights_bytes > 0
    assert found.max_model_len >= 1


@pytest.mark.parametrize("target", targets())
def test_every_target_renders(target: str, cli: Cli, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    assert cli("plan", "Qwen/Qwen3-32B", "--context", "8k", "-o", plan).code == 0
    assert cli("render", plan, "--target", target, "-o", tmp_path / "out").code == 0


@pytest.mark.parametrize("name", command_names())
def test_every_command_is_documented(name: str) -> None:
    assert f"## selfhost {name}\n" in (ROOT / "docs/commands.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("gpu_id", gpu_ids())
def test_every_gpu_is_documented(gpu_id: str) -> None:
    assert f"| `{gpu_id}` |" in (ROOT / "docs/gpus.md").read_text(encoding="utf-8")


def test_every_layer_of_the_package_has_its_place_in_the_direction() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (layers,) = (c["layers"] for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    placed = {name for layer in layers for name in re.findall(r"selfhost\.(\w+)", layer)}
    present = {path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("_")}
    present |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert placed == present


@pytest.mark.parametrize("target", ["run", "test", "lint", "docs", "bench", "bench-accuracy", "e2e"])
def test_make_explains_its_targets(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:.*## \w", makefile, re.MULTILINE)

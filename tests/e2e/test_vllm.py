"""What selfhost plans and renders, the real vLLM accepts, starts with, and sizes to the same token."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfhost.engines.vllm import FLAGS
from selfhost.plan import read_plan
from tests.conftest import Cli
from tests.e2e.conftest import Vllm, serving
from tests.matrix import CASES, objects

# Given in full, as vLLM's defaults on a CPU differ from those on a GPU.
LOAD = (
    "--context", "512", "--concurrency", "4", "--gpu", "l4-24gb", "--kv-cache-memory", "8MiB",
    "--max-num-seqs", "4", "--max-num-batched-tokens", "512", "--block-size", "32", "--enforce-eager",
)  # fmt: skip
CACHE_SIZE = re.compile(
    r"KV cache size: ([\d,]+) tokens, Maximum concurrency for [\d,]+ tokens per request: ([\d.]+)x"
)


def engine_container(folder: Path) -> Any:
    """The container of the rendered Deployment that runs the engine."""
    documents = [
        document
        for path in sorted(folder.rglob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
        if document
    ]
    (deployment,) = (document for document in documents if document["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return container


def compose_server(cli: Cli, plan: Path, folder: Path) -> Any:
    """The service that one machine would start: it has to have the same words."""
    rendered = cli("render", plan, "--target", "compose", "-o", folder)
    assert rendered.code == 0, rendered.err
    return yaml.safe_load((folder / "compose.yaml").read_text(encoding="utf-8"))["services"]["server"]


def on_this_machine(text: str, places: dict[str, Path]) -> str:
    """A path in the pod as a path here."""
    for inside, outside in places.items():
        if text == inside or text.startswith(f"{inside}/"):
            return str(outside) + text[len(inside) :]
    return text


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-sliding", "tiny-moe"])
def test_rendered_arguments_start_vllm_and_it_counts_the_same_tokens(
    name: str, cli: Cli, vllm: Vllm, tiny_models: Path, tmp_path: Path
) -> None:
    plan_file, folder = tmp_path / "plan.json", tmp_path / "rendered"
    planned = cli("plan", tiny_models / name, *LOAD, "-o", plan_file)
    assert planned.code == 0, planned.err
    rendered = cli("render", plan_file, "--target", "kubernetes", "-o", folder)
    assert rendered.code == 0, rendered.err
    plan, container = read_plan(plan_file), engine_container(folder)
    home = tmp_path / "home"
    home.mkdir()
    places = {plan.weights.mount_path: tiny_models, plan.engine.home_path: home}
    assert (*container.get("command", ()), *container["args"])[:2] == ("vllm", "serve")
    words = [*container.get("command", ()), *container["args"]][2:]
    boxed = compose_server(cli, plan_file, tmp_path / "composed")
    assert [*boxed["entrypoint"], *boxed["command"]] == [*container.get("command", ()), *container["args"]]
    assert (
        boxed["environment"].items() <= {item["name"]: item.get("value") for item in container["env"]}.items()
    )
    arguments = [on_this_machine(word, places) for word in words]
    environment = {
        variable["name"]: on_this_machine(variable["value"], places)
        for variable in container["env"]
        if "value" in variable
    }

    with serving(vllm, arguments, environment, tmp_path / "server.log") as server:
        assert server.get(plan.engine.health_path) == 200
        assert server.get(plan.engine.metrics_path) == 200
        question = {"role": "user", "content": "Hello"}
        answer = server.post("/v1/chat/completions", {"model": name, "messages": [question], "max_tokens": 8})
        assert answer["usage"]["completion_tokens"] > 0
        assert answer["choices"][0]["message"]["role"] == "assistant"

    counted = CACHE_SIZE.search(server.log.read_text(encoding="utf-8"))
    assert counted is not None
    assert plan.memory.kv_tokens == int(counted[1].replace(",", ""))
    assert plan.memory.max_concurrency == pytest.approx(float(counted[2]), abs=0.006)


def plans(cli: Cli, tmp_path: Path, extra: Sequence[str]) -> list[str]:
    path = tmp_path / "plan.json"
    done = cli("plan", "Qwen/Qwen3-32B", "--context", "16k", "--concurrency", "4", *extra, "-o", path)
    assert done.code == 0, done.err
    return [argument.text for argument in read_plan(path).engine.args]


VARIATIONS: list[tuple[str, ...]] = [
    (),
    ("--quant", "fp8"),
    ("--kv-dtype", "fp8"),
    ("--kv-dtype", "bf16"),
    ("--no-prefix-caching", "--enforce-eager"),
    ("--kv-cache-memory", "20GiB", "--block-size", "32"),
    ("--max-loras", "2", "--max-lora-rank", "32"),
    ("--max-num-seqs", "64", "--max-num-batched-tokens", "4096", "--gpu-memory-utilization", "0.85"),
]


def rendered_vectors() -> list[list[str]]:
    """Arguments of vLLM's newest release in every case of the matrix, as Kubernetes hands them over."""
    found: dict[tuple[str, ...], None] = {}
    for name, case in CASES.items():
        if (case.plan.engine.name, case.plan.engine.version) == ("vllm", "0.32.0"):
            for container in (one for document in objects(name) for one in containers(document)):
                if container.get("command") == ["vllm", "serve"]:
                    words = (word.replace("$(LWS_WORKER_INDEX)", "1") for word in container["args"])
                    found[tuple(word.replace("$$", "$") for word in words)] = None
    return [list(vector) for vector in found]


def containers(value: Any) -> Iterator[Any]:
    """Every container of an object, however deep."""
    if isinstance(value, dict):
        yield from (one for one in value.get("containers") or () if isinstance(one, dict))
        for inner in value.values():
            yield from containers(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from containers(inner)


def test_vllm_parses_everything_selfhost_emits(cli: Cli, vllm: Vllm, tmp_path: Path) -> None:
    vectors = [plans(cli, tmp_path, extra) for extra in VARIATIONS] + rendered_vectors()
    assert any("--headless" in vector for vector in vectors)  # of a group of pods
    assert any(word.startswith("--kv-transfer-config") for vector in vectors for word in vector)
    flags = [flag.name for flag in FLAGS if flag.until is None]
    answer = vllm.run("parse_arguments.py", stdin=json.dumps({"flags": flags, "vectors": vectors}))
    assert json.loads(answer.splitlines()[-1]) == {"unknown": [], "refused": []}


MIGRATED = (
    "--num-shard 2 --max-total-tokens 8192 --max-batch-prefill-tokens 4096 --max-batch-size 64 --quantize fp8",
    "--dtype float16 --kv-cache-dtype fp8_e4m3fn --cuda-memory-fraction 0.9 --cuda-graphs 0 --trust-remote-code",
    "--speculate 3 --cuda-graphs 1,2,4 --cors-allow-origin https://a.example --otlp-endpoint http://otel:4317",
    "--lora-adapters a/b,c=d/e --max-concurrent-requests 64 --max-top-n-tokens 5 --validation-workers 4",
    "--revision main --hostname 0.0.0.0 --port 8080 --graceful-termination-timeout 60 --sharded false",
)


def test_vllm_parses_what_is_migrated_from_tgi(cli: Cli, vllm: Vllm) -> None:
    vectors = []
    for words in MIGRATED:
        done = cli(
            "migrate",
            "--json",
            "--",
            "text-generation-launcher",
            "--model-id",
            "Qwen/Qwen3-8B",
            *words.split(),
        )
        assert done.code == 0, done.err
        vectors.append(done.json()["servers"][0]["args"])
    answer = vllm.run("parse_arguments.py", stdin=json.dumps({"flags": [], "vectors": vectors}))
    assert json.loads(answer.splitlines()[-1]) == {"unknown": [], "refused": []}

"""A plan for a CPU, started as it is rendered: its own cache in main memory, no device, no share of the node."""

from __future__ import annotations

from pathlib import Path

from selfhost.plan import read_plan
from selfhost.units import GIB
from tests.conftest import Cli
from tests.e2e.conftest import Vllm, serving
from tests.e2e.test_vllm import CACHE_SIZE, engine_container, on_this_machine


def test_the_cache_is_the_planned_one(cli: Cli, vllm: Vllm, tiny_models: Path, tmp_path: Path) -> None:
    file, folder, home = tmp_path / "plan.json", tmp_path / "rendered", tmp_path / "home"
    home.mkdir()
    asked = (
        "--gpu",
        "cpu",
        "--gpu-memory",
        "4GiB",
        "--context",
        "256",
        "--concurrency",
        "2",
        "--enforce-eager",
        "-o",
        file,
    )
    planned = cli("plan", tiny_models / "tiny-llama", *asked)
    assert planned.code == 0, planned.err
    assert cli("render", file, "-o", folder).code == 0
    plan, container = read_plan(file), engine_container(folder)
    places = {plan.weights.mount_path: tiny_models, plan.engine.home_path: home}
    words = [*container["command"], *container["args"]]
    assert words[:2] == ["vllm", "serve"]
    arguments = [on_this_machine(word, places) for word in words[2:]]
    environment = {
        one["name"]: on_this_machine(one["value"], places) for one in container["env"] if "value" in one
    }
    with serving(vllm, arguments, environment, tmp_path / "server.log") as server:
        assert server.get(plan.engine.health_path) == 200
        body = {"model": "tiny-llama", "prompt": "Hello", "max_tokens": 4}
        assert server.post("/v1/completions", body)["usage"]["completion_tokens"] > 0
    counted = CACHE_SIZE.search(server.log.read_text(encoding="utf-8"))
    assert counted is not None
    tokens = int(counted[1].replace(",", ""))
    space = int(environment["VLLM_CPU_KVCACHE_SPACE"]) * GIB
    assert 0 <= space - tokens * plan.memory.kv_bytes_per_token < space // 100

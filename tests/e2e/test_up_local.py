"""`selfhost up --local` with the real vLLM on the CPU and the tiny model: plan, start, smoke test, status, down."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from selfhost import local
from selfhost.local.checks import needed_bytes
from selfhost.local.processes import of_run
from selfhost.local.store import Store, names
from selfhost.local.types import Wanted
from selfhost.plan import read_plan
from tests.conftest import Cli
from tests.e2e.conftest import free_port, vllm_python

KEY = "k-91c04e77"


def test_the_whole_way(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFHOST_VLLM_PYTHON", str(vllm_python()))
    key, file = tmp_path / "key", tmp_path / "plan.json"
    key.write_text(f"{KEY}\n", encoding="utf-8")
    words = ("up", "--local", "--yes", "--port", str(free_port()), "--api-key-file", key, "--context", "512")
    try:
        ran = cli(*words, "-o", file, "--output", "json")
        assert ran.code == 0, ran.out + ran.err
        said = [json.loads(line) for line in ran.out.splitlines()]
        checks = {event["code"]: event["verdict"] for event in said if "verdict" in event}
        for code in ("health", "models", "completion", "streaming", "key-refused", "key-accepted"):
            assert checks[code] == "pass", checks
        (figures,) = (event for event in said if "ttft_seconds" in event)
        assert figures["ttft_seconds"] > 0
        assert figures["tokens_per_second"] > 0

        plan = read_plan(file)
        (cache,) = (event for event in said if "kv_tokens" in event)
        assert cache["kv_tokens"] == cache["kv_tokens_planned"] == plan.memory.kv_tokens
        (seen,) = local.status("tiny")
        assert (seen.phase, seen.model, seen.leftover) == ("ready", "tiny", ())
        assert seen.memory_bytes is not None
        # the cache itself, and no more than the plan has for it and for the engine
        assert plan.memory.kv_needed_bytes < seen.memory_bytes < needed_bytes(plan)
        assert said[-1]["memory_planned_bytes"] == needed_bytes(plan)

        wanted = Store("tiny").read(Wanted)
        assert wanted is not None
        processes = of_run(wanted.run)
        assert len(processes) >= 3  # the watcher, the server, the engine core
        again = cli(*words, "--no-smoke-test", "--output", "json")
        assert (again.code, json.loads(again.out.splitlines()[-1])["ended"]) == (0, "unchanged")
        assert of_run(wanted.run) == processes
    finally:
        assert cli("down", "--all", "--with-weights").code == 0
    assert of_run(wanted.run) == ()
    assert names() == ()
    kept = [path for path in Path(os.environ["XDG_STATE_HOME"]).rglob("*") if path.is_file()]
    assert kept == []

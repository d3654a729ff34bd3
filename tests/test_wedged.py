"""A wedged engine as the commands tell it: a fake GPU that spins beside a fake engine whose tokens stand still."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.fakes.engine import FakeEngine, Script, engine

Environment = Callable[[str], dict[str, str]]


def stuck() -> Script:
    """Twelve requests wait; no token comes; /health answers 200."""
    script = Script()
    script.values |= {
        "waiting": 12,
        "running": 0,
        "generation_tokens": 5000,
        "prompt_tokens": 100,
        "kv_usage": 0.4,
    }
    return script


def health(fake: FakeEngine, environment: dict[str, str], *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "selfhost", "health", "--engine", fake.url, *words]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_wedged_engine_is_critical_and_one_at_work_is_not(fake_gpus: Environment, tmp_path: Path) -> None:
    environment = fake_gpus("wedged") | {"XDG_STATE_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    working = stuck()
    working.tokens_per_second = 50.0
    # vLLM pull request 46811: the gauges read 0, and only a request of our own tells.
    hidden = stuck()
    hidden.values |= {"waiting": 0}
    hidden.hang = frozenset({"/v1/completions"})
    with engine(stuck()) as one, engine(stuck()) as two, engine(working) as three, engine(hidden) as four:
        told = health(one, environment, "--json")
        nagios = health(two, environment, "--nagios")
        well = health(three, environment, "--json")
        asked = health(four, environment, "--json", "--canary")
        out, err = told.communicate(timeout=50)
        line, _ = nagios.communicate(timeout=50)
        fine, _ = well.communicate(timeout=50)
        silent, err = asked.communicate(timeout=50)

    assert told.returncode == 5, err
    document = json.loads(out)
    assert document["verdict"] == "critical"
    first = document["checks"][0]
    assert (first["code"], first["level"], first["action"]) == ("engine-wedged", "critical", "restart_engine")
    assert "12 waiting, 0 tokens, GPUs 100 % busy at 118 W, tensor cores 0 %" in first["message"]
    assert "/health 200" in first["evidence"]
    assert nagios.returncode == 2
    assert line.startswith("CRITICAL")
    (check,) = (one for one in json.loads(fine)["checks"] if one["code"] == "engine-wedged")
    assert check["level"] == "ok"
    assert "tokens flow" in check["message"]
    assert asked.returncode == 5, err
    first = json.loads(silent)["checks"][0]
    assert (first["code"], first["level"]) == ("engine-wedged", "critical")
    assert "a one-token request unanswered" in first["message"]

"""What one H100 80GB HBM3 and vLLM 0.26.0 on it really said: recordings, start-up and failure logs of 2026-11-26.

Driver 580.159.04; UUIDs, serial numbers and names of machines replaced, nothing else.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from selfhost.deploy.engine_log import important, plain
from selfhost.probe import read_startup_log
from selfhost.units import GIB

DATA = Path(__file__).parent / "data"
LOGS = DATA / "engine_logs"


def ran(*words: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "selfhost", *words, "--json"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, found


def test_loaded_gpu_at_its_power_limit_is_well() -> None:
    code, found = ran("health", "--replay", str(DATA / "h100_load.jsonl.gz"))
    assert (code, found["verdict"]) == (0, "ok")
    levels = {check["code"]: check["level"] for check in found["checks"]}
    assert levels["power-cap"] == "ok"
    assert levels["pcie-link"] == "ok"


def test_readings_under_load() -> None:
    code, found = ran("monitor", "--replay", str(DATA / "h100_load.jsonl.gz"))
    assert code == 0
    (gpu,) = found["node"]["gpus"]
    fast, slow = gpu["fast"], gpu["slow"]
    # 798 TFLOP/s of 989 are published for such a product: the tensor cores are busy nearly all the time.
    assert 0.9 < fast["tensor_activity_ratio"] < 1
    assert fast["power_watts"] == pytest.approx(slow["power_limit_watts"], rel=0.01)
    total = fast["memory_used_bytes"] + fast["memory_free_bytes"] + fast["memory_reserved_bytes"]
    assert total == gpu["identity"]["memory_total_bytes"]
    # Degrees to go come from the driver, and agree with the limits that it names.
    assert fast["temperature_celsius"] + slow["margin_celsius"] in (87, 88)
    (process,) = slow["processes"]
    assert process["memory_bytes"] < fast["memory_used_bytes"]


def test_page_fault_of_a_program_is_the_programs() -> None:
    code, found = ran("health", "--replay", str(DATA / "h100_xid_31.jsonl.gz"))
    assert code == 5
    (check,) = (check for check in found["checks"] if check["level"] not in ("ok", "skipped"))
    assert (check["code"], check["level"], check["action"]) == ("gpu-xid", "warn", "restart_engine")
    assert "fault 1369" in check["message"]


@pytest.mark.parametrize(
    ("name", "gib", "tokens"),
    [
        ("started_qwen3_8b", (15.27, 1.29, 0.22, 1.0, 56.07), 408_256),
        ("started_llama_3_1_8b", (15.0, 1.1, 0.22, 0.98, 56.51), 462_944),
    ],
)
def test_every_term_of_a_start_is_read(name: str, gib: tuple[float, ...], tokens: int) -> None:
    found = read_startup_log((LOGS / f"{name}.log").read_text(encoding="utf-8"))
    assert found is not None
    seen = (
        found.weights_bytes,
        found.activation_bytes,
        found.non_torch_bytes,
        found.graphs_bytes,
        found.kv_available_bytes,
    )
    assert seen == tuple(round(size * GIB) for size in gib)
    assert found.kv_tokens == tokens


REASONS = {
    "free_memory_less_than_desired": "is less than desired GPU memory utilization",
    "kv_cache_too_small": "(5.62 GiB KV cache is needed",
    "kv_dtype_unknown": "invalid choice: 'fp9'",
    "max_model_len_too_long": "User-specified max_model_len (131072)",
    "no_gpu_visible": "NVMLError_InvalidArgument",
    "no_such_model": "LocalEntryNotFoundError",
    "out_of_memory_at_load": "torch.OutOfMemoryError",
    "package_missing": "No module named 'flashinfer'",
    "tensor_parallel_without_gpus": "World size (2) is larger than the number of available GPUs (1)",
    "wrong_flag": "unrecognized arguments: --max-model-length",
    "wrong_quantization": "Cannot find the config file for awq",
}


@pytest.mark.parametrize("name", REASONS)
def test_reason_of_a_failed_start_is_among_the_lines_that_count(name: str) -> None:
    lines = (LOGS / f"{name}.log").read_text(encoding="utf-8").splitlines()[1:]
    assert any(REASONS[name] in plain(line) for line in lines if important(line, "vllm") == "error")


def test_every_log_has_a_reason_or_a_start() -> None:
    names = {path.stem for path in LOGS.glob("*.log")} - {"xid_31_kernel"}
    assert names == REASONS.keys() | {"started_qwen3_8b", "started_llama_3_1_8b"}

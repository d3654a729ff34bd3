"""Every scenario of the fake NVML through the real command line, in a process of its own: verdict, exit codes, cause.

The real pynvml reads the fake library there. Nothing in a scenario but h100_read was read from a GPU.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from selfhost.node import node_facts
from selfhost.observation import known
from tests.fakes import nvml
from tests.fakes.engine import Script, engine
from tests.test_cli_json import schema

FACTS = node_facts()
pytestmark = pytest.mark.skipif(
    known(FACTS.kernel_driver_version), reason="a real NVIDIA driver here would be compared with the fake one"
)
Environment = Callable[[str], dict[str, str]]
# A call that hangs is given up after this; a node that answers needs a fraction of a second.
TIMEOUT_SECONDS = 6
NAGIOS = {"ok": 0, "warn": 1, "critical": 2, "unknown": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a scenario comes to: the verdict, and the check that decides it with its GPU and action."""

    verdict: str
    code: str = "nvml"
    gpu: int | None = None
    action: str = "none"


OK = Expected(verdict="ok")
SCENARIOS: dict[str, Expected] = {
    "clock_stuck": Expected(verdict="warn", code="clock-low", gpu=1, action="reset_gpu"),
    "container": OK,
    "ecc_uncorrected": Expected(verdict="critical", code="ecc-uncorrected", gpu=1, action="reset_gpu"),
    "eight": OK,
    "fabric_unhealthy": Expected(verdict="critical", code="fabric", gpu=6, action="reset_gpu"),
    "gb10": OK,
    "h100_read": OK,
    "handle_unknown": Expected(verdict="unknown", code="gpu-lost", gpu=0),
    "healthy": OK,
    "hung": Expected(verdict="critical", code="nvml-slow", action="reboot_node"),
    "inforom": Expected(verdict="warn", code="inforom", gpu=0, action="inspect_hardware"),
    "lost": Expected(verdict="critical", code="gpu-lost", gpu=5, action="reboot_node"),
    # Which processes hold memory cannot be seen from a PID namespace of one's own.
    "memory_leak": OK if FACTS.in_container and not FACTS.host_pids
    else Expected(verdict="warn", code="memory-orphaned", gpu=1, action="reset_gpu"),
    "midlost": Expected(verdict="critical", code="gpu-lost", gpu=1, action="reboot_node"),
    "mig": OK,
    "mismatch": Expected(verdict="critical", code="nvml", action="reboot_node"),
    "modes_pending": Expected(verdict="warn", code="mig-mode", gpu=1, action="reset_gpu"),
    "no_permission": Expected(verdict="unknown", code="gpu-readings", gpu=0, action="fix_configuration"),
    "not_loaded": Expected(verdict="critical", code="nvml", action="fix_configuration"),
    "not_supported": OK,
    "nvlink_down": Expected(verdict="critical", code="nvlink-down", gpu=2, action="reset_gpu"),
    "old_driver": OK,
    "pcie_downgrade": Expected(verdict="critical", code="pcie-link", gpu=1, action="inspect_hardware"),
    "power_brake": Expected(verdict="critical", code="clock-slowdown", gpu=0, action="inspect_hardware"),
    "power_capped": OK,
    "remap_failed": Expected(verdict="critical", code="memory-remap-failed", gpu=0, action="inspect_hardware"),
    "remap_pending": Expected(verdict="warn", code="memory-remap-pending", gpu=1, action="reset_gpu"),
    "reset_required": Expected(verdict="critical", code="gpu-reset-required", gpu=1, action="reset_gpu"),
    "retired_pages": Expected(verdict="warn", code="memory-retired-pages", gpu=0, action="reset_gpu"),
    "slow": OK,
    "thermal": Expected(verdict="critical", code="clock-slowdown", gpu=1, action="inspect_hardware"),
    # Without its engine it cannot be told from a spinning process.
    "wedged": Expected(verdict="unknown", code="gpu-work", gpu=0, action="check_application"),
    "zero": Expected(verdict="unknown", code="nvml", action="fix_configuration"),
}  # fmt: skip
# Whose events come while it runs; has tests of its own.
ELSEWHERE = {"xid_stream"}


def health(environment: dict[str, str], tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    log = tmp_path / "kernel.log"
    log.touch()
    command = [sys.executable, "-m", "selfhost", "health", "--kernel-log", str(log), *words]
    if not any(word.startswith("--engine") for word in words):
        command.append("--no-engines")
    own = {"XDG_CONFIG_HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}
    return subprocess.run(
        command, env=environment | own, capture_output=True, text=True, timeout=50, check=False
    )


def checks(ran: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    result = json.loads(ran.stdout)
    jsonschema.validate(result, schema("health"))
    assert ran.stderr == ""
    found: list[dict[str, Any]] = result["checks"]
    return found


def test_every_scenario_has_its_expectation() -> None:
    assert set(nvml.scenario_names()) == set(SCENARIOS) | ELSEWHERE
    assert len(SCENARIOS) >= 20


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str, fake_gpus: Environment, tmp_path: Path) -> None:
    expected = SCENARIOS[name]
    ran = health(
        fake_gpus(name), tmp_path, "--json", "--nagios", "--timeout", str(TIMEOUT_SECONDS), "--window", "12"
    )
    found = checks(ran)
    worst = [check for check in found if check["level"] == expected.verdict]
    assert json.loads(ran.stdout)["verdict"] == expected.verdict, found[:3]
    assert ran.returncode == NAGIOS[expected.verdict]
    decisive = [(check["code"], check["gpu"], check["action"]) for check in worst]
    assert (expected.code, expected.gpu, expected.action) in decisive
    if expected.verdict == "ok":
        assert not any(check["level"] in ("warn", "critical", "unknown") for check in found)


@pytest.mark.parametrize("name", ["healthy", "lost", "mismatch", "zero"])
def test_exit_code_without_nagios(name: str, fake_gpus: Environment, tmp_path: Path) -> None:
    ran = health(fake_gpus(name), tmp_path)
    assert ran.returncode == (0 if SCENARIOS[name].verdict == "ok" else 5)
    assert (f"exit {ran.returncode}" in ran.stdout) == (ran.returncode != 0)


def test_one_line_for_nagios(fake_gpus: Environment, tmp_path: Path) -> None:
    ran = health(fake_gpus("lost"), tmp_path, "--nagios")
    assert (ran.returncode, ran.stdout.count("\n"), ran.stderr) == (2, 1, "")
    assert ran.stdout.startswith("CRITICAL: gpu 5: fell off the bus")


def test_a_node_that_is_well_is_looked_at_once(fake_gpus: Environment, tmp_path: Path) -> None:
    environment = fake_gpus("eight")
    assert health(environment, tmp_path, "--json").returncode == 0
    trace = nvml.trace(Path(environment["FAKE_NVML_TRACE"]))
    assert trace.of("nvmlInitWithFlags") + trace.of("nvmlInit_v2") == 1
    assert trace.of("nvmlDeviceGetCurrentClocksEventReasons", 3) <= 1


def test_a_hung_driver_does_not_hang_the_check(fake_gpus: Environment, tmp_path: Path) -> None:
    began = time.monotonic()
    ran = health(fake_gpus("hung"), tmp_path, "--nagios", "--timeout", "2", "--window", "0")
    assert ran.returncode == 2
    assert (
        time.monotonic() - began < 15
    )  # a start on a loaded machine and two seconds; the call itself takes 60
    assert "NVML has not answered" in ran.stdout


def test_no_library(tmp_path: Path, fake_gpus: Environment) -> None:
    environment = fake_gpus("healthy")
    environment.pop("LD_LIBRARY_PATH")
    ran = health(environment, tmp_path, "--json", "--nagios")
    assert ran.returncode == 3
    assert checks(ran)[0]["code"] == "nvml"


def test_xids_that_wait_are_all_seen(fake_gpus: Environment, tmp_path: Path) -> None:
    text = "include = eight.scenario\ncount = 4\ngpu0.xid = 31\ngpu1.xid = 63\ngpu2.xid = 94, 45\ngpu3.xid = 119, 79\n"
    ran = health(fake_gpus(text), tmp_path, "--json")
    found = {check["gpu"]: check for check in checks(ran) if check["code"] == "gpu-xid"}
    assert {gpu: (check["level"], check["action"]) for gpu, check in found.items()} == {
        0: ("warn", "restart_engine"),
        1: ("warn", "reset_gpu"),
        2: ("warn", "restart_engine"),
        3: ("critical", "reboot_node"),
    }
    assert "Xid 94" in found[2]["message"]
    assert "Xid 79" in found[3]["message"]


def test_a_recording_of_xids_that_come_is_judged_as_the_node_was(
    fake_gpus: Environment, tmp_path: Path
) -> None:
    environment, recording = fake_gpus("xid_stream"), tmp_path / "seen.jsonl"
    words = ("--no-engines", "--json", "--interval", "1", "--count", "5")
    watched = subprocess.run(
        [sys.executable, "-m", "selfhost", "monitor", *words, "--record", str(recording)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert watched.stderr == ""
    ran = health({**environment, "LD_LIBRARY_PATH": ""}, tmp_path, "--json", "--replay", str(recording))
    assert ran.returncode == 5
    found = checks(ran)
    assert (found[0]["level"], found[0]["gpu"]) == ("critical", 3)
    xids = {check["gpu"]: check["message"] for check in found if check["code"] == "gpu-xid"}
    assert set(xids) == {0, 1, 2, 3}
    assert "Xid 94" in xids[2]
    assert {check["gpu"] for check in found if check["code"] == "gpu-lost"} >= {3}


def test_the_kernel_log_names_who_has_to_be_restarted(fake_gpus: Environment, tmp_path: Path) -> None:
    log = tmp_path / "named.log"
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - 60))
    log.write_text(
        f"{stamp} gpu-3 kernel: NVRM: Xid (PCI:0000:18:00): 94, pid=4123, name=VLLM::Worker, Contained\n"
    )
    ran = health(fake_gpus("healthy"), tmp_path, "--json", "--kernel-log", str(log))
    check = next(check for check in checks(ran) if check["code"] == "gpu-xid")
    assert (check["level"], check["gpu"], check["action"]) == ("warn", 0, "restart_engine")
    assert "VLLM::Worker 4123" in check["message"]


def test_a_wedged_engine(fake_gpus: Environment, tmp_path: Path) -> None:
    script = Script()
    script.values |= {"running": 4, "waiting": 12, "generation_tokens": 51_234, "prompt_tokens": 9_000}
    with engine(script) as fake:
        words = ("--engine", f"{fake.url}=0", "--json", "--nagios", "--window", "20")
        ran = health(fake_gpus("wedged"), tmp_path, *words)
    check = next(check for check in checks(ran) if check["code"] == "engine-wedged")
    assert (check["level"], check["action"]) == ("critical", "restart_engine"), check
    assert ran.returncode == 2


def test_an_engine_that_works(fake_gpus: Environment, tmp_path: Path) -> None:
    script = Script(tokens_per_second=900)
    script.values |= {"running": 4, "kv_usage": 0.4}
    with engine(script) as fake:
        ran = health(fake_gpus("healthy"), tmp_path, "--engine", f"{fake.url}=0", "--json", "--window", "6")
    found = checks(ran)
    assert next(check for check in found if check["code"] == "engine-wedged")["level"] == "ok"
    assert ran.returncode == 0, found[:3]


def test_a_baseline_is_learnt_and_then_a_gpu_is_missing(fake_gpus: Environment, tmp_path: Path) -> None:
    assert "Learnt 8 GPUs" in health(fake_gpus("eight"), tmp_path, "--learn").stdout
    assert health(fake_gpus("eight"), tmp_path, "--json").returncode == 0
    fewer = nvml.scenario("eight") + "\ncount = 7\n"
    ran = health(fake_gpus(fewer), tmp_path, "--json", "--nagios")
    assert (ran.returncode, checks(ran)[0]["code"]) == (2, "gpu-count")
    assert checks(health(fake_gpus("zero"), tmp_path, "--json"))[0]["level"] == "critical"


def test_a_node_that_is_not_well_is_not_learnt(fake_gpus: Environment, tmp_path: Path) -> None:
    ran = health(fake_gpus("lost"), tmp_path, "--learn")
    assert ran.returncode == 1
    assert "not well" in ran.stderr
    assert not (tmp_path / "selfhost" / "baseline.json").exists()
    assert health(fake_gpus("lost"), tmp_path, "--learn", "--force").returncode == 0


def test_power_is_learnt_while_tokens_flow(fake_gpus: Environment, tmp_path: Path) -> None:
    script = Script(tokens_per_second=900)
    script.values |= {"running": 4}
    with engine(script) as fake:
        ran = health(fake_gpus("healthy"), tmp_path, "--learn", "--engine", f"{fake.url}=0", "--window", "12")
    assert ran.returncode == 0, ran.stderr
    learnt = json.loads((tmp_path / "selfhost" / "baseline.json").read_text())["gpus"][0]
    assert 500 < learnt["busy_low_watts"] <= learnt["busy_high_watts"] < 530
    assert learnt["busy_samples"] >= 8

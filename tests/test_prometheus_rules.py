"""The rules in Prometheus' own hands: promtool checks them, and evaluates alerts over invented series.

promtool is no dependency: PROMTOOL names it, or it is on the path (`apt-get install prometheus` brings it).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfhost.manifests import RenderOptions, render
from tests.plans import plan

CACHED = Path.home() / ".cache" / "selfhost" / "promtool-2.42.0" / "promtool"
PROMTOOL = (
    os.environ.get("PROMTOOL") or shutil.which("promtool") or (str(CACHED) if CACHED.exists() else None)
)
pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed; PROMTOOL names it")

GPU = (
    'node="gpu-1",gpu="3",uuid="GPU-3f",pci_address="00000000:18:00.0",model="H100",instance="10.0.0.1:9835"'
)
OWNED = GPU + ',namespace="llm",pod="llm-0",container="server"'
ENGINE = 'node="gpu-1",instance="10.0.0.1:9835",engine="vllm",url="http://10.0.0.9:8000",served_model="qwen"'
NODE = 'node="gpu-1",instance="10.0.0.1:9835"'
UP = 'up{job="selfhost-monitor",node="gpu-1",instance="10.0.0.1:9835"}'


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = RenderOptions(monitor_image="registry.example/selfhost:0.1.0")
    documents = {d.name: d.text for d in render(plan(), target="monitor", options=options).documents}
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(documents["prometheus-rules.yaml"], encoding="utf-8")
    return path


def promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None
    return subprocess.run(
        [PROMTOOL, *map(str, words)], capture_output=True, text=True, check=False, timeout=50
    )


def test_promtool_accepts_the_rules(rules: Path) -> None:
    done = promtool("check", "rules", rules)
    assert done.returncode == 0, done.stderr
    assert "SUCCESS" in done.stdout


SEEN, EXPECTED = f"selfhost_gpus{{{NODE}}}", f"selfhost_gpus_expected{{{NODE}}}"


def held(reason: str) -> str:
    return f'selfhost_gpu_clock_held_down_seconds_total{{{OWNED},reason="{reason}"}}'


def link_errors(kind: str) -> str:
    return f'selfhost_gpu_nvlink_errors_total{{{OWNED},link="3",kind="{kind}"}}'


# Alert, minute, series (one sample a minute), whether it fires.
SERIES: list[tuple[str, int, dict[str, str], bool]] = [
    ("SelfhostExporterAbsent", 15, {}, True),
    ("SelfhostExporterAbsent", 15, {UP: "1x20"}, False),
    ("SelfhostExporterDown", 9, {UP: "1 0x20"}, True),
    ("SelfhostExporterDown", 3, {UP: "1 0x20"}, False),
    ("SelfhostNvmlDown", 5, {f"selfhost_nvml_up{{{NODE}}}": "0x20"}, True),
    ("SelfhostNvmlStuck", 5, {f"selfhost_nvml_poll_age_seconds{{{NODE}}}": "5+60x20"}, True),
    ("SelfhostNvmlStuck", 15, {f"selfhost_nvml_poll_age_seconds{{{NODE}}}": "5x20"}, False),
    # A GPU that is gone after a restart, in a pod with another address.
    ("SelfhostGpusMissing", 20, {SEEN: "8x5 7x20"}, True),
    (
        "SelfhostGpusMissing", 20,
        {SEEN: "8x5", 'selfhost_gpus{node="gpu-1",instance="10.0.0.2:9835"}': "_x5 7x20"}, True,
    ),
    ("SelfhostGpusMissing", 20, {SEEN: "7x20", EXPECTED: "8x20"}, True),
    ("SelfhostGpusMissing", 20, {SEEN: "8x20", EXPECTED: "8x20"}, False),
    ("SelfhostCheckCritical", 20, {f'selfhost_check_level{{{NODE},code="gpu-lost",gpu="3"}}': "2x20"}, True),
    ("SelfhostCheckCritical", 20, {f'selfhost_check_level{{{NODE},code="thermal",gpu="3"}}': "1x20"}, False),
    ("SelfhostGpuLost", 4, {f"selfhost_gpu_up{{{GPU}}}": "1 1 0x20"}, True),
    ("SelfhostGpuLost", 4, {f"selfhost_gpu_up{{{GPU}}}": "1x20"}, False),
    *(
        (f"SelfhostGpuRecovery{name}", 5, {f"selfhost_gpu_recovery_action{{{OWNED}}}": f"{value}x20"}, fires)
        for value, name, fires in (
            (0, "Reset", False), (1, "Reset", True), (4, "Reset", True), (6, "Reset", True), (2, "Reboot", True),
            (7, "Reboot", True), (3, "Drain", True), (5, "Drain", True), (2, "Reset", False), (1, "Reboot", False),
        )
    ),
    # The first error of a code begins its series at 1: there was no 0 before it.
    ("SelfhostGpuXidReboot", 10, {f'selfhost_gpu_xid_errors_total{{{GPU},xid="79"}}': "_x8 1x200"}, True),
    ("SelfhostGpuXidReboot", 75, {f'selfhost_gpu_xid_errors_total{{{GPU},xid="79"}}': "_x8 1x200"}, False),
    ("SelfhostGpuXidReset", 100, {f'selfhost_gpu_xid_errors_total{{{GPU},xid="48"}}': "1x95 2x100"}, True),
    ("SelfhostGpuXidReset", 90, {f'selfhost_gpu_xid_errors_total{{{GPU},xid="48"}}': "1x95 2x100"}, False),
    ("SelfhostGpuXidApplication", 10, {f'selfhost_gpu_xid_errors_total{{{GPU},xid="31"}}': "_x8 1x20"}, True),
    ("SelfhostGpuXidReset", 10, {f'selfhost_gpu_xid_errors_total{{{GPU},xid="31"}}': "_x8 1x20"}, False),
    ("SelfhostGpuXidHardware", 10, {f'selfhost_gpu_xid_errors_total{{{GPU},xid="64"}}': "_x8 1x20"}, True),
    ("SelfhostGpuXidOther", 10, {f'selfhost_gpu_xid_errors_total{{{GPU},xid="999"}}': "_x8 1x20"}, True),
    ("SelfhostGpuXidOther", 10, {f'selfhost_gpu_xid_errors_total{{{GPU},xid="79"}}': "_x8 1x20"}, False),
    ("SelfhostGpuRowRemapFailed", 5, {f"selfhost_gpu_row_remap_failed{{{OWNED}}}": "1x20"}, True),
    ("SelfhostGpuRowRemapPending", 15, {f"selfhost_gpu_row_remap_pending{{{OWNED}}}": "1x20"}, True),
    ("SelfhostGpuUncorrectedEcc", 5, {f'selfhost_gpu_ecc_errors_total{{{OWNED},kind="uncorrected"}}': "0 1x20"}, True),
    ("SelfhostGpuUncorrectedEcc", 5, {f'selfhost_gpu_ecc_errors_total{{{OWNED},kind="corrected"}}': "9x20"}, False),
    # 12 s of every minute; two reasons of one cause are not added up.
    ("SelfhostGpuThermal", 25, {held("hw_thermal"): "0+12x30"}, True),
    (
        "SelfhostGpuThermal", 25,
        {held(reason): "0+4x30" for reason in ("thermal", "sw_thermal")},
        False,
    ),
    ("SelfhostGpuThermal", 25, {held("power_cap"): "0+60x30"}, False),
    ("SelfhostGpuThermalMargin", 8, {f"selfhost_gpu_thermal_margin_celsius{{{OWNED}}}": "-2x20"}, True),
    ("SelfhostGpuPowerBrake", 15, {held("hw_power_brake"): "0+5x20"}, True),
    ("SelfhostGpuPowerBrake", 15, {held("hw_power_brake"): "900x20"}, False),
    # Idle links fall to generation 1 by design.
    *(
        (
            "SelfhostGpuPcieLink", 15,
            {
                f"selfhost_gpu_pcie_link_generation{{{OWNED}}}": "1x20",
                f"selfhost_gpu_pcie_link_generation_max{{{OWNED}}}": "5x20",
                f"selfhost_gpu_utilization_ratio{{{OWNED}}}": f"{busy}x20",
            },
            fires,
        )
        for busy, fires in ((0.9, True), (0, False))
    ),
    (
        "SelfhostGpuPcieLink", 15,
        {
            f"selfhost_gpu_pcie_link_lanes{{{OWNED}}}": "8x20", f"selfhost_gpu_pcie_link_lanes_max{{{OWNED}}}": "16x20",
            f"selfhost_gpu_utilization_ratio{{{OWNED}}}": "0.9x20",
        },
        True,
    ),
    ("SelfhostGpuPcieReplays", 20, {f"selfhost_gpu_pcie_replays_total{{{OWNED}}}": "0+40x30"}, True),
    ("SelfhostGpuPcieReplays", 20, {f"selfhost_gpu_pcie_replays_total{{{OWNED}}}": "0+4x30"}, False),
    ("SelfhostGpuNvlinkDown", 8, {f'selfhost_gpu_nvlink_up{{{OWNED},link="3"}}': "0x20"}, True),
    (
        "SelfhostGpuNvlinkDown", 8,
        {f'selfhost_gpu_nvlink_up{{{OWNED},link="3"}}': "0x20", f"selfhost_gpu_mig_enabled{{{OWNED}}}": "1x20"}, False,
    ),
    ("SelfhostGpuNvlinkErrors", 8, {link_errors("replay"): "0x5 1x20"}, True),
    ("SelfhostGpuNvlinkErrors", 8, {link_errors("crc"): "0x5 1x20"}, False),
    ("SelfhostEngineDown", 5, {f"selfhost_engine_up{{{ENGINE}}}": "0x200"}, False),  # it loads
    ("SelfhostEngineDown", 190, {f"selfhost_engine_up{{{ENGINE}}}": "0x200"}, True),
    (
        "SelfhostEngineUnhealthy", 5,
        {f"selfhost_engine_healthy{{{ENGINE}}}": "0x20", f"selfhost_engine_up{{{ENGINE}}}": "1x20"}, True,
    ),
    ("SelfhostEngineWedged", 5, {f"selfhost_engine_wedged{{{ENGINE}}}": "0 1x20"}, True),
    *(
        (
            "SelfhostEngineKvPressure", 25,
            {
                f"selfhost_engine_kv_usage_ratio{{{ENGINE}}}": f"{used}x30",
                f"selfhost_engine_preemptions_total{{{ENGINE}}}": preempted,
            },
            fires,
        )
        for used, preempted, fires in ((0.99, "0+3x30", True), (0.99, "7x30", False), (0.5, "0+3x30", False))
    ),
    ("SelfhostEngineQueueGrowing", 40, {f"selfhost_engine_requests_waiting{{{ENGINE}}}": "0 1+2x50"}, True),
    ("SelfhostEngineQueueGrowing", 40, {f"selfhost_engine_requests_waiting{{{ENGINE}}}": "90-2x44"}, False),
    *(
        (
            "SelfhostEngineMemoryOverPlan", 25,
            {
                f'selfhost_engine_memory_actual_bytes{{{ENGINE},term="weights"}}': f"{seen}x30",
                f'selfhost_engine_memory_predicted_bytes{{{ENGINE},term="weights"}}': "30000000000x30",
            },
            fires,
        )
        for seen, fires in ((32_000_000_000, True), (30_500_000_000, False), (20_000_000_000, False))
    ),
    (
        "SelfhostEngineMemoryRising", 420,
        {f'selfhost_engine_memory_actual_bytes{{{ENGINE},term="other"}}': "1000000000+10000000x500"}, True,
    ),
]  # fmt: skip


def case(name: str, minute: int, series: dict[str, str], fires: bool) -> dict[str, Any]:
    """One test of promtool: only whether the alert fires is compared, through ALERTS, which Prometheus writes."""
    return {
        "name": f"{name} {'fires' if fires else 'is quiet'}",
        "interval": "1m",
        "input_series": [{"series": labels, "values": values} for labels, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) > bool 0 or vector(0)',
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": "{}", "value": int(fires)}],
            }
        ],
    }


def test_alerts_fire_when_they_should_and_only_then(rules: Path, tmp_path: Path) -> None:
    """All in one run: promtool takes longer to start than to evaluate."""
    path = tmp_path / "test.yaml"
    tests = [case(*one) for one in SERIES]
    path.write_text(yaml.safe_dump({"rule_files": [str(rules)], "tests": tests}), encoding="utf-8")
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]


# A node with nothing wrong, at work: what most series look like most of the time.
HEALTHY = {
    UP: "1x600",
    f"selfhost_nvml_up{{{NODE}}}": "1x600",
    f"selfhost_nvml_poll_age_seconds{{{NODE}}}": "4x600",
    SEEN: "8x600",
    EXPECTED: "8x600",
    f"selfhost_health_level{{{NODE}}}": "0x600",
    f'selfhost_check_level{{{NODE},code="gpu-lost",gpu="3"}}': "0x600",
    f"selfhost_gpu_up{{{GPU}}}": "1x600",
    f"selfhost_gpu_recovery_action{{{OWNED}}}": "0x600",
    f"selfhost_gpu_row_remap_failed{{{OWNED}}}": "0x600",
    f"selfhost_gpu_row_remap_pending{{{OWNED}}}": "0x600",
    f'selfhost_gpu_ecc_errors_total{{{OWNED},kind="uncorrected"}}': "0x600",
    f'selfhost_gpu_ecc_errors_total{{{OWNED},kind="corrected"}}': "0+1x600",
    held("power_cap"): "0+50x600",  # at its power limit, as an H100 is under load
    held("hw_thermal"): "7x600",
    held("hw_power_brake"): "0x600",
    f"selfhost_gpu_thermal_margin_celsius{{{OWNED}}}": "25x600",
    f"selfhost_gpu_pcie_link_generation{{{OWNED}}}": "5x600",
    f"selfhost_gpu_pcie_link_generation_max{{{OWNED}}}": "5x600",
    f"selfhost_gpu_pcie_link_lanes{{{OWNED}}}": "16x600",
    f"selfhost_gpu_pcie_link_lanes_max{{{OWNED}}}": "16x600",
    f"selfhost_gpu_pcie_replays_total{{{OWNED}}}": "12x600",
    f"selfhost_gpu_utilization_ratio{{{OWNED}}}": "0.97x600",
    f'selfhost_gpu_nvlink_up{{{OWNED},link="3"}}': "1x600",
    link_errors("replay"): "2x600",
    link_errors("crc"): "0+1x600",
    f"selfhost_engine_up{{{ENGINE}}}": "1x600",
    f"selfhost_engine_healthy{{{ENGINE}}}": "1x600",
    f"selfhost_engine_wedged{{{ENGINE}}}": "0x600",
    f"selfhost_engine_kv_usage_ratio{{{ENGINE}}}": "0.97x600",
    f"selfhost_engine_preemptions_total{{{ENGINE}}}": "3x600",
    f"selfhost_engine_requests_waiting{{{ENGINE}}}": "0 4 0 2x597",
    f'selfhost_engine_memory_actual_bytes{{{ENGINE},term="weights"}}': "30400000000x600",
    f'selfhost_engine_memory_predicted_bytes{{{ENGINE},term="weights"}}': "30000000000x600",
}


def test_nothing_fires_for_a_node_at_work(rules: Path, tmp_path: Path) -> None:
    quiet = {
        "interval": "1m",
        "input_series": [{"series": labels, "values": values} for labels, values in HEALTHY.items()],
        "promql_expr_test": [
            {
                "expr": 'count(ALERTS{alertstate=~"pending|firing"}) or vector(0)',
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": "{}", "value": 0}],
            }
            for minute in (0, 5, 15, 60, 240, 500)
        ],
    }
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(rules)], "tests": [quiet]}), encoding="utf-8")
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_every_alert_was_seen_firing(rules: Path) -> None:
    groups = yaml.safe_load(rules.read_text(encoding="utf-8"))["groups"]
    names = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    assert names == {name for name, _, _, fires in SERIES if fires}


def test_sentences_are_filled_in(rules: Path, tmp_path: Path) -> None:
    """Prometheus' templates take the labels and the value."""
    lost = "selfhost_gpu_up{" + GPU + "}"
    expected = {
        "summary": "gpu-1 gpu 3 (GPU-3f) does not answer.",
    }
    groups = yaml.safe_load(rules.read_text(encoding="utf-8"))["groups"]
    alert = next(
        rule for group in groups for rule in group["rules"] if rule.get("alert") == "SelfhostGpuLost"
    )
    labels = dict(part.split("=", 1) for part in GPU.replace('"', "").split(","))
    test = {
        "interval": "1m",
        "input_series": [{"series": lost, "values": "0x10"}],
        "alert_rule_test": [
            {
                "eval_time": "5m",
                "alertname": "SelfhostGpuLost",
                "exp_alerts": [
                    {
                        "exp_labels": labels | alert["labels"],
                        "exp_annotations": expected | {"runbook": alert["annotations"]["runbook"]},
                    }
                ],
            }
        ],
    }
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(rules)], "tests": [test]}), encoding="utf-8")
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

"""What the exporter says of every scenario of the fake NVML, through the real pynvml, in one process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from selfhost.metrics import metric_names
from tests.fakes import nvml
from tests.monitoring import samples, value

PROGRAM = """
import json, sys
from pathlib import Path
from selfhost.exporter import Exporter
from selfhost.monitor import Poller, Sources, observe_once
from tests.fakes import nvml
scenario = Path(sys.argv[1])
sources = Sources(discover_engines=False, kernel_log=False)
for name in sys.argv[2:]:
    nvml.rewrite(scenario, nvml.expand(nvml.scenario(name)))
    exporter = Exporter(Poller(sources), dcgm_names=True)
    seen = observe_once(sources, deadline_seconds=5)
    exporter.observed(seen, (seen,))
    text, _ = exporter.metrics(None, packed=False)
    print(json.dumps([name, text.decode(), exporter.failure]), flush=True)
"""
# How many GPUs are up and how many are not, and NVML itself. What is not named here has every GPU up.
DOWN = {"lost": 1, "midlost": 1, "reset_required": 1, "handle_unknown": 2}
NO_NVML = {"mismatch", "not_loaded"}
WELL = {"healthy", "eight", "gb10", "container", "not_supported", "mig", "power_capped", "old_driver"}
# Scenario -> series that show its fault (or that nothing is one): name, labels, value; None where it has to be absent.
# One look each: what two looks decide is 3, unknown, until then.
Row = tuple[str, dict[str, str], float | None]
_CHECK = "selfhost_check_level"
SHOWS: dict[str, tuple[Row, ...]] = {
    "clock_stuck": (
        ("selfhost_gpu_sm_clock_hertz", {"gpu": "1"}, 345e6),
        ("selfhost_gpu_clock_reason_active", {"gpu": "1", "reason": "hw_slowdown"}, 0),
        (_CHECK, {"code": "clock-low", "gpu": "1"}, 3),
    ),
    "container": (("selfhost_gpu_process_memory_bytes", {"gpu": "0", "pid": "4194811"}, 70262030336),),
    "ecc_uncorrected": (
        ("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", {"gpu": "1"}, 5),
        ("selfhost_gpu_recovery_action", {"gpu": "1"}, 4),
        ("selfhost_gpu_xid_errors_total", {"gpu": "1", "xid": "48"}, 1),
        ("DCGM_FI_DEV_XID_ERRORS", {"gpu": "1", "err_code": "48"}, 48),
        (_CHECK, {"code": "ecc-uncorrected", "gpu": "1"}, 2),
    ),
    "eight": (("selfhost_gpus", {}, 8), ("selfhost_gpu_nvlink_up", {"gpu": "7", "link": "17"}, 1)),
    "fabric_unhealthy": (
        (_CHECK, {"code": "fabric", "gpu": "6"}, 2),
        (_CHECK, {"code": "fabric", "gpu": "7"}, 1),
    ),
    "gb10": (("selfhost_gpu_memory_used_bytes", {}, None), ("selfhost_gpu_up", {}, 1)),
    "h100_read": (("selfhost_gpus", {}, 1), ("selfhost_gpu_up", {}, 1), (_CHECK, {"code": "gpu-lost"}, 0)),
    "handle_unknown": (("selfhost_gpus", {}, 2), (_CHECK, {"code": "gpu-lost", "gpu": "0"}, 3)),
    "healthy": (
        ("selfhost_gpus", {}, 1),
        ("selfhost_gpu_recovery_action", {}, 0),
        (_CHECK, {"code": "gpu-lost"}, 0),
    ),
    "inforom": ((_CHECK, {"code": "inforom", "gpu": "0"}, 1),),
    "lost": (
        ("selfhost_gpu_up", {"gpu": "5"}, 0),
        ("selfhost_gpu_temperature_celsius", {"gpu": "5"}, None),
        ("DCGM_FI_DEV_GPU_TEMP", {"gpu": "5"}, None),
        (_CHECK, {"code": "gpu-lost", "gpu": "5"}, 2),
    ),
    "memory_leak": (("selfhost_gpu_memory_used_bytes", {"gpu": "1"}, 39728447488),),
    "midlost": (("selfhost_gpu_up", {"gpu": "1"}, 0), (_CHECK, {"code": "gpu-lost", "gpu": "1"}, 2)),
    "mig": (("selfhost_gpu_mig_enabled", {}, 1), ("selfhost_gpu_utilization_ratio", {}, None)),
    "mismatch": ((_CHECK, {"code": "nvml"}, 2), ("selfhost_gpus", {}, None)),
    "modes_pending": (
        ("selfhost_gpu_persistence_enabled", {"gpu": "0"}, 0),
        (_CHECK, {"code": "mig-mode", "gpu": "1"}, 1),
    ),
    "no_permission": ((_CHECK, {"code": "gpu-readings", "gpu": "0"}, 3),),
    "not_loaded": ((_CHECK, {"code": "nvml"}, 2),),
    "not_supported": (
        ("DCGM_FI_DEV_MEMORY_TEMP", {}, None),
        ("selfhost_gpu_sm_activity_ratio", {}, None),
        ("selfhost_gpu_nvlink_up", {}, None),
    ),
    "nvlink_down": (
        ("selfhost_gpu_nvlink_up", {"gpu": "2", "link": "7"}, 0),
        ("selfhost_gpu_nvlink_up", {"gpu": "2", "link": "6"}, 1),
        (_CHECK, {"code": "nvlink-down", "gpu": "2"}, 2),
    ),
    "old_driver": (("selfhost_gpu_tensor_activity_ratio", {}, None), ("selfhost_gpus", {}, 2)),
    "pcie_downgrade": ((_CHECK, {"code": "pcie-link", "gpu": "1"}, 1),),
    "power_brake": (
        ("selfhost_gpu_clock_reason_active", {"gpu": "0", "reason": "hw_power_brake"}, 1),
        ("selfhost_gpu_clock_reason_active", {"gpu": "1", "reason": "hw_power_brake"}, 0),
        (_CHECK, {"code": "clock-slowdown", "gpu": "0"}, 3),
    ),
    "power_capped": (("selfhost_gpu_clock_reason_active", {"gpu": "0", "reason": "power_cap"}, 1),),
    "remap_failed": (
        ("selfhost_gpu_row_remap_failed", {"gpu": "0"}, 1),
        ("DCGM_FI_DEV_ROW_REMAP_FAILURE", {"gpu": "0"}, 1),
        (_CHECK, {"code": "memory-remap-failed", "gpu": "0"}, 2),
    ),
    "remap_pending": (
        ("selfhost_gpu_row_remap_pending", {"gpu": "1"}, 1),
        (_CHECK, {"code": "memory-remap-pending", "gpu": "1"}, 1),
    ),
    "reset_required": (
        ("selfhost_gpu_up", {"gpu": "1"}, 0),
        (_CHECK, {"code": "gpu-reset-required", "gpu": "1"}, 2),
    ),
    "retired_pages": ((_CHECK, {"code": "memory-retired-pages", "gpu": "0"}, 1),),
    "slow": ((_CHECK, {"code": "nvml-slow"}, 0),),
    "thermal": (
        ("selfhost_gpu_temperature_celsius", {"gpu": "1"}, 91),
        ("selfhost_gpu_thermal_margin_celsius", {"gpu": "1"}, -4),
        ("selfhost_gpu_clock_reason_active", {"gpu": "1", "reason": "hw_thermal"}, 1),
        (_CHECK, {"code": "gpu-temperature", "gpu": "1"}, 2),
    ),
    "wedged": (
        ("selfhost_gpu_utilization_ratio", {}, 1),
        ("selfhost_gpu_power_watts", {}, 118.4),
        (_CHECK, {"code": "gpu-work", "gpu": "0"}, 3),
    ),
    "xid_stream": ((_CHECK, {"code": "gpu-xid"}, 0),),
    "zero": (("selfhost_gpus", {}, 0), (_CHECK, {"code": "nvml"}, 3)),
}
# A call that takes a minute has tests of its own in test_exporter_http.py.
NAMES = tuple(name for name in nvml.scenario_names() if name != "hung")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    if nvml.compiler() is None:
        pytest.skip("no C compiler to build the fake NVML with")
    folder = tmp_path_factory.mktemp("scenarios")
    scenario = folder / "now.scenario"
    nvml.rewrite(scenario, nvml.expand(nvml.scenario("healthy")))
    environment = nvml.environment_for(nvml.build(folder), scenario) | {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(scenario), *NAMES],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
        timeout=55,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [failure for _, _, failure in rows if failure] == []
    return {name: text for name, text, _ in rows}


@pytest.mark.parametrize("name", NAMES)
def test_scenario(pages: dict[str, str], name: str) -> None:
    text = pages[name]
    found = samples(text)
    assert set(found) <= metric_names(dcgm=True)
    up = [number for _, number in found.get("selfhost_gpu_up", [])]
    assert up.count(0) == DOWN.get(name, 0)
    assert bool(up) == (name not in NO_NVML | {"zero"})
    assert value(text, "selfhost_nvml_up") == (name not in NO_NVML)
    assert "NaN" not in text
    assert "18446744073709551615" not in text, "no value of NVML that stands for none"
    level = value(text, "selfhost_health_level")
    if name in WELL:
        assert level == 0
    if name in DOWN or name in NO_NVML:
        assert level in (2, 3)
    # A GPU that is not up has no reading, one that is has a temperature or no such sensor.
    for labels, number in found.get("selfhost_gpu_up", []):
        readings = [
            row
            for row in found.get("selfhost_gpu_temperature_celsius", [])
            if row[0]["uuid"] == labels["uuid"]
        ]
        assert number or not readings


@pytest.mark.parametrize("name", NAMES)
def test_what_it_is_about_is_shown(pages: dict[str, str], name: str) -> None:
    found = samples(pages[name])
    for metric, labels, expected in SHOWS[name]:
        values = [number for own, number in found.get(metric, []) if labels.items() <= own.items()]
        assert values == ([] if expected is None else [pytest.approx(expected)]), (metric, labels)


def test_what_a_board_lacks_is_absent(pages: dict[str, str]) -> None:
    found = samples(pages["gb10"])
    assert "selfhost_gpu_memory_total_bytes" not in found
    assert "selfhost_gpu_memory_used_bytes" not in found
    assert "DCGM_FI_DEV_FB_USED" not in found
    assert "selfhost_gpu_up" in found


def test_mig_instances(pages: dict[str, str]) -> None:
    found = samples(pages["mig"])
    instances = {labels["mig_uuid"] for labels, _ in found["selfhost_gpu_mig_memory_used_bytes"]}
    assert len(instances) == 3
    assert {labels["GPU_I_PROFILE"] for labels, _ in found["DCGM_FI_DEV_FB_USED"]} == {
        labels["profile"] for labels, _ in found["selfhost_gpu_mig_memory_used_bytes"]
    }


def test_no_two_gpus_say_the_same(pages: dict[str, str]) -> None:
    """The scenario gives each GPU its own numbers, so that one GPU's reading under another's label would show."""
    found = samples(pages["eight"])
    by_gpu = {labels["gpu"]: number for labels, number in found["selfhost_gpu_utilization_ratio"]}
    assert by_gpu == {str(index): pytest.approx((88 + index) / 100) for index in range(8)}
    dcgm = {labels["gpu"]: number for labels, number in found["DCGM_FI_DEV_GPU_UTIL"]}
    assert dcgm == {str(index): pytest.approx(88 + index) for index in range(8)}

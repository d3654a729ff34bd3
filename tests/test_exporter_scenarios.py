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

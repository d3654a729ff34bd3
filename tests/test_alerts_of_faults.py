"""From a fault of a GPU to its alert: scenarios of the fake NVML, the real exporter, Prometheus' own evaluation."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from selfhost.manifests import RenderOptions, render
from tests.fakes import nvml
from tests.plans import plan
from tests.promql import OURS
from tests.test_prometheus_rules import PROMTOOL, promtool

pytestmark = [
    pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed; PROMTOOL names it"),
    pytest.mark.timeout(180),  # eleven exporters at once
]
# Scenario -> alerts that fire once its readings have stood for an hour; rates need a clock and are not among them.
EXPECTED: dict[str, set[str]] = {
    "healthy": set(),
    "gb10": set(),
    "not_supported": set(),
    "lost": {"SelfhostGpuLost"},
    "not_loaded": {"SelfhostNvmlDown"},
    "remap_pending": {"SelfhostGpuRowRemapPending", "SelfhostGpuXidOther"},
    "remap_failed": {"SelfhostGpuRowRemapFailed", "SelfhostGpuXidHardware"},
    "ecc_uncorrected": {"SelfhostGpuUncorrectedEcc", "SelfhostGpuXidReset"},
    "nvlink_down": {"SelfhostGpuNvlinkDown"},
    "pcie_downgrade": {"SelfhostGpuPcieLink"},
    "xid_stream": {
        "SelfhostGpuXidReboot", "SelfhostGpuXidApplication", "SelfhostGpuXidOther", "SelfhostGpuLost",
    },
}  # fmt: skip
# Beside a fault's own alert: what the driver asks for, as the scenario tells it, and the check of the same fault, which
# may want more time than is given here.
ASIDE = "SelfhostGpuRecovery.*|SelfhostCheckCritical"
TARGET = {"job": "selfhost-monitor", "node": "gpu-1", "instance": "10.0.0.1:9835"}
SETTLED_SECONDS = 4


def start(library: Path, folder: Path, name: str) -> subprocess.Popen[str]:
    """An exporter over a scenario, on a port of its own choosing."""
    words = ["monitor", "--serve=127.0.0.1:0", "--interval=1", "--no-engines"]
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "selfhost", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | nvml.environment_for(library, folder / f"{name}.scenario") | {"NODE_NAME": "gpu-1"},
    )


def address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    match = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert match, line + process.stdout.read()
    return match[0]


def page_of(url: str) -> str:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        body: bytes = answer.read()
    return body.decode()


@pytest.fixture(scope="module")
def pages(nvml_library: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the exporter says under each scenario, all of them at once."""
    folder = tmp_path_factory.mktemp("scenarios")
    for name in nvml.scenario_names():  # they include each other
        (folder / f"{name}.scenario").write_text(nvml.scenario(name), encoding="utf-8")
    running = {name: start(nvml_library, folder, name) for name in EXPECTED}
    try:
        urls = {name: address(process) for name, process in running.items()}
        time.sleep(SETTLED_SECONDS)  # scenarios unfold in seconds of their own
        return {name: page_of(url) for name, url in urls.items()}
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.communicate(timeout=20)


def series(page: str) -> dict[str, str]:
    """The page's samples as they stand for two hours, after five minutes without any, with the labels of scraping."""
    found = {f"up{{{_text(TARGET)}}}": "1x130"}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name.startswith("selfhost_"):
                assert set(sample.labels) | set(TARGET) <= OURS[sample.name], sample
                found[f"{sample.name}{{{_text(sample.labels | TARGET)}}}"] = f"_x5 {sample.value!r}x130"
    return found


def _text(labels: dict[str, str]) -> str:
    return ",".join(f'{name}="{value}"' for name, value in labels.items())


def test_faults_become_their_alerts_and_nothing_else_does(pages: dict[str, str], tmp_path: Path) -> None:
    options = RenderOptions(monitor_image="registry.example/selfhost:0.1.0")
    documents = {d.name: d.text for d in render(plan(), target="monitor", options=options).documents}
    rules = tmp_path / "rules.yaml"
    rules.write_text(documents["prometheus-rules.yaml"], encoding="utf-8")
    firing = 'count by (alertname) (ALERTS{alertstate="firing",alertname!~"%s"}) > bool 0'
    tests = [
        {
            "name": name,
            "interval": "1m",
            "input_series": [
                {"series": key, "values": values} for key, values in series(pages[name]).items()
            ],
            "promql_expr_test": [
                {
                    "expr": firing % (ASIDE if wanted else ""),
                    "eval_time": "50m",
                    "exp_samples": [
                        {"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(wanted)
                    ],
                }
            ],
        }
        for name, wanted in EXPECTED.items()
    ]
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(rules)], "tests": tests}), encoding="utf-8")
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]

"""Faults verified in other projects' charts, each in a small file of its own: all are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfhost.lint import Text, lint

PEERS = Path(__file__).parent / "lint" / "peers"
# File -> what has to be found in it, from the deployment facts of 2026-11-21.
EXPECTED = {
    "router-chart.yaml": {
        "SH010": "workers share",  # --tensor-parallel-size without shared memory
        "SH022": "model_name",
        "SH023": "more than one",
        "SH035": "maxSurge 100%",
        "SH021": "vllm:gpu_cache_usage_perc",
        "SH032": "no readiness",
        "SH034": "preStop",
        "SH044": "token",
    },
    "model-service.yaml": {"SH002": "env is null", "SH010": "workers share", "SH032": "no probe"},
    "planner.yaml": {"SH020": "vllm_request_failure_total", "SH049": "trust-remote-code"},
    "token-in-configmap.yaml": {"SH040": "HF_TOKEN", "SH033": "30 s"},
    "leader-worker.yaml": {"SH008": "HF_TOKEN", "SH098": "port is open", "SH102": "--swap-space"},
    "impatient.yaml": {"SH019": "/v1/models", "SH031": "restarts", "SH016": "gives up", "SH039": "revision"},
}


def test_every_file_is_expected_to_hold_something() -> None:
    assert {path.name for path in PEERS.glob("*.yaml")} == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_verified_fault_is_found(name: str) -> None:
    report = lint((Text(name=name, content=(PEERS / name).read_text(encoding="utf-8")),))
    assert report.unread == ()
    for code, part in EXPECTED[name].items():
        told = [finding.message for finding in report.findings if finding.code == code]
        assert any(part in message for message in told), f"{code} {part}: {told}"


def test_names_that_never_were_are_all_named() -> None:
    name = "planner.yaml"
    report = lint((Text(name=name, content=(PEERS / name).read_text(encoding="utf-8")),), select=("SH020",))
    told = " ".join(finding.message for finding in report.findings)
    for metric in ("vllm_avg_batch_size", "vllm_request_failure_total", "vllm_num_requests_waiting"):
        assert metric in told


def test_the_router_of_a_stack_has_names_of_its_own() -> None:
    name = "router-chart.yaml"
    report = lint((Text(name=name, content=(PEERS / name).read_text(encoding="utf-8")),))
    assert not any("healthy_pods" in finding.message for finding in report.findings)

"""Golden files of a readable part of the matrix: each target's texts as they are, for people to read in a review.

A target's owner names cases in READABLE; `pytest --update-golden` writes their files to tests/golden/TARGET/CASE.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.matrix import CASES, rendered

# Cases whose texts are kept; those of the targets kubernetes and monitor are in their own tests.
READABLE: tuple[str, ...] = (
    "crossed/helm-vllm-two",
    "nodes/lws-stages",
    "nodes/lws-ray",
    "nodes/prefill-1",
    "boxes/compose-key",
    "boxes/systemd-key",
    "boxes/hybrid-budget",
)
# Made of the plan, the archives and the words of metrics, and checked elsewhere.
NOT_GOLDEN = {"plan.json", "dashboard.json", "82-configmap-dashboard.yaml", "prometheus-rules.yaml"}
GOLDEN = Path(__file__).parent / "golden"


def folder(name: str) -> str:
    return f"{CASES[name].target}/{name.replace('/', '-').replace(':', '-')}"


def texts(name: str) -> dict[str, str]:
    return {
        document.name: document.text
        for document in rendered(name).documents
        if document.data is None and document.name not in NOT_GOLDEN
    }


@pytest.mark.parametrize("name", READABLE)
def test_equals_its_golden_files(name: str, golden: Callable[[str, str], str]) -> None:
    for file, text in texts(name).items():
        assert text == golden(f"{folder(name)}/{file}", text), "`pytest --update-golden` writes it"
    assert {path.name for path in (GOLDEN / folder(name)).iterdir()} == set(texts(name))

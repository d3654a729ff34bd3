"""The programs that tests start are the pinned ones."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.programs import HELM_VERSION, helm, kubectl

ROOT = Path(__file__).parent.parent


def test_the_makefile_names_the_same_helm() -> None:
    (found,) = re.findall(
        r"^HELM_VERSION := (\S+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert found == HELM_VERSION


def test_helm_is_helm_4() -> None:
    done = subprocess.run([helm(), "version", "--short"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("v4.")


def test_kubectl_builds_what_a_kustomization_lists(tmp_path: Path) -> None:
    from selfhost.manifests import render, write_manifests
    from tests.plans import plan

    program = kubectl()
    written = write_manifests(render(plan()), tmp_path)
    done = subprocess.run([program, "kustomize", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kinds = set(re.findall(r"^kind: (\w+)", done.stdout, re.MULTILINE))
    listed = {
        match[1] for path in written if path.name[:1].isdigit()
        if (match := re.search(r"^kind: (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    }  # fmt: skip
    assert listed <= kinds

"""The chart of a bundle gives the same objects as its manifests, by the real Helm where there is one."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfhost.bundle import open_bundle, unpack
from selfhost.plan import Plan
from tests.bundles import DIGEST, make, members
from tests.plans import plan as make_plan
from tests.snapshots import COMMIT

HELM = os.environ.get("HELM") or shutil.which("helm")


def awkward() -> Plan:
    """A plan whose texts look like templates of Helm."""
    plan = make_plan()
    argument = replace(
        plan.engine.args[0], flag="--chat-template", value="{{ bos }}{% for m in x %}{{{m}}}$(HOME)"
    )
    return replace(plan, engine=replace(plan.engine, args=(*plan.engine.args, argument)))


@pytest.mark.skipif(HELM is None, reason="no helm: neither HELM nor PATH names one")
@pytest.mark.parametrize("plan", [make_plan, awkward], ids=["plain", "braces"])
def test_the_chart_gives_the_same_objects_as_the_manifests(tmp_path: Path, plan: Callable[[], Plan]) -> None:
    done = unpack(open_bundle(make(tmp_path, plan=plan()).path), tmp_path / "out", only="manifests")
    chart = done.root / "chart/qwen3-32b"
    shown = subprocess.run(
        [str(HELM), "template", "x", chart], capture_output=True, text=True, check=True
    ).stdout
    found = {name_of(one): one for one in yaml.safe_load_all(shown) if one}
    plain = [
        yaml.safe_load(path.read_text()) for path in sorted((done.root / "manifests").glob("[0-9]*.yaml"))
    ]
    wanted = {name_of(one): one for one in plain}
    maps = {name: one for name, one in found.items() if name[0] == "ConfigMap"}
    assert {name: one for name, one in found.items() if name not in maps} == wanted
    (archive,) = (one["binaryData"]["selfhost.pyz"] for one in maps.values())
    assert base64.b64decode(archive) == (done.root / "manifests/selfhost.pyz").read_bytes()
    other = ["--set", "images.engine.registry=other.internal", "--set", "images.engine.digest="]
    moved = subprocess.run(
        [str(HELM), "template", "x", chart, *other], capture_output=True, text=True, check=True
    )
    assert 'image: "other.internal/vllm/vllm-openai:v0.32.0"' in moved.stdout
    subprocess.run([str(HELM), "lint", chart], capture_output=True, check=True)


def name_of(one: Mapping[str, Any]) -> tuple[str, str, str]:
    return one["kind"], one["metadata"]["name"], one["metadata"]["namespace"]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.skipif(HELM is None, reason="no helm: neither HELM nor PATH names one")
def test_kustomize_and_helm_agree(tmp_path: Path) -> None:
    done = unpack(open_bundle(make(tmp_path).path), tmp_path / "out", only="manifests")
    built = subprocess.run(
        ["kubectl", "kustomize", done.root / "manifests"], capture_output=True, text=True, check=True
    )
    shown = subprocess.run(
        [str(HELM), "template", "x", done.root / "chart/qwen3-32b"],
        capture_output=True,
        text=True,
        check=True,
    )
    both = [{name_of(one): one for one in yaml.safe_load_all(text.stdout) if one} for text in (built, shown)]
    for objects in both:
        for one in objects.values():
            for key, text in one.get("binaryData", {}).items():
                one["binaryData"][key] = base64.b64decode(text)  # kustomize breaks lines
    assert both[0] == both[1]


def test_the_chart_escapes_what_looks_like_a_template(tmp_path: Path) -> None:
    files = members(make(tmp_path, plan=awkward()).path)
    text = files["chart/qwen3-32b/templates/50-deployment.yaml"].decode()
    assert '{{ "{{" }} bos }}' in text
    assert text.count('include "selfhost.image" .Values.images.engine') == 2
    values = yaml.safe_load(files["chart/qwen3-32b/values.yaml"])
    image = values["images"]["engine"]
    assert image["registry"] == "registry.internal/llm"
    assert (image["repository"], image["tag"], image["digest"]) == ("vllm/vllm-openai", "v0.32.0", DIGEST)


def test_the_loader_pod_is_valid_and_holds_the_volume(tmp_path: Path) -> None:
    import kubernetes_validate

    pod = yaml.safe_load(members(make(tmp_path).path)["loader.yaml"])
    kubernetes_validate.validate(pod, "1.34", strict=True)
    claim = yaml.safe_load(members(tmp_path / "bundle.tar")["manifests/30-persistentvolumeclaim.yaml"])
    assert pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_the_readme_names_every_step(tmp_path: Path) -> None:
    text = members(make(tmp_path).path)["README.md"].decode()
    for words in (
        "bundle verify",
        "skopeo copy",
        "--layout cache",
        "kubectl apply -k",
        "helm install",
        "apache-2.0",
        COMMIT,
    ):
        assert words in text
    assert max(map(len, text.splitlines())) <= 400

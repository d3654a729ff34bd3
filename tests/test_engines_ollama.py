"""Ollama: environment against its own sources, the start script run for real, what it has not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfhost.catalog.flags import table
from selfhost.engines import get_engine, parse_engine
from selfhost.engines.ollama.start import IMPORT_ADDRESS, MODELFILE, SCRIPT, modelfile
from selfhost.errors import UnsupportedError
from selfhost.manifests import render
from selfhost.manifests.requests import request_of
from selfhost.units import GIB
from selfhost.workload import Split, Workload
from tests.conftest import Cli
from tests.ggufs import gguf_plan, gguf_serving, gguf_spec
from tests.test_hub import write_gguf

ENGINE = get_engine("ollama")
# An `ollama` that writes down what it is asked and where; serving lasts until a signal or, the second time, not at all.
FAKE = """\
#!/bin/sh
echo "$OLLAMA_HOST $*" >> "$LOG"
case "$1" in
  serve)
    [ "$OLLAMA_HOST" = 127.0.0.1:11435 ] || exit 0
    : > "$UP"
    trap 'rm -f "$UP"; exit 0' TERM
    while :; do sleep 0.05; done;;
  list) [ -e "$UP" ];;
  create) cp "$4" "$MADE"; exit "$CREATE";;
esac
"""


def start(folder: Path, *, create: int = 0) -> tuple[int, list[str], Path]:
    """Run the script with a fake ollama: exit code, what it was asked, the Modelfile it was given."""
    binary = folder / "bin" / "ollama"
    binary.parent.mkdir()
    binary.write_text(FAKE, encoding="utf-8")
    binary.chmod(0o755)
    file, log, made = folder / "Modelfile", folder / "log", folder / "made"
    file.write_text(modelfile("/weights/small.gguf", 2000), encoding="utf-8")
    env = {
        "PATH": f"{binary.parent}:{os.environ['PATH']}",
        "LOG": str(log),
        "UP": str(folder / "up"),
        "MADE": str(made),
        "CREATE": str(create),
    }
    done = subprocess.run(
        ["/bin/sh", "-c", SCRIPT, "ollama", "small", str(file), "0.0.0.0:11434"],
        env=env,
        timeout=30,
        check=False,
        capture_output=True,
    )
    return done.returncode, log.read_text(encoding="utf-8").splitlines(), made


class TestStart:
    def test_the_file_is_imported_on_loopback_before_anybody_is_served(self, tmp_path: Path) -> None:
        code, asked, made = start(tmp_path)
        assert code == 0
        assert made.read_text(encoding="utf-8") == "FROM /weights/small.gguf\nPARAMETER num_ctx 2000\n"
        served = asked.index("0.0.0.0:11434 serve")
        imported = next(number for number, line in enumerate(asked) if " create small " in line)
        assert asked.index(f"{IMPORT_ADDRESS} serve") < imported
        assert asked[imported].startswith(IMPORT_ADDRESS)
        assert imported < served

    def test_a_failed_import_ends_the_pod(self, tmp_path: Path) -> None:
        code, asked, _ = start(tmp_path, create=3)
        assert code == 3
        assert not any(line.startswith("0.0.0.0") for line in asked)


class TestEnvironment:
    @pytest.mark.parametrize("release", ["0.13.0", "0.20.7", "0.24.0", "0.32.15"])
    def test_every_variable_is_known_to_the_release(self, release: str) -> None:
        asked = gguf_serving(
            f"ollama@{release}",
            split=Split(pipeline=2),
            workload=Workload(max_model_len=2000, kv_dtype="fp8"),
        )
        known = table("ollama").variables
        for variable in ENGINE.env(asked):
            if variable.name.startswith("OLLAMA_"):
                assert known[variable.name].has(release), variable.name

    def test_values(self) -> None:
        asked = gguf_serving(
            "ollama", split=Split(pipeline=2), workload=Workload(kv_dtype="fp8", concurrency=3)
        )
        found = {variable.name: variable.value for variable in ENGINE.env(asked)}
        assert found["OLLAMA_KV_CACHE_TYPE"] == "q8_0"
        assert found["OLLAMA_NUM_PARALLEL"] == "3"
        assert found["OLLAMA_SCHED_SPREAD"] == "1"
        assert found["OLLAMA_CONTEXT_LENGTH"] == "4096"

    def test_a_cpu_has_its_threads_in_the_modelfile(self) -> None:
        (file,) = ENGINE.files(gguf_serving("ollama", platform="cpu", compute_capability=None))
        assert file.path == MODELFILE
        assert "PARAMETER num_thread 8" in file.text


class TestWhatItHasNot:
    def test_no_key_and_no_metrics(self) -> None:
        release = parse_engine("ollama")
        assert ENGINE.key(release) is None
        assert ENGINE.metrics(release) == ()
        said = " ".join(ENGINE.notes(gguf_serving("ollama")))
        assert "no API key" in said
        assert "no Prometheus endpoint" in said

    @pytest.mark.parametrize("platform", ["xpu", "hpu"])
    def test_no_image(self, platform: Any) -> None:
        with pytest.raises(UnsupportedError):
            ENGINE.image(parse_engine("ollama"), platform)

    @pytest.mark.parametrize(
        "changes",
        [
            {"gguf": False},
            {"split": Split(tensor=2)},
            {"workload": Workload(kv_dtype="bf16")},
            {"workload": Workload(prefix_caching=False)},
            {"served_name": "a model"},
            {"served_name": "-x"},
        ],
    )
    def test_refusals(self, changes: dict[str, Any]) -> None:
        against = ENGINE.object_to(gguf_serving("ollama", **changes))
        assert against is not None
        assert against.hint


def test_the_pod_holds_the_copy_and_the_modelfile(tmp_path: Path) -> None:
    made = gguf_plan(gguf_spec(tmp_path), "ollama")
    assert request_of(made).model == "small"
    assert made.pod.home_bytes.value >= made.weights.stored_bytes.value + 2 * GIB
    texts = {one.name: one.text for one in render(made).documents if one.is_object}
    assert "80-podmonitor.yaml" not in texts
    (server,) = yaml.safe_load(texts["50-deployment.yaml"])["spec"]["template"]["spec"]["containers"]
    assert server["command"] == ["/bin/sh", "-c"]
    assert server["args"][0].replace("$$", "$") == SCRIPT
    assert any(mount["mountPath"] == MODELFILE for mount in server["volumeMounts"])
    config = yaml.safe_load(texts["35-configmap-engine.yaml"])
    assert list(config["data"].values()) == ["FROM /weights/small.gguf\nPARAMETER num_ctx 2000\n"]


def test_from_a_file_to_manifests(cli: Cli, tmp_path: Path) -> None:
    file, written, folder = write_gguf(tmp_path / "small.gguf"), tmp_path / "plan.json", tmp_path / "out"
    planned = cli("plan", file, "--engine", "ollama", "--gpu", "l4", "--context", "2k", "-o", written)
    assert planned.code == 0, planned.err
    assert "no API key" in planned.out.replace("\n", " ")
    assert cli("render", written, "-o", folder).code == 0
    assert "ollama/ollama:" in (folder / "50-deployment.yaml").read_text(encoding="utf-8")

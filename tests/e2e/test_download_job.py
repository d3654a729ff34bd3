"""The rendered download Job, run with what vLLM's environment has: its Python, its Hub library, its click."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.conftest import Vllm
from tests.fakes.hub import COMMIT, Repo, serve
from tests.jobs import MODEL, model_files, rendered_job

OFFLINE = """
import sys
from huggingface_hub import snapshot_download
print(snapshot_download(sys.argv[1], revision=sys.argv[2], cache_dir=sys.argv[3]))
"""


def test_pulls_what_the_engine_then_finds_offline(vllm: Vllm, tmp_path: Path) -> None:
    with serve(repos={MODEL: Repo(files=model_files(), card={"license": "apache-2.0"})}) as hub:
        job = rendered_job(tmp_path, hub.url)
        done = job.run(vllm.python)
    assert done.returncode == 0, done.stderr
    assert job.wait().returncode == 0
    script = tmp_path / "offline.py"
    script.write_text(OFFLINE, encoding="utf-8")
    found = Path(vllm.run(str(script), MODEL, COMMIT, str(job.cache)).strip())
    assert (found / "model.safetensors").read_bytes() == model_files()["model.safetensors"]
    assert json.loads((found / "selfhost.lock.json").read_text(encoding="utf-8"))["revision"] == COMMIT
    assert not (found / "pytorch_model.bin").exists()


def test_says_in_one_line_what_is_wrong(vllm: Vllm, tmp_path: Path) -> None:
    with serve(repos={}) as hub:
        job = rendered_job(tmp_path, hub.url)
        done = job.run(vllm.python)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert job.wait().returncode == 1

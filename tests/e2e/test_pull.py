"""The whole way in one: a model of the Hub is pulled, sized, planned, rendered, and answered by vLLM offline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import Ran
from tests.e2e.conftest import Vllm, serving
from tests.e2e.test_vllm import LOAD, engine_container, on_this_machine
from tests.fakes.hub import COMMIT, Repo, serve

NAME = "acme/tiny-llama"


def test_pull_size_plan_render_serve(vllm: Vllm, tiny_models: Path, tmp_path: Path) -> None:
    folder = tiny_models / "tiny-llama"
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    extra = {"pytorch_model.bin": b"never loaded", "onnx/model.onnx": b"nor this", "README.md": b"# tiny\n"}
    weights = tmp_path / "weights"

    with serve(repos={NAME: Repo(files={**files, **extra}, card={"license": "apache-2.0"})}) as hub:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        env = {**clean, **hub.environ(HF_HOME=str(tmp_path / "hf"), NO_PROXY="127.0.0.1")}
        env["HF_HUB_CACHE"] = str(weights / "hub")

        def selfhost(*words: str | Path) -> Ran:
            ran = subprocess.run(
                [sys.executable, "-m", "selfhost", *map(str, words)],
                env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
            assert ran.returncode == 0, ran.stderr
            return Ran(code=ran.returncode, out=ran.stdout, err=ran.stderr)

        pulled = selfhost("pull", NAME, "--use", "commercial", "--json").json()
        assert pulled["revision"] == COMMIT
        assert not any(
            file["path"] in extra and file["keep"] for file in pulled["files"] if file["path"] != "README.md"
        )
        reference = f"{NAME}@{COMMIT}"
        assert "Fits" in selfhost("size", reference, *LOAD).out
        selfhost("plan", reference, "--use", "commercial", *LOAD, "-o", "plan.json")
        selfhost("render", "plan.json", "-o", "out")
        asked = len(hub.seen)

    plan = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    assert plan["model"]["revision"] == COMMIT
    assert plan["licence"]["permission"] == "yes"
    container = engine_container(tmp_path / "out")
    home = tmp_path / "home"
    home.mkdir()
    places = {plan["weights"]["mount_path"]: weights, plan["engine"]["home_path"]: home}
    words = [*container.get("command", ()), *container["args"]][2:]
    environment = {
        one["name"]: on_this_machine(one["value"], places) for one in container["env"] if "value" in one
    }
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["HF_HUB_CACHE"] == str(weights / "hub")
    with serving(vllm, words, environment, tmp_path / "server.log") as server:
        question = {"role": "user", "content": "Hello"}
        answer = server.post("/v1/chat/completions", {"model": NAME, "messages": [question], "max_tokens": 8})
    assert answer["usage"]["completion_tokens"] > 0
    assert asked == len(hub.seen)  # the engine asked nobody

"""The chart gives the objects of the manifests, says how to call the model, and asks it for a real answer."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from selfhost.engines import Argument, EngineFile, EnvVar, parse_image
from selfhost.errors import OutputError
from selfhost.manifests import RenderOptions, render, write_manifests
from selfhost.manifests.chart import chart_files, default_plan
from selfhost.manifests.chart.contents import default_view
from selfhost.manifests.chart.default import OPTIONS
from selfhost.manifests.options.access import AccessOptions
from selfhost.manifests.options.weights import WeightOptions
from selfhost.manifests.requests import SCRIPT, request_of
from selfhost.manifests.zipapp import ARCHIVE_FILE, pull_archive
from selfhost.plan import Plan
from selfhost.workload import Workload
from tests.charts import LOADER, by_name, chart, chart_objects, objects_of, plain_objects, template, values_of
from tests.plans import plan
from tests.programs import helm, kubectl

ROOT = Path(__file__).parent.parent
DIGEST = "sha256:" + "ab" * 32
CASES: dict[str, tuple[Plan, RenderOptions]] = {
    "plain": (plan(), RenderOptions()),
    "replicas": (
        plan(replicas=3, image=parse_image(f"vllm/vllm-openai:v0.32.0@{DIGEST}")),
        RenderOptions(namespace="models", storage_class="fast", gateway_namespace="gateway", surge=True),
    ),
    "key": (plan(), RenderOptions(access=AccessOptions(api_key_secret="keys"), token_secret="my-token")),
    "directory": (
        plan(model={"id": "/data/tiny llama", "origin": "directory", "revision": None}, tensor=1),
        RenderOptions(read_only_root=False, pod_monitor=False),
    ),
    "amd": (plan(gpu="mi300x-192gb", tensor=1), RenderOptions()),
    "unpinned": (plan(model={"origin": "catalogue", "revision": None}), RenderOptions()),
    "old engine, other image": (
        plan(engine="vllm@0.11", workload=Workload(max_model_len=16384, kv_dtype="fp8")),
        RenderOptions(image="registry.example:5000/vllm:v0.11.0", pull_image="registry.example:5000/selfhost:1"),
    ),
    "claim that is there": (plan(), RenderOptions(weights=WeightOptions(uri="pvc:models#qwen"))),
    "default": (default_plan(), RenderOptions()),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_equals_the_manifests(case: str) -> None:
    made, options = CASES[case]
    assert by_name(chart_objects(made, options)) == by_name(plain_objects(made, options))


def test_helm_and_kustomize_agree(tmp_path: Path) -> None:
    made, options = CASES["replicas"]
    write_manifests(render(made, options=options), tmp_path / "plain")
    write_manifests(render(made, target="helm", options=options), tmp_path / "helm")
    built = subprocess.run(
        [kubectl(), "kustomize", tmp_path / "plain"], capture_output=True, text=True, check=True, timeout=60
    )
    filled = subprocess.run(
        [helm(), "template", "x", tmp_path / "helm/chart", "-f", tmp_path / "helm/values.yaml", "--skip-tests"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    both = [by_name(objects_of(done.stdout)) for done in (built, filled)]
    for objects in both:
        for one in objects.values():
            for name, data in one.get("binaryData", {}).items():  # kustomize breaks its lines
                one["binaryData"][name] = base64.b64decode(data)
    assert both[0] == both[1]
    archives = [one for (kind, _), one in both[0].items() if kind == "ConfigMap" and "binaryData" in one]
    assert [one["binaryData"][ARCHIVE_FILE] for one in archives] == [pull_archive()]


@pytest.fixture(scope="module")
def script() -> Any:
    """scripts/chart.py, which is no package."""
    spec = spec_from_file_location("write_chart", ROOT / "scripts/chart.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestChart:
    def test_is_the_committed_one(self, script: Any) -> None:
        assert script.stale() == [], "`make docs` writes it"

    def test_passes_strictly(self) -> None:
        line = [helm(), "lint", "--strict", ROOT / "charts/selfhost"]
        done = subprocess.run(list(map(str, line)), capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout

    def test_packs(self, tmp_path: Path) -> None:
        line = [helm(), "package", ROOT / "charts/selfhost", "-d", tmp_path]
        subprocess.run(list(map(str, line)), capture_output=True, check=True, timeout=60)
        (packed,) = tmp_path.glob("selfhost-*.tgz")
        with tarfile.open(packed) as archive:
            names = {name.removeprefix("selfhost/") for name in archive.getnames()}
        assert set(chart_files()) - {".helmignore"} <= names

    def test_its_own_values_are_those_of_the_default_plan_in_the_release_s_namespace(self) -> None:
        done = template("", "--skip-tests", "-n", "elsewhere")
        assert done.returncode == 0, done.stderr
        wanted = by_name(plain_objects(default_plan(), replace(OPTIONS, namespace="elsewhere")))
        assert by_name(objects_of(done.stdout)) == wanted

    def test_its_default_is_small_open_and_pinned(self) -> None:
        shown = default_view()
        assert shown.kubernetes.revision is not None
        assert shown.kubernetes.replicas == 1
        made = default_plan()
        assert made.gpu.count == 1
        assert made.memory.fits
        assert made.licence is not None
        assert made.licence.permission == "yes"

    def test_every_file_says_that_it_was_written(self) -> None:
        for path, data in chart_files().items():
            first = data.partition(b"\n")[0]
            assert b"Written by selfhost" in first, path

    def test_an_archive_is_compared_by_what_is_in_it(self, script: Any, tmp_path: Path) -> None:
        data = pull_archive()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
        assert set(script.content("x.pyz", data)) == set(names)
        assert script.content("x.yaml", data) == data
        shutil.copytree(ROOT / "charts/selfhost", tmp_path / "chart")
        (tmp_path / "chart/values.yaml").write_text("a: 1\n")
        (tmp_path / "chart/more.yaml").write_text("a: 1\n")
        assert {"values.yaml", "more.yaml"} <= set(script.stale(tmp_path / "chart"))

    def test_reasons_are_in_the_values(self) -> None:
        text = values_of(*CASES["plain"])
        assert "  grace: 75 # 15 s pre-stop + 45 s drain + 15 s to free the GPUs\n" in text
        assert '- "--tensor-parallel-size=2" # GPUs that share each layer\n' in text
        assert "maxUnavailable: 1 # no spare GPUs" in text

    def test_what_the_plan_lacks_takes_the_chart_s_own_away(self) -> None:
        text = values_of(*CASES["directory"])
        assert yaml.load(text, LOADER)["download"] is None
        assert "download: null # not in this plan" in text


class TestRendering:
    def test_is_written_and_written_again(self, tmp_path: Path) -> None:
        made, options = CASES["plain"]
        for _ in range(2):
            write_manifests(render(made, target="helm", options=options), tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "README.md",
            "chart",
            "plan.json",
            "values.yaml",
        ]
        found = {
            path.relative_to(tmp_path / "chart").as_posix(): path.read_bytes()
            for path in (tmp_path / "chart").rglob("*")
            if path.is_file()
        }
        assert found == dict(chart_files())

    def test_another_target_takes_its_place_whole(self, tmp_path: Path) -> None:
        made, options = CASES["plain"]
        write_manifests(render(made, target="helm", options=options), tmp_path)
        write_manifests(render(made, options=options), tmp_path)
        assert all(path.is_file() for path in tmp_path.iterdir())

    def test_strange_files_in_the_chart_are_left_alone(self, tmp_path: Path) -> None:
        made, options = CASES["plain"]
        write_manifests(render(made, target="helm", options=options), tmp_path)
        (tmp_path / "chart/templates/mine.yaml").write_text("kind: Secret\n")
        with pytest.raises(OutputError, match=r"chart/templates/mine\.yaml"):
            write_manifests(render(made, target="helm", options=options), tmp_path)

    def test_a_link_for_the_chart_s_folder_is_not_followed(self, tmp_path: Path) -> None:
        made, options = CASES["plain"]
        (tmp_path / "away").mkdir()
        (tmp_path / "out").mkdir()
        (tmp_path / "out/chart").symlink_to(tmp_path / "away")
        with pytest.raises(OutputError, match="chart"):
            write_manifests(render(made, target="helm", options=options), tmp_path / "out")
        assert list((tmp_path / "away").iterdir()) == []


def notes(values: str, tmp_path: Path) -> str:
    (tmp_path / "values.yaml").write_text(values, encoding="utf-8")
    line = [helm(), "install", "mine", chart(), "-f", tmp_path / "values.yaml", "--dry-run=client"]
    done = subprocess.run(list(map(str, line)), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("NOTES:\n")[2]


class TestNotes:
    def test_say_how_to_call_the_model(self, tmp_path: Path) -> None:
        text = notes(values_of(*CASES["plain"]), tmp_path)
        assert (
            "Qwen/Qwen3-32B is called Qwen/Qwen3-32B at the service qwen3-32b, namespace llm, port 8000."
            in text
        )
        assert "kubectl -n llm port-forward service/qwen3-32b 8000 &" in text
        assert "logs --follow job/qwen3-32b-download-" in text
        line = next(line for line in text.splitlines() if "curl" in line)
        assert "http://127.0.0.1:8000/v1/completions" in line
        assert json.loads(line.partition(" -d '")[2].rstrip("'"))["model"] == "Qwen/Qwen3-32B"
        assert "KEY" not in text

    def test_read_the_key_from_its_secret(self, tmp_path: Path) -> None:
        text = notes(values_of(*CASES["key"]), tmp_path)
        assert """get secret keys -o 'go-template={{index .data "api-key" | base64decode}}')""" in text
        assert '-H "Authorization: Bearer $KEY"' in text

    def test_speak_of_no_download_where_there_is_none(self, tmp_path: Path) -> None:
        assert "job/" not in notes(values_of(*CASES["directory"]), tmp_path)


@dataclass(slots=True)
class Server:
    """A server that answers one way, and what it was asked."""

    status: int
    answer: Any
    asked: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    port: int = 0


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server(status=200, answer={"choices": [{"text": " Hello!"}]})

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append((self.path, {key.lower(): value for key, value in self.headers.items()}, body))
            data = json.dumps(state.answer).encode()
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state.port = http.server_port
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield state
        http.shutdown()
        thread.join()


def run_request(
    server: Server, tools: tuple[str, ...], tmp_path: Path, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the script of the test pod as its container would, with only these programs."""
    for name in (*tools, "sh", "tail", "cat"):
        found = os.path.realpath(sys.executable) if name == "python3" else shutil.which(name)
        if found is None:
            pytest.skip(f"no {name} here")
        (tmp_path / name).symlink_to(found)
    objects = objects_of(template(values_of(*CASES["key"])).stdout)
    (pod,) = (one for one in objects if one["kind"] == "Pod")
    (container,) = pod["spec"]["containers"]
    script = container["command"][2].replace("$$", "$")  # as the kubelet gives it to the process
    assert script == SCRIPT
    env = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    env |= {"HOST": "127.0.0.1", "PORT": str(server.port), "PATH": str(tmp_path), "KEY": "s3cret"} | more
    return subprocess.run(
        ["/bin/sh", "-c", script], env=env, capture_output=True, text=True, check=False, timeout=30
    )


@pytest.mark.parametrize("tools", [("python3",), ("curl",), ("bash",)], ids=" ".join)
class TestRequest:
    def test_passes_on_an_answer(self, tools: tuple[str, ...], server: Server, tmp_path: Path) -> None:
        done = run_request(server, tools, tmp_path)
        assert done.returncode == 0, done.stderr + done.stdout
        ((path, head, body),) = server.asked
        assert path == "/v1/completions"
        assert head["authorization"] == "Bearer s3cret"
        assert head["content-type"] == "application/json"
        assert body == {"model": "Qwen/Qwen3-32B", "prompt": "Say hello.", "max_tokens": 8}

    def test_sends_no_key_where_there_is_none(
        self, tools: tuple[str, ...], server: Server, tmp_path: Path
    ) -> None:
        assert run_request(server, tools, tmp_path, KEY="").returncode == 0
        assert "authorization" not in server.asked[0][1]

    def test_takes_an_embedding(self, tools: tuple[str, ...], server: Server, tmp_path: Path) -> None:
        server.answer = {"data": [{"embedding": [0.1, 0.2]}]}
        done = run_request(server, tools, tmp_path, ANSWER="data.0.embedding", REQUEST_PATH="/v1/embeddings")
        assert done.returncode == 0, done.stderr + done.stdout

    @pytest.mark.parametrize(
        ("status", "answer"),
        [
            (401, {"error": "no key"}),
            (500, {"choices": [{"text": "x"}]}),
            (200, {"choices": [{"text": ""}]}),
            (200, {"error": "no such model"}),
        ],
        ids=["no key", "error", "empty", "no answer"],
    )
    def test_fails_on_anything_else(
        self, tools: tuple[str, ...], server: Server, tmp_path: Path, status: int, answer: Any
    ) -> None:
        server.status, server.answer = status, answer
        assert run_request(server, tools, tmp_path).returncode != 0

    def test_fails_where_nobody_listens(self, tools: tuple[str, ...], server: Server, tmp_path: Path) -> None:
        assert run_request(server, tools, tmp_path, PORT="9").returncode != 0


def test_the_test_pod_is_restricted_and_selects_nothing() -> None:
    objects = objects_of(template(values_of(*CASES["key"])).stdout)
    (pod,) = (one for one in objects if one["kind"] == "Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (container,) = pod["spec"]["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    labels = pod["metadata"]["labels"]
    for one in objects:
        spec = one.get("spec", {})
        selectors = [spec.get("podSelector", {}).get("matchLabels"), spec.get("selector")]
        for selector in selectors:
            wanted = (selector or {}).get("matchLabels", selector) if isinstance(selector, dict) else None
            assert not wanted or not wanted.items() <= labels.items(), one["metadata"]["name"]
    # The server's policy lets any pod of its namespace in, this one too.
    (policy,) = (
        one for one in objects if one["kind"] == "NetworkPolicy" and "download" not in one["metadata"]["name"]
    )
    assert {"podSelector": {}} in policy["spec"]["ingress"][0]["from"]


def test_what_embeds_is_asked_to_embed() -> None:
    made = plan()
    words = (*made.engine.args, Argument(flag="--runner", value="pooling", because="x"))
    asked = request_of(replace(made, engine=replace(made.engine, args=words)))
    assert (asked.path, asked.answer) == ("/v1/embeddings", "data.0.embedding")


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
AWKWARD = (
    "{{ .Values.name }}", '{{- fail "x" }}', "$(HOME)", "$$", "1e3", "yes", "null", "~", "0x1F", "a: b #c", "- x",
    "'\"\\", "\u2028\x85\x7f\ufeff\ufffe", "\n\n  x\n", "é\U0001f600", "", " ", "\t", "${X}", "`id`", "!!int 3",
)  # fmt: skip


@settings(
    max_examples=8, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(found=st.lists(texts, min_size=30, max_size=60))
def test_any_text_survives_in_the_chart(found: list[str]) -> None:
    words = (*AWKWARD, *found)
    made = plan()
    engine = replace(
        made.engine,
        args=(*made.engine.args, *(Argument(value=word, because=word) for word in words)),
        env=(
            *made.engine.env,
            *(EnvVar(name=f"X{at}", value=word, because=word) for at, word in enumerate(words)),
        ),
        files=tuple(
            EngineFile(path=f"/etc/x/{at}.txt", text=word, because=word) for at, word in enumerate(words)
        ),
    )
    options = RenderOptions()
    made = replace(made, engine=engine, model=replace(made.model, id="".join(words)[:200]))
    assert by_name(chart_objects(made, options)) == by_name(plain_objects(made, options))


def test_environment_of_helm_is_not_needed() -> None:
    """The chart has no dependencies and looks nothing up in a cluster."""
    text = b"\n".join(data for path, data in chart_files().items() if path.startswith("templates/")).decode()
    assert "lookup" not in text.replace("--lookup", "")
    assert "dependencies" not in chart_files()["Chart.yaml"].decode()
    assert not os.path.exists(ROOT / "charts/selfhost/charts")

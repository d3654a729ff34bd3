"""Target systemd: units that systemd accepts, whose words reach the engine as the plan has them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from selfhost.engines import EnvVar
from selfhost.errors import PlanFormatError, SelfhostError, UnsupportedError, UsageError
from selfhost.manifests import Manifests, RenderOptions, render, write_manifests
from selfhost.manifests.options.access import AccessOptions
from selfhost.manifests.options.box import BoxOptions
from selfhost.manifests.options.nodes import NodeOptions
from selfhost.manifests.options.weights import WeightOptions
from selfhost.plan import Plan
from tests.matrices import fitting
from tests.matrices.claims import on_cpu
from tests.plans import plan
from tests.units import environment, values, words

ANALYZE = shutil.which("systemd-analyze")
LISTED = {"CREDENTIALS_DIRECTORY": "/run/credentials/x"}
KEY = AccessOptions(api_key_secret="llm-key")


def rendered(made: Plan | None = None, **changes: Any) -> Manifests:
    return render(made or plan(), target="systemd", options=RenderOptions(**changes))


def unit(manifests: Manifests, ending: str = ".service") -> str:
    names = [d.name for d in manifests.documents if d.name.endswith(ending)]
    name = next(name for name in names if ending != ".service" or not name.endswith("-download.service"))
    return next(document.text for document in manifests.documents if document.name == name)


def started(text: str) -> list[str]:
    """The engine's own command line, after the shell."""
    (value,) = values(text, "ExecStart")
    found = words(value, known=LISTED)
    assert found[:2] == ["/bin/sh", "-c"]
    return found[found.index("start") + 1 :]


def objections(manifests: Manifests, folder: Path) -> str:
    """What `systemd-analyze verify` says against the units; empty where it takes them."""
    if ANALYZE is None:
        pytest.skip("systemd-analyze is not installed here (Debian package systemd)")
    write_manifests(manifests, folder)
    paths = sorted(str(path) for path in folder.glob("*.service"))
    assert paths
    done = subprocess.run(
        [ANALYZE, "verify", "--man=no", *paths], capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "SYSTEMD_LOG_LEVEL": "warning"},
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "ignoring" in line or str(folder) in line]
    if done.returncode != 0:
        return done.stderr or f"systemd-analyze ended with {done.returncode}"
    return "\n".join(ours)


@pytest.mark.parametrize(
    ("made", "options"),
    [
        (plan, {}),
        (plan, {"access": KEY, "box": BoxOptions(bind="0.0.0.0", gpu_devices=("0", "1"))}),
        (lambda: plan(engine="sglang"), {"access": KEY}),
        (lambda: fitting("h100-sxm-80gb", engine="llamacpp"), {}),
        (lambda: fitting("mi300x-192gb"), {}),
        (on_cpu, {"weights": WeightOptions(uri="hostpath:/srv/qwen")}),
        (lambda: plan(name="a" + 39 * "b"), {}),
    ],
)
def test_systemd_accepts_them(made: Any, options: Any, tmp_path: Path) -> None:
    assert objections(rendered(made(), **options), tmp_path / "out") == ""


def test_the_engine_is_started_with_the_plans_words() -> None:
    made = plan()
    text = unit(rendered(made))
    marker = "/var/lib/selfhost/qwen3-32b/weights/.selfhost/qwen3-32b-9216db5781bf"
    expected = [marker, "/opt/selfhost/venv/bin/vllm", "serve", *(word.text for word in made.engine.args)]
    assert started(text) == [*expected, "--host", "127.0.0.1"]
    env = environment(text)
    assert env["HF_HUB_CACHE"] == "/var/lib/selfhost/qwen3-32b/weights/hub"
    assert env["HOME"] == "/var/cache/selfhost/qwen3-32b"
    assert "USER" not in env
    assert not any(value.startswith(("/weights", "/home/")) for value in env.values())
    assert values(text, "TimeoutStopSec") == ["60"]
    assert values(text, "TimeoutStartSec") == ["2080"]
    assert values(text, "MemoryMax") == [str(made.pod.memory_bytes.value)]


def test_the_address_replaces_the_pods() -> None:
    for engine in ("sglang", "llamacpp"):
        made = fitting("h100-sxm-80gb", engine=engine)
        found = started(unit(rendered(made, box=BoxOptions(bind="::1"))))
        assert "0.0.0.0" not in found
        assert not any(word.startswith("--host=") for word in found)
        assert found.count("--host") == 1
        assert found[found.index("--host") + 1] == "::1"


def test_only_a_local_server_is_kept_from_the_network() -> None:
    assert values(unit(rendered()), "IPAddressDeny") == ["any"]
    opened = rendered(box=BoxOptions(bind="10.0.0.5"))
    assert values(unit(opened), "IPAddressDeny") == []
    assert "OPEN: whoever reaches 10.0.0.5" in unit(opened)


@pytest.mark.parametrize(("engine", "own"), [("vllm", "VLLM_HOST_IP"), ("sglang", "SGLANG_HOST_IP")])
def test_processes_of_a_local_server_meet_on_loopback(engine: str, own: str) -> None:
    """They would take the machine's own address, which the unit closes."""
    expected = {own: "127.0.0.1", "NCCL_SOCKET_IFNAME": "lo", "GLOO_SOCKET_IFNAME": "lo"}
    assert expected.items() <= environment(unit(rendered(plan(engine=engine)))).items()
    opened = environment(unit(rendered(plan(engine=engine), box=BoxOptions(bind="10.0.0.5"))))
    assert not expected.keys() & opened.keys()


def test_the_key_reaches_the_engine_by_its_environment_alone(tmp_path: Path) -> None:
    text = unit(rendered(access=KEY))
    assert values(text, "LoadCredential") == ["api-key:/etc/selfhost/qwen3-32b/llm-key"]
    (value,) = values(text, "ExecStart")
    command = words(value)
    marker, engine = tmp_path / "marker", tmp_path / "engine"
    (tmp_path / "api-key").write_text("a b$c\n", encoding="utf-8")
    engine.write_text('#!/bin/sh\necho "$VLLM_API_KEY"\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    engine.chmod(0o755)
    at = command.index("/opt/selfhost/venv/bin/vllm")
    command[at - 1 : at + 1] = [str(marker), str(engine)]
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path), "PATH": "/bin:/usr/bin"}

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    missing = run()
    assert (missing.returncode, "copy the weights" in missing.stderr) == (78, True)
    marker.touch()
    done = run()
    assert done.stdout.split("\n")[:3] == ["a b$c", "serve", "Qwen/Qwen3-32B"]
    engine.chmod(0o644)
    assert "install the engine" in run().stderr
    (tmp_path / "api-key").unlink()
    assert run().returncode != 0


def test_a_key_in_a_file_is_named_where_it_will_be() -> None:
    text = unit(rendered(plan(engine="sglang"), access=KEY))
    assert values(text, "LoadCredential") == ["sglang.yaml:/etc/selfhost/qwen3-32b/llm-key"]
    assert started(text)[-2:] == ["--config", "/run/credentials/x/sglang.yaml"]


def test_it_is_ready_when_the_model_answers(tmp_path: Path) -> None:
    import http.server
    import threading
    import time

    (value,) = values(unit(rendered()), "ExecStartPost")
    command = words(value)
    assert command[-2:] == ["http://127.0.0.1:8000/health", "5"]

    class Handler(http.server.BaseHTTPRequestHandler):
        asked = 0

        def do_GET(self) -> None:
            Handler.asked += 1
            self.send_response(503 if Handler.asked < 2 else 200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command[-2] = f"http://127.0.0.1:{server.server_port}/health"
        env = {"PATH": f"{Path(sys.executable).parent}:/bin:/usr/bin", "MAINPID": str(os.getpid())}
        done = subprocess.run(command, env=env, capture_output=True, check=False, timeout=30)
        assert done.returncode == 0, done.stderr
        assert Handler.asked == 2
        server.shutdown()
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    began = time.monotonic()
    gone = subprocess.run(command, env=env | {"MAINPID": str(ended.pid)}, check=False, timeout=30)
    assert gone.returncode == 1
    assert time.monotonic() - began < 10


def test_the_download_has_its_own_service() -> None:
    manifests = rendered()
    text = unit(manifests, "-download.service")
    (value,) = values(text, "ExecStart")
    found = words(value)
    assert found[found.index("pull") :][:2] == [
        "pull",
        "Qwen/Qwen3-32B@9216db5781bf21249d130ec9da846c4624c16137",
    ]
    assert "/opt/selfhost/venv/bin/python3" in found
    assert environment(text)["HF_TOKEN_PATH"] == "%d/hf-token"
    assert values(text, "User") == values(unit(manifests), "User")
    assert len(values(text, "User")[0]) <= 31
    assert "qwen3-32b-download.service" in values(unit(manifests), "Requires")
    placed = rendered(weights=WeightOptions(uri="hostpath:/srv/qwen"))
    assert not any("download" in document.name for document in placed.documents)


def test_weights_of_a_directory_are_read_where_they_are() -> None:
    found = started(unit(rendered(weights=WeightOptions(uri="hostpath:/srv/qwen"))))
    assert found[0] == "/srv/qwen/config.json"
    assert found[3] == "/srv/qwen"


@pytest.mark.parametrize(
    ("made", "options", "error"),
    [
        (lambda: plan(replicas=2), {}, UnsupportedError),
        (lambda: plan(tensor=16), {}, UnsupportedError),
        (lambda: fitting("h100-sxm-80gb", engine="triton"), {}, UnsupportedError),
        (lambda: fitting("h100-sxm-80gb", engine="ollama"), {}, UnsupportedError),
        (plan, {"weights": WeightOptions(uri="pvc:models")}, UsageError),
        (plan, {"weights": WeightOptions(uri="s3://models/qwen")}, UsageError),
        (plan, {"box": BoxOptions(cdi=True)}, UsageError),
        (plan, {"nodes": NodeOptions(ray=True)}, UsageError),
        (plan, {"storage_class": "fast"}, UsageError),
    ],
)
def test_what_a_service_cannot_be(made: Any, options: Any, error: type[SelfhostError]) -> None:
    with pytest.raises(error) as refused:
        rendered(made(), **options)
    assert refused.value.hint


def with_text(value: str) -> Plan:
    made = plan()
    first, *rest = made.engine.args
    env = (*made.engine.env, EnvVar(name="TEXT", value=value, because=value))
    return replace(made, engine=replace(made.engine, args=(replace(first, value=value), *rest), env=env))


HOSTILE = [
    "$HOME",
    "${HOME}",
    "$$",
    "%h",
    "%%",
    "%",
    ";",
    "\\",
    "\\n",
    '"',
    "'",
    "a b",
    "  ",
    "#",
    "=",
    "é",
    "\x85",
    "\U0001f600",
]


@settings(max_examples=80, deadline=None)
@given(value=st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(HOSTILE))
def test_any_text_survives_or_is_refused_by_its_field(value: str) -> None:
    made = with_text(value)
    # The directories of an image are others on a machine.
    moved = (made.weights.mount_path, made.engine.home_path)
    assume(not any(value == place or value.startswith(f"{place}/") for place in moved))
    if not value.replace("\t", "").isprintable():
        with pytest.raises(PlanFormatError, match="engine"):
            rendered(made)
        return
    text = unit(rendered(made))
    assert started(text)[3] == value
    assert environment(text)["TEXT"] == value


def test_systemd_objects_to_what_it_does_not_know(tmp_path: Path) -> None:
    """The check above can fail."""
    made = rendered()
    spoilt = replace(
        made,
        documents=tuple(
            replace(one, text=one.text.replace("KillSignal=", "KillSignle=")) for one in made.documents
        ),
    )
    assert spoilt != made
    assert "KillSignle" in objections(spoilt, tmp_path / "out")


def test_systemd_accepts_any_text(tmp_path: Path) -> None:
    assert objections(rendered(with_text("".join(HOSTILE).replace("\x85", ""))), tmp_path / "out") == ""


def test_readme_says_sizes_for_people() -> None:
    (readme,) = (document.text for document in rendered().documents if document.name == "README.md")
    assert " GiB free" in readme
    assert " bytes" not in readme

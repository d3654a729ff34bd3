"""Target compose: valid for the Compose specification, and its container is what the plan says, for every text."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from selfhost.engines import EnvVar
from selfhost.errors import SelfhostError, UnsupportedError, UsageError
from selfhost.manifests import Manifests, RenderOptions, render, write_manifests
from selfhost.manifests.box import ASK
from selfhost.manifests.compose import FROM_FILE
from selfhost.manifests.options.access import AccessOptions
from selfhost.manifests.options.box import BoxOptions
from selfhost.manifests.options.nodes import NodeOptions
from selfhost.manifests.options.scaling import ScalingOptions
from selfhost.manifests.options.weights import WeightOptions
from selfhost.plan import Plan
from tests.matrices import fitting
from tests.matrices.claims import GAUDI, on_cpu
from tests.matrix import LOADER
from tests.plans import plan

SCHEMA = Path(__file__).parent / "schemas" / "compose" / "compose-spec.json.gz"


@cache
def schema() -> Any:
    return jsonschema_rs.validator_for(json.loads(gzip.decompress(SCHEMA.read_bytes())))


def rendered(made: Plan | None = None, **changes: Any) -> Manifests:
    return render(made or plan(), target="compose", options=RenderOptions(**changes))


def composed(made: Plan | None = None, **changes: Any) -> Any:
    """compose.yaml, valid, with `$$` read as Compose reads it."""
    return read(rendered(made, **changes))


def read(manifests: Manifests) -> Any:
    (text,) = (document.text for document in manifests.documents if document.name == "compose.yaml")
    raw = yaml.load(text, LOADER)
    assert [str(error) for error in schema().iter_errors(raw)] == []
    return interpolated(raw)


def interpolated(value: Any) -> Any:
    """What Compose makes of `$` where every variable is written out: nothing is left to it (13-interpolation.md)."""
    if isinstance(value, dict):
        return {key: interpolated(item) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item) for item in value]
    if isinstance(value, str):
        assert "$" not in value.replace("$$", "")
        return value.replace("$$", "$")
    return value


def test_the_server_is_the_plans() -> None:
    made = plan()
    server = composed(made)["services"]["server"]
    assert server["entrypoint"] == list(made.engine.command)
    assert server["command"] == [word.text for word in made.engine.args]
    assert server["environment"] == {item.name: item.value for item in made.engine.env}
    assert server["shm_size"] == "4g"
    limits = server["deploy"]["resources"]["limits"]
    assert limits == {
        "cpus": "16",
        "memory": "28g",
    }  # 24 GiB of the plan, and 4 of /tmp, which is memory here
    assert server["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": 2, "capabilities": ["gpu"]}
    ]
    assert server["stop_grace_period"] == "60s"
    assert server["ports"] == [{"target": 8000, "published": 8000, "host_ip": "127.0.0.1", "protocol": "tcp"}]


def test_no_container_may_do_more_than_it_has_to() -> None:
    services = composed()["services"]
    assert set(services) == {"server", "prepare", "download"}
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["read_only"] is True
        assert "privileged" not in service
        assert service["user"] == ("0:0" if name == "prepare" else "10001:10001")
    assert services["prepare"]["cap_add"] == ["CHOWN"]
    assert services["prepare"]["network_mode"] == "none"


def test_what_runs_as_root_alone_may_write_to_its_volumes_and_read_its_key() -> None:
    """They are of another user, and without this capability root is a user like any other."""
    server = composed(fitting("h100-sxm-80gb", engine="tgi"))["services"]["server"]
    assert server["user"] == "0:0"
    assert server["cap_drop"] == ["ALL"]
    assert server["cap_add"] == ["DAC_OVERRIDE"]
    assert "cap_add" not in composed()["services"]["server"]


def test_tmp_has_no_mode() -> None:
    """The number is decimal to Docker and octal to podman-compose 1.6.0; without one everybody may write."""
    for service in composed()["services"].values():
        for mount in service["volumes"]:
            assert "mode" not in mount.get("tmpfs", {})


def test_the_server_waits_for_the_weights() -> None:
    services = composed()["services"]
    assert services["server"]["depends_on"] == {
        name: {"condition": "service_completed_successfully"} for name in ("download", "prepare")
    }
    pull = services["download"]
    assert pull["entrypoint"][-2:] == ["python3", "/opt/selfhost/selfhost.pyz"]
    assert pull["command"][:2] == ["pull", "Qwen/Qwen3-32B@9216db5781bf21249d130ec9da846c4624c16137"]
    assert {"type": "volume", "source": "weights", "target": "/weights"} in pull["volumes"]
    assert {"type": "volume", "source": "weights", "target": "/weights", "read_only": True} in services[
        "server"
    ]["volumes"]


def test_a_download_that_was_done_is_not_done_again(tmp_path: Path) -> None:
    words = composed()["services"]["download"]["entrypoint"]
    script = words[words.index("-c") + 1]
    marker = tmp_path / "done"
    asked = ["/bin/sh", "-c", script, "download", str(marker), "echo", "pulled"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == "pulled\n"
    marker.touch()
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == ""


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda: fitting("mi300x-192gb"), {"devices": ["/dev/kfd", "/dev/dri"], "group_add": ["44", "109"]}),
        (lambda: fitting("arc-pro-b60-24gb"), {"devices": ["/dev/dri"], "group_add": ["44", "109"]}),
        (lambda: fitting("gaudi3-128gb", tensor=8, image=GAUDI), {"runtime": "habana"}),
        (on_cpu, {}),
    ],
)
def test_other_accelerators(made: Callable[[], Plan], expected: dict[str, Any]) -> None:
    server = composed(made())["services"]["server"]
    assert "reservations" not in server["deploy"]["resources"]
    assert {key: server[key] for key in ("devices", "group_add", "runtime") if key in server} == expected


def test_gpus_by_name() -> None:
    named = composed(box=BoxOptions(gpu_devices=("2", "3")))["services"]["server"]
    assert named["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"] == ["2", "3"]
    podman = composed(box=BoxOptions(cdi=True))["services"]["server"]
    assert podman["devices"] == ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]
    with pytest.raises(UsageError, match="names 1 GPUs"):
        rendered(box=BoxOptions(gpu_devices=("2",)))
    with pytest.raises(UsageError, match="has to be named"):
        rendered(fitting("h100-sxm-80gb:3g.40gb"))
    uuid = "MIG-12345678-1234-1234-1234-123456789abc"
    mig = composed(fitting("h100-sxm-80gb:3g.40gb"), box=BoxOptions(gpu_devices=(uuid,)))
    assert mig["services"]["server"]["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"] == [
        uuid
    ]


@pytest.mark.parametrize(
    ("uri", "volume", "fills"),
    [
        ("pvc:models", {"external": True, "name": "models"}, True),
        (
            "nfs://files.example/models#qwen",
            {"driver_opts": {"type": "nfs", "o": "addr=files.example,nfsvers=4,ro", "device": ":/models"}},
            False,
        ),
        ("s3://models/qwen", {"driver": "local"}, True),
    ],
)  # fmt: skip
def test_places_of_weights(uri: str, volume: dict[str, Any], fills: bool) -> None:
    whole = composed(weights=WeightOptions(uri=uri))
    assert volume.items() <= whole["volumes"]["weights"].items()
    assert ("download" in whole["services"]) is fills


def test_a_directory_and_an_image_of_weights() -> None:
    host = composed(weights=WeightOptions(uri="hostpath:/srv/qwen"))["services"]["server"]
    mount = next(one for one in host["volumes"] if one.get("source") == "/srv/qwen")
    assert mount["type"] == "bind"
    assert host["command"][0] == mount["target"]
    image = composed(weights=WeightOptions(uri="oci://registry.example/qwen:1"))["services"]["server"]
    mount = next(one for one in image["volumes"] if one["type"] == "image")
    assert image["command"][0] == mount["target"]


def test_the_key_is_in_a_file_alone(tmp_path: Path) -> None:
    whole = composed(access=AccessOptions(api_key_secret="llm-key"))
    server = whole["services"]["server"]
    assert whole["secrets"] == {"llm-key": {"file": "./secrets/llm-key"}}
    assert server["secrets"] == [{"source": "llm-key", "target": "/run/secrets/llm-key"}]
    assert server["entrypoint"][-2:] == ["vllm", "serve"]
    assert server["entrypoint"][2] == FROM_FILE
    key = tmp_path / "key"
    for text in ("a b$c", "a b$c\n"):
        key.write_text(text, encoding="utf-8")
        words = [
            "/bin/sh",
            "-c",
            FROM_FILE,
            "key",
            "VLLM_API_KEY",
            str(key),
            "sh",
            "-c",
            'echo "$VLLM_API_KEY"',
        ]
        assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "a b$c\n"
    key.unlink()
    assert subprocess.run(words, capture_output=True, check=False).returncode != 0
    sglang = composed(plan(engine="sglang"), access=AccessOptions(api_key_secret="llm-key"))["services"][
        "server"
    ]
    assert sglang["secrets"][0]["target"] in sglang["command"]


def test_the_health_check_asks(tmp_path: Path) -> None:
    import http.server
    import threading

    check = composed()["services"]["server"]["healthcheck"]
    assert check["test"][:3] == ["CMD", "/bin/sh", "-c"]
    assert check["start_period"] == "2020s"

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 503)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        for folder in (_only(tmp_path, "bash"), _only(tmp_path, "python3", "bash")):
            for path, code in (("/health", True), ("/sick", False)):
                words = ["/bin/sh", "-c", ASK, "ask", base + path, "5"]
                done = subprocess.run(words, env={"PATH": str(folder)}, capture_output=True, check=False)
                assert (done.returncode == 0) is code, done.stderr
        server.shutdown()
    done = subprocess.run(words, env={"PATH": str(folder)}, capture_output=True, check=False)
    assert done.returncode != 0


def _only(tmp_path: Path, *programs: str) -> Path:
    """A folder with these programs alone."""
    folder = tmp_path / "-".join(programs)
    folder.mkdir()
    for name in programs:
        real = sys.executable if name == "python3" else f"/bin/{name}"
        (folder / name).symlink_to(real)
    return folder


@pytest.mark.parametrize("engine", ["sglang", "triton", "llamacpp", "ollama", "tgi"])
def test_every_engine(engine: str) -> None:
    made = fitting("h100-sxm-80gb", engine=engine)
    manifests = rendered(made)
    server = read(manifests)["services"]["server"]
    assert server["command"] == [word.text for word in made.engine.args]
    names = {document.name for document in manifests.documents}
    for one in made.engine.files:
        mount = next(mount for mount in server["volumes"] if mount["target"] == one.path)
        assert mount["source"].removeprefix("./") in names


@pytest.mark.parametrize(
    ("changes", "options", "error"),
    [
        ({"replicas": 2}, {}, UnsupportedError),
        ({"tensor": 16}, {}, UnsupportedError),
        ({}, {"nodes": NodeOptions(ray=True)}, UsageError),
        ({}, {"scaling": ScalingOptions(autoscale="hpa", max_replicas=2)}, UsageError),
        ({}, {"namespace": "other"}, UsageError),
        ({}, {"surge": True}, UsageError),
        ({}, {"box": BoxOptions(engine_bin="/usr/bin/vllm")}, UsageError),
        ({}, {"access": AccessOptions(image_pull_secrets=("registry",))}, UsageError),
    ],
)
def test_what_one_machine_cannot_be(changes: Any, options: Any, error: type[SelfhostError]) -> None:
    with pytest.raises(error) as refused:
        rendered(plan(**changes), **options)
    assert refused.value.hint


def test_an_open_address_is_said_aloud() -> None:
    manifests = rendered(box=BoxOptions(bind="0.0.0.0"))
    (text,) = (document.text for document in manifests.documents if document.name == "README.md")
    assert "OPEN: whoever reaches 0.0.0.0 may send requests" in text
    with pytest.raises(UsageError, match="--bind"):
        BoxOptions(bind="localhost")


@settings(max_examples=40, deadline=None)
@given(
    value=st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
    | st.sampled_from(["$HOME", "${HOME:-x}", "$$", "$", "$(id)", "{{x}}", "a: b", "'\"", "\\", "%h", "yes"])
)
def test_any_text_survives(value: str) -> None:
    made = plan()
    first, *rest = made.engine.args
    changed = replace(
        made,
        engine=replace(
            made.engine,
            args=(replace(first, value=value), *rest),
            env=(*made.engine.env, EnvVar(name="TEXT", value=value, because=value)),
        ),
    )
    server = composed(changed)["services"]["server"]
    assert server["command"][0] == value
    assert server["environment"]["TEXT"] == value


def test_files_are_written_where_the_containers_look(tmp_path: Path) -> None:
    write_manifests(rendered(fitting("h100-sxm-80gb", engine="triton")), tmp_path / "out")
    whole = yaml.safe_load((tmp_path / "out" / "compose.yaml").read_text(encoding="utf-8"))
    for service in whole["services"].values():
        for mount in service["volumes"]:
            if mount["type"] == "bind" and not mount["bind"]["create_host_path"]:
                assert (tmp_path / "out" / mount["source"]).is_file()
    write_manifests(rendered(), tmp_path / "out")
    assert not (tmp_path / "out" / "engine").exists()


@pytest.mark.parametrize(
    ("bind", "said"),
    [
        ("127.0.0.1", "Only 127.0.0.1"),
        ("0.0.0.0", "Every address of the machine"),
        ("10.0.0.7", "Only 10.0.0.7"),
    ],
)
def test_readme_says_where_it_listens(bind: str, said: str) -> None:
    documents = rendered(box=BoxOptions(bind=bind)).documents
    (readme,) = (document.text for document in documents if document.name == "README.md")
    assert f"{said} is listened at" in readme

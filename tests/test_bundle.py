"""Bundles: what is in them, that the same input gives the same bytes, and unpacking them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import selfhost.cli
from selfhost.bundle import open_bundle, unpack, verify
from selfhost.bundle.tree import Tree
from selfhost.engines import Image, parse_image
from selfhost.errors import OutputError, UsageError, VerifyError
from selfhost.manifests import RenderOptions, render
from selfhost.plan import from_json
from selfhost.pull.lockfile import lock_text, read_lock
from selfhost.pull.types import LOCK_NAME
from selfhost.pull.verify import verify as verify_directory
from tests.bundles import DIGEST, PINNED, make, members, tree
from tests.plans import plan as make_plan
from tests.snapshots import COMMIT, FILES, lock_of, snapshot

SCHEMAS = Path(selfhost.cli.__file__).parent / "schemas"


def test_it_holds_what_a_cluster_needs_with_the_manifest_first(tmp_path: Path) -> None:
    made = make(tmp_path)
    files = members(made.path)
    names = list(files)
    assert names[:3] == ["manifest.json", "README.md", "images.txt"]
    assert names == ["manifest.json", *(member.path for member in made.manifest.members)]
    manifest = json.loads(files["manifest.json"])
    jsonschema.validate(manifest, json.loads((SCHEMAS / "bundle.json").read_text()))
    for member in manifest["members"]:
        data = files[member["path"]]
        assert (len(data), hashlib.sha256(data).hexdigest()) == (member["size_bytes"], member["sha256"])
    assert made.digest == f"sha256:{hashlib.sha256(files['manifest.json']).hexdigest()}"
    weights = {
        name.removeprefix("weights/"): data for name, data in files.items() if name.startswith("weights/")
    }
    assert weights == {**FILES, LOCK_NAME: lock_text(lock_of(FILES)).encode()}
    assert made.size_bytes == made.path.stat().st_size
    assert manifest["licence"]["licence"] == "apache-2.0"
    verify(open_bundle(made.path))


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    first = make(tmp_path, "one.tar")
    for path in (tmp_path / "model").rglob("*"):
        os.utime(path, (1, 1))
    second = make(tmp_path, "two.tar")
    assert first.path.read_bytes() == second.path.read_bytes()


def test_images_are_pinned_and_named_at_the_mirror_everywhere(tmp_path: Path) -> None:
    files = members(make(tmp_path).path)
    new = f"registry.internal/llm/vllm/vllm-openai:v0.32.0@{DIGEST}"
    lines = [line for line in files["images.txt"].decode().splitlines() if not line.startswith("#")]
    source, target = f"docker.io/vllm/vllm-openai@{DIGEST}", new.partition("@")[0]
    assert lines == [f"{source} {target}"]
    objects = [
        yaml.safe_load(data)
        for name, data in files.items()
        if name.startswith("manifests/") and name[10].isdigit()
    ]
    images = {
        container["image"]
        for one in [*objects, yaml.safe_load(files["loader.yaml"])]
        for container in containers(one)
    }
    assert images == {new}
    assert from_json(files["plan.json"].decode()).engine.image == parse_image(new)


def containers(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    spec = one.get("spec", {})
    pod = spec.get("template", {}).get("spec", spec)
    return [*pod.get("initContainers", ()), *pod.get("containers", ())]


def test_the_manifests_are_those_of_render(tmp_path: Path) -> None:
    image = f"registry.internal/llm/vllm/vllm-openai:v0.32.0@{DIGEST}"
    options = RenderOptions(image=image, namespace="ai", hub_endpoint="http://weights.internal:8765")
    inside = replace(options, image=PINNED.image)
    files = members(make(tmp_path, options=inside).path)
    rendered = {
        f"manifests/{one.name}": one.content for one in render(make_plan(), options=options).documents
    }
    found = {name: data for name, data in files.items() if name.startswith("manifests/")}
    assert found == {name: data for name, data in rendered.items() if name in found}
    assert rendered.keys() - found.keys() == {"manifests/README.md", "manifests/plan.json"}
    assert b"http://weights.internal:8765" in files["manifests/40-job-download.yaml"]


def test_an_older_engines_download_image_is_renamed_too(tmp_path: Path) -> None:
    asked: list[str] = []

    def resolve(image: Image) -> str:
        asked.append(image.reference)
        return "sha256:" + hashlib.sha256(image.reference.encode()).hexdigest()

    made = make(tmp_path, plan=make_plan(engine="vllm@0.10.0"), options=RenderOptions(), resolve=resolve)
    files = members(made.path)
    named = {
        container["image"]
        for name, data in files.items()
        if name.startswith("manifests/") and name[10].isdigit()
        for container in containers(yaml.safe_load(data))
    }
    assert named == {image.target for image in made.manifest.images}
    assert len(asked) == len(named)
    assert all("@sha256:" in image and image.startswith("registry.internal/llm/") for image in named)


def test_an_image_for_the_pull_is_renamed_too(tmp_path: Path) -> None:
    options = replace(PINNED, pull_image=f"ghcr.io/acme/selfhost:1.0@sha256:{'cd' * 32}")
    made = make(tmp_path, options=options)
    job = yaml.safe_load(members(made.path)["manifests/40-job-download.yaml"])
    assert containers(job)[0]["image"] == f"registry.internal/llm/acme/selfhost:1.0@sha256:{'cd' * 32}"
    values = yaml.safe_load(members(made.path)["chart/qwen3-32b/values.yaml"])
    assert values["images"]["download"]["repository"] == "acme/selfhost"


def test_without_a_mirror_the_names_stay(tmp_path: Path) -> None:
    made = make(tmp_path, mirror=None)
    assert [image.target for image in made.manifest.images] == [f"vllm/vllm-openai:v0.32.0@{DIGEST}"]


def test_an_image_that_nobody_pins_is_said_so(tmp_path: Path) -> None:
    made = make(tmp_path, options=RenderOptions(), resolve=lambda image: None)
    assert made.manifest.images[0].digest is None
    assert any("not pinned" in note for note in made.notes)
    assert "NOT PINNED" in members(made.path)["images.txt"].decode()


@pytest.mark.parametrize(
    "mirror", ["https://registry.internal", "Registry.internal", "", "a b", "registry:port"]
)
def test_mirrors_are_checked(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(UsageError, match="mirror"):
        make(tmp_path, mirror=mirror)


def test_without_weights_it_holds_everything_else(tmp_path: Path) -> None:
    made = make(tmp_path, snapshot=None)
    assert made.manifest.weights is None
    assert not any(name.startswith("weights/") for name in members(made.path))
    verify(open_bundle(made.path))
    with pytest.raises(UsageError, match="no weights"):
        unpack(open_bundle(made.path), tmp_path / "out", only="weights")
    assert unpack(open_bundle(made.path), tmp_path / "out").model is None


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="plan is for"):
        make(tmp_path, snapshot=snapshot(tmp_path / "a", repo="Qwen/Qwen3-8B"))
    with pytest.raises(UsageError, match="plan is for"):
        make(tmp_path, snapshot=snapshot(tmp_path / "b", revision="f" * 40))
    unpinned = make_plan(model={"revision": None})
    made = make(tmp_path, plan=unpinned)
    assert any("pins no commit" in note for note in made.notes)


def test_a_weight_that_changed_stops_it_and_nothing_stays(tmp_path: Path) -> None:
    model = snapshot(tmp_path / "model")
    (tmp_path / "model/config.json").write_bytes(b"x" * len(FILES["config.json"]))
    with pytest.raises(VerifyError, match=r"config\.json"):
        make(tmp_path, snapshot=model)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_no_secret_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_hunter2hunter2")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/.env").write_text("PASSWORD=hunter2")
    made = make(tmp_path, snapshot=snapshot(tmp_path / "model", endpoint="https://me:hunter2@hub.internal"))
    assert b"hunter2" not in made.path.read_bytes()
    assert b"https://hub.internal" in made.path.read_bytes()


def test_only_bundles_are_replaced(tmp_path: Path) -> None:
    make(tmp_path)
    make(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="no bundle"):
        make(tmp_path, "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    make(tmp_path, "notes.txt", force=True)
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("pipe", "regular"), ("model", "directory")):
        with pytest.raises(OutputError, match=why):
            make(tmp_path, name, force=True)


@pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not installed")
def test_ordinary_tools_unpack_and_check_it(tmp_path: Path) -> None:
    made = make(tmp_path)
    (tmp_path / "out").mkdir()
    done = subprocess.run(["tar", "-xf", made.path, "-C", tmp_path / "out"], capture_output=True, check=True)
    assert done.stderr == b""
    assert tree(tmp_path / "out") == members(made.path)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path / "out", check=True)


# --- unpacking


def test_unpacking_gives_every_file_and_a_second_run_keeps_them(tmp_path: Path) -> None:
    made = make(tmp_path)
    bundle = open_bundle(made.path)
    seen: list[int] = []
    first = unpack(bundle, tmp_path / "out", report=seen.append)
    assert tree(tmp_path / "out") == members(made.path)
    assert first.model == tmp_path / "out/weights"
    assert first.kept == ()
    (tmp_path / "out/weights/config.json").unlink()
    second = unpack(bundle, tmp_path / "out")
    assert "weights/config.json" in second.written
    assert "weights/model-00001-of-00002.safetensors" in second.kept
    assert tree(tmp_path / "out") == members(made.path)


def test_only_the_weights_make_a_directory_that_verifies(tmp_path: Path) -> None:
    done = unpack(open_bundle(make(tmp_path).path), tmp_path / "out", only="weights")
    assert done.model == tmp_path / "out"
    assert set(tree(tmp_path / "out")) == {*FILES, LOCK_NAME}
    assert verify_directory(tmp_path / "out", read_lock(tmp_path / "out")) == ()


def test_only_the_manifests_leave_the_weights_unread(tmp_path: Path) -> None:
    made = make(tmp_path)
    with made.path.open("r+b") as file:
        file.seek(-3000, os.SEEK_END)
        file.write(b"damage")
    unpack(open_bundle(made.path), tmp_path / "out", only="manifests")
    assert not (tmp_path / "out/weights").exists()
    assert (tmp_path / "out/manifests/kustomization.yaml").is_file()


def test_the_hubs_own_library_finds_a_cache(tmp_path: Path) -> None:
    from huggingface_hub import snapshot_download

    done = unpack(open_bundle(make(tmp_path).path), tmp_path / "hub", only="weights", layout="cache")
    for revision in (COMMIT, "main"):
        path = snapshot_download(
            "Qwen/Qwen3-32B", revision=revision, cache_dir=tmp_path / "hub", local_files_only=True
        )
        assert Path(path) == done.model
    assert tree(Path(path)) == {**FILES, LOCK_NAME: lock_text(lock_of(FILES)).encode()}
    again = unpack(open_bundle(tmp_path / "bundle.tar"), tmp_path / "hub", only="weights", layout="cache")
    assert len(again.kept) == len(FILES)


def test_a_branch_that_names_another_commit_stays(tmp_path: Path) -> None:
    ref = tmp_path / "hub/models--Qwen--Qwen3-32B/refs/main"
    ref.parent.mkdir(parents=True)
    ref.write_text("f" * 40)
    done = unpack(open_bundle(make(tmp_path).path), tmp_path / "hub", only="weights", layout="cache")
    assert ref.read_text() == "f" * 40
    assert "main stays" in done.notes[0]


def test_other_files_in_the_way_are_refused_unless_forced(tmp_path: Path) -> None:
    bundle = open_bundle(make(tmp_path).path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/config.json").write_text("mine")
    with pytest.raises(OutputError, match="something else"):
        unpack(bundle, tmp_path / "out", only="weights")
    assert tree(tmp_path / "out") == {"config.json": b"mine"}
    unpack(bundle, tmp_path / "out", only="weights", force=True)
    assert (tmp_path / "out/config.json").read_bytes() == FILES["config.json"]


def test_the_lock_of_another_model_does_not_vouch_for_these_files(tmp_path: Path) -> None:
    bundle = open_bundle(make(tmp_path).path)
    snapshot(tmp_path / "out", {"other.json": b"1"})
    with pytest.raises(OutputError, match="something else"):
        unpack(bundle, tmp_path / "out", only="weights")
    unpack(bundle, tmp_path / "out", only="weights", force=True)
    assert read_lock(tmp_path / "out").files == lock_of(FILES).files


def test_no_link_is_followed(tmp_path: Path) -> None:
    bundle = open_bundle(make(tmp_path).path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("mine")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/tokenizer").symlink_to(outside)
    with pytest.raises(OutputError, match="link"):
        unpack(bundle, tmp_path / "a", only="weights", force=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/config.json").symlink_to(outside / "victim")
    with pytest.raises(OutputError, match="something else"):
        unpack(bundle, tmp_path / "b", only="weights")
    unpack(bundle, tmp_path / "b", only="weights", force=True)
    assert tree(outside) == {"victim": b"mine"}
    assert not (tmp_path / "b/config.json").is_symlink()


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    bundle = open_bundle(make(tmp_path).path)
    with Tree(tmp_path / "out"), pytest.raises(OutputError, match="Another process"):
        unpack(bundle, tmp_path / "out")


def test_what_a_killed_run_left_is_replaced(tmp_path: Path) -> None:
    bundle = open_bundle(make(tmp_path).path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.config.json.selfhost-part").write_text("half")
    unpack(bundle, tmp_path / "out", only="weights")
    assert set(tree(tmp_path / "out")) == {*FILES, LOCK_NAME}


SLOWLY = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from selfhost.bundle import open_bundle, unpack
from tests.bundles import make
def slow(size):
    os.write(1, b"going\\n")  # in one piece, as several threads do it
    time.sleep(0.05)
{work}
"""


def killed(work: str, after: int) -> None:
    """Start some work in a process of its own and kill it when it has told so many pieces."""
    code = SLOWLY.format(root=str(Path(__file__).parents[1]), work=work)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(after)]
        process.kill()
    assert told == ["going\n"] * after


def test_a_killed_unpacking_leaves_only_whole_files_and_goes_on(tmp_path: Path) -> None:
    files = {f"part-{number}.bin": bytes([number]) * 3_000_000 for number in range(6)}
    path = make(tmp_path, snapshot=snapshot(tmp_path / "model", files)).path
    work = f"unpack(open_bundle(Path({str(path)!r})), Path({str(tmp_path / 'out')!r}), only='weights', report=slow)"
    for after in (1, 4, 9):
        killed(work, after)
        there = {name: data for name, data in tree(tmp_path / "out").items() if not name.startswith(".")}
        assert LOCK_NAME not in there
        assert there == {name: files[name] for name in there}
    done = unpack(open_bundle(path), tmp_path / "out", only="weights")
    assert done.kept
    assert tree(tmp_path / "out") == {**files, LOCK_NAME: lock_text(lock_of(files)).encode()}


def test_a_killed_creation_leaves_no_bundle(tmp_path: Path) -> None:
    earlier = make(tmp_path).path.read_bytes()
    killed(f"make(Path({str(tmp_path)!r}), report=slow)", 2)
    assert (tmp_path / "bundle.tar").read_bytes() == earlier
    (left,) = tmp_path.glob(".bundle.tar.selfhost-*")
    os.utime(left, (1, 1))
    make(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle.tar", "model"]


def test_a_pull_without_a_network_finds_the_cache_and_says_ready(tmp_path: Path) -> None:
    unpack(open_bundle(make(tmp_path).path), tmp_path / "hub", only="weights", layout="cache")
    environ = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    words = ["pull", f"Qwen/Qwen3-32B@{COMMIT}", "--ready-file", str(tmp_path / "ready")]
    subprocess.run([sys.executable, "-m", "selfhost", *words], env=environ, check=True, capture_output=True)
    assert (tmp_path / "ready").is_file()

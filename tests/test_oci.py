"""OCI layouts: what stands on disk, read back by tarfile, by small schemas of the specification and by skopeo."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shlex
import shutil
import subprocess
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import jsonschema
import pytest

from selfhost.errors import OutputError, SelfhostError, UnsupportedError, UsageError, VerifyError
from selfhost.pull import oci, stage, tar
from selfhost.pull.lockfile import lock_text
from selfhost.pull.oci import OciResult, write_layout
from selfhost.pull.types import LOCK_NAME, Snapshot
from tests.snapshots import COMMIT, FILES, snapshot

DIGEST = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
DESCRIPTOR = {
    "type": "object",
    "required": ["mediaType", "digest", "size"],
    "properties": {
        "mediaType": {"type": "string", "pattern": "^[a-z]+/[-+.a-z0-9]+$"},
        "digest": DIGEST,
        "size": {"type": "integer", "minimum": 0},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
        "platform": {"type": "object", "required": ["architecture", "os"]},
        "artifactType": {"type": "string"},
    },
    "additionalProperties": False,
}
# image-spec 1.1.1: schema/image-index-schema.json, image-manifest-schema.json, config-schema.json, cut to what is used.
SCHEMAS: dict[str, dict[str, Any]] = {
    oci.INDEX_TYPE: {
        "required": ["schemaVersion", "mediaType", "manifests"],
        "properties": {"schemaVersion": {"const": 2}, "manifests": {"type": "array", "items": DESCRIPTOR}},
    },
    oci.MANIFEST_TYPE: {
        "required": ["schemaVersion", "mediaType", "config", "layers"],
        "properties": {
            "schemaVersion": {"const": 2},
            "config": DESCRIPTOR,
            "layers": {"type": "array", "minItems": 1, "items": DESCRIPTOR},
            "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    },
    oci.CONFIG_TYPE: {
        "required": ["architecture", "os", "rootfs"],
        "properties": {
            "rootfs": {
                "required": ["type", "diff_ids"],
                "properties": {"type": {"const": "layers"}, "diff_ids": {"items": DIGEST}},
            },
            "created": {"type": "string", "pattern": "^[-0-9]{10}T[:0-9]{8}Z$"},
        },
    },
    oci.MODEL_CONFIG_TYPE: {
        "required": ["descriptor", "config", "modelfs"],
        "properties": {
            "modelfs": {"required": ["type", "diffIds"], "properties": {"diffIds": {"items": DIGEST}}}
        },
    },
}


def blob(layout: Path, descriptor: dict[str, Any]) -> bytes:
    """A blob, with its hash, length and, where it is JSON of a known type, its schema checked."""
    data: bytes = (layout / "blobs/sha256" / descriptor["digest"].removeprefix("sha256:")).read_bytes()
    assert hashlib.sha256(data).hexdigest() == descriptor["digest"].removeprefix("sha256:")
    assert len(data) == descriptor["size"]
    if descriptor["mediaType"] in SCHEMAS:
        value = json.loads(data)
        jsonschema.validate(value, SCHEMAS[descriptor["mediaType"]])
        assert value.get("mediaType", descriptor["mediaType"]) == descriptor["mediaType"]
    return data


def top(layout: Path) -> dict[str, Any]:
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((layout / "index.json").read_text())
    jsonschema.validate(index, SCHEMAS[oci.INDEX_TYPE])
    (only,) = index["manifests"]
    return dict(only)


def manifests(layout: Path) -> list[dict[str, Any]]:
    """The manifests of every platform."""
    found = json.loads(blob(layout, top(layout)))
    return [json.loads(blob(layout, one)) for one in found["manifests"]]


def unpacked(layout: Path, into: Path) -> dict[str, bytes]:
    """The files of the image, layer over layer."""
    for layer in manifests(layout)[0]["layers"]:
        with tarfile.open(fileobj=io.BytesIO(blob(layout, layer)), mode="r:") as archive:
            for member in archive:
                assert (member.uid, member.gid, member.mtime) == (0, 0, 0)
                assert member.mode == (0o755 if member.isdir() else 0o444)
                assert member.isdir() or member.isfile()
            archive.extractall(into, filter="data")
    return {
        path.relative_to(into).as_posix(): path.read_bytes() for path in into.rglob("*") if path.is_file()
    }


def make(tmp_path: Path, name: str = "layout", **options: Any) -> OciResult:
    source = tmp_path / "model"
    return write_layout(snapshot(source), tmp_path / name, tag="qwen3-32b", large_bytes=5000, **options)


def test_the_image_is_the_models_directory(tmp_path: Path) -> None:
    result = make(tmp_path)
    files = unpacked(result.path, tmp_path / "image")
    assert files == {**FILES, LOCK_NAME: lock_text(snapshot(tmp_path / "model").lock).encode()}
    assert sorted(path for layer in result.layers for path in layer.paths) == sorted(files)


def test_both_platforms_share_the_layers(tmp_path: Path) -> None:
    result = make(tmp_path)
    named = json.loads(blob(result.path, top(result.path)))["manifests"]
    assert [one["platform"]["architecture"] for one in named] == ["amd64", "arm64"]
    amd, arm = manifests(result.path)
    assert amd["layers"] == arm["layers"]
    config = json.loads(blob(result.path, arm["config"]))
    assert (config["architecture"], config["os"]) == ("arm64", "linux")
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in arm["layers"]]
    assert result.digest == top(result.path)["digest"]
    assert sum(path.stat().st_size for path in (result.path / "blobs/sha256").iterdir()) == result.size_bytes


def test_annotations_say_what_it_is_and_under_which_licence(tmp_path: Path) -> None:
    result = make(tmp_path)
    named = top(result.path)
    assert named["annotations"]["org.opencontainers.image.ref.name"] == "qwen3-32b"
    notes = manifests(result.path)[0]["annotations"]
    assert notes["org.opencontainers.image.revision"] == COMMIT
    assert notes["org.opencontainers.image.source"] == "https://huggingface.co/Qwen/Qwen3-32B"
    assert notes["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert (notes["selfhost/model"], notes["selfhost/licence"]) == ("Qwen/Qwen3-32B", "apache-2.0")


def test_a_prefix_moves_the_model_below_a_directory(tmp_path: Path) -> None:
    result = make(tmp_path, prefix="/models/qwen/")
    files = unpacked(result.path, tmp_path / "image")
    assert set(files) == {f"models/qwen/{path}" for path in (*FILES, LOCK_NAME)}


def test_a_changed_shard_changes_one_layer(tmp_path: Path) -> None:
    before = make(tmp_path, "one")
    other = snapshot(tmp_path / "other", {**FILES, "model-00001-of-00002.safetensors": b"\2" * 9000})
    after = write_layout(other, tmp_path / "two", tag="qwen3-32b", large_bytes=5000)
    same = {layer.digest for layer in before.layers} & {layer.digest for layer in after.layers}
    changed = [layer.paths for layer in after.layers if layer.digest not in same]
    assert changed == [
        ("model-00001-of-00002.safetensors",),
        after.layers[-1].paths,
    ]  # and the lock names the new hash
    assert len(same) == 1


def test_equal_snapshots_give_equal_bytes(tmp_path: Path) -> None:
    def content(path: Path) -> dict[str, bytes]:
        return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}

    first = make(tmp_path, "one")
    for path in (tmp_path / "model").rglob("*"):
        os.utime(path, (1, 1))
    (tmp_path / "model/config.json").chmod(0o600)
    second = make(tmp_path, "two")
    assert first.digest == second.digest
    assert content(first.path) == content(second.path)


def test_many_shards_stay_below_what_overlay_file_systems_stack(tmp_path: Path) -> None:
    files = {f"model-{number:05}.safetensors": bytes([number % 251]) * 100 for number in range(163)}
    result = write_layout(snapshot(tmp_path / "m", files), tmp_path / "out", tag="v1", large_bytes=100)
    assert len(result.layers) <= oci.MOST_LAYERS
    assert unpacked(result.path, tmp_path / "image").keys() == {*files, LOCK_NAME}


def test_an_artefact_holds_each_file_as_a_blob(tmp_path: Path) -> None:
    result = make(tmp_path, artifact=True)
    named = top(result.path)
    manifest = json.loads(blob(result.path, named))
    assert manifest["artifactType"] == named["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    files = {
        one["annotations"]["org.opencontainers.image.title"]: blob(result.path, one)
        for one in manifest["layers"]
    }
    assert files == {**FILES, LOCK_NAME: lock_text(snapshot(tmp_path / "model").lock).encode()}
    kinds = {one["annotations"]["org.cncf.model.filepath"]: one["mediaType"] for one in manifest["layers"]}
    assert kinds["config.json"] == "application/vnd.cncf.model.weight.config.v1.raw"
    assert kinds["model-00001-of-00002.safetensors"] == "application/vnd.cncf.model.weight.v1.raw"
    assert kinds["README.md"] == "application/vnd.cncf.model.doc.v1.raw"
    config = json.loads(blob(result.path, manifest["config"]))
    assert config["modelfs"]["diffIds"] == [one["digest"] for one in manifest["layers"]]
    assert config["descriptor"]["licenses"] == ["Apache-2.0"]
    assert config["config"] == {"format": "safetensors"}


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
@pytest.mark.parametrize("artifact", [False, True])
def test_skopeo_reads_and_copies_it(tmp_path: Path, artifact: bool) -> None:
    result = make(tmp_path, artifact=artifact)
    source = f"oci:{result.path}:{result.tag}"
    raw = subprocess.run(["skopeo", "inspect", "--raw", source], capture_output=True, check=True).stdout
    assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == result.digest
    words = shlex.split(result.push)[1:-1]
    assert words[-1] == source
    copy = ["skopeo", "--insecure-policy", *words, f"oci:{tmp_path / 'copy'}:qwen3-32b"]
    if not artifact or _skopeo_knows_artefacts():
        subprocess.run(copy, capture_output=True, check=True)
        (copied,) = json.loads((tmp_path / "copy/index.json").read_text())["manifests"]
        assert copied["digest"] == result.digest


def _skopeo_knows_artefacts() -> bool:
    words = subprocess.run(["skopeo", "--version"], capture_output=True, text=True, check=True).stdout.split()
    return tuple(map(int, words[2].split(".")[:2])) >= (1, 13)


def test_progress_counts_every_byte_once(tmp_path: Path) -> None:
    seen: list[int] = []
    make(tmp_path, report=seen.append)
    assert sum(seen) == sum(map(len, FILES.values()))


@pytest.mark.parametrize("artifact", [False, True])
@pytest.mark.parametrize("damage", ["changed", "longer", "shorter", "gone"])
def test_a_file_that_changed_since_is_refused_and_nothing_stays(
    tmp_path: Path, artifact: bool, damage: str
) -> None:
    model = snapshot(tmp_path / "model")
    victim = tmp_path / "model/model-00001-of-00002.safetensors"
    data = victim.read_bytes()
    if damage == "gone":
        victim.unlink()
    else:
        victim.write_bytes({"changed": b"x" + data[1:], "longer": data + b"x", "shorter": data[:-1]}[damage])
    with pytest.raises(VerifyError, match="model-00001-of-00002"):
        write_layout(model, tmp_path / "out", tag="v1", artifact=artifact, large_bytes=5000)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = snapshot(tmp_path / "model")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="full"):
        write_layout(model, tmp_path / "out", tag="v1")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_too_little_room_is_said_before_the_first_byte(tmp_path: Path) -> None:
    model = snapshot(tmp_path / "model")
    huge = replace(model.lock.files[0], size_bytes=1 << 60)
    with pytest.raises(OutputError, match="GiB left"):
        write_layout(replace(model, lock=replace(model.lock, files=(huge,))), tmp_path / "out", tag="v1")


def test_a_layout_of_ours_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    first = make(tmp_path)
    assert make(tmp_path).digest == first.digest
    (tmp_path / "empty").mkdir()
    make(tmp_path, "empty")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/index.json").write_text("{}")
    with pytest.raises(OutputError, match="did not write"):
        make(tmp_path, "mine")
    assert (tmp_path / "mine/index.json").read_text() == "{}"
    with pytest.raises(OutputError, match="not a directory"):
        write_layout(snapshot(tmp_path / "model"), tmp_path / "model/config.json", tag="v1")


def test_what_a_killed_process_left_is_cleared_away_and_a_living_ones_is_not(tmp_path: Path) -> None:
    dead = tmp_path / ".layout.selfhost-dead"
    dead.mkdir()
    long_ago = time.time() - 3600
    os.utime(dead, (long_ago, long_ago))
    with stage.stage(tmp_path / "layout") as living:
        os.utime(living, (long_ago, long_ago))
        make(tmp_path)
        assert living.is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["layout", "model"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"tag": "no spaces"}, UsageError),
        ({"tag": "v1", "prefix": "models"}, UsageError),
        ({"tag": "v1", "prefix": "/a/../b"}, UsageError),
        ({"tag": "v1", "prefix": "//"}, None),
    ],
)
def test_names_are_checked(
    tmp_path: Path, options: dict[str, Any], error: type[SelfhostError] | None
) -> None:
    model = snapshot(tmp_path / "model")
    if error is None:
        write_layout(model, tmp_path / "out", **options)
        return
    with pytest.raises(error):
        write_layout(model, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_names_that_delete_files_in_images_are_refused(tmp_path: Path) -> None:
    model = snapshot(tmp_path / "model", {"sub/.wh.config.json": b"x"})
    with pytest.raises(UnsupportedError, match="deletes"):
        write_layout(model, tmp_path / "out", tag="v1")
    write_layout(model, tmp_path / "out", tag="v1", artifact=True)


def test_a_mirrors_password_stays_here(tmp_path: Path) -> None:
    model = snapshot(tmp_path / "model", endpoint="https://anna:hunter2@mirror.internal/hub")
    for artifact in (False, True):
        write_layout(model, tmp_path / "out", tag="v1", artifact=artifact)
        for path in (tmp_path / "out").rglob("*"):
            assert path.is_dir() or b"hunter2" not in path.read_bytes()


@pytest.mark.parametrize("size", [0, 1, 8**11 - 1, 8**11, 70 << 30])
@pytest.mark.parametrize("path", ["a", "tokenizer/überlang.json", "x" * 100, "d/" * 90 + "x" * 200])
def test_headers_are_what_tar_readers_expect(size: int, path: str) -> None:
    data = tar.file_header(path, size, mtime=1764000000)
    assert len(data) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(data + tar.END), mode="r:") as archive:
        member = archive.next()
    assert member is not None
    assert (member.name, member.size, member.mtime, member.type) == (path, size, 1764000000, tarfile.REGTYPE)


def test_headers_never_change() -> None:
    text = tar.file_header("weights/überlang.json", 1 << 40, mtime=1) + tar.folder_header("weights")
    known = "08c54275ac9a15dd6b091909a34e530811ba7f029bfa717c062c7373241cd758"
    assert hashlib.sha256(text).hexdigest() == known


@pytest.mark.parametrize("failing", [0, 3, 7])
def test_the_first_error_ends_the_work(failing: int) -> None:
    def work(number: int, stop: Event) -> int:
        if number == failing:
            raise VerifyError(f"{number} is wrong.")
        if number > failing and stop.wait(5):
            raise stage.Abandoned
        return number

    with pytest.raises(VerifyError, match=f"{failing} is wrong"):
        stage.each(range(8), work, workers=3)
    assert stage.each(range(3), lambda number, _: number * 2) == [0, 2, 4]


def test_links_of_a_cache_are_followed(tmp_path: Path) -> None:
    plain = snapshot(tmp_path / "plain")
    root = tmp_path / "cache/snapshots"
    for path in FILES:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to(tmp_path / "plain" / path)
    linked = write_layout(Snapshot(root=root, lock=plain.lock), tmp_path / "a", tag="v1")
    assert linked.digest == write_layout(plain, tmp_path / "b", tag="v1").digest

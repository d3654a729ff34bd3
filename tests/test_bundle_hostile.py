"""Bundles that are damaged or made to do harm: refused in one sentence, and nothing wrong is left."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selfhost.bundle import open_bundle, unpack, verify
from selfhost.bundle.manifest import Manifest, manifest_text, parse_manifest
from selfhost.errors import BundleError, SelfhostError, VerifyError
from selfhost.pull import tar
from tests.bundles import make, tree
from tests.snapshots import FILES


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make(tmp_path_factory.mktemp("good")).path.read_bytes()


def refused(data: bytes, tmp_path: Path) -> SelfhostError:
    """The error that both reading and unpacking give; nothing wrong is left by either."""
    path = tmp_path / "bad.tar"
    path.write_bytes(data)
    with pytest.raises(SelfhostError) as caught:
        verify(open_bundle(path))
    with pytest.raises(SelfhostError):
        unpack(open_bundle(path), tmp_path / "out")
    return caught.value


@pytest.mark.parametrize("cut", [0, 1, 511, 513, 4000, 40_000, -1, -600, -1024, -1025])
def test_a_cut_off_bundle_is_refused(good: bytes, tmp_path: Path, cut: int) -> None:
    error = refused(good[:cut], tmp_path)
    assert isinstance(error, BundleError)
    assert not (tmp_path / "out").exists()


def test_anything_after_the_end_is_refused(good: bytes, tmp_path: Path) -> None:
    assert "after its end" in refused(good + b"x", tmp_path).message
    refused(good + bytes(512), tmp_path)


def test_any_changed_byte_is_noticed(good: bytes, tmp_path: Path) -> None:
    chance = random.Random(7)
    path = tmp_path / "bad.tar"
    for place in [*chance.sample(range(len(good)), 150), len(good) - 1, len(good) - 700, 300, 520]:
        data = bytearray(good)
        data[place] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        with pytest.raises((BundleError, VerifyError)):
            verify(open_bundle(path))


def rebuilt(good: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The bundle with another manifest, whose header is right again."""
    with tarfile.open(fileobj=io.BytesIO(good)) as archive:
        first = archive.next()
        assert first is not None
        rest = archive.next()
        assert rest is not None
        text = json.loads(good[first.offset_data : first.offset_data + first.size])
        begin = rest.offset
    change(text)
    data = json.dumps(text).encode()
    return (
        tar.file_header("manifest.json", len(data), mtime=int(first.mtime))
        + data
        + bytes(tar.padding_bytes(len(data)))
        + good[begin:]
    )


HOSTILE = [
    "../evil",
    "/etc/passwd",
    "weights/../../evil",
    "a//b",
    "a\\b",
    "C:/x",
    "manifest.json",
    "",
    ".",
    "x\n",
    ".git/config",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused(good: bytes, tmp_path: Path, name: str) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["members"][0]["path"] = name

    refused(rebuilt(good, change), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tar"]


def twice(manifest: dict[str, Any]) -> None:
    manifest["members"][1]["path"] = manifest["members"][0]["path"]


def folder_and_file(manifest: dict[str, Any]) -> None:
    manifest["members"][1]["path"] = manifest["members"][0]["path"] + "/below"


def reordered(manifest: dict[str, Any]) -> None:
    manifest["members"][0], manifest["members"][1] = manifest["members"][1], manifest["members"][0]


def shorter(manifest: dict[str, Any]) -> None:
    del manifest["members"][-1]


def negative(manifest: dict[str, Any]) -> None:
    manifest["members"][0]["size_bytes"] = -512


def enormous(manifest: dict[str, Any]) -> None:
    manifest["members"][0]["size_bytes"] = 1 << 61


def other_schema(manifest: dict[str, Any]) -> None:
    manifest["schema"] = "selfhost/bundle/v9"


def unknown_field(manifest: dict[str, Any]) -> None:
    manifest["surprise"] = 1


def no_time(manifest: dict[str, Any]) -> None:
    manifest["created"] = "yesterday"


def weights_as_manifests(manifest: dict[str, Any]) -> None:
    manifest["members"][-1]["role"] = "manifest"


@pytest.mark.parametrize(
    "change",
    [
        twice,
        folder_and_file,
        reordered,
        shorter,
        negative,
        enormous,
        other_schema,
        unknown_field,
        no_time,
        weights_as_manifests,
    ],
    ids=lambda change: change.__name__,
)
def test_manifests_that_cannot_be_are_refused(
    good: bytes, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    assert isinstance(refused(rebuilt(good, change), tmp_path), SelfhostError)
    left = tree(tmp_path / "out") if (tmp_path / "out").exists() else {}
    assert not any(path.endswith((".json", ".yaml")) and path == "manifest.json" for path in left)


KINDS = {
    tarfile.SYMTYPE: "a link",
    tarfile.LNKTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.FIFOTYPE: "a device",
    tarfile.DIRTYPE: "a directory",
}


@pytest.mark.parametrize(("kind", "word"), KINDS.items())
def test_links_devices_and_directories_have_no_place(
    good: bytes, tmp_path: Path, kind: bytes, word: str
) -> None:
    with tarfile.open(fileobj=io.BytesIO(good)) as archive:
        victim = archive.getmember("images.txt")
    fake = tarfile.TarInfo("images.txt")
    fake.type, fake.linkname, fake.size = kind, "/etc/passwd", 0
    data = bytearray(good)
    data[victim.offset : victim.offset + 512] = fake.tobuf(tarfile.USTAR_FORMAT)
    assert word in refused(bytes(data), tmp_path).message
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))


def test_an_inserted_member_is_refused(good: bytes, tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(good)) as archive:
        place = archive.getmember("images.txt").offset
    extra = tar.file_header("extra", 0)
    assert refused(good[:place] + extra + good[place:], tmp_path).hint


def test_a_lock_that_differs_from_the_manifest_is_refused(good: bytes, tmp_path: Path) -> None:
    other = b"x" * len(FILES["config.json"])
    with tarfile.open(fileobj=io.BytesIO(good)) as archive:
        place = archive.getmember("weights/config.json").offset_data
    data = bytearray(good)
    data[place : place + len(other)] = other

    def change(manifest: dict[str, Any]) -> None:
        for member in manifest["members"]:
            if member["path"] == "weights/config.json":
                member["sha256"] = hashlib.sha256(other).hexdigest()

    assert "differ about weights/config.json" in refused(rebuilt(bytes(data), change), tmp_path).message


@pytest.mark.parametrize("data", [b"", b"\x1f\x8b" + bytes(600), bytes(2000), b"PK" + bytes(600)])
def test_other_files_are_no_bundles(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    with pytest.raises(BundleError) as caught:
        open_bundle(path)
    assert ("compressed" in caught.value.message) == data.startswith(b"\x1f")


def test_what_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "gone", tmp_path, tmp_path / "pipe"):
        with pytest.raises(BundleError):
            open_bundle(path)


def test_manifests_are_read_back_as_written(good: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(good)) as archive:
        data = archive.extractfile("manifest.json").read()  # type: ignore[union-attr]
    manifest = parse_manifest(data, where="x")
    assert isinstance(manifest, Manifest)
    assert manifest_text(manifest).encode() == data

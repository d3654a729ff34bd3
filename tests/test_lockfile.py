"""selfhost.lock.json, marks and verification: believed only as far as they add up."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfhost.errors import OutputError, VerifyError
from selfhost.licence import Declared, judge
from selfhost.pull import marks
from selfhost.pull.hashing import hash_file
from selfhost.pull.local import as_remote, assure, snapshots_in
from selfhost.pull.lockfile import lock_text, parse_lock, read_lock, write_lock
from selfhost.pull.part import disk_error
from selfhost.pull.types import LOCK_NAME, LOCK_SCHEMA, Lock, LockedFile, Snapshot
from selfhost.pull.verify import extra_files, hashers, verify
from tests.pulls import tensors

SHA = "a" * 64


def lock_of(root: Path, **more: Any) -> Lock:
    """A lock of every file below a directory."""
    files = []
    for path in sorted(p for p in root.rglob("*") if p.is_file() and p.name != LOCK_NAME):
        size, hashes = hash_file(path)
        name = str(path.relative_to(root))
        files.append(LockedFile(path=name, size_bytes=size, sha256=hashes.sha256, etag=hashes.sha256))
    fields: dict[str, Any] = {
        "schema": LOCK_SCHEMA, "repo": "acme/m", "revision": "1" * 40, "endpoint": "https://huggingface.co",
        "created": "2026-11-26T12:00:00Z", "selfhost_version": "0.1.0", "files": tuple(files),
        "licence": judge(Declared(licence="mit")),
    }  # fmt: skip
    return Lock(**{**fields, **more})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    root.mkdir()
    (root / "config.json").write_text("{}")
    (root / "model.safetensors").write_bytes(tensors(100_000))
    write_lock(lock_of(root), root / LOCK_NAME)
    return root


def test_what_is_written_is_read_back(model: Path) -> None:
    lock = read_lock(model)
    assert lock == lock_of(model)
    assert parse_lock(lock_text(lock).encode(), where="x") == lock
    assert [path.name for path in model.iterdir() if path.name.startswith(".")] == []


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.update(schema="selfhost/lock/v9"), "v9"),
        (lambda t: t.pop("files"), "lock.files is missing"),
        (lambda t: t.update(extra=1), "lock.extra is not a field"),
        (lambda t: t["files"][0].update(path="../../etc/passwd"), "leads out"),
        (lambda t: t["files"][0].update(path="/etc/passwd"), "absolute"),
        (lambda t: t["files"][0].update(size_bytes=-1), "has no length"),
        (lambda t: t["files"][0].update(sha256="xyz"), "is no SHA-256"),
        (lambda t: t["files"].append(t["files"][0]), "stands twice"),
        (lambda t: t["files"][0].update(size_bytes="12"), "must be a whole number"),
    ],
)  # fmt: skip
def test_a_lock_that_does_not_add_up_is_refused(change: Change, said: str, model: Path) -> None:
    table = json.loads((model / LOCK_NAME).read_text())
    change(table)
    (model / LOCK_NAME).write_text(json.dumps(table))
    with pytest.raises(VerifyError, match=said) as caught:
        read_lock(model)
    assert caught.value.hint


@given(data=st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_lock_or_a_clear_error(data: bytes) -> None:
    with pytest.raises(VerifyError):
        parse_lock(data, where="lock")


def test_a_lock_of_before_a_field_came_is_still_read(model: Path) -> None:
    table = json.loads((model / LOCK_NAME).read_text())
    del table["partial"]
    assert parse_lock(json.dumps(table).encode(), where="x") == read_lock(model)


FAULTS: dict[str, Callable[[Path], object]] = {
    "has 3 bytes, not 2": lambda root: (root / "config.json").write_text("{ }"),
    "holds other bytes": lambda root: (root / "config.json").write_text("[]"),
    "cannot be read": lambda root: (root / "config.json").unlink(),
}


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("said", FAULTS)
def test_verification_finds_every_change(
    said: str, processes: int, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfhost.pull.verify.WORTH_BYTES", 0)
    lock = read_lock(model)
    seen: list[int] = []
    with hashers(lock, processes) as pool:
        assert (pool is None) == (processes == 1)
        assert verify(model, lock, pool=pool, report=lambda _, size: seen.append(size)) == ()
    assert sum(seen) == lock.total_bytes
    FAULTS[said](model)
    with hashers(lock, processes) as pool:
        (fault,) = verify(model, lock, pool=pool)
    assert fault.path == "config.json"
    assert said in fault.message


def test_files_that_nobody_locked_are_named_not_checked(model: Path) -> None:
    (model / "notes.txt").write_text("")
    (model / ".selfhost").mkdir()
    (model / ".selfhost" / "x").write_text("")
    assert extra_files(model, read_lock(model)) == ("notes.txt",)


class TestMarks:
    def test_a_marked_file_is_not_hashed_again_until_it_changes(self, model: Path) -> None:
        work = model / ".selfhost"
        (work / "ok").mkdir(parents=True)
        snapshot = Snapshot(root=model, lock=read_lock(model))
        hashed: list[int] = []
        assure(snapshot, count=hashed.append)
        assert sum(hashed) == snapshot.lock.total_bytes
        hashed.clear()
        assure(snapshot, count=hashed.append)
        assert hashed == []
        (model / "config.json").write_text("[]")
        with pytest.raises(VerifyError, match="not what its lock file says"):
            assure(snapshot)

    def test_after_a_loss_of_power_marks_count_for_nothing(
        self, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (model / ".selfhost" / "ok").mkdir(parents=True)
        snapshot = Snapshot(root=model, lock=read_lock(model))
        assure(snapshot)
        monkeypatch.setattr(marks, "boot_id", lambda: "another boot")
        hashed: list[int] = []
        assure(snapshot, count=hashed.append)
        assert sum(hashed) == snapshot.lock.total_bytes

    def test_where_the_system_knows_no_boots_no_mark_holds(
        self, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(marks, "boot_id", lambda: "")
        file = as_remote(read_lock(model).files[0])
        (model / ".selfhost" / "ok").mkdir(parents=True)
        marks.mark(model / ".selfhost", file, model / file.path, SHA)
        assert marks.marked(model / ".selfhost", file, model / file.path) is None


def test_models_in_a_cache_without_a_lock_are_left_out(model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "hub"
    ours = cache / "models--acme--m" / "snapshots" / ("1" * 40)
    ours.parent.mkdir(parents=True)
    model.rename(ours)
    (cache / "models--other--m" / "snapshots" / ("2" * 40)).mkdir(parents=True)
    broken = cache / "models--broken--m" / "snapshots" / ("3" * 40)
    broken.mkdir(parents=True)
    (broken / LOCK_NAME).write_text("{}")
    assert [snapshot.lock.repo for snapshot in snapshots_in(cache)] == ["acme/m"]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "The disk is full"),
        (errno.EDQUOT, "The quota is used up"),
        (errno.EFBIG, "The file is too large"),
        (errno.EROFS, "Read-only file system"),
        (errno.EACCES, "Permission denied"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_every_refusal_of_a_disk_is_one_sentence(number: int, said: str) -> None:
    error = disk_error(OSError(number, os.strerror(number)), Path("/data/x"), missing_bytes=5 << 30)
    assert isinstance(error, OutputError)
    assert said in error.message
    assert error.message.endswith(".")

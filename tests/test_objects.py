"""Uploads to an object store: a store on loopback that checks signatures, and plain file systems of fsspec."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selfhost.errors import OfflineError, OutputError, SelfhostError, UsageError, VerifyError
from selfhost.pull import objects
from selfhost.pull.lockfile import lock_text
from selfhost.pull.objects import check_url, upload
from selfhost.pull.types import LOCK_NAME
from tests.fakes import s3
from tests.fakes.s3 import FakeS3
from tests.snapshots import FILES, snapshot

URL = "s3://models/llm/qwen3"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeS3]:
    with s3.serve() as running:
        for name, value in running.environ().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
        for name in ("http_proxy", "HTTP_PROXY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield running


def there(store: FakeS3) -> dict[str, bytes]:
    return {key.removeprefix("llm/qwen3/"): found.data for key, found in store.buckets["models"].items()}


def impatient() -> dict[str, Any]:
    """Settings under which a dead store is given up at once."""
    return {"config_kwargs": {"connect_timeout": 1, "read_timeout": 1, "retries": {"max_attempts": 1}}}


def test_everything_is_there_and_the_lock_is_written_last(store: FakeS3, tmp_path: Path) -> None:
    model = snapshot(tmp_path / "model")
    seen: list[int] = []
    done = upload(model, URL + "/", report=seen.append)
    assert there(store) == {**FILES, LOCK_NAME: lock_text(model.lock).encode()}
    assert store.writes()[-1] == f"models/llm/qwen3/{LOCK_NAME}"
    assert (done.url, done.kept, done.sent) == (URL, (), tuple(sorted(FILES)))
    assert done.sent_bytes == sum(seen) == model.lock.total_bytes
    assert set(done.proven) == set(FILES)


def test_hashes_stand_in_the_metadata(store: FakeS3, tmp_path: Path) -> None:
    model = snapshot(tmp_path / "model")
    upload(model, URL)
    for file in model.lock.files:
        if file.size_bytes:
            assert store.buckets["models"][f"llm/qwen3/{file.path}"].metadata["sha256"] == file.sha256


def test_a_second_upload_sends_nothing(store: FakeS3, tmp_path: Path) -> None:
    model = snapshot(tmp_path / "model")
    upload(model, URL)
    store.requests.clear()
    seen: list[int] = []
    done = upload(model, URL, report=seen.append)
    assert (done.sent, set(done.kept)) == ((), set(FILES))
    assert store.writes() == []
    assert sum(seen) == model.lock.total_bytes


def test_only_what_changed_is_sent_again(store: FakeS3, tmp_path: Path) -> None:
    upload(snapshot(tmp_path / "one"), URL)
    changed = {**FILES, "config.json": b'{"model_type": "qwen4"}\n'}
    done = upload(snapshot(tmp_path / "two", changed), URL)
    assert done.sent == ("config.json",)
    assert there(store)["config.json"] == changed["config.json"]


def test_an_upload_that_was_cut_off_goes_on_without_its_lock(store: FakeS3, tmp_path: Path) -> None:
    model = snapshot(tmp_path / "model")
    upload(model, URL)
    other = snapshot(tmp_path / "other", {**FILES, "config.json": b"{}", "tokenizer.json": b"[]"})
    store.refuse = "AccessDenied"
    with pytest.raises(OutputError):
        upload(other, URL)
    assert LOCK_NAME not in there(store)  # the old lock would vouch for files that are being replaced
    store.refuse = None
    assert set(upload(other, URL).sent) == {"config.json", "tokenizer.json"}


def test_large_files_go_in_parts(store: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "PART_BYTES", 5 << 20)
    files = {"a.safetensors": os.urandom(11 << 20), "b.safetensors": bytes(10 << 20), "c.json": b"{}"}
    done = upload(snapshot(tmp_path / "model", files), URL)
    assert {path: data for path, data in there(store).items() if path != LOCK_NAME} == files
    assert store.buckets["models"]["llm/qwen3/a.safetensors"].etag.endswith("-3")
    assert store.buckets["models"]["llm/qwen3/b.safetensors"].etag.endswith("-2")
    assert set(done.proven) == set(files)
    assert store.uploads == {}


def test_a_cut_off_large_file_leaves_no_parts(
    store: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "PART_BYTES", 5 << 20)
    model = snapshot(tmp_path / "model", {"a.safetensors": bytes(11 << 20)})
    (tmp_path / "model/a.safetensors").write_bytes(bytes((11 << 20) - 1) + b"x")
    with pytest.raises(VerifyError, match="no longer"):
        upload(model, URL)
    assert there(store) == {}
    assert store.uploads == {}


@pytest.mark.parametrize("fault", ["truncate", "spoil"])
def test_other_bytes_in_the_store_are_noticed(store: FakeS3, tmp_path: Path, fault: str) -> None:
    setattr(store, fault, "model-00002")
    with pytest.raises(VerifyError, match=r"model-00002.* does not hold what was sent"):
        upload(snapshot(tmp_path / "model"), URL)
    assert LOCK_NAME not in there(store)


def test_encrypted_objects_prove_nothing_but_are_fine(store: FakeS3, tmp_path: Path) -> None:
    store.encrypted = True
    assert upload(snapshot(tmp_path / "model"), URL).proven == ()


def test_a_busy_store_is_asked_again(store: FakeS3, tmp_path: Path) -> None:
    store.answers = [(503, "SlowDown"), (500, "InternalError")]
    upload(snapshot(tmp_path / "model"), URL)
    assert len(there(store)) == len(FILES) + 1


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"refuse": "AccessDenied"}, OutputError, "refuses"),
        ({"buckets": {}}, OutputError, "does not exist"),
        ({"refuse": "QuotaExceeded"}, OutputError, "cannot be written"),
    ],
)
def test_refusals_are_one_sentence(
    store: FakeS3, tmp_path: Path, change: dict[str, Any], error: type[SelfhostError], words: str
) -> None:
    for name, value in change.items():
        setattr(store, name, value)
    with pytest.raises(error, match=words) as caught:
        upload(snapshot(tmp_path / "model"), URL)
    assert caught.value.hint
    assert s3.SECRET not in caught.value.message
    assert s3.KEY not in caught.value.message


def test_wrong_and_missing_credentials_are_told_apart(
    store: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = snapshot(tmp_path / "model")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(OutputError, match="refuses: "):
        upload(model, URL)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(OutputError, match="no credentials"):
        upload(model, URL)


def test_a_store_that_is_away_is_said_so(
    store: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(OfflineError, match=r"127\.0\.0\.1:9 cannot be reached"):
        upload(snapshot(tmp_path / "model"), URL, storage=impatient())


@pytest.mark.parametrize("url", ["", "models", "s3://", "gopher://models/x", "/tmp/models"])
def test_addresses_are_checked(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError):
        upload(snapshot(tmp_path / "model"), url)
    with pytest.raises(UsageError):
        check_url(url)


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(OutputError, match="needs s3fs") as caught:
        check_url(URL)
    assert caught.value.hint == "pip install 'selfhost[s3]'"


def test_directories_work_too(tmp_path: Path) -> None:
    model = snapshot(tmp_path / "model")
    url = f"file://{tmp_path}/share/qwen3"
    assert len(upload(model, url).sent) == len(FILES)
    found = {
        path.relative_to(tmp_path / "share/qwen3").as_posix(): path.read_bytes()
        for path in (tmp_path / "share/qwen3").rglob("*")
        if path.is_file()
    }
    assert found == {**FILES, LOCK_NAME: lock_text(model.lock).encode()}
    assert upload(model, url).sent == ()
    (tmp_path / "share/qwen3/config.json").write_text("cut")
    assert upload(model, url).sent == ("config.json",)


def test_memory_works_too_and_a_failing_file_is_taken_back(tmp_path: Path) -> None:
    import fsspec

    model = snapshot(tmp_path / "model")
    url = f"memory://bucket-{tmp_path.name}/qwen3"
    assert len(upload(model, url).sent) == len(FILES)
    memory = fsspec.filesystem("memory")
    assert (
        json.loads(memory.cat_file(f"/bucket-{tmp_path.name}/qwen3/{LOCK_NAME}"))["repo"] == "Qwen/Qwen3-32B"
    )
    victim = snapshot(tmp_path / "victim", {"config.json": b"12345"})
    (tmp_path / "victim/config.json").write_bytes(b"12344")
    with pytest.raises(VerifyError):
        upload(victim, url + "-2")
    assert not memory.exists(f"/bucket-{tmp_path.name}/qwen3-2/config.json")


def test_bandwidth_is_kept(tmp_path: Path) -> None:
    model = snapshot(tmp_path / "model", {"a.safetensors": bytes(300_000)})
    begin = time.monotonic()
    upload(model, f"file://{tmp_path}/out", bandwidth=1_000_000)
    assert time.monotonic() - begin >= 0.29


def test_a_url_is_shown_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(SelfhostError) as caught:
        upload(snapshot(tmp_path / "model"), "gopher://anna:hunter2@host/models")
    assert "hunter2" not in caught.value.message
    assert objects._shown("ftp://anna:hunter2@host/models/") == "ftp://host/models"

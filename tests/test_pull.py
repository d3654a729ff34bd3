"""Pulling from the Hub on loopback: whole and right whatever happens on the way, and nothing outside."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selfhost.errors import (
    GatedModelError,
    LicenceError,
    MalformedAnswerError,
    ModelNotFoundError,
    OfflineError,
    OutputError,
    PullError,
    RateLimitedError,
    RenamedModelError,
    VerifyError,
)
from selfhost.pull import run, stream, transfer
from selfhost.pull.lockfile import read_lock
from selfhost.pull.types import LOCK_NAME
from selfhost.pull.verify import verify
from tests.fakes.hub import COMMIT, OTHER_COMMIT, FakeHub, serve
from tests.fakes.hub.content import Content, Symlink
from tests.fakes.hub.faults import (
    Cut,
    Drip,
    Flip,
    Gzip,
    IgnoreRange,
    Length,
    Loop,
    Refuse,
    Shorter,
    Stall,
    WrongRange,
    expired,
    too_many,
)
from tests.pulls import NAME, asked, content_of, pull_tiny, repo, shards, tensors

WEIGHTS = "model-00002-of-00003.safetensors"


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is reached without the machine's proxy."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same waits as in earnest, shorter."""
    monkeypatch.setattr(transfer, "LONGEST_WAIT_SECONDS", 0.02)
    monkeypatch.setattr(stream, "SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(stream, "SLOW_WINDOW_SECONDS", 0.5)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serve(repos={NAME: repo()}) as running:
        yield running


def wanted(hub: FakeHub) -> dict[str, bytes]:
    files = hub.repos[NAME].files
    return {
        name: data for name, data in files.items() if name != ".gitattributes" and isinstance(data, bytes)
    }


class TestWhole:
    def test_into_the_cache_as_the_library_lays_it_out(self, hub: FakeHub, tmp_path: Path) -> None:
        pulled = pull_tiny(hub, tmp_path)
        root = tmp_path / "hf" / "hub" / "models--acme--tiny" / "snapshots" / COMMIT
        assert pulled.snapshot.root == root
        assert content_of(root) == wanted(hub)
        blob = (root / WEIGHTS).resolve()
        assert blob.parent.name == "blobs"
        assert blob.name == hashlib.sha256(wanted(hub)[WEIGHTS]).hexdigest()
        assert (root.parents[1] / "refs" / "main").read_text() == COMMIT

    def test_into_a_directory_with_plain_names(self, hub: FakeHub, tmp_path: Path) -> None:
        directory = tmp_path / "model"
        pull_tiny(hub, tmp_path, directory=directory)
        assert content_of(directory) == wanted(hub)
        assert not any(path.is_symlink() for path in directory.rglob("*"))
        assert {path.name for path in tmp_path.iterdir()} <= {"model", "hf"}

    def test_the_lock_file_names_every_file_with_its_hash_and_the_licence(
        self, hub: FakeHub, tmp_path: Path
    ) -> None:
        pulled = pull_tiny(hub, tmp_path, directory=tmp_path / "m")
        lock = read_lock(tmp_path / "m")
        assert lock == pulled.snapshot.lock
        assert (lock.repo, lock.revision, lock.endpoint) == (NAME, COMMIT, hub.url)
        assert {file.path: file.sha256 for file in lock.files} == {
            name: hashlib.sha256(data).hexdigest() for name, data in wanted(hub).items()
        }
        assert (lock.licence.licence, lock.licence.permission) == ("apache-2.0", "yes")
        assert verify(tmp_path / "m", lock) == ()

    def test_a_second_pull_brings_nothing(self, hub: FakeHub, tmp_path: Path) -> None:
        pull_tiny(hub, tmp_path)
        before = hub.sent_bytes
        assert pull_tiny(hub, tmp_path).network_bytes == 0
        assert hub.sent_bytes - before < 20_000  # the list and the index

    def test_what_another_tool_downloaded_is_checked_and_kept(self, hub: FakeHub, tmp_path: Path) -> None:
        blobs = tmp_path / "hf" / "hub" / "models--acme--tiny" / "blobs"
        blobs.mkdir(parents=True)
        data = wanted(hub)[WEIGHTS]
        (blobs / hashlib.sha256(data).hexdigest()).write_bytes(data)
        pulled = pull_tiny(hub, tmp_path)
        assert hub.sent[f"{NAME}/{WEIGHTS}"] == 0
        assert content_of(pulled.snapshot.root) == wanted(hub)

    def test_a_damaged_blob_is_replaced(self, hub: FakeHub, tmp_path: Path) -> None:
        pulled = pull_tiny(hub, tmp_path)
        blob = (pulled.snapshot.root / WEIGHTS).resolve()
        data = bytearray(blob.read_bytes())
        data[1000] ^= 1
        blob.write_bytes(bytes(data))
        pull_tiny(hub, tmp_path)
        assert content_of(pulled.snapshot.root) == wanted(hub)

    def test_another_revision_into_the_same_directory_leaves_nothing_of_the_first(
        self, hub: FakeHub, tmp_path: Path
    ) -> None:
        directory = tmp_path / "m"
        pull_tiny(hub, tmp_path, directory=directory)
        repository = hub.repos[NAME]
        repository.commits[OTHER_COMMIT] = repo(shards(2, 5000)).files
        repository.revisions["v2"] = OTHER_COMMIT
        pull_tiny(hub, tmp_path, f"{NAME}@v2", directory=directory)
        names = set(content_of(directory))
        assert not {name for name in names if "of-00003" in name}
        assert {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"} <= names
        assert read_lock(directory).revision == OTHER_COMMIT

    def test_what_another_revision_left_unfinished_goes_away(self, hub: FakeHub, tmp_path: Path) -> None:
        parts = tmp_path / "m" / ".selfhost" / "parts"
        parts.mkdir(parents=True)
        (parts / ("f" * 64)).write_bytes(b"half")
        pull_tiny(hub, tmp_path, directory=tmp_path / "m")
        assert not parts.exists()

    def test_files_in_folders_and_of_no_length(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.repos[NAME].files |= {"additional_chat_templates/x.jinja": b"{{ x }}", "empty.txt": b""}
        pulled = pull_tiny(hub, tmp_path)
        assert content_of(pulled.snapshot.root) == wanted(hub)

    def test_small_files_through_the_hubs_own_redirect_and_its_compression(
        self, hub: FakeHub, tmp_path: Path
    ) -> None:
        hub.resolve_cache = hub.gzip = True
        pulled = pull_tiny(hub, tmp_path)
        assert content_of(pulled.snapshot.root) == wanted(hub)
        hub.fail(Refuse(status=403), path="/api/resolve-cache/", times=None)
        with pytest.raises(GatedModelError):
            pull_tiny(hub, tmp_path, directory=tmp_path / "m")

    def test_a_gguf_file_by_its_name(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.repos[NAME] = repo({"tiny-Q4.gguf": b"GGUF" + bytes(5000), "tiny-Q8.gguf": b"GGUF" + bytes(9000)})
        pulled = pull_tiny(hub, tmp_path, f"{NAME}:tiny-Q4.gguf")
        assert "tiny-Q4.gguf" in content_of(pulled.snapshot.root)
        assert "tiny-Q8.gguf" not in content_of(pulled.snapshot.root)

    def test_files_of_one_content(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.repos[NAME].files |= {"a.json": b"{}", "b.json": b"{}", "c.json": b"{}"}
        pulled = pull_tiny(hub, tmp_path, directory=tmp_path / "m")
        assert content_of(pulled.snapshot.root) == wanted(hub)
        assert pulled.seconds < 1.0  # nobody waited for a lock of his own

    def test_git_links_are_files_that_hold_a_path(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.repos[NAME].files["vocab.txt"] = Symlink(target="/etc/passwd")
        pulled = pull_tiny(hub, tmp_path, directory=tmp_path / "m")
        path = pulled.snapshot.root / "vocab.txt"
        assert not path.is_symlink()
        assert path.read_bytes() == b"/etc/passwd"

    def test_offline_what_was_pulled_before_is_found_and_checked(self, hub: FakeHub, tmp_path: Path) -> None:
        first = pull_tiny(hub, tmp_path)
        seen = len(hub.seen)
        again = pull_tiny(hub, tmp_path, environ={"HF_HUB_OFFLINE": "1"})
        assert again.snapshot == first.snapshot
        assert len(hub.seen) == seen
        blob = (first.snapshot.root / WEIGHTS).resolve()
        blob.write_bytes(b"x" * blob.stat().st_size)
        with pytest.raises(VerifyError, match="not what its lock file says"):
            pull_tiny(hub, tmp_path, environ={"HF_HUB_OFFLINE": "1"})

    def test_offline_a_use_is_judged_too(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.repos[NAME].card = {"license": "cc-by-nc-4.0"}
        hub.repos[NAME].files["README.md"] = b"---\nlicense: cc-by-nc-4.0\n---\n"
        pull_tiny(hub, tmp_path)
        offline = {"HF_HUB_OFFLINE": "1"}
        assert pull_tiny(hub, tmp_path, environ=offline, use="research").network_bytes == 0
        with pytest.raises(LicenceError, match="does not permit commercial use"):
            pull_tiny(hub, tmp_path, environ=offline, use="commercial")

    def test_what_is_whole_needs_no_writing(self, hub: FakeHub, tmp_path: Path) -> None:
        first = pull_tiny(hub, tmp_path, directory=tmp_path / "m")
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "m").rglob("*")}
        again = pull_tiny(hub, tmp_path, directory=tmp_path / "m")
        assert again.snapshot == first.snapshot
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "m").rglob("*")} == before
        accepted = pull_tiny(hub, tmp_path, directory=tmp_path / "m", use="commercial")
        assert accepted.snapshot.lock.licence.use == "commercial"  # another verdict is written down

    def test_offline_and_not_pulled(self, hub: FakeHub, tmp_path: Path) -> None:
        with pytest.raises(OfflineError):
            pull_tiny(hub, tmp_path, environ={"HF_HUB_OFFLINE": "1"})


# What may happen on the way, and the pull gets through; `path` keeps it to the weights.
PASSING: dict[str, list[Any]] = {
    "cut at the first byte": [Cut(after_bytes=0)],
    "cut in the middle": [Cut(after_bytes=77_777), Cut(after_bytes=1)],
    "cut by a reset": [Cut(after_bytes=99_999, reset=True)],
    "cut in the headers": [Cut(after_bytes=10, in_headers=True)],
    "many cuts": [Cut(after_bytes=n) for n in (1, 2, 3, 5_000, 8_000, 13_000, 21_000, 34_000, 55_000)],
    "stalled at once": [Stall()],
    "stalled in the middle": [Stall(after_bytes=100_000)],
    "slow-loris": [Drip(seconds=0.05)],
    "server error": [Refuse(status=503), Refuse(status=500), Refuse(status=504)],
    "429 with Retry-After": [too_many(1)],
    "expired link": [expired(), expired()],
    "wrong byte": [Flip(at=150_000)],
    "ignored range": [Cut(after_bytes=50_000), IgnoreRange()],
    "lying range": [Cut(after_bytes=50_000), WrongRange(shift=5)],
    "range of another part": [Cut(after_bytes=50_000), WrongRange(shift=7, move=True)],
    "length too long": [Length(off=100)],
    "length too short": [Length(off=-100)],
    "body too short": [Shorter(by=100)],
    "compressed unasked": [Gzip()],
}


class TestTrouble:
    @pytest.mark.parametrize("kinds", PASSING.values(), ids=PASSING.keys())
    def test_the_result_is_whole_whatever_happens_on_the_way(
        self, kinds: list[Any], hub: FakeHub, tmp_path: Path
    ) -> None:
        faults = [
            hub.fail(kind, path=WEIGHTS, times=1, on="storage" if kind.__class__ is Refuse else None)
            for kind in kinds
        ]
        pulled = pull_tiny(hub, tmp_path)
        assert content_of(pulled.snapshot.root) == wanted(hub)
        assert all(fault.hits == 1 for fault in faults)

    def test_a_cut_costs_no_byte_twice(self, hub: FakeHub, tmp_path: Path) -> None:
        for cut in range(10_000, 200_000, 20_000):
            hub.fail(Cut(after_bytes=20_000), path=WEIGHTS, skip=0)
            assert cut
        pull_tiny(hub, tmp_path)
        assert hub.sent[f"{NAME}/{WEIGHTS}"] == len(wanted(hub)[WEIGHTS])

    @pytest.mark.parametrize("cut", [0, 1, 7, 100, 4096, 65_535, 65_536, 131_073, 199_999, 200_050])
    def test_a_connection_may_be_cut_at_any_byte(self, cut: int, hub: FakeHub, tmp_path: Path) -> None:
        hub.fail(Cut(after_bytes=cut), path=WEIGHTS)
        pulled = pull_tiny(hub, tmp_path)
        assert content_of(pulled.snapshot.root) == wanted(hub)
        assert hub.sent[f"{NAME}/{WEIGHTS}"] == len(wanted(hub)[WEIGHTS])

    def test_bytes_that_are_always_wrong_are_never_believed(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.fail(Flip(at=5000), path=WEIGHTS, times=None)
        with pytest.raises(MalformedAnswerError, match="twice with other bytes"):
            pull_tiny(hub, tmp_path, directory=tmp_path / "m")
        assert not (tmp_path / "m" / WEIGHTS).exists()
        assert not (tmp_path / "m" / LOCK_NAME).exists()

    def test_a_small_file_of_git_with_wrong_bytes_is_not_believed(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.fail(Flip(at=3), path="tokenizer.json", times=None)
        with pytest.raises(MalformedAnswerError, match="twice with other bytes"):
            pull_tiny(hub, tmp_path)

    def test_a_peer_that_gives_nothing_is_given_up_and_what_is_there_stays(
        self, hub: FakeHub, tmp_path: Path
    ) -> None:
        hub.fail(Cut(after_bytes=60_000), path=WEIGHTS)
        gone = hub.fail(Refuse(status=502), path=WEIGHTS, times=None)
        hub.faults.reverse()
        gone.skip = 2
        with pytest.raises(PullError, match="tries in a row brought nothing") as caught:
            pull_tiny(hub, tmp_path, directory=tmp_path / "m", jobs=1)
        assert "goes on from here" in str(caught.value.hint)
        hub.faults.clear()
        pull_tiny(hub, tmp_path, directory=tmp_path / "m")
        assert content_of(tmp_path / "m") == wanted(hub)

    def test_a_redirect_in_a_circle_ends(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.fail(Loop(), path=WEIGHTS, times=None)
        with pytest.raises((PullError, MalformedAnswerError), match=r"circle|tries in a row"):
            pull_tiny(hub, tmp_path)

    def test_a_wait_of_an_hour_is_told_and_not_slept(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.fail(too_many(3600), path=WEIGHTS, times=None)
        with pytest.raises(PullError, match="asks to wait 3,600 s"):
            pull_tiny(hub, tmp_path)

    def test_the_list_is_asked_again_when_the_hub_is_busy(self, hub: FakeHub, tmp_path: Path) -> None:
        busy = hub.fail(too_many(1), path="/api/models/")
        assert pull_tiny(hub, tmp_path).network_bytes > 0
        assert busy.hits == 1

    def test_a_busy_hub_that_asks_for_too_long_a_wait(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.fail(too_many(9999), path="/api/models/", times=None)
        with pytest.raises(RateLimitedError):
            pull_tiny(hub, tmp_path)


class TestRefusals:
    def test_gated_without_and_with_a_token(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.repos[NAME].gated = "manual"
        hub.repos[NAME].granted = frozenset(("hf_good",))
        with pytest.raises(GatedModelError, match="granted by its owner"):
            pull_tiny(hub, tmp_path)
        with pytest.raises(GatedModelError):
            pull_tiny(hub, tmp_path, environ={"HF_TOKEN": "hf_other"})
        pulled = pull_tiny(hub, tmp_path, environ={"HF_TOKEN": "hf_good"})
        assert pulled.snapshot.lock.licence.gate == "manual"

    def test_a_token_never_reaches_the_storage_or_the_disk(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.repos[NAME].token = "hf_topsecret"
        pull_tiny(hub, tmp_path, environ={"HF_TOKEN": "hf_topsecret"})
        assert hub.leaked == []
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert not any(b"hf_topsecret" in path.read_bytes() for path in files)

    def test_an_address_with_a_password_is_locked_without_it(self, hub: FakeHub, tmp_path: Path) -> None:
        address = hub.url.replace("http://", "http://user:pass@")
        pulled = pull_tiny(hub, tmp_path, environ={"HF_ENDPOINT": address})
        assert "pass" not in pulled.snapshot.lock.endpoint

    def test_renamed_missing_and_unknown_revision(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.renamed["acme/old"] = NAME
        with pytest.raises(RenamedModelError, match="now called acme/tiny"):
            pull_tiny(hub, tmp_path, "acme/old")
        with pytest.raises(ModelNotFoundError):
            pull_tiny(hub, tmp_path, "acme/none")
        with pytest.raises(ModelNotFoundError, match="no revision"):
            pull_tiny(hub, tmp_path, f"{NAME}@v9")
        assert not (tmp_path / "hf").exists()

    @pytest.mark.parametrize(
        "name", ["../../etc/passwd", "/etc/cron.d/x", "a/../../b", "C:\\x", ".git/config", "\x1b[2J", "a\nb"]
    )
    def test_hostile_names_stop_the_pull_before_anything_is_written(
        self, name: str, hub: FakeHub, tmp_path: Path
    ) -> None:
        hub.repos[NAME].files[name] = b"evil"
        with pytest.raises(MalformedAnswerError, match="lists a file called"):
            pull_tiny(hub, tmp_path, directory=tmp_path / "m")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["CONFIG.json", "config.json/x.json"])
    def test_names_that_collide_stop_the_pull(self, name: str, hub: FakeHub, tmp_path: Path) -> None:
        hub.repos[NAME].files[name] = b"{}"
        with pytest.raises(MalformedAnswerError, match="keep apart"):
            pull_tiny(hub, tmp_path)

    def test_a_damaged_header_is_found_although_its_hash_is_right(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.repos[NAME].files[WEIGHTS] = b"\xff" * 5000
        with pytest.raises(VerifyError, match="announces a header"):
            pull_tiny(hub, tmp_path, directory=tmp_path / "m")
        assert not (tmp_path / "m" / LOCK_NAME).exists()

    def test_an_index_that_names_a_tensor_that_is_not_there(self, hub: FakeHub, tmp_path: Path) -> None:
        files = hub.repos[NAME].files
        index = json.loads(str(files["model.safetensors.index.json"], "utf-8"))
        index["weight_map"]["ghost"] = WEIGHTS
        files["model.safetensors.index.json"] = json.dumps(index).encode()
        with pytest.raises(VerifyError, match="names the tensor 'ghost'"):
            pull_tiny(hub, tmp_path)


class TestDisk:
    def test_a_directory_of_the_user_is_not_written_over(self, hub: FakeHub, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("mine")
        with pytest.raises(OutputError, match="another file than the repository's"):
            pull_tiny(hub, tmp_path, directory=tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
        assert (tmp_path / "config.json").read_text() == "mine"

    def test_links_at_the_destination_are_not_followed(self, hub: FakeHub, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        directory = tmp_path / "m"
        directory.mkdir()
        (directory / "additional_chat_templates").symlink_to(outside)
        hub.repos[NAME].files["additional_chat_templates/x.jinja"] = b"x"
        with pytest.raises(OutputError, match="is a link"):
            pull_tiny(hub, tmp_path, directory=directory)
        assert list(outside.iterdir()) == list(directory.glob("config.json")) == []
        (directory / "additional_chat_templates").unlink()
        (directory / "config.json").symlink_to(outside / "config.json")
        with pytest.raises(OutputError, match="is a link"):
            pull_tiny(hub, tmp_path, directory=directory)
        assert list(outside.iterdir()) == []

    def test_too_little_room_is_said_before_the_first_byte(
        self, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.statvfs(tmp_path)
        small = os.statvfs_result((*real[:4], 10, *real[5:]))
        monkeypatch.setattr(os, "statvfs", lambda path: small)
        with pytest.raises(OutputError, match="still to come"):
            pull_tiny(hub, tmp_path)
        assert hub.sent[f"{NAME}/{WEIGHTS}"] == 0

    def test_a_file_size_limit_stands_for_a_full_disk_and_the_pull_goes_on_after(
        self, hub: FakeHub, tmp_path: Path
    ) -> None:
        import resource
        import signal

        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, before[1]))
        try:
            with pytest.raises(OutputError, match="too large"):
                pull_tiny(hub, tmp_path, directory=tmp_path / "m", jobs=1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, old)
        pull_tiny(hub, tmp_path, directory=tmp_path / "m")
        assert content_of(tmp_path / "m") == wanted(hub)
        first = f"{NAME}/model-00001-of-00003.safetensors"
        assert hub.sent[first] <= len(wanted(hub)[WEIGHTS]) + 70_000  # at most one piece came twice


class TestTogether:
    def test_several_pulls_at_once_share_the_work(self, hub: FakeHub, tmp_path: Path) -> None:
        errors: list[BaseException] = []

        def work() -> None:
            try:
                pull_tiny(hub, tmp_path, directory=tmp_path / "m")
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert content_of(tmp_path / "m") == wanted(hub)
        for name, data in wanted(hub).items():
            if name.endswith(".safetensors"):
                assert hub.sent[f"{NAME}/{name}"] == len(data)

    def test_a_lock_whose_holder_does_nothing_is_passed_over(
        self, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from filelock import FileLock

        monkeypatch.setattr(run, "STALE_SECONDS", 0.6)
        monkeypatch.setattr(run, "WAIT_SECONDS", 0.1)
        locks = tmp_path / "m" / ".selfhost" / "locks"
        locks.mkdir(parents=True)
        etag = hashlib.sha256(wanted(hub)[WEIGHTS]).hexdigest()
        with FileLock(locks / etag):
            pulled = pull_tiny(hub, tmp_path, directory=tmp_path / "m")
        assert content_of(tmp_path / "m") == wanted(hub)
        assert pulled.seconds >= 0.6

    def test_a_bandwidth_limit_holds_over_all_connections(self, hub: FakeHub, tmp_path: Path) -> None:
        pulled = pull_tiny(hub, tmp_path, limit_rate=600_000)
        assert pulled.seconds >= 0.8  # 600 kB at 600 kB/s, less the first pieces, which come at once


def test_a_part_of_a_model(hub: FakeHub, tmp_path: Path) -> None:
    pulled = pull_tiny(hub, tmp_path, directory=tmp_path / "m", include=("*.json",))
    assert set(content_of(tmp_path / "m")) == {
        "config.json",
        "tokenizer.json",
        "model.safetensors.index.json",
    }
    assert pulled.snapshot.lock.partial
    assert any("--include" in note for note in pulled.notes)


def test_pickles_are_scanned(hub: FakeHub, tmp_path: Path) -> None:
    import pickle

    evil = b"cposix\nsystem\n(S'true'\ntR."
    files: dict[str, Content] = {"pytorch_model.bin": evil}
    hub.repos[NAME] = repo(files)
    with pytest.raises(VerifyError, match="more than rebuild tensors"):
        pull_tiny(hub, tmp_path, directory=tmp_path / "m", allow_pickle=True)
    assert not (tmp_path / "m" / LOCK_NAME).exists()
    hub.repos[NAME] = repo({"pytorch_model.bin": pickle.dumps({"a": 1})})
    pull_tiny(hub, tmp_path, directory=tmp_path / "n", allow_pickle=True)
    assert (tmp_path / "n" / LOCK_NAME).exists()


def test_a_mirror_that_states_no_hashes_is_asked_file_by_file(hub: FakeHub, tmp_path: Path) -> None:
    from tests.fakes.hub.faults import Refuse

    page = {
        "id": NAME, "sha": COMMIT, "gated": False,
        "siblings": [{"rfilename": name} for name in hub.repos[NAME].files],
    }  # fmt: skip
    hub.fail(
        Refuse(status=200, headers={"Content-Type": "application/json"}, body=json.dumps(page).encode()),
        path="/api/models/",
    )
    pulled = pull_tiny(hub, tmp_path)
    assert content_of(pulled.snapshot.root) == wanted(hub)


def test_one_large_single_file(hub: FakeHub, tmp_path: Path) -> None:
    hub.repos[NAME] = repo({"model.safetensors": tensors(3_000_000)})
    for _ in range(6):
        hub.fail(Cut(after_bytes=500_000), path="model.safetensors")
    pulled = pull_tiny(hub, tmp_path)
    assert content_of(pulled.snapshot.root) == wanted(hub)
    assert hub.sent[f"{NAME}/model.safetensors"] == len(wanted(hub)["model.safetensors"])
    assert asked(hub, tmp_path).model == NAME

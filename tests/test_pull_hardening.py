"""What a pull meets at odd hours: hostile locks, odd environments, places that cannot be, two pulls in one place."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from selfhost.cli import app
from selfhost.cli._errors import run
from selfhost.cli._pulling import plan
from selfhost.errors import GatedModelError, MalformedAnswerError, OfflineError, OutputError, VerifyError
from selfhost.hub.remote import connect
from selfhost.pull.claim import claimed
from selfhost.pull.lockfile import read_lock, write_lock
from selfhost.pull.places import Directory
from selfhost.pull.stream import _check_hash
from selfhost.pull.types import LOCK_NAME, LockedFile, RemoteFile
from selfhost.pull.verify import check_tensors
from tests.fakes.hub import COMMIT, OTHER_COMMIT, FakeHub, serve
from tests.fakes.hub.faults import Refuse, too_many
from tests.pulls import NAME, asked, pull_tiny, repo, shards
from tests.snapshots import lock_of


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serve(repos={NAME: repo()}) as running:
        yield running


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("etag", "../../../escaped", "etag is no hash"),
        ("etag", "", "etag is no hash"),
        ("repo", "acme/x; rm -rf ~", "no repository"),
        ("revision", "$(id)", "no commit"),
        ("created", "\x1b[2J", "control characters"),
    ],
)
def test_a_hostile_lock_is_refused_and_writes_nowhere(
    hub: FakeHub, tmp_path: Path, field: str, value: str, said: str
) -> None:
    target = tmp_path / "m"
    pull_tiny(hub, tmp_path, directory=target)
    path = target / LOCK_NAME
    table = json.loads(path.read_text())
    (table["files"][0] if field == "etag" else table)[field] = value
    path.write_text(json.dumps(table))
    with pytest.raises(VerifyError, match=said):
        read_lock(path)
    before = {str(found) for found in tmp_path.rglob("*")}
    with pytest.raises(OfflineError):  # what stands there counts for nothing
        pull_tiny(hub, tmp_path, directory=target, environ={"HF_HUB_OFFLINE": "1"})
    assert {str(found) for found in tmp_path.rglob("*")} == before


def test_a_pipe_or_a_name_too_long_in_place_of_a_lock_is_one_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / LOCK_NAME)
    with pytest.raises(VerifyError, match="no regular file"):
        read_lock(tmp_path / LOCK_NAME)
    with pytest.raises(VerifyError, match="too long"):
        read_lock(tmp_path / ("a" * 300) / LOCK_NAME)


def test_places_that_cannot_be_are_one_error(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file" / "below", tmp_path / ("a" * 300), tmp_path / ("b/" * 3000)):
        with pytest.raises(OutputError, match="Cannot write"):
            pull_tiny(hub, tmp_path, directory=place)
        planned = plan(asked(hub, tmp_path, directory=place))
        assert planned.problem is None or isinstance(planned.problem, OutputError)
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "m" / ".selfhost").mkdir(parents=True)
    os.mkfifo(tmp_path / "m" / ".selfhost" / "pulling")
    with pytest.raises(OutputError, match="Cannot write"):
        pull_tiny(hub, tmp_path, directory=tmp_path / "m")


def test_a_user_without_a_home_is_told(hub: FakeHub, tmp_path: Path) -> None:
    for home in ("~nobody-of-that-name/hf", "~nobody-of-that-name"):
        with pytest.raises(OutputError, match="has no place"):
            pull_tiny(hub, tmp_path, environ={"HF_HUB_CACHE": home})


def test_a_lack_of_space_leaves_the_lock_of_what_is_there(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "m"
    pull_tiny(hub, tmp_path, directory=target)
    hub.repos[NAME].commits = {OTHER_COMMIT: {**hub.repos[NAME].files, **shards(3, 300_000)}}
    monkeypatch.setattr("selfhost.pull.run.free_bytes", lambda path: 1000)
    with pytest.raises(OutputError, match="free"):
        pull_tiny(hub, tmp_path, f"{NAME}@{OTHER_COMMIT}", directory=target)
    assert read_lock(target).revision == COMMIT


def test_two_revisions_do_not_meet_in_one_directory(hub: FakeHub, tmp_path: Path) -> None:
    hub.repos[NAME].commits = {OTHER_COMMIT: {**hub.repos[NAME].files, "config.json": b"{}"}}
    target = tmp_path / "m"
    with claimed(Directory(root=target), f"{NAME}@{COMMIT}") as alone:
        assert alone()
    with claimed(Directory(root=target), f"{NAME}@{COMMIT}"):
        with pytest.raises(OutputError, match=f"Another pull is bringing {NAME}@{COMMIT}"):
            pull_tiny(hub, tmp_path, f"{NAME}@{OTHER_COMMIT}", directory=target)
        assert [path.name for path in target.iterdir()] == [".selfhost"]
        (target / ".selfhost" / "parts").mkdir()
        of_the_other = target / ".selfhost" / "parts" / ("0" * 64)
        of_the_other.touch()
        pull_tiny(hub, tmp_path, directory=target)  # of the same revision they share the work
        assert of_the_other.exists()
    pull_tiny(hub, tmp_path, f"{NAME}@{OTHER_COMMIT}", directory=target)
    assert read_lock(target).revision == OTHER_COMMIT
    assert not of_the_other.exists()


def test_many_claims_at_once_are_of_one_revision(tmp_path: Path) -> None:
    place, held, most = Directory(root=tmp_path), set[str](), 0
    guard = threading.Lock()

    def work(model: str) -> None:
        nonlocal most
        for _ in range(60):
            try:
                with claimed(place, model):
                    with guard:
                        held.add(model)
                        most = max(most, len(held))
                    time.sleep(0.0005)
                    with guard:
                        held.discard(model)
            except OutputError:
                continue

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


@pytest.mark.parametrize("address", ["http://[", "http://127.0.0.1:99999", "http://", "http:///x", "ftp://x"])
def test_an_endpoint_that_cannot_be_is_one_error(address: str) -> None:
    with pytest.raises(OfflineError, match="no web address"):
        connect({"HF_ENDPOINT": address}, deadline=0)


def test_a_stored_token_that_cannot_be_read_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    stored = tmp_path / "token"
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(stored))
    for data in (b"hf_\xff\xfe", "hf_ü".encode()):
        stored.write_bytes(data)
        with pytest.raises(GatedModelError, match="stored on this machine"):
            connect({}, deadline=0)
    stored.unlink()
    stored.mkdir()
    with pytest.raises(GatedModelError, match="Is a directory"):
        connect({}, deadline=0)


@pytest.mark.parametrize("odd", [[], {}, 7, None])
def test_an_index_that_names_no_file_is_one_error(tmp_path: Path, odd: object) -> None:
    index = json.dumps({"weight_map": {"t0": odd}}).encode()
    with (
        serve(repos={NAME: repo({**shards(1, 1000), "model.safetensors.index.json": index})}) as hub,
        pytest.raises(MalformedAnswerError, match="no shard"),
    ):
        pull_tiny(hub, tmp_path, directory=tmp_path / "m")
    (tmp_path / "model.safetensors.index.json").write_bytes(index)
    faults = check_tensors(tmp_path, lock_of({"model.safetensors.index.json": index}))
    assert [fault.path for fault in faults] == ["model.safetensors.index.json"]


def test_a_mirror_that_states_nothing_is_asked_file_by_file(hub: FakeHub, tmp_path: Path) -> None:
    """One file has moved, and for another it is busy."""
    facts = {"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": name} for name in hub.repos[NAME].files]}
    hub.answers.append((200, {"Content-Type": "application/json"}, json.dumps(facts).encode()))
    moved = f"/{NAME}/resolve/{COMMIT}/config.json?moved"
    hub.fail(Refuse(status=307, headers={"Location": moved}), path="config.json", method="HEAD")
    busy = hub.fail(too_many(1), path="tokenizer.json", method="HEAD")
    pulled = pull_tiny(hub, tmp_path, directory=tmp_path / "m")
    assert busy.hits == 1
    assert any("?moved" in seen.path for seen in hub.seen)
    assert len(pulled.snapshot.lock.files) == 7


def test_a_hash_in_capitals_is_the_same_hash() -> None:
    file = RemoteFile(path="w", size_bytes=1, git_oid="", sha256="ab" * 32)
    for sent, right in ((f'W/"{"AB" * 32}"', True), (f'"{"ab" * 32}"', True), (f'"{"AC" * 32}"', False)):
        answer = SimpleNamespace(history=(), headers={"X-Linked-Etag": sent})
        with nullcontext() if right else pytest.raises(MalformedAnswerError, match="another content"):
            _check_hash(answer, file, "w")


def test_a_terminal_that_hangs_up_ends_no_pull(hub: FakeHub, tmp_path: Path) -> None:
    """Every write to it fails; without a terminal of its own the progress would be quiet."""
    hub.fail(too_many(1), path="tokenizer.json", method="GET")
    reader, writer = os.openpty()
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "SELFHOST_"))}
    with open(writer, "wb", buffering=0) as terminal:
        os.close(reader)
        ran = subprocess.run(
            [sys.executable, "-m", "selfhost", "pull", NAME, "--dir", str(tmp_path / "m")],
            env={**clean, **hub.environ(HF_HOME=str(tmp_path / "hf"), NO_PROXY="127.0.0.1")},
            stdout=subprocess.PIPE, stderr=terminal, timeout=50, check=False,
        )  # fmt: skip
    assert (ran.returncode, b"all verified" in ran.stdout) == (0, True)
    assert read_lock(tmp_path / "m").revision == COMMIT


def test_a_locale_without_the_letters_of_a_name_is_told_before_the_first_byte(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[NAME].files["tokenizer_ü.json"] = b"{}"

    def encode(name: str) -> bytes:
        return name.encode("ascii")

    monkeypatch.setattr("os.fsencode", encode)
    with pytest.raises(OutputError, match="letters that file names here cannot hold"):
        pull_tiny(hub, tmp_path, directory=tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_script_s_empty_variable_is_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for option in ("--dir", "--ready-file"):
        assert run(app, ["pull", NAME, option, ""]) == 2
    assert run(app, ["pull", NAME, "--serve", ":99999"]) == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_a_verify_whose_processes_end_says_so(tmp_path: Path, sign: signal.Signals) -> None:
    """Ctrl-C reaches all of them, the kernel's want of memory a single one."""
    size = 64 << 30  # of holes; hashing it takes longer than the test
    lock = lock_of({})
    files = tuple(
        LockedFile(path=f"{name}.bin", size_bytes=size, sha256="0" * 64, etag="0" * 64) for name in "ab"
    )
    for file in files:
        with (tmp_path / file.path).open("wb") as stream:
            stream.truncate(size)
    write_lock(replace(lock, files=files), tmp_path / LOCK_NAME)
    words = [sys.executable, "-m", "selfhost", "verify", str(tmp_path), "--processes", "2"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as ran:
        children = Path(f"/proc/{ran.pid}/task/{ran.pid}/children")
        until = time.monotonic() + 20
        while len(children.read_text().split()) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.5)
        if sign == signal.SIGINT:
            os.killpg(ran.pid, sign)
        else:
            os.kill(int(children.read_text().split()[0]), sign)
        _, told = ran.communicate(timeout=30)
    assert "Traceback" not in told
    if sign == signal.SIGINT:
        assert (ran.returncode, told.endswith("Interrupted.\n")) == (130, True)
    else:
        assert (ran.returncode, "was killed" in told) == (1, True)

"""Ways to the Hub: Xet storage, proxies, a company's certificates, and a kill at any moment."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from selfhost.pull.lockfile import read_lock
from selfhost.pull.verify import verify
from tests.fakes.hub import FakeHub, Repo, put_in_xet, serve
from tests.fakes.hub.faults import Refuse, Throttle
from tests.fakes.proxy import serve_proxy
from tests.fakes.tls import make_authority
from tests.pulls import NAME, content_of, pull_tiny, repo, shards, tensors

COMMAND = [sys.executable, "-m", "selfhost", "pull", NAME]


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is reached without the machine's proxy."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def large() -> Iterator[FakeHub]:
    with serve(repos={NAME: repo(shards(4, 4_000_000))}) as running:
        yield running


def environment(hub: FakeHub, home: Path, **more: str) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    return {**clean, **hub.environ(HF_HOME=str(home)), "HF_HUB_DISABLE_TELEMETRY": "1", **more}


def run(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words], env=env, capture_output=True, text=True, timeout=50, check=False
    )


def safetensors_of(repository: Repo) -> dict[str, bytes]:
    return {
        name: data
        for name, data in repository.files.items()
        if name.endswith(".safetensors") and isinstance(data, bytes)
    }


class TestKilled:
    def test_whatever_the_moment_the_result_is_whole_and_hardly_anything_comes_twice(
        self, large: FakeHub, tmp_path: Path
    ) -> None:
        large.fail(Throttle(bytes_per_second=6_000_000), path=".safetensors", times=None)
        env = environment(large, tmp_path / "hf", NO_PROXY="127.0.0.1")
        target = tmp_path / "m"
        chance = random.Random(7)
        kills = 0
        for _ in range(6):
            process = subprocess.Popen(
                [*COMMAND, "--dir", str(target)],
                env=env,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                process.wait(chance.uniform(0.5, 1.2))
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
                if (target / "selfhost.lock.json").exists():  # killed while it was leaving
                    assert verify(target, read_lock(target)) == ()
        large.faults.clear()
        ran = run(env, "--dir", str(target))
        assert (ran.returncode, kills >= 2) == (0, True), ran.stderr
        weights = safetensors_of(large.repos[NAME])
        assert {name: (target / name).read_bytes() for name in weights} == weights
        assert verify(target, read_lock(target)) == ()
        large.settle(1.0)
        sent = sum(size for name, size in large.sent.items() if name.endswith(".safetensors"))
        assert sent <= 1.05 * sum(map(len, weights.values()))

    def test_interrupted_by_the_user(self, large: FakeHub, tmp_path: Path) -> None:
        large.fail(Throttle(bytes_per_second=1_000_000), path=".safetensors", times=None)
        env = environment(large, tmp_path / "hf", NO_PROXY="127.0.0.1")
        process = subprocess.Popen(
            [*COMMAND, "--dir", str(tmp_path / "m")],
            env=env,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2.0)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        assert process.returncode == 130
        assert out == ""
        assert "Traceback" not in err
        assert "Interrupted" in err


class TestTogether:
    def test_several_processes_share_the_work(self, large: FakeHub, tmp_path: Path) -> None:
        large.fail(Throttle(bytes_per_second=8_000_000), path=".safetensors", times=None)
        env = environment(large, tmp_path / "hf", NO_PROXY="127.0.0.1")
        processes = [
            subprocess.Popen(
                [*COMMAND, "--dir", str(tmp_path / "m"), "--jobs", "2"],
                env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )
            for _ in range(3)
        ]  # fmt: skip
        for process in processes:
            _, err = process.communicate(timeout=50)
            assert process.returncode == 0, err
        weights = safetensors_of(large.repos[NAME])
        assert {name: (tmp_path / "m" / name).read_bytes() for name in weights} == weights
        assert {name: large.sent[f"{NAME}/{name}"] for name in weights} == {
            name: len(data) for name, data in weights.items()
        }


class TestTerminal:
    def test_one_living_line_on_a_terminal(self, large: FakeHub, tmp_path: Path) -> None:
        import pty

        large.fail(Throttle(bytes_per_second=4_000_000), path=".safetensors", times=None)
        leader, follower = pty.openpty()
        env = environment(large, tmp_path / "hf", NO_PROXY="127.0.0.1", TERM="xterm", COLUMNS="80")
        process = subprocess.Popen(
            [*COMMAND, "--dir", str(tmp_path / "m")],
            env=env,
            stdout=subprocess.PIPE,
            stderr=follower,
            text=True,
        )
        os.close(follower)
        out, _ = process.communicate(timeout=50)
        seen = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while piece := os.read(leader, 65536):
                seen += piece
        os.close(leader)
        lines = seen.decode().split("\r")
        told = [line for line in lines if "MiB/s" in line and "left" in line]
        assert process.returncode == 0
        assert told
        assert all(len(line.replace("\x1b[2K", "")) <= 80 for line in lines)
        assert "all verified" in out


class TestXet:
    @pytest.fixture
    def stored(self, tmp_path: Path) -> Iterator[FakeHub]:
        pytest.importorskip("hf_xet")
        repository = repo({"model.safetensors": tensors(40_000_000)})
        with serve(repos={NAME: repository}) as running:
            put_in_xet(repository, tmp_path / "xet")
            yield running

    def test_large_files_come_out_of_xet_storage(self, stored: FakeHub, tmp_path: Path) -> None:
        pulled = pull_tiny(stored, tmp_path)
        weights = safetensors_of(stored.repos[NAME])
        assert (pulled.snapshot.root / "model.safetensors").read_bytes() == weights["model.safetensors"]
        assert stored.sent[f"{NAME}/model.safetensors"] == 0
        assert stored.asked(part="xet-read-token")

    def test_a_part_is_continued_out_of_xet_storage(self, stored: FakeHub, tmp_path: Path) -> None:
        data = safetensors_of(stored.repos[NAME])["model.safetensors"]
        import hashlib

        etag = hashlib.sha256(data).hexdigest()
        parts = tmp_path / "m" / ".selfhost" / "parts"
        parts.mkdir(parents=True)
        (parts / etag).write_bytes(data[:12_345_678])
        pulled = pull_tiny(stored, tmp_path, directory=tmp_path / "m")
        assert (tmp_path / "m" / "model.safetensors").read_bytes() == data
        assert pulled.network_bytes < len(data) - 12_345_678 + 100_000

    def test_a_storage_that_fails_is_left_for_plain_http(self, stored: FakeHub, tmp_path: Path) -> None:
        repository = stored.repos[NAME]
        repository.xet_storage = f"local://{tmp_path / 'nothing'}"
        pulled = pull_tiny(stored, tmp_path)
        weights = safetensors_of(repository)
        assert (pulled.snapshot.root / "model.safetensors").read_bytes() == weights["model.safetensors"]
        assert stored.sent[f"{NAME}/model.safetensors"] == len(weights["model.safetensors"])

    def test_a_token_that_the_hub_does_not_give_is_done_without(
        self, stored: FakeHub, tmp_path: Path
    ) -> None:
        stored.fail(Refuse(status=403), path="xet-read-token", times=None)
        pulled = pull_tiny(stored, tmp_path)
        weights = safetensors_of(stored.repos[NAME])
        assert (pulled.snapshot.root / "model.safetensors").read_bytes() == weights["model.safetensors"]

    def test_nothing_is_written_but_the_destination(self, stored: FakeHub, tmp_path: Path) -> None:
        home = tmp_path / "elsewhere"
        ran = run(
            environment(stored, home, NO_PROXY="127.0.0.1", HOME=str(home)), "--dir", str(tmp_path / "m")
        )
        assert ran.returncode == 0, ran.stderr
        assert stored.asked(part="xet-read-token")
        assert not home.exists()

    def test_it_can_be_switched_off(
        self, stored: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        pull_tiny(stored, tmp_path)
        assert not stored.asked(part="xet-read-token")


class TestNetwork:
    def test_through_a_proxy(self, large: FakeHub, tmp_path: Path) -> None:
        with serve_proxy() as proxy:
            env = environment(large, tmp_path / "hf", **proxy.environ())
            env.pop("NO_PROXY", None)
            env.pop("no_proxy", None)
            ran = run(env, "--dir", str(tmp_path / "m"))
        assert ran.returncode == 0, ran.stderr
        weights = safetensors_of(large.repos[NAME])
        assert {name: (tmp_path / "m" / name).read_bytes() for name in weights} == weights
        assert any(NAME in target for _, target in proxy.asked)

    @pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
    def test_with_the_certificate_of_a_company(self, name: str, tmp_path: Path) -> None:
        authority = make_authority(tmp_path)
        with serve(repos={NAME: repo()}, tls=authority.server) as hub:
            env = environment(hub, tmp_path / "hf", NO_PROXY="127.0.0.1")
            for other in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
                env.pop(other, None)
            refused = run(env, "--dir", str(tmp_path / "no"))
            assert refused.returncode == 1
            assert "certificate" in refused.stderr
            assert "SSL_CERT_FILE" in refused.stderr
            ran = run({**env, name: str(authority.certificate)}, "--dir", str(tmp_path / "m"))
        assert ran.returncode == 0, ran.stderr
        assert content_of(tmp_path / "m")

    def test_hf_download_finds_what_was_pulled(self, large: FakeHub, tmp_path: Path) -> None:
        env = environment(large, tmp_path / "hf", NO_PROXY="127.0.0.1")
        assert run(env).returncode == 0
        before = sum(large.sent.values())
        hf = [str(Path(sys.executable).with_name("hf")), "download", NAME, "--include", "*.safetensors"]
        ran = subprocess.run(hf, env=env, capture_output=True, text=True, timeout=50, check=False)
        assert ran.returncode == 0, ran.stderr
        assert sum(large.sent.values()) - before < 1000
        env["HF_HUB_OFFLINE"] = "1"
        ran = subprocess.run(hf, env=env, capture_output=True, text=True, timeout=50, check=False)
        assert ran.returncode == 0, ran.stderr

"""The unmodified huggingface_hub and `hf download` against the Hub on loopback, with and without a network after."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.hub import (
    COMMIT,
    OTHER_COMMIT,
    Cut,
    FakeHub,
    IgnoreRange,
    Length,
    Loop,
    Random,
    Refuse,
    Repo,
    expired,
    git_oid_of,
    put_in_xet,
    read,
    serve,
    sha256_of,
    too_many,
)
from tests.fakes.proxy import serve_proxy
from tests.fakes.tls import AVAILABLE, make_authority

hub_library = pytest.importorskip("huggingface_hub")
HfApi = hub_library.HfApi

NAME = "acme/tiny"
WEIGHTS = Random(size=20_000_000, seed=5)
CONFIG = b'{"model_type": "llama"}'
FILES: dict[str, Any] = {
    "config.json": CONFIG,
    "README.md": b"# Tiny\n" * 1000,
    "model.safetensors": WEIGHTS,
    "vocab/words.txt": b"a\nb\n",
}
HF = Path(sys.executable).with_name("hf")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve(repos={NAME: Repo(files=dict(FILES))}) as running:
        yield running


def environ(hub: FakeHub, home: Path, **more: str) -> dict[str, str]:
    """A bare environment, since the library reads its own when it is imported."""
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
    return {
        "PATH": os.defpath,
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        **quiet,
        **hub.environ(),
        **more,
    }


def run(*words: str | Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words], env=env, capture_output=True, text=True, check=False, timeout=50
    )


def assert_complete(folder: Path, *, files: dict[str, Any] | None = None) -> None:
    """The folder holds the repository's files and nothing else that is visible."""
    wanted = FILES if files is None else files
    found = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file() and not path.relative_to(folder).parts[0].startswith(".")
    }
    assert set(found) == set(wanted)
    for name, path in found.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256_of(wanted[name]), name


class TestApi:
    def test_model_info(self, hub: FakeHub) -> None:
        hub.repos[NAME].card = {"license": "apache-2.0"}
        hub.repos[NAME].gated = "manual"
        info = HfApi(endpoint=hub.url).model_info(NAME, files_metadata=True)
        assert (info.id, info.sha, info.gated, info.private) == (NAME, COMMIT, "manual", False)
        assert info.card_data.license == "apache-2.0"
        assert "license:apache-2.0" in info.tags
        siblings = {sibling.rfilename: sibling for sibling in info.siblings}
        assert siblings["config.json"].blob_id == git_oid_of(CONFIG)
        assert siblings["model.safetensors"].lfs.sha256 == sha256_of(WEIGHTS)
        assert HfApi(endpoint=hub.url).model_info(NAME, expand=["gated"]).gated == "manual"

    @pytest.mark.parametrize("expand", [False, True])
    def test_list_repo_tree_over_pages(self, hub: FakeHub, expand: bool) -> None:
        hub.page_size = 2
        rows = list(HfApi(endpoint=hub.url).list_repo_tree(NAME, recursive=True, expand=expand))
        files = {row.path: row for row in rows if hasattr(row, "blob_id")}
        assert set(files) == set(FILES)
        assert (files["model.safetensors"].lfs.sha256, files["model.safetensors"].size) == (
            sha256_of(WEIGHTS), WEIGHTS.size,
        )  # fmt: skip
        assert len(hub.requests) == 3
        assert [row.path for row in HfApi(endpoint=hub.url).list_repo_tree(NAME, "vocab")] == [
            "vocab/words.txt"
        ]

    def test_list_models_finds_quantized_twins(self, hub: FakeHub) -> None:
        for number in range(5):
            card: dict[str, object] = {"base_model": NAME, "base_model_relation": "quantized"}
            facts: dict[str, object] = {"downloads": number}
            hub.repos[f"q/tiny-{number}"] = Repo(files={}, card=card, facts=facts)
        hub.page_size = 2
        found = list(
            HfApi(endpoint=hub.url).list_models(filter=f"base_model:quantized:{NAME}", sort="downloads")
        )
        assert [model.id for model in found] == [f"q/tiny-{number}" for number in (4, 3, 2, 1, 0)]
        some = HfApi(endpoint=hub.url).list_models(
            search="tiny", author="q", limit=3, expand=["gated", "cardData"]
        )
        assert [model.card_data.base_model for model in some] == [NAME] * 3

    def test_refs_paths_and_tokens(self, hub: FakeHub) -> None:
        api = HfApi(endpoint=hub.url)
        assert api.list_repo_refs(NAME).branches[0].target_commit == COMMIT
        assert [info.path for info in api.get_paths_info(NAME, ["config.json", "none"])] == ["config.json"]
        assert api.file_exists(NAME, "config.json")
        assert not api.file_exists(NAME, "none")
        assert api.whoami(token="hf_any")["name"] == "tester"
        hub.accepted_token = "hf_good"
        with pytest.raises(hub_library.errors.HfHubHTTPError):
            api.whoami(token="hf_any")


class TestRefusals:
    """Each refusal gives the library's own class."""

    def fetch(self, hub: FakeHub, tmp_path: Path, **more: Any) -> Any:
        more = {"repo_id": NAME, "filename": "config.json", **more}
        return hub_library.hf_hub_download(endpoint=hub.url, cache_dir=tmp_path, **more)

    def test_missing(self, hub: FakeHub, tmp_path: Path) -> None:
        errors = hub_library.errors
        with pytest.raises(errors.RepositoryNotFoundError):
            self.fetch(hub, tmp_path, repo_id="acme/none")
        with pytest.raises(errors.RevisionNotFoundError):
            self.fetch(hub, tmp_path, revision="none")
        with pytest.raises(errors.RemoteEntryNotFoundError):
            self.fetch(hub, tmp_path, filename="none.json")
        assert (tmp_path / "models--acme--tiny" / ".no_exist" / COMMIT / "none.json").exists()
        for path, kind in (
            ("acme/none", errors.RepositoryNotFoundError),
            (NAME, errors.RevisionNotFoundError),
        ):
            with pytest.raises(kind):
                HfApi(endpoint=hub.url).model_info(path, revision="none")

    def test_gated_private_disabled_and_a_bad_token(self, hub: FakeHub, tmp_path: Path) -> None:
        errors, repo = hub_library.errors, hub.repos[NAME]
        repo.gated, repo.granted = True, frozenset({"hf_good"})
        for token in (False, "hf_other"):
            with pytest.raises(errors.GatedRepoError):
                self.fetch(hub, tmp_path, token=token)
        path = self.fetch(hub, tmp_path, filename="model.safetensors", token="hf_good")
        assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == sha256_of(WEIGHTS)
        assert hub.leaked == []
        repo.gated, repo.token = False, "hf_owner"
        with pytest.raises(errors.RepositoryNotFoundError):
            self.fetch(hub, tmp_path, token=False)
        assert Path(self.fetch(hub, tmp_path, token="hf_owner")).read_bytes() == CONFIG
        repo.disabled = True
        with pytest.raises(errors.DisabledRepoError):
            HfApi(endpoint=hub.url, token="hf_owner").model_info(NAME)
        hub.accepted_token = "hf_owner"
        with pytest.raises(errors.HfHubHTTPError, match="Invalid credentials"):
            HfApi(endpoint=hub.url, token="hf_bad").model_info(NAME)

    def test_rate_limits_and_errors(self, hub: FakeHub, tmp_path: Path) -> None:
        errors = hub_library.errors
        hub.fail(too_many(9), path="/api/")
        with pytest.raises(errors.HfHubHTTPError, match="Retry after 9 seconds"):
            HfApi(endpoint=hub.url).model_info(NAME)
        hub.fail(Refuse(status=500), path="/api/")
        with pytest.raises(errors.HfHubHTTPError, match="500"):
            HfApi(endpoint=hub.url).model_info(NAME)
        hub.fail(too_many(0), path="config.json", method="GET")
        assert Path(self.fetch(hub, tmp_path)).read_bytes() == CONFIG
        hub.fail(Loop(), path="vocab", times=None, method="GET")
        with pytest.raises(Exception, match="redirect") as caught:
            self.fetch(hub, tmp_path, filename="vocab/words.txt")
        assert type(caught.value).__name__ == "TooManyRedirects"

    def test_renamed(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.renamed["acme/old"] = NAME
        assert HfApi(endpoint=hub.url).model_info("acme/old").id == NAME
        path = self.fetch(hub, tmp_path, repo_id="acme/old", filename="model.safetensors")
        assert Path(path).stat().st_size == WEIGHTS.size

    def test_hostile_names_are_the_clients_to_refuse(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.repos[NAME].files = {"../../escaped.txt": b"out"}
        with pytest.raises(ValueError, match=r"\.\."):
            hub_library.snapshot_download(NAME, endpoint=hub.url, cache_dir=tmp_path / "cache")
        assert not list(tmp_path.rglob("escaped.txt"))


class TestFaults:
    def test_a_download_resumes_where_the_connection_was_cut(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.fail(Cut(after_bytes=12_345_678), path="model.safetensors", on="storage")
        path = hub_library.hf_hub_download(NAME, "model.safetensors", endpoint=hub.url, cache_dir=tmp_path)
        assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == sha256_of(WEIGHTS)
        # The library keeps whole pieces of 10 MiB alone (constants.DOWNLOAD_CHUNK_SIZE of 2.4).
        assert [seen.range for seen in hub.asked(origin="storage")] == [None, f"bytes={10 << 20}-"]
        assert hub.sent[f"{NAME}/model.safetensors"] == WEIGHTS.size + 12_345_678 - (10 << 20)

    def test_a_server_that_ignores_the_range_sends_all_again(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.fail(Cut(after_bytes=12_000_000), on="storage")
        hub.fail(IgnoreRange(), on="storage", skip=1)
        path = hub_library.hf_hub_download(NAME, "model.safetensors", endpoint=hub.url, cache_dir=tmp_path)
        assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == sha256_of(WEIGHTS)
        assert hub.sent[f"{NAME}/model.safetensors"] == WEIGHTS.size + 12_000_000

    def test_expired_links_and_wrong_lengths_are_errors(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.fail(expired(), on="storage")
        with pytest.raises(hub_library.errors.HfHubHTTPError, match="403"):
            hub_library.hf_hub_download(NAME, "model.safetensors", endpoint=hub.url, cache_dir=tmp_path)
        hub.fail(Length(off=-3), path="config.json", times=None)
        with pytest.raises(OSError, match="Consistency check failed"):
            hub_library.hf_hub_download(NAME, "config.json", endpoint=hub.url, cache_dir=tmp_path)


class TestSnapshot:
    @pytest.mark.parametrize("variant", ["plain", "gzip", "resolve_cache"])
    def test_the_cache_is_complete_and_found_without_a_network(
        self, hub: FakeHub, tmp_path: Path, variant: str
    ) -> None:
        hub.gzip, hub.resolve_cache = variant == "gzip", variant == "resolve_cache"
        folder = hub_library.snapshot_download(NAME, endpoint=hub.url, cache_dir=tmp_path / "hf" / "hub")
        assert_complete(Path(folder))
        checked = HfApi(endpoint=hub.url).verify_repo_checksums(NAME, cache_dir=tmp_path / "hf" / "hub")
        assert (checked.checked_count, checked.mismatches, checked.missing_paths) == (len(FILES), [], [])
        blobs = {path.name for path in (tmp_path / "hf" / "hub" / "models--acme--tiny" / "blobs").iterdir()}
        assert {sha256_of(WEIGHTS), git_oid_of(CONFIG)} <= blobs
        if variant != "plain":
            return
        asked = len(hub.seen)
        code = f"import huggingface_hub as h; print(h.snapshot_download({NAME!r})); h.model_info({NAME!r})"
        done = run(sys.executable, "-c", code, env=environ(hub, tmp_path, HF_HUB_OFFLINE="1"))
        assert done.stdout.strip() == folder
        assert "OfflineModeIsEnabled" in done.stderr
        assert len(hub.seen) == asked

    def test_another_revision_beside_it(self, hub: FakeHub, tmp_path: Path) -> None:
        repo = hub.repos[NAME]
        repo.revisions["refs/pr/1"] = OTHER_COMMIT
        repo.commits[OTHER_COMMIT] = {"config.json": b"{}"}
        folder = hub_library.snapshot_download(
            NAME, revision="refs/pr/1", endpoint=hub.url, cache_dir=tmp_path
        )
        assert_complete(Path(folder), files=repo.commits[OTHER_COMMIT])


class TestCommandLine:
    def test_hf_download_to_the_cache_and_again_offline(self, hub: FakeHub, tmp_path: Path) -> None:
        env = environ(hub, tmp_path)
        done = run(HF, "download", NAME, "--json", env=env)
        assert done.returncode == 0, done.stderr
        folder = Path(json.loads(done.stdout)["path"])
        assert folder == tmp_path / "hf" / "hub" / "models--acme--tiny" / "snapshots" / COMMIT
        assert_complete(folder)
        assert sum(hub.sent.values()) == sum(len(read(data, 0, 1 << 30)) for data in FILES.values())
        asked = len(hub.seen)
        offline = run(HF, "download", NAME, "--json", env={**env, "HF_HUB_OFFLINE": "1"})
        assert json.loads(offline.stdout)["path"] == str(folder)
        assert len(hub.seen) == asked

    def test_hf_download_to_a_directory_with_a_choice_of_files(self, hub: FakeHub, tmp_path: Path) -> None:
        words = ("download", NAME, "--local-dir", tmp_path / "out", "--exclude", "*.md", "--revision", COMMIT)
        done = run(HF, *words, env=environ(hub, tmp_path))
        assert done.returncode == 0, done.stderr
        assert_complete(tmp_path / "out", files={key: FILES[key] for key in FILES if key != "README.md"})

    def test_hf_download_says_what_is_missing(self, hub: FakeHub, tmp_path: Path) -> None:
        done = run(HF, "download", "acme/none", env=environ(hub, tmp_path))
        assert done.returncode == 1
        assert "not found" in (done.stdout + done.stderr).lower()


class TestXet:
    @pytest.mark.parametrize("enabled", [True, False])
    def test_weights_come_through_xet_unless_it_is_off(
        self, hub: FakeHub, tmp_path: Path, enabled: bool
    ) -> None:
        pytest.importorskip("hf_xet")
        put_in_xet(hub.repos[NAME], tmp_path / "storage")
        env = environ(hub, tmp_path, **({} if enabled else {"HF_HUB_DISABLE_XET": "1"}))
        code = f"import huggingface_hub as h; print(h.hf_hub_download({NAME!r}, 'model.safetensors'))"
        done = run(sys.executable, "-c", code, env=env)
        assert done.returncode == 0, done.stderr
        found = Path(done.stdout.strip())
        assert hashlib.sha256(found.read_bytes()).hexdigest() == sha256_of(WEIGHTS)
        assert bool(hub.asked(part="xet-read-token")) is enabled
        assert bool(hub.asked(origin="storage", method="GET")) is not enabled

    def test_hf_download_takes_the_hashes_from_the_tree(self, hub: FakeHub, tmp_path: Path) -> None:
        pytest.importorskip("hf_xet")
        put_in_xet(hub.repos[NAME], tmp_path / "storage")
        done = run(HF, "download", NAME, "--local-dir", tmp_path / "out", env=environ(hub, tmp_path))
        assert done.returncode == 0, done.stderr
        assert_complete(tmp_path / "out")
        assert not hub.asked(part="resolve/" + COMMIT + "/model.safetensors")


class TestTheWay:
    @pytest.mark.skipif(not AVAILABLE, reason="no openssl command")
    def test_an_authority_of_ones_own_and_a_proxy(self, tmp_path: Path) -> None:
        authority = make_authority(tmp_path)
        repos = {NAME: Repo(files=dict(FILES))}
        with serve(repos=repos, tls=authority.server) as hub, serve_proxy(credentials="ann:secret") as proxy:
            env = environ(hub, tmp_path, SSL_CERT_FILE=str(authority.certificate)) | proxy.environ()
            done = run(HF, "download", NAME, "--local-dir", tmp_path / "out", env=env)
            assert done.returncode == 0, done.stderr
            assert_complete(tmp_path / "out")
            assert {method for method, _ in proxy.asked} == {"CONNECT"}
            assert proxy.passed_bytes > WEIGHTS.size
            stranger = environ(hub, tmp_path)
            code = f"import huggingface_hub as h; h.model_info({NAME!r})"
            assert "CERTIFICATE_VERIFY_FAILED" in run(sys.executable, "-c", code, env=stranger).stderr

    def test_plain_http_through_a_proxy_that_asks_for_a_password(self, hub: FakeHub, tmp_path: Path) -> None:
        with serve_proxy(credentials="ann:secret") as proxy:
            env = environ(hub, tmp_path) | proxy.environ()
            code = f"import huggingface_hub as h; print(h.hf_hub_download({NAME!r}, 'model.safetensors'))"
            done = run(sys.executable, "-c", code, env=env)
            assert Path(done.stdout.strip()).stat().st_size == WEIGHTS.size, done.stderr
            assert [method for method, _ in proxy.asked] == ["HEAD", "GET"]
            bare = {**env, "HTTP_PROXY": proxy.url.replace("ann:secret@", "")}
            code = f"import huggingface_hub as h; h.model_info({NAME!r})"
            assert "407" in run(sys.executable, "-c", code, env=bare).stderr

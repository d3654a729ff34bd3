"""The Hub on loopback: contents, API, files, refusals and hostile names, by plain requests."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from tests.fakes.hub import (
    COMMIT,
    OTHER_COMMIT,
    FakeHub,
    Random,
    Repo,
    Symlink,
    git_oid_of,
    read,
    serve,
    sha256_of,
    size_of,
)
from tests.fakes.plain import ask

NAME = "acme/tiny"
WEIGHTS = Random(size=3_000_000, seed=7)
CONFIG = b'{"model_type": "llama"}'
FILES: dict[str, Any] = {
    "config.json": CONFIG,
    "model.safetensors": WEIGHTS,
    "vocab/en/words.txt": b"a\nb\n",
    "vocab/link": Symlink(target="../config.json"),
}
LINK = f"/{NAME}/resolve/main/model.safetensors"
SMALL = f"/{NAME}/resolve/main/config.json"


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serve(repos={NAME: Repo(files=dict(FILES))}) as running:
        yield running


def stored(hub: FakeHub) -> str:
    """A link into the storage."""
    return ask(hub.url + LINK, "HEAD").headers["Location"]


class TestContent:
    def test_hashes_are_those_of_git_and_lfs(self, tmp_path: Path) -> None:
        path = tmp_path / "model.safetensors"
        path.write_bytes(read(WEIGHTS, 0, WEIGHTS.size))
        git = ["git", "-c", "core.autocrlf=false", "hash-object", "--no-filters"]
        found = subprocess.run([*git, path], capture_output=True, text=True, check=True, cwd=tmp_path)
        assert git_oid_of(path) == git_oid_of(WEIGHTS) == found.stdout.strip()
        assert sha256_of(path) == hashlib.sha256(path.read_bytes()).hexdigest() == sha256_of(WEIGHTS)
        path.write_bytes(b"changed")
        assert sha256_of(path) == hashlib.sha256(b"changed").hexdigest()

    def test_random_content_is_the_same_in_any_cut_and_has_no_short_period(self) -> None:
        content = Random(size=100 << 20, seed=1)
        start = 16_700_000
        together = read(content, start, start + 200_000)
        assert together == b"".join(
            read(content, start + at, start + at + 20_000) for at in range(0, 200_000, 20_000)
        )
        assert len(set(together)) == 256
        assert all(
            read(content, power, power + 64) != read(content, 0, 64) for power in (1 << 20, 1 << 24, 1 << 26)
        )
        assert read(Random(size=100, seed=2), 0, 64) != read(Random(size=100, seed=1), 0, 64)
        assert len(read(content, content.size - 5, content.size + 5)) == 5


class TestApi:
    def test_the_page_of_a_model(self, hub: FakeHub) -> None:
        hub.repos[NAME].card = {
            "license": "mit",
            "base_model": "acme/big",
            "base_model_relation": "quantized",
        }
        page = ask(f"{hub.url}/api/models/{NAME}").json()
        assert (page["id"], page["sha"], page["gated"], page["private"]) == (NAME, COMMIT, False, False)
        assert {"license:mit", "base_model:acme/big", "base_model:quantized:acme/big"} <= set(page["tags"])
        assert {"rfilename": "model.safetensors"} in page["siblings"]
        assert page["config"] == {"model_type": "llama"}
        blobs = ask(f"{hub.url}/api/models/{NAME}/revision/main?blobs=true&securityStatus=true").json()
        row = {row["rfilename"]: row for row in blobs["siblings"]}["model.safetensors"]
        assert row["lfs"] == {"sha256": sha256_of(WEIGHTS), "size": 3_000_000, "pointerSize": 132}
        some = ask(f"{hub.url}/api/models/{NAME}?expand=gated&expand=cardData").json()
        assert set(some) == {"_id", "id", "gated", "cardData"}

    def test_the_tree_has_git_ids_and_pointers(self, hub: FakeHub) -> None:
        rows = {
            row["path"]: row for row in ask(f"{hub.url}/api/models/{NAME}/tree/main?recursive=true").json()
        }
        assert list(rows) == sorted([*FILES, "vocab", "vocab/en"])
        # `printf '{"model_type": "llama"}' | git hash-object --stdin`
        assert rows["config.json"]["oid"] == hashlib.sha1(b"blob 23\0" + CONFIG).hexdigest()
        pointer = (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256_of(WEIGHTS)}\nsize 3000000\n"
        )
        weights = rows["model.safetensors"]
        assert weights["oid"] == hashlib.sha1(f"blob 132\0{pointer}".encode()).hexdigest()
        assert weights["lfs"] == {"oid": sha256_of(WEIGHTS), "size": 3_000_000, "pointerSize": len(pointer)}
        assert (rows["vocab"]["type"], rows["vocab/link"]["size"]) == ("directory", len("../config.json"))

    def test_one_folder_at_a_time(self, hub: FakeHub) -> None:
        def names(path: str) -> list[str]:
            return [row["path"] for row in ask(f"{hub.url}/api/models/{NAME}/tree/main{path}").json()]

        assert names("") == ["config.json", "model.safetensors", "vocab"]
        assert names("/vocab") == ["vocab/en", "vocab/link"]
        assert names("/vocab%2Fen?recursive=true") == ["vocab/en/words.txt"]
        assert ask(f"{hub.url}/api/models/{NAME}/tree/main/none").headers["X-Error-Code"] == "EntryNotFound"

    def test_a_hundred_thousand_entries_come_in_pages(self, hub: FakeHub) -> None:
        hub.repos[NAME].files = {f"part-{number:06d}.txt": b"" for number in range(100_000)}
        url: str | None = f"{hub.url}/api/models/{NAME}/tree/main?recursive=true"
        names: list[str] = []
        start = time.monotonic()
        while url:
            page = ask(url)
            names += [row["path"] for row in page.json()]
            url = page.headers.get("Link", "").partition("<")[2].partition(">")[0] or None
        assert names == sorted(hub.repos[NAME].files)
        assert len(hub.seen) == 100
        assert time.monotonic() - start < 40
        hub.page_size = 7
        assert len(ask(f"{hub.url}/api/models/{NAME}/tree/main").json()) == 7

    def test_models_are_found_by_tag_author_and_words(self, hub: FakeHub) -> None:
        for number in range(3):
            card: dict[str, object] = {"base_model": [NAME], "base_model_relation": "quantized"}
            hub.repos[f"other/tiny-AWQ-{number}"] = Repo(files={}, card=card, facts={"downloads": number})
        hub.repos["other/secret"] = Repo(files={}, token="hf_x", tags=(f"base_model:quantized:{NAME}",))
        base = f"{hub.url}/api/models?filter=base_model:quantized:{NAME}"
        assert [row["id"] for row in ask(f"{base}&sort=downloads").json()] == [
            f"other/tiny-AWQ-{number}" for number in (2, 1, 0)
        ]
        assert [row["id"] for row in ask(f"{base}&search=awq-1&author=other").json()] == ["other/tiny-AWQ-1"]
        assert ask(f"{base}&filter=gguf").json() == []
        page = ask(f"{base}&limit=2")
        assert (len(page.json()), 'rel="next"' in page.headers["Link"]) == (2, True)


class TestFiles:
    def test_git_files_are_answered_in_place(self, hub: FakeHub) -> None:
        head, got = ask(hub.url + SMALL, "HEAD"), ask(hub.url + SMALL)
        assert (head.status, head.body, got.body) == (200, b"", CONFIG)
        for answer in (head, got):
            assert answer.headers["Etag"] == f'"{git_oid_of(CONFIG)}"'
            assert (answer.headers["X-Repo-Commit"], answer.headers["Content-Length"]) == (COMMIT, "23")
        hub.gzip = True
        got = ask(hub.url + SMALL, Accept_Encoding="gzip")
        assert (gzip.decompress(got.body), "Content-Length" in got.headers) == (CONFIG, False)
        assert got.headers["Etag"] == f'W/"{git_oid_of(CONFIG)}"'
        assert ask(hub.url + SMALL).body == CONFIG

    def test_lfs_files_are_redirected_to_another_origin(self, hub: FakeHub) -> None:
        head = ask(hub.url + LINK, "HEAD")
        assert (head.status, head.headers["X-Repo-Commit"]) == (302, COMMIT)
        assert head.headers["X-Linked-Size"] == "3000000"
        assert head.headers["X-Linked-Etag"] == f'"{sha256_of(WEIGHTS)}"'
        link = head.headers["Location"]
        assert urlsplit(link).netloc != urlsplit(hub.url).netloc
        got = ask(link)
        assert hashlib.sha256(got.body).hexdigest() == sha256_of(WEIGHTS)
        assert got.headers["Accept-Ranges"] == "bytes"
        assert hub.sent == {f"{NAME}/model.safetensors": 3_000_000}

    def test_links_are_signed_and_expire(self, hub: FakeHub) -> None:
        link = stored(hub)
        assert ask(link.replace("Signature=", "Signature=0")).status == 403
        assert ask(link.replace("Expires=", "Expires=9")).status == 403
        now = hub.clock()
        hub.clock = lambda: now + 3599
        assert ask(link, "HEAD").status == 200
        hub.clock = lambda: now + 3601
        late = ask(link)
        assert (late.status, b"expired" in late.body) == (403, True)
        assert ask(stored(hub), "HEAD").status == 200

    def test_a_token_that_reaches_the_storage_is_noted_and_refused(self, hub: FakeHub) -> None:
        assert ask(stored(hub), Authorization="Bearer hf_secret").status == 400
        assert [seen.origin for seen in hub.leaked] == ["storage"]

    @pytest.mark.parametrize("large", [True, False])
    @pytest.mark.parametrize(
        ("wanted", "begin", "end"),
        [("0-0", 0, 1), ("5-9", 5, 10), ("20-", 20, None), ("-3", -3, None), ("7-99999999", 7, None)],
    )
    def test_ranges(self, hub: FakeHub, large: bool, wanted: str, begin: int, end: int | None) -> None:
        data = read(WEIGHTS, 0, WEIGHTS.size) if large else CONFIG
        got = ask(stored(hub) if large else hub.url + SMALL, Range=f"bytes={wanted}")
        first = begin % len(data)
        assert (got.status, got.body) == (206, data[begin:end])
        assert got.headers["Content-Range"] == f"bytes {first}-{first + len(got.body) - 1}/{len(data)}"

    @pytest.mark.parametrize("wanted", ["bytes=9-5", "bytes=0-1,4-5", "lines=1-2", "bytes=-", "bytes=a-"])
    def test_what_is_no_single_range_gives_the_whole_file(self, hub: FakeHub, wanted: str) -> None:
        got = ask(hub.url + SMALL, Range=wanted)
        assert (got.status, got.body) == (200, CONFIG)

    def test_a_range_behind_the_end_and_if_range(self, hub: FakeHub) -> None:
        got = ask(hub.url + SMALL, Range="bytes=23-")
        assert (got.status, got.headers["Content-Range"]) == (416, "bytes */23")
        etag = ask(hub.url + SMALL, "HEAD").headers["Etag"]
        assert ask(hub.url + SMALL, Range="bytes=5-", If_Range=etag).status == 206
        assert ask(hub.url + SMALL, Range="bytes=5-", If_Range='"another"').status == 200

    def test_a_file_on_disk_and_one_larger_than_memory(self, hub: FakeHub, tmp_path: Path) -> None:
        path = tmp_path / "big"
        with path.open("wb") as file:
            file.truncate(1 << 42)
            file.seek(1 << 41)
            file.write(b"here")
        hub.repos[NAME].lfs = lambda name, content: False
        hub.repos[NAME].files["notes.txt"] = notes = tmp_path / "notes.txt"
        notes.write_bytes(b"on disk")
        assert ask(f"{hub.url}/{NAME}/resolve/main/notes.txt").body == b"on disk"
        assert size_of(path) == 1 << 42
        assert read(path, (1 << 41) - 1, (1 << 41) + 4) == b"\0here"
        huge = Random(size=1 << 50, seed=3)
        assert len(read(huge, (1 << 50) - 10, 1 << 50)) == 10

    def test_two_commits_hold_two_contents(self, hub: FakeHub) -> None:
        repo = hub.repos[NAME]
        repo.revisions |= {"refs/pr/1": OTHER_COMMIT, "v2": OTHER_COMMIT}
        repo.commits[OTHER_COMMIT] = {"config.json": b"{}"}
        for revision in ("refs/pr/1", "v2", OTHER_COMMIT):
            got = ask(f"{hub.url}/{NAME}/resolve/{quote(revision, safe='')}/config.json")
            assert (got.body, got.headers["X-Repo-Commit"]) == (b"{}", OTHER_COMMIT)
        assert ask(hub.url + SMALL).body == CONFIG

    def test_the_cache_redirect_stays_on_the_hub(self, hub: FakeHub) -> None:
        hub.resolve_cache = True
        head = ask(hub.url + SMALL, "HEAD")
        assert (head.status, head.headers["X-Linked-Size"]) == (307, "23")
        assert ask(hub.url + head.headers["Location"]).body == CONFIG


class TestRefusals:
    @pytest.mark.parametrize("path", ["", "/revision/main", "/tree/main", "/refs"])
    def test_no_such_repository(self, hub: FakeHub, path: str) -> None:
        got = ask(f"{hub.url}/api/models/acme/none{path}")
        assert (got.status, got.headers["X-Error-Code"]) == (401, "RepoNotFound")
        got = ask(f"{hub.url}/api/models/acme/none{path}", Authorization="Bearer hf_x")
        assert (got.status, got.headers["X-Error-Code"]) == (404, "RepoNotFound")

    def test_no_such_revision_or_file(self, hub: FakeHub) -> None:
        for path in (f"/api/models/{NAME}/tree/nope", f"/{NAME}/resolve/nope/config.json"):
            assert ask(hub.url + path).headers["X-Error-Code"] == "RevisionNotFound"
        got = ask(f"{hub.url}/{NAME}/resolve/main/none.json", "HEAD")
        assert (got.headers["X-Error-Code"], got.headers["X-Repo-Commit"]) == ("EntryNotFound", COMMIT)

    def test_gated(self, hub: FakeHub) -> None:
        repo = hub.repos[NAME]
        repo.gated, repo.granted = "auto", frozenset({"hf_good"})
        assert ask(f"{hub.url}/api/models/{NAME}").json()["gated"] == "auto"
        assert ask(f"{hub.url}/api/models/{NAME}/tree/main").status == 200
        nobody, other = (
            ask(hub.url + LINK, "HEAD"),
            ask(hub.url + LINK, "HEAD", Authorization="Bearer hf_other"),
        )
        assert [got.headers["X-Error-Code"] for got in (nobody, other)] == ["GatedRepo"] * 2
        assert (nobody.status, other.status) == (401, 403)
        assert ask(hub.url + LINK, "HEAD", Authorization="Bearer hf_good").status == 302

    def test_private_disabled_renamed_and_a_bad_token(self, hub: FakeHub) -> None:
        hub.renamed["acme/old"] = NAME
        for path in ("/api/models/acme/old?blobs=true", "/acme/old/resolve/main/config.json"):
            got = ask(hub.url + path)
            assert (got.status, got.headers["Location"]) == (307, path.replace("acme/old", NAME))
        hub.repos[NAME].token = "hf_owner"
        assert ask(hub.url + SMALL).status == 401
        assert ask(hub.url + SMALL, Authorization="Bearer hf_owner").body == CONFIG
        hub.repos[NAME].disabled = True
        got = ask(hub.url + SMALL, Authorization="Bearer hf_owner")
        assert (got.status, got.headers["X-Error-Message"]) == (403, "Access to this resource is disabled.")
        hub.accepted_token = "hf_owner"
        assert ask(hub.url + SMALL, Authorization="Bearer hf_no").status == 401


class TestHostileListings:
    NAMES = (
        "../../etc/passwd", "/etc/passwd", "C:\\x", "a/../../b", ".git/config", "A.json", "a.json", "dir", "dir/in", "",
        "nul\0", "new\nline", "\x1b[31mred", "a//b", "./c", "\u202egnp.exe", "x" * 300, "con.txt ", "-rf", "~",
        "%2e%2e/y",
    )  # fmt: skip

    def test_every_name_is_listed_as_it_is_and_can_be_fetched(self, hub: FakeHub) -> None:
        hub.repos[NAME].files = {name: f"{number}".encode() for number, name in enumerate(self.NAMES)}
        rows = ask(f"{hub.url}/api/models/{NAME}/tree/main?recursive=true").json()
        assert sorted(row["path"] for row in rows if row["type"] == "file") == sorted(self.NAMES)
        for number, name in enumerate(self.NAMES):
            url = f"{hub.url}/{NAME}/resolve/main/{quote(name, safe='')}"
            assert ask(url).body == f"{number}".encode(), name

    def test_a_symbolic_link_is_a_blob_of_its_target(self, hub: FakeHub) -> None:
        hub.repos[NAME].files["model.bin"] = Symlink(target="/etc/passwd")
        rows = ask(f"{hub.url}/api/models/{NAME}/tree/main").json()
        row = next(row for row in rows if row["path"] == "model.bin")
        assert (row["size"], "lfs" in row) == (11, False)
        assert ask(f"{hub.url}/{NAME}/resolve/main/model.bin").body == b"/etc/passwd"


def test_by_itself_over_a_directory(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "model.safetensors").write_bytes(b"weights")
    command = [
        sys.executable,
        "-m",
        "tests.fakes.hub",
        str(tmp_path),
        "--repo",
        "org/name",
        "--random",
        "2x1000",
    ]
    root = Path(__file__).parents[1]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=root, env={"PATH": os.defpath}
    ) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            rows = ask(f"{url}/api/models/org/name/tree/main?recursive=true").json()
            assert {row["path"] for row in rows if row["type"] == "file"} == {
                "config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                "sub/model.safetensors",
            }  # fmt: skip
            assert (
                ask(ask(f"{url}/org/name/resolve/main/sub/model.safetensors").headers["Location"]).body
                == b"weights"
            )
            assert ask(f"{url}/_fake").json()["sent"] == {"org/name/sub/model.safetensors": 7}
        finally:
            process.terminate()
    assert process.returncode == 0

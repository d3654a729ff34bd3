"""Serving verified files to others: the unmodified client, ranges, hashes, hostile requests, limits, a clean end."""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfhost.catalog import licences
from selfhost.errors import LicenceError, SelfhostError, UsageError, VerifyError
from selfhost.hub.card import declared_by
from selfhost.licence import Declared, judge
from selfhost.pull.serve import Server, serve
from selfhost.pull.serving.connection import Connection, Limits
from selfhost.pull.serving.crowd import Crowd
from selfhost.pull.serving.request import RefusedError, parse, span
from selfhost.pull.serving.table import make_table
from selfhost.pull.types import Snapshot
from tests.snapshots import COMMIT, FILES, LICENCE, snapshot

REPO = "Qwen/Qwen3-32B"
SHARD = "model-00001-of-00002.safetensors"
LENGTH = len(FILES[SHARD])
OTHER = "1111111111111111111111111111111111111111"
SECRET = "hf_sEcReTsEcReTsEcReT"


@contextmanager
def running(*snapshots: Snapshot, **more: Any) -> Iterator[Server]:
    with Server(snapshots, **more) as server:
        yield server


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Server]:
    with running(snapshot(tmp_path / "model")) as server:
        yield server


def connect(server: Server) -> http.client.HTTPConnection:
    host, _, port = urlsplit(server.url).netloc.rpartition(":")
    return http.client.HTTPConnection(host.strip("[]"), int(port), timeout=10)


def raw(server: Server) -> socket.socket:
    host, _, port = urlsplit(server.url).netloc.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=10)


def ask(
    server: Server, path: str, *, method: str = "GET", body: bytes | None = None, **fields: str
) -> tuple[int, Mapping[str, str], bytes]:
    with closing(connect(server)) as client:
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        client.request(method, path, body=body, headers=headers)
        answer = client.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def file_path(name: str, revision: str = "main") -> str:
    return f"/{REPO}/resolve/{revision}/{quote(name)}"


def read_all(client: socket.socket) -> bytes:
    parts = []
    with suppress(ConnectionResetError):
        while data := client.recv(65536):
            parts.append(data)
    return b"".join(parts)


def environ(server: Server, home: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return {**kept, "HF_ENDPOINT": server.url, "HF_HOME": str(home), "HF_TOKEN": SECRET}


# The clients that other machines have.


def test_hf_download_needs_nothing_but_the_endpoint(tmp_path: Path) -> None:
    lines: list[str] = []
    with running(snapshot(tmp_path / "model"), announce=lines.append) as server:
        command = [
            str(Path(sys.executable).with_name("hf")),
            "download",
            REPO,
            "--local-dir",
            str(tmp_path / "got"),
        ]
        done = subprocess.run(
            command,
            check=False,
            env=environ(server, tmp_path / "home"),
            capture_output=True,
            text=True,
            timeout=50,
        )
    assert done.returncode == 0, done.stderr
    for name, data in FILES.items():
        assert (tmp_path / "got" / name).read_bytes() == data
    fetched = [line for line in lines if f": {len(FILES[SHARD]):,} of" in line]
    assert len(fetched) == 1
    assert f"{REPO}@{COMMIT[:8]} {SHARD}" in fetched[0]
    assert SECRET not in "\n".join(lines)


def test_the_library_fills_its_cache_as_from_the_hub(served: Server, tmp_path: Path) -> None:
    from huggingface_hub import HfApi, snapshot_download

    where = snapshot_download(REPO, endpoint=served.url, cache_dir=tmp_path / "cache", token=SECRET)
    root = Path(where)
    assert root.name == COMMIT
    assert {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()} == set(FILES)
    assert (root / SHARD).resolve().name == hashlib.sha256(FILES[SHARD]).hexdigest()
    git = hashlib.sha1(b"blob %d\0" % len(FILES["config.json"]) + FILES["config.json"]).hexdigest()
    assert (root / "config.json").resolve().name == git

    api = HfApi(endpoint=served.url, token=False)
    info = api.model_info(REPO, files_metadata=True)
    assert info.sha == COMMIT
    assert info.gated is False
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    assert siblings[SHARD].size == len(FILES[SHARD])
    assert siblings["config.json"].blob_id == git
    assert info.card_data is not None
    assert info.card_data["license"] == "apache-2.0"
    assert api.list_repo_files(REPO, revision=COMMIT) == sorted(FILES)
    assert [branch.name for branch in api.list_repo_refs(REPO).branches] == ["main"]
    assert api.file_exists(REPO, "config.json")
    assert not api.file_exists(REPO, "adapter_config.json")
    assert not api.revision_exists(REPO, "v1.0")
    assert not api.repo_exists("somebody/else")


def test_the_tree_is_listed_by_folder_too(served: Server) -> None:
    from huggingface_hub import HfFileSystem

    files = HfFileSystem(endpoint=served.url, token=False, skip_instance_cache=True)
    names = {str(name).removeprefix(f"{REPO}/") for name in files.ls(REPO, detail=False)}
    assert names == {
        "README.md",
        "config.json",
        "onnx",
        "tokenizer",
        SHARD,
        "model-00002-of-00002.safetensors",
    }
    status, _, body = ask(served, f"/api/models/{REPO}/tree/{COMMIT}/onnx")
    assert (status, [row["path"] for row in json.loads(body)]) == (200, ["onnx/empty.txt"])
    assert ask(served, f"/api/models/{REPO}/tree/{COMMIT}/config.json")[0] == 404
    assert ask(served, f"/api/models/{REPO}/tree/{COMMIT}/on")[0] == 404


def test_the_pointer_of_a_large_file_is_what_git_holds(served: Server) -> None:
    sha256 = hashlib.sha256(FILES[SHARD]).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(FILES[SHARD])}\n".encode()
    _, _, body = ask(served, f"/api/models/{REPO}?blobs=true")
    row = next(row for row in json.loads(body)["siblings"] if row["rfilename"] == SHARD)
    assert row["blobId"] == hashlib.sha1(b"blob %d\0" % len(pointer) + pointer).hexdigest()
    assert row["lfs"] == {"sha256": sha256, "size": len(FILES[SHARD]), "pointerSize": len(pointer)}


def test_selfhost_pulls_from_it_and_its_lock_says_the_same(tmp_path: Path) -> None:
    from selfhost.cli._pulling import Asked, pull
    from selfhost.pull.choose import Wish
    from tests.pulls import shards

    weights = {name: data for name, data in shards(2, 50_000).items() if isinstance(data, bytes)}
    first = snapshot(tmp_path / "first", {**FILES, **weights})
    with running(first) as server:
        asked = Asked(
            model=REPO,
            directory=tmp_path / "second",
            wish=Wish(),
            use=None,
            accepted=(),
            quant=None,
            limit_rate=None,
            jobs=2,
            as_json=True,
            environ={"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home")},
        )
        pulled = pull(asked)
    locked = {file.path: file for file in first.lock.files}
    assert pulled.snapshot.lock.revision == COMMIT
    assert {file.path for file in pulled.snapshot.lock.files} >= set(weights)
    for file in pulled.snapshot.lock.files:
        assert file == locked[file.path]


# Parts, hashes and revisions.


@pytest.mark.parametrize(
    ("wanted", "status", "part"),
    [
        ("bytes=0-99", 206, slice(0, 100)),
        ("bytes=10000-", 206, slice(10_000, None)),
        ("bytes=-7", 206, slice(-7, None)),
        (f"bytes={LENGTH - 1}-999999", 206, slice(LENGTH - 1, None)),
        ("bytes=-99999999", 206, slice(None)),
        (f"bytes={LENGTH}-", 416, slice(0, 0)),
        ("bytes=-0", 416, slice(0, 0)),
        ("bytes=5-3", 200, slice(None)),
        ("bytes=0-1,3-4", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
        ("bytes=1e3-", 200, slice(None)),
    ],
)
def test_ranges(served: Server, wanted: str, status: int, part: slice) -> None:
    got, fields, body = ask(served, file_path(SHARD), Range=wanted)
    data = FILES[SHARD]
    assert got == status
    if status == 416:
        assert fields["Content-Range"] == f"bytes */{len(data)}"
        return
    assert body == data[part]
    if status == 206:
        first = len(data) - len(body) if part.start is None or part.start < 0 else part.start
        assert fields["Content-Range"] == f"bytes {first}-{first + len(body) - 1}/{len(data)}"


def test_a_range_counts_only_while_the_file_is_the_same(served: Server) -> None:
    etag = f'"{hashlib.sha256(FILES[SHARD]).hexdigest()}"'
    path = file_path(SHARD)
    assert ask(served, path, Range="bytes=1-2", If_Range=etag)[0] == 206
    assert ask(served, path, Range="bytes=1-2", If_Range='"other"')[2] == FILES[SHARD]
    assert ask(served, path, Range="bytes=1-2", If_Range="Tue, 01 Dec 2026 00:00:00 GMT")[0] == 200
    assert ask(served, path, If_None_Match=f'"x", {etag}')[0] == 304
    assert ask(served, path, If_None_Match='"x"')[0] == 200
    assert ask(served, path, If_Match='"x"')[0] == 412
    assert ask(served, path, If_Match=etag)[0] == 200


def test_head_says_what_get_would_send(served: Server) -> None:
    for name, data in FILES.items():
        status, fields, body = ask(served, file_path(name, COMMIT), method="HEAD", Range="bytes=0-1")
        assert (status, body, int(fields["Content-Length"])) == (200, b"", len(data))
        assert fields["X-Repo-Commit"] == COMMIT
        large = name.endswith(".safetensors")
        assert ("X-Linked-Etag" in fields) == large
        got = ask(served, file_path(name, COMMIT))
        assert (got[0], got[2]) == (200, data)
        assert got[1]["ETag"] == fields["ETag"]


def test_content_by_its_hash(served: Server) -> None:
    for data in FILES.values():
        name = hashlib.sha256(data).hexdigest()
        status, fields, body = ask(served, f"/blobs/sha256/{name}")
        assert (status, body, fields["ETag"]) == (200, data, f'"{name}"')
    assert ask(served, "/blobs/sha256/" + "0" * 64)[0] == 404
    assert ask(served, "/blobs/sha256/")[0] == 404


def test_main_is_the_only_commit_of_a_repository(tmp_path: Path) -> None:
    old = snapshot(tmp_path / "old", {"config.json": b"{}"}, revision=OTHER)
    new = snapshot(tmp_path / "new")
    single = snapshot(tmp_path / "single", {"config.json": b"[]"}, repo="gpt2")
    with running(old, new, single) as server:
        assert ask(server, file_path("config.json", OTHER))[2] == b"{}"
        assert ask(server, file_path("config.json", COMMIT))[2] == FILES["config.json"]
        status, fields, _ = ask(server, file_path("config.json"))
        assert (status, fields["X-Error-Code"]) == (404, "RevisionNotFound")
        assert ask(server, f"/api/models/{REPO}")[0] == 404
        assert json.loads(ask(server, f"/api/models/{REPO}/revision/{OTHER}")[2])["sha"] == OTHER
        assert ask(server, "/gpt2/resolve/main/config.json")[2] == b"[]"
        assert json.loads(ask(server, "/api/models/gpt2")[2])["id"] == "gpt2"
    with running(new, snapshot(tmp_path / "more", {"extra.json": b"1"})) as server:
        assert ask(server, file_path("extra.json"))[2] == b"1"  # two directories of one commit
        assert ask(server, file_path("config.json"))[0] == 200


# What is not handed out.


@pytest.mark.parametrize(
    "path",
    [
        f"/{REPO}/resolve/{COMMIT}/../../../../../../etc/passwd",
        f"/{REPO}/resolve/{COMMIT}/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        f"/{REPO}/resolve/{COMMIT}/..%2f..%2fetc%2fpasswd",
        f"/{REPO}/resolve/{COMMIT}//etc/passwd",
        f"/{REPO}/resolve/{COMMIT}/%2Fetc%2Fpasswd",
        f"/{REPO}/resolve/{COMMIT}/config.json/..",
        f"/{REPO}/resolve/{COMMIT}/./config.json",
        f"/{REPO}/resolve/{COMMIT}/selfhost.lock.json",
        f"/{REPO}/resolve/{COMMIT}/secret.txt",
        f"/{REPO}/resolve/{COMMIT}/",
        f"/{REPO}/resolve/{COMMIT}/onnx",
        f"/{REPO}/resolve/{COMMIT}",
        f"/{REPO}/resolve//config.json",
        f"/{REPO}/raw/main/config.json",
        f"/{REPO}/",
        f"/{REPO}",
        "/",
        "//",
        "/..",
        "/../../etc/passwd",
        "/etc/passwd",
        "/api",
        "/api/models",
        "/api/models/",
        "/api/models/Qwen",
        "/api/datasets/Qwen/Qwen3-32B",
        f"/api/models/{REPO}/xet-read-token/main",
        f"/api/models/{REPO}/tree/main/..",
        "/blobs/sha256/../../etc/passwd",
    ],
)
def test_only_names_of_the_table_lead_to_files(served: Server, tmp_path: Path, path: str) -> None:
    (tmp_path / "model" / "secret.txt").write_text("secret")
    status, fields, body = ask(served, path)
    assert status == 404
    assert set(json.loads(body)) == {"error"}
    assert fields["Content-Type"].startswith("application/json")


@pytest.mark.parametrize(
    "path", ["/%00", "/a%0d%0aX-A:%20b", f"/{REPO}/resolve/main/config.json%00.txt", "/%ff"]
)
def test_control_characters_are_refused(served: Server, path: str) -> None:
    assert ask(served, path)[0] == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
def test_read_only(served: Server, tmp_path: Path, method: str) -> None:
    before = (tmp_path / "model" / "config.json").read_bytes()
    body = b"x" * 100_000 if method in ("POST", "PUT", "PATCH") else None
    status, fields, _ = ask(served, file_path("config.json"), method=method, body=body)
    assert (status, fields["Allow"]) == (405, "GET, HEAD")
    assert (tmp_path / "model" / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET /healthz HTTP/1.0\r\n\r\n", 200),
        (b"GET http://elsewhere:80/healthz?a=b HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz\r\n\r\n", 400),
        (b"GET  /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /healthz#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET healthz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\nHost: a\n\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\n" + b"a: b\r\n" * 100 + b"\r\n", 431),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n", 431),
    ],
)
def test_odd_requests(served: Server, head: bytes, status: int) -> None:
    with raw(served) as client:
        client.sendall(head)
        client.shutdown(socket.SHUT_WR)
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"\r\nDate: ") == 1


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    with suppress(RefusedError):
        request = parse(data)
        assert request.path.startswith("/")
        assert request.path.isprintable()


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="bytes=-,0123456789 ", max_size=20), st.integers(0, 50))
def test_any_range_stays_inside_the_file(text: str, size_bytes: int) -> None:
    with suppress(RefusedError):
        found = span(text, size_bytes)
        if found is not None:
            begin, length = found
            assert 0 <= begin < begin + length <= size_bytes


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.text(alphabet="/.%2efQwen3-B0aresolvmi\\ \0é", max_size=60))
def test_no_path_leads_outside(served: Server, path: str) -> None:
    status, _, body = ask(served, "/" + quote(path, safe="/.%\\"))
    assert status in (400, 404) or (status == 200 and body in (*FILES.values(), b"ok\n"))


def test_a_token_is_neither_needed_nor_told(tmp_path: Path) -> None:
    lines: list[str] = []
    with running(snapshot(tmp_path / "model"), announce=lines.append) as server:
        path = f"{file_path('config.json')}?token={SECRET}&download=true"
        assert ask(server, path, Authorization=f"Bearer {SECRET}", Cookie=SECRET)[2] == FILES["config.json"]
    assert len(lines) == 1
    assert SECRET not in lines[0]
    assert "?" not in lines[0]


# Files that change.


def test_a_changed_file_is_not_sent(served: Server, tmp_path: Path) -> None:
    assert ask(served, "/healthz")[::2] == (200, b"ok\n")
    target = tmp_path / "model" / "config.json"
    status = target.stat()
    target.write_bytes(b"X" * status.st_size)
    code, fields, body = ask(served, file_path("config.json"))
    assert code == 409
    assert "changed on disk" in fields["X-Error-Message"]
    assert b"X" * 10 not in body
    assert ask(served, file_path("config.json"), method="HEAD")[0] == 409
    code, _, body = ask(served, "/healthz")
    assert code == 503
    assert "1 of 6 files" in json.loads(body)["error"]
    assert ask(served, file_path(SHARD))[0] == 200


def test_a_file_that_is_gone_or_another_one(served: Server, tmp_path: Path) -> None:
    target = tmp_path / "model" / "config.json"
    data, status = target.read_bytes(), target.stat()
    target.unlink()
    assert ask(served, file_path("config.json"))[0] == 410
    other = tmp_path / "other"
    other.write_bytes(data)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    target.symlink_to(other)
    assert ask(served, file_path("config.json"))[0] == 409
    target.unlink()
    target.mkdir()
    assert ask(served, file_path("config.json"))[0] == 409


def test_a_file_that_changes_while_it_is_sent_is_cut_off(tmp_path: Path) -> None:
    size = 64 << 20
    lines: list[str] = []
    found = snapshot(tmp_path / "model", {"model.safetensors": b"\1" * size})
    with running(found, announce=lines.append) as server, raw(server) as client:
        client.sendall(f"GET {file_path('model.safetensors')} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        client.recv(1000)
        with (tmp_path / "model" / "model.safetensors").open("r+b") as stream:
            stream.seek(size - 100)
            stream.write(b"\2" * 100)
        answer = read_all(client)
    assert len(answer) < size
    assert b"\2" not in answer
    assert lines[0].endswith("; cut off: it has changed on disk since it was verified")


def test_a_file_that_shrinks_while_it_is_sent(tmp_path: Path) -> None:
    size = 64 << 20
    found = snapshot(tmp_path / "model", {"model.safetensors": b"\1" * size})
    with running(found) as server, raw(server) as client:
        client.sendall(f"GET {file_path('model.safetensors')} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        client.recv(1000)
        os.truncate(tmp_path / "model" / "model.safetensors", 1000)
        assert len(read_all(client)) < size


# What is not served at all.


@pytest.mark.parametrize("gate", ["auto", "manual"])
def test_a_gated_model_is_not_passed_on_by_itself(tmp_path: Path, gate: Any) -> None:
    found = snapshot(tmp_path / "model", licence=replace(LICENCE, gate=gate))
    with pytest.raises(LicenceError, match="gated") as caught:
        Server([found])
    assert "--allow-gated" in (caught.value.hint or "")
    with running(found, allow_gated=True) as server:
        page = json.loads(ask(server, f"/api/models/{REPO}")[2])
    assert page["gated"] == gate  # whoever pulls from here knows it is


def test_the_licence_travels(tmp_path: Path) -> None:
    for row in licences.licences():
        if not row.hub_ids:
            continue
        verdict = judge(Declared(licence=row.hub_ids[0], gate="none"), repo="acme/tiny")
        found = snapshot(tmp_path / row.id, {"config.json": b"{}"}, licence=verdict, repo="acme/tiny")
        with running(found) as server:
            page = json.loads(ask(server, "/api/models/acme/tiny")[2])
        again = judge(declared_by(page), repo="acme/tiny")
        assert (again.licence, again.permission, again.gate) == (verdict.licence, verdict.permission, "none")
        assert page["cardData"]["selfhost"]["obligations"] == list(verdict.obligations)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"repo": "../../etc"}, "impossible repository"),
        ({"repo": "a\r\nX-Evil: b"}, "impossible repository"),
        ({"revision": "main"}, "names no commit"),
        ({"revision": "0" * 39 + "\n"}, "names no commit"),
    ],
)
def test_a_lock_file_of_a_stranger(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(VerifyError, match=message):
        make_table([snapshot(tmp_path / "model", {"config.json": b"{}"}, **changes)])


def test_what_cannot_be_served(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to serve"):
        Server([])
    found = snapshot(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_bytes(b"")
    with pytest.raises(VerifyError, match=r"config\.json is not what"):
        Server([found])
    (tmp_path / "model" / "config.json").unlink()
    with pytest.raises(VerifyError, match="cannot be read"):
        Server([found])
    (tmp_path / "model" / "config.json").symlink_to("config.json")
    with pytest.raises(VerifyError, match="cannot be read"):
        Server([found])


@pytest.mark.parametrize(("host", "port"), [("256.0.0.1", 0), ("127.0.0.1", 99999), ("a" * 70, 0)])
def test_an_address_that_cannot_be_listened_at(tmp_path: Path, host: str, port: int) -> None:
    with pytest.raises(UsageError, match="Cannot listen"):
        Server([snapshot(tmp_path / "model")], host=host, port=port)


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    found = snapshot(tmp_path / "model")
    with running(found) as server, pytest.raises(UsageError, match="in use"):
        Server([found], port=int(server.url.rpartition(":")[2]))


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_ipv6_and_every_address(tmp_path: Path) -> None:
    found = snapshot(tmp_path / "model")
    with running(found, host="::1") as server:
        assert server.url.startswith("http://[::1]:")
        assert ask(server, "/healthz")[0] == 200
    lines: list[str] = []
    with running(found, host="", announce=lines.append) as server:
        port = int(server.url.rpartition(":")[2])
        for host in ("127.0.0.1", "::1"):
            with closing(http.client.HTTPConnection(host, port, timeout=10)) as client:
                client.request("GET", file_path("config.json"))
                assert client.getresponse().read() == FILES["config.json"]
    assert sorted(line.split(" ")[0] for line in lines) == ["127.0.0.1", "::1"]  # a thread each


# Many clients, slow clients, and the end.


def test_one_connection_serves_many_requests(served: Server) -> None:
    with closing(connect(served)) as client:
        sockets = set()
        for name, data in FILES.items():
            client.request("HEAD", file_path(name))
            client.getresponse().read()
            client.request("GET", file_path(name))
            assert client.getresponse().read() == data
            sockets.add(client.sock)
        assert len(sockets) == 1
    with raw(served) as both:  # two requests in one packet
        request = f"GET {file_path('config.json')} HTTP/1.1\r\nHost: a\r\n"
        both.sendall(f"{request}\r\n{request}Connection: close\r\n\r\n".encode())
        assert read_all(both).count(FILES["config.json"]) == 2


def big(tmp_path: Path) -> Snapshot:
    return snapshot(tmp_path / "model", {"model.safetensors": b"\1" * (64 << 20), "config.json": b"{}"})


def begin(server: Server) -> socket.socket:
    """A client that asks for a large file and then takes nothing of it."""
    client = raw(server)
    client.sendall(f"GET {file_path('model.safetensors')} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert client.recv(15) == b"HTTP/1.1 200 OK"
    return client


def test_too_many_clients_are_asked_to_come_again(tmp_path: Path) -> None:
    limits = Limits(connections=2, patience_seconds=0.1, retry_seconds=7, drain_seconds=0.1)
    with running(big(tmp_path), limits=limits) as server, begin(server), begin(server):
        for method in ("GET", "HEAD"):
            status, fields, _ = ask(server, file_path("config.json"), method=method)
            assert (status, fields["Retry-After"]) == (503, "7")
        assert ask(server, "/healthz")[0] == 200  # a probe finds the server well


def test_who_waits_gets_the_seat_of_who_leaves(tmp_path: Path) -> None:
    limits = Limits(connections=1, patience_seconds=8)
    with running(big(tmp_path), limits=limits) as server:
        first = begin(server)
        threading.Timer(0.3, first.close).start()
        assert ask(server, file_path("config.json"))[0] == 200


def test_an_idle_client_gives_way(tmp_path: Path) -> None:
    limits = Limits(connections=1, patience_seconds=8)
    with running(big(tmp_path), limits=limits) as server, closing(connect(server)) as first:
        first.request("GET", file_path("config.json"))
        assert first.getresponse().read() == b"{}"
        assert ask(server, file_path("config.json"))[0] == 200
        assert first.sock.recv(1) == b""


def test_clients_that_never_finish_a_request_keep_nobody_out(tmp_path: Path) -> None:
    limits = Limits(connections=1, patience_seconds=8, head_seconds=30, idle_seconds=30)
    with running(big(tmp_path), limits=limits) as server:
        slow = [raw(server) for _ in range(4)]
        for client in slow:
            client.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
        time.sleep(0.6)
        assert ask(server, file_path("config.json"))[0] == 200
        for client in slow:
            client.close()


def test_a_request_that_drips_in_is_ended(tmp_path: Path) -> None:
    limits = Limits(head_seconds=0.3, idle_seconds=5)
    with running(big(tmp_path), limits=limits) as server, raw(server) as client:
        began = time.monotonic()
        with suppress(OSError):
            for byte in b"GET /healthz HTTP/1.1\r\n" + b"x" * 100:
                client.sendall(bytes((byte,)))
                time.sleep(0.02)
                if time.monotonic() - began > 1.5:
                    break
        assert read_all(client).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - began < 5


def test_a_client_that_says_nothing_is_let_go(tmp_path: Path) -> None:
    with running(big(tmp_path), limits=Limits(idle_seconds=0.2)) as server, raw(server) as client:
        assert client.recv(10) == b""


def test_a_client_that_takes_nothing_is_let_go(tmp_path: Path) -> None:
    lines: list[str] = []
    with (
        running(big(tmp_path), limits=Limits(stall_seconds=0.3), announce=lines.append) as server,
        begin(server),
    ):
        until = time.monotonic() + 8
        while not lines and time.monotonic() < until:
            time.sleep(0.02)
    assert lines[0].endswith("; the client left")


def test_many_at_once(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    found = snapshot(tmp_path / "model", {"model.safetensors": data})
    right: list[bool] = []

    def fetch() -> None:
        right.extend(ask(server, file_path("model.safetensors"))[2] == data for _ in range(3))

    with running(found, limits=Limits(connections=4, patience_seconds=30)) as server:
        threads = [threading.Thread(target=fetch) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert right == [True] * 36


def test_the_end_lets_answers_finish_and_ends_the_rest(tmp_path: Path) -> None:
    with running(big(tmp_path), limits=Limits(drain_seconds=0.3)) as server:
        stuck, idle = begin(server), raw(server)
        began = time.monotonic()
    assert time.monotonic() - began < 3
    with stuck, idle:
        assert idle.recv(10) == b""
        assert len(read_all(stuck)) < 64 << 20
    with pytest.raises(OSError, match="refused"):
        raw(server)


def test_files_where_sendfile_cannot_be_used(tmp_path: Path) -> None:
    table = make_table([snapshot(tmp_path / "model")])
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    crowd = Crowd(1)

    def cannot(*_: int) -> int:
        raise OSError(errno.EINVAL, "no sendfile here")

    class Plain(socket.socket):
        """A pair of sockets that takes the options of TCP."""

        def setsockopt(self, *_: Any) -> None:
            """No options."""

    plain = Plain(fileno=ours.detach())
    connection = Connection(
        plain, "a", table=table, limits=Limits(), crowd=crowd, announce=lambda line: None, sendfile=cannot
    )
    assert crowd.admit(connection)
    thread = threading.Thread(target=connection.run)
    thread.start()
    with theirs:
        theirs.sendall(f"GET {file_path(SHARD)} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        assert read_all(theirs).endswith(b"\r\n\r\n" + FILES[SHARD])
    thread.join()
    assert len(crowd) == 0


PROGRAM = """
import sys
from pathlib import Path
from selfhost.errors import SelfhostError
from selfhost.pull.local import snapshot_at
from selfhost.pull.serve import serve
serve([snapshot_at(Path(sys.argv[1]))], host="127.0.0.1", port=0, announce=lambda line: print(line, flush=True))
print("ended")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    snapshot(tmp_path / "model")
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "model")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(
            f"{REPO}@{COMMIT[:12]}: 6 files, 17 KiB, licence apache-2.0"
        )
        line = process.stdout.readline()
        assert line.startswith("Serving. On other machines: export HF_ENDPOINT=http://127.0.0.1:")
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "ended\n", "")


def test_an_event_ends_it(tmp_path: Path) -> None:
    stop, lines = threading.Event(), list[str]()
    arguments = {"host": "127.0.0.1", "port": 0, "stop": stop, "announce": lines.append}
    thread = threading.Thread(target=serve, args=([snapshot(tmp_path / "model")],), kwargs=arguments)
    thread.start()
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert len(lines) == 2


def test_a_log_that_nobody_reads_ends_no_transfer(tmp_path: Path) -> None:
    def broken(line: str) -> None:
        raise BrokenPipeError

    with running(snapshot(tmp_path / "model"), announce=broken) as server:
        assert ask(server, file_path(SHARD))[2] == FILES[SHARD]


def test_errors_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(SelfhostError) as caught:
        Server([snapshot(tmp_path / "model", licence=replace(LICENCE, gate="manual"))])
    assert caught.value.message.endswith(".")

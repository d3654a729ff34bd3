"""Many exporters in one pass: every trouble becomes a finding in time, and the worst stands first."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from selfhost.errors import UsageError
from selfhost.fleet import NodeAddress, NodeResult, columns, nodes_of_urls, poll, render, rows, to_json
from selfhost.fleet.http import HttpAnswer, NotHttpError
from selfhost.fleet.table import fit, headline, why
from selfhost.fleet.types import LEVELS, Answer
from selfhost.observation.summary import CheckSummary, GpuSummary, Summary
from tests.fakes.exporters import KINDS, SLOW_KINDS, address, exporters

# Kind of trouble -> the finding that must come of it (None: none), level, and words of its sentence.
EXPECTED: dict[str, tuple[str | None, str, str]] = {
    "ok": (None, "ok", ""),
    "undated": (None, "ok", ""),
    "chunked": (None, "ok", ""),
    "warn": (None, "warn", ""),
    "critical": (None, "critical", ""),
    "refused": ("node-unreachable", "unknown", "refused"),
    "full": ("node-unreachable", "critical", "No connection within"),
    "silent": ("node-slow", "unknown", "No answer within"),
    "drip": ("node-slow", "unknown", "not complete"),
    "dripbody": ("node-slow", "unknown", "not complete"),
    "reset": ("node-unreachable", "unknown", "ended before an answer"),
    "nothing": ("node-unreachable", "unknown", "ended before an answer"),
    "notjson": ("node-lying", "unknown", "not JSON"),
    "notutf8": ("node-lying", "unknown", "not UTF-8"),
    "list": ("node-lying", "unknown", "not a JSON object"),
    "deep": ("node-lying", "unknown", "nests too deep"),
    "schema": ("node-lying", "unknown", "is not a selfhost/summary/v1"),
    "newer": ("node-other", "unknown", "nother release"),
    "field": ("node-other", "unknown", "nother release"),
    "type": ("node-lying", "unknown", "summary.at must be a number"),
    "nan": ("node-lying", "unknown", "NaN"),
    "infinite": ("node-lying", "unknown", "power_watts must be a number"),
    "busy": ("node-lying", "unknown", "gpu 5 is 1.5 busy, of 1"),
    "overfull": ("node-lying", "unknown", "gpu 5 uses"),
    "hot": ("node-lying", "unknown", "gpu 5 is 2000 °C"),
    "negative": ("node-lying", "unknown", "less than no memory"),
    "power": ("node-lying", "unknown", "takes 1e+09 W"),
    "twice": ("node-lying", "unknown", "two GPUs of one index"),
    "calm": ("node-lying", "unknown", "a verdict of ok with a check that is critical"),
    "down": (None, "ok", ""),  # its loss may be suppressed
    "skipped": ("node-lying", "unknown", "a verdict of skipped"),
    "kv": ("node-lying", "unknown", "fills 7 of its KV cache"),
    "escape": (None, "ok", ""),
    "stale": ("node-stale", "unknown", "60 min old"),
    "seldom": (None, "ok", ""),
    "future": ("node-lying", "unknown", "in the future"),
    "clock": ("node-clock", "warn", "2 h behind"),
    "404": ("node-other", "unknown", "older release"),
    "500": ("node-other", "unknown", "500"),
    "401": ("node-forbidden", "unknown", "401"),
    "redirect": ("node-other", "unknown", "redirects are not followed"),
    "large": ("node-lying", "unknown", "larger than 1024 KiB"),
    "endless": ("node-lying", "unknown", "larger than 1024 KiB"),
    "headers": ("node-lying", "unknown", "larger than 16 KiB"),
    "interim": ("node-other", "unknown", "100"),
    "tiny": ("node-lying", "unknown", "more than 2000 chunks"),
    "badchunk": ("node-lying", "unknown", "chunks"),
    "gzip": ("node-lying", "unknown", "compressed"),
    "lengths": ("node-lying", "unknown", "length"),
    "short": ("node-lying", "unknown", "breaks off"),
    "ssh": ("node-lying", "unknown", "not HTTP"),
    "host": ("node-lying", "unknown", ""),
    "gpu": ("node-lying", "unknown", ""),
}


def test_every_kind_of_trouble_is_found_in_one_pass_in_time() -> None:
    kinds = [*EXPECTED]
    kinds.remove("host")  # these two are about pairs: below
    kinds.remove("gpu")
    where = {address(number): kind for number, kind in enumerate(kinds)}
    with exporters(where) as fleet:
        nodes = tuple(NodeAddress(name=kind, url=fleet.url(at, kind)) for at, kind in where.items())
        started = time.monotonic()
        results = poll(nodes, deadline_seconds=1.5)
        took = time.monotonic() - started
    assert took < 10
    assert len(results) == len(nodes)
    for result in results:
        code, level, words = EXPECTED[result.address.name]
        said = {check.code: check.message for check in result.findings}
        assert list(said) == ([code] if code else []), (result.address.name, said)
        assert result.level == level, (result.address.name, said)
        assert code is None or words in said[code], (result.address.name, said)
        assert result.seconds < 4
    order = [LEVELS.index(result.level) for result in results]
    assert order == sorted(order)
    escaped = next(result for result in results if result.address.name == "escape")
    assert escaped.name == "?[2Jroot"


def test_the_fake_has_no_kind_that_nothing_expects() -> None:
    assert {*KINDS, *SLOW_KINDS} <= {*EXPECTED}


def test_a_thousand_nodes_fifty_of_them_in_trouble() -> None:
    bad = ["refused", "full", "silent", "drip", "dripbody", "notjson", "nan", "busy", "404", "stale"] * 5
    kinds = {address(number): bad[number // 20] if number % 20 == 0 else "ok" for number in range(1000)}
    with exporters(kinds) as fleet:
        nodes = tuple(NodeAddress(name=at, url=fleet.url(at, kind)) for at, kind in kinds.items())
        started = time.monotonic()
        results = poll(nodes, deadline_seconds=1.5)
        took = time.monotonic() - started
    # Generous for a busy machine; scripts/bench_fleet.py is the one that measures.
    assert took < 20
    assert sum(result.level == "ok" for result in results) == 950
    assert all(result.findings for result in results[:50])
    assert not any(result.findings for result in results[50:])


def test_one_at_a_time_is_possible_and_bounded() -> None:
    kinds = {address(1): "silent", address(2): "ok", address(3): "silent"}
    with exporters(kinds) as fleet:
        nodes = tuple(NodeAddress(name=at, url=fleet.url(at)) for at in kinds)
        started = time.monotonic()
        results = poll(nodes, deadline_seconds=0.3, parallel=1)
        assert 0.6 <= time.monotonic() - started < 3
    assert [result.level for result in results] == ["unknown", "unknown", "ok"]


def test_parallelism_is_bounded() -> None:
    """No more connections are open at once than was asked for."""
    most = now = 0
    lock = threading.Lock()
    body = json.dumps({}).encode()
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:

        def serve() -> None:
            nonlocal most, now
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with lock:
                    now += 1
                    most = max(most, now)
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection: socket.socket) -> None:
            nonlocal now
            with connection:
                connection.recv(4096)
                time.sleep(0.05)
                with lock:
                    now -= 1
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + body)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        poll(tuple(NodeAddress(name=str(n), url=url) for n in range(24)), parallel=4)
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert 1 < most <= 4


def test_one_host_or_one_gpu_at_two_addresses() -> None:
    kinds = {
        address(1): "host:gpu-1",
        address(2): "host:gpu-1",
        address(3): "gpu:GPU-same",
        address(4): "gpu:GPU-same",
        address(5): "gpu:unknown-5",
        address(6): "gpu:unknown-5",
    }
    with exporters(kinds) as fleet:
        results = poll(tuple(NodeAddress(name=at, url=fleet.url(at)) for at in kinds))
        urls = {at: fleet.url(at) for at in kinds}
    said = {result.address.name: [check.message for check in result.findings] for result in results}
    assert said[address(1)] == [f"gpu-1 answers at {urls[address(2)]} too."]
    assert said[address(3)] == [f"GPU GPU-same is claimed by node-{address(4)} too."]
    assert said[address(5)] == said[address(6)] == []
    assert {check.code for result in results for check in result.findings} == {"node-duplicate"}


def test_a_name_without_an_address_is_a_finding() -> None:
    started = time.monotonic()
    results = poll((NodeAddress(name="x", url="http://no-such-host.invalid:9835"),), deadline_seconds=2.0)
    assert time.monotonic() - started < 5
    assert [check.code for check in results[0].findings] == ["node-unreachable"]


def test_names_are_looked_up_and_https_is_spoken() -> None:
    with exporters({"127.0.0.1": "ok"}) as fleet:
        results = poll(
            (
                NodeAddress(name="named", url=f"http://localhost:{fleet.port}"),
                NodeAddress(name="tls", url=f"https://127.0.0.1:{fleet.port}"),
            ),
            deadline_seconds=2.0,
        )
    by_name = {result.address.name: result for result in results}
    assert by_name["named"].level == "ok"
    assert [check.code for check in by_name["tls"].findings] == ["node-unreachable"]


def test_credentials_are_sent_and_never_shown() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        got: list[bytes] = []

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                got.append(connection.recv(4096))
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        nodes = nodes_of_urls(f"http://jane:p%40ss@127.0.0.1:{server.getsockname()[1]}")
        results = poll(nodes)
        thread.join()
    assert b"Authorization: Basic amFuZTpwQHNz\r\n" in got[0]
    assert got[0].startswith(b"GET /api/v1/summary HTTP/1.1\r\nHost: 127.0.0.1:")
    shown = repr(nodes) + repr(results) + json.dumps(to_json(results, at=1.0)) + "".join(render(results))
    assert "jane" not in shown
    assert "amFuZ" not in shown
    assert [check.code for check in results[0].findings] == ["node-forbidden"]


def test_a_way_of_asking_that_hangs_is_left_behind() -> None:
    hang = threading.Event()

    def never(_seconds: float) -> Answer:
        hang.wait(30)
        return Answer()

    nodes = (
        *(NodeAddress(name=f"hang-{number}", ask=never) for number in range(3)),
        NodeAddress(name="quick", ask=lambda _: Answer(status=404)),
    )
    started = time.monotonic()
    results = poll(nodes, deadline_seconds=0.2, parallel=1)
    hang.set()
    assert time.monotonic() - started < 10
    assert {result.name: result.findings[0].code for result in results} == {
        "hang-0": "node-slow",
        "hang-1": "node-slow",
        "hang-2": "node-slow",
        "quick": "node-other",
    }


def test_nobody_to_ask_and_nonsense_to_ask_with() -> None:
    assert poll(()) == ()
    with pytest.raises(UsageError):
        poll((), deadline_seconds=0)
    with pytest.raises(UsageError):
        poll((), parallel=0)


def test_lists_of_addresses(tmp_path: Path) -> None:
    text = (
        "gpu-1, gpu-2:9000  https://gpu-3/ # the new one\nhttp://GPU-1:9835/metrics\n[fd00::9]\n\n127.0.0.1"
    )
    expected = [
        ("gpu-1", "http://gpu-1:9835"),
        ("gpu-2:9000", "http://gpu-2:9000"),
        ("gpu-3:443", "https://gpu-3:443"),
        ("[fd00::9]", "http://[fd00::9]:9835"),
        ("127.0.0.1", "http://127.0.0.1:9835"),
    ]
    assert [(node.name, node.url) for node in nodes_of_urls(text)] == expected
    path = tmp_path / "nodes"
    path.write_text(text, encoding="utf-8")
    assert nodes_of_urls(path) == nodes_of_urls(text) == nodes_of_urls(text.splitlines())


@pytest.mark.parametrize(
    "word",
    [
        "ftp://gpu-1",
        "http://gpu-1:99999",
        "http://gpu-1:0",
        "gpu-1:port",
        "http://gpu-1/other/path",
        "http://gpu-1?x=1",
        "http://",
        "gpu_1;rm",
        "http://[fd00::9",
        "gpu-1\x1b[2J",
        "http://gpu-1\\@evil",
    ],
)
def test_addresses_that_are_none(word: str) -> None:
    with pytest.raises(UsageError, match="is not the address") as caught:
        nodes_of_urls(word)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "word", ["http://jane:secret@gpu-1/other", "jane:se/secret@gpu-1:9", "http://jane:secret@x@gpu-1/other"]
)
def test_a_password_does_not_get_into_the_error(word: str) -> None:
    with pytest.raises(UsageError) as caught:
        nodes_of_urls(word)
    assert "secret" not in caught.value.message


def test_lists_that_are_empty_or_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is empty"):
        nodes_of_urls(" # nothing\n")
    with pytest.raises(UsageError, match="cannot be read"):
        nodes_of_urls(tmp_path / "none")
    (tmp_path / "marked").write_bytes("\ufeffgpu-1".encode())
    assert [node.name for node in nodes_of_urls(tmp_path / "marked")] == ["gpu-1"]
    (tmp_path / "raw").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8"):
        nodes_of_urls(tmp_path / "raw")


def _result(name: str, level: str, *checks: CheckSummary, gpus: int = 2) -> NodeResult:
    summary = Summary(
        schema="selfhost/summary/v1",
        host=name,
        at=1.0,
        verdict=level,  # type: ignore[arg-type]
        checks=checks,
        gpus=tuple(
            GpuSummary(
                index=index,
                uuid=f"GPU-{name}-{index}",
                name="H100",
                up=index > 0 or level != "critical",
                utilization_ratio=0.5,
                memory_used_bytes=40 << 30,
                memory_total_bytes=80 << 30,
                temperature_celsius=60 + index,
                power_watts=300.0,
            )
            for index in range(gpus)
        ),
        engines=(),
    )
    return NodeResult(address=NodeAddress(name=name, url=f"http://{name}:9835"), level=level, summary=summary)  # type: ignore[arg-type]


LOST = CheckSummary(
    code="gpu-lost",
    level="critical",
    gpu=0,
    message="Fell off the bus (Xid 79, 14:02:11).",
    action="reboot_node",
)
HOT = CheckSummary(
    code="gpu-hot",
    level="warn",
    gpu=1,
    message="2 °C below the limit at which the clocks drop.",
    action="none",
)


def test_the_table_at_eighty_columns_and_wide() -> None:
    silent = NodeResult(
        address=NodeAddress(name="gpu-9", url="http://gpu-9:9835"),
        level="warn",
        findings=(
            CheckSummary(
                code="node-slow", level="warn", gpu=None, message="No answer within 3 s.", action="none"
            ),
        ),
    )
    results = (
        _result("gpu-1", "critical", LOST, HOT),
        silent,
        _result("gpu-2", "ok"),
        _result("gpu-3", "ok"),
    )
    assert render(results, 80, limit=3) == (
        "4 nodes: 1 critical · 1 warn · 2 ok · 5 of 6 GPUs up",
        "",
        "VERDICT   NODE           GPUS  WHY",
        "CRITICAL  gpu-1           1/2  gpu 0: Fell off the bus (Xid 79, 14:02:11). (+1)",
        "WARN      gpu-9             –  No answer within 3 s.",
        "OK        gpu-2           2/2",
        "… and 1 more: 1 ok",
    )
    assert render(results, 200)[2:5] == (
        "VERDICT   NODE           GPUS  UTIL  MEM GiB  MAX °C  POWER W   RUN  WAIT    KV   TOK/S  WHY",
        "CRITICAL  gpu-1           1/2   50%   80/160      61      600     –     –     –       –  "
        + why(results[0]),
        "WARN      gpu-9             –     –        –       –        –     –     –     –       –  "
        + why(silent),
    )
    assert columns(120) == ("VERDICT", "NODE", "GPUS", "UTIL", "MEM GiB", "MAX °C", "POWER W", "WHY")
    assert rows(results, 120)[1] == ("WARN", "gpu-9", "–", "–", "–", "–", "–", "No answer within 3 s.")


@pytest.mark.parametrize("width", [40, 80, 100, 139, 140, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    long = replace(HOT, message="word " * 100)
    names = ("n" * 60, "gpu-2", "gpu-100000")
    results = tuple(_result(name, "warn", long, gpus=64) for name in names)
    lines = render(results, width)
    assert max(map(len, lines[2:])) <= width
    assert not any(line != line.rstrip() for line in lines)


def test_why_and_the_count() -> None:
    assert why(_result("a", "ok")) == ""
    assert why(_result("a", "unknown")) == "No check says why."
    assert why(_result("a", "warn", HOT)).startswith("gpu 1: 2 °C")
    assert headline(()) == "0 nodes: none · 0 of 0 GPUs up"
    assert fit("x" * 20, 10) == "x" * 9 + "…"
    assert fit("one two three four", 10) == "one two …"


def test_the_document() -> None:
    results = (_result("gpu-1", "critical", LOST), _result("gpu-2", "ok"))
    document = to_json(results, at=1795690481.0)
    again = json.loads(json.dumps(document, allow_nan=False))
    assert (again["schema"], again["verdict"], again["at"]) == ("selfhost/fleet/v1", "critical", 1795690481.0)
    assert again["counts"] == {"critical": 1, "warn": 0, "unknown": 0, "ok": 1}
    assert again["nodes"][0]["summary"]["checks"][0]["code"] == "gpu-lost"
    assert [node["name"] for node in again["nodes"]] == ["gpu-1", "gpu-2"]
    assert to_json((), at=0.0)["verdict"] == "unknown"


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_an_answer_in_pieces_of_any_size(size: int) -> None:
    for kind in ("ok", "chunked", "undated"):
        raw = KINDS[kind]("127.0.0.1", "")
        answer = HttpAnswer()
        whole = [answer.feed(raw[at : at + size]) for at in range(0, len(raw), size)]
        assert not any(whole[:-1]) or kind == "chunked"
        if kind == "undated":
            answer.end()
        assert json.loads(answer.body)["schema"] == "selfhost/summary/v1"
        assert answer.status == 200


def test_chunks_without_end_are_refused() -> None:
    raw = KINDS["tiny"]("127.0.0.1", "")
    with pytest.raises(NotHttpError, match="more than 2000 chunks"):
        HttpAnswer().feed(raw)
    for chunk in (b"1" * 300, b"ffffffff\r\n", b"zz\r\n"):
        with pytest.raises(NotHttpError):
            HttpAnswer().feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)

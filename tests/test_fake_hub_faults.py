"""Each fault of the Hub on loopback, alone and together, and what it says of its traffic afterwards."""

from __future__ import annotations

import gzip
import http.client
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.fakes.hub import (
    Cut,
    Drip,
    FakeHub,
    Flip,
    Gzip,
    IgnoreRange,
    Length,
    Loop,
    Random,
    Refuse,
    Repo,
    Shorter,
    Stall,
    Throttle,
    WrongRange,
    expired,
    read,
    serve,
    too_many,
)
from tests.fakes.plain import ask, raw

NAME = "acme/tiny"
WEIGHTS = Random(size=3_000_000, seed=7)
CONFIG = b'{"model_type": "llama"}'
FILES: dict[str, Any] = {"config.json": CONFIG, "model.safetensors": WEIGHTS}
LINK = f"/{NAME}/resolve/main/model.safetensors"
SMALL = f"/{NAME}/resolve/main/config.json"


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serve(repos={NAME: Repo(files=dict(FILES))}) as running:
        yield running


def stored(hub: FakeHub) -> str:
    """A link into the storage."""
    return ask(hub.url + LINK, "HEAD").headers["Location"]


class TestFaults:
    @pytest.mark.parametrize("after", [0, 1, 22])
    @pytest.mark.parametrize("reset", [False, True])
    def test_a_cut_comes_after_exactly_so_many_bytes(self, hub: FakeHub, after: int, reset: bool) -> None:
        hub.fail(Cut(after_bytes=after, reset=reset), path="config.json")
        data, ended = raw(hub.url + SMALL)
        assert (data.partition(b"\r\n\r\n")[2], ended) == (CONFIG[:after], reset)
        assert ask(hub.url + SMALL).body == CONFIG  # once and no more

    def test_a_cut_in_the_storage_after_many_bytes_and_in_the_headers(self, hub: FakeHub) -> None:
        hub.fail(Cut(after_bytes=2_345_678), path="model.safetensors", times=2, skip=1)
        link = stored(hub)
        sizes = [len(ask(link).body) for _ in range(4)]
        assert sizes == [3_000_000, 2_345_678, 2_345_678, 3_000_000]
        assert hub.sent_bytes == sum(sizes) == hub.sent[f"{NAME}/model.safetensors"]
        hub.fail(Cut(after_bytes=30, in_headers=True), on="storage")
        assert raw(link) == (b"HTTP/1.1 200 OK\r\nServer: BaseH", False)

    def test_one_wrong_bit_whatever_the_range(self, hub: FakeHub) -> None:
        right = read(WEIGHTS, 0, WEIGHTS.size)
        hub.fail(Flip(at=1_500_000), path="model.safetensors", times=None)
        link = stored(hub)
        for begin in (0, 1_400_000, 1_500_000):
            wrong = ask(link, Range=f"bytes={begin}-").body
            assert [at for at in range(len(wrong)) if wrong[at] != right[begin + at]] == [1_500_000 - begin]
        assert ask(link, Range="bytes=2000000-").body == right[2_000_000:]

    def test_lengths_that_lie(self, hub: FakeHub) -> None:
        hub.fail(Length(off=5), path="config.json")
        longer = ask(hub.url + SMALL)
        assert (longer.headers["Content-Length"], longer.body, longer.broken) == ("28", CONFIG, True)
        hub.fail(Length(off=-5), path="config.json")
        assert ask(hub.url + SMALL).body == CONFIG[:-5]
        hub.fail(Shorter(by=3), path="config.json")
        shorter = ask(hub.url + SMALL)
        assert (shorter.headers["Content-Length"], shorter.body, shorter.broken) == ("20", CONFIG[:-3], False)

    @pytest.mark.parametrize("after", [None, 10])
    def test_silence(self, hub: FakeHub, after: int | None) -> None:
        fault = hub.fail(Stall(after_bytes=after), path="config.json")
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            ask(hub.url + SMALL, timeout=0.3)
        assert (0.25 < time.monotonic() - start < 20, fault.hits) == (True, 1)
        assert ask(hub.url + SMALL).body == CONFIG

    def test_slow_peers(self, hub: FakeHub) -> None:
        hub.fail(Drip(seconds=0.02), path="config.json")
        start = time.monotonic()
        assert ask(hub.url + SMALL).body == CONFIG
        assert time.monotonic() - start > 0.4
        hub.fail(Throttle(bytes_per_second=6_000_000), path="model.safetensors")
        link, start = stored(hub), time.monotonic()
        assert len(ask(link).body) == 3_000_000
        assert 0.4 < time.monotonic() - start < 20

    def test_rate_limits_errors_and_expired_links(self, hub: FakeHub) -> None:
        hub.fail(too_many(7), path="/resolve/", times=2)
        for _ in range(2):
            got = ask(hub.url + SMALL)
            assert (got.status, got.headers["Retry-After"]) == (429, "7")
            assert got.headers["Ratelimit"] == '"resolvers";r=0;t=7'
        assert ask(hub.url + SMALL).status == 200
        hub.fail(Refuse(status=503), path="/api/", method="GET")
        assert [ask(f"{hub.url}/api/models/{NAME}").status for _ in range(2)] == [503, 200]
        hub.fail(expired(), on="storage")
        assert [ask(stored(hub)).status for _ in range(2)] == [403, 200]

    def test_ranges_that_are_ignored_or_wrong(self, hub: FakeHub) -> None:
        hub.fail(IgnoreRange(), path="config.json")
        got = ask(hub.url + SMALL, Range="bytes=5-9")
        assert (got.status, got.body, "Content-Range" in got.headers) == (200, CONFIG, False)
        hub.fail(WrongRange(shift=2), path="config.json")
        got = ask(hub.url + SMALL, Range="bytes=5-9")
        assert (got.headers["Content-Range"], got.body) == ("bytes 7-11/23", CONFIG[5:10])
        hub.fail(WrongRange(shift=2, move=True), path="config.json")
        assert ask(hub.url + SMALL, Range="bytes=5-9").body == CONFIG[7:12]
        hub.fail(WrongRange(total=9), path="config.json")
        assert ask(hub.url + SMALL, Range="bytes=5-9").headers["Content-Range"] == "bytes 5-9/32"

    def test_redirects_in_a_circle_and_unasked_compression(self, hub: FakeHub) -> None:
        hub.fail(Loop(), path="config.json", times=None)
        assert all(ask(hub.url + SMALL).headers["Location"] == SMALL for _ in range(3))
        hub.faults.clear()
        hub.fail(Gzip(), path="config.json")
        got = ask(hub.url + SMALL)
        assert (got.headers["Content-Encoding"], gzip.decompress(got.body)) == ("gzip", CONFIG)

    def test_faults_meet(self, hub: FakeHub) -> None:
        hub.fail(Flip(at=3), path="config.json")
        hub.fail(Cut(after_bytes=5), path="config.json")
        assert ask(hub.url + SMALL).body == CONFIG[:3] + bytes([CONFIG[3] ^ 1]) + CONFIG[4:5]


class TestAccounting:
    def test_connections_at_once(self, hub: FakeHub) -> None:
        hub.fail(Throttle(bytes_per_second=10_000_000), path="model.safetensors", times=None)
        link = stored(hub)
        threads = [threading.Thread(target=ask, args=(link,)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (hub.peak["storage"], hub.peak["hub"]) == (5, 1)
        assert [seen.status for seen in hub.asked(origin="storage")] == [200] * 5
        assert hub.asked(part="model.safetensors", method="GET")[0].sent_bytes == 3_000_000

    def test_bytes_that_a_client_never_took_are_not_counted(self, hub: FakeHub) -> None:
        hub.repos[NAME].files["big.safetensors"] = Random(size=1 << 28, seed=9)
        link = ask(f"{hub.url}/{NAME}/resolve/main/big.safetensors", "HEAD").headers["Location"]
        parts = urlsplit(link)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80)
        connection.request("GET", f"{parts.path}?{parts.query}")
        answer = connection.getresponse()
        answer.read(1 << 20)
        answer.close()
        connection.close()
        assert hub.settle()
        assert 1 << 20 <= hub.sent[f"{NAME}/big.safetensors"] < 1 << 25

    def test_a_fault_of_the_fake_itself_is_not_lost(self) -> None:
        def broken(name: str, content: object) -> bool:
            raise LookupError(name)

        repo = Repo(files={"config.json": CONFIG}, lfs=broken)
        with (
            pytest.raises(LookupError, match=r"config\.json"),
            serve(repos={NAME: repo}) as hub,
            pytest.raises(http.client.RemoteDisconnected),
        ):
            ask(hub.url + SMALL)

"""What selfhost reads of a real vLLM under load is what its clients counted."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from selfhost.observation import EngineAddress, EngineSnapshot, known
from selfhost.probe import read_startup_log, scrape
from tests.conftest import Cli
from tests.e2e.conftest import Server, Vllm, serving

SEATS, CLIENTS, BLOCK = 2, 4, 32
ARGUMENTS = (
    "--served-model-name=tiny", "--max-model-len=512", f"--max-num-seqs={SEATS}", "--max-num-batched-tokens=512",
    f"--block-size={BLOCK}", "--enforce-eager", "--kv-cache-memory-bytes=2097152", "--dtype=float32",
    "--no-enable-prefix-caching",
)  # fmt: skip
# 2 MiB of KV cache: 2 x 2 heads x 32 wide x 4 layers x 4 bytes = 2 KiB a token, 1,024 tokens in 32 blocks of 32.
BLOCKS = 32
PROMPT = "Tell me about the sea and the wind." * 3
TOKENS = 160
# How long the load is watched, and what may lie between a token's being counted and its reaching the client.
WATCHED_SECONDS = 8.0
WITHIN = 0.05


@pytest.fixture(scope="module")
def server(vllm: Vllm, tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("monitor")
    arguments = [str(tiny_models / "tiny-llama"), *ARGUMENTS]
    with serving(vllm, arguments, {"HOME": str(folder)}, folder / "server.log") as running:
        yield running


@dataclass(slots=True)
class Client:
    """Streams one completion after the other, and notes when each token and each usage came."""

    url: str
    stop: threading.Event
    tokens: list[float] = field(default_factory=list)
    prompts: list[tuple[float, int]] = field(default_factory=list)
    open: list[tuple[float, float]] = field(default_factory=list)
    held: tuple[int, int] | None = None

    def run(self) -> None:
        while not self.stop.is_set():
            self._one()

    def _one(self) -> None:
        body = {
            "model": "tiny", "prompt": PROMPT, "max_tokens": TOKENS, "ignore_eos": True, "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True}, "temperature": 1.0,
        }  # fmt: skip
        request = urllib.request.Request(
            f"{self.url}/v1/completions",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        began, seen = time.time(), 0
        with urllib.request.urlopen(request, timeout=120) as answer:
            for line in answer:
                if not line.startswith(b"data: {"):
                    continue
                usage = json.loads(line[6:]).get("usage") or {}
                counted = int(usage.get("completion_tokens", seen))
                now = time.time()
                if not seen and counted:
                    self.prompts.append((now, int(usage["prompt_tokens"])))
                self.tokens.extend([now] * (counted - seen))
                seen = counted
                self.held = (int(usage.get("prompt_tokens", 0)), seen) if seen < TOKENS else None
        self.open.append((began, time.time()))


def load(server: Server) -> tuple[list[Client], list[tuple[EngineSnapshot, list[tuple[int, int]]]]]:
    """Clients at work for a while, and what was scraped meanwhile beside what the clients had in hand."""
    url, stop = f"http://127.0.0.1:{server.port}", threading.Event()
    clients = [Client(url=url, stop=stop) for _ in range(CLIENTS)]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    looks = []
    try:
        time.sleep(2.0)  # until every seat is taken and the rest queue
        previous = None
        until = time.time() + WATCHED_SECONDS
        while time.time() < until:
            address = EngineAddress(url=url, log=str(server.log))
            seen = scrape(address, timeout_seconds=2.0, now=time.time(), previous=previous)
            looks.append((seen, [client.held for client in clients if client.held is not None]))
            previous = seen
            time.sleep(0.25)
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=120)
    return clients, looks


def grown(looks: list[tuple[EngineSnapshot, list[tuple[int, int]]]], name: str) -> int:
    first, last = (getattr(looks[place][0], name) for place in (0, -1))
    assert known(first)
    assert known(last)
    return int(last) - int(first)


def test_load_as_the_clients_counted_it(server: Server) -> None:
    clients, looks = load(server)
    assert all(seen.metrics_age_seconds == 0.0 and seen.health_status == 200 for seen, _ in looks)
    first, last = looks[0][0].at, looks[-1][0].at
    seen = looks[-1][0]
    assert (seen.engine, seen.version, seen.name) == ("vllm", "0.32.0", "tiny")
    assert (seen.cache.gpu_blocks, seen.cache.block_tokens) == (BLOCKS, BLOCK)
    assert seen.cache.size_tokens == BLOCKS * BLOCK
    assert seen.startup == read_startup_log(server.log.read_text(encoding="utf-8"))

    # Tokens: each client notes when a token came; the engine's counter over the same time.
    counted = sum(first < at <= last for client in clients for at in client.tokens)
    assert counted > 300, "too few tokens for 5 %"
    assert grown(looks, "generation_tokens") == pytest.approx(counted, rel=WITHIN)
    # Prompts are counted with their first token; a few of some 107 tokens lie on either side of the edge.
    prompts = [tokens for client in clients for at, tokens in client.prompts if first < at <= last]
    one = clients[0].prompts[0][1]
    assert grown(looks, "prompt_tokens") == pytest.approx(sum(prompts), rel=WITHIN, abs=one)
    finished = sum(first < end <= last for client in clients for _, end in client.open)
    assert abs(grown(looks, "requests_finished") - finished) <= 1

    # Queue: four clients that ask again at once, two seats.
    both = [(look.running, look.waiting) for look, _ in looks]
    assert all(known(running) and known(waiting) for running, waiting in both)
    in_hand = [number(look.running) + number(look.waiting) for look, _ in looks]
    assert sum(in_hand) / len(in_hand) == pytest.approx(CLIENTS, rel=WITHIN)
    seats = [number(look.running) for look, _ in looks]
    assert sum(seats) / len(seats) == pytest.approx(SEATS, rel=WITHIN)

    # KV cache: blocks that the streams in hand fill, as their clients knew it at the moment of each look.
    shares, used = [], []
    for look, held in looks:
        if len(held) == SEATS:
            shares.append(sum(-(-(prompt + tokens) // BLOCK) for prompt, tokens in held) / (BLOCKS - 1))
            assert known(look.kv_usage_ratio)
            used.append(look.kv_usage_ratio)
    assert len(shares) > 5
    assert sum(used) / len(used) == pytest.approx(sum(shares) / len(shares), rel=WITHIN)


def number(reading: object) -> int:
    assert isinstance(reading, int)
    return reading


def test_after_the_load_it_is_idle_and_one_token_comes_back(server: Server) -> None:
    seen = scrape(
        EngineAddress(url=f"http://127.0.0.1:{server.port}"),
        timeout_seconds=10.0,
        now=time.time(),
        canary=True,
    )
    assert known(seen.canary_seconds)
    assert seen.canary_seconds < 10
    again = scrape(
        EngineAddress(url=f"http://127.0.0.1:{server.port}"),
        timeout_seconds=5.0,
        now=time.time(),
        previous=seen,
    )
    assert (again.running, again.waiting, again.kv_usage_ratio) == (0, 0, 0.0)
    assert number(again.generation_tokens) - number(seen.generation_tokens) in (0, 1)


def test_it_is_found_by_its_processes(server: Server) -> None:
    node = pytest.importorskip("selfhost.node")
    pids = tuple(int(name) for name in os.listdir("/proc") if name.isdecimal())
    found = [address for address in node.find_engines(pids) if address.url.endswith(f":{server.port}")]
    (address,) = found
    assert address.engine == "vllm"
    assert len(address.pids) >= 2  # the server, and the core that it started


def test_the_command_shows_it(server: Server, cli: Cli) -> None:
    pytest.importorskip("selfhost.cli.monitor")
    url = f"http://127.0.0.1:{server.port}"
    done = cli("monitor", "--json", "--engine", url)
    (shown,) = (one for one in json.loads(done.out)["engines"] if one["url"] == url)
    assert (shown["name"], shown["engine"], shown["health_status"]) == ("tiny", "vllm", 200)
    assert shown["waiting"] == 0

"""What selfhost reads of a real vLLM under load is what its clients counted."""

from __future__ import annotations

import bisect
import json
import os
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from selfhost.health.memory_plan import memory_terms
from selfhost.observation import EngineAddress, EngineSnapshot, Missing, known
from selfhost.plan import read_plan
from selfhost.probe import read_startup_log, scrape
from tests.conftest import Cli
from tests.e2e.conftest import Server, Vllm, serving

SEATS, CLIENTS, BLOCK = 2, 4, 32
ARGUMENTS = (
    "--served-model-name=tiny", "--max-model-len=512", f"--max-num-seqs={SEATS}", "--max-num-batched-tokens=512",
    f"--block-size={BLOCK}", "--enforce-eager", "--kv-cache-memory-bytes=1048576",
    "--no-enable-prefix-caching",
)  # fmt: skip
# 1 MiB of KV cache: 2 x 2 heads x 32 wide x 4 layers x 2 bytes = 1 KiB a token, 1,024 tokens in 32 blocks of 32.
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
    # Tokens that its stream held from a moment on, prompt included; 0 from its end to the next one's first token.
    held: list[tuple[float, int]] = field(default_factory=list)

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
                self.held.append((now, int(usage["prompt_tokens"]) + seen if 0 < seen < TOKENS else 0))
        self.open.append((began, time.time()))

    def held_at(self, at: float) -> int:
        """Tokens in hand at a moment."""
        place = bisect.bisect_right(self.held, (at, 1 << 30))
        return self.held[place - 1][1] if place else 0


def load(server: Server) -> tuple[list[Client], list[EngineSnapshot]]:
    """Clients at work for a while, and what was scraped meanwhile."""
    url, stop = f"http://127.0.0.1:{server.port}", threading.Event()
    clients = [Client(url=url, stop=stop) for _ in range(CLIENTS)]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    looks: list[EngineSnapshot] = []
    try:
        time.sleep(2.0)  # until every seat is taken and the rest queue
        previous: EngineSnapshot | None = None
        until = time.time() + WATCHED_SECONDS
        while time.time() < until:
            address = EngineAddress(url=url, log=str(server.log))
            previous = scrape(address, timeout_seconds=2.0, now=time.time(), previous=previous)
            looks.append(previous)
            time.sleep(0.2)
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=120)
    return clients, looks


def grown(looks: list[EngineSnapshot], name: str) -> int:
    first, last = (getattr(looks[place], name) for place in (0, -1))
    assert known(first)
    assert known(last)
    return int(last) - int(first)


def test_load_as_the_clients_counted_it(server: Server) -> None:
    clients, looks = load(server)
    assert all(seen.metrics_age_seconds == 0.0 and seen.health_status == 200 for seen in looks)
    first, last = looks[0].at, looks[-1].at
    seen = looks[-1]
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

    # Queue: four clients that ask again at once, two seats; a client knows whether its request was under way.
    asked = [sum(began < look.at < end for client in clients for began, end in client.open) for look in looks]
    in_hand = [number(look.running) + number(look.waiting) for look in looks]
    assert sum(in_hand) == pytest.approx(sum(asked), rel=WITHIN)
    seats = [number(look.running) for look in looks]
    assert sum(seats) == pytest.approx(sum(min(SEATS, one) for one in asked), rel=WITHIN)
    assert sum(number(look.waiting) for look in looks) > len(looks)

    # KV cache: blocks that the streams in hand fill, as their clients knew it at the moment of each look.
    shares, used = [], []
    for look in looks:
        held = [tokens for client in clients if (tokens := client.held_at(look.at))]
        if len(held) == SEATS:
            shares.append(sum(-(-tokens // BLOCK) for tokens in held) / (BLOCKS - 1))
            assert known(look.kv_usage_ratio)
            used.append(look.kv_usage_ratio)
    assert len(shares) > 5
    assert sum(used) / len(used) == pytest.approx(sum(shares) / len(shares), rel=WITHIN)


def test_memory_terms_of_the_plan_it_was_started_from(
    server: Server, cli: Cli, tiny_models: Path, tmp_path: Path
) -> None:
    planned = cli(
        "plan", tiny_models / "tiny-llama", "--context", "512", "--concurrency", "1", "--gpu", "l4-24gb",
        "--kv-cache-memory", "1MiB", "--max-num-seqs", str(SEATS), "--max-num-batched-tokens", "512",
        "--block-size", str(BLOCK), "--enforce-eager", "-o", tmp_path / "plan.json",
    )  # fmt: skip
    assert planned.code == 0, planned.err
    plan = read_plan(tmp_path / "plan.json")
    address = EngineAddress(url=f"http://127.0.0.1:{server.port}", log=str(server.log))
    seen = scrape(address, timeout_seconds=5.0, now=time.time())
    (kv, *_, total) = memory_terms(plan, seen, ())
    assert (kv.name, kv.error_bytes) == ("KV cache", 0)
    assert isinstance(total.actual, Missing)  # no GPU here
    assert known(seen.startup)
    assert seen.startup.kv_tokens == plan.memory.kv_tokens == BLOCKS * BLOCK


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
    assert done.out, done.err
    (shown,) = (one for one in json.loads(done.out)["engines"] if one["url"] == url)
    assert (shown["name"], shown["engine"], shown["health_status"]) == ("tiny", "vllm", 200)
    assert shown["waiting"] == 0

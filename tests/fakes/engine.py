"""An engine on loopback that speaks vLLM's metrics, or another page: its values are set, frozen, withheld or false."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

VLLM_PAGE = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="{model}"}} {running}
vllm:num_requests_waiting{{engine="0",model_name="{model}"}} {waiting}
vllm:engine_sleep_state{{engine="0",model_name="{model}",sleep_state="awake"}} {awake}
vllm:engine_sleep_state{{engine="0",model_name="{model}",sleep_state="weights_offloaded"}} {asleep}
vllm:kv_cache_usage_perc{{engine="0",model_name="{model}"}} {kv_usage}
vllm:prefix_cache_queries_total{{engine="0",model_name="{model}"}} {prompt_tokens}
vllm:prefix_cache_hits_total{{engine="0",model_name="{model}"}} 0.0
vllm:num_preemptions_total{{engine="0",model_name="{model}"}} {preemptions}
vllm:prompt_tokens_total{{engine="0",model_name="{model}"}} {prompt_tokens}
vllm:prompt_tokens_created{{engine="0",model_name="{model}"}} 1.7e+09
vllm:generation_tokens_total{{engine="0",model_name="{model}"}} {generation_tokens}
vllm:request_success_total{{engine="0",finished_reason="stop",model_name="{model}"}} {finished}
vllm:request_success_total{{engine="0",finished_reason="length",model_name="{model}"}} 0.0
vllm:time_to_first_token_seconds_bucket{{engine="0",le="+Inf",model_name="{model}"}} {finished}
vllm:time_to_first_token_seconds_count{{engine="0",model_name="{model}"}} {finished}
vllm:time_to_first_token_seconds_sum{{engine="0",model_name="{model}"}} {first_token_seconds}
vllm:inter_token_latency_seconds_count{{engine="0",model_name="{model}"}} {generation_tokens}
vllm:inter_token_latency_seconds_sum{{engine="0",model_name="{model}"}} 12.5
vllm:cache_config_info{{block_size="{block_size}",cache_dtype="auto",engine="0",gpu_memory_utilization="0.92",\
kv_cache_size_tokens="{cache_tokens}",num_gpu_blocks="{blocks}"}} 1.0
"""


@dataclass(slots=True, kw_only=True)
class Script:
    """What the engine answers. Change it while it runs.

    Args:
        values: what the page is filled with.
        tokens_per_second: how fast generation_tokens grows by itself, 0 while frozen.
        page: another page than vLLM's, taken as it is.
        health, metrics: HTTP status of these paths.
        hang: paths that take the request and never answer.
        drip_seconds: pause between the bytes of the metrics page.
        closing: ends the connection after each answer, whose length it does not tell, as HTTP/1.0 does.
        redirect: where the metrics path sends the client.
        extra: more JSON pages by path.
    """

    values: dict[str, Any] = field(
        default_factory=lambda: {
            "model": "tiny", "running": 0, "waiting": 0, "awake": 1.0, "asleep": 0.0, "kv_usage": 0.0,
            "preemptions": 0, "prompt_tokens": 0, "generation_tokens": 0, "finished": 0,
            "first_token_seconds": 0.0, "block_size": 16, "blocks": 1000, "cache_tokens": 16000,
        }
    )  # fmt: skip
    tokens_per_second: float = 0.0
    page: str | None = None
    health: int = 200
    metrics: int = 200
    hang: frozenset[str] = frozenset()
    drip_seconds: float = 0.0
    closing: bool = False
    redirect: str | None = None
    extra: dict[str, bytes] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def text(self) -> str:
        """The metrics page as it is now."""
        if self.page is not None:
            return self.page
        grown = int((time.monotonic() - self.started) * self.tokens_per_second)
        values = self.values | {"generation_tokens": self.values["generation_tokens"] + grown}
        return VLLM_PAGE.format(**values)


@dataclass(slots=True, kw_only=True)
class FakeEngine:
    """A running fake: its address, its script, and the requests that it had as (method, path, Authorization)."""

    url: str
    script: Script
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeEngine

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass

    def do_GET(self) -> None:
        fake, script = self.fake, self.fake.script
        fake.requests.append(("GET", self.path, self.headers.get("Authorization")))
        if self.path in script.hang:
            fake.released.wait(30)
            self.close_connection = True
            return
        if self.path == "/health":
            self._answer(script.health, b"")
        elif self.path == "/metrics":
            if script.redirect is not None:
                self._answer(302, b"", location=script.redirect)
                return
            self._answer(script.metrics, script.text().encode(), drip=script.drip_seconds)
        elif self.path in script.extra:
            self._answer(200, script.extra[self.path])
        elif self.path == "/version":
            self._answer(200, b'{"version":"0.32.0"}')
        else:
            self._answer(404, b"")

    def do_POST(self) -> None:
        fake, script = self.fake, self.fake.script
        fake.requests.append(("POST", self.path, self.headers.get("Authorization")))
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path in script.hang:
            fake.released.wait(30)
            self.close_connection = True
            return
        self._answer(200, b'{"choices":[{"text":"!"}],"usage":{"completion_tokens":1}}')

    def _answer(self, status: int, body: bytes, *, location: str | None = None, drip: float = 0.0) -> None:
        self.send_response(status)
        if self.fake.script.closing:
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body)))
        if location is not None:
            self.send_header("Location", location)
        self.end_headers()
        try:
            if not drip:
                self.wfile.write(body)
                return
            for index in range(len(body)):
                self.wfile.write(body[index : index + 1])
                if self.fake.released.wait(drip):
                    return
        except OSError:
            self.close_connection = True


@contextmanager
def engine(script: Script | None = None) -> Iterator[FakeEngine]:
    """Start a fake engine on a free port; stop it afterwards."""
    fake = FakeEngine(url="", script=script or Script())
    handler = type("Handler", (_Handler,), {"fake": fake})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        fake.released.set()
        server.shutdown()
        server.server_close()
        thread.join()

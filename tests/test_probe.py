"""What an engine shows, read over loopback; and which GPUs it runs on."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from selfhost.engines.vllm.tables import METRICS
from selfhost.observation import (
    EngineAddress,
    EngineSnapshot,
    GpuIdentity,
    GpuProcess,
    GpuSnapshot,
    LatencySum,
    MigInstance,
    Missing,
    SlowReadings,
    known,
)
from selfhost.observation.reading import NOT_READ
from selfhost.probe import join, metric_names, read_startup_log, scrape, scrape_all
from selfhost.probe.text import read_samples
from selfhost.probe.wire import NoAnswerError, parse_target
from selfhost.units import GIB
from tests.fakes.engine import Script, engine

NOW = 1_700_000_000.0


def look(url: str, **changes: Any) -> EngineSnapshot:
    address = changes.pop("address", None) or EngineAddress(url=url)
    return scrape(address, **({"timeout_seconds": 2.0, "now": NOW} | changes))


def gone(reading: object) -> str:
    assert isinstance(reading, Missing)
    return reading.missing


def test_every_reading_of_a_vllm() -> None:
    script = Script()
    script.values |= {
        "running": 3, "waiting": 2, "kv_usage": 0.25, "preemptions": 4, "prompt_tokens": 1000,
        "generation_tokens": 200, "finished": 10, "first_token_seconds": 1.5,
    }  # fmt: skip
    with engine(script) as fake:
        seen = look(fake.url, address=EngineAddress(url=fake.url, pids=(11, 12)))
        assert [path for _, path, _ in fake.requests] == ["/metrics", "/health", "/version"]
    assert (seen.name, seen.engine, seen.version, seen.url) == ("tiny", "vllm", "0.32.0", fake.url)
    assert (seen.running, seen.waiting, seen.kv_usage_ratio, seen.preemptions) == (3, 2, 0.25, 4)
    assert (seen.prompt_tokens, seen.generation_tokens, seen.requests_finished) == (1000, 200, 10)
    assert seen.first_token == LatencySum(seconds=1.5, count=10)
    assert seen.inter_token == LatencySum(seconds=12.5, count=200)
    assert (seen.sleeping, seen.health_status, seen.metrics_age_seconds) == (False, 200, 0.0)
    assert (seen.cache.gpu_blocks, seen.cache.block_tokens, seen.cache.size_tokens) == (1000, 16, 16000)
    assert (seen.cache.gpu_memory_utilization, seen.cache.kv_dtype) == (0.92, "auto")
    assert seen.pids == (11, 12)
    assert not known(seen.queue_time)
    assert not known(seen.gpu_uuids)
    assert not seen.unanswered


def test_a_server_that_ends_each_connection() -> None:
    with engine(Script(closing=True)) as fake:
        seen = look(fake.url, canary=True)
    assert (seen.running, seen.health_status, seen.version) == (0, 200, "0.32.0")
    assert known(seen.canary_seconds)


def test_data_parallel_ranks_are_summed_and_the_fullest_cache_counts() -> None:
    page = "\n".join(
        f'vllm:{name}{{engine="{rank}",model_name="m"}} {value}'
        for rank, values in enumerate(((1, 5, 0.2, 100), (2, 6, 0.9, 50)))
        for name, value in zip(
            (
                "num_requests_running",
                "num_requests_waiting",
                "kv_cache_usage_perc",
                "generation_tokens_total",
            ),
            values,
            strict=True,
        )
    )
    page += '\nvllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="90"} 1.0'
    page += '\nvllm:cache_config_info{block_size="16",engine="1",num_gpu_blocks="80",cache_dtype="fp8"} 1.0\n'
    with engine(Script(page=page)) as fake:
        seen = look(fake.url)
    assert (seen.running, seen.waiting, seen.kv_usage_ratio, seen.generation_tokens) == (3, 11, 0.9, 150)
    assert seen.cache.gpu_blocks == 80
    assert gone(seen.cache.size_tokens).startswith("no kv_cache_size_tokens")


OLD_VLLM = """\
vllm:num_requests_running{model_name="a"} 1.0
vllm:num_requests_waiting{model_name="a"} 0.0
vllm:gpu_cache_usage_perc{model_name="a"} 0.125
vllm:gpu_prefix_cache_queries_total{model_name="a"} 10
vllm:gpu_prefix_cache_hits_total{model_name="a"} 4
vllm:time_per_output_token_seconds_sum{model_name="a"} 2
vllm:time_per_output_token_seconds_count{model_name="a"} 40
vllm:cache_config_info{block_size="16",cache_dtype="auto",num_gpu_blocks="None",gpu_memory_utilization="0.9"} 1.0
"""
SGLANG = """\
sglang:num_running_reqs{model_name="s",tp_rank="0",pp_rank="0"} 4
sglang:num_running_reqs{model_name="s",tp_rank="0",pp_rank="1"} 4
sglang:num_queue_reqs{model_name="s"} 1
sglang:token_usage{model_name="s"} 0.5
sglang:prompt_tokens_total{model_name="s"} 70
sglang:generation_tokens_total{model_name="s"} 80
sglang:realtime_tokens_total{model_name="s",mode="prefill_compute"} 90
sglang:realtime_tokens_total{model_name="s",mode="prefill_cache"} 10
sglang:realtime_tokens_total{model_name="s",mode="decode"} 95
sglang:max_total_num_tokens{model_name="s"} 161721
"""
TGI = """\
tgi_batch_current_size 2
tgi_queue_size 7
tgi_request_success{method="batch"} 5
tgi_request_generated_tokens_sum 500
tgi_request_generated_tokens_count 5
tgi_request_input_length_sum 50
tgi_request_queue_duration_sum 0.5
tgi_request_queue_duration_count 5
"""
LLAMACPP = """\
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 1
llamacpp:requests_deferred 3
llamacpp:prompt_tokens_total 16185
llamacpp:tokens_predicted_total 394
"""


@pytest.mark.parametrize(
    ("page", "wanted"),
    [
        (OLD_VLLM, {"engine": "vllm", "kv_usage_ratio": 0.125, "prefix_queries": 10, "prefix_hits": 4,
                    "inter_token": LatencySum(seconds=2.0, count=40)}),
        (SGLANG, {"engine": "sglang", "running": 4, "waiting": 1, "kv_usage_ratio": 0.5, "prompt_tokens": 100,
                  "generation_tokens": 95, "version": "0.5.23", "model": "s"}),
        (TGI, {"engine": "tgi", "running": 2, "waiting": 7, "requests_finished": 5, "generation_tokens": 500,
               "queue_time": LatencySum(seconds=0.5, count=5), "model": "org/m", "version": "3.3.7"}),
        (LLAMACPP, {"engine": "llamacpp", "running": 1, "waiting": 3, "prompt_tokens": 16185,
                    "generation_tokens": 394, "version": "b9000", "model": "m.gguf"}),
    ],
    ids=["vllm-0.6", "sglang", "tgi", "llamacpp"],
)  # fmt: skip
def test_other_engines_and_older_releases(page: str, wanted: dict[str, object]) -> None:
    extra = {
        "/server_info": b'{"version":"0.5.23"}',
        "/info": b'{"version":"3.3.7","model_id":"org/m"}',
        "/props": b'{"build_info":"b9000","model_alias":"m.gguf"}',
    }
    with engine(Script(page=page, extra=extra)) as fake:
        seen = look(fake.url)
    assert {name: getattr(seen, name) for name in wanted} == wanted


def test_what_cannot_be_true_is_missing_with_what_stood_there() -> None:
    script = Script()
    script.values |= {"running": "NaN", "waiting": -3, "kv_usage": 1.7, "generation_tokens": 0}
    script.values |= {"prompt_tokens": "1e300", "first_token_seconds": "+Inf", "blocks": "None"}
    with engine(script) as fake:
        seen = look(fake.url)
    assert gone(seen.running) == "vllm:num_requests_running is nan, which is no count"
    assert "is -3" in gone(seen.waiting)
    assert "is 1.7, which is no share" in gone(seen.kv_usage_ratio)
    assert "1e+300" in gone(seen.prompt_tokens)
    assert "no latency" in gone(seen.first_token)
    assert "num_gpu_blocks" in gone(seen.cache.gpu_blocks)
    assert seen.generation_tokens == 0


def test_metrics_stand_with_their_age_while_none_can_be_read() -> None:
    script = Script()
    script.values |= {"generation_tokens": 7}
    with engine(script) as fake:
        first = look(fake.url)
        script.metrics = 503
        second = look(fake.url, previous=first, now=NOW + 10)
        script.hang = frozenset({"/metrics"})
        third = look(fake.url, previous=second, now=NOW + 25, timeout_seconds=0.4)
        assert third.health_status == 200  # the metrics' hang leaves time for it
    fourth = look(fake.url, previous=third, now=NOW + 30)
    assert [one.generation_tokens for one in (first, second, third, fourth)] == [7, 7, 7, 7]
    assert [one.metrics_age_seconds for one in (first, second, third, fourth)] == [0.0, 10.0, 25.0, 30.0]
    assert fourth.at == NOW + 30
    assert gone(fourth.health_status) == "connection refused"
    other = look("http://127.0.0.1:9", previous=first)
    assert gone(other.generation_tokens) == "connection refused"
    assert gone(other.metrics_age_seconds) == "connection refused"


def test_an_engine_started_anew_is_asked_for_its_version_again() -> None:
    script = Script()
    script.values |= {"generation_tokens": 7}
    with engine(script) as fake:
        first = look(fake.url)
        second = look(fake.url, previous=first)
        script.values |= {"generation_tokens": 0}
        third = look(fake.url, previous=second)
        asked = [path for _, path, _ in fake.requests].count("/version")
    assert [one.version for one in (first, second, third)] == ["0.32.0"] * 3
    assert asked == 2


def test_a_scrape_ends_in_time_whatever_the_server_does() -> None:
    with engine(Script(drip_seconds=0.05)) as fake:
        began = time.monotonic()
        seen = look(fake.url, timeout_seconds=0.5)
        took = time.monotonic() - began
    assert took < 1.0
    assert gone(seen.running) == "no answer within 0.3 s"
    assert seen.health_status == 200


def test_a_server_that_never_ends_its_header_or_speaks_no_http() -> None:
    for words in (b"HTTP/1.1 200 OK\r\nX-Pad: ", b"\x00\xff\xfe" * 30 + b"\r\n\r\n", b""):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(8)
            done = threading.Event()

            def serve(
                listener: socket.socket = listener, words: bytes = words, done: threading.Event = done
            ) -> None:
                links = []
                listener.settimeout(0.1)
                while not done.is_set():
                    try:
                        link, _ = listener.accept()
                    except TimeoutError:
                        continue
                    links.append(link)
                    if words:
                        link.sendall(words)
                for link in links:
                    link.close()

            thread = threading.Thread(target=serve)
            thread.start()
            began = time.monotonic()
            seen = look(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_seconds=0.4)
            took = time.monotonic() - began
            done.set()
            thread.join()
        assert took < 0.9, words
        assert not known(seen.running), words
        assert not known(seen.health_status), words


def test_a_page_without_end_is_cut_off() -> None:
    page = "x" * (8 * 2**20 + 10)
    with engine(Script(page=page)) as fake:
        seen = look(fake.url, timeout_seconds=5)
    assert gone(seen.running) == "an answer of more than 8 MiB"
    assert seen.health_status == 200


def test_a_page_of_something_else() -> None:
    with engine(Script(page="<html>{}</html>\nnode_load1 0.5\n")) as fake:
        seen = look(fake.url)
    assert seen.engine == "unknown"
    assert gone(seen.running) == "no metric of a known engine on its page"
    assert not known(seen.metrics_age_seconds)


def test_redirects_are_not_followed_and_credentials_are_not_shown() -> None:
    with engine() as other, engine(Script(redirect=other.url + "/metrics")) as fake:
        with_secret = fake.url.replace("http://", "http://user:s3cret@") + "/?token=hunter2"
        seen = look(with_secret, api_key="sk-abc")
        assert other.requests == []
        assert {sent for _, _, sent in fake.requests} == {"Bearer sk-abc"}
    assert gone(seen.running) == "HTTP 302: redirects elsewhere, which is not followed"
    assert "s3cret" not in repr(seen)
    assert "hunter2" not in repr(seen)
    assert seen.url == fake.url
    with engine() as fake:
        look(fake.url.replace("http://", "http://user:pw@"))
        assert {sent for _, _, sent in fake.requests} == {"Basic dXNlcjpwdw=="}


def test_one_token_is_asked_for_only_when_wanted() -> None:
    with engine() as fake:
        quiet = look(fake.url)
        assert "no request was sent" in gone(quiet.canary_seconds)
        asked = look(fake.url, canary=True)
        assert known(asked.canary_seconds)
        assert 0 < asked.canary_seconds < 2
        fake.script.hang = frozenset({"/v1/completions"})
        stuck = look(fake.url, canary=True, timeout_seconds=0.5)
        assert stuck.unanswered
        assert not quiet.unanswered
        assert stuck.health_status == 200


def test_a_connection_that_ends_is_told_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            for _ in range(2):
                with server.accept()[0] as one:
                    one.recv(4096)

        threading.Thread(target=hang_up, daemon=True).start()
        seen = look(f"http://127.0.0.1:{server.getsockname()[1]}")
    assert gone(seen.running) == "the connection ended before the answer did"


def test_an_engine_that_there_was_no_time_to_ask_is_not_silent() -> None:
    """A page that took all the time, on a machine that is busy elsewhere, says nothing of its health path."""
    with engine() as fake:
        seen = look(fake.url, timeout_seconds=0.09)
    assert seen.health_status == NOT_READ


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x:port", "file:///etc/passwd", ""])
def test_what_is_no_address(url: str) -> None:
    seen = look(url)
    assert "address" in gone(seen.running)
    with pytest.raises(NoAnswerError):
        parse_target(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://h:1/metrics", "http://h:1"),
        ("http://h:1/team/v1/", "http://h:1/team"),
        ("http://[::1]:8000/", "http://[::1]:8000"),
    ],
)
def test_addresses_in_several_spellings(url: str, shown: str) -> None:
    assert parse_target(url).shown == shown


def test_several_engines_at_once_take_the_time_of_one() -> None:
    slow = Script(hang=frozenset({"/metrics", "/health"}))
    with engine(slow) as dead, engine() as well:
        addresses = [EngineAddress(url=dead.url)] * 3 + [EngineAddress(url=well.url)]
        began = time.monotonic()
        seen = scrape_all(addresses, timeout_seconds=0.5, now=NOW)
        assert time.monotonic() - began < 1.2
    assert [known(one.running) for one in seen] == [False, False, False, True]
    assert scrape_all([], timeout_seconds=1, now=NOW) == ()


def test_text_with_escapes_spaces_and_nonsense() -> None:
    text = 'a{x="1\\"}\\n\\\\",y="z"} 5 1700000000\na 3\na{x="cut} 7\nb{} nan\na{x="} 2"} 9\na\na{}\n# a 4\na nope\n'
    found = read_samples(text, frozenset({"a", "b"}))
    assert [(sample.labels, sample.value) for sample in found["a"]] == [
        ({"x": '1"}\n\\', "y": "z"}, 5.0), ({}, 3.0), ({}, 7.0), ({"x": "} 2"}, 9.0),
    ]  # fmt: skip
    assert found["b"][0].value != found["b"][0].value


def test_the_names_read_are_those_that_operations_rely_on() -> None:
    read = metric_names("vllm")
    named = {name for name in METRICS if name in read or f"{name}_sum" in read}
    assert named >= {
        "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
        "vllm:generation_tokens_total", "vllm:prompt_tokens_total", "vllm:inter_token_latency_seconds",
    }  # fmt: skip


# Which GPUs.


def gpu(index: int, *processes: GpuProcess, **slow: Any) -> GpuSnapshot:
    identity = GpuIdentity(
        index=index, uuid=f"GPU-{index}", pci_address=f"00000000:0{index}:00.0", name="NVIDIA H100 80GB HBM3"
    )
    return GpuSnapshot(identity=identity, slow=SlowReadings(processes=processes, **slow))


def one(url: str = "http://127.0.0.1:8000", **changes: Any) -> EngineSnapshot:
    return EngineSnapshot(name="m", url=url, engine="vllm", at=NOW, **changes)


def joined(engines: list[EngineSnapshot], *gpus: GpuSnapshot) -> list[object]:
    return [engine.gpu_uuids for engine in join(engines, gpus)]


def test_joined_by_process() -> None:
    gpus = gpu(0, GpuProcess(pid=5)), gpu(1, GpuProcess(pid=6)), gpu(2, GpuProcess(pid=7)), gpu(3)
    engines = [
        one(pids=(4, 5, 6)),
        one("http://127.0.0.1:8001", pids=(7,)),
        one("http://127.0.0.1:8002", pids=(9,)),
    ]
    first, second, third = joined(engines, *gpus)
    assert (first, second) == (("GPU-0", "GPU-1"), ("GPU-2",))
    assert "name them" in gone(third)


def test_joined_as_named() -> None:
    mig = MigInstance(uuid="MIG-x", gpu_instance=1, compute_instance=0)
    gpus = gpu(0), gpu(1), gpu(2, mig=(mig,))
    named = [one(gpu_uuids=("1", "gpu-0")), one(gpu_uuids=("00000000:02:00.0",)), one(gpu_uuids=("MIG-x",))]
    assert joined(named, *gpus) == [("GPU-0", "GPU-1"), ("GPU-2",), ("GPU-2",)]
    assert gone(joined([one(gpu_uuids=("7",))], *gpus)[0]) == "there is no GPU '7' on this node"


def test_the_only_engine_has_the_only_gpus_that_are_used() -> None:
    workers = [GpuProcess(pid=50 + rank, name=f"VLLM::Worker_TP{rank}") for rank in range(2)]
    assert joined([one()], gpu(0, workers[0]), gpu(1, workers[1]), gpu(2)) == [("GPU-0", "GPU-1")]
    assert joined([one()], gpu(0)) == [("GPU-0",)]
    notebook = GpuProcess(pid=60, name="python3")
    assert "2 owners" in gone(joined([one()], gpu(0, workers[0]), gpu(1, notebook))[0])
    screen = replace(notebook, kind="graphics")
    assert joined([one()], gpu(0, workers[0], screen), gpu(1, screen)) == [("GPU-0",)]


def test_no_guess_where_it_could_be_another() -> None:
    busy = gpu(0, GpuProcess(pid=60, name="python3"))
    assert "another machine" in gone(joined([one("http://10.0.0.5:8000")], busy)[0])
    assert "no process of this engine" in gone(joined([one(pids=(4,))], busy)[0])
    assert joined([one(pids=(4,))], gpu(0, GpuProcess(pid=60))) == [("GPU-0",)]  # a PID of another namespace
    assert "2 engines" in gone(joined([one(), one("http://127.0.0.1:8001")], gpu(0))[0])
    assert gone(joined([one()])[0]) == "no GPU can be seen from here"
    assert "any of 2 GPUs" in gone(joined([one()], gpu(0), gpu(1))[0])


# Start-up logs.

LOG = """\
INFO (Worker_TP0) Model loading took 29.43 GiB memory and 28.446389 seconds
INFO (Worker_TP1) Model loading took 29.43 GiB memory and 28.9 seconds
Memory profiling takes 22.62 seconds. Total non KV cache memory: 31.62GiB; torch peak memory increase: 1.93GiB; \
non-torch forward increase memory: 0.26GiB; weights memory: 29.43GiB.
Available KV cache memory: 43.61 GiB
GPU KV cache size: 1,505,552 tokens
CUDA graph pool memory: 1.57 GiB (actual), 1.39 GiB (estimated), difference: 0.19 GiB (11.8%).
"""


def test_startup_log() -> None:
    found = read_startup_log(LOG)
    assert found is not None
    assert found.weights_bytes == round(29.43 * GIB)
    assert found.kv_available_bytes == round(43.61 * GIB)
    assert found.activation_bytes == round(1.93 * GIB)
    assert found.non_torch_bytes == round(0.26 * GIB)
    assert found.graphs_bytes == round(1.57 * GIB)
    assert found.kv_tokens == 1_505_552
    again = read_startup_log(
        LOG + "INFO Model loading took 14.0 GiB\nGraph capturing finished in 21 secs, took 0.81 GiB\n"
    )
    assert again is not None
    assert (again.weights_bytes, again.kv_available_bytes) == (14 * GIB, None)
    assert again.graphs_bytes == round(0.81 * GIB)
    assert read_startup_log("nothing of the kind") is None


def test_startup_log_is_read_once(tmp_path: Any) -> None:
    path = tmp_path / "server.log"
    path.write_text(LOG, encoding="utf-8")
    with engine() as fake:
        address = EngineAddress(url=fake.url, log=str(path))
        first = look(fake.url, address=address)
        path.unlink()
        second = look(fake.url, address=address, previous=first)
        third = look(fake.url, address=address)
    assert first.startup == second.startup == read_startup_log(LOG)
    assert gone(third.startup) == "its log cannot be read: no such file or directory"

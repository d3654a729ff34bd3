"""Tables of options, variables and metrics: known facts stand in them, and every release is answered for."""

from __future__ import annotations

import pytest

from selfhost.catalog.flags import ENGINES, known_flags, release, table
from selfhost.engines.vllm.tables import FLAGS, METRICS
from selfhost.lint.metric_names import judge, series


@pytest.mark.parametrize("engine", ENGINES)
def test_a_table_is_read(engine: str) -> None:
    read = table(engine)
    assert list(read.releases) == sorted(read.releases)
    assert len(read.releases) >= 3
    assert read.flags or read.variables
    for flag in read.flags.values():
        assert flag.name.startswith("-")
        assert flag.shape in ("switch", "boolean", "value", "optional", "list")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("v0.8.5.post1", (0, 8, 5)),
        ("0.11", (0, 11, 0)),
        ("25.12", (25, 12, 0)),
        ("latest", None),
        ("0.10.0rc1", (0, 10, 0)),
    ],
)
def test_a_release_is_read_as_numbers(text: str, number: tuple[int, ...] | None) -> None:
    assert release(text) == number


def test_options_by_release() -> None:
    assert known_flags("vllm", "0.11.0")["-tp"].name == "--tensor-parallel-size"
    assert "--no-enable-prefix-caching" in known_flags("vllm", "0.32.0")
    assert "--swap-space" in known_flags("vllm", "0.8.5")
    assert "--swap-space" not in known_flags("vllm", "0.32.0")
    assert "--data-parallel-size" not in known_flags("vllm", "0.7.0")
    assert "--shutdown-timeout" in known_flags("vllm", "0.18.0")
    assert "--shutdown-timeout" not in known_flags("vllm", "0.16.0")
    assert known_flags("sglang", "0.5.23")["--tensor-parallel-size"].name == "--tp-size"
    assert known_flags("tgi", "3.3.7")["--quantize"].values["fp8"].has("3.3.7")
    assert "--ctx-size" in known_flags("llamacpp", None)


def test_between_two_releases_that_were_read_nothing_is_claimed() -> None:
    span = table("vllm").flags["--swap-space"].span
    assert span.until is not None
    assert span.has(span.until) is True
    assert span.has((*span.until[:2], span.until[2] + 1)) is None
    assert span.has("0.33.0") is False
    assert span.has("99.0.0") is None


def test_what_selfhost_writes_is_in_the_parsers() -> None:
    for flag in FLAGS:
        known = table("vllm").spellings[flag.name]
        assert known.span.has(max(flag.since, (0, 6, 0))) is not False, flag.name
        assert known.span.has("0.33.0"), flag.name
    for name in METRICS:
        assert name in series("vllm") or name in table("vllm").metrics, name


@pytest.mark.parametrize(
    ("name", "versions", "kind"),
    [
        ("vllm:num_requests_waiting", (), None),
        ("vllm:gpu_cache_usage_perc", (), "gone"),
        ("vllm:gpu_cache_usage_perc", ("0.8.5",), None),
        ("vllm:gpu_cache_usage_perc", ("0.8.5", "0.32.0"), None),
        ("vllm:kv_cache_usage_perc", ("0.6.0",), "later"),
        ("vllm:request_failure_total", (), "never"),
        ("vllm:prompt_tokens", (), "form"),
        ("vllm:time_to_first_token_seconds_bucket", (), None),
        ("vllm_num_requests_waiting", (), "colon"),
        ("vllm:healthy_pods_total", (), None),
        ("vllm:current_qps", (), None),
        ("llamacpp:kv_cache_usage_ratio", (), "gone"),
        ("tgi_queue_size", (), None),
        ("tgi_request_count", (), None),
        ("tgi_queue_length", (), "never"),
        ("nv_inference_queue_duration_us", (), None),
        ("sglang:num_queue_reqs", (), None),
        ("node_cpu_seconds_total", (), None),
    ],
)
def test_names_of_metrics(name: str, versions: tuple[str, ...], kind: str | None) -> None:
    verdict = judge(name, versions)
    assert (verdict.kind if verdict else None) == kind


def test_a_new_name_is_given_for_an_old_one() -> None:
    verdict = judge("vllm:time_per_output_token_seconds_bucket")
    assert verdict is not None
    assert verdict.instead == "vllm:inter_token_latency_seconds_bucket"

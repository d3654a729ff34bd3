"""Speed: the work of a step, its time, the steady state, and what becomes of it as a whole deployment."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfhost.attention.rank import Setting
from selfhost.catalog.gpus import Gpu, find_gpu, gpus
from selfhost.engines import parse_engine
from selfhost.errors import NoRoomError, SelfhostError, UnsupportedError, UsageError
from selfhost.hub import load_model
from selfhost.model.parse import parse_model
from selfhost.model.spec import ModelSpec
from selfhost.sizing import budget_for
from selfhost.throughput.arrivals import Trace
from selfhost.throughput.asked import Limits
from selfhost.throughput.efficiency import efficiency_of, generation_of, tables
from selfhost.throughput.estimate import Deployed, admission, clock_of, curve, estimate, tokens_per_step
from selfhost.throughput.goals import knee, meeting
from selfhost.throughput.limits import limits_of
from selfhost.throughput.runs import Asked
from selfhost.throughput.simulate import simulate
from selfhost.throughput.steady import Lengths, closed, opened, recomputed_tokens
from selfhost.throughput.types import Estimate, Traffic
from selfhost.throughput.work import work_of
from selfhost.workload import Split, Workload
from tests.conftest import Cli

VLLM = parse_engine("vllm")
H100 = find_gpu("h100-sxm-80gb")
LENGTHS = Lengths(prompt=1000, cached=0, output=200)


def model(name: str) -> ModelSpec:
    return parse_model(load_model(name))


QWEN, OSS = model("Qwen/Qwen3-8B"), model("openai/gpt-oss-120b")


def asked(concurrency: int | None = 8, **more: object) -> Traffic:
    return Traffic(**{"prompt_tokens": 1000, "output_tokens": 200, "concurrency": concurrency, **more})  # type: ignore[arg-type]


def speed(
    traffic: Traffic, *, spec: ModelSpec = QWEN, split: Split | None = None, **more: object
) -> Estimate:
    workload = more.pop("workload", Workload())
    return estimate(spec, workload, split or Split(), H100, VLLM, traffic, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", ["Qwen/Qwen3-8B", "openai/gpt-oss-120b", "deepseek-ai/DeepSeek-V3.1", "zai-org/GLM-4.5"]
)
@pytest.mark.parametrize("tensor", [1, 8])
def test_a_step_reads_the_weights_that_the_memory_bill_counts(name: str, tensor: int) -> None:
    spec, split = model(name), Split(tensor=tensor)
    work = work_of(spec, split, Setting(tensor=tensor, kv_dtype="auto", model_dtype=spec.dtype), 90)
    (stage,) = work.stages
    read: float = sum(dense.bytes for dense in stage.dense)
    read += sum(one.layers * one.local * one.bytes_per_expert for one in stage.routed)
    held = budget_for(spec, Workload(), split, H100, VLLM).weights_bytes
    embeddings = work.head.bytes * (1 if spec.tied else 2)
    # What is left are norms, biases of routers and other vectors.
    assert read + embeddings == pytest.approx(held, rel=0.005)


def test_pipeline_stages_share_the_layers() -> None:
    setting = Setting(tensor=1, kv_dtype="auto", model_dtype=QWEN.dtype)
    one, two = work_of(QWEN, Split(), setting, 90), work_of(QWEN, Split(pipeline=2), setting, 90)
    assert [stage.layers for stage in two.stages] == [18, 18]
    assert sum(d.bytes for stage in two.stages for d in stage.dense) == sum(
        d.bytes for d in one.stages[0].dense
    )


@pytest.mark.parametrize(
    ("name", "layers", "sums"),
    [
        ("Qwen/Qwen3-8B", 36, 72),
        ("openai/gpt-oss-120b", 36, 72),
        ("google/gemma-4-E2B-it", 35, 70),  # the last 20 see the cache of an earlier layer
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8", 26, 52),  # each of 52 blocks is a mixer or experts
        ("nvidia/Llama-3_3-Nemotron-Super-49B-v1", 64.5, 129),  # 31 of 80 have no attention
    ],
)
def test_a_block_of_a_mixer_alone_is_half_a_layer(name: str, layers: float, sums: int) -> None:
    spec = model(name)
    work = work_of(spec, Split(tensor=2), Setting(tensor=2, kv_dtype="auto", model_dtype=spec.dtype), 90)
    assert (work.stages[0].layers, work.reduced) == (layers, sums)


@given(
    decoding=st.integers(1, 512),
    context=st.integers(1, 30_000),
    prompt=st.integers(0, 8192),
    more=st.integers(1, 100),
)
@settings(max_examples=60, deadline=None)
def test_more_work_never_takes_less_time(decoding: int, context: int, prompt: int, more: int) -> None:
    for spec in (QWEN, OSS):
        clock, _ = clock_of(spec, Workload(), Split(), H100, VLLM)
        base = clock.step_seconds(decoding, context, prompt)
        assert base > 0
        nearly = base * (1 - 1e-12)
        assert clock.step_seconds(decoding + more, context, prompt) >= nearly
        assert clock.step_seconds(decoding, context + more, prompt) >= nearly
        assert clock.step_seconds(decoding, context, prompt + more) >= nearly
        assert clock.step_seconds(decoding, context, prompt, more) >= nearly


def test_one_token_alone_is_bound_by_the_bandwidth() -> None:
    clock, used = clock_of(QWEN, Workload(), Split(), H100, VLLM)
    cost = clock.cost(1, 100)
    weights = budget_for(QWEN, Workload(), Split(), H100, VLLM).weights_bytes
    assert cost.binds == "weights bandwidth"
    # Never faster than its weights, less the input embedding, can be read at all.
    assert cost.seconds > (weights - clock.work.head.bytes) / used.efficiency.bandwidth


def test_no_end_of_a_range_is_faster_than_the_gpu() -> None:
    for name, gpu in (("Qwen/Qwen3-14B", "rtx-pro-6000-server-96gb"), ("Qwen/Qwen3-8B", "arc-pro-b60-24gb")):
        spec, card = model(name), find_gpu(gpu)
        for clients in (1, 64):
            found = estimate(spec, Workload(), Split(), card, VLLM, asked(clients))
            clock, _ = clock_of(spec, Workload(), Split(), card, VLLM)
            weights = sum(one.bytes for one in clock.work.stages[0].dense) + clock.work.head.bytes
            least_ms = weights / card.bandwidth_bytes_per_second * 1e3
            assert least_ms <= found.tpot_ms.low < found.tpot_ms.typical
            assert found.output_tokens_per_second.high <= clients * 1e3 / least_ms


def test_prompts_of_a_step_do_not_see_each_other() -> None:
    h20 = find_gpu("h20-sxm-96gb")
    spec = model("Qwen/Qwen3-Coder-30B-A3B-Instruct-FP8")
    rates = [
        estimate(
            spec, Workload(), Split(tensor=2), h20, VLLM, asked(clients)
        ).output_tokens_per_second.typical
        for clients in (256, 384, 512, 640, 768, 1024)
    ]
    assert rates == sorted(rates)


@pytest.mark.parametrize(
    ("gpu", "gpus", "same"),
    [
        ("h100-sxm-80gb", 16, False),
        ("gb200-186gb", 16, True),  # NVLink joins 72
        ("h100-nvl-94gb", 4, False),  # a bridge joins two
        ("h200-nvl-141gb", 4, True),
        ("h200-nvl-141gb", 8, False),
    ],
)
def test_beyond_what_a_link_joins_sums_go_over_another(gpu: str, gpus: int, same: bool) -> None:
    few, many = (efficiency_of(find_gpu(gpu), VLLM, Split(tensor=n)).efficiency for n in (2, gpus))
    assert (many.reduce_seconds == few.reduce_seconds) is same
    assert (many.link == few.link) is same


def test_a_ring_over_pcie_takes_its_time_by_its_steps() -> None:
    two, four, eight, many = (
        efficiency_of(find_gpu("l40s-48gb"), VLLM, Split(tensor=n)).efficiency.reduce_seconds
        for n in (2, 4, 8, 16)
    )
    assert four == pytest.approx(eight * 6 / 14)  # NCCL's ring: 2 (n - 1) steps
    assert efficiency_of(H100, VLLM, Split(tensor=2)).efficiency.reduce_seconds <= two < four < eight == many


@pytest.mark.parametrize(("prompt", "output"), [(1000, 1000), (1000, 200), (200, 1000), (4000, 500)])
def test_where_the_cache_is_full_prompts_are_computed_again_as_in_a_simulation(
    prompt: int, output: int
) -> None:
    limits = Limits(sequences=256, cache_tokens=120_000, chunk_tokens=2048)
    clock, _ = clock_of(QWEN, Workload(), Split(), find_gpu("rtx-5090-32gb"), VLLM)
    trace = Trace(
        at_seconds=[0.0] * 800, prompt_tokens=[prompt] * 800, output_tokens=[output] * 800, name="burst"
    )
    simulated = simulate(trace, clock, limits)
    sizes = Lengths(
        prompt=prompt, cached=0, output=output, chunk=2048, recomputed=recomputed_tokens(output, kept=False)
    )
    admitted = 120_000 // (prompt + output // 2)
    found = closed(clock, sizes, concurrency=400, admitted=admitted).requests_per_second * output
    once = closed(
        clock, replace(sizes, recomputed=0.0), concurrency=400, admitted=admitted
    ).requests_per_second
    assert simulated.preemptions > 0
    assert found == pytest.approx(simulated.output_tokens_per_second, rel=0.15)
    assert found < once * output
    assert recomputed_tokens(output, kept=True) == output / 2


def test_what_is_computed_again_begins_with_the_first_that_waits() -> None:
    clock, _ = clock_of(QWEN, Workload(), Split(), H100, VLLM)
    sizes = replace(LENGTHS, recomputed=200.0)
    rates = [
        closed(clock, sizes, concurrency=n, admitted=64).requests_per_second for n in (66, 67, 68, 70, 80)
    ]
    steps = [later / earlier for earlier, later in itertools.pairwise(rates)]
    assert min(steps) > 0.9  # no cliff
    assert closed(clock, sizes, concurrency=40, admitted=64) == closed(
        clock, LENGTHS, concurrency=40, admitted=64
    )


def test_copies_that_share_experts_exchange_their_tokens() -> None:
    deepseek = model("deepseek-ai/DeepSeek-V3.1")
    split = Split(data=8, expert=True)
    clock, used = clock_of(deepseek, Workload(), split, find_gpu("h200-sxm-141gb"), VLLM)
    layers = sum(one.layers for one in clock.work.stages[0].routed)
    # 58 layers; each token of this copy goes to 7 others, and 7 come back for each that is added up.
    row = clock.work.hidden * 2
    took = layers * 2 * (used.efficiency.outer_seconds + 64 * 7 * row / used.efficiency.outer_link)
    assert layers == 58
    assert clock.cost(64, 1000).communication == pytest.approx(took)


def test_few_tokens_touch_few_experts() -> None:
    clock, _ = clock_of(OSS, Workload(), Split(), H100, VLLM)
    (routed,) = clock.work.stages[0].routed
    assert (routed.total, routed.chosen) == (128, 4)
    experts = replace(clock._rows, dense=())
    assert experts.products(1)[0] / experts.products(200)[0] == pytest.approx(4 / 128, rel=0.01)


@pytest.mark.parametrize("clients", [1, 7, 64, 300])
def test_little_s_law_holds_in_a_closed_loop(clients: int) -> None:
    clock, _ = clock_of(QWEN, Workload(), Split(), H100, VLLM)
    served = closed(clock, LENGTHS, concurrency=clients, admitted=128)
    each = served.first_seconds + LENGTHS.steps * served.token_seconds
    assert served.requests_per_second * each == pytest.approx(clients, rel=1e-3)
    assert served.running <= min(clients, 128)
    assert served.saturated == (clients > 128)


def test_an_open_loop_serves_what_arrives_until_it_cannot() -> None:
    clock, _ = clock_of(QWEN, Workload(), Split(), H100, VLLM)
    limit = closed(clock, LENGTHS, concurrency=128, admitted=128).requests_per_second
    light, heavy, over = (
        opened(clock, LENGTHS, rate=share * limit, admitted=128) for share in (0.05, 0.9, 1.5)
    )
    assert light.requests_per_second == pytest.approx(0.05 * limit)
    assert light.first_seconds < heavy.first_seconds < over.first_seconds
    assert light.running < heavy.running < over.running == 128
    assert not heavy.saturated
    assert over.saturated
    assert over.requests_per_second == pytest.approx(limit, rel=0.05)


def test_long_prompts_come_in_chunks() -> None:
    clock, _ = clock_of(QWEN, Workload(), Split(), H100, VLLM)
    short = closed(clock, replace(LENGTHS, prompt=30_000, chunk=8192), concurrency=1, admitted=1)
    fine = closed(clock, replace(LENGTHS, prompt=30_000, chunk=512), concurrency=1, admitted=1)
    assert short.first_seconds < fine.first_seconds


def test_ranges_are_ranges_and_name_their_sources() -> None:
    found = speed(asked())
    for span in (found.ttft_ms, found.tpot_ms, found.output_tokens_per_second):
        assert 0 < span.low < span.typical < span.high
    assert found.requests_per_second * 200 == pytest.approx(found.output_tokens_per_second.typical)
    assert {one.number for one in found.provenance} == {
        "ttft_ms", "tpot_ms", "output_tokens_per_second", "concurrency_admitted",
    }  # fmt: skip
    assert all(one.because and one.sources and one.date for one in found.provenance)


def test_copies_share_the_load() -> None:
    one, four = speed(asked(8)), speed(asked(32), replicas=4)
    assert four.output_tokens_per_second.typical == pytest.approx(4 * one.output_tokens_per_second.typical)
    assert four.tpot_ms == one.tpot_ms
    assert (four.gpus, four.concurrency_admitted) == (4, 4 * one.concurrency_admitted)
    assert speed(asked(8), split=Split(data=4)).gpus == 4
    # A single request keeps one copy busy and leaves three idle.
    single = speed(asked(1)), speed(asked(1), replicas=4)
    assert single[0].output_tokens_per_second == single[1].output_tokens_per_second


def test_admission_never_exceeds_the_memory_bill() -> None:
    traffic = asked(4000)
    admitted = admission(QWEN, Workload(), Split(), H100, VLLM, traffic)
    bill = budget_for(QWEN, Workload(max_model_len=1100), Split(), H100, VLLM)
    assert admitted.requests <= math.floor(bill.max_concurrency or 0)
    found = speed(traffic)
    assert found.running <= admitted.requests
    assert (found.saturated, found.binds) == (True, admitted.binds)
    assert found.ttft_ms.typical > 1000
    assert speed(asked(4000), workload=Workload(max_num_seqs=16)).binds == "engine batch limit"


def test_what_the_engine_leaves_no_room_for_is_estimated_with_fewer_and_says_so() -> None:
    old = parse_engine("vllm@0.11.0")
    found = estimate(OSS, Workload(), Split(), H100, old, asked(4))
    assert "--max-num-seqs" in found.notes[0]
    with pytest.raises(NoRoomError, match="Not one request"):
        estimate(model("Qwen/Qwen3-32B"), Workload(), Split(), find_gpu("l4-24gb"), VLLM, asked(1))


def test_what_the_prefix_cache_holds_is_not_computed_again() -> None:
    cold, warm = speed(asked(1)), speed(asked(1, prefix_hit_ratio=0.9))
    assert warm.ttft_ms.typical < cold.ttft_ms.typical
    off = speed(asked(1, prefix_hit_ratio=0.9), workload=Workload(prefix_caching=False))
    assert off.ttft_ms.typical == pytest.approx(cold.ttft_ms.typical)


def test_accepted_drafts_make_steps_count_more() -> None:
    assert tokens_per_step(1, 0.8) == pytest.approx(1.8)
    assert tokens_per_step(3, 1.0) == 4
    assert tokens_per_step(3, 0.0) == 1
    spec, split = model("deepseek-ai/DeepSeek-V3.1"), Split(tensor=8)
    h200 = find_gpu("h200-sxm-141gb")
    plain = estimate(spec, Workload(), split, h200, VLLM, asked(1))
    drafted = estimate(spec, Workload(speculative_tokens=1), split, h200, VLLM, asked(1))
    refused = estimate(spec, Workload(speculative_tokens=1), split, h200, VLLM, asked(1, acceptance=0.0))
    assert drafted.tpot_ms.typical < plain.tpot_ms.typical < refused.tpot_ms.typical


def test_a_curve_grows_to_what_is_admitted_and_says_where_it_bends() -> None:
    points = curve(QWEN, Workload(), Split(), H100, VLLM, asked())
    speeds = [point.output_tokens_per_second.typical for point in points]
    most = admission(QWEN, Workload(), Split(), H100, VLLM, asked()).requests
    assert [point.concurrency for point in points[-2:]] == [most, 2 * most]
    assert all(later > 0.99 * speed for speed, later in itertools.pairwise(speeds[:-1]))
    # A tenth of the prompts is computed again while others wait: half of 200 tokens of 1,000.
    assert 0.9 < speeds[-1] / speeds[-2] < 1
    bend = knee(points[:-1])
    # Two thirds of the most throughput at a fraction of the time that a request then takes.
    assert bend == 64
    assert speeds[[point.concurrency for point in points].index(bend)] > speeds[-1] * 0.66
    goal = (points[3].tpot_ms.typical + points[4].tpot_ms.typical) / 2
    at = partial(Deployed(QWEN, Workload(), Split(), H100, VLLM, asked()).at, asked())
    met = meeting(points, ttft_ms=None, tpot_ms=goal, at=at)
    assert met is not None
    assert points[3].concurrency <= met.concurrency <= points[4].concurrency
    # To the request: so many meet the goal, one more does not.
    assert (
        speed(asked(met.concurrency)).tpot_ms.typical
        <= goal
        < speed(asked(met.concurrency + 1)).tpot_ms.typical
    )
    assert met.binds == "tpot"
    alone = meeting(points, ttft_ms=0.001, tpot_ms=None, at=at)
    assert alone is not None
    assert (alone.concurrency, alone.output_tokens_per_second) == (0, None)
    assert meeting(points, ttft_ms=None, tpot_ms=None, at=at) is None


def test_requests_beyond_the_model_s_context_are_noted() -> None:
    assert speed(asked(1)).notes == ()
    (note,) = speed(asked(1, prompt_tokens=50_000)).notes
    assert note.startswith("50,200 tokens are beyond the model's 40,960")


def test_a_curve_that_gets_steeper_to_its_end_bends_where_admission_ends_it() -> None:
    points = curve(OSS, Workload(), Split(), H100, VLLM, asked(output_tokens=300))[:-1]
    assert knee(points) == points[-1].concurrency


def test_a_tower_beside_the_model_is_noted() -> None:
    gemma, split = model("google/gemma-3-27b-it"), Split(tensor=2)
    (note,) = speed(asked(1), spec=gemma, split=split).notes
    assert "the tower that reads it takes time besides" in note
    assert speed(asked(1), spec=gemma, split=split, workload=Workload(language_model_only=True)).notes == ()


def test_one_client_s_own_prompt_does_not_hold_up_its_tokens() -> None:
    for clients, binds in ((1, "KV-cache bandwidth"), (2, "compute")):
        traffic = asked(clients, prompt_tokens=150_000, output_tokens=256)
        found = Asked(spec=QWEN, workload=Workload(), split=Split(), gpu=H100, engine=VLLM, traffic=traffic)
        assert limits_of(found, speed(traffic))["tpot_ms"] == binds


def test_near_what_is_served_the_slow_end_of_a_rate_falls_behind() -> None:
    """A range that says the whole rate is answered is only true where slow steps answer it too."""

    def under(rate: float) -> Estimate:
        load = Traffic(prompt_tokens=1000, output_tokens=500, request_rate=rate)
        return estimate(model("Qwen/Qwen3-32B"), Workload(), Split(tensor=2), H100, VLLM, load)

    calm, full = under(0.5), under(1e6)
    most = full.requests_per_second
    assert calm.output_tokens_per_second.low == calm.output_tokens_per_second.high == 250
    assert calm.notes == ()
    near = under(0.95 * most)
    assert not near.saturated
    assert near.output_tokens_per_second.typical == pytest.approx(475 * most)
    assert near.output_tokens_per_second.low == pytest.approx(full.output_tokens_per_second.low, rel=0.02)
    assert near.ttft_ms.high > 5 * near.ttft_ms.typical
    assert near.tpot_ms.low < near.tpot_ms.typical < near.tpot_ms.high
    assert "falls behind" in near.notes[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--ttft-goal", "nan"), "nan is not a number of milliseconds."),
        (("--tpot-goal", "inf"), "inf is not a number of milliseconds."),
        (("--acceptance", "0.5"), "--acceptance is of drafted tokens, and none are drafted."),
        (("--context", "1k"), "are longer than --context 1,024."),
        (("--no-prefix-caching", "--prefix-hit-ratio", "0.5"), "--no-prefix-caching turns it off."),
    ],
)
def test_what_contradicts_itself_is_refused(cli: Cli, words: tuple[str, ...], said: str) -> None:
    shown = cli("estimate", "Qwen/Qwen3-8B", "--gpu", "h100-sxm-80gb", *words)
    assert (shown.code, shown.out) == (2, "")
    assert said in shown.err


def test_one_request_is_one_and_what_comes_next_has_the_lengths_of_the_trace(
    cli: Cli, tmp_path: Path
) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_seconds,prompt_tokens,output_tokens\n0,300,30\n1,100,10\n")
    shown = cli("estimate", "Qwen/Qwen3-8B", "--gpu", "h100-sxm-80gb", "--trace", trace).out
    assert "for 1 request a second" in " ".join(shown.split())
    assert "--prompt-tokens 200 --output-tokens 20" in shown


def test_what_comes_next_is_of_the_same_deployment(cli: Cli) -> None:
    more = ("--engine", "sglang", "--replicas", "2", "--gpu-memory", "40GiB", "--prefix-hit-ratio", "0.5")
    shown = " ".join(cli("estimate", "Qwen/Qwen3-8B", "--gpu", "h100-sxm-80gb", *more).out.split())
    named = "--gpu h100-sxm-80gb --gpu-memory 40GiB --engine sglang --replicas 2 "
    assert f"Next: selfhost cost Qwen/Qwen3-8B {named}" in shown
    assert "--cached-share 0.5" in shown


@pytest.mark.parametrize("gpu", gpus(), ids=lambda gpu: gpu.id)
def test_every_gpu_of_the_catalogue_has_a_speed_and_says_whose(gpu: Gpu) -> None:
    used = efficiency_of(gpu, VLLM, Split())
    assert used.because
    assert used.sources
    assert 0 < used.spread < 1.5
    table = tables()["generation"][generation_of(gpu)]
    assert ("like" in table) == (
        "carried over" in used.because and "of the same generation" not in used.because
    )


def test_a_cpu_has_no_known_speed() -> None:
    from selfhost.catalog.gpus import main_memory

    with pytest.raises(UnsupportedError, match="not known"):
        efficiency_of(main_memory(2**36), VLLM, Split())


def test_embeddings_have_no_time_per_output_token() -> None:
    with pytest.raises(UnsupportedError, match="generates no tokens"):
        speed(asked(), spec=model("Qwen/Qwen3-Embedding-8B"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"prompt_tokens": 0}, "--prompt-tokens"),
        ({"output_tokens": -1}, "--output-tokens"),
        ({"concurrency": 0}, "--concurrency"),
        ({"concurrency": None}, "either --concurrency or --request-rate"),
        ({"request_rate": 1.0}, "either --concurrency or --request-rate"),
        ({"concurrency": None, "request_rate": float("nan")}, "--request-rate"),
        ({"prefix_hit_ratio": 1.5}, "--prefix-hit-ratio"),
        ({"acceptance": -0.1}, "--acceptance"),
    ],
)
def test_a_load_that_is_none_is_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Traffic(**{"prompt_tokens": 10, "output_tokens": 10, "concurrency": 1, **given})  # type: ignore[arg-type]


def test_every_bundled_model_that_generates_has_a_speed() -> None:
    from selfhost.catalog.models import models

    gpu = find_gpu("b300-sxm-288gb")
    slow: list[str] = []
    for entry in models():
        spec = model(entry.id)
        if spec.facts.pooling or spec.facts.encoder_only:
            continue
        try:
            found = estimate(spec, Workload(), Split(tensor=8), gpu, VLLM, asked(1))
        except SelfhostError as error:
            slow.append(f"{entry.id}: {error.message}")
            continue
        assert 0.2 < found.tpot_ms.typical < 200, entry.id
    # Splits that a model's heads or groups do not take, and models too large for the node.
    assert len(slow) < 40, slow

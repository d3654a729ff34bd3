"""The smoke test against engines on loopback: what passes, what fails and why, and that no key is ever shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from selfhost.deploy.channel import plain
from selfhost.deploy.figures import stream_figures
from selfhost.deploy.smoke import ApiKey, Smoke, smoke
from selfhost.engines import Argument
from selfhost.observation import known
from selfhost.plan import Plan
from tests.fakes.serving import Serving, serve
from tests.plans import plan

KEY = "a-key-that-nobody-may-see-4711"
OPEN = ApiKey(asked=False)


def tried(serving: Serving, made: Plan | None = None, key: ApiKey = OPEN, **more: Any) -> Smoke:
    with serve(serving) as found, plain(found.url) as channel:
        return smoke(made or plan(), channel, key, timeout_seconds=10, **more)


def verdicts(result: Smoke) -> dict[str, str]:
    return {check.code: check.verdict for check in result.checks}


def because(result: Smoke, code: str) -> str:
    return next(check.because for check in result.checks if check.code == code)


def with_flags(*flags: str) -> Plan:
    made = plan()
    more = tuple(Argument(flag=flag, because="a test") for flag in flags)
    return replace(made, engine=replace(made.engine, args=(*made.engine.args, *more)))


TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser")


def test_an_engine_that_is_well_passes_over_one_connection() -> None:
    serving = Serving(key=KEY, pause_seconds=0.002)
    result = tried(serving, with_flags(*TOOLS), ApiKey(asked=True, value=KEY))
    assert set(verdicts(result).values()) == {"pass"}, result.checks
    assert list(verdicts(result)) == [
        "health", "models", "completion", "streaming", "tool-call", "key-refused", "key-wrong", "key-accepted",
    ]  # fmt: skip
    assert (result.connections, serving.connections) == (1, 1)
    assert result.passed
    assert result.sentence == "8 checks passed."


def test_first_figures_of_the_stream() -> None:
    result = tried(Serving(pause_seconds=0.02))
    assert result.stream is not None
    assert (result.stream.tokens, result.stream.counted) == (10, True)
    assert 0 < result.stream.first_token_seconds < 1
    assert result.stream.tokens_per_second is not None
    assert 5 < result.stream.tokens_per_second < 50.5  # ten pieces, one each 20 ms at the fastest
    assert result.stream.inter_token_seconds == pytest.approx(1 / result.stream.tokens_per_second)


def test_figures_without_a_count_are_of_the_pieces() -> None:
    figures = stream_figures((0.5, 0.6, 0.7, 0.9), None)
    assert figures is not None
    assert (figures.tokens, figures.counted, figures.first_token_seconds) == (4, False, 0.5)
    assert figures.tokens_per_second == pytest.approx(7.5)
    assert figures.slowest_gap_seconds == pytest.approx(0.2)
    assert stream_figures((), 3) is None
    alone = stream_figures((0.5,), 1)
    assert alone is not None
    assert (alone.tokens_per_second, alone.inter_token_seconds, alone.slowest_gap_seconds) == (None,) * 3


def test_memory_is_told_next_to_the_plan() -> None:
    made = plan()
    log = "INFO Model loading took 30.51 GiB memory\nINFO Available KV cache memory: 35.1 GiB\n"
    result = tried(Serving(), made, log=log)
    assert result.memory is not None
    terms = {term.name: term for term in result.memory.terms}
    assert terms["KV cache"].actual == 1000 * 16 * made.memory.kv_bytes_per_token  # the metrics' blocks
    assert terms["KV cache"].predicted_bytes == made.memory.kv_available_bytes
    assert terms["weights"].error_bytes == round(30.51 * 2**30) - made.memory.weights_bytes
    assert result.memory.kv_tokens == 16000
    assert result.memory.kv_tokens_predicted == made.memory.kv_tokens
    assert "GiB planned" in result.memory.line


def test_memory_from_the_log_alone() -> None:
    result = tried(
        Serving(page=None), log="Available KV cache memory: 35.1 GiB\nGPU KV cache size: 143,000 tokens"
    )
    assert result.memory is not None
    kv = result.memory.terms[0]
    assert (kv.name, kv.actual) == ("KV cache", round(35.1 * 2**30))
    assert result.memory.kv_tokens == 143000
    assert result.memory.because == "start-up log"


def test_without_metrics_and_log_nothing_is_said_of_memory() -> None:
    result = tried(Serving(page=None))
    assert result.passed
    assert result.memory is None


def test_an_engine_without_health_is_asked_no_more() -> None:
    serving = Serving(statuses={"/health": (503, "loading")})
    result = tried(serving)
    assert [(check.code, check.verdict) for check in result.checks] == [("health", "fail")]
    assert because(result, "health") == "/health answers HTTP 503: loading"
    assert not result.passed


def test_nothing_listens() -> None:
    with plain("http://127.0.0.1:9") as channel:
        result = smoke(plan(), channel, OPEN, timeout_seconds=2)
    assert because(result, "health") == "/health: connection refused"


def test_another_model_than_planned() -> None:
    result = tried(Serving(model="other/model"))
    assert verdicts(result)["models"] == "fail"
    assert because(result, "models") == "serves other/model, and not Qwen/Qwen3-32B, as was planned"


def test_a_model_without_a_chat_template_completes_text() -> None:
    result = tried(Serving(chat=False), with_flags(*TOOLS))
    assert verdicts(result)["completion"] == "pass"
    assert "without a chat template" in because(result, "completion")
    assert verdicts(result)["streaming"] == "pass"
    assert verdicts(result)["tool-call"] == "skipped"


@pytest.mark.parametrize(
    ("serving", "code", "words"),
    [
        (Serving(statuses={"/v1/chat/completions": (500, "engine core died")}), "completion", "HTTP 500: engine core"),
        (Serving(words=()), "completion", "answers no text"),
        (Serving(at_once=True), "streaming", "all 10 tokens come at once"),
        (Serving(call="raw"), "tool-call", "another model's"),
        (Serving(call="broken"), "tool-call", "no JSON"),
    ],
    ids=["error", "empty", "at once", "raw call", "broken call"],
)  # fmt: skip
def test_what_fails_says_why(serving: Serving, code: str, words: str) -> None:
    result = tried(serving, with_flags(*TOOLS))
    assert verdicts(result)[code] == "fail"
    assert words in because(result, code)


def test_a_model_that_answers_in_words_proves_nothing() -> None:
    result = tried(Serving(call="words"), with_flags(*TOOLS))
    assert verdicts(result)["tool-call"] == "skipped"
    assert result.passed


def test_no_tool_is_tried_where_the_engine_was_not_told_to() -> None:
    result = tried(Serving())
    assert because(result, "tool-call") == (
        "vLLM is started without --enable-auto-tool-choice and --tool-call-parser"
    )


def test_damaged_weights_are_noticed() -> None:
    assert "over and over" in because(tried(Serving(words=("!" * 20,) * 4)), "completion")


def test_a_key_that_is_not_checked() -> None:
    result = tried(Serving(), key=ApiKey(asked=True, value=KEY))
    assert because(result, "key-refused") == "answers 200 without a key, and not 401"
    assert verdicts(result)["key-wrong"] == "fail"
    assert verdicts(result)["key-accepted"] == "pass"


def test_another_key_than_the_engines() -> None:
    result = tried(Serving(key="the right one"), key=ApiKey(asked=True, value=KEY))
    assert verdicts(result)["completion"] == "fail"
    assert because(result, "key-accepted") == "the key is refused: HTTP 401"


def test_a_key_that_is_not_known_is_said() -> None:
    why = "no permission to read Secret llm/keys, and no --api-key-file"
    result = tried(Serving(key=KEY), key=ApiKey(asked=True, why=why))
    assert verdicts(result) == {
        "health": "pass", "models": "skipped", "completion": "skipped", "streaming": "skipped",
        "key-refused": "pass", "key-wrong": "pass", "key-accepted": "skipped",
    }  # fmt: skip
    assert why in because(result, "completion")


def test_a_key_is_never_shown() -> None:
    serving = Serving(key=KEY, statuses={"/v1/chat/completions": (400, f"no such key {KEY}")})
    key = ApiKey(asked=True, value=KEY)
    result = tried(serving, key=key)
    assert KEY not in repr(result)
    assert KEY not in repr(key)
    assert because(result, "completion") == "/v1/chat/completions answers HTTP 400: no such key …"


def test_an_engine_that_closes_each_connection() -> None:
    serving = Serving(closing=True)
    result = tried(serving)
    assert result.passed
    assert result.connections == serving.connections > 1


@pytest.mark.parametrize(
    ("engine", "changes"),
    [
        ("sglang", {"health_path": "/ready"}),
        ("triton", {"health_path": "/health/ready"}),
    ],
)
def test_other_engines(engine: str, changes: dict[str, Any]) -> None:
    made = plan(engine=engine)
    from selfhost.manifests.queries import served_name

    result = tried(Serving(model=served_name(made), page=None, **changes), made)
    assert result.passed, result.checks
    assert verdicts(result)["tool-call"] == "skipped"


@pytest.mark.parametrize(
    ("able", "verdict"), [(("completion", "tools"), "pass"), (("completion",), "skipped")]
)
def test_ollama_tells_what_its_model_can(able: tuple[str, ...], verdict: str) -> None:
    made = plan()
    engine = replace(made.engine, name="ollama", args=(), health_path="/api/version", key=None, metrics=())
    made = replace(made, engine=engine)
    from selfhost.manifests.queries import served_name

    serving = Serving(model=f"{served_name(made)}:latest", health_path="/api/version", capabilities=able)
    result = tried(serving, made)
    assert verdicts(result)["models"] == "pass"
    assert verdicts(result)["tool-call"] == verdict
    assert because(result, "key-refused") == "ollama checks none; what stands in front of it has to"


@pytest.mark.parametrize(
    ("model", "architecture", "code", "words"),
    [
        ("Qwen/Qwen3-Embedding-8B", "Qwen3ForCausalLM", "embedding", "2 vectors of 3 numbers"),
        ("BAAI/bge-reranker-v2-m3", "XLMRobertaForSequenceClassification", "rerank", "2 documents ranked"),
        ("some/encoder", "BertModel", "embedding", "2 vectors of 3 numbers"),
    ],
)
def test_what_is_no_text_model(model: str, architecture: str, code: str, words: str) -> None:
    made = plan()
    made = replace(made, model=replace(made.model, id=model, architecture=architecture))
    result = tried(Serving(), made, OPEN)
    assert verdicts(result)[code] == "pass"
    assert because(result, code) == words
    assert "completion" not in verdicts(result)


def test_metrics_stand_in_the_result() -> None:
    result = tried(Serving())
    assert result.engine is not None
    assert known(result.engine.cache.gpu_blocks)
    assert result.engine.cache.gpu_blocks == 1000

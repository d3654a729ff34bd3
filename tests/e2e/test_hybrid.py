"""The rendered configuration of target hybrid in the real LiteLLM: what is private stays home, whatever happens."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selfhost.manifests import RenderOptions, render
from selfhost.manifests.options.access import AccessOptions
from selfhost.manifests.options.proxy import ProxyOptions
from tests.e2e.litellm import KEY, Proxy, litellm_python, proxy
from tests.plans import plan
from tests.test_manifests import objects

MODEL = "Qwen/Qwen3-32B"
SECRET = "the-diagnosis-of-the-patient"
SECRETS = {"proxy-key": KEY, "fallback-key": "sk-of-the-provider", "own-key": "sk-of-the-own-model"}
TOO_LONG = "This model's maximum context length is 16384 tokens. However, you requested 20000 tokens."
MARKS: dict[str, dict[str, Any]] = {
    "model": {"model": "private"},
    "header": {"headers": {"X-Selfhost-Private": "true"}},
    "odd header": {"headers": {"x-selfhost-private": "maybe"}},
    "metadata": {"metadata": {"private": True}},
    "tag": {"metadata": {"tags": ["billing", "private"]}},
    "tag of the body": {"tags": ["private"]},
    "one of two marks": {"metadata": {"private": False, "x-selfhost-private": True}},
    "a mark in capitals": {"metadata": {"Private": True}},
    "a tag in a tag": {"metadata": {"tags": [["Private "]]}},
    "odd metadata": {"metadata": ["private"]},
    "metadata of LiteLLM": {"litellm_metadata": {"tags": "billing,private"}},
    "extra body": {"extra_body": {"metadata": {"private": "yes"}}},
    "the body": {"private": True},
}
ESCAPES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "fallbacks": {"fallbacks": ["closed"]},
    "fallbacks of groups": {"fallbacks": [{"private": ["closed"]}, {MODEL: ["closed"]}]},
    "context fallbacks": {"context_window_fallbacks": [{"private": ["closed"]}]},
    "enabled again": {"disable_fallbacks": False, "fallbacks": ["closed"]},
    "a pretended failure": {"mock_testing_fallbacks": True, "fallbacks": ["closed"]},
    "a verdict": {"metadata": {"selfhost_verdict": "leaves", "private": True}},
}


def started(folder: Path, **changes: Any) -> Iterator[Proxy]:
    python = litellm_python()
    assert python is not None
    options = RenderOptions(
        access=AccessOptions(api_key_secret="own-key"),
        proxy=ProxyOptions(
            **{
                "fallback_model": "openai/gpt-5.6-luna",
                "fallback_base": "https://closed.example/v1",
                "fallback_price": "1,2",
                "cooldown": 1,
                **changes,
            }
        ),
    )
    made = objects(render(plan(), target="hybrid", options=options))
    by = {(one["kind"], one["metadata"]["name"]): one for one in made}
    pod = by["Deployment", "qwen3-32b-proxy"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    env = {}
    for item in container["env"]:
        reference = item.get("valueFrom", {}).get("secretKeyRef")
        env[item["name"]] = item["value"] if reference is None else SECRETS[reference["name"]]
    with proxy(
        python, folder, by["ConfigMap", "qwen3-32b-proxy"]["data"], container["args"], env,
        own="qwen3-32b.llm.svc:8000", closed="closed.example:443",
    ) as running:  # fmt: skip
        yield running


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    yield from started(tmp_path_factory.mktemp("proxy"))


@pytest.fixture(autouse=True)
def as_it_was(running: Proxy) -> None:
    """Both answer, and have seen nothing."""
    for end in (running.own, running.closed):
        end.refusal = None
        end.seen.clear()
        end.keys.clear()
        if end.server is None:
            end.start()


def test_the_key_is_asked_for(running: Proxy) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
    for key in (None, "wrong", "", "sk-of-the-tes"):
        assert running.ask("/v1/chat/completions", body, key=key).status in (400, 401, 403), key
    assert running.own.seen == running.closed.seen == []
    assert running.ask("/v1/chat/completions", body).status == 200


def test_requests_go_to_the_own_model_with_its_key(running: Proxy) -> None:
    assert running.chat(MODEL).said == "from own"
    assert running.own.keys == ["Bearer sk-of-the-own-model"]
    assert running.closed.seen == []


def test_the_closed_model_can_be_asked_for(running: Proxy) -> None:
    assert running.chat("closed").said == "from closed"
    assert running.closed.keys == ["Bearer sk-of-the-provider"]


def test_the_closed_model_stands_in_while_the_own_one_is_down(running: Proxy) -> None:
    running.own.stop()
    assert running.chat(MODEL).said == "from closed"


def test_the_closed_model_takes_what_is_too_long(running: Proxy) -> None:
    running.own.refusal = (400, TOO_LONG)
    assert running.chat(MODEL).said == "from closed"


@pytest.mark.parametrize(
    ("mark", "escape"),
    [*((mark, "fallbacks") for mark in MARKS), *(("header", escape) for escape in ESCAPES)],
)
def test_what_is_private_stays_home(running: Proxy, mark: str, escape: str) -> None:
    """Answered at home; and refused rather than sent away, while the own model is down or finds it too long."""
    more = {"model": MODEL, **MARKS[mark]}
    said = MARKS[mark].get("metadata", {})
    more["metadata"] = {**ESCAPES[escape].get("metadata", {}), **said} if isinstance(said, dict) else said
    more = {**ESCAPES[escape], **more}
    answer = running.chat(text=SECRET, **more)
    assert answer.status == 200, answer.body
    assert answer.said == "from own"
    running.own.refusal = (400, TOO_LONG)
    assert running.chat(text=SECRET, **more).status >= 400
    running.own.stop()
    assert running.chat(text=SECRET, **more).status >= 400
    assert running.closed.seen == []


@pytest.mark.parametrize("mark", [name for name in MARKS if name != "model"])
def test_a_mark_and_the_closed_model_exclude_each_other(running: Proxy, mark: str) -> None:
    assert running.chat("closed", SECRET, **MARKS[mark]).status == 403
    assert running.closed.seen == []


@pytest.mark.parametrize(
    "model", ["openai/gpt-5.6-luna", "private,closed", f"{MODEL},closed", "away", "*", ""]
)
def test_other_models_are_not_there(running: Proxy, model: str) -> None:
    assert running.chat(model, SECRET, headers={"x-selfhost-private": "true"}).status in (400, 403, 404)
    assert running.chat(model, SECRET).status in (400, 403, 404)
    assert running.closed.seen == []


@pytest.mark.parametrize(
    "path",
    ["/openai/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/files", "/v1/batches",
     "/anthropic/v1/messages", "/key/generate", "/model/new", "/config/update", "/v1/rerank",
     "/engines/closed/chat/completions", "/openai/deployments/closed/chat/completions", "/vertex_ai/v1/projects/x"],
)  # fmt: skip
def test_other_paths_are_not_there(running: Proxy, path: str) -> None:
    body = {"model": "closed", "messages": [{"role": "user", "content": SECRET}], "input": SECRET}
    answer = running.ask(path, body, headers={"x-selfhost-private": "true"})
    assert answer.status >= 400
    assert running.closed.seen == []


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/completions", "/v1/embeddings"])
def test_no_model_is_taken_from_the_address(running: Proxy, path: str) -> None:
    """LiteLLM prefers `?model=` to the body's, which may be the mark itself."""
    body = {"model": "private", "messages": [{"role": "user", "content": SECRET}], "prompt": SECRET}
    assert running.ask(f"{path}?model=closed", {**body, "input": SECRET}).status == 400
    assert running.ask(f"{path}?model=closed&x", {**body, "input": SECRET}).status == 400
    assert running.closed.seen == []


@pytest.mark.parametrize("values", [("true", "false"), ("false", "true")])
def test_a_mark_that_is_there_twice_is_refused(running: Proxy, values: tuple[str, str]) -> None:
    running.own.stop()
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": SECRET}]})
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    connection.putrequest("POST", "/v1/chat/completions")
    for name, value in (
        ("Authorization", f"Bearer {KEY}"),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        *(("X-Selfhost-Private", value) for value in values),
    ):
        connection.putheader(name, value)
    connection.endheaders(body.encode())
    assert connection.getresponse().status == 400
    connection.close()
    assert running.closed.seen == []


def test_completions_and_embeddings_follow_the_same_rules(running: Proxy) -> None:
    marked = {"x-selfhost-private": "1"}
    for path, body in (("/v1/completions", {"prompt": SECRET}), ("/v1/embeddings", {"input": SECRET})):
        assert running.ask(path, {"model": MODEL, **body}, headers=marked).status == 200
    running.own.stop()
    for path, body in (("/v1/completions", {"prompt": SECRET}), ("/v1/embeddings", {"input": SECRET})):
        assert running.ask(path, {"model": MODEL, **body}, headers=marked).status >= 400
    assert running.closed.seen == []
    running.own.start()


def test_no_prompt_is_in_the_log(running: Proxy) -> None:
    running.chat(MODEL, SECRET)
    running.own.stop()
    running.chat("private", SECRET)
    running.closed.refusal = (400, "no")
    running.chat(MODEL, SECRET)
    running.own.start()
    text = running.log.read_text(encoding="utf-8")
    assert SECRET not in text
    assert "sk-of-the" not in text


def test_a_budget_keeps_requests_home(tmp_path: Path) -> None:
    """1,000 tokens in and out at 1 and 2 dollars a million are 0.003 dollars; two pods share 0.008."""
    for spent in started(
        tmp_path, budget="0.008", budget_period="1d", route_by="simple", complex_words=("prove",)
    ):
        assert spent.chat(MODEL).said == "from own"
        assert spent.chat(MODEL, "Please PROVE it").said == "from closed"
        import time

        statuses = []
        for _ in range(8):
            time.sleep(0.3)
            statuses.append(spent.chat("closed").status)
        assert statuses[-1] >= 400, statuses
        assert len(spent.closed.seen) < 6
        assert spent.chat(MODEL).said == "from own"

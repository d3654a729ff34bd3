"""What a smoke test asks of each engine, and how its answers are read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from selfhost.cluster.values import json_object, part, parts, printable, text, whole
from selfhost.deploy.channel import Piece
from selfhost.hush import hushed
from selfhost.plan import Plan

Kind = Literal["generate", "embed", "rerank"]
CHAT, COMPLETIONS, EMBEDDINGS, RERANK = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/rerank",
)
_QUESTION = "What is 12 + 30? Answer with the number alone."
_LONG = "Write the numbers from one to forty in words."
# Ours: enough for a rate of one stream, little enough for a slow CPU.
_TOKENS = 64
_TOOL: Mapping[str, object] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city at present.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
# No chat template: vLLM 0.32 entrypoints/chat_utils.py, TGI 3.3.7 template_error, SGLang 0.5.23 (read 2026-11-26).
_NO_TEMPLATE = re.compile(r"chat[ _-]?template|template[ _]error", re.IGNORECASE)
# Beginnings of calls as models write them, which a parser should have taken out of the text (vLLM 0.32 tool_parsers/).
_RAW_CALL = re.compile(
    r"<tool_call|<function[=_]|\[TOOL_CALLS\]|<\|python_tag\|>|<\|tool_call|<\uff5ctool\u2581call|"
    r'\{\s*"name"\s*:\s*"get_weather"'
)
_SAID = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a model answered.

    Args:
        text: of the answer, thoughts where it has nothing else.
        tokens: generated, None where the engine does not say.
        ended: why it ended, as the engine calls it.
        model: as the engine calls itself.
        calls: names of the tools it calls, with arguments that are JSON.
        malformed: names of those whose arguments are none.
    """

    text: str
    tokens: int | None
    ended: str
    model: str
    calls: tuple[str, ...] = ()
    malformed: tuple[str, ...] = ()

    @property
    def raw_call(self) -> bool:
        """Whether a tool's call stands in the text, where no parser took it out."""
        return _RAW_CALL.search(self.text) is not None


def kind_of(plan: Plan) -> Kind:
    """What the model does: of the catalogue where it knows it, else by the flags and the architecture's name."""
    from selfhost.catalog.models import models

    known = next((model.modality for model in models() if model.id == plan.model.id), None)
    flags = flags_of(plan)
    if known == "reranker" or "--reranking" in flags:
        return "rerank"
    if known == "embedding" or flags & {"--is-embedding", "--embedding", "--embeddings"}:
        return "embed"
    if known is None and plan.model.architecture.endswith("ForSequenceClassification"):
        return "rerank"
    if known is None and re.search(r"(?<!Multi)Model$|EmbeddingModel$", plan.model.architecture):
        return "embed"
    return "generate"


def flags_of(plan: Plan, words: Iterable[str] = ()) -> frozenset[str]:
    """Flags that the engine is started with, of the plan and of a container's arguments."""
    own = {argument.flag for argument in plan.engine.args if argument.flag}
    return frozenset(own | {word.partition("=")[0] for word in words if word.startswith("-")})


def no_tools(plan: Plan, flags: frozenset[str]) -> str | None:
    """Why no tool call is tried, None where one is."""
    match plan.engine.name:
        case "vllm":
            if not {"--enable-auto-tool-choice", "--tool-call-parser"} <= flags:
                return "vLLM is started without --enable-auto-tool-choice and --tool-call-parser"
        case "sglang" | "triton":
            if "--tool-call-parser" not in flags:
                return f"{plan.engine.name} is started without --tool-call-parser"
        case "llamacpp":
            if "--jinja" not in flags:
                return "llama.cpp is started without --jinja"
        case "ollama" | "tgi":
            return None
        case other:
            return f"how {other} calls tools is not known"
    return None


def question(path: str, model: str, *, tokens: int = _TOKENS, stream: bool = False) -> dict[str, object]:
    """The body of a request for text; `stream` asks for another text, which no cache has yet."""
    words = _LONG if stream else _QUESTION
    said: dict[str, object] = (
        {"messages": [{"role": "user", "content": words}]} if path == CHAT else {"prompt": words}
    )
    body: dict[str, object] = {"model": model, **said, "max_tokens": tokens, "temperature": 0}
    return body | ({"stream": True, "stream_options": {"include_usage": True}} if stream else {})


def tool_question(model: str) -> dict[str, object]:
    """The body of a request that a tool answers."""
    words = "What is the weather in Paris right now? Use the tool."
    body: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": words}]}
    return body | {"tools": [_TOOL], "tool_choice": "auto", "max_tokens": 4 * _TOKENS, "temperature": 0}


def embedding_question(model: str) -> dict[str, object]:
    """The body of a request for two vectors."""
    return {"model": model, "input": ["The sky is blue.", "Water boils at 100 degrees."]}


def rerank_question(model: str) -> dict[str, object]:
    """The body of a request to rank two documents."""
    documents = ["Paris is the capital of France.", "Bread is made of flour."]
    return {"model": model, "query": "What is the capital of France?", "documents": documents}


def no_template(body: bytes) -> bool:
    """Whether a refusal is for want of a chat template."""
    return _NO_TEMPLATE.search(body.decode("utf-8", errors="replace")) is not None


def read_text(answer: dict[str, Any]) -> Said | None:
    """An answer of /v1/chat/completions or /v1/completions, None for anything else."""
    choices = parts(answer, "choices")
    if not choices:
        return None
    choice, message = choices[0], part(choices[0], "message")
    calls: list[str] = []
    malformed: list[str] = []
    for call in parts(message, "tool_calls"):
        function = part(call, "function")
        given = function.get("arguments")
        fine = isinstance(given, dict) or json_object(str(given).encode()) != {}
        (calls if fine else malformed).append(text(function, "name"))
    return Said(
        text=_words(message) or _words(choice),
        tokens=whole(part(answer, "usage"), "completion_tokens"),
        ended=text(choice, "finish_reason"),
        model=text(answer, "model"),
        calls=tuple(calls),
        malformed=tuple(malformed),
    )


def read_vectors(answer: dict[str, Any]) -> str | tuple[int, int]:
    """Number and length of the vectors of /v1/embeddings; why it is none of them."""
    rows = [row.get("embedding") for row in parts(answer, "data")]
    if not rows:
        return "the answer holds no vectors"
    lengths = {len(row) if isinstance(row, list) else 0 for row in rows}
    if len(lengths) != 1 or 0 in lengths:
        return "its vectors are not all of one length"
    for row in rows:
        numbers = [value for value in row or () if isinstance(value, (int, float))]
        if len(numbers) != len(row or ()) or not any(numbers) or any(value != value for value in numbers):
            return "a vector is zero, or no vector of numbers"
    return len(rows), lengths.pop()


def read_ranks(answer: dict[str, Any]) -> int | None:
    """Number of ranked documents, None where it is no such answer."""
    rows = [row for row in parts(answer, "results") if isinstance(row.get("relevance_score"), (int, float))]
    return len(rows) or None


def objection(status: int, body: bytes, secret: str | None = None) -> str:
    """What an engine says beside a status that is no 200, without anything secret."""
    data = json_object(body)
    error = data.get("error")
    inner = error if isinstance(error, dict) else {}
    said = text(inner, "message") or text(data, "message") or text(data, "detail") or text(data, "error")
    said = said or ("" if data else body[: 2 * _SAID].decode("utf-8", errors="replace"))
    if secret:
        said = said.replace(secret, "…")
    said = printable(hushed(" ".join(said.split())))
    return f"HTTP {status}" + (f": {said[:_SAID].rstrip('.')}" if said else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """A stream that was read to its end.

    Args:
        times: at which pieces of text came, seconds since the request.
        tokens: as the engine counts them, None where it does not say.
        ended: why the answer ended, empty where it did not say.
        done: `[DONE]` came.
        error: of the engine in the middle.
    """

    times: tuple[float, ...]
    tokens: int | None
    ended: str
    done: bool
    error: str = ""


def read_stream(pieces: Iterable[Piece], secret: str | None = None) -> Streamed:
    """Server-sent events of a completion."""
    times: list[float] = []
    tokens: int | None = None
    ended, done, error = "", False, ""
    for at, data in _events(pieces):
        if data == b"[DONE]":
            done = True
            continue  # to the very end, so that the connection can be kept
        event = json_object(data)
        if event.get("error"):
            error = objection(200, data, secret)
            continue
        count = whole(part(event, "usage"), "completion_tokens")
        tokens = count if count is not None else tokens
        for choice in parts(event, "choices"):
            ended = text(choice, "finish_reason") or ended
            delta = part(choice, "delta")
            if _words(delta) or _words(choice) or parts(delta, "tool_calls"):
                times.append(at)
    return Streamed(times=tuple(times), tokens=tokens, ended=ended, done=done, error=error)


def _events(pieces: Iterable[Piece]) -> Iterator[tuple[float, bytes]]:
    """Data of each event, with the time at which it was whole."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece.data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield piece.at, line[5:].strip()


def _words(holder: dict[str, Any]) -> str:
    """Text of an answer, whatever an engine calls it (vLLM 0.32 and SGLang 0.5.23: reasoning apart from content)."""
    for name in ("content", "text", "reasoning_content", "reasoning"):
        value = holder.get(name)
        if isinstance(value, str) and value:
            return value
    return ""


def shown(words: str) -> str:
    """The beginning of a model's text, for a line."""
    line = printable(" ".join(words.split()))
    return json.dumps(line if len(line) <= 40 else f"{line[:39]}…", ensure_ascii=False)


def bearer(key: str | None) -> dict[str, str]:
    """The header that carries a key; none where there is none."""
    return {"Authorization": f"Bearer {key}"} if key else {}

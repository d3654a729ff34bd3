"""A smoke test under way: one check after the other, over one connection where the engine keeps it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from selfhost.cluster.values import parts, printable, text
from selfhost.deploy.channel import Answer, Channel, NoReplyError
from selfhost.deploy.figures import StreamFigures, stream_figures
from selfhost.deploy.smoke import asks
from selfhost.deploy.smoke.asks import bearer
from selfhost.deploy.smoke.types import ApiKey, Check, Verdict
from selfhost.manifests.queries import served_name
from selfhost.plan import Plan

# Ours: what costs the engine next to nothing is answered within this, or it is not well.
QUICK_SECONDS = 30.0
_WRONG_KEY = "selfhost-smoke-test-wrong-key"
_REFUSED = (401, 403)
_SAME_CHARACTER = 16  # ours: from this many equal characters on a text is no language


@dataclass(slots=True, kw_only=True)
class Trying:
    """A smoke test under way."""

    plan: Plan
    channel: Channel
    key: ApiKey
    flags: frozenset[str]
    until: float
    tell: Callable[[Check], None] | None
    clock: Callable[[], float]
    checks: list[Check] = field(default_factory=list)
    stream: StreamFigures | None = None
    path: str = asks.CHAT
    model: str = ""
    health_status: int | None = None

    def run(self) -> None:
        """All of it; what comes of it stands in `checks` and `stream`."""
        self.model = served_name(self.plan)
        if not self._health():
            return
        self._models()
        kind = asks.kind_of(self.plan)
        if self.key.asked and self.key.value is None:
            why = f"the endpoint asks for a key: {self.key.why or 'none was given'}"
            for code in {"embed": ("embedding",), "rerank": ("rerank",)}.get(
                kind, ("completion", "streaming")
            ):
                self._say(code, "skipped", why)
        elif kind == "generate":
            if self._completion():
                self._streaming()
                self._tool_call()
        elif kind == "embed":
            self._embedding()
        else:
            self._rerank()
        self._keys(kind)

    # -- one after the other --------------------------------------------------------------------------------------

    def _health(self) -> bool:
        path = self.plan.engine.health_path
        answer = self._ask("health", path, seconds=QUICK_SECONDS)
        if answer is None:
            return False
        self.health_status = answer.status
        if answer.status == 200:
            return self._say("health", "pass", f"{path} answers 200", answer.seconds)
        said = asks.objection(answer.status, answer.body, self.key.value)
        return self._say("health", "fail", f"{path} answers {said}", answer.seconds)

    def _models(self) -> None:
        answer = self._ask("models", "/v1/models", seconds=QUICK_SECONDS)
        if answer is None:
            return
        if answer.status in _REFUSED and self.key.asked and self.key.value is None:
            self._say("models", "skipped", "it asks for the key too", answer.seconds)
            return
        names = [text(row, "id") for row in parts(answer.json, "data")]
        shown = ", ".join(name for name in names if name)[:200]
        if answer.status != 200 or not shown:
            said = asks.objection(answer.status, answer.body, self.key.value)
            self._say("models", "fail", f"/v1/models answers {said}", answer.seconds)
        elif (
            self.model in names or f"{self.model}:latest" in names
        ):  # Ollama's name for a model without a tag
            self._say("models", "pass", f"serves {shown}", answer.seconds)
        elif (
            self.plan.engine.name == "tgi" and len(names) == 1
        ):  # it calls the model as it was given: by a path
            self._say("models", "pass", f"serves its one model, as {shown}", answer.seconds)
        else:
            self._say(
                "models", "fail", f"serves {shown}, and not {self.model}, as was planned", answer.seconds
            )

    def _completion(self) -> bool:
        answer = self._ask("completion", self.path, asks.question(self.path, self.model))
        if answer is not None and answer.status != 200 and asks.no_template(answer.body):
            self.path = asks.COMPLETIONS  # a model that completes text and does not chat
            answer = self._ask("completion", self.path, asks.question(self.path, self.model))
        if answer is None:
            return False
        said = asks.read_text(answer.json) if answer.status == 200 else None
        if said is None or not (said.text or said.tokens):
            words = asks.objection(answer.status, answer.body, self.key.value)
            why = f"{self.path} answers {words}" if answer.status != 200 else f"{self.path} answers no text"
            return self._say("completion", "fail", why, answer.seconds)
        how = "" if self.path == asks.CHAT else ", without a chat template"
        count = f", {said.tokens} tokens" if said.tokens else ""
        stripped = said.text.strip()
        odd = len(stripped) >= _SAME_CHARACTER and len(set(stripped)) == 1
        note = "; one character over and over, as from weights that are damaged" if odd else ""
        return self._say(
            "completion", "pass", f"answers {asks.shown(said.text)}{count}{how}{note}", answer.seconds
        )

    def _streaming(self) -> None:
        began = self.clock()
        body = asks.question(self.path, self.model, stream=True)
        headers = self._headers() | {"Content-Type": "application/json", "Accept": "text/event-stream"}
        try:
            with self.channel.request(
                "POST", self.path, headers=headers, body=json.dumps(body).encode(), seconds=self._left()
            ) as reply:
                if reply.status != 200:
                    words = asks.objection(reply.status, reply.body(), self.key.value)
                    self._say("streaming", "fail", f"{self.path} answers {words}", self.clock() - began)
                    return
                kind = reply.headers.get("content-type", "")
                streamed = asks.read_stream(reply.pieces, self.key.value)
        except NoReplyError as error:
            self._say("streaming", "fail", f"{self.path}: {error}", self.clock() - began)
            return
        seconds = self.clock() - began
        self.stream = stream_figures(streamed.times, streamed.tokens)
        if streamed.error:
            self._say("streaming", "fail", f"breaks off: {streamed.error}", seconds)
        elif self.stream is None and not streamed.tokens:
            self._say(
                "streaming", "fail", f"no text in the stream ({printable(kind)[:40] or 'no type'})", seconds
            )
        elif not (streamed.done or streamed.ended):
            self._say("streaming", "fail", "the stream ends without saying that it is at its end", seconds)
        elif len(streamed.times) == 1 and (streamed.tokens or 0) >= 8:
            self._say(
                "streaming", "fail", f"all {streamed.tokens} tokens come at once, in one event", seconds
            )
        else:
            count = self.stream.tokens if self.stream else streamed.tokens
            self._say("streaming", "pass", f"{count} tokens in {len(streamed.times)} events", seconds)

    def _tool_call(self) -> None:
        if self.path != asks.CHAT:
            self._say("tool-call", "skipped", "the model has no chat template")
            return
        why = asks.no_tools(self.plan, self.flags) or self._cannot_call()
        if why is not None:
            self._say("tool-call", "skipped", why)
            return
        answer = self._ask("tool-call", asks.CHAT, asks.tool_question(self.model))
        if answer is None:
            return
        said = asks.read_text(answer.json) if answer.status == 200 else None
        if said is None:
            words = asks.objection(answer.status, answer.body, self.key.value)
            self._say("tool-call", "fail", f"a request with a tool is answered {words}", answer.seconds)
        elif "get_weather" in said.calls:
            self._say("tool-call", "pass", "calls the tool it was given", answer.seconds)
        elif said.raw_call:
            why = "the call stands in the text: --tool-call-parser is another model's"
            self._say("tool-call", "fail", why, answer.seconds)
        elif said.malformed:
            self._say("tool-call", "fail", "calls a tool with arguments that are no JSON", answer.seconds)
        else:
            self._say(
                "tool-call", "skipped", f"the model answers in words: {asks.shown(said.text)}", answer.seconds
            )

    def _cannot_call(self) -> str | None:
        """Ollama tells what a model can."""
        if self.plan.engine.name != "ollama":
            return None
        try:
            answer = self.channel.ask("/api/show", {"model": self.model}, seconds=self._left(QUICK_SECONDS))
        except NoReplyError as error:
            return f"/api/show: {error}"
        able = answer.json.get("capabilities")
        return None if isinstance(able, list) and "tools" in able else "the model's template has no tools"

    def _embedding(self) -> None:
        answer = self._ask("embedding", asks.EMBEDDINGS, asks.embedding_question(self.model))
        if answer is None:
            return
        if answer.status != 200:
            words = asks.objection(answer.status, answer.body, self.key.value)
            self._say("embedding", "fail", f"{asks.EMBEDDINGS} answers {words}", answer.seconds)
            return
        found = asks.read_vectors(answer.json)
        if isinstance(found, str):
            self._say("embedding", "fail", found, answer.seconds)
        else:
            self._say("embedding", "pass", f"{found[0]} vectors of {found[1]:,} numbers", answer.seconds)

    def _rerank(self) -> None:
        if self.plan.engine.name not in ("vllm", "sglang", "llamacpp"):
            self._say("rerank", "skipped", f"{self.plan.engine.name} ranks at no path that is known here")
            return
        answer = self._ask("rerank", asks.RERANK, asks.rerank_question(self.model))
        if answer is None:
            return
        count = asks.read_ranks(answer.json) if answer.status == 200 else None
        if count is None:
            words = asks.objection(answer.status, answer.body, self.key.value)
            self._say("rerank", "fail", f"{asks.RERANK} answers {words}", answer.seconds)
        else:
            self._say("rerank", "pass", f"{count} documents ranked", answer.seconds)

    # -- the key --------------------------------------------------------------------------------------------------

    def _keys(self, kind: asks.Kind) -> None:
        if not self.key.asked:
            name = self.plan.engine.name
            why = "no key was asked for (--api-key-secret)"
            why = why if self.plan.engine.key else f"{name} checks none; what stands in front of it has to"
            self._say("key-refused", "skipped", why)
            return
        path, body = self._cheap(kind)
        for code, headers, how in (
            ("key-refused", {}, "without a key"),
            ("key-wrong", bearer(_WRONG_KEY), "with a wrong key"),
        ):
            answer = self._ask(code, path, body, headers=headers, seconds=QUICK_SECONDS)
            if answer is None:
                continue
            refused = answer.status in _REFUSED
            because = f"{answer.status} {how}" if refused else f"answers {answer.status} {how}, and not 401"
            self._say(code, "pass" if refused else "fail", because, answer.seconds)
        if self.key.value is None:
            self._say("key-accepted", "skipped", self.key.why or "no key was given")
            return
        answer = self._ask("key-accepted", path, body)
        if answer is not None:
            fine = answer.status not in _REFUSED
            because = f"{answer.status} with the key" if fine else f"the key is refused: HTTP {answer.status}"
            self._say("key-accepted", "pass" if fine else "fail", because, answer.seconds)

    def _cheap(self, kind: asks.Kind) -> tuple[str, dict[str, object]]:
        """A request that costs one token at most, at a path that a key guards in every engine."""
        if kind == "embed":
            return asks.EMBEDDINGS, asks.embedding_question(self.model)
        if kind == "rerank":
            return asks.RERANK, asks.rerank_question(self.model)
        return self.path, asks.question(self.path, self.model, tokens=1)

    # -- on the way -----------------------------------------------------------------------------------------------

    def _ask(
        self,
        code: str,
        path: str,
        body: dict[str, object] | None = None,
        *,
        headers: dict[str, str] | None = None,
        seconds: float | None = None,
    ) -> Answer | None:
        """An answer; None where there is none, which has been said then."""
        began = self.clock()
        try:
            sent = self._headers() if headers is None else headers
            return self.channel.ask(path, body, headers=sent, seconds=self._left(seconds))
        except NoReplyError as error:
            self._say(code, "fail", f"{path}: {error}", self.clock() - began)
            return None

    def _headers(self) -> dict[str, str]:
        return bearer(self.key.value)

    def _left(self, most: float | None = None) -> float:
        left = max(0.1, self.until - self.clock())
        return left if most is None else min(left, most)

    def _say(self, code: str, verdict: Verdict, because: str, seconds: float | None = None) -> bool:
        check = Check(code=code, verdict=verdict, because=because, seconds=seconds)
        self.checks.append(check)
        if self.tell is not None:
            self.tell(check)
        return verdict == "pass"

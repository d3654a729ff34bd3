"""One small request that shows that a model really answers, and how a pod sends it with what an engine's image has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from selfhost.manifests.queries import served_name
from selfhost.plan import Plan

# Arguments by which engines are told to embed instead of to write (vLLM's and SGLang's parsers, llama.cpp's server).
_EMBEDS = frozenset(
    ("--runner=pooling", "--convert=embed", "--task=embed", "--task=embedding", "--is-embedding", "--embedding",
     "--embeddings")
)  # fmt: skip
_LONGEST_ANSWER = 8  # tokens
SCRIPT_FILE = "files/request.sh"  # in the chart

# Python where the image has it, else curl, else bash, whose /dev/tcp speaks HTTP well enough for one request.
SCRIPT = r"""# Written by selfhost render: asks, and fails unless a real answer comes.
set -eu
export URL="http://$HOST:$PORT$REQUEST_PATH"
if command -v python3 >/dev/null 2>&1; then
  exec python3 -c '
import json, os, sys, urllib.request
head = {"Content-Type": "application/json"}
if os.environ.get("KEY"):
    head["Authorization"] = "Bearer " + os.environ["KEY"]
request = urllib.request.Request(os.environ["URL"], os.environ["BODY"].encode(), head)
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    with opener.open(request, timeout=570) as got:
        answer = json.load(got)
except urllib.error.HTTPError as error:
    sys.exit("HTTP %d: %s" % (error.code, error.read(500).decode("utf-8", "replace")))
found = answer[0] if isinstance(answer, list) else answer
for word in os.environ["ANSWER"].split("."):
    found = found[int(word)] if word.isdigit() else found[word]
if not found:
    sys.exit("An empty answer: " + json.dumps(answer)[:500])
print(json.dumps(found)[:200])
'
fi
if command -v curl >/dev/null 2>&1; then
  got=`{
    echo 'header = "Content-Type: application/json"'
    if [ -n "${KEY:-}" ]; then echo "header = \"Authorization: Bearer $KEY\""; fi
  } | curl -sS --noproxy '*' --fail-with-body --max-time 570 --config - --data-raw "$BODY" "$URL"`
else
  got=`exec bash -c '
exec 3<>"/dev/tcp/$HOST/$PORT"
LC_ALL=C
{
  printf "POST %s HTTP/1.0\r\nHost: %s\r\nContent-Type: application/json\r\n" "$REQUEST_PATH" "$HOST"
  if [ -n "${KEY:-}" ]; then printf "Authorization: Bearer %s\r\n" "$KEY"; fi
  printf "Content-Length: %s\r\n\r\n%s" "${#BODY}" "$BODY"
} >&3
cat <&3
'`
  case "$got" in
    *" 200 "*) ;;
    *) echo "$got"; exit 1 ;;
  esac
fi
word="${ANSWER##*.}"
echo "$got" | tail -c 500
case "$got" in
  *"\"$word\":\"\""* | *"\"$word\": \"\""* | *"\"$word\":[]"*) echo "An empty answer."; exit 1 ;;
  *"\"$word\":"*) ;;
  *) echo "No $word in the answer."; exit 1 ;;
esac
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request.

    Args:
        path: where it is sent to.
        because: why there.
        model: the name that the server knows its model by.
        body: what is sent, as JSON.
        answer: names and numbers down to what has to be there, with dots between.
    """

    path: str
    because: str
    model: str
    body: dict[str, Any]
    answer: str


def request_of(plan: Plan) -> Request:
    """The smallest request that makes the model of a plan work."""
    words = [argument.text for argument in plan.engine.args]
    model = served_name(plan)
    if plan.engine.health_path.startswith(
        "/v2/"
    ):  # Triton's own protocol (KServe v2 with the generate extension)
        return Request(
            path=f"/v2/models/{model}/generate",
            because="Triton's own protocol",
            model=model,
            body={"text_input": "Say hello.", "parameters": {"stream": False, "max_tokens": _LONGEST_ANSWER}},
            answer="text_output",
        )
    if not _EMBEDS.isdisjoint(words):
        return Request(
            path="/v1/embeddings",
            because="the model embeds text",
            model=model,
            body={"model": model, "input": "Say hello."},
            answer="data.0.embedding",
        )
    return Request(
        path="/v1/completions",
        because="takes any model that writes, also one without a template for chats",
        model=model,
        body={"model": model, "prompt": "Say hello.", "max_tokens": _LONGEST_ANSWER},
        answer="choices.0.text",
    )

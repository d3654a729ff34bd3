"""How Ollama is started in a pod: the file is imported first, so that nothing is ready before the model is there.

`ollama create` copies the file into the server's own store; a server on loopback takes it, and ends before the one that
clients reach begins. `ollama run MODEL ""` is how its FAQ loads a model without a request (docs/faq.mdx, v0.32.15).
"""

from __future__ import annotations

IMPORT_ADDRESS = "127.0.0.1:11435"
MODELFILE = "/etc/selfhost/engine/Modelfile"
SCRIPT = f"""\
set -eu
export OLLAMA_HOST={IMPORT_ADDRESS}
ollama serve &
first=$!
trap 'kill "$first"' EXIT
trap 'exit 143' TERM INT
until ollama list >/dev/null 2>&1; do
  kill -0 "$first" || exit 1
  sleep 1
done
ollama create "$1" -f "$2"
trap - EXIT TERM INT
kill "$first"
wait "$first" || true
export OLLAMA_HOST="$3"
(
  until ollama list; do
    kill -0 $$ || exit 0
    sleep 1
  done
  ollama run "$1" ""
) </dev/null >/dev/null 2>&1 &
exec ollama serve
"""


def modelfile(path: str, context_tokens: int | None, threads: int | None = None) -> str:
    """The Modelfile of an import: where the file is, the context of its requests, and threads where a CPU computes."""
    lines = [f"FROM {path}"]
    if context_tokens is not None:
        lines.append(f"PARAMETER num_ctx {context_tokens}")
    if threads is not None:
        lines.append(f"PARAMETER num_thread {threads}")
    return "\n".join(lines) + "\n"

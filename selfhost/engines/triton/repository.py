"""Triton's model repository for one model of the vLLM backend: config.pbtxt and model.json.

model.json holds fields of vLLM's AsyncEngineArgs, which are its flags with underscores (vllm_backend src/model.py).
"""

from __future__ import annotations

import json
import re

from selfhost.engines import Argument, Serving

ROOT = "/models"
# Of the server that Triton stands in the place of.
_NOT_OF_THE_ENGINE = frozenset(
    ("--served-model-name", "--port", "--shutdown-timeout", "--disable-access-log-for-endpoints")
)
CONFIG = """\
backend: "vllm"
instance_group [
  {
    count: 1
    kind: KIND_MODEL
  }
]
"""


def model_name(served_name: str) -> str:
    """The name clients send: a directory of the repository, and so without slashes."""
    base = served_name.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9_.-]", "-", base).strip(".-") or "model"


def engine_arguments(arguments: tuple[Argument, ...]) -> dict[str, object]:
    """vLLM's argument vector as fields of AsyncEngineArgs."""
    fields: dict[str, object] = {}
    for word in arguments:
        if word.flag is None:
            fields["model"] = word.value
        elif word.flag not in _NOT_OF_THE_ENGINE:
            name = word.flag.removeprefix("--")
            off = name.startswith("no-") and word.value is None
            fields[name.removeprefix("no-").replace("-", "_") if off else name.replace("-", "_")] = (
                False if off else True if word.value is None else _value(word.value)
            )
    return fields


def model_json(serving: Serving, arguments: tuple[Argument, ...]) -> str:
    """The text of model.json."""
    return json.dumps(engine_arguments(arguments), indent=2, ensure_ascii=False) + "\n"


def _value(text: str) -> object:
    """A number or an object where the text is one; a commit of digits alone stays text."""
    if re.fullmatch(r"[0-9a-f]{40}", text):
        return text
    if text.startswith("{"):
        return json.loads(text)
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def tokenizer_of(serving: Serving) -> str:
    """Where the front end finds the tokenizer: in the Hub cache a commit has a directory of its own."""
    if serving.revision is None:
        return serving.model
    folder = "models--" + serving.model.replace("/", "--")
    return f"{serving.hub_cache_dir}/{folder}/snapshots/{serving.revision}"

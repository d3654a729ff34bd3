"""Which container is an inference engine, and what its command line says.

The command decides before the image: an engine's image also runs downloads, benchmarks and shells. A command that is
none of the known launchers is no engine, and a script of the image's own is one whose options cannot be known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from selfhost.catalog.flags import table
from selfhost.lint.command import Command, CommandLine
from selfhost.lint.model import Engine, Flag, Image, Word
from selfhost.lint.nodes import number_of
from selfhost.lint.types import Settings, Where

# Part of an image's repository -> engine; the first that matches. From the projects' own pages, 2026-11-21.
_IMAGES = (
    (re.compile(r"(^|/)vllm/vllm-(openai|tpu|neuron|omni)"), "vllm"),
    (re.compile(r"(^|/)llm-d/llm-d(-(cuda|rocm|xpu|cpu|hpu|aws|gke|tpu|dev)[a-z0-9-]*)?$"), "vllm"),
    (
        re.compile(r"(^|/)(lmcache/vllm-openai|rocm/vllm(-dev)?|vllm-cpu-release-repo|rhaiis/vllm-.*)$"),
        "vllm",
    ),
    (re.compile(r"(^|/)(vllm-openai|vllm-server|vllm-cuda|vllm-cpu-env|vllm)$"), "vllm"),
    (re.compile(r"(^|/)lmsysorg/sglang"), "sglang"),
    (re.compile(r"(^|/)(text-generation-inference|tgi-gaudi)$"), "tgi"),
    (re.compile(r"(^|/)tritonserver$"), "triton"),
    (re.compile(r"(^|/)(ggml-org|ggerganov)/llama\.cpp$"), "llamacpp"),
    (re.compile(r"(^|/)ollama(/ollama)?$"), "ollama"),
)
_NO_ENGINE_IMAGES = re.compile(
    r"llm-d-(inference-scheduler|routing-sidecar|benchmark|inference-sim|kv-cache|model-service)"
    r"|(^|-)sim($|-)|(^|-)(router|production-stack)"
)
_VERSION = re.compile(r"(?:^|[^0-9a-z.])v?(\d+\.\d+(?:\.\d+)?(?:\.post\d+|rc\d+)?)(?![0-9.])")
_PYTHON = re.compile(r"python(3(\.\d+)?)?$")
_MODULES = (
    (re.compile(r"vllm\.entrypoints\.(openai\.)?api_server$|vllm\.entrypoints\.cli\.main$"), "vllm"),
    (re.compile(r"sglang\.launch_server$"), "sglang"),
)
_LAUNCHERS = {
    "text-generation-launcher": "tgi", "tritonserver": "triton", "llama-server": "llamacpp", "ollama": "ollama",
}  # fmt: skip
# Engines whose images start them: arguments alone are enough. SGLang's and Triton's images start what they are given.
_ENTRY_POINTS = frozenset(("vllm", "tgi", "llamacpp"))
# Programs that are plainly something else, whatever image they run in.
_NO_ENGINES = frozenset(
    (
        "sleep", "tail", "cat", "echo", "curl", "wget", "hf", "huggingface-cli", "git", "pip", "cp", "rm",
        "mkdir", "true",         "ray", "lmcache_server", "test", "[", "nvidia-smi", "aws", "gsutil", "s5cmd",
    )
)  # fmt: skip

_LONG = {
    "vllm": {
        "tp": "tensor-parallel-size", "pp": "pipeline-parallel-size", "dp": "data-parallel-size", "q": "quantization",
        "dpl": "data-parallel-size-local", "dpn": "data-parallel-rank", "ep": "enable-expert-parallel",
        "dpr": "data-parallel-rank", "dpa": "data-parallel-address", "dph": "data-parallel-hybrid-lb",
        "O": "optimization-level", "n": "nnodes", "r": "node-rank",
    },
    "sglang": {
        "tp": "tp-size", "tensor-parallel-size": "tp-size", "pp": "pp-size", "pipeline-parallel-size": "pp-size",
        "dp": "dp-size", "data-parallel-size": "dp-size", "ep": "ep-size", "expert-parallel-size": "ep-size",
        "model": "model-path", "nccl-init-addr": "dist-init-addr",
    },
    "tgi": {"p": "port"},
    "llamacpp": {
        "m": "model", "hf": "hf-repo", "hfr": "hf-repo", "c": "ctx-size", "ngl": "n-gpu-layers", "np": "parallel",
        "gpu-layers": "n-gpu-layers", "a": "alias", "sm": "split-mode", "ts": "tensor-split", "mu": "model-url",
    },
}  # fmt: skip
# Switches after which a word is no value of theirs: what the shape of their names does not tell.
_SWITCHES = frozenset(
    ("trust-remote-code", "enforce-eager", "headless", "metrics", "jinja", "sharded", "async-scheduling")
)
_SWITCH_NAMES = re.compile(r"(enable|no|skip|use|allow)-")
_VALUED = re.compile(r"(allow-credentials|allowed-|no-mmproj-offload-|enable-server-load-tracking-)")
_SPLIT = {
    "vllm": ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size", "nnodes"),
    "sglang": ("tp-size", "pp-size", "dp-size", "nnodes"),
    "tgi": ("num-shard", "", "", ""),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """An engine's launcher in a command: its name and the words after it."""

    engine: str
    words: tuple[Word, ...]
    loose: frozenset[int] = frozenset()


def image_of(text: str | None) -> Image | None:
    """An image reference taken apart; None where there is none."""
    if not text:
        return None
    name, _, digest = text.partition("@")
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        head, tag = name, ""
    return Image(text=text, repository=head, tag=tag or None, digest=digest or None)


def image_engine(image: Image | None) -> str | None:
    """The engine that an image is named for, None where it is none of the known ones."""
    if image is None or _NO_ENGINE_IMAGES.search(image.repository.rpartition("/")[2]):
        return None
    repository = image.repository.lower()
    return next((engine for pattern, engine in _IMAGES if pattern.search(repository)), None)


def image_version(image: Image | None) -> str | None:
    """Release in an image's tag, such as `0.11.2` of `v0.11.2-cu129`; None where the tag names none."""
    if image is None or image.tag is None:
        return None
    found = _VERSION.search("-" + image.tag)
    return found[1] if found else None


def engine_of(
    line: CommandLine,
    image: Image | None,
    variables: Mapping[str, str | None],
    where: Where,
    settings: Settings,
    *,
    init: bool,
) -> Engine | None:
    """The engine a container runs, None where it runs none."""
    named = image_engine(image)
    start, complete = _start(line, named or (settings.engine if image is not None else None))
    if start is None or init:
        return None
    version = image_version(image) if named == start.engine and _own(image) else None
    if version is None and settings.engine == start.engine:
        version = settings.version
    flags, positional, all_read = _flags(start, where)
    engine = Engine(
        name=start.engine,
        version=version,
        flags=flags,
        positional=positional,
        complete=complete and all_read and not any(flag.key == "config" for flag in flags),
    )
    return _read_split(_read_model(engine, variables), variables)


def _own(image: Image | None) -> bool:
    """The tag of the engine's own project; a distribution's tags count its own releases."""
    own = r"(^|/)(vllm/vllm-|lmsysorg/sglang|huggingface/text-generation-inference|ollama/ollama)"
    return image is not None and re.search(own, image.repository) is not None


def _start(line: CommandLine, named: str | None) -> tuple[_Start | None, bool]:
    """The engine's launcher among the commands, and whether the options after it are all there are."""
    starts = [start for start in map(_launch, line.commands) if start is not None]
    if starts:
        return starts[0], len(starts) == 1
    if named is None:
        return None, False
    if not line.given and not line.shell:  # the image's own entry point takes the arguments
        words = line.commands[0].words if line.commands else ()
        loose = line.commands[0].loose if line.commands else frozenset()
        if named in _ENTRY_POINTS and (not words or _program(words[0]) not in _NO_ENGINES):
            return _Start(engine=named, words=words, loose=loose), True
        if named == "ollama" and (not words or words[0].text == "serve"):
            return _Start(engine=named, words=words[1:]), True
        return None, False
    if any(_script_file(command) for command in line.commands):
        return _Start(engine=named, words=()), False
    return None, False


def _program(word: Word) -> str:
    return word.text.rpartition("/")[2]


def _script_file(command: Command) -> bool:
    """A script of the image's own, which may well start its engine."""
    texts = [word.text for word in command.words[:2]]
    return any(text.endswith((".sh", "/entrypoint")) for text in texts) and "bench" not in " ".join(texts)


def _launch(command: Command) -> _Start | None:
    words = command.words
    for index, word in enumerate(words[:12]):  # numactl --cpunodebind=0 vllm serve …
        program = _program(word)
        if index == 0 and program in _NO_ENGINES:
            return None
        found = _launcher(words, index, program)
        if found is not None:
            engine, skip = found
            loose = frozenset(each - skip for each in command.loose if each >= skip)
            return _Start(engine=engine, words=words[skip:], loose=loose)
    return None


def _launcher(words: tuple[Word, ...], index: int, program: str) -> tuple[str, int] | None:
    after = words[index + 1].text if index + 1 < len(words) else ""
    if program == "vllm":
        return ("vllm", index + 2) if after == "serve" else None
    if program == "sglang":
        return ("sglang", index + 2) if after == "serve" else None
    if program == "ollama":
        return ("ollama", index + 2) if after == "serve" else None
    if program in _LAUNCHERS:
        return _LAUNCHERS[program], index + 1
    if _PYTHON.match(program) and after == "-m" and index + 2 < len(words):
        module = words[index + 2].text
        for pattern, engine in _MODULES:
            if pattern.match(module):
                return engine, index + 3
    return None


def _flags(start: _Start, where: Where) -> tuple[tuple[Flag, ...], tuple[Word, ...], bool]:
    """Options, positional words, and whether every word could be told apart."""
    longer = _LONG.get(start.engine, {})
    flags: list[Flag] = []
    positional: list[Word] = []
    words, at, complete = start.words, 0, True
    while at < len(words):
        word = words[at]
        if not word.text.startswith("-") or word.text == "-" or number_of(word.text) is not None:
            complete &= at not in start.loose or at == 0
            positional.append(word)
            at += 1
            continue
        written, joined, value = word.text.partition("=")
        key = written.lstrip("-").replace("_", "-")
        key = longer.get(key, key)
        known, value_span, shown = word.known, None, value if joined else None
        if not joined and at + 1 < len(words) and _takes(_shape(start.engine, written), key, words[at + 1]):
            at += 1
            known, value_span, shown = words[at].known, words[at].span, words[at].text
        place = replace(where, line=word.line)
        flags.append(
            Flag(
                written=written, key=key, value=shown if known else None, known=known,
                where=place, span=word.span, value_span=value_span,
            )
        )  # fmt: skip
        at += 1
    return tuple(flags), tuple(positional), complete


def _shape(engine: str, written: str) -> str | None:
    """What the engine's own parser says of an option, None where no release has it or its kind has changed."""
    if engine == "vllm":
        written = written.partition(".")[0].replace("_", "-") if written.startswith("--") else written
    known = table(engine).spellings.get(written)
    return None if known is None or known.shaped is not None or "." in written else known.shape


def _takes(shape: str | None, key: str, after: Word) -> bool:
    """The word after an option is its value."""
    if after.text.startswith("-") and number_of(after.text) is None:
        return False
    if shape in ("value", "list", "optional"):
        return True
    if shape is not None:
        return after.text.lower() in ("true", "false")
    if key in _SWITCHES or (_SWITCH_NAMES.match(key) and not _VALUED.match(key)):
        return after.text.lower() in ("true", "false")
    return True


def _read_model(engine: Engine, variables: Mapping[str, str | None]) -> Engine:
    keys = {
        "vllm": ("model", "model-tag"), "sglang": ("model-path",), "tgi": ("model-id",),
        "llamacpp": ("hf-repo", "model"),         "triton": ("model-repository",),
    }.get(engine.name, ())  # fmt: skip
    flag = engine.flag(*keys)
    model = flag.value if flag else None
    if flag is None and engine.name in ("vllm", "sglang") and engine.positional:
        model = engine.positional[0].text if engine.positional[0].known else None
    if flag is None and engine.name == "tgi":
        model = variables.get("MODEL_ID")
    pinned = engine.flag("revision")
    revision = (pinned.value or "") if pinned else variables.get("REVISION") if engine.name == "tgi" else None
    return replace(engine, model=model or None, revision=revision)


def _read_split(engine: Engine, variables: Mapping[str, str | None]) -> Engine:
    sizes: list[int | None] = []
    for key in _SPLIT.get(engine.name, ()):
        flag = engine.flag(key) if key else None
        if flag is not None:
            sizes.append(number_of(flag.value) if flag.value is not None else None)
        elif key == "num-shard" and "NUM_SHARD" in variables:
            sizes.append(number_of(variables["NUM_SHARD"] or ""))
        else:
            sizes.append(1 if engine.complete or not key else None)
    if len(sizes) != 4:
        return engine
    tensor, pipeline, data, nodes = sizes
    if engine.name == "tgi" and engine.flag("num-shard") is None and "NUM_SHARD" not in variables:
        tensor = None  # TGI shards over every GPU it sees unless told otherwise (launcher/src/main.rs, find_num_shards)
    return replace(engine, tensor=tensor, pipeline=pipeline, data=data, nodes=nodes)

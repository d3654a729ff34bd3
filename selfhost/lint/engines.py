"""Which container is an inference engine, and what its command line says.

The command decides before the image: an engine's image also runs downloads, benchmarks and shells. A command that is
none of the known launchers is no engine, and a script of the image's own is one whose options cannot be known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from selfhost.catalog.flags import table
from selfhost.lint.command import Command, CommandLine, shell_commands
from selfhost.lint.images import image_engine, image_version, no_engine, own, scripted
from selfhost.lint.model import Engine, Flag, Image, Word
from selfhost.lint.nodes import Map, number_of
from selfhost.lint.types import Settings, Where

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

# Two of these in arguments without a command are vLLM's: other engines' images start what they are given, or read
# variables (TGI, NIM), or spell them otherwise (KServe's own server: --model_name).
_TELLING = frozenset(
    (
        "--model", "--served-model-name", "--tensor-parallel-size", "--max-model-len", "--max-num-seqs",
        "--gpu-memory-utilization", "--download-dir",
    )
)  # fmt: skip
# Options of `sglang serve` for diffusion models: SGLang 0.5.23, multimodal_gen/runtime/server_args.py.
_DIFFUSION = frozenset(("--num-gpus", "--ulysses-degree", "--vae-cpu-offload", "--dit-cpu-offload"))

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


def engine_of(
    line: CommandLine,
    image: Image | None,
    variables: Mapping[str, str | None],
    where: Where,
    settings: Settings,
    *,
    init: bool,
    patch: bool = False,
) -> Engine | None:
    """The engine a container runs, None where it runs none.

    Args:
        line: what it runs.
        image: it runs that in.
        variables: its environment.
        where: its place.
        settings: what the user said.
        init: it ends before the others start.
        patch: it has no image and nothing that gives it one: the rest stands elsewhere.
    """
    named = image_engine(image)
    start, complete = _start(line, named or (settings.engine if image is not None else None))
    if start is None and not line.given and not patch and not no_engine(image):
        start, complete = _by_options(line), False
    if start is None or init or _other_work(start):
        return None
    version = image_version(image) if named == start.engine and own(image) else None
    if version is None and settings.engine == start.engine:
        version = settings.version
    flags, positional, all_read = _flags(start, where)
    engine = Engine(
        name=start.engine,
        version=version,
        flags=flags,
        positional=positional,
        complete=complete and all_read and not scripted(image) and not _more(flags),
    )
    return _read_split(_read_model(engine, variables), variables)


def _more(flags: tuple[Flag, ...]) -> bool:
    """More options stand in a file: of `--config`, or of the stages of vLLM-Omni, each with sizes of its own."""
    return any(flag.key in ("config", "omni", "stage-configs-path") for flag in flags)


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


def _by_options(line: CommandLine) -> _Start | None:
    """vLLM in an image that is not known by its name, or in none: arguments alone, with options that only it has."""
    words = line.commands[0].words if line.commands else ()
    names = {word.text.partition("=")[0].replace("_", "-") for word in words if word.text.startswith("--")}
    if (
        line.shell
        or not words
        or len(names & _TELLING) < 2
        or not (names & {"--model", "--served-model-name"})
    ):
        return None
    return _Start(engine="vllm", words=words, loose=line.commands[0].loose)


def _other_work(start: _Start) -> bool:
    """The launcher of an engine for models that are no language models: image generation of SGLang."""
    names = {word.text.partition("=")[0] for word in start.words}
    return start.engine == "sglang" and bool(names & _DIFFUSION)


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


def in_kserve(engine: Engine, variables: Mapping[str, str | None], parallelism: Map, where: Where) -> Engine:
    """An engine whose command line is KServe's: more options than the text shows, and some in a variable.

    Its configuration passes `spec.parallelism` and what stands in VLLM_ADDITIONAL_ARGS
    (KServe 0.17, config/llmisvcconfig/config-llm-template.yaml, read 2026-11-26).
    """
    more = variables.get("VLLM_ADDITIONAL_ARGS")
    words: tuple[Word, ...] = ()
    if more:
        commands = shell_commands(Word(text=f": {more}", known=True, line=where.line), variables)
        words = tuple(word for command in commands for word in command.words[1:])
    flags, _, _ = _flags(_Start(engine=engine.name, words=words), where)
    given = replace(engine, flags=(*engine.flags, *flags), complete=False)
    split = _read_split(given, variables)
    tensor = split.tensor or parallelism.number("tensor")
    if tensor is None:
        return split
    local = parallelism.number("dataLocal") or parallelism.number("data")
    return replace(
        split, tensor=tensor, pipeline=split.pipeline or parallelism.number("pipeline") or 1,
        data=split.data or local or 1, nodes=split.nodes or 1,
    )  # fmt: skip


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
    # Who says how many GPUs a layer is cut over says it of the nodes and copies too, wherever more options come from.
    told = engine.complete or (
        engine.name == "vllm" and engine.flag("tensor-parallel-size") is not None and not _more(engine.flags)
    )
    for key in _SPLIT.get(engine.name, ()):
        flag = engine.flag(key) if key else None
        if flag is not None:
            sizes.append(number_of(flag.value) if flag.value is not None else None)
        elif key == "num-shard" and "NUM_SHARD" in variables:
            sizes.append(number_of(variables["NUM_SHARD"] or ""))
        else:
            sizes.append(1 if told or not key else None)
    if len(sizes) != 4:
        return engine
    tensor, pipeline, data, nodes = sizes
    if engine.name == "tgi" and engine.flag("num-shard") is None and "NUM_SHARD" not in variables:
        tensor = None  # TGI shards over every GPU it sees unless told otherwise (launcher/src/main.rs, find_num_shards)
    return replace(engine, tensor=tensor, pipeline=pipeline, data=data, nodes=nodes)

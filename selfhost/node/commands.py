"""Which command lines are inference servers, and the port they ask for; nothing else of a command line is kept.

Program names, titles and default ports: vLLM 0.32, SGLang 0.5.23, TGI 3.3.7, llama.cpp server (2026-11-21).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Where each listens when nothing says otherwise. TGI's launcher says 3000, its image sets PORT=80.
DEFAULT_PORTS = {"vllm": (8000,), "sglang": (30000,), "tgi": (3000, 80), "llamacpp": (8080,)}
# A server that was started with a certificate speaks TLS alone.
_CERTIFICATE = {"--ssl-certfile", "--ssl-cert-file"}
_MODULES = {
    "vllm.entrypoints.openai.api_server": "vllm",
    "vllm.entrypoints.api_server": "vllm",
    "sglang.launch_server": "sglang",
    "sglang.srt.entrypoints.http_server": "sglang",
}
# Programs that serve with the first argument `serve`, as scripts or as modules.
_SERVE = {
    "vllm": "vllm",
    "sglang": "sglang",
    "vllm.entrypoints.cli.main": "vllm",
    "sglang.cli.main": "sglang",
}
_PROGRAMS = {
    "text-generation-launcher": "tgi",
    "text-generation-router": "tgi",
    "llama-server": "llamacpp",
    "llama-server.exe": "llamacpp",
}
# Titles that workers give themselves: what an engine within another program (a server of one's own) is known by.
_TITLES = {"VLLM::": "vllm", "sglang::": "sglang"}
# One of several servers under one supervisor, each with ranks, a port and metrics of its own (vLLM's
# --data-parallel-multi-port-external-lb).
_SEPARATE = "VLLM::APIServer_DP"
_WORKERS = {"text-generation-server": "tgi"}
_PYTHON = re.compile(r"(?:python|pypy)[0-9.]*t?")
# Options of the interpreter that take a value of their own.
_WITH_VALUE = {"-W", "-X", "--check-hash-based-pycs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a command line tells.

    Args:
        engine: `vllm`, `sglang`, `tgi` or `llamacpp`.
        server: it is the server itself; otherwise a worker.
        port: what `--port` asks for.
        tls: it was given a certificate.
        separate: a server of its own, though its parent is one of the same engine.
    """

    engine: str
    server: bool
    port: int | None = None
    tls: bool = False
    separate: bool = False


def command(argv: tuple[str, ...]) -> Command | None:
    """An engine's command line, None for anything else.

    Only the program itself counts, so that a shell, a container client or an editor that mentions one does not.
    """
    if argv and argv[0].startswith(_SEPARATE):
        return Command(engine="vllm", server=True, separate=True)
    for title, engine in _TITLES.items():
        if argv and argv[0].startswith(title):
            return Command(engine=engine, server=False)
    program, arguments = _program(argv)
    if program in _WORKERS:
        return Command(engine=_WORKERS[program], server=False)
    engine = _PROGRAMS.get(program) or _MODULES.get(program) or ""
    if not engine and arguments[:1] == ("serve",):
        engine = _SERVE.get(program, "")
    if not engine:
        return None
    return Command(
        engine=engine, server=not _further_node(arguments), port=_port(arguments), tls=_tls(arguments)
    )


def _program(argv: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The program or the module that runs, and its arguments; an interpreter's own options are stepped over."""
    if not argv:
        return "", ()
    name = argv[0].rpartition("/")[2]
    if not _PYTHON.fullmatch(name):
        return name, argv[1:]
    at = 1
    while at < len(argv) and argv[at].startswith("-"):
        if argv[at] == "-m":
            return (argv[at + 1] if at + 1 < len(argv) else ""), argv[at + 2 :]
        if argv[at] == "-c":
            return "", ()
        at += 2 if argv[at] in _WITH_VALUE else 1
    if at >= len(argv):
        return "", ()
    return _script(argv[at]), argv[at + 1 :]


def _script(path: str) -> str:
    """/usr/local/bin/vllm as `vllm`; …/vllm/entrypoints/openai/api_server.py as the module it is."""
    dotted = path.removesuffix(".py").replace("/", ".")
    for module in (*_MODULES, *_SERVE):
        if "." in module and dotted.endswith("." + module):
            return module
    return path.rpartition("/")[2]


def _values(arguments: tuple[str, ...], *names: str) -> Iterator[str]:
    """Values of an option, as `--port 80` or `--port=80`."""
    for at, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if name in names:
            yield value if equals else next(iter(arguments[at + 1 : at + 2]), "")


def _port(arguments: tuple[str, ...]) -> int | None:
    # The last of an option counts.
    value = next(reversed([*_values(arguments, "--port", "-p")]), "")
    return int(value) if re.fullmatch(r"[0-9]{1,5}", value) and 0 < int(value) < 1 << 16 else None


def _further_node(arguments: tuple[str, ...]) -> bool:
    """Whether this is a further node of an engine over several: it computes, and the first node serves."""
    return "--headless" in arguments or any(rank.strip("0") for rank in _values(arguments, "--node-rank"))


def _tls(arguments: tuple[str, ...]) -> bool:
    return any(word.partition("=")[0] in _CERTIFICATE for word in arguments)

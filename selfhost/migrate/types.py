"""What a migration says: each setting, metric, query and clock before and after, and what has no equivalent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something of TGI and what it becomes.

    Args:
        old: as it was given, values of secrets left out; None where nothing was said and TGI's own default counts.
        new: what to write; None where nothing is needed.
        because: why.
        where: `file:line`, empty for a command line.
    """

    old: str | None
    new: str | None
    because: str
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmatched:
    """Something without an equivalent.

    Args:
        what: as it was given, values of secrets left out.
        because: why there is none.
        instead: what to do.
        where: `file:line`, empty for a command line.
    """

    what: str
    because: str
    instead: str
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """How one server is started afterwards.

    Args:
        where: object and container, or empty for a command line.
        image: of the new engine.
        command: what starts it before its arguments; the image's own entry point for vLLM.
        args: the arguments.
        env: variables that are set, by name; None for a value that is a secret or stands elsewhere.
        line: the whole command for a shell.
        port: that it listens on.
        old_port: that TGI listened on.
    """

    where: str
    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: tuple[tuple[str, str | None], ...]
    line: str
    port: int | None
    old_port: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """All of it.

    Args:
        to: engine and release, such as `vllm@0.32.0`.
        servers: one for each server of TGI that was found.
        arguments: command-line words.
        environment: variables.
        serving: image, port, paths and clocks.
        metrics: every metric of TGI that the input names, or all of them where it holds a server.
        queries: PromQL texts; `new` is None where the text is not rewritten.
        endpoints: what clients call.
        unmatched: what has no equivalent.
        plan: `selfhost plan` commands, for plans that were given.
    """

    to: str
    servers: tuple[Server, ...] = ()
    arguments: tuple[Change, ...] = ()
    environment: tuple[Change, ...] = ()
    serving: tuple[Change, ...] = ()
    metrics: tuple[Change, ...] = ()
    queries: tuple[Change, ...] = ()
    endpoints: tuple[Change, ...] = ()
    unmatched: tuple[Unmatched, ...] = ()
    plan: tuple[str, ...] = ()

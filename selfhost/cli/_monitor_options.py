"""What `selfhost monitor` was asked for, as one value; options that contradict each other are refused here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from selfhost.errors import UsageError, shown_address

if TYPE_CHECKING:
    from selfhost.observation import EngineAddress

# Ours: what a person can follow on a screen, and what an exporter is scraped at.
WATCH_SECONDS, SERVE_SECONDS, COUNT_SECONDS = 2.0, 5.0, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The options of one call."""

    watch: bool
    as_json: bool
    interval: float | None
    count: int | None
    record: Path | None
    replay: Path | None
    engine: tuple[str, ...]
    engine_log: tuple[str, ...]
    no_engines: bool
    plan: Path | None
    serve: str | None
    dcgm_names: bool
    cluster: bool
    nodes: str | None
    context: str | None
    namespace: str | None
    direct: bool
    parallel: int | None
    timeout: float | None

    def given(self) -> dict[str, bool]:
        """Which options were given, by their names."""
        return {
            "--watch": self.watch, "--json": self.as_json, "--interval": self.interval is not None,
            "--count": self.count is not None, "--record": self.record is not None,
            "--replay": self.replay is not None, "--engine": bool(self.engine),
            "--engine-log": bool(self.engine_log), "--no-engines": self.no_engines,
            "--plan": self.plan is not None, "--serve": self.serve is not None, "--dcgm-names": self.dcgm_names,
            "--cluster": self.cluster, "--nodes": self.nodes is not None, "--context": self.context is not None,
            "--namespace": self.namespace is not None, "--direct": self.direct, "--parallel": self.parallel is not None,
            "--timeout": self.timeout is not None,
        }  # fmt: skip


# Each of these says what the whole call does; the first of two that are given refuses the other.
_HERE = ("--interval", "--count", "--record", "--engine", "--no-engines", "--plan")
_AGAINST: Mapping[str, tuple[str, ...]] = {
    "--cluster": ("--nodes", "--watch", "--serve", "--replay", "--dcgm-names", *_HERE),
    "--nodes": ("--watch", "--serve", "--replay", "--dcgm-names", *_HERE),
    "--serve": ("--watch", "--json", "--replay", "--count", "--record"),
    "--watch": ("--json", "--count"),
    "--replay": ("--record", "--count", "--interval", "--engine", "--no-engines"),
    "--no-engines": ("--engine",),
}
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "--dcgm-names": ("--serve",),
    "--context": ("--cluster",),
    "--namespace": ("--cluster",),
    "--direct": ("--cluster",),
    "--parallel": ("--cluster", "--nodes"),
    "--timeout": ("--cluster", "--nodes"),
    "--engine-log": ("--engine",),
    "--interval": ("--watch", "--serve", "--count"),
}


def checked(wanted: Wanted) -> Wanted:
    """The same, once nothing contradicts.

    Raises:
        UsageError: two options that exclude each other, or one without another that it belongs to.
    """
    given = wanted.given()
    for option, others in _AGAINST.items():
        for other in others:
            if given[option] and given[other]:
                raise UsageError(
                    f"{option} and {other} cannot be used together.", hint="Leave one of them out."
                )
    for option, others in _NEEDS.items():
        if given[option] and not any(given[other] for other in others):
            raise UsageError(
                f"{option} needs {' or '.join(others)}.", hint=f"Leave {option} out, or add the other."
            )
    return wanted


def engine_addresses(texts: Sequence[str], logs: Sequence[str]) -> tuple[EngineAddress, ...]:
    """Engines as they were named, each with the log of the same place in the order.

    Raises:
        UsageError: an address that is none, or another number of logs than of engines.
    """
    from dataclasses import replace

    addresses = tuple(map(engine_address, texts))
    if not logs:
        return addresses
    if len(logs) != len(addresses):
        raise UsageError(
            f"{len(logs)} --engine-log for {len(addresses)} --engine.",
            hint="Give one --engine-log for each --engine, in the same order.",
        )
    return tuple(replace(address, log=log) for address, log in zip(addresses, logs, strict=True))


def engine_address(text: str) -> EngineAddress:
    """`http://127.0.0.1:8000`, with the engine's GPUs after an equals sign: `http://…:8000=0,1`.

    Raises:
        UsageError: not an address of http or https with a host.
    """
    from urllib.parse import urlsplit

    from selfhost.observation import EngineAddress

    url, _, named = text.partition("=")
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https"):
        raise UsageError(
            f"{shown_address(url)!r} is not an address of an engine.",
            hint="Write it as http://HOST:PORT, or http://HOST:PORT=0,1.",
        )
    if parts.username or parts.password:
        raise UsageError(
            "An engine's address holds no user and password.",
            hint="Metrics are read without; leave them out.",
        )
    shown = f"[{host}]" if ":" in host else host
    gpus = tuple(part.strip() for part in named.split(",") if part.strip())
    return EngineAddress(url=f"{parts.scheme}://{shown}{'' if port is None else f':{port}'}", gpus=gpus)

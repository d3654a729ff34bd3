"""Readiness that an open port alone decides."""

from __future__ import annotations

from collections.abc import Iterator

from selfhost.lint.model import Lot
from selfhost.lint.types import Found, Rule


def _open_port(lot: Lot) -> Iterator[Found]:
    for _, container, engine in lot.engines():
        for probe in container.probes:
            if probe.kind == "readiness" and probe.action == "tcp" and engine.name != "triton":
                yield Found(
                    where=probe.where,
                    message="readiness asks only whether the port is open: a dead engine behind it still gets requests",
                    fix="ask the engine's health path by httpGet",
                )


RULES = (
    Rule(
        code="SH098",
        title="Readiness by an open port",
        severity="warning",
        reason="The HTTP server outlives its engine: vLLM answers 503 on /health then, while the port stays open.",
        fix="Probe the engine's health path by httpGet.",
        sources=("vLLM 0.32.0 /health (503 on EngineDeadError); LeaderWorkerSet's vLLM example, 2026-11-21",),
        check=_open_port,
    ),
)

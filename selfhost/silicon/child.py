"""Runs in a process of its own, in any Python that has aiconfigurator-core: JSON lines in, JSON lines out, no network.

One line of input is one request: what to build, and the points whose times are wanted. One line of output answers it:
`milliseconds`, one number a point, with the versions behind them, or `error` and why. This file imports nothing of
selfhost, so that the package's dependencies and ours never meet.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from typing import Any, TextIO

_NO_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
_LONGEST = 300  # characters of a reason


def _refuse_network(event: str, _: tuple[object, ...]) -> None:
    if event in _NO_NETWORK:
        raise PermissionError("the tables are read without a network")


def _package() -> str | None:
    """Version of the package, None where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("aiconfigurator-core")
    except PackageNotFoundError:
        return None


def _engine(asked: dict[str, Any], folder: str) -> Any:
    """The model on its system, as a list of kernels with their tables."""
    from aiconfigurator_core.sdk.engine import EngineHandle

    return EngineHandle.compile(
        folder,
        asked["system"],
        asked["backend"],
        backend_version=asked["database"],
        tp_size=asked["tensor"],
        pp_size=asked["pipeline"],
        attention_dp_size=asked["data"],
        moe_tp_size=asked["expert_tensor"],
        moe_ep_size=asked["expert_parallel"],
        gemm_quant_mode=asked["dense_format"],
        moe_quant_mode=asked["expert_format"],
        kvcache_quant_mode=asked["cache_format"],
        fmha_quant_mode="bfloat16",
    )


def _database(asked: dict[str, Any]) -> str:
    """The release of the engine whose kernels the package takes for its present ones."""
    from aiconfigurator_core.sdk.perf_database import get_version_slots

    slots = get_version_slots(asked["system"], asked["backend"]) or {}
    if "current" not in slots:
        raise ValueError(f"no tables of {asked['backend']} on {asked['system']}")
    return str(slots["current"])


def _milliseconds(engine: Any, point: list[int]) -> float:
    """A step of sequences that decode, or one of prompt tokens behind those that are in the cache."""
    decoding, context, prompt, before = point
    if decoding:
        return float(engine.decode_step_latency(decoding, context, 2))
    return float(engine.predict_prefill_latency(1, before + prompt, before))


def _reason(error: Exception, folder: str, model: str) -> str:
    """One sentence of the package's, without paths of this machine and lists of all that it knows."""
    text = str(error).partition("\n")[0].replace(folder, model)
    text = re.split(r"\.? Supported architectures|: tried lane_order| for \w+Key \{", text)[0]
    text = re.sub(r" (at|in) /\S*?(?=[;,]?(\s|$))", "", text)
    return text.removeprefix("perf database error: ").rstrip(" .")[:_LONGEST]


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Answer to one request."""
    package = _package()
    if package is None:
        return {"error": "absent", "because": "aiconfigurator-core is not installed"}
    if package != asked["package"]:
        return {"error": "version", "because": package}
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
            json.dump(asked["config"], file)
        try:
            asked["database"] = _database(asked)
            engine = _engine(asked, folder)
            times = [_milliseconds(engine, point) for point in asked["points"]]
        except (ValueError, RuntimeError, NotImplementedError, KeyError) as error:
            return {"error": "uncovered", "because": _reason(error, folder, str(asked["model"]))}
    return {"package": package, "database": asked["database"], "milliseconds": times}


def main(lines: TextIO, answers: TextIO) -> None:
    """Answer every line until there are no more."""
    sys.addaudithook(_refuse_network)
    for line in lines:
        try:
            found = answer(json.loads(line))
        except Exception as error:  # the parent has to hear of it in any case
            found = {"error": "failed", "because": f"{type(error).__name__}: {error}"[:_LONGEST]}
        answers.write(json.dumps(found) + "\n")
        answers.flush()


if __name__ == "__main__":
    # What the package prints must not stand between the answers.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as kept:
        os.dup2(2, 1)
        main(sys.stdin, kept)

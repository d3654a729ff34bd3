"""One look at an engine: metrics, health path, version, and a one-token request where it was asked for.

The metrics come first: SGLang's /health generates a token and hangs with the engine, its metrics do not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from selfhost.observation import EngineAddress, EngineSnapshot, Missing, Reading, StartupMemory, known
from selfhost.observation.reading import NOT_READ
from selfhost.probe.names import ENGINES
from selfhost.probe.page import empty_snapshot, read_page
from selfhost.probe.startup import read_startup_file
from selfhost.probe.wire import Answer, NoAnswerError, Target, Wire, parse_target

# Of the time of a scrape, ours: the metrics may take most, and health and version still have their turn.
_METRICS_SHARE, _HEALTH_SHARE = 0.6, 0.6
_NO_CANARY = Missing(missing="no request was sent (--canary sends one)")
_PARALLEL = 16  # ours


def scrape(
    address: EngineAddress,
    *,
    timeout_seconds: float,
    now: float,
    previous: EngineSnapshot | None = None,
    api_key: str | None = None,
    canary: bool = False,
) -> EngineSnapshot:
    """Look at one engine. Never raises; whatever does not answer is a Missing with its reason.

    Args:
        address: where it is.
        timeout_seconds: what all requests together may take.
        now: Unix time.
        previous: the last look at the same engine, whose metrics stand, with their age, while none can be read.
        api_key: for the one-token request, and sent with the others; to this address alone.
        canary: also ask for one token.
    """
    if previous is not None and previous.url != _shown(address.url):
        previous = None
    try:
        target = parse_target(address.url)
    except NoAnswerError as error:
        return _base(address, None, previous, now, str(error))
    with Wire(target, seconds=timeout_seconds, api_key=api_key) as wire:
        try:
            page = _metrics(wire, address)
        except NoAnswerError as error:
            found = _base(address, target, previous, now, str(error))
        else:
            found = read_page(_base(address, target, previous, now, "not on its page"), page, now)
        if previous is not None and _restarted(previous, found):
            unasked = Missing(missing="the engine was started anew")
            found = replace(found, version=unasked, startup=_startup(address, None))
        found = replace(found, health_status=_health(wire, found))
        if not known(found.version) or not known(found.model):
            found = _asked(wire, found)
        name = found.model if known(found.model) else f"{target.host}:{target.port}"
        found = replace(found, name=name)
        if canary:
            found = replace(found, canary_seconds=_canary(wire, found))
    return found


def scrape_all(
    addresses: Sequence[EngineAddress],
    *,
    timeout_seconds: float,
    now: float,
    previous: Sequence[EngineSnapshot] = (),
    api_key: str | None = None,
    canary: bool = False,
) -> tuple[EngineSnapshot, ...]:
    """Look at several engines at once; in the order given, in the time that one may take."""
    if not addresses:
        return ()
    before = {engine.url: engine for engine in previous}

    def one(address: EngineAddress) -> EngineSnapshot:
        return scrape(
            address,
            timeout_seconds=timeout_seconds,
            now=now,
            previous=before.get(_shown(address.url)),
            api_key=api_key,
            canary=canary,
        )

    if len(addresses) == 1:
        return (one(addresses[0]),)
    with ThreadPoolExecutor(min(_PARALLEL, len(addresses)), thread_name_prefix="scrape") as pool:
        return tuple(pool.map(one, addresses))


def _shown(url: str) -> str:
    try:
        return parse_target(url).shown
    except NoAnswerError:
        return "not an address"


def _base(
    address: EngineAddress, target: Target | None, previous: EngineSnapshot | None, now: float, why: str
) -> EngineSnapshot:
    """What is known before any metric is: the last ones with their age, or none with the reason."""
    if previous is not None and known(previous.metrics_age_seconds):
        age = max(0.0, now - (previous.at - previous.metrics_age_seconds))
        kept = replace(previous, at=now, metrics_age_seconds=age)
    else:
        kept = empty_snapshot(
            target.shown if target else "not an address", address.engine or "unknown", now, why
        )
        if previous is not None:
            kept = replace(kept, engine=previous.engine, version=previous.version, model=previous.model)
    named: Reading[tuple[str, ...]] = address.gpus or Missing(missing="not joined with GPUs yet")
    return replace(
        kept,
        pids=address.pids,
        gpu_uuids=named,
        health_status=Missing(missing=why),
        canary_seconds=_NO_CANARY,
        startup=_startup(address, previous),
    )


def _restarted(before: EngineSnapshot, now: EngineSnapshot) -> bool:
    """Whether a counter fell: a new process, maybe of another release."""
    pairs = ((before.generation_tokens, now.generation_tokens), (before.prompt_tokens, now.prompt_tokens))
    return any(known(earlier) and known(later) and later < earlier for earlier, later in pairs)


def _startup(address: EngineAddress, previous: EngineSnapshot | None) -> Reading[StartupMemory]:
    """What its log says, read once: it is printed at start and never again."""
    if address.log is None:
        return Missing(missing="no log of this engine was named (--engine-log)")
    if previous is not None and known(previous.startup) and previous.startup.kv_available_bytes is not None:
        return previous.startup
    return read_startup_file(address.log)


def _metrics(wire: Wire, address: EngineAddress) -> str:
    path = ENGINES[address.engine].metrics_path if address.engine in ENGINES else "/metrics"
    answer = wire.request(path, share=_METRICS_SHARE)
    if answer.status != 200:
        raise NoAnswerError(_refusal(answer))
    return answer.body.decode("utf-8", errors="replace")


def _refusal(answer: Answer) -> str:
    if 300 <= answer.status < 400:
        return f"HTTP {answer.status}: redirects elsewhere, which is not followed"
    if answer.status == 404:
        return "HTTP 404: no metrics here (SGLang needs --enable-metrics, llama.cpp --metrics)"
    return f"HTTP {answer.status}"


def _health(wire: Wire, found: EngineSnapshot) -> Reading[int]:
    path = ENGINES[found.engine].health_path if found.engine in ENGINES else "/health"
    if wire.spent:  # by its page, or by a machine that was busy elsewhere: it was never asked
        return NOT_READ
    try:
        return wire.request(path, share=_HEALTH_SHARE).status
    except NoAnswerError as error:
        return Missing(missing=str(error))


def _asked(wire: Wire, found: EngineSnapshot) -> EngineSnapshot:
    """Version and model from the engine's JSON pages, where they are not known yet."""
    names = ENGINES.get(found.engine)
    if names is None or not known(found.metrics_age_seconds) or found.metrics_age_seconds > 0:
        return found
    wanted = [("version", pair) for pair in names.version_paths]
    if names.model_path is not None:
        wanted.append(("model", names.model_path))
    pages: dict[str, Any] = {}
    for field, (path, key) in wanted:
        if known(getattr(found, field)):
            continue
        if path not in pages:
            pages[path] = _json(wire, path)
        value = pages[path].get(key) if isinstance(pages[path], dict) else None
        text = value[:400] if isinstance(value, str) and value else None
        reading: Any = text or Missing(missing=f"{path} does not say")
        found = replace(found, **{field: reading})
    return found


def _json(wire: Wire, path: str) -> Any:
    try:
        answer = wire.request(path, share=_HEALTH_SHARE)
        return json.loads(answer.body) if answer.status == 200 else None
    except (NoAnswerError, ValueError, RecursionError):
        return None


def _canary(wire: Wire, found: EngineSnapshot) -> Reading[float]:
    """Seconds that one token took, in the time that is left of the scrape."""
    model = found.model.split(", ")[0] if known(found.model) else "default"
    body = json.dumps({"model": model, "prompt": "Hi", "max_tokens": 1, "temperature": 0}).encode()
    began = time.monotonic()
    try:
        answer = wire.request("/v1/completions", body=body)
    except NoAnswerError as error:
        return Missing(missing=str(error))
    if answer.status != 200:
        return Missing(missing=f"the request was refused: HTTP {answer.status}")
    return time.monotonic() - began

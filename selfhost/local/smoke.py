"""The checks of a cluster's endpoint, against a server of this machine."""

from __future__ import annotations

from selfhost.deploy.channel import plain
from selfhost.deploy.smoke import ApiKey, Check, Smoke
from selfhost.deploy.smoke import smoke as checks_of
from selfhost.deploy.types import Cause, Event, Tell
from selfhost.local.store import Store
from selfhost.local.types import Wanted
from selfhost.observation import known
from selfhost.plan import Plan
from selfhost.units import gib

_LOG_BYTES = 16 * 2**20  # the start stands at its beginning


def smoke(wanted: Wanted, plan: Plan, store: Store, key: str | None, tell: Tell) -> Cause | None:
    """Try the endpoint; the cause where it does not do what it should.

    Args:
        wanted: what runs.
        plan: what it was started by.
        store: its files.
        key: that clients have to send, None where nobody is asked for one.
        tell: hears of each check, and the figures.
    """

    def said(check: Check) -> None:
        if check.verdict != "skipped":
            facts = {"code": check.code, "verdict": check.verdict, "seconds": check.seconds}
            tell(Event(type="smoke", message=check.because, facts=facts))

    with plain(wanted.address) as channel:
        found = checks_of(
            plan,
            channel,
            ApiKey(asked=key is not None, value=key),
            words=wanted.words,
            log=_log(store),
            tell=said,
        )
    _figures(found, tell)
    if found.passed:
        return None
    return Cause(
        code="smoke-test",
        sentence=found.sentence[:1].upper() + found.sentence[1:],
        evidence=tuple(f"{check.code}: {check.because}" for check in found.failed),
        hint=f"it runs on: selfhost logs {wanted.name} --local, or selfhost down {wanted.name}",
    )


def _figures(found: Smoke, tell: Tell) -> None:
    stream, memory = found.stream, found.memory
    if stream is not None:
        words = f"first token after {stream.first_token_seconds:.2f} s"
        rate = stream.tokens_per_second
        words += "" if rate is None else f", then {rate:,.1f} tokens/s in one stream"
        facts: dict[str, object] = {"ttft_seconds": stream.first_token_seconds, "tokens_per_second": rate}
        tell(Event(type="smoke", message=words, facts=facts))
    if memory is not None and known(memory.kv_tokens):
        words = f"KV cache: {memory.kv_tokens:,} tokens"
        words += "" if memory.kv_tokens_predicted is None else f", {memory.kv_tokens_predicted:,} planned"
        facts = {"kv_tokens": memory.kv_tokens, "kv_tokens_planned": memory.kv_tokens_predicted}
        tell(Event(type="smoke", message=words, facts=facts))


def memory_words(memory_bytes: int | None, planned_bytes: int | None) -> str:
    """Memory against the plan, in a phrase."""
    if memory_bytes is None:
        return "memory not known"
    words = f"{gib(memory_bytes)} GiB of memory"
    return words if planned_bytes is None else f"{words}, the plan allows {gib(planned_bytes)}"


def _log(store: Store) -> str | None:
    try:
        with store.log.open("rb") as file:
            return file.read(_LOG_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return None

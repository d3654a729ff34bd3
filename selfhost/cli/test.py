"""Try a deployment: health, an answer, a stream, the API key; its first figures and its memory against the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from selfhost.cli._day_two import name_argument
from selfhost.cli._deploying import (
    NOT_HEALTHY,
    Reach,
    cluster_options,
    namespace_option,
    timeout_option,
    where,
)
from selfhost.cli._options import json_option
from selfhost.cli._output import emit_json, next_step
from selfhost.errors import SelfhostError, UsageError

if TYPE_CHECKING:
    from selfhost.deploy.smoke import Smoke


@click.command()
@name_argument
@click.option("--pod", default="", metavar="NAME", help="Which pod; one that is ready if absent.")
@click.option(
    "--api-key-file", metavar="FILE",
    help="File with the key that clients send; else the Secret is read, where that is permitted.",
)  # fmt: skip
@click.option("--local", is_flag=True, help="A server of this machine, of `selfhost up --local`.")
@timeout_option("How long all checks together may take.  [default: 3m]")
@namespace_option
@cluster_options
@json_option
def command(
    name: str,
    pod: str,
    api_key_file: str | None,
    local: bool,
    timeout: float | None,
    namespace: str,
    reach: Reach,
    as_json: bool,
) -> int:
    """Try NAME through a port that is forwarded through the API server. Ends with 5 where a check failed.

    Sent are a few short requests to one pod; nothing is changed. The key is never printed.
    """
    as_json = as_json or reach.as_json
    if local and pod:
        raise UsageError("--local and --pod contradict each other.")
    tried, found = (
        _local(name, api_key_file, timeout)
        if local
        else _on_cluster(name, pod, api_key_file, timeout, namespace, reach)
    )
    code = 0 if found.passed else NOT_HEALTHY
    if as_json:
        from selfhost.deploy.smoke.facts import facts_of

        emit_json(
            "test",
            {"name": name, "namespace": None if local else namespace, "pod": tried or None} | facts_of(found),
        )
        return code
    from selfhost.cli._test_output import show

    show(found, f"{name}, pod {tried}" if tried else name)
    if code:
        log = f"selfhost logs {name} --local" if local else f"selfhost logs {name}{where(namespace)}"
        next_step(log, "shows what the engine says")
    return code


def _on_cluster(
    name: str, pod: str, api_key_file: str | None, timeout: float | None, namespace: str, reach: Reach
) -> tuple[str, Smoke]:
    from selfhost.deploy.revisions import heads, load
    from selfhost.deploy.smoke import TIMEOUT_SECONDS
    from selfhost.deploy.smoke_run import attempt
    from selfhost.deploy.status import absent

    api = reach.api()
    found = heads(api, namespace, name)
    if not found:
        raise absent(api, namespace, name)
    head = next((one for one in found if one.state in ("deployed", "pending")), found[0])
    tried = attempt(
        api,
        load(api, head).desired,
        pod=pod,
        api_key_file=api_key_file,
        timeout_seconds=timeout or TIMEOUT_SECONDS,
    )
    return tried.pod, tried.smoke


def _local(name: str, api_key_file: str | None, timeout: float | None) -> tuple[str, Smoke]:
    """A server of this machine; its key is in the file that it was started with."""
    from selfhost.deploy.channel import plain
    from selfhost.deploy.smoke import TIMEOUT_SECONDS, ApiKey, smoke
    from selfhost.deploy.smoke_run import read_key
    from selfhost.local.store import Store
    from selfhost.local.types import Wanted

    store = Store(name)
    wanted, plan = store.read(Wanted), store.plan()
    if wanted is None or plan is None:
        raise SelfhostError(
            f"There is no server {name} on this machine.", hint="`selfhost status --local` lists them."
        )
    file = api_key_file or wanted.key_file
    key = ApiKey(asked=wanted.key_file is not None, value=read_key(file) if file else None)
    try:
        log = store.log.read_text(encoding="utf-8", errors="replace")[: 4 << 20]
    except OSError:
        log = None
    with plain(wanted.address) as channel:
        return "", smoke(
            plan, channel, key, words=wanted.words, log=log, timeout_seconds=timeout or TIMEOUT_SECONDS
        )

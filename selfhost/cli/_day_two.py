"""What the commands on a running deployment share: options of a rollout, and how they end."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from selfhost.cli._deploying import (
    Printer,
    Reach,
    confirmed,
    interruptible,
    timeout_option,
    yes_option,
)
from selfhost.cli.deploy import ended

if TYPE_CHECKING:
    from selfhost.cluster import Api
    from selfhost.deploy.settings import Settings
    from selfhost.deploy.types import Desired

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How a rollout is gone about."""

    timeout: float | None
    yes: bool
    dry_run: bool
    force_conflicts: bool
    rollback: bool
    smoke: bool
    wait: bool
    api_key_file: str | None

    def settings(self, because: str) -> Settings:
        """As the library takes it."""
        from selfhost.deploy.settings import Settings

        return Settings(
            because=because,
            timeout_seconds=self.timeout,
            dry_run=self.dry_run,
            force_conflicts=self.force_conflicts,
            rollback=self.rollback,
            smoke=self.smoke,
            wait=self.wait,
            api_key_file=self.api_key_file,
        )


def rollout_options(function: F) -> F:
    """The options of a rollout as one argument, `rollout`."""

    @click.option(
        "--dry-run", is_flag=True, help="Show what would change, by a server-side dry-run; change nothing."
    )
    @click.option("--force-conflicts", is_flag=True, help="Take over fields that other field managers own.")
    @click.option("--no-rollback", is_flag=True, help="Leave it as it is where it fails.")
    @click.option("--no-smoke-test", is_flag=True, help="Do not send requests once it is ready.")
    @click.option("--no-wait", is_flag=True, help="End once everything is applied.")
    @click.option("--api-key-file", metavar="FILE", help="File with the key that the smoke test sends.")
    @timeout_option("How long to wait for it; else from the plan's clocks.")
    @yes_option
    @functools.wraps(function)
    def gather(
        *, dry_run: bool, force_conflicts: bool, no_rollback: bool, no_smoke_test: bool, no_wait: bool,
        api_key_file: str | None, timeout: float | None, yes: bool, **given: Any,
    ) -> Any:  # fmt: skip
        rollout = Rollout(
            timeout=timeout, yes=yes, dry_run=dry_run, force_conflicts=force_conflicts, rollback=not no_rollback,
            smoke=not no_smoke_test, wait=not no_wait, api_key_file=api_key_file,
        )  # fmt: skip
        return function(rollout=rollout, **given)

    return cast(F, gather)


def name_argument(function: F) -> F:
    """`NAME`, of a deployment."""
    return click.argument("name", metavar="NAME")(function)


def carried_out(
    api: Api, wanted: Desired, rollout: Rollout, because: str, printer: Printer, reach: Reach, again: str
) -> int:
    """Deploy what is wanted, print how it ended, and pass the exit code on.

    Args:
        api: the cluster.
        wanted: what is to be there.
        rollout: how to go about it.
        because: kept with the revision.
        printer: prints events.
        reach: how results are printed.
        again: command that goes on after an interruption.
    """
    from selfhost.deploy.run import deploy

    with interruptible(printer, f"`{again}` goes on."):
        ask = confirmed(printer, yes=rollout.yes, as_json=reach.as_json)
        result = deploy(api, wanted, rollout.settings(because), printer, ask)
    return ended(wanted, result, printer, reach)

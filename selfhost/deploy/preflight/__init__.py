"""Whether a deployment would work, looked at before anything is changed: findings, each with what to do about it."""

from __future__ import annotations

from selfhost.cluster import Api
from selfhost.deploy.preflight.checks import checks
from selfhost.deploy.preflight.facts import Facts, Look, Unread
from selfhost.deploy.preflight.gather import MOST_REQUESTS, gather
from selfhost.deploy.types import Desired, Finding

__all__ = ["MOST_REQUESTS", "Facts", "Look", "Unread", "examine", "findings_of", "fits", "gather"]


def examine(
    api: Api, desired: Desired, *, before: Desired | None = None, most: int = MOST_REQUESTS
) -> tuple[Finding, ...]:
    """Look at a cluster, and say what would go wrong.

    Args:
        api: the cluster.
        desired: what is to be deployed.
        before: what was deployed last under that name; None for a first deployment.
        most: requests that may be spent.

    Raises:
        ClusterError: the API server does not answer, or does not accept the credentials.
    """
    return findings_of(gather(api, desired, most=most), desired, before=before)


def findings_of(facts: Facts, desired: Desired, *, before: Desired | None = None) -> tuple[Finding, ...]:
    """What the checks say to what was read."""
    look = Look(facts=facts, desired=desired, before=before)
    return tuple(finding for check in checks() for finding in check(look))


def fits(findings: tuple[Finding, ...]) -> bool:
    """Whether nothing that was found stops a deployment; what is unknown or a warning does not."""
    return not any(finding.level == "error" for finding in findings)

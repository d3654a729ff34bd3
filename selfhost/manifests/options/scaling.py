"""Operations: autoscaling, priority, rules and dashboard."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from selfhost.errors import UsageError
from selfhost.manifests.options.fields import option

Autoscaler = Literal["keda", "hpa"]
Spread = Literal["node", "zone"]
MOST_REPLICAS = 1000  # of any autoscaler; more is a slip of the keyboard
MOST_REQUESTS = 1_000_000
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_URL = re.compile(r"https?://[-A-Za-z0-9._~:/\[\]]{1,300}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingOptions:
    """How replicas are kept and scaled."""

    autoscale: Autoscaler | None = field(
        default=None,
        metadata=option(
            "--autoscale",
            "What adds and takes away replicas: KEDA, or the HPA by itself.",
            "autoscale",
            metavar="keda|hpa",
        ),
    )
    max_replicas: int | None = field(
        default=None,
        metadata=option("--max-replicas", "Most replicas that autoscaling may make.", "int", metavar="N"),
    )
    min_replicas: int | None = field(
        default=None,
        metadata=option(
            "--min-replicas",
            "Fewest replicas when autoscaled; those of the plan if absent.",
            "int",
            metavar="N",
        ),
    )
    target_requests: int | None = field(
        default=None,
        metadata=option(
            "--target-requests",
            "Requests in flight for each replica that autoscaling aims at; else from what one holds.",
            "int",
            metavar="N",
        ),
    )
    scale_to_zero: bool = field(
        default=False,
        metadata=option(
            "--scale-to-zero",
            "No replica while nobody asks; the first request then waits for the load.",
            "flag",
        ),
    )
    wake_query: str | None = field(
        default=None,
        metadata=option(
            "--wake-query",
            "PromQL of what stands in front: above 0 while requests come, also with no replica there.",
            "str",
            metavar="PROMQL",
        ),
    )
    prometheus_url: str | None = field(
        default=None,
        metadata=option(
            "--prometheus-url",
            "Prometheus that KEDA asks; the operator's own Service if absent.",
            "str",
            metavar="URL",
        ),
    )
    trigger_authentication: str | None = field(
        default=None,
        metadata=option(
            "--trigger-authentication",
            "KEDA's TriggerAuthentication with a bearer token, where Prometheus asks for one.",
            "str",
        ),
    )
    spread: Spread = field(
        default="node",
        metadata=option(
            "--spread", "What replicas are spread over: nodes, or zones too.", "spread", metavar="node|zone"
        ),
    )
    priority_class: str | None = field(
        default=None,
        metadata=option(
            "--priority-class", "PriorityClass of the server; the cluster has to have it.", "str"
        ),
    )
    rules: bool = field(
        default=True,
        metadata=option("--no-rules", "No PrometheusRule with the alerts about the server.", "off_flag"),
    )
    dashboard: bool = field(
        default=False,
        metadata=option("--dashboard", "A ConfigMap with a Grafana dashboard of the server.", "flag"),
    )

    def __post_init__(self) -> None:
        for flag, name in (
            ("--trigger-authentication", self.trigger_authentication),
            ("--priority-class", self.priority_class),
        ):
            if name is not None and _NAME.fullmatch(name) is None:
                raise UsageError(f"{flag} {name[:80]!r} is not a valid name.")
        if self.autoscale not in (None, "keda", "hpa"):
            raise UsageError(f"--autoscale {self.autoscale!r} is not keda or hpa.")
        if self.spread not in ("node", "zone"):
            raise UsageError(f"--spread {self.spread!r} is not node or zone.")
        self._check_numbers()
        self._check_prometheus()
        if self.autoscale is None:
            self._refuse_without_autoscaling()
        elif self.max_replicas is None:
            raise UsageError(
                "--autoscale needs --max-replicas: each replica takes GPUs.", hint="Add --max-replicas 4."
            )
        if self.autoscale == "hpa":
            self._refuse_of_keda()
        self._check_zero()

    def _check_numbers(self) -> None:
        for flag, value, most in (
            ("--max-replicas", self.max_replicas, MOST_REPLICAS),
            ("--min-replicas", self.min_replicas, MOST_REPLICAS),
            ("--target-requests", self.target_requests, MOST_REQUESTS),
        ):
            if value is not None and not 1 <= value <= most:
                raise UsageError(f"{flag} must be between 1 and {most:,}, not {value:,}.")
        least, most_asked = self.min_replicas, self.max_replicas
        if least is not None and most_asked is not None and least > most_asked:
            raise UsageError(f"--min-replicas {least} is more than --max-replicas {most_asked}.")

    def _check_prometheus(self) -> None:
        url = self.prometheus_url
        if url is not None and not _is_address(url):
            raise UsageError(
                f"--prometheus-url {url[:80]!r} is not a web address without a user name.",
                hint="Write http://HOST:9090; a password goes into a TriggerAuthentication.",
            )
        query = self.wake_query
        if query is not None and (not query.strip() or len(query) > 2000 or not query.isprintable()):
            raise UsageError("--wake-query is not one line of PromQL.")

    def _refuse_without_autoscaling(self) -> None:
        for flag, given in (
            ("--max-replicas", self.max_replicas),
            ("--min-replicas", self.min_replicas),
            ("--target-requests", self.target_requests),
            ("--scale-to-zero", self.scale_to_zero or None),
            ("--wake-query", self.wake_query),
            ("--prometheus-url", self.prometheus_url),
            ("--trigger-authentication", self.trigger_authentication),
        ):
            if given is not None:
                raise UsageError(
                    f"{flag} has no effect without --autoscale.",
                    hint="Add --autoscale keda, or leave it out: the plan says how many replicas there are.",
                )

    def _refuse_of_keda(self) -> None:
        for flag, given in (
            ("--scale-to-zero", self.scale_to_zero or None),
            ("--prometheus-url", self.prometheus_url),
            ("--trigger-authentication", self.trigger_authentication),
        ):
            if given is not None:
                raise UsageError(
                    f"{flag} is for KEDA; the HPA has no such thing.", hint="Use --autoscale keda."
                )

    def _check_zero(self) -> None:
        if self.scale_to_zero and self.min_replicas is not None:
            raise UsageError("--scale-to-zero and --min-replicas exclude each other.")
        if self.scale_to_zero and self.wake_query is None:
            raise UsageError(
                "--scale-to-zero needs --wake-query: a server that is not there has no metric to wake it by.",
                hint="Name what the gateway counts, as in --wake-query "
                "'sum(rate(envoy_cluster_upstream_rq_total[2m]))'.",
            )
        if self.wake_query is not None and not self.scale_to_zero:
            raise UsageError("--wake-query has no effect without --scale-to-zero.")


def _is_address(url: str) -> bool:
    """Whether it is a web address of a host, and has no user name in it."""
    try:
        parts = urlsplit(url)
        return _URL.fullmatch(url) is not None and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False

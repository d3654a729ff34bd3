"""What is watched of a deployment: its metrics, the alerts about them, and a dashboard of the engine."""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.errors import UnsupportedError
from selfhost.manifests.access import metrics_secret
from selfhost.manifests.dashboard import engine_dashboard
from selfhost.manifests.document import Document
from selfhost.manifests.engine_metrics import engine_metrics
from selfhost.manifests.exposure import request_timeout
from selfhost.manifests.grafana import to_text
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.pod import SecretKey
from selfhost.manifests.queries import DEPLOYMENT_PODS, scope_of
from selfhost.manifests.rules.server import server_alerts
from selfhost.manifests.rules.types import Group
from selfhost.manifests.scaling import queue_length, replicas_of
from selfhost.plan import Plan

DASHBOARD_FILE = "dashboard.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """What Prometheus and Grafana are given.

    Args:
        pod_monitor: a PodMonitor is made.
        port: name of the port with the metrics.
        path: of the metrics.
        key: what Prometheus has to send, None where the metrics are open.
        groups: alerts, none where no PrometheusRule is made.
        dashboard: JSON of the dashboard, None where none is asked for.
        dashboard_file: the file with the same.
    """

    pod_monitor: bool
    port: str
    path: str
    key: SecretKey | None
    groups: tuple[Group, ...]
    dashboard: str | None
    dashboard_file: str

    @property
    def files(self) -> tuple[Document, ...]:
        """The dashboard, for Grafana's own import."""
        return () if self.dashboard is None else (Document(name=self.dashboard_file, text=self.dashboard),)


def watching(plan: Plan, options: RenderOptions, *, pods: str = DEPLOYMENT_PODS) -> Watching:
    """What is watched.

    Args:
        plan: the decision.
        options: what the cluster decides.
        pods: regular expression of what follows the plan's name in the names of pods.

    Raises:
        UnsupportedError: a dashboard of an engine without metrics.
    """
    metrics = engine_metrics(plan.engine.name, plan.engine.metrics)
    measured = bool(plan.engine.metrics)
    if options.scaling.dashboard and metrics.running is None:
        raise UnsupportedError(
            f"--dashboard: {plan.engine.name} {plan.engine.version} has no metrics.",
            hint="Leave it out; --target monitor watches the GPUs below it.",
        )
    operator = options.pod_monitor and measured
    groups: tuple[Group, ...] = ()
    if operator and options.scaling.rules:
        replicas = replicas_of(plan, options)
        alerts = server_alerts(
            plan,
            metrics,
            scope_of(plan, options.namespace, pods=pods),
            queue=queue_length(plan, options),
            always=replicas.least > 0,
            most=replicas.most,
            longest=request_timeout(plan, options).value,
        )
        groups = (Group(name=f"selfhost-server-{plan.name}", alerts=tuple(alerts)),)
    board = to_text(engine_dashboard(name=plan.name, engine=metrics)) if options.scaling.dashboard else None
    return Watching(
        pod_monitor=operator,
        port="http" if plan.engine.metrics_port is None else "metrics",
        path=plan.engine.metrics_path,
        key=metrics_secret(plan, options),
        groups=groups,
        dashboard=board,
        dashboard_file=DASHBOARD_FILE,
    )

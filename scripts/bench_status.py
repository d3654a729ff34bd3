"""How long `selfhost status` takes over many deployments of one namespace, beside kubectl's two lists of the same.

Run: KUBEBUILDER_ASSETS=/path/to/bin .venv/bin/python scripts/bench_status.py [--deployments 200]. Without the assets
the tests' API fake stands in, and kubectl is left out. Both commands are timed as a user runs them, start of the
program included; they take turns, and the median of each counts.
"""

from __future__ import annotations

import argparse
import copy
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from selfhost.cluster import Api, connect  # noqa: E402
from selfhost.cluster.kinds import DEPLOYMENT, POD  # noqa: E402
from selfhost.deploy import revisions  # noqa: E402
from selfhost.deploy.desired import desired  # noqa: E402
from selfhost.deploy.types import MANAGED_BY, MANAGED_LABEL  # noqa: E402
from selfhost.manifests import RenderOptions  # noqa: E402
from tests import apiservers  # noqa: E402
from tests.plans import plan  # noqa: E402

NAMESPACE = "bench"
CREATED = "2026-11-26T12:00:00Z"
LIMIT_SECONDS = 2.0  # of 200 deployments, against a real API server
_GONE_WRONG = 20  # one pod in so many crashes, so that there is trouble to tell


def fill(api: Api, count: int) -> None:
    """Deployments with a revision and a pod each, as selfhost and the controllers would have left them."""
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    made = plan()
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(lambda number: _one(api, replace(made, name=f"model-{number:03}"), number), range(count))
        )


def _one(api: Api, made: Any, number: int) -> None:
    wanted = desired(made, "kubernetes", RenderOptions(namespace=NAMESPACE))
    revisions.save(api, wanted, 1, because="deploy", by="bench@bench", created=CREATED, state="deployed")
    workload = next(item for item in wanted.objects if item["kind"] == DEPLOYMENT.name)
    live = api.apply(workload).object
    status = {
        "observedGeneration": live["metadata"]["generation"], "replicas": 1, "updatedReplicas": 1,
        "readyReplicas": 1, "availableReplicas": 1,
    }  # fmt: skip
    _status(api, DEPLOYMENT.api_version, DEPLOYMENT.name, made.name, status)
    template = copy.deepcopy(workload["spec"]["template"])
    template["metadata"] |= {"name": f"{made.name}-5d8f7c9b6-abcde", "namespace": NAMESPACE}
    template["spec"].pop("serviceAccountName", None)
    template["spec"]["nodeName"] = f"gpu-{number // 4}"
    api.create({"apiVersion": "v1", "kind": "Pod"} | template)
    well = number % _GONE_WRONG != 0
    state = {"running": {"startedAt": CREATED}} if well else {"waiting": {"reason": "CrashLoopBackOff"}}
    status = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": str(well)}],
        "containerStatuses": [
            {
                "name": "server", "ready": well, "restartCount": 0 if well else 7, "state": state,
                "image": template["spec"]["containers"][0]["image"], "imageID": "",
            }
        ],
    }  # fmt: skip
    _status(api, "v1", POD.name, f"{made.name}-5d8f7c9b6-abcde", status)


def _status(api: Api, version: str, kind: str, name: str, status: dict[str, Any]) -> None:
    from selfhost.cluster import Ref

    ref = Ref(api_version=version, kind=kind, namespace=NAMESPACE, name=name)
    api.patch(ref, {"status": status}, subresource="status")


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """An API server's kubeconfig, and kubectl where there is one."""
    if apiservers.ASSETS:
        with contextmanager(apiservers.serve)(folder) as cluster:
            yield str(cluster.config), cluster.command
        return
    from tests.fakes.kube import kube_api

    with kube_api() as fake:
        yield fake.kubeconfig(folder / "config"), ()


def seconds(command: list[str]) -> tuple[float, float]:
    """How long a command takes, and how long it keeps a core busy: the latter says the same on a busy machine."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - began, sum(after[:2]) - sum(before[:2])


def main() -> None:
    """Fill a server, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deployments", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--slack", type=float, default=1.0, help="how many times the limit is allowed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, server(Path(name)) as (config, kubectl):
        api = Api(connect(None, config, connections=8))
        fill(api, given.deployments)
        ours = [sys.executable, "-m", "selfhost", "status", "-n", NAMESPACE, "--kubeconfig", config]
        labels = f"{MANAGED_LABEL}={MANAGED_BY}"
        theirs = [*kubectl, "get", "deployments,pods", "-n", NAMESPACE, "-l", labels, "-o", "json"]
        mine: list[tuple[float, float]] = []
        other: list[tuple[float, float]] = []
        for _ in range(given.rounds):
            mine.append(seconds(ours))
            other += [seconds(theirs)] if kubectl else []
    which = "kube-apiserver" if kubectl else "the tests' fake"
    print(f"{given.deployments} deployments in one namespace, {which}, median of {given.rounds}")
    print(_line("selfhost status", mine))
    if other:
        print(_line("kubectl get deployments,pods -l … -o json", other))
        print(f"  ratio of the times: {_median(mine) / _median(other):.2f}")
        limit = LIMIT_SECONDS * given.slack
        if _median(mine) > limit:
            sys.exit(f"selfhost status takes {_median(mine):.2f} s, more than {limit:g} s")


def _median(times: list[tuple[float, float]], which: int = 0) -> float:
    return statistics.median(one[which] for one in times)


def _line(name: str, times: list[tuple[float, float]]) -> str:
    worst = max(one[0] for one in times)
    return f"  {name:<42} {_median(times):.2f} s (worst {worst:.2f}), {_median(times, 1):.2f} s of CPU"


if __name__ == "__main__":
    main()

"""A cluster to deploy to, with simulated nodes: the API fake, or the real control plane where one is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from selfhost.cluster import Api, connect
from selfhost.deploy.desired import desired
from selfhost.deploy.run import deploy
from selfhost.deploy.settings import Preview, Result, Settings
from selfhost.deploy.types import Desired, Event
from selfhost.manifests import RenderOptions
from selfhost.plan import Plan
from tests import crds
from tests.clusters import ControlPlane
from tests.fakes.kube import Kube, kube_api
from tests.plans import plan
from tests.simulator import Simulator

Object = dict[str, Any]
PRODUCT = "NVIDIA-H100-80GB-HBM3"
# What the cluster makes by itself in every namespace, and what comes and goes with time.
_OF_THE_CLUSTER = (
    "kube-root-ca.crt",
    "openshift-service-ca.crt",
    "default",
)  # ConfigMaps, and the ServiceAccount
_PASSING = ("Event", "EndpointSlice", "Endpoints", "ControllerRevision", "PodMetrics")


@dataclass(kw_only=True)
class World:
    """A cluster, its nodes, and a namespace of its own for the test.

    Args:
        config: kubeconfig of an administrator.
        sim: its nodes.
        fake: the API fake, where it is that.
        plane: the real one, where it is that.
    """

    config: Path
    sim: Simulator
    folder: Path
    fake: Kube | None = None
    plane: ControlPlane | None = None
    namespace: str = ""
    told: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.namespace = self.new_namespace()

    def new_namespace(self) -> str:
        """Another namespace, at the level restricted."""
        if self.plane is not None:
            return self.plane.namespace()
        assert self.fake is not None
        name = f"selfhost-test-{uuid4().hex[:8]}"
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.fake.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        return name

    def api(self, *, config: Path | None = None, **settings: Any) -> Api:
        """A client of selfhost's."""
        return Api(connect(None, str(config or self.config), connections=24), **settings)

    def objects(self, namespace: str = "") -> set[tuple[str, str, str]]:
        """Every object (kind, namespace, name) of a namespace, and of none, besides what the cluster makes itself."""
        if self.fake is not None:
            found = {
                (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"])
                for item in self.fake.objects()
            }
        else:
            assert self.plane is not None
            found = {(kind, space, name) for _, kind, space, name in self.plane.objects()}
        return {
            one
            for one in found
            if one[1] in (namespace or self.namespace, "")
            and one[0] not in _PASSING
            and one[2] not in _OF_THE_CLUSTER
        }

    def make(self, *items: Object, manager: str = "somebody") -> None:
        """Objects of somebody else, applied by server-side apply."""
        for item in items:
            place = f"{_root(item)}/namespaces/{item['metadata'].get('namespace', self.namespace)}/{_plural(item)}"
            path = f"{place}/{item['metadata']['name']}?fieldManager={manager}&force=true"
            self.sim.client.ask("PATCH", path, item, "application/apply-patch+yaml")

    def get(self, api_version: str, kind: str, name: str) -> Object | None:
        """An object of the namespace."""
        item = {"apiVersion": api_version, "kind": kind}
        path = f"{_root(item)}/namespaces/{self.namespace}/{_plural(item)}/{name}"
        return self.sim.client.try_ask("GET", path)

    def deploy(self, wanted: Desired, settings: Settings | None = None, **more: Any) -> Result:
        """`selfhost deploy`, with every question answered yes."""
        self.told.clear()
        api = more.pop("api", None) or self.api()
        agree = more.pop("confirm", _yes)
        tell = more.pop("tell", self.told.append)
        return deploy(api, wanted, replace(settings or Settings(), **more), tell, agree)

    def wanted(self, of: Plan | None = None, target: str = "kubernetes", **options: Any) -> Desired:
        """A deployment in the namespace."""
        return desired(of or a_plan(), target, RenderOptions(namespace=self.namespace, **options))


def _yes(_: Desired, __: Preview) -> bool:
    return True


def a_plan(**changes: Any) -> Plan:
    """One replica on one H100."""
    return replace(plan(tensor=1), name="qwen", **changes)


def with_flag(of: Plan, flag: str, value: str) -> Plan:
    """The plan with one flag of the engine changed, as another plan would have it."""
    args = tuple(replace(one, value=value) if one.flag == flag else one for one in of.engine.args)
    assert args != of.engine.args
    return replace(of, engine=replace(of.engine, args=args))


@contextmanager
def fake_world(folder: Path, *, pace: float = 0.001) -> Iterator[World]:
    """The API fake with a simulator."""
    with kube_api(definitions=tuple(crds.definitions()), pace=1000.0) as kube:
        config = folder / f"kubeconfig-{uuid4().hex[:6]}"
        kube.kubeconfig(config)
        with Simulator(kube.url, kube.token, pace=pace) as sim:
            sim.storage("standard", wait=False)
            yield World(config=config, sim=sim, folder=folder, fake=kube)


@contextmanager
def real_world(plane: ControlPlane, *, pace: float = 0.002) -> Iterator[World]:
    """The real control plane with a simulator."""
    with Simulator(plane.address, plane.token, pace=pace) as sim:
        sim.storage(f"standard-{uuid4().hex[:6]}", wait=False)
        yield World(config=plane.config, sim=sim, folder=plane.folder, plane=plane)


def _root(item: Object) -> str:
    version = item["apiVersion"]
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def _plural(item: Object) -> str:
    from selfhost.cluster.kinds import kind_of

    return kind_of(item["apiVersion"], item["kind"]).plural

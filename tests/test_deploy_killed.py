"""A deployment that is killed at any moment: the next run goes on from it, and nothing is left over.

Everything that a deployment changes is a request, so being killed before or after each of its requests is being killed
at any moment; the fake is asked once for every one of them. Real processes are killed at random moments too.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from selfhost.cluster import Api, connect
from selfhost.deploy import revisions
from selfhost.deploy.run import deploy
from selfhost.deploy.settings import Settings
from selfhost.plan import write_plan
from tests import clusters
from tests.simulator import Simulator
from tests.worlds import PRODUCT, World, a_plan, fake_world, real_world, with_flag

QUIET = Settings(timeout_seconds=60, preflight=False, smoke=False)
KILLS = 30
HUGE: dict[str, Any] = {
    "gpus": 1000, "product": PRODUCT, "cpu": "9999", "memory": "99999Gi", "ephemeral": "99999Gi",
}  # fmt: skip


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


class Mortal(Api):
    """Dies at one of its requests that change something, before the server has it or after.

    The finally blocks of what it is killed in do run here; what they ask dies at once, as they never run in a process
    that is killed.
    """

    def __init__(self, *args: Any, at: int, after: bool, **more: Any) -> None:
        super().__init__(*args, **more)
        self._left, self._after, self.dead = at, after, False

    def _once(self, method: str, path: str, *args: Any) -> Any:
        if self.dead:
            raise Killed
        query = args[0] or {}
        changes = method != "GET" and "dryRun" not in query
        if changes:
            self._left -= 1
        if changes and self._left == 0 and not self._after:
            self.dead = True
            raise Killed
        answer = super()._once(method, path, *args)
        if changes and self._left == 0:
            self.dead = True
            raise Killed
        return answer


def kinds(world: World) -> set[tuple[str, str]]:
    """What is there, by kind and by name; names of pods and volumes have random ends."""
    random_ends = ("Pod", "ReplicaSet", "PersistentVolume")
    return {(kind, "" if kind in random_ends else name) for kind, space, name in world.objects() if space}


def bury(world: World) -> None:
    """This process is alive, unlike the one whose Lease may be there: it is told to be of a process that has ended."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{world.namespace}/leases/qwen.selfhost"
    lease = world.sim.client.try_ask("GET", path)
    if lease is not None:
        user, pid, _, boot = lease["spec"]["holderIdentity"].split("/")
        change = {"spec": {"holderIdentity": f"{user}/{pid}/1/{boot}"}}
        world.sim.client.ask("PATCH", path, change, "application/merge-patch+json")


def run(world: World, wanted: Any, api: Api) -> str:
    return deploy(api, wanted, QUIET, lambda _: None, lambda *_: True).ended


@pytest.mark.timeout(400)
@pytest.mark.parametrize("upgrade", [False, True], ids=["first", "upgrade"])
def test_killed_at_each_of_its_requests(upgrade: bool, tmp_path: Path) -> None:
    with fake_world(tmp_path) as world:
        world.sim.node("gpu-1", **HUGE)
        connection = connect(None, str(world.config), connections=24)
        plans = [a_plan(), with_flag(a_plan(), "--max-num-seqs", "7")]
        options: dict[str, Any] = {"pod_monitor": not upgrade}

        def begin() -> Any:
            """A namespace with what is there before, and what is wanted."""
            world.namespace = world.new_namespace()
            if upgrade:
                assert run(world, world.wanted(plans[0]), Api(connection)) == "ready"
            return world.wanted(plans[int(upgrade)], **options)

        wanted = begin()
        counted = Api(connection)
        assert run(world, wanted, counted) == "ready"
        clean = kinds(world)
        changes = sum(1 for one in counted.requests if not one.startswith("GET")) - len(wanted.objects)
        assert changes > 5
        for at in range(1, changes + 1):
            # Before a request is after the one before it: nothing has reached the server in between.
            for after in (False, True) if at == 1 and not upgrade else (True,):
                wanted = begin()
                with suppress(Killed):
                    run(world, wanted, Mortal(connection, at=at, after=after))
                bury(world)
                assert run(world, wanted, Api(connection, patience_seconds=20)) == "ready"
                assert kinds(world) == clean, (at, after)
                found = revisions.heads(Api(connection), world.namespace, "qwen")
                assert [one.state for one in found] == (
                    ["deployed", "superseded"] if upgrade else ["deployed"]
                )


def command(world: World, plan: Path) -> list[str]:
    words = [
        sys.executable,
        "-m",
        "selfhost",
        "deploy",
        str(plan),
        "--yes",
        "--no-smoke-test",
        "--timeout",
        "60",
    ]
    return [*words, "--kubeconfig", str(world.config), "-n", world.namespace, "--output", "json"]


def killed_at_random(world: World, folder: Path, kills: int, seed: int) -> list[int]:
    """Kill the command at random moments of its life; the next one has to come to the same end as one left alone.

    Returns:
        How many lines each had printed when it was killed.
    """
    plan = folder / "plan.json"
    write_plan(a_plan(), plan)
    dice = random.Random(seed)
    world.namespace = world.new_namespace()
    began = time.monotonic()
    done = subprocess.run(command(world, plan), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    lasts = time.monotonic() - began
    clean = kinds(world)
    moments = []
    for _ in range(kills):
        world.namespace = world.new_namespace()
        moment = dice.uniform(0.3, 1.05) * lasts  # before that, the interpreter has not loaded anything yet
        process = subprocess.Popen(command(world, plan), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        time.sleep(moment)
        os.kill(process.pid, signal.SIGKILL)
        out, _ = process.communicate()
        moments.append(len(out.splitlines()))
        again = subprocess.run(command(world, plan), capture_output=True, text=True, check=False, timeout=120)
        assert again.returncode == 0, again.stdout + again.stderr
        assert json.loads(again.stdout.splitlines()[-1])["ended"] == "ready"
        assert kinds(world) == clean, moments
    return moments


@pytest.mark.timeout(400)
def test_a_process_is_killed_at_random_moments(tmp_path: Path) -> None:
    with fake_world(tmp_path, pace=0.005) as world:
        world.sim.node("gpu-1", **HUGE)
        moments = killed_at_random(world, tmp_path, 3, seed=20261126)
    assert len(moments) == 3


@clusters.NEEDED
@pytest.mark.timeout(900)
def test_thirty_processes_are_killed_on_a_real_control_plane(
    plane: clusters.ControlPlane, tmp_path: Path
) -> None:
    with real_world(plane, pace=0.005) as world:
        assert isinstance(world.sim, Simulator)
        world.sim.node("gpu-kill", **HUGE)
        moments = killed_at_random(world, tmp_path, KILLS, seed=20261126)
    assert len(moments) == KILLS
    assert len(set(moments)) > 1, moments  # at different stages

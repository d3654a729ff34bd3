"""The life of a pod on a simulated node, step by step as the kubelet lives it, with its statuses and events.

Words after Kubernetes 1.36.2: pkg/kubelet/kuberuntime/kuberuntime_manager.go and kuberuntime_container.go (Created,
Started, Killing, BackOff), images/image_manager.go (Pulling, Pulled, Failed, BackOff), kubelet.go (rejectPod),
eviction/helpers.go, volumemanager/volume_manager.go.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from tests.simulator.box import FOREVER, Behaviour, Box, Exit, Log, expanded, now_text
from tests.simulator.client import MERGE, RefusalError
from tests.simulator.loop import Life, Task
from tests.simulator.mounts import MountError, environment, mounts_of, unmountable
from tests.simulator.probes import Prober
from tests.simulator.status import Held, Known

if TYPE_CHECKING:
    from tests.simulator.simulator import Simulator

Object = dict[str, Any]
CREATE_SECONDS = 1.0
LONGEST_BACKOFF = 300.0  # kubelet.go MaxContainerBackOff, images too
FIRST_BACKOFF = 10.0
REJECT_SECONDS = 0.2
STOP_SECONDS = 2.0  # what an idle engine takes after SIGTERM


def duration(seconds: float) -> str:
    """As Go prints one: 1m30.512s, 812ms."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{rest:.3f}".rstrip("0").rstrip(".") + "s"
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + text


class PodLife:
    """One pod, from its binding to its end."""

    def __init__(self, sim: Simulator, pod: Object) -> None:
        self.sim, self.pod = sim, pod
        metadata = pod["metadata"]
        self.namespace, self.name, self.uid = metadata["namespace"], metadata["name"], metadata["uid"]
        self.node = pod["spec"]["nodeName"]
        spec = pod["spec"]
        first = "PodInitializing" if spec.get("initContainers") else "ContainerCreating"
        self.known = Known(
            containers=[
                *(Held(spec=one, init=True, waiting=(first, "")) for one in spec.get("initContainers") or ()),
                *(Held(spec=one, waiting=(first, "")) for one in spec["containers"]),
            ],
            scheduled=[
                one
                for one in (pod.get("status") or {}).get("conditions") or ()
                if one["type"] == "PodScheduled"
            ],
        )
        self.policy = str(spec.get("restartPolicy", "Always"))
        self.lock = threading.RLock()
        self.tasks: list[Task] = []
        self.stopping = False
        self.over = False
        self._written: Object | None = None

    # What the simulator calls

    def begin(self) -> None:
        self._spawn(self._live())

    def stop(self) -> None:
        """It is to be deleted."""
        with self.lock:
            if self.stopping:
                return
            self.stopping = True
            for task in self.tasks:
                task.end()
            self.sim.loop.spawn(self._stop())

    def abandon(self) -> None:
        """It is gone from the API server, or its node is."""
        with self.lock:
            self.over = self.stopping = True
            for task in self.tasks:
                task.end()
            for held in self.known.containers:
                if held.log is not None:
                    held.log.end()

    def held(self, container: str) -> Held | None:
        return next((one for one in self.known.containers if one.name == container), None)

    # Its life

    def _live(self) -> Life:
        behaviour = self._behaviour(self.known.mains()[0])
        self.known.start = now_text()
        if behaviour.admission is not None:
            yield REJECT_SECONDS  # of the clock: whoever owns it makes the next one at once
            reason, message = behaviour.admission
            self._event("Warning", reason, message)
            self.known.phase, self.known.reason = "Failed", reason
            self.known.message = f"Pod was rejected: {message}"
            self.write()
            return
        self.write()
        yield from self._mount()
        self.known.sandbox = True
        self.known.ip = self.sim.address()
        for held in self.known.inits():
            if held.sidecar:
                self._spawn(self._container(held))
                while not held.started:
                    yield 0.02
                continue
            yield from self._container(held)
            if held.terminated is None or held.terminated["exitCode"] != 0:
                self._sweep()
                return
            self.write()
        for held in self.known.mains():
            self._spawn(self._container(held))

    def _mount(self) -> Life:
        wait, began = 0.5, time.monotonic()
        while True:
            why = self._behaviour(self.known.mains()[0]).mount
            volume = ""
            if why is None:
                try:
                    unmountable(self.sim.client, self.pod)
                    return
                except MountError as error:
                    volume, why = error.volume, error.said
            self._event("Warning", "FailedMount", why)
            if time.monotonic() - began > 123 * self.sim.pace and volume:
                text = f"unmounted volumes=[{volume}], unattached volumes=[], failed to process volumes=[]"
                self._event(
                    "Warning",
                    "FailedMount",
                    f"Unable to attach or mount volumes: {text}: context deadline exceeded",
                )
                began = time.monotonic()
            yield wait * self.sim.pace + 0.02
            wait = min(wait * 2, 122.0)  # pkg/util/goroutinemap/exponentialbackoff

    def _container(self, held: Held) -> Life:
        backoff = 0.0
        while True:
            yield from self._pull(held)
            env = yield from self._configure(held)
            box = self._box(held, env)
            yield CREATE_SECONDS * self.sim.pace
            self._event("Normal", "Created", "Container created", held)
            self._event("Normal", "Started", "Container started", held)
            with self.lock:
                held.start(box)
            exit_ = yield from self._run(held, box)
            with self.lock:
                held.end(exit_)
            if exit_.evicted:
                self._evict(exit_.evicted)
                return
            again = self.policy == "Always" or (self.policy == "OnFailure" and exit_.code != 0)
            if held.init and not held.sidecar:
                again = exit_.code != 0 and self.policy != "Never"
            if not again:
                self.write()
                return
            self.write()
            if backoff:  # the first start again comes at once
                text = f"back-off {duration(backoff)} restarting failed container={held.name} pod={self._format()}"
                with self.lock:
                    held.wait_again("CrashLoopBackOff", text)
                said = f"Back-off restarting failed container {held.name} in pod {self._format()}"
                self._event("Warning", "BackOff", said, held)
                self.write()
                yield backoff * self.sim.pace
            else:
                yield 0.02
                with self.lock:
                    held.wait_again("ContainerCreating", "")
            backoff = min(max(backoff * 2, FIRST_BACKOFF), LONGEST_BACKOFF)
            held.restarts += 1

    def _pull(self, held: Held) -> Life:
        image, backoff = str(held.spec.get("image", "")), FIRST_BACKOFF
        while True:
            behaviour = self._behaviour(held)
            present = image in self.sim.images.setdefault(self.node, set())
            if present and behaviour.pull_error is None and held.spec.get("imagePullPolicy") != "Always":
                text = f'Container image "{image}" already present on machine and can be accessed by the pod'
                self._event("Normal", "Pulled", text, held)
                return
            seconds = behaviour.pull_seconds or 0.0
            self._event("Normal", "Pulling", f'Pulling image "{image}"', held)
            self.write()
            yield seconds * self.sim.pace
            error = self._behaviour(held).pull_error
            if error is None:
                took = duration(seconds)
                text = f'Successfully pulled image "{image}" in {took} ({took} including waiting). '
                text += f"Image size: {behaviour.image_bytes or 0} bytes."
                self._event("Normal", "Pulled", text, held)
                self.sim.images[self.node].add(image)
                return
            error = error.format(image=image)
            self._event("Warning", "Failed", f'Failed to pull image "{image}": {error}', held)
            self._event("Warning", "Failed", "Error: ErrImagePull", held)
            self._wait(held, "ErrImagePull", error)
            yield self.sim.pace
            self._event("Normal", "BackOff", f'Back-off pulling image "{image}"', held)
            self._event("Warning", "Failed", "Error: ImagePullBackOff", held)
            text = f'Back-off pulling image "{image}": ErrImagePull: {error}'
            self._wait(held, "ImagePullBackOff", text)
            yield backoff * self.sim.pace
            backoff = min(backoff * 2, LONGEST_BACKOFF)

    def _configure(self, held: Held) -> Any:
        """The environment; waits, as the kubelet does, until it can be made."""
        while True:
            behaviour = self._behaviour(held)
            said, reason = behaviour.config_error, "CreateContainerConfigError"
            if said is None:
                said, reason = behaviour.create_error, "CreateContainerError"
            if said is None:
                try:
                    return environment(self.sim.client, self.pod, held.spec)
                except MountError as error:
                    said, reason = error.said, "CreateContainerConfigError"
            self._event("Warning", "Failed", f"Error: {said}", held)
            self._wait(held, reason, said)
            yield 10 * self.sim.pace + 0.02

    def _box(self, held: Held, env: dict[str, str]) -> Box:
        words = [*(held.spec.get("command") or ()), *(held.spec.get("args") or ())]
        limits = (held.spec.get("resources") or {}).get("limits") or {}
        return Box(
            pod=self.pod,
            name=held.name,
            words=expanded(words, env),
            env=env,
            log=Log(),
            mounts=mounts_of(self.pod, held.spec, self.sim.volumes, self.uid),
            memory_limit=str(limits.get("memory", "")),
            attempt=held.restarts,
        )

    def _run(self, held: Held, box: Box) -> Any:
        """Run the program and probe it until one of them ends it."""
        program = self._behaviour(held).program
        assert program is not None
        running = program(box)
        prober = Prober(
            held=held,
            pace=self.sim.pace,
            ip=self.known.ip,
            tell=lambda text: self._event("Warning", "Unhealthy", text, held),
        )
        wake = time.monotonic()
        before: Any = None
        try:
            while True:
                while time.monotonic() >= wake:
                    try:
                        wake += next(running) * self.sim.pace
                    except StopIteration as ended:
                        found = ended.value
                        return found if isinstance(found, Exit) else Exit(code=found or 0)
                kill = prober.look()
                if kill is not None:
                    again = ", will be restarted" if self.policy != "Never" else ""
                    text = f"Container {held.name} failed {kill} probe{again}"
                    self._event("Normal", "Killing", text, held)
                    return Exit(code=137)
                now = (held.started, held.ready)
                if now != before:
                    before = now
                    self.write()
                yield max(0.001, min(wake - time.monotonic(), prober.due()))
        finally:
            running.close()

    def _stop(self) -> Life:
        grace = self.pod["metadata"].get("deletionGracePeriodSeconds")
        grace = 30.0 if grace is None else float(grace)
        wait = 0.0
        for held in self.known.containers:
            if held.running:
                self._event("Normal", "Killing", f"Stopping container {held.name}", held)
                stop = (held.spec.get("lifecycle") or {}).get("preStop") or {}
                seconds = float((stop.get("sleep") or {}).get("seconds", 0)) + STOP_SECONDS
                wait = max(wait, seconds)
        yield min(wait, grace) * self.sim.pace
        if self.over:
            return
        with self.lock:
            for held in self.known.containers:
                if held.running:
                    held.ready = False
                    held.end(Exit(code=0))
        self.write(force=True)
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"
        self.sim.client.try_ask("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions"} | options)

    def _evict(self, message: str) -> None:
        self._event("Warning", "Evicted", message)
        for held in self.known.containers:
            if held.running:
                held.end(Exit(code=137))
        self.known.phase, self.known.reason, self.known.message = "Failed", "Evicted", message
        self.write()
        with self.lock:
            for task in self.tasks:
                task.end()

    def _sweep(self) -> None:
        """A pod that failed in an init container and is not started again."""
        self.write()

    # Small things

    def _format(self) -> str:
        return f"{self.name}_{self.namespace}({self.uid})"

    def _behaviour(self, held: Held) -> Behaviour:
        return self.sim.behaviour(self.pod, held.name, held.init, held.restarts)

    def _spawn(self, life: Life) -> None:
        with self.lock:
            if not self.stopping:
                self.tasks.append(self.sim.loop.spawn(life))

    def _wait(self, held: Held, reason: str, message: str) -> None:
        with self.lock:
            held.waiting = (reason, message)
        self.write()

    def _event(self, kind: str, reason: str, message: str, held: Held | None = None) -> None:
        name, init = (held.name, held.init) if held is not None else ("", False)
        self.sim.recorder.say(self.pod, kind, reason, message, container=name, init=init, host=self.node)

    def write(self, *, force: bool = False) -> None:
        """Tell the API server what is known, if it is new."""
        with self.lock:
            if self.over or (self.stopping and not force):
                return
            status = self.known.status(self.policy)
            if status == self._written:
                return
            self._written = status
            path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}/status"
            document = {"metadata": {"uid": self.uid}, "status": status}
            try:
                self.sim.client.try_ask("PATCH", path, document, MERGE)
            except RefusalError as answer:
                if answer.status != 422:  # another pod of the same name, as after a drill of deletions
                    raise


__all__ = ["FOREVER", "PodLife", "duration"]

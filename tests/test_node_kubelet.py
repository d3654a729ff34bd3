"""Which pod was given which GPU: the kubelet's socket, spoken to by the real grpcio."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from selfhost.node import DeviceOwner, PodResources, attribute_gpus
from selfhost.observation import (
    GpuIdentity,
    GpuProcess,
    GpuSnapshot,
    MigInstance,
    Missing,
    Reading,
    SlowReadings,
)
from tests.fakes.kubelet import Container, Kubelet, Pod, kubelet
from tests.proctree import ProcTree

GPU = "GPU-3f1c2b7e-0d3a-4c55-9b1e-2f6d7a8b9c0d"
OTHER = "GPU-99999999-0d3a-4c55-9b1e-2f6d7a8b9c0d"
MIG = "MIG-11111111-0d3a-4c55-9b1e-2f6d7a8b9c0d"
NVIDIA = "nvidia.com/gpu"


def one(
    pod: str, *ids: str, namespace: str = "llm", container: str = "engine", resource: str = NVIDIA
) -> Pod:
    return Pod(namespace, pod, (Container("sidecar"), Container(container, {resource: ids})))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, Kubelet]]:
    path = tmp_path / "kubelet.sock"
    with kubelet(path, Kubelet()) as state:
        yield path, state


def owners(reading: Reading[tuple[DeviceOwner, ...]]) -> tuple[DeviceOwner, ...]:
    assert not isinstance(reading, Missing), reading
    return reading


def reason(reading: Reading[tuple[DeviceOwner, ...]]) -> str:
    assert isinstance(reading, Missing), reading
    return reading.missing


def test_every_form_of_a_device_id(served: tuple[Path, Kubelet]) -> None:
    path, state = served
    state.pods = (
        one("whole", GPU),
        one("mig", MIG, resource="nvidia.com/mig-1g.10gb"),
        one("slice-a", f"{OTHER}::0"),
        one("slice-b", f"{OTHER}::3"),
        one("gke", "nvidia4"),
        one("gke-mig", "nvidia5/gi3"),
        one("gke-shared", "nvidia6/vgpu1"),
        one("nic", "0000:18:00.0", "mlx5_0", resource="rdma/hca"),
        Pod("llm", "claims", (Container("engine", claims={"big": ("gpu.nvidia.com", "node-1", "gpu-7")}),)),
        Pod("llm", "other-claim", (Container("engine", claims={"nic": ("dra.net", "node-1", "gpu-7")}),)),
        Pod("llm", "nothing", (Container("engine"),)),
    )
    pods = PodResources(path)

    def who(uuid: str, minor: int | None = None, gpu_instance: int | None = None) -> list[str]:
        return [owner.pod for owner in owners(pods.owners(uuid, minor, gpu_instance=gpu_instance))]

    assert who(GPU, 0) == ["whole"]
    assert who(MIG, 5, 9) == ["mig"]
    assert who(OTHER) == ["slice-a", "slice-b"]
    assert who("GPU-none", 4) == ["gke"]
    assert who("GPU-none", 5) == []
    assert who("MIG-none", 5, 3) == ["gke-mig"]
    assert who("GPU-none", 6) == ["gke-shared"]
    assert who("GPU-none", 7) == ["claims"]
    assert who("MIG-none", 7, 1) == []
    assert who("GPU-none") == []
    listed = owners(pods.list())
    assert not any(owner.pod in ("nic", "other-claim", "nothing") for owner in listed)
    assert [owner.shared for owner in listed if owner.pod.startswith("slice")] == [True, True]
    assert [owner.claim for owner in listed if owner.pod == "claims"] == ["big"]
    assert listed[0] == DeviceOwner(namespace="llm", pod="whole", container="engine", device=GPU)
    assert state.asked == 1


def test_an_answer_is_kept_for_a_while(served: tuple[Path, Kubelet]) -> None:
    path, state = served
    now = 0.0
    pods = PodResources(path, kept_seconds=10, clock=lambda: now)
    assert owners(pods.list()) == ()
    state.pods = (one("late", GPU),)
    now = 9.0
    assert owners(pods.list()) == ()
    now = 10.0
    assert [owner.pod for owner in owners(pods.list())] == ["late"]
    assert state.asked == 2


def test_a_kubelet_that_hangs_is_given_up(served: tuple[Path, Kubelet]) -> None:
    path, state = served
    state.seconds = 30
    started = time.monotonic()
    assert "within 0.3 s" in reason(PodResources(path, deadline_seconds=0.3).list())
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("refuse", "words"),
    [
        ("RESOURCE_EXHAUSTED", "limits how often"),
        ("PERMISSION_DENIED", "permission denied"),
        ("INTERNAL", "internal"),
    ],
)
def test_a_kubelet_that_refuses(served: tuple[Path, Kubelet], refuse: str, words: str) -> None:
    path, state = served
    state.refuse = refuse
    assert words in reason(PodResources(path).list())


@pytest.mark.parametrize("raw", [b"\xff\xff\xff", b"\x0a\x7fshort", b"\x0a\x04\x0a\x02\xc3\x28"])
def test_a_kubelet_that_speaks_nonsense(served: tuple[Path, Kubelet], raw: bytes) -> None:
    path, state = served
    state.raw = raw
    assert "internal" in reason(PodResources(path).list())


def test_another_service_on_the_socket(tmp_path: Path) -> None:
    with kubelet(tmp_path / "k.sock", Kubelet(), method="v1alpha1.PodResourcesLister"):
        assert "no pod-resources v1" in reason(PodResources(tmp_path / "k.sock").list())


def test_a_listener_that_is_no_grpc_and_never_answers(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "k.sock"))
        listener.listen()
        started = time.monotonic()
        assert reason(PodResources(tmp_path / "k.sock", deadline_seconds=0.3).list())
        assert time.monotonic() - started < 3


def test_no_socket_and_nobody_behind_it(tmp_path: Path) -> None:
    assert "no kubelet socket at" in reason(PodResources(tmp_path / "none.sock").list())
    (tmp_path / "file.sock").write_text("", encoding="utf-8")
    assert "no kubelet socket at" in reason(PodResources(tmp_path / "file.sock").list())
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    assert "nobody listens" in reason(PodResources(tmp_path / "dead.sock", deadline_seconds=0.5).list())


def test_without_grpcio_the_reason_names_the_extra(tmp_path: Path) -> None:
    code = f"""
import socket, sys
sys.modules["grpc"] = None  # what an import of a package that is not there comes down to
from pathlib import Path
from selfhost.node import PodResources
with socket.socket(socket.AF_UNIX) as one:
    one.bind({str(tmp_path / "k.sock")!r})
    print(PodResources(Path({str(tmp_path / "k.sock")!r})).list().missing)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'selfhost[cluster]'" in done.stdout


def gpu(uuid: str, minor: int, *processes: GpuProcess, mig: tuple[MigInstance, ...] = ()) -> GpuSnapshot:
    identity = GpuIdentity(
        index=minor, uuid=uuid, pci_address=f"00000000:{minor:02x}:00.0", name="H100", minor=minor
    )
    return GpuSnapshot(identity=identity, slow=SlowReadings(processes=processes, mig=mig))


def test_gpus_and_their_processes_are_given_their_pods(served: tuple[Path, Kubelet], tmp_path: Path) -> None:
    path, state = served
    state.pods = (
        one("whole", GPU),
        one("slice-a", f"{OTHER}::0"),
        one("slice-b", f"{OTHER}::1"),
        one("mig-pod", MIG),
    )
    tree = ProcTree(tmp_path / "root").host()
    pod = "0::/kubepods/pod6f1c2b7e-0d3a-4c55-9b1e-2f6d7a8b9c0d/" + "0123456789abcdef" * 4
    for pid in (10, 11, 13):
        tree.process(pid, ["python3"], cgroup=pod)
    tree.process(12, ["/usr/lib/Xorg"])
    instances = (
        MigInstance(uuid=MIG, gpu_instance=9, compute_instance=0),
        MigInstance(uuid="MIG-2", gpu_instance=10, compute_instance=0),
    )
    shown = attribute_gpus(
        (
            gpu(GPU, 0, GpuProcess(pid=10), GpuProcess(pid=12)),
            gpu(OTHER, 1, GpuProcess(pid=11)),
            gpu("GPU-mig", 2, GpuProcess(pid=13, mig_instance=9), mig=instances),
        ),
        tree.root,
        pods=PodResources(path),
    )
    assert [(one.namespace, one.pod, one.container) for one in shown] == [
        ("llm", "whole", "engine"),
        (None, None, None),
        (None, None, None),
    ]
    processes = [one.slow.processes for one in shown]
    assert not any(isinstance(own, Missing) for own in processes)
    flat = [process for own in processes if not isinstance(own, Missing) for process in own]
    # A process of no pod is not the pod's, though the GPU is; one on a shared GPU may be either's.
    assert [process.pod for process in flat] == ["whole", None, None, "mig-pod"]
    assert [instance.pod for instance in shown[2].slow.mig] == ["mig-pod", None]

"""What a node is apart from its GPUs, and whose processes are on them, over trees of /proc and the real one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from selfhost.node import ContainerNames, attribute, attribute_gpus, node_facts
from selfhost.node.cgroups import Membership, membership
from selfhost.node.containers import docker_name
from selfhost.node.facts import in_container
from selfhost.node.proc import ancestors, host_pids
from selfhost.node.processes import program_name
from selfhost.observation import DeviceFile, GpuIdentity, GpuProcess, GpuSnapshot, Missing, SlowReadings
from tests.proctree import HOST_NAMESPACE, ProcTree

ID = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
UID = "6f1c2b7e-0d3a-4c55-9b1e-2f6d7a8b9c0d"
UID_ = UID.replace("-", "_")


@pytest.fixture
def tree(tmp_path: Path) -> ProcTree:
    return ProcTree(tmp_path)


@pytest.mark.parametrize(
    ("text", "container", "pod", "unit"),
    [
        (f"0::/system.slice/docker-{ID}.scope", ID, None, None),
        (f"12:pids:/docker/{ID}\n4:memory:/docker/{ID}\n1:name=systemd:/docker/{ID}", ID, None, None),
        (
            f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice/cri-containerd-{ID}.scope",
            ID,
            UID,
            None,
        ),
        (f"0::/kubepods.slice/kubepods-pod{UID_}.slice/crio-{ID}.scope", ID, UID, None),
        (f"0::/kubepods.slice/kubepods-pod{UID_}.slice/crio-{ID}.scope/container", ID, UID, None),
        (f"0::/kubepods/besteffort/pod{UID}/{ID}", ID, UID, None),
        (f"11:devices:/kubepods/pod{UID}/{ID}", ID, UID, None),
        (f"0::/system.slice/containerd.service/kubepods-pod{UID_}.slice:cri-containerd:{ID}", ID, UID, None),
        (f"3:cpu:/kubepods/burstable/pod{ID[:32]}/{OTHER}", OTHER, ID[:32], None),  # a static pod
        (f"0::/machine.slice/libpod-{ID}.scope/container", ID, None, None),
        (f"0::/machine.slice/libpod-conmon-{ID}.scope", None, None, None),
        (f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope", ID, None, None),
        (
            f"0::/docker/{OTHER}/kubelet.slice/kubelet-kubepods-pod{UID_}.slice/cri-containerd-{ID}.scope",
            ID,
            UID,
            None,
        ),
        # As seen from another pod with a cgroup namespace of its own.
        (f"0::/../../kubepods-burstable-pod{UID_}.slice/cri-containerd-{ID}.scope", ID, UID, None),
        (f"0::/../../pod{UID}/{ID}", ID, UID, None),
        (f"0::/../cri-containerd-{ID}.scope", ID, None, None),
        ("0::/system.slice/vllm.service", None, None, "vllm.service"),
        ("0::/system.slice/system-vllm.slice/vllm@llama.service", None, None, "vllm@llama.service"),
        ("0::/system.slice/my\\x2dllm.service", None, None, "my-llm.service"),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/llm.service",
            None,
            None,
            "llm.service",
        ),
        ("0::/user.slice/user-0.slice/session-1.scope", None, None, None),
        ("0::/", None, None, None),
        ("", None, None, None),
        ("no colons at all", None, None, None),
    ],
)
def test_membership(text: str, container: str | None, pod: str | None, unit: str | None) -> None:
    assert membership(text) == Membership(container_id=container, pod_uid=pod, unit=unit)


def test_facts_of_a_host(tree: ProcTree) -> None:
    tree.host()
    tree.write("proc/sys/kernel/hostname", "gpu-3\n")
    tree.write("proc/sys/kernel/random/boot_id", "314806b8-d922-46b1-920a-0085976907a5\n")
    tree.write("proc/stat", "cpu  1 2 3\nbtime 1795690481\nprocesses 3\n")
    tree.write("proc/meminfo", "MemTotal:       24684084 kB\nMemFree: 1 kB\nMemAvailable:   24096816 kB\n")
    tree.write(
        "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (a@b)\nGCC: 13\n",
    )
    for name in ("nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm", "null"):
        tree.write(f"dev/{name}", "")
    (tree.root / "dev/nvidia-caps").mkdir()
    facts = node_facts(tree.root, {})
    assert (facts.host, facts.boot_id) == ("gpu-3", "314806b8-d922-46b1-920a-0085976907a5")
    assert facts.booted_at == 1795690481.0
    assert not facts.in_container
    assert facts.kernel_driver_version == "580.95.05"
    assert facts.device_files == tuple(
        DeviceFile(path=f"/dev/{name}", usable=True)
        for name in ("nvidia2", "nvidia10", "nvidia-uvm", "nvidiactl")
    )
    assert facts.system_memory_total_bytes == 24684084 * 1024
    assert facts.system_memory_available_bytes == 24096816 * 1024
    assert node_facts(tree.root, {"NODE_NAME": "node-7"}).host == "node-7"


@pytest.mark.parametrize(
    ("line", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023",
            "535.104.05",
        ),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  390.157  Wed Oct 12 09:19:07 UTC 2022", "390.157"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.95.05  Release Build", "580.95.05"),
    ],
)
def test_version_of_the_loaded_driver(tree: ProcTree, line: str, version: str) -> None:
    tree.write("proc/driver/nvidia/version", line)
    assert node_facts(tree.root).kernel_driver_version == version


def test_driver_from_sys_where_proc_hides_it_and_reasons_where_there_is_none(tree: ProcTree) -> None:
    missing = node_facts(tree.root).kernel_driver_version
    assert isinstance(missing, Missing)
    assert "no NVIDIA kernel module" in missing.missing
    tree.write("sys/module/nvidia/version", "580.95.05\n")
    assert node_facts(tree.root).kernel_driver_version == "580.95.05"
    tree.write("proc/driver/nvidia/version", "gibberish")
    tree.write("sys/module/nvidia/version", "")
    missing = node_facts(tree.root).kernel_driver_version
    assert isinstance(missing, Missing)
    assert "not in a form" in missing.missing


def test_an_empty_tree_is_no_error(tmp_path: Path) -> None:
    facts = node_facts(tmp_path, {})
    assert facts.host == socket.gethostname()
    assert (facts.boot_id, facts.booted_at, facts.device_files) == (None, None, ())
    assert facts.system_memory_total_bytes is None


def test_facts_of_this_machine() -> None:
    started = time.perf_counter()
    facts = node_facts()
    assert time.perf_counter() - started < 1
    assert facts.booted_at is not None
    assert facts.booted_at < time.time()
    assert facts.system_memory_total_bytes is not None
    assert facts.system_memory_available_bytes is not None
    assert facts.system_memory_available_bytes < facts.system_memory_total_bytes


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (".dockerenv", ""),
        ("run/.containerenv", ""),
        ("proc/self/cgroup", f"0::/system.slice/docker-{ID}.scope\n"),
        (
            "proc/self/mountinfo",
            f"1 2 8:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/a rw\n",
        ),
        (
            "proc/self/mountinfo",
            f"1 2 8:1 /var/lib/kubelet/pods/{UID}/etc-hosts /etc/hosts rw - ext4 /dev/a rw\n",
        ),
    ],
)
def test_signs_of_a_container(tree: ProcTree, path: str, text: str) -> None:
    assert not in_container(tree.root)
    tree.write(path, text)
    assert in_container(tree.root)


def test_a_host_that_runs_containers_is_none(tree: ProcTree) -> None:
    tree.write("proc/self/cgroup", "0::/user.slice/user-0.slice/session-1.scope\n")
    tree.write(
        "proc/self/mountinfo",
        "22 1 8:1 / / rw - ext4 /dev/a rw\n90 22 0:50 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw\n",
    )
    assert not in_container(tree.root)


def test_host_numbers_are_told_from_a_containers(tree: ProcTree) -> None:
    tree.process(1, ["/pause"], parent=0)
    tree.process(2, ["kthreadd"], parent=1)  # a joker, but not the kernel's
    assert not host_pids(tree.root)
    tree.link("proc/self/ns/pid", "pid:[4026532500]")
    assert not host_pids(tree.root)
    tree.link("proc/self/ns/pid", HOST_NAMESPACE)
    assert host_pids(tree.root)
    tree.link("proc/self/ns/pid", "pid:[4026532500]")
    tree.process(2, ["kthreadd"], parent=0)  # the host's /proc, mounted into a container
    assert host_pids(tree.root)


def test_a_number_of_another_namespace_is_nobody_here(tree: ProcTree) -> None:
    tree.process(1, ["/pause"], parent=0)
    tree.process(4242, ["/usr/bin/postgres"], parent=1)
    tree.process(77, ["/usr/bin/python3", "-m", "x"], gpu=True)
    shown = attribute(tuple(GpuProcess(pid=pid) for pid in (4242, 77, 9999, 0, -1)), tree.root)
    assert [process.name for process in shown] == [None, "python3", None, None, None]
    assert shown[0] == GpuProcess(pid=4242)


def test_names_containers_and_units(tree: ProcTree) -> None:
    tree.host()
    tree.process(10, ["VLLM::EngineCore"], comm="VLLM::EngineCor", cgroup=f"0::/docker/{ID}")
    tree.process(11, ["/opt/llama-server", "--api-key", "sk-secret"], cgroup="0::/system.slice/llm.service")
    pod = f"0::/kubepods.slice/kubepods-pod{UID_}.slice/cri-containerd-{OTHER}.scope"
    tree.process(12, ["python3", "--hf-token=hf_secret"], cgroup=pod)
    (tree.root / f"var/log/pods/llm_llama-0_{UID}").mkdir(parents=True)
    tree.write(f"var/log/containers/llama-0_llm_engine-{OTHER}.log", "")
    shown = attribute(tuple(GpuProcess(pid=pid, memory_bytes=5) for pid in (10, 11, 12)), tree.root)
    assert [process.name for process in shown] == ["VLLM::EngineCore", "llama-server", "python3"]
    assert [process.unit for process in shown] == [None, "llm.service", None]
    assert [process.container_id for process in shown] == [ID, None, OTHER]
    assert (shown[2].pod_uid, shown[2].pod, shown[2].namespace, shown[2].container) == (
        UID,
        "llama-0",
        "llm",
        "engine",
    )
    assert all(process.memory_bytes == 5 for process in shown)
    assert "secret" not in repr(shown)


def test_pod_names_that_come_later_are_found(tree: ProcTree) -> None:
    now = 0.0
    names = ContainerNames(tree.root, clock=lambda: now)
    assert names.find(OTHER, UID) is None
    (tree.root / f"var/log/pods/llm_llama-0_{UID}").mkdir(parents=True)
    assert names.find(OTHER, UID) is None
    now = 11.0
    found = names.find(OTHER, UID)
    assert found is not None
    assert (found.namespace, found.pod, found.container) == ("llm", "llama-0", None)


@pytest.mark.parametrize(
    ("comm", "argv", "name"),
    [
        ("python3", ("python3", "--token", "s"), "python3"),
        ("text-generation", ("/usr/bin/text-generation-server", "serve", "--x"), "text-generation-server"),
        ("text-generation", ("/bin/else",), "text-generation"),
        ("VLLM::Worker_TP", ("VLLM::Worker_TP3 --api-key=sk",), "VLLM::Worker_TP3"),
        ("a\x1b[31mb", (), "a?[31mb"),
        ("zürich", (), "zürich"),
        ("", (), None),
    ],
)
def test_a_name_is_the_programs_and_nothing_else(comm: str, argv: tuple[str, ...], name: str | None) -> None:
    assert program_name(comm, argv) == name


def test_this_process_is_named() -> None:
    ours = attribute((GpuProcess(pid=os.getpid()),))[0]
    # In a container of its own PID namespace, nothing is said of a process without a GPU.
    assert (ours.name is not None) == host_pids(Path("/"))


def test_a_circle_of_parents_ends() -> None:
    assert list(ancestors({5: 6, 6: 5}, 5)) == [5, 6]
    assert list(ancestors({5: 1, 1: 0}, 5)) == [5, 1]


class Docker:
    """The Engine API's socket, for one connection after another."""

    def __init__(self, path: Path, answer: bytes, *, seconds: float = 0, drip: bool = False) -> None:
        self._answer, self._seconds, self._drip = answer, seconds, drip
        self.requests: list[bytes] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen(8)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.requests.append(connection.recv(4096))
                time.sleep(self._seconds)
                try:
                    if self._drip:
                        for at in range(len(self._answer)):
                            connection.sendall(self._answer[at : at + 1])
                            time.sleep(0.05)
                    connection.sendall(self._answer)
                except OSError:
                    pass

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


def _json(data: object, status: str = "200 OK") -> bytes:
    return f"HTTP/1.0 {status}\r\nContent-Type: application/json\r\n\r\n{json.dumps(data)}".encode()


def test_docker_tells_the_name_and_nothing_of_the_environment(tree: ProcTree) -> None:
    tree.host()
    (tree.root / "run").mkdir()
    docker = Docker(
        tree.root / "run/docker.sock",
        _json({"Name": "/llm-vllm-1", "Config": {"Env": ["HF_TOKEN=hf_secret"]}}),
    )
    try:
        tree.process(10, ["python3"], cgroup=f"0::/system.slice/docker-{ID}.scope")
        names = ContainerNames(tree.root)
        for _ in range(3):
            shown = attribute((GpuProcess(pid=10),), tree.root, names=names)
            assert (shown[0].container, shown[0].pod) == ("llm-vllm-1", None)
            assert "secret" not in repr(shown)
        assert len(docker.requests) == 1
        assert docker.requests[0].startswith(f"GET /containers/{ID}/json HTTP/1.0".encode())
    finally:
        docker.close()


@pytest.mark.parametrize(
    ("answer", "seconds", "drip"),
    [
        (b"", 0, False),
        (b"HTTP/1.0 200 OK\r\n\r\nnot json", 0, False),
        (_json(["a list"]), 0, False),
        (_json({"Name": "\x1b[2J"}), 0, False),
        (_json({"message": "no"}, "500 Internal Server Error"), 0, False),
        (_json({"Name": "/late"}), 0.6, False),
        (_json({"Name": "/drip", "pad": "x" * 200}), 0, True),
    ],
)
def test_a_docker_that_lies_or_hangs_is_left_in_peace(
    tmp_path: Path, answer: bytes, seconds: float, *, drip: bool
) -> None:
    (tmp_path / "run").mkdir()
    docker = Docker(tmp_path / "run/docker.sock", answer, seconds=seconds, drip=drip)
    try:
        names = ContainerNames(tmp_path)
        started = time.monotonic()
        assert names.find(ID, None) is None
        assert time.monotonic() - started < 1.5
        assert names.find(OTHER, None) is None
        assert len(docker.requests) == 1
    finally:
        docker.close()


def test_docker_knows_no_such_container(tmp_path: Path) -> None:
    docker = Docker(tmp_path / "d.sock", _json({"message": "No such container"}, "404 Not Found"))
    try:
        assert docker_name(tmp_path / "d.sock", ID) is None
        assert docker_name(tmp_path / "d.sock", "../../etc") is None
    finally:
        docker.close()


def test_no_docker_is_no_error(tmp_path: Path) -> None:
    assert ContainerNames(tmp_path).find(ID, None) is None
    with pytest.raises(FileNotFoundError):
        docker_name(tmp_path / "none.sock", ID)


def test_gpus_outside_kubernetes_keep_what_nvml_said(tree: ProcTree) -> None:
    tree.host()
    tree.process(10, ["python3"])
    identity = GpuIdentity(index=0, uuid="GPU-1", pci_address="00000000:18:00.0", name="H100")
    gpus = (
        GpuSnapshot(identity=identity, slow=SlowReadings(processes=(GpuProcess(pid=10),))),
        GpuSnapshot(identity=identity, slow=SlowReadings(processes=Missing(missing="no", code=3))),
    )
    shown = attribute_gpus(gpus, tree.root)
    assert shown[0].slow.processes == (GpuProcess(pid=10, name="python3"),)
    assert shown[1] == gpus[1]
    assert (shown[0].pod, shown[0].container) == (None, None)


def test_the_package_loads_neither_grpc_nor_protobuf() -> None:
    code = "import sys, selfhost.node; print([m for m in sys.modules if m.startswith(('grpc', 'google.'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_of_an_environment_only_names_that_slow_cuda_are_kept(tree: ProcTree) -> None:
    tree.host()
    tree.process(10, ["python3"])
    tree.write(
        "proc/10/environ",
        "HF_TOKEN=hf_secret\0CUDA_PROFILE=/x/secret\0NSIGHT_CUDA_DEBUGGER=0\0CUDA_HOME=/usr\0",
    )
    (shown,) = attribute((GpuProcess(pid=10),), tree.root)
    assert shown.debugging == ("CUDA_PROFILE",)
    assert "secret" not in repr(shown)

"""Inference servers found among processes: which they are, their workers, and where they answer."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from selfhost.node import find_engines, under_names
from selfhost.node.commands import Command, command
from selfhost.node.sockets import listeners, reachable_at
from selfhost.observation.engine import EngineAddress
from tests.proctree import ProcTree

ID = "0123456789abcdef" * 4
POD = f"0::/kubepods/pod6f1c2b7e-0d3a-4c55-9b1e-2f6d7a8b9c0d/{ID}"


@pytest.fixture
def tree(tmp_path: Path) -> ProcTree:
    return ProcTree(tmp_path).host()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/usr/bin/python3 /usr/local/bin/vllm serve m --port 9000", ("vllm", True, 9000, False)),
        ("vllm serve m --port 8000 --port 9000", ("vllm", True, 9000, False)),
        ("vllm serve m --port=9000 --ssl-certfile c.pem", ("vllm", True, 9000, True)),
        ("python3.12 -X dev -u -m vllm.entrypoints.openai.api_server --model m", ("vllm", True, None, False)),
        ("python /opt/vllm/entrypoints/openai/api_server.py", ("vllm", True, None, False)),
        ("python3 -m vllm.entrypoints.cli.main serve m", ("vllm", True, None, False)),
        ("vllm serve m --headless", ("vllm", False, None, False)),
        ("python3 -m sglang.launch_server --model-path m --port 30001", ("sglang", True, 30001, False)),
        ("sglang serve --model-path m --node-rank 0", ("sglang", True, None, False)),
        ("python3 -m sglang.launch_server --nnodes 2 --node-rank 1", ("sglang", False, None, False)),
        ("python3 -m sglang.launch_server --nnodes=2 --node-rank=1", ("sglang", False, None, False)),
        ("text-generation-launcher --model-id m -p 8080", ("tgi", True, 8080, False)),
        (
            "/usr/src/.venv/bin/python /usr/src/.venv/bin/text-generation-server serve m",
            ("tgi", False, None, False),
        ),
        ("/app/llama-server -m x.gguf --port 0", ("llamacpp", True, None, False)),
        ("VLLM::EngineCore", ("vllm", False, None, False)),
        ("VLLM::Worker_TP1", ("vllm", False, None, False)),
        ("sglang::scheduler_TP0", ("sglang", False, None, False)),
        ("vllm bench serve --port 9000", None),
        ("vllm chat", None),
        ("docker run vllm/vllm-openai vllm serve m", None),
        ("tini -- vllm serve m", None),
        ("vim /etc/vllm serve", None),
        ("python3 -c vllm serve", None),
        ("python3 -m", None),
        ("python3", None),
        ("", None),
    ],
)
def test_command_lines(line: str, expected: tuple[str, bool, int | None, bool] | None) -> None:
    argv = tuple(line.split(" ")) if line else ()
    found = command(argv)
    if expected is None:
        assert found is None
    else:
        engine, server, port, tls = expected
        assert found == Command(engine=engine, server=server, port=port, tls=tls)


def test_a_shell_that_mentions_a_server_is_none() -> None:
    assert command(("bash", "-c", "vllm serve m --port 8000")) is None
    assert command(("bash", "vllm", "serve")) is None


def test_tensor_parallel_workers_belong_to_their_server(tree: ProcTree) -> None:
    tree.process(100, ["/usr/bin/python3", "/usr/local/bin/vllm", "serve", "m", "--api-key", "sk-1"])
    tree.process(101, ["VLLM::EngineCore"], parent=100)
    tree.process(102, ["VLLM::Worker_TP0"], parent=101)
    tree.process(103, ["VLLM::Worker_TP1"], parent=101)
    tree.listen(100, 8000)
    tree.listen(100, 5005, "127.0.0.1")  # ZeroMQ, of its own choosing
    tree.listen(102, 29500)
    found = find_engines((102, 103), tree.root)
    assert found == (EngineAddress(url="http://127.0.0.1:8000", pids=(100, 101, 102, 103), engine="vllm"),)
    assert "sk-1" not in repr(found)
    assert find_engines((), tree.root) == found


def test_two_engines_of_one_host(tree: ProcTree) -> None:
    tree.process(100, ["vllm", "serve", "a"])
    tree.process(200, ["vllm", "serve", "b", "--port", "8001"])
    tree.process(201, ["VLLM::EngineCore"], parent=200)
    tree.listen(100, 8000)
    tree.listen(200, 8001, "::")
    assert [(one.url, one.pids) for one in find_engines((201,), tree.root)] == [
        ("http://127.0.0.1:8000", (100,)),
        ("http://127.0.0.1:8001", (200, 201)),
    ]


@pytest.mark.parametrize(
    ("name", "pids"),
    [
        ("http://localhost:8000", (100,)),
        ("http://127.0.0.1:8001", (200, 201)),
        ("http://[::1]:8001", (200, 201)),
        ("http://0.0.0.0:8000", (100,)),
        ("http://192.0.2.1:8000", (100,)),
        (f"http://{socket.gethostname()}:8000", (100,)),
        ("http://10.0.0.9:8000", (300,)),
        ("http://192.0.2.2:8000", None),
        ("http://elsewhere.example:8000", None),
        ("http://localhost:9000", None),
        ("http://localhost", None),
    ],
)
def test_an_engine_that_was_named_is_found_under_that_name(
    name: str, pids: tuple[int, ...] | None, tree: ProcTree
) -> None:
    tree.process(100, ["vllm", "serve", "a"])
    tree.process(200, ["vllm", "serve", "b", "--port", "8001"])
    tree.process(201, ["VLLM::EngineCore"], parent=200)
    tree.process(300, ["vllm", "serve", "c"], namespace="net:[7]", addresses=("10.0.0.9",), cgroup=POD)
    tree.process(400, ["vllm", "serve", "d"], namespace="net:[8]", addresses=("10.0.0.10",), cgroup=POD)
    for pid, port in ((100, 8000), (200, 8001), (300, 8000), (400, 9000)):
        tree.listen(pid, port)
    found = under_names(find_engines((201,), tree.root), (EngineAddress(url=name),), tree.root)
    assert len(found) == 4
    assert {one.url: one.pids for one in found}.get(name) == pids


def test_an_engine_that_still_loads_does_not_listen_yet(tree: ProcTree) -> None:
    tree.process(100, ["vllm", "serve", "a", "--port", "9000"])
    tree.process(200, ["python3", "-m", "sglang.launch_server"])
    assert [one.url for one in find_engines((), tree.root)] == [
        "http://127.0.0.1:30000",
        "http://127.0.0.1:9000",
    ]


def test_the_router_listens_for_its_launcher(tree: ProcTree) -> None:
    tree.process(100, ["text-generation-launcher", "--model-id", "m"])
    tree.process(101, ["text-generation-router", "--port", "80"], parent=100)
    tree.process(102, ["python3", "/bin/text-generation-server", "serve"], parent=100)
    tree.listen(101, 80)
    tree.listen(101, 9000)
    assert find_engines((102,), tree.root) == (
        EngineAddress(url="http://127.0.0.1:80", pids=(100, 101, 102), engine="tgi"),
    )


def test_a_pod_is_reached_at_its_own_address(tree: ProcTree) -> None:
    tree.process(50, ["containerd-shim"])
    tree.process(
        100, ["vllm", "serve", "m"], parent=50, namespace="net:[7]", addresses=("10.0.0.9",), cgroup=POD
    )
    tree.listen(100, 8000)
    assert [one.url for one in find_engines((), tree.root)] == ["http://10.0.0.9:8000"]


def test_a_pod_with_ipv6_alone(tree: ProcTree) -> None:
    tree.process(100, ["vllm", "serve", "m"], namespace="net:[7]", addresses=(), cgroup=POD)
    tree.write(
        "proc/100/net/if_inet6",
        "00000000000000000000000000000001 01 80 10 80       lo\n"
        "fe800000000000000000000000000001 02 40 20 80     eth0\n"
        "fd000000000000000000000000000009 02 80 00 80     eth0\n",
    )
    tree.listen(100, 8000, "::")
    assert [one.url for one in find_engines((), tree.root)] == ["http://[fd00::9]:8000"]


def test_a_namespace_without_an_address_is_left_out(tree: ProcTree) -> None:
    tree.process(100, ["vllm", "serve", "m"], namespace="net:[7]", addresses=())
    tree.listen(100, 8000)
    assert find_engines((), tree.root) == ()


def test_files_of_another_user_are_hidden(tree: ProcTree) -> None:
    tree.process(100, ["vllm", "serve", "m", "--port", "8123", "--ssl-certfile=c"])
    tree.listen(100, 22, hidden=True)
    tree.listen(100, 8123, "192.0.2.1", hidden=True)
    (tree.root / "proc/100/ns/net").unlink()
    assert [one.url for one in find_engines((), tree.root)] == ["https://192.0.2.1:8123"]


def test_a_server_of_ones_own_is_found_from_its_worker(tree: ProcTree) -> None:
    tree.process(90, ["sshd"], cgroup="0::/system.slice/ssh.service")
    tree.process(100, ["python3", "my_server.py"], parent=90)
    tree.process(101, ["VLLM::EngineCore"], parent=100, gpu=True)
    tree.listen(90, 22)
    assert find_engines((101,), tree.root) == ()
    tree.listen(100, 5000)
    assert find_engines((101,), tree.root) == (
        EngineAddress(url="http://127.0.0.1:5000", pids=(100, 101), engine="vllm"),
    )
    assert find_engines((), tree.root) == ()


def test_workers_that_ray_started_go_to_the_engine_of_their_container(tree: ProcTree) -> None:
    tree.process(100, ["vllm", "serve", "m"], cgroup=POD)
    tree.process(200, ["raylet"], cgroup=POD)
    tree.process(201, ["ray::RayWorkerWrapper"], parent=200, cgroup=POD, gpu=True)
    tree.process(300, ["python3", "train.py"], gpu=True)
    tree.listen(100, 8000)
    assert [one.pids for one in find_engines((201, 300), tree.root)] == [(100, 201)]


def test_servers_under_one_supervisor_are_engines_of_their_own(tree: ProcTree) -> None:
    tree.process(100, ["vllm", "serve", "m", "--data-parallel-multi-port-external-lb"])
    for rank in (0, 1, 2):
        tree.process(110 + rank, [f"VLLM::APIServer_DP{rank}"], parent=100)
        tree.process(120 + rank, ["VLLM::EngineCore"], parent=110 + rank)
    tree.listen(100, 9256)
    tree.listen(110, 8000)
    tree.listen(111, 8001)
    assert [(one.url, one.pids) for one in find_engines((120, 121), tree.root)] == [
        ("http://127.0.0.1:8000", (110, 120)),
        ("http://127.0.0.1:8001", (111, 121)),
    ]


def test_a_training_job_is_no_engine(tree: ProcTree) -> None:
    tree.process(300, ["python3", "train.py"], gpu=True)
    tree.listen(300, 6006)
    assert find_engines((300, 9999), tree.root) == ()


def test_numbers_of_another_namespace_are_not_believed(tmp_path: Path) -> None:
    tree = ProcTree(tmp_path)
    tree.process(1, ["/pause"], parent=0)
    tree.network("self")
    tree.process(100, ["vllm", "serve", "m"], cgroup=POD)
    tree.process(200, ["bystander"], cgroup=POD)
    tree.process(201, ["worker"], cgroup=POD, gpu=True)
    tree.listen(100, 8000)
    assert [one.pids for one in find_engines((200, 201), tree.root)] == [(100, 201)]


def test_nothing_there_is_no_error(tmp_path: Path) -> None:
    assert find_engines((1, 2), tmp_path) == ()


@pytest.mark.parametrize(
    "table", ["", "junk", "  sl\n 0: XX:1 0 0A\n", "  sl\n 0: 0:1F40 0 0A 0 0 0 0 0 5\n"]
)
def test_a_table_of_sockets_that_is_none(tree: ProcTree, table: str) -> None:
    tree.process(100, ["vllm", "serve"])
    tree.write("proc/100/net/tcp", table)
    assert listeners(tree.root, 100) == ()


SERVER = """#!{python}
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
server = HTTPServer(("{bind}", 0), BaseHTTPRequestHandler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


@pytest.mark.parametrize("bind", ["127.0.0.1", "0.0.0.0"])
def test_a_real_process_on_loopback(tmp_path: Path, bind: str) -> None:
    script = tmp_path / "llama-server"
    script.write_text(SERVER.format(python=sys.executable, bind=bind), encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, str(script), "--api-key", "sk-secret"], stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout is not None
            port = int(running.stdout.readline())
            started = time.monotonic()
            found = find_engines()
            assert time.monotonic() - started < 5
            ours = [one for one in found if running.pid in one.pids]
            assert ours == [
                EngineAddress(url=f"http://127.0.0.1:{port}", pids=(running.pid,), engine="llamacpp")
            ]
            assert "sk-secret" not in repr(found)
        finally:
            running.kill()


def test_own_listeners_are_read_as_the_kernel_writes_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as four, socket.create_server(("127.0.0.1", 0)) as two:
        ports = {one.port: one.address for one in listeners(Path("/"), "self")}  # type: ignore[arg-type]
        for server in (four, two):
            assert str(ports[server.getsockname()[1]]) == "127.0.0.1"
    assert str(reachable_at(Path("/"), "self", None)) == "127.0.0.1"  # type: ignore[arg-type]

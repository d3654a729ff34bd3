"""One pass over a thousand simulated exporters, some dead, slow or lying, against peers in the same run.

Exits with 1 past a limit. Peers do less: they fetch, and judge nothing. `threads` is http.client in as many threads,
each answer through json.loads; `curl --parallel` makes as many transfers at once; `curl in turn` asks the first tenth
of the nodes one after another. The exporters run in a process of their own, on the same cores.
"""

from __future__ import annotations

import argparse
import http.client
import json
import queue
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from selfhost.fleet import NodeAddress, poll, render
from selfhost.fleet.poll import DEADLINE_SECONDS, PARALLEL
from selfhost.fleet.types import PATH
from tests.fakes.exporters import Fleet, address, exporters

SECONDS, THREADS_CPU_RATIO, IN_TURN_RATIO = 5.0, 1.0, 2.0
BAD = ("refused", "full", "silent", "drip", "dripbody", "notjson", "nan", "busy", "404", "stale")


def measured(run: Callable[[], object]) -> tuple[float, float]:
    """Wall-clock seconds, and CPU seconds of this process and of those it waited for."""
    before = _cpu()
    started = time.perf_counter()
    run()
    return time.perf_counter() - started, _cpu() - before


def _cpu() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def threads(urls: list[str], deadline: float, parallel: int) -> int:
    """http.client in threads: a time limit on each wait, not on the whole; returns how many answered."""
    left: queue.SimpleQueue[str] = queue.SimpleQueue()
    for url in urls:
        left.put(url)
    good: list[object] = []

    def work() -> None:
        while True:
            try:
                target = urlsplit(left.get_nowait())
            except queue.Empty:
                return
            connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=deadline)
            started = time.monotonic()
            try:
                connection.request("GET", PATH)
                response = connection.getresponse()
                body = b""
                while (piece := response.read1(1 << 16)) and time.monotonic() - started < deadline:
                    body += piece
                good.append(json.loads(body))
            except (OSError, ValueError, http.client.HTTPException):
                pass
            finally:
                connection.close()

    workers = [threading.Thread(target=work) for _ in range(parallel)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return len(good)


def curl(urls: list[str], deadline: float, *more: str) -> None:
    """Curl into nowhere, each transfer under the deadline."""
    with tempfile.NamedTemporaryFile("w", suffix=".curl") as config:
        config.write("".join(f'url = "{url}{PATH}"\noutput = "/dev/null"\n' for url in urls))
        config.flush()
        command = ["curl", "--silent", "--max-time", str(deadline), *more, "--config", config.name]
        subprocess.run(command, check=False, stderr=subprocess.DEVNULL)


def bench(options: argparse.Namespace) -> bool:
    """Runs all, prints a table, and says whether every limit was kept."""
    every = max(1, options.nodes // options.bad)
    kinds = {
        address(number): BAD[number // every % len(BAD)] if number % every == 0 else "ok"
        for number in range(options.nodes)
    }
    with exporters(kinds) as fleet:
        nodes = tuple(NodeAddress(name=at, url=fleet.url(at, kind)) for at, kind in kinds.items())
        rows = _run(nodes, fleet, options)
        results = poll(nodes, deadline_seconds=options.deadline, parallel=options.parallel)
    for line in render(results, 80, limit=8):
        print(line)
    print()
    found = sum(bool(result.findings) for result in results)
    wrong = sum(bool(result.findings) != (kinds[result.address.name] != "ok") for result in results)
    for name, (wall, cpu) in rows.items():
        print(f"{name:>24}  {wall:7.2f} s  {cpu:7.2f} s CPU")
    seconds = rows["selfhost"][0]
    cpu_ratio = rows["threads"][1] / rows["selfhost"][1]
    tenth = rows.get("curl in turn, a tenth")
    print(
        f"{found} of {options.nodes} nodes with a finding, {wrong} wrongly; deadline {options.deadline:g} s a node"
    )
    print(
        f"CPU of threads over ours {cpu_ratio:.2f}"
        + (f", a tenth in turn over all of ours {tenth[0] / seconds:.1f}" if tenth else "")
    )
    kept = [
        wrong == 0,
        seconds <= options.seconds * options.slack,
        cpu_ratio >= options.threads_cpu_ratio / options.slack,
        tenth is None or tenth[0] / seconds >= options.in_turn_ratio / options.slack,
    ]
    print("limits kept" if all(kept) else f"past a limit: {kept}")
    return all(kept)


def _run(
    nodes: tuple[NodeAddress, ...], fleet: Fleet, options: argparse.Namespace
) -> dict[str, tuple[float, float]]:
    urls = [node.url for node in nodes]
    deadline, parallel = options.deadline, options.parallel
    poll(nodes[:1])  # imports are not what is measured
    before = fleet.seen()
    passes = [
        measured(lambda: poll(nodes, deadline_seconds=deadline, parallel=parallel))
        for _ in range(options.passes)
    ]
    served = (fleet.seen() - before) / options.passes
    print(f"{served:.0f} requests served a pass")
    rows = {"selfhost": min(passes), "selfhost, slowest pass": max(passes)}
    rows["threads"] = measured(lambda: threads(urls, deadline, parallel))
    if shutil.which("curl"):
        at_once = ("--parallel", "--parallel-immediate", "--parallel-max", str(parallel))
        rows["curl --parallel"] = measured(lambda: curl(urls, deadline, *at_once))
        rows["curl in turn, a tenth"] = measured(lambda: curl(urls[: len(urls) // 10], deadline))
    return rows


def main() -> None:
    """Parses the limits and runs the bench."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--bad", type=int, default=50)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--deadline", type=float, default=DEADLINE_SECONDS)
    parser.add_argument("--parallel", type=int, default=PARALLEL)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="most for a pass")
    parser.add_argument("--threads-cpu-ratio", type=float, default=THREADS_CPU_RATIO, help="least")
    parser.add_argument("--in-turn-ratio", type=float, default=IN_TURN_RATIO, help="least")
    parser.add_argument("--slack", type=float, default=1.0, help="for a machine that others use too")
    sys.exit(0 if bench(parser.parse_args()) else 1)


if __name__ == "__main__":
    main()

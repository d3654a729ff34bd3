"""A million requests, read from a CSV file and simulated by the command, against a bare event loop in the same run.

The peer is simpy's event loop (MIT, pure Python as ours; installed beside on first use): a million timeouts of a
million processes that do nothing else, so no queue, no batch, no percentile. A simulation of requests on it cannot take
less. Both are timed on the clock, as a user would wait: ours takes a second core where there is one. Exits with 1 past
a limit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from selfhost.throughput.arrivals import Trace, at_random

SECONDS, PEER_RATIO = 10.0, 2.0
SIMPY = "4.1.2"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "selfhost" / "peers"
LOADS = {"half of what it takes": 10.0, "near what it takes": 13.0, "more than it takes": 20.0}
COMMAND = (
    "estimate",
    "Qwen/Qwen3-8B",
    "--gpu",
    "h100-sxm-80gb",
    "--ttft-goal",
    "500",
    "--tpot-goal",
    "50",
    "--json",
)
PEER = """
import sys, time
import simpy
count = int(sys.argv[1])
begin = time.perf_counter()
world = simpy.Environment()
def request(at):
    yield world.timeout(at)
def arrivals():
    for number in range(count):
        world.process(request(1.0))
        yield world.timeout(0.001)
world.process(arrivals())
world.run()
print(time.perf_counter() - begin)
"""


def varied(rate: float, requests: int) -> Trace:
    """Poisson arrivals whose lengths scatter as those of chats do: many short, few long."""
    chance = random.Random(1)
    times = at_random(
        request_rate=rate, requests=requests, prompt_tokens=1, output_tokens=1, chance=chance
    ).at_seconds
    return Trace(
        at_seconds=times,
        prompt_tokens=[1 + min(16_000, int(chance.lognormvariate(6.3, 1.1))) for _ in times],
        output_tokens=[1 + min(4_000, int(chance.lognormvariate(5.1, 0.8))) for _ in times],
        name="varied",
    )


def write(trace: Trace, path: Path) -> None:
    """As a CSV file."""
    rows = zip(trace.at_seconds, trace.prompt_tokens, trace.output_tokens, strict=True)
    with path.open("w", encoding="utf-8") as file:
        file.write("arrival_seconds,prompt_tokens,output_tokens\n")
        file.writelines(f"{at:.6f},{prompt},{output}\n" for at, prompt, output in rows)


def peer_python() -> Path:
    """The interpreter of an environment with simpy, made on first use."""
    folder = CACHE / f"simpy-{SIMPY}"
    python = folder / "bin" / "python"
    if not (folder / ".made").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, f"simpy=={SIMPY}"], check=True)
        (folder / ".made").touch()
    return python


def timed(run: Callable[[], str]) -> tuple[float, float, str]:
    """(seconds on the clock, seconds of a core, what it printed)."""
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    text = run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begin, cpu, text


def output(*command: object) -> str:
    """What a command prints."""
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout


def main() -> int:
    """Measure, print, compare with the limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--slack", type=float, default=1.0, help="factor on the limit, for busy machines")
    given = parser.parse_args()
    count = given.requests
    failed = False
    python = peer_python()
    with tempfile.TemporaryDirectory() as folder:
        for name, rate in LOADS.items():
            path = Path(folder) / "trace.csv"
            write(varied(rate, count), path)
            clock, seconds, text = timed(
                lambda path=path: output(sys.executable, "-m", "selfhost", *COMMAND, "--trace", path)  # type: ignore[misc]
            )
            peer = float(output(python, "-c", PEER, count))
            found = json.loads(text)["simulation"]
            late = clock > SECONDS * given.slack * count / 1_000_000 or clock > PEER_RATIO * peer
            failed |= late
            print(
                f"{name:22} {count:,} requests from a file: {clock:5.1f} s ({seconds:.1f} of processors), "
                f"{clock / peer:.2f} of simpy's "
                f"bare events ({peer:.1f} s); TTFT p50 {found['ttft_ms']['p50']:,.0f} ms, p99 "
                f"{found['ttft_ms']['p99']:,.0f} ms, {found['running']:.0f} under way{'  TOO LATE' if late else ''}"
            )
    print(f"limits: {SECONDS * given.slack:.0f} s a million, and {PEER_RATIO:g} times the peer")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

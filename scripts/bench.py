"""Speed and memory of selfhost as ratios that hold on any machine; exits with 1 past a limit.

Start-up is compared with `python -c "import click"`, in turns, by the least processor time of several runs each: what
else runs on the machine then matters little. The sweep sizes every bundled model on every GPU.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time

HELP_RATIO, SIZE_RATIO = 2.5, 4.0
# Two seconds on a machine on which `import click` takes 27 ms of processor time; others are slower or quicker at both.
SWEEP_RATIO, PEAK_BYTES = 75.0, 120 * 10**6
TENSOR = (1, 2, 4, 8, 16)
QUANTIZATIONS = (None, "fp8", "int8", "awq-int4", "nvfp4", "mxfp4")
MODEL = "Qwen/Qwen3-32B"
PROGRAMS = {
    "import click": ["-c", "import click"],
    "selfhost --help": ["-m", "selfhost", "--help"],
    "selfhost size": ["-m", "selfhost", "size", MODEL, "--gpu", "h100-sxm-80gb", "--tp", "2"],
}


def cpu_seconds(words: list[str]) -> float:
    """Processor time of one run of Python, children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"HF_HUB_OFFLINE": "1", "PYTHONHASHSEED": "0"}
    subprocess.run([sys.executable, *words], env=environment, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def start_up(rounds: int) -> dict[str, float]:
    """Least processor seconds of each program over the rounds, the first of which only warms the caches."""
    runs: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(rounds + 1):
        for name, words in PROGRAMS.items():
            runs[name].append(cpu_seconds(words))
    return {name: min(seconds[1:]) for name, seconds in runs.items()}


def sweep() -> None:
    """Size all models on all GPUs at every tensor-parallel size and quantization; print count, seconds and peak."""
    from selfhost.catalog.gpus import gpus
    from selfhost.catalog.models import models
    from selfhost.errors import SelfhostError
    from selfhost.hub import load_model
    from selfhost.model.parse import parse_model
    from selfhost.sweep import sweep as rows

    begun = time.process_time()
    cards = gpus()
    sized = refused = 0
    for entry in models():
        try:
            spec = parse_model(load_model(f"catalog:{entry.id}"))
        except SelfhostError:
            refused += 1
            continue
        sized += sum(1 for _ in rows(spec, cards, tensors=TENSOR, quantizations=QUANTIZATIONS))
    seconds = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(sized, refused, seconds, peak)


def main() -> int:
    """Run everything and compare with the limits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15, help="runs of each program")
    parser.add_argument("--slack", type=float, default=1.0, help="factor on every limit, for busy machines")
    parser.add_argument("--sweep", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.sweep:
        sweep()
        return 0
    seconds = start_up(given.rounds)
    base = seconds["import click"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    best = (0, 0, float("inf"), 0)
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, __file__, "--sweep"], env=environment, capture_output=True, text=True, check=True
        )
        sized, refused, took, peak = done.stdout.split()
        best = min(best, (int(sized), int(refused), float(took), int(peak)), key=lambda run: run[2])
    rows = [
        ("selfhost --help / import click", seconds["selfhost --help"] / base, HELP_RATIO, "×"),
        ("selfhost size / import click", seconds["selfhost size"] / base, SIZE_RATIO, "×"),
        ("sweep / import click", best[2] / base, SWEEP_RATIO, "×"),
        ("peak memory of the sweep", best[3] / 1e6, PEAK_BYTES / 1e6, "MB"),
    ]
    failed = False
    print(f"import click: {base * 1000:.1f} ms of processor time (least of {given.rounds})")
    print(f"sweep: {best[0]:,} sizings in {best[2]:.2f} s of processor time (least of 3)")
    for name, value, allowed, unit in rows:
        limit = allowed * given.slack
        late = value > limit
        failed |= late
        print(f"{name:<34}{value:8.2f} {unit:<3} limit {limit:g}{'   TOO MUCH' if late else ''}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

"""Planning over every GPU of the catalogue x counts x weight formats x engines, with speed and cost, in one process.

For one model each combination gets its memory bill, its estimate of speed and its price, and all are ranked. Every run
is a new process, so that nothing is remembered from the one before. Exits with 1 past a second of processor time.
Beside it stands `selfhost plan` for the default engine and format as a whole program, from its start to its table.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time

MODEL = "Qwen/Qwen3-32B"
SECONDS = 1.0
PROGRAM = ["-m", "selfhost", "plan", "--context", "4k"]


def search(model: str) -> None:
    """Search and rank; print combinations, placements and seconds."""
    from selfhost.catalog.gpus import searched
    from selfhost.catalog.prices import load_prices
    from selfhost.engines import engine_names, parse_engine
    from selfhost.hub import load_model
    from selfhost.model.parse import parse_model
    from selfhost.ranking import RANKS, Load, Question, order, sensible_quantizations
    from selfhost.ranking import search as find
    from selfhost.ranking.costs import Pricing
    from selfhost.throughput.types import Traffic
    from selfhost.workload import Workload

    begun = time.process_time()
    cards, engines = searched(), engine_names()
    spec = parse_model(load_model(f"catalog:{model}"))
    formats = sensible_quantizations(spec)
    load = Load(traffic=Traffic(prompt_tokens=1024, output_tokens=256, concurrency=16))
    found = find(
        Question(
            spec=spec,
            gpus=cards,
            engines=tuple(map(parse_engine, engines)),
            quantizations=formats,
            workload=Workload(max_model_len=4096, concurrency=16),
            load=load,
            pricing=Pricing(load_prices(), tier="specialty", term="on-demand", currency="USD"),
        )
    )
    for rank in RANKS:
        order(found.options, rank, each_gpu=True)
    seconds = time.process_time() - begun
    print(len(cards), len(engines), len(formats), found.tried, len(found.options), seconds)


def cpu_seconds(words: list[str]) -> tuple[float, str]:
    """Processor time of one run of Python, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"HF_HUB_OFFLINE": "1", "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def main() -> int:
    """Run both in turns and compare with the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default=MODEL, help="a model of the catalogue")
    parser.add_argument("--rounds", type=int, default=3, help="runs, of which the quickest counts")
    parser.add_argument("--slack", type=float, default=1.0, help="factor on the limit, for busy machines")
    parser.add_argument("--search", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.search:
        search(given.model)
        return 0
    programs, runs = [], []
    for _ in range(given.rounds):
        programs.append(cpu_seconds([*PROGRAM, given.model])[0])
        runs.append(cpu_seconds([__file__, "--search", "--model", given.model])[1].split())
    cards, engines, formats, tried, options, took = min(runs, key=lambda run: float(run[5]))
    seconds, program = float(took), min(programs)
    late = seconds > SECONDS * given.slack
    print(f"{given.model}: {cards} GPUs x counts x {formats} formats x {engines} engines")
    print(
        f"{tried} combinations, {options} of which carry the load, each with speed and cost, ranked six ways"
    )
    print(f"search{seconds:26.3f} s   limit {SECONDS * given.slack:g}{'   TOO MUCH' if late else ''}")
    print(f"combinations a second{int(tried) / seconds:11,.0f}")
    print(
        f"selfhost plan, the whole program{program:8.3f} s   the search takes {seconds / program:.2f} of it"
    )
    return int(late)


if __name__ == "__main__":
    sys.exit(main())

"""Estimated against measured speed: output tokens per second and time per output token of published benchmarks.

`python scripts/bench_throughput.py` compares the roofline with the rows of selfhost/catalog/measured_throughput.json,
for each generation, engine version and source, and fails where an error is larger than its limit. What is scored is
`estimate()` itself, which does not know these rows (`selfhost estimate` prints them beside it). `--rows FILE` takes
other rows with the same fields, `--peer PYTHON` compares aiconfigurator's errors on the rows that it covers, `--fit`
fits the utilizations of catalog/efficiency.toml anew and prints them, and `--left-out` says how large the error is on
each source that a fit has not seen. Without `--rows` the errors on bench/throughput_held_out.json follow: runs that no
fit ever saw.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfhost.catalog.gpus import Gpu, find_gpu
from selfhost.catalog.measured import consistent, rows_of
from selfhost.engines import EngineVersion
from selfhost.errors import SelfhostError
from selfhost.hub import load_model
from selfhost.model.parse import parse_model
from selfhost.model.spec import ModelSpec
from selfhost.throughput.estimate import estimate
from selfhost.throughput.runs import release_of
from selfhost.throughput.types import Estimate, Traffic
from selfhost.workload import Split, Workload

ROWS = Path(__file__).resolve().parents[1] / "selfhost" / "catalog" / "measured_throughput.json"
# Rows that no fit has seen, and that `--fit` refuses: other runs, mostly of other sources.
HELD_OUT = Path(__file__).resolve().parents[1] / "bench" / "throughput_held_out.json"
# Of the requirement: median and 90th percentile of the absolute error.
LIMITS = {"vllm on Hopper and Ampere": (0.15, 0.40), "elsewhere": (0.25, None)}
# What published rows call a weight format -> `--quant`, where the checkpoint is not in it already.
FORMATS = {
    "fp8": "fp8",
    "int4-awq": "awq-int4",
    "int4-gptq": "gptq-int4",
    "int8-gptq": "gptq-int8",
    "fp4": "nvfp4",
    "mxfp4": "mxfp4",
    "int4": "w4a16",
}
# Models that a source names without their repository.
SPELLED = {
    "NVIDIA Nemotron Super 49B": "nvidia/Llama-3_3-Nemotron-Super-49B-v1",
    "DeepSeek V3.2": "deepseek-ai/DeepSeek-V3.2",
    "/workspace/DeepSeek-v3.2": "deepseek-ai/DeepSeek-V3.2",
    "Llama 3.1 8B": "meta-llama/Llama-3.1-8B-Instruct",
    "llama3.1-8b": "meta-llama/Llama-3.1-8B-Instruct",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """One measured row, as a deployment."""

    row: dict[str, Any]
    spec: ModelSpec
    gpu: Gpu
    engine: EngineVersion
    split: Split
    workload: Workload
    traffic: Traffic
    replicas: int

    @property
    def group(self) -> str:
        """Which limit holds; none for a run that ends before it is steady, as estimates are of the steady state.

        With fewer than two requests for each client most of the run is its beginning and its tail. Requests of an
        offline batch are equally long, and begin and end together.
        """
        clients, sent = self.row.get("max_concurrency"), self.row.get("num_ok")
        if clients and sent and sent < 2 * clients and self.row.get("mode") != "offline batch":
            return "runs of fewer than two requests for each client"
        near = self.gpu.architecture in ("Hopper", "Ampere") and self.engine.engine == "vllm"
        return "vllm on Hopper and Ampere" if near else "elsewhere"

    @property
    def kind(self) -> str:
        """Generation and engine version, as reported."""
        return f"{self.gpu.architecture}, {self.row['engine']} {self.row['engine_version']}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """One number of one row: how far the estimate is off, as a ratio."""

    case: Case
    number: str
    estimated: float
    measured: float

    @property
    def ratio(self) -> float:
        """Estimated over measured, less one."""
        return self.estimated / self.measured - 1.0


def case_of(row: dict[str, Any]) -> Case:
    """The deployment that a row measured.

    Raises:
        SelfhostError: a model or a GPU that is not in the catalogue.
    """
    replicas = int(row.get("replicas") or 1)
    precision = str(row["precision"]).split(" ")[0]
    spec = parse_model(load_model(SPELLED.get(row["model"], row["model"])))
    quantization = row.get("quant") or (FORMATS.get(precision) if spec.scheme is None else None)
    kv = str(row.get("kv_cache_dtype") or "auto")
    rate = row.get("request_rate") if not row.get("max_concurrency") else None
    return Case(
        row=row,
        spec=spec,
        gpu=find_gpu(_gpu_name(row["gpu"])),
        engine=release_of(row["engine"], str(row["engine_version"]))[0],
        split=Split(
            tensor=int(row.get("tp") or 1),
            pipeline=int(row.get("pp") or 1),
            data=int(row.get("dp") or 1) if not row.get("replicas") else 1,
            expert=bool(row.get("ep")),
        ),
        workload=Workload(
            quantization=quantization,
            kv_dtype="fp8" if "fp8" in kv else "auto",
            max_num_seqs=row.get("max_num_seqs"),
            enforce_eager=bool(row.get("enforce_eager")),
        ),
        traffic=Traffic(
            prompt_tokens=max(1, round(row["isl"])),
            output_tokens=max(1, round(row["osl"])),
            concurrency=None if rate else int(row["max_concurrency"]),
            request_rate=float(rate) if rate else None,
        ),
        replicas=replicas,
    )


def _gpu_name(text: str) -> str:
    return text.split(" (", maxsplit=1)[0]


def usable(row: dict[str, Any]) -> bool:
    """Whether a row says what was run and what came out."""
    loaded = row.get("max_concurrency") or row.get("request_rate")
    return bool(
        row.get("clean", True) and row.get("isl") and row.get("osl") and loaded and row.get("output_tok_s")
    )


def errors_of(case: Case, found: Estimate) -> list[Error]:
    """Output tokens per second, and the time per output token where it was measured.

    Some sources give the speed of decoding alone for one request; that is a time per output token.
    """
    row = case.row
    speed, alone = row["output_tok_s"], row.get("decode_tok_s_per_user")
    if alone == speed and case.traffic.concurrency == 1:
        pairs = [("TPOT", found.tpot_ms.typical, 1e3 / alone)]
    else:
        pairs = [("output tokens/s", found.output_tokens_per_second.typical, speed)]
        if row.get("tpot_mean_ms") and consistent(row):
            pairs.append(("TPOT", found.tpot_ms.typical, row["tpot_mean_ms"]))
    return [
        Error(case=case, number=number, estimated=ours, measured=theirs) for number, ours, theirs in pairs
    ]


def log_errors(case: Case) -> list[float]:
    """Absolute log errors of a row, those of the first token with few clients too: with more it is mostly queueing."""
    found = _estimated(case)
    sizes = [abs(math.log(error.estimated / error.measured)) for error in errors_of(case, found)]
    first = case.row.get("ttft_mean_ms")
    if first and (case.traffic.concurrency or 99) <= 8:
        sizes.append(0.4 * abs(math.log(found.ttft_ms.typical / first)))
    return sizes


def _estimated(case: Case) -> Estimate:
    return estimate(
        case.spec,
        case.workload,
        case.split,
        case.gpu,
        case.engine,
        case.traffic,
        replicas=case.replicas,
    )


def compare(cases: Iterable[Case]) -> list[Error]:
    """Every error of every case."""
    found: list[Error] = []
    for case in cases:
        found += errors_of(case, _estimated(case))
    return found


def quantile(errors: list[Error], share: float) -> float:
    """Absolute error that so large a share of them stays below."""
    sizes = sorted(abs(error.ratio) for error in errors)
    return sizes[min(len(sizes) - 1, int(share * len(sizes)))]


def left_out(cases: list[Case]) -> list[Error]:
    """Errors on each source by utilizations that were fitted to the others alone."""
    from throughput_fit import fitted

    found: list[Error] = []
    for source in sorted({case.row["source_title"] for case in cases}):
        seen = [case for case in cases if case.row["source_title"] != source]
        with fitted(seen):
            found += compare(case for case in cases if case.row["source_title"] == source)
    return found


def report(title: str, errors: list[Error]) -> None:
    """One line: how many, median and 90th percentile."""
    if errors:
        print(f"  {title:<58} {len(errors):4d} {quantile(errors, 0.5):7.1%} {quantile(errors, 0.9):7.1%}")


def grouped(errors: list[Error], name: str) -> dict[str, list[Error]]:
    """Errors by one way of telling rows apart."""
    keys = {
        "group": lambda error: error.case.group,
        "GPU": lambda error: error.case.gpu.name,
        "generation and version": lambda error: error.case.kind,
        "source": lambda error: error.case.row["source_title"],
        "number": lambda error: error.number,
    }
    found: dict[str, list[Error]] = {}
    for error in errors:
        found.setdefault(str(keys[name](error)), []).append(error)
    return found


def read(path: Path) -> tuple[list[Case], list[str]]:
    """Deployments of a file of rows, and why rows are left out."""
    cases: list[Case] = []
    skipped: list[str] = []
    for row in rows_of(path.read_text(encoding="utf-8")):
        if not usable(row):
            continue
        try:
            case = case_of(row)
            _estimated(case)
            cases.append(case)
        except SelfhostError as error:
            skipped.append(f"{row['id']} {row['model']}: {error.message}")
    return cases, skipped


def main() -> int:
    """Compare, print, and judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--rows", type=Path, default=ROWS, help="rows to compare with (those of the catalogue)"
    )
    parser.add_argument("--each", action="store_true", help="print every row")
    parser.add_argument("--left-out", action="store_true", help="errors on sources that a fit has not seen")
    parser.add_argument(
        "--peer", metavar="PYTHON", help="a Python with aiconfigurator-core: its own errors beside ours"
    )
    parser.add_argument("--fit", action="store_true", help="fit the utilizations anew and print them")
    asked = parser.parse_args()
    if asked.fit and asked.rows.resolve() == HELD_OUT:
        parser.error("no fit sees the rows that are held out")
    try:
        cases, skipped = read(asked.rows)
    except OSError as error:
        parser.error(f"{asked.rows} cannot be read: {error.strerror}")
    except (ValueError, KeyError, TypeError) as error:
        parser.error(f"{asked.rows} has no rows like those of {ROWS.name}: {error!r}")
    if not cases:
        parser.error(f"{asked.rows} has no row that says what was run and what came out")
    if asked.fit:
        from throughput_fit import show_fit

        show_fit(cases)
        return 0
    errors = left_out(cases) if asked.left_out else compare(cases)
    if asked.each:
        show_each(errors)
    show("absolute error of", errors, skipped)
    if asked.rows == ROWS and not asked.left_out:
        held, unread = read(HELD_OUT)
        show("held out, absolute error of", compare(held), unread)
    if asked.peer:
        from peer_aiconfigurator import show_peer

        show_peer(cases, asked.peer, errors if asked.left_out else None)
    return judge(errors)


def show_each(errors: list[Error]) -> None:
    """A line for each number."""
    for error in errors:
        row = error.case.row
        print(
            f"  {row['id']} {row['model'][-30:]:<30} {error.case.gpu.id[:16]:<16} {error.number:<15} "
            f"{error.estimated:10,.1f} {error.measured:10,.1f} {error.ratio:+7.0%}"
        )


def show(title: str, errors: list[Error], skipped: list[str]) -> None:
    """Errors by limit, number, GPU, engine version and source."""
    print(f"\n  {title:<58} {'n':>4} {'median':>7} {'90 %':>7}")
    for name in ("group", "number", "GPU", "generation and version", "source"):
        print(f" by {name}")
        for key, some in grouped(errors, name).items():
            report(key, some)
    for line in skipped:
        print(f"  left out: {line}")


def judge(errors: list[Error]) -> int:
    """1 where a limit is passed."""
    bad = 0
    for title, (median, tail) in LIMITS.items():
        some = grouped(errors, "group").get(title, [])
        if some and (quantile(some, 0.5) > median or (tail is not None and quantile(some, 0.9) > tail)):
            print(f"{title}: past the limit of {median:.0%}" + (f" and {tail:.0%}" if tail else ""))
            bad = 1
    return bad


if __name__ == "__main__":
    sys.exit(main())

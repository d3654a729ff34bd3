"""aiconfigurator's own estimates of the measured rows, and their errors beside ours.

`python scripts/bench_throughput.py --peer PYTHON` starts this file in a Python that has aiconfigurator-core (`make
silicon` makes one): there it reads one deployment a line and answers with what `aiconfigurator cli estimate` calculates
for it: aggregated serving, its defaults, its present database of the GPU and engine, kernel tables alone. Rows of an
open load are left out, as it has estimates for a number of requests at once alone; so are rows that it refuses, each
with its reason. Our utilizations are fitted to these same rows: `--left-out` adds our errors by a fit that has not seen
the row's source.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench_throughput import Case, Error

_LONGEST = 160
_SECONDS = 600


# -- in the Python that has the package --------------------------------------------------------------------------------


def estimated(row: dict[str, Any], folder: str) -> dict[str, Any]:
    """What the package says of a deployment, by the calls of aiconfigurator 0.12.0, cli/api.py, `_run_agg_estimate`."""
    from aiconfigurator_core.sdk.backends.factory import get_backend
    from aiconfigurator_core.sdk.config import RuntimeConfig
    from aiconfigurator_core.sdk.config_builders import build_model_config
    from aiconfigurator_core.sdk.models import get_model
    from aiconfigurator_core.sdk.models.helpers import resolve_context_fmha_by_data, resolve_nvfp4_for_system
    from aiconfigurator_core.sdk.perf_database import get_database_view, resolve_query_version

    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(row["config"], file)
    system, backend = row["system"], row["backend"]
    version = resolve_query_version(system, backend, "current")
    database = get_database_view(system, backend, version, database_mode="SILICON")
    if database is None:
        raise LookupError(f"no tables of {backend} on {system}")
    config = build_model_config(
        row["tensor"], row["pipeline"], row["data"], row["expert_tensor"], row["expert_parallel"],
        gemm_quant_mode=row["dense_format"], moe_quant_mode=row["expert_format"],
        kvcache_quant_mode=row["cache_format"],
    )  # fmt: skip
    resolve_context_fmha_by_data(config, folder, database, backend, is_context_role=True)
    resolve_nvfp4_for_system(config, system, folder, backend_name=backend)
    summary = get_backend(backend).run_agg(
        get_model(folder, config, backend),
        database,
        RuntimeConfig(isl=row["prompt_tokens"], osl=row["output_tokens"], batch_size=row["requests"]),
        ctx_tokens=row["prompt_tokens"],
    )
    if summary.check_oom():
        raise MemoryError("it says that this does not fit")
    found = summary.get_result_dict()
    return {
        "database": version,
        "tpot_ms": float(found["tpot"]),
        "ttft_ms": float(found["ttft"]),
        "output_tokens_per_second": float(found["tokens/s"]),
    }


def answer_lines() -> None:
    """Deployments in, answers out, a line each; what the package prints goes to stderr."""
    import logging

    logging.disable(logging.CRITICAL)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            with (
                tempfile.TemporaryDirectory() as folder
            ):  # one each: it remembers configurations by their place
                try:
                    found = estimated(json.loads(line), folder)
                except Exception as error:
                    found = {
                        "error": f"{type(error).__name__}: {error}".partition("\n")[0].replace(
                            folder, "the model"
                        )
                    }
            answers.write(json.dumps(found) + "\n")


# -- here --------------------------------------------------------------------------------------------------------------


def asked(case: Case) -> dict[str, Any] | str:
    """A row as the package takes it, or why it cannot."""
    from selfhost.hub import load_model
    from selfhost.silicon.request import BACKENDS, SYSTEMS

    if case.gpu.id not in SYSTEMS or case.engine.engine not in BACKENDS:
        return f"no {case.gpu.name} with {case.engine.engine}"
    if case.traffic.concurrency is None:
        return "no estimate for requests that arrive at a rate"
    config = load_model(case.row["model"]).config
    experts = bool(case.spec.facts.experts_per_token)
    data = case.split.data if experts else 1
    ranks = case.split.tensor * data
    copies = case.replicas * case.split.data // data
    formats = {"fp8": "fp8", "nvfp4": "nvfp4"}.get(case.workload.quantization or "")
    return {
        "config": dict(config),
        "system": SYSTEMS[case.gpu.id],
        "backend": case.engine.engine,
        "tensor": case.split.tensor,
        "pipeline": case.split.pipeline,
        "data": data,
        "expert_tensor": ranks if experts and not case.split.expert else 1,
        "expert_parallel": ranks if experts and case.split.expert else 1,
        "dense_format": formats,
        "expert_format": formats,
        "cache_format": "fp8" if case.workload.kv_dtype == "fp8" else None,
        "prompt_tokens": case.traffic.prompt_tokens,
        "output_tokens": case.traffic.output_tokens,
        "requests": max(1, round(case.traffic.concurrency / (copies * data * case.split.pipeline))),
        "copies": copies,
    }


def peer_errors(cases: list[Case], python: str) -> tuple[list[Error], list[tuple[Case, str]]]:
    """Errors of the package's own estimates, and the rows that it does not cover, with the reason."""
    from bench_throughput import Error

    from selfhost.catalog.measured import consistent

    words = [(case, asked(case)) for case in cases]
    left = [(case, one) for case, one in words if isinstance(one, str)]
    sent = [(case, one) for case, one in words if not isinstance(one, str)]
    done = subprocess.run(
        [python, __file__],
        input="".join(json.dumps(one) + "\n" for _, one in sent),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True, timeout=_SECONDS,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    found: list[Error] = []
    for (case, one), line in zip(sent, done.stdout.splitlines(), strict=True):
        said = json.loads(line)
        if "error" in said:
            left.append((case, re.split(r"\.? Supported arch|, distribution", said["error"])[0][:_LONGEST]))
            continue
        speed = said["output_tokens_per_second"] * one["copies"]
        found.append(
            Error(case=case, number="output tokens/s", estimated=speed, measured=case.row["output_tok_s"])
        )
        if case.row.get("tpot_mean_ms") and consistent(case.row):
            found.append(
                Error(case=case, number="TPOT", estimated=said["tpot_ms"], measured=case.row["tpot_mean_ms"])
            )
    return found, left


def kernel_errors(cases: list[Case], python: str) -> list[Error]:
    """Errors of `selfhost estimate --provider silicon`: the package's kernels under our steady state."""
    from bench_throughput import errors_of

    from selfhost.errors import SelfhostError
    from selfhost.hub import load_model
    from selfhost.silicon import KernelClock, kernel_clock
    from selfhost.throughput.estimate import estimate

    environ = {**os.environ, "SELFHOST_SILICON_PYTHON": python}
    clocks: dict[object, KernelClock | None] = {}
    found: list[Error] = []
    for case in cases:
        of = (case.spec.id, case.workload, case.split, case.gpu.id, case.engine)
        if of not in clocks:
            config = load_model(case.row["model"]).config
            try:
                clocks[of], _ = kernel_clock(
                    config, case.spec, case.workload, case.split, case.gpu, case.engine, environ=environ
                )
            except SelfhostError:
                clocks[of] = None
        clock = clocks[of]
        if clock is None:
            continue
        one = estimate(
            case.spec, case.workload, case.split, case.gpu, case.engine, case.traffic,
            replicas=case.replicas, clock=clock,
        )  # fmt: skip
        found += errors_of(case, one)
    return found


def show_peer(cases: list[Case], python: str, unseen: list[Error] | None = None) -> None:
    """Median and 90th percentile of ours, of its kernels under our steady state, and of its own, on the same rows.

    Args:
        cases: the rows.
        python: with aiconfigurator-core.
        unseen: our errors by fits that have not seen a row's source, None not to show them.
    """
    from bench_throughput import compare, grouped

    peer, left = peer_errors(cases, python)
    rows = {error.case.row["id"] for error in peer}
    same = [case for case in cases if case.row["id"] in rows]
    columns = {"roofline": compare(same)}
    if unseen is not None:
        columns["roofline, unseen"] = [error for error in unseen if error.case.row["id"] in rows]
    columns |= {"kernel tables": kernel_errors(same, python), "aiconfigurator": peer}
    print(
        f"\n  absolute error, median and 90 %, on {len(rows)} of {len(cases)} rows: those aiconfigurator covers"
    )
    print(f"  {'':<48} {'n':>4} " + " ".join(f"{name:>16}" for name in columns))
    for name in ("number", "GPU", "generation and version", "source"):
        print(f" by {name}")
        parts = {column: grouped(errors, name) for column, errors in columns.items()}
        for title, some in parts["aiconfigurator"].items():
            cells = [_cell(parts[column].get(title, [])) for column in columns]
            print(f"  {title:<48} {len(some):4d} " + " ".join(cells))
    reasons = Counter(why for _, why in left)
    for why, count in reasons.most_common():
        print(f"  not covered, {count} rows: {why}")


def _cell(errors: list[Error]) -> str:
    from bench_throughput import quantile

    return f"{quantile(errors, 0.5):7.1%} {quantile(errors, 0.9):8.1%}" if errors else " " * 16


if __name__ == "__main__":
    answer_lines()

"""Six models sized by selfhost and by other tools in one run, beside what vLLM allocates: writes bench/peers.json.

Each tool is installed in an environment of its own and asks a Hub on loopback that serves real configurations and
placeholder tensor headers of the real sizes (bench_hub.py). All are asked for bf16 KV at two context lengths; the
difference is what one more token costs. `make docs` puts the result into docs/accuracy.md.
"""

from __future__ import annotations

import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bench_hub
import click
from bench_truth import BENCH, raw_model

from selfhost.model.parse import parse_model
from selfhost.units import GIB, gib

RESULTS = BENCH / "peers.json"
SHIM = Path(__file__).with_name("peer_shim.py")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "selfhost" / "peers"
CONTEXTS = (16384, 32768)  # past every window, and within every model
RANKS = (1, 8)
WRONG = 0.05
BUNDLED = "selfhost, bundled"

# vLLM 0.32.0's own code on torch's meta device (H100), TP 1 and TP 8: parameter bytes, and KV bytes per token of the
# layers that keep every token. 2026-11-21, as bench/vllm_allocations.json.
TRUTH: Mapping[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "meta-llama/Meta-Llama-3.1-8B": ((16060522496, 131072), (2008031232, 16384)),
    "Qwen/Qwen3-32B": ((65524246528, 262144), (8191715328, 32768)),
    "Qwen/Qwen3-235B-A22B": ((470187269120, 192512), (58959617024, 48128)),
    "deepseek-ai/DeepSeek-V3": ((673150611808, 70272), (85140130848, 70272)),
    "openai/gpt-oss-120b": ((65248815744, 36864), (8711167680, 4608)),
    "Qwen/Qwen3.5-27B": ((54713461728, 65536), (6890389724, 16384)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a tool says at one context, in bytes on one GPU: weights, and the KV cache of a sequence."""

    weights_bytes: float
    kv_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool: how it is asked, and how its JSON reads."""

    name: str
    version: str
    arguments: Callable[[str, int, int], Sequence[str]]
    read: Callable[[Any], Figures]
    ranks: tuple[int, ...] = RANKS


def _hf_mem(answer: Any) -> Figures:
    return Figures(weights_bytes=answer["memory"], kv_bytes=answer["kv_cache"])


def _kvfit(answer: Any) -> Figures:
    layout = answer["layouts"][0]
    return Figures(
        weights_bytes=layout["weights_per_rank_gib"] * GIB,
        kv_bytes=layout["kv_per_sequence_per_rank_gib"] * GIB,
    )


def _ridgepoint(answer: Any) -> Figures:
    weights, capacity = answer["memory"]["weights_bytes"]["best"], answer["capacity"]
    return Figures(weights_bytes=weights, kv_bytes=capacity["bytes_per_seq"])


_NOT_KV = ("model weights", "cuda", "prefill", "safety", "runtime", "engine")


def _vramscout(answer: Any) -> Figures:
    parts = answer["parts_gib"]
    kept = sum(size for name, size in parts.items() if not name.lower().startswith(_NOT_KV))
    return Figures(weights_bytes=parts["Model weights / rank"] * GIB, kv_bytes=kept * GIB)


# hf-mem and ridgepoint know no tensor parallelism: their figures are of the whole model.
PEERS = (
    Tool(
        name="hf-mem",
        version="0.5.6",
        arguments=lambda model, ranks, context: (
            "--model-id", model, "--json-output", "--experimental", "--max-model-len", str(context),
            "--kv-cache-dtype", "bfloat16",
        ),
        read=_hf_mem,
        ranks=(1,),
    ),
    Tool(
        name="kvfit",
        version="0.3.0",
        arguments=lambda model, ranks, context: (
            model, "--json", "--hardware", "h100-80gb", "--gpus", str(ranks), "--tp", str(ranks), "--context",
            str(context), "--kv-dtype", "bf16",
        ),
        read=_kvfit,
    ),
    Tool(
        name="ridgepoint",
        version="0.1.2",
        arguments=lambda model, ranks, context: (
            "fit", model, "--json", "--gpu", "h100-80gb:16", "--ctx", str(context), "--kv-cache-dtype", "bf16",
            "--dtype", "fp8" if "DeepSeek-V3" in model else "fp16",
        ),
        read=_ridgepoint,
        ranks=(1,),
    ),
    Tool(
        name="vramscout",
        version="0.7.0",
        arguments=lambda model, ranks, context: (
            model, "--json", "--tp", str(ranks), "--context", str(context), "--vram-gib", "80", "--kv-dtype", "bf16",
        ),
        read=_vramscout,
    ),
)  # fmt: skip


def install(tool: Tool) -> Path:
    """The interpreter of a tool's environment, made on first use."""
    folder = CACHE / f"{tool.name}-{tool.version}"
    python = folder / "bin" / "python"
    if not (folder / ".made").exists():
        click.echo(f"Installing {tool.name} {tool.version} in {folder}")
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, f"{tool.name}=={tool.version}"], check=True)
        (folder / ".made").touch()
    return python


def ask(command: Sequence[str], environ: Mapping[str, str]) -> tuple[Any, float]:
    """Run a command: its JSON and the seconds it took.

    Raises:
        ValueError: it failed or printed no JSON; the text is its last line.
    """
    begin = time.perf_counter()
    done = subprocess.run(
        command, env=dict(environ), capture_output=True, text=True, timeout=300, check=False
    )
    seconds = time.perf_counter() - begin
    try:
        return json.loads(done.stdout), seconds
    except ValueError:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise ValueError(lines[-1]) from None


def measure(run: Callable[[int], tuple[Figures, float]]) -> dict[str, float]:
    """Weights, KV bytes of one more token, and seconds, from a tool run at both contexts."""
    (low, first), (high, second) = (run(context) for context in CONTEXTS)
    return {
        "weights_bytes": high.weights_bytes,
        "kv_bytes_per_token": (high.kv_bytes - low.kv_bytes) / (CONTEXTS[1] - CONTEXTS[0]),
        "seconds": round(min(first, second), 3),
    }


def selfhost_figures(model: str, ranks: int) -> dict[str, float]:
    """selfhost's answer in this process, from the bundled configuration; for the check that results are current."""
    from selfhost.memory import budget
    from selfhost.workload import Split, Workload

    found = budget(parse_model(raw_model(model)), Workload(), Split(tensor=ranks), None)
    return {"weights_bytes": found.weights_bytes, "kv_bytes_per_token": found.kv_bytes_per_token}


def _selfhost(model: str, ranks: int, environ: Mapping[str, str]) -> dict[str, float]:
    """From the Hub for `MODEL@main`, from the bundled configuration for `MODEL`."""
    command = [sys.executable, "-m", "selfhost", "size", model, "--json", "--tp", str(ranks)]
    answer, first = ask(command, environ)
    _, second = ask(command, environ)
    per_gpu = answer["per_gpu"]
    return {
        "weights_bytes": per_gpu["weights_bytes"],
        "kv_bytes_per_token": per_gpu["kv_bytes_per_token"],
        "seconds": round(min(first, second), 3),
    }


def compare(models: Sequence[str]) -> list[dict[str, Any]]:
    """A row per model, tool and split."""
    rows: list[dict[str, Any]] = []
    interpreters = {tool.name: install(tool) for tool in PEERS}
    repositories = {}
    for model in models:
        raw = raw_model(model)
        repositories[model] = bench_hub.repository(raw.config, bench_hub.checkpoint(parse_model(raw)))
    with bench_hub.serve(repositories) as url, tempfile.TemporaryDirectory() as home:
        foreign = ("HF_", "HUGGING", "TRANSFORMERS")
        environ = {
            **{key: value for key, value in os.environ.items() if not key.startswith(foreign)},
            "HF_ENDPOINT": url,
            "BENCH_HUB": url,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HOME": home,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        for model in models:
            for ranks in RANKS:
                for tool_name, reference in (("selfhost", f"{model}@main"), (BUNDLED, model)):
                    answer = _selfhost(reference, ranks, environ)
                    rows.append({"model": model, "tool": tool_name, "tp": ranks, **answer})
            for tool in PEERS:
                for ranks in tool.ranks:
                    start = [str(interpreters[tool.name]), str(SHIM), tool.name]

                    def run(
                        context: int,
                        start: list[str] = start,
                        tool: Tool = tool,
                        ranks: int = ranks,
                        model: str = model,
                    ) -> tuple[Figures, float]:
                        answer, seconds = ask([*start, *tool.arguments(model, ranks, context)], environ)
                        return tool.read(answer), seconds

                    row: dict[str, Any] = {"model": model, "tool": tool.name, "tp": ranks}
                    try:
                        row |= measure(run)
                    except (ValueError, KeyError, IndexError, TypeError) as error:
                        row["refused"] = str(error)[:200].replace(str(Path.home()), "~")
                    rows.append(row)
            click.echo(f"{model} done")
    return rows


def _cell(value: float | None, truth: float, text: str) -> str:
    if value is None:
        return "–"
    return text if abs(value / truth - 1) <= WRONG else f"**{text}**"


def tables(results: Mapping[str, Any]) -> tuple[tuple[tuple[str, ...], list[tuple[str, ...]]], ...]:
    """Weights, KV bytes per token and time as (heads, rows); bold is off by more than 5 %."""
    found = {(row["model"], row["tool"], row["tp"]): row for row in results["rows"]}
    tools = ("selfhost", *(tool.name for tool in PEERS))
    tables = []
    for key, what, index, show in (
        ("weights_bytes", "weights, GiB", 0, gib),
        ("kv_bytes_per_token", "KV bytes per token", 1, lambda value: f"{value:,.0f}"),
    ):
        rows = []
        for model, truths in TRUTH.items():
            for place, ranks in enumerate(RANKS):
                truth = truths[place][index]
                cells = []
                for tool in tools:
                    row = found.get((model, tool, ranks))
                    value = None if row is None else row.get(key)
                    text = "" if value is None else show(value)
                    cells.append("refused" if row and "refused" in row else _cell(value, truth, text))
                label = model.rpartition("/")[2] + ("" if ranks == 1 else f", a rank of TP {ranks}")
                rows.append((label, show(truth), *cells))
        tables.append(((what, "vLLM", *tools), rows))
    times = []
    timed = ("selfhost", BUNDLED, *(tool.name for tool in PEERS))
    for tool in timed:
        ratios = [
            found[model, tool, 1]["seconds"] / found[model, "selfhost", 1]["seconds"]
            for model in TRUTH
            if "seconds" in found.get((model, tool, 1), {})
        ]
        times.append(f"{statistics.median(ratios):.2f}" if ratios else "–")
    tables.append((("", *timed), [("time, selfhost = 1", *times)]))
    return tuple(tables)


@click.command()
def main() -> None:
    """Run the comparison and write bench/peers.json."""
    results: dict[str, Any] = {
        "about": "Written by scripts/bench_peers.py: bytes on one GPU, KV bytes of one more token, seconds of one run.",
        "measured": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "versions": {tool.name: tool.version for tool in PEERS},
        "rows": compare(tuple(TRUTH)),
    }
    head = ",\n".join(
        f"{json.dumps(key)}: {json.dumps(value)}" for key, value in results.items() if key != "rows"
    )
    body = ",\n".join(json.dumps(row) for row in results["rows"])
    RESULTS.write_text("{\n" + head + ',\n"rows": [\n' + body + "\n]}\n", encoding="utf-8")
    for heads, rows in tables(results):
        click.echo("\n" + "\n".join(" | ".join(line) for line in (heads, *rows)))


if __name__ == "__main__":
    main()

"""Published measurements of whole deployments, read from measured_throughput.json: what was run, and how fast it was.

The estimate of `selfhost.throughput.estimate` never looks at them: the benchmark of its accuracy is against these rows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pkgutil import get_data
from typing import Any

_FILE = "measured_throughput.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One run, as it was published.

    Args:
        id: of the row.
        model: repository of the weights, or of those that were quantized.
        quantization: the `--quant` that says in which format they were, None for the repository's own.
        precision: the same as the source calls it.
        kv_dtype: `auto` or `fp8`.
        enforce_eager, max_num_seqs: the engine's knobs as far as the source says that they were turned.
        gpu: id in the catalogue.
        tensor, pipeline, data, expert, replicas: how it was divided; `replicas` are copies behind one address.
        engine: its name.
        version: its release as the source names it, which may be a day or an image.
        prompt_tokens, output_tokens: of a request, on average.
        concurrency: requests always under way, or of a batch given at once; None with `request_rate`.
        request_rate: arrivals per second, None with `concurrency`.
        requests: how many were sent, None where the source does not say.
        dataset, mode: what was sent and how, in the source's words.
        output_tokens_per_second: of all GPUs, None where the source times the decoding of one request alone.
        tpot_ms, ttft_ms: mean time per output token, and to the first; None where the source has none.
        title, url, date: the page, and when it was published (YYYY, YYYY-MM or YYYY-MM-DD).
    """

    id: str
    model: str
    quantization: str | None
    precision: str
    kv_dtype: str
    enforce_eager: bool
    max_num_seqs: int | None
    gpu: str
    tensor: int
    pipeline: int
    data: int
    expert: bool
    replicas: int
    engine: str
    version: str
    prompt_tokens: float
    output_tokens: float
    concurrency: int | None
    request_rate: float | None
    requests: int | None
    dataset: str
    mode: str
    output_tokens_per_second: float | None
    tpot_ms: float | None
    ttft_ms: float | None
    title: str
    url: str
    date: str

    @property
    def gpus(self) -> int:
        """GPUs of the whole deployment."""
        return self.tensor * self.pipeline * self.data * self.replicas


def rows_of(text: str) -> list[dict[str, Any]]:
    """The rows of a file like measured_throughput.json, each with its whole address; a plain list as it is."""
    found = json.loads(text)
    if isinstance(found, list):
        return found
    sources = found["sources"]
    return [
        {
            **row,
            "source_title": sources[row["source"]]["title"],
            "source_date": row["date"],
            "url": sources[row["source"]]["url"] + row.get("page", ""),
        }
        for row in found["rows"]
    ]


def measured_rows() -> list[dict[str, Any]]:
    """The rows of the catalogue as they are written."""
    return rows_of((get_data("selfhost.catalog", _FILE) or b"").decode())  # also out of selfhost.pyz


@cache
def measurements() -> tuple[Measurement, ...]:
    """Every published run of the catalogue."""
    return tuple(_measurement(row) for row in measured_rows())


def _measurement(row: dict[str, Any]) -> Measurement:
    clients, alone, tpot = (
        row.get("max_concurrency"),
        row.get("decode_tok_s_per_user"),
        row.get("tpot_mean_ms"),
    )
    decoding_alone = clients == 1 and alone == row["output_tok_s"]
    return Measurement(
        id=row["id"],
        model=row["model"],
        quantization=row.get("quant"),
        precision=row["precision"],
        kv_dtype=row.get("kv_cache_dtype", "auto"),
        enforce_eager=row.get("enforce_eager", False),
        max_num_seqs=row.get("max_num_seqs"),
        gpu=row["gpu"],
        tensor=row["tp"],
        pipeline=row.get("pp", 1),
        data=row.get("dp", 1),
        expert=row.get("ep", False),
        replicas=row.get("replicas", 1),
        engine=row["engine"],
        version=row["engine_version"].removeprefix("v"),
        prompt_tokens=row["isl"],
        output_tokens=row["osl"],
        concurrency=clients,
        request_rate=None if clients else row["request_rate"],
        requests=row.get("num_ok"),
        dataset=row["dataset"],
        mode=row["mode"],
        output_tokens_per_second=None if decoding_alone else row["output_tok_s"],
        tpot_ms=1e3 / row["output_tok_s"] if decoding_alone else tpot if consistent(row) else None,
        ttft_ms=row.get("ttft_mean_ms"),
        title=row["source_title"],
        url=row["url"],
        date=row["date"],
    )


def consistent(row: dict[str, Any]) -> bool:
    """Whether a row's times agree with its own throughput, by Little's law; one without times has none to doubt.

    Clients in a closed loop are always under way: tokens per second x (TPOT + TTFT / tokens) is their number. Some
    tools time the arrival of batched chunks, and report a time per token that would need a tenth of the clients.
    """
    clients = row.get("max_concurrency")
    if not clients or not row.get("tpot_mean_ms"):
        return True
    each = (row["tpot_mean_ms"] + row.get("ttft_mean_ms", 0.0) / row["osl"]) / 1e3
    return bool(row["output_tok_s"] * each > 0.5 * clients)

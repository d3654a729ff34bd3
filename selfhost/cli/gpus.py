"""List the GPU catalogue, or what is known of one GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from selfhost.cli._options import complete_gpu, json_option
from selfhost.cli._output import emit_json, facts, headline, next_step, table
from selfhost.errors import UnknownGpuError
from selfhost.units import gib

if TYPE_CHECKING:
    from selfhost.catalog.gpus import Gpu


@click.command()
@click.argument("query", required=False, shell_complete=complete_gpu)
@json_option
def command(query: str | None, as_json: bool) -> None:
    """List the GPU catalogue; QUERY keeps what holds its words (`h100`, `amd`, `consumer`).

    A QUERY that means one GPU (its id, the name nvidia-smi prints, the Kubernetes label or a MIG instance such as
    h100-sxm-80gb:3g.40gb) shows everything known of it.
    """
    chosen = select(query)
    if as_json:
        emit_json("gpus", {"gpus": [as_facts(gpu) for gpu in chosen]})
    elif len(chosen) == 1:
        show(chosen[0])
    else:
        headline(f"{len(chosen)} GPUs, with the memory that is left to an engine.")
        click.echo()
        table(
            (
                ("id", "left"),
                ("GiB", "right"),
                ("GB/s", "right"),
                ("bf16", "right"),
                ("fp8", "right"),
                ("kind", "left"),
            ),
            (
                (
                    gpu.id,
                    gib(gpu.memory_bytes),
                    f"{gpu.bandwidth_bytes_per_second / 1e9:,.0f}",
                    flops(gpu.bf16_flops),
                    flops(gpu.fp8_flops),
                    gpu.kind,
                )
                for gpu in chosen
            ),
            wrap=0,
        )
        next_step(f"selfhost gpus {chosen[0].id}", "everything known of one")


def select(query: str | None) -> tuple[Gpu, ...]:
    """The GPUs a query means: all of them, the one it names, or those that hold its words."""
    from selfhost.catalog.gpus import find_gpu, gpus

    if not query:
        return gpus()
    try:
        return (find_gpu(query),)
    except UnknownGpuError as unknown:
        words = query.lower().split()
        found = tuple(gpu for gpu in gpus() if all(word in _haystack(gpu) for word in words))
        if not found:
            raise unknown from None
        return found


def _haystack(gpu: Gpu) -> str:
    return " ".join(
        (gpu.id, gpu.name, gpu.vendor, gpu.architecture, gpu.kind, gpu.form_factor, *gpu.aliases)
    ).lower()


def flops(value: float | None) -> str:
    """Dense TFLOPS for people; a dash where the GPU has no such unit."""
    return "–" if value is None else f"{value / 1e12:,.0f}"


def code_name(gpu: Gpu) -> str:
    """What kernels are built for: `sm_90`, `gfx942`."""
    capability = gpu.compute_capability
    return gpu.gfx or "–" if capability is None else f"sm_{capability[0]}{capability[1]}"


def as_facts(gpu: Gpu) -> dict[str, object]:
    """One GPU as an object of `selfhost/gpus/v1`."""
    capability = gpu.compute_capability
    label, value = gpu.node_label
    return {
        "id": gpu.id,
        "name": gpu.name,
        "vendor": gpu.vendor,
        "architecture": gpu.architecture,
        "kind": gpu.kind,
        "form_factor": gpu.form_factor,
        "compute_capability": None if capability is None else f"{capability[0]}.{capability[1]}",
        "gfx": gpu.gfx,
        "reported_bytes": gpu.reported_bytes,
        "memory_bytes": gpu.memory_bytes,
        "memory_evidence": gpu.usable_evidence,
        "bandwidth_bytes_per_second": gpu.bandwidth_bytes_per_second,
        "flops": {
            "bf16": gpu.bf16_flops,
            "fp16": gpu.fp16_flops,
            "fp8": gpu.fp8_flops,
            "fp4": gpu.fp4_flops,
            "int8": gpu.int8_flops,
        },
        "link": gpu.link,
        "link_bytes_per_second": gpu.link_bytes_per_second,
        "tdp_watts": gpu.tdp_watts,
        "mig": [{"profile": s.name, "count": s.count, "memory_bytes": s.memory_bytes} for s in gpu.mig],
        "kubernetes": {"resource": gpu.resource, "node_label": label, "node_label_value": value},
        "aliases": list(gpu.aliases),
        "source": gpu.source,
        "checked": gpu.checked,
    }


def show(gpu: Gpu) -> None:
    """Print everything known of one GPU."""
    headline(f"{gpu.name}: {gib(gpu.memory_bytes)} GiB left to an engine.")
    click.echo()
    label, value = gpu.node_label
    link = f"{gpu.link}, {gpu.link_bytes_per_second / 1e9:,.0f} GB/s" if gpu.link else f"PCIe {gpu.pcie}"
    facts(
        {
            "id": gpu.id,
            "vendor": f"{gpu.vendor} {gpu.architecture} {code_name(gpu)}, {gpu.kind}, {gpu.form_factor}",
            "memory": f"{gib(gpu.reported_bytes)} GiB reported, {gib(gpu.memory_bytes)} usable ({gpu.usable_evidence})",
            "bandwidth": f"{gpu.bandwidth_bytes_per_second / 1e9:,.0f} GB/s",
            "dense TFLOPS": f"bf16 {flops(gpu.bf16_flops)}, fp8 {flops(gpu.fp8_flops)}, fp4 {flops(gpu.fp4_flops)}, "
            f"int8 {flops(gpu.int8_flops)}",
            "link": link,
            "power": f"{gpu.tdp_watts} W",
            "MIG": ", ".join(f"{s.count} × {s.name} ({gib(s.memory_bytes)} GiB)" for s in gpu.mig) or "no",
            "Kubernetes": f"{gpu.resource}, node label {label}={value}",
            "also called": ", ".join(gpu.aliases),
            "source": f"{gpu.source} ({gpu.checked})",
            **({"note": gpu.notes} if gpu.notes else {}),
        }
    )
    next_step(f"selfhost plan MODEL --gpu {gpu.id}", "what it carries")

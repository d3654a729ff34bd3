"""Write charts/selfhost, the chart that `selfhost render --target helm` writes too; --check says when it is stale."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import click

from selfhost.catalog.gpus import find_gpu
from selfhost.catalog.models import load
from selfhost.engines import parse_engine
from selfhost.licence import Declared, judge
from selfhost.manifests.chart import DEFAULT_PLAN, chart_files
from selfhost.memory import budget
from selfhost.model.parse import parse_model
from selfhost.model.raw import RawModel
from selfhost.plan import make_plan, to_json
from selfhost.workload import Split, Workload

ROOT = Path(__file__).parent.parent
CHART = ROOT / "charts/selfhost"
# Small, ungated, apache-2.0, and on one L4, of which clouds have most. The commit stands in paths of the Hub's
# cache (models--Qwen--Qwen3-1.7B/snapshots/...) in many public repositories, searched on 2026-11-26.
MODEL = "Qwen/Qwen3-1.7B"
COMMIT = "70d244cc86ccca08cf5af4e1e306ecf908b1ad5e"
GPU = "l4-24gb"
WORKLOAD = Workload(max_model_len=8192, concurrency=8)
CREATED = "2026-11-26T00:00:00Z"
HINT = "Out of date: `make docs` writes charts/selfhost again."


def plan_text() -> str:
    """The chart's default plan, made of what is bundled and the commit above."""
    model = load(MODEL)
    raw = RawModel(
        reference=model.id, id=model.id, revision=COMMIT, origin="hub", source=model.entry.source,
        config=model.config, licence=model.entry.licence,
    )  # fmt: skip
    spec, engine, card, split = parse_model(raw), parse_engine("vllm"), find_gpu(GPU), Split(tensor=1)
    sized = budget(spec, WORKLOAD, split, card, engine.number)
    assert sized.fits
    plan = make_plan(
        spec=spec, engine=engine, gpu=card, split=split, workload=WORKLOAD, budget=sized, created=CREATED,
        licence=judge(Declared(licence=model.entry.licence, gate="none"), repo=model.id),
    )  # fmt: skip
    return to_json(plan)


def content(path: str, data: bytes) -> object:
    """What is compared: an archive by what is in it, as zlib's bytes differ between its releases."""
    if not path.endswith(".pyz"):
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def stale() -> list[str]:
    """Paths that are not as they would be written."""
    wanted = {path: content(path, data) for path, data in chart_files().items()}
    found = {
        str(path.relative_to(CHART)): path for path in CHART.rglob("*") if path.is_file() and CHART.is_dir()
    }
    return sorted(
        path
        for path in {*wanted, *found}
        if path not in wanted or path not in found or content(path, found[path].read_bytes()) != wanted[path]
    )


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail when the chart is out of date.")
def main(check: bool) -> None:
    """Write the default plan and the chart."""
    text = plan_text()
    old = DEFAULT_PLAN.read_text(encoding="utf-8") if DEFAULT_PLAN.exists() else ""
    if old != text:
        if check:
            sys.exit(f"{DEFAULT_PLAN.relative_to(ROOT)} is not what `selfhost plan` makes. {HINT}")
        DEFAULT_PLAN.write_text(text, encoding="utf-8")
        print(f"wrote {DEFAULT_PLAN.relative_to(ROOT)}")
    changed = stale()
    if check and changed:
        print("\n".join(changed))
        sys.exit(HINT)
    files = chart_files()
    for path in changed:
        where = CHART / path
        if path in files:
            where.parent.mkdir(parents=True, exist_ok=True)
            where.write_bytes(files[path])
            print(f"wrote charts/selfhost/{path}")
        else:
            where.unlink()
            print(f"removed charts/selfhost/{path}")


if __name__ == "__main__":
    main()

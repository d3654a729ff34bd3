"""The plan whose values the chart has where nobody gives it others: a small model on one small GPU."""

from __future__ import annotations

from functools import cache

from selfhost.catalog.gpus import find_gpu
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.options.scaling import ScalingOptions
from selfhost.plan import Plan
from selfhost.workload import Split, Workload

# Ungated, apache-2.0, and for one L4 with room to spare. The commit stands in paths of the Hub's cache
# (models--Qwen--Qwen3-1.7B/snapshots/...) in many public repositories, searched on 2026-11-26.
MODEL = "Qwen/Qwen3-1.7B"
COMMIT = "70d244cc86ccca08cf5af4e1e306ecf908b1ad5e"
GPU = "l4-24gb"
ENGINE = "vllm"
WORKLOAD = Workload(max_model_len=8192, concurrency=8)
# A cluster need not have the Prometheus operator, and the release's namespace is not known here, which rules name.
OPTIONS = RenderOptions(pod_monitor=False, scaling=ScalingOptions(rules=False))
CREATED = "2026-11-26T00:00:00Z"  # no clock: equal sources give an equal chart


@cache
def default_plan() -> Plan:
    """The plan of the chart's own values, made as any other."""
    from selfhost.catalog.models import load
    from selfhost.engines import parse_engine
    from selfhost.licence import Declared, judge
    from selfhost.memory import budget
    from selfhost.model.parse import parse_model
    from selfhost.model.raw import RawModel
    from selfhost.plan import make_plan

    model, engine, gpu, split = load(MODEL), parse_engine(ENGINE), find_gpu(GPU), Split(tensor=1)
    raw = RawModel(
        reference=model.id,
        id=model.id,
        revision=COMMIT,
        origin="hub",
        source=model.entry.source,
        config=model.config,
        licence=model.entry.licence,
    )
    spec = parse_model(raw)
    return make_plan(
        spec=spec,
        engine=engine,
        gpu=gpu,
        split=split,
        workload=WORKLOAD,
        budget=budget(spec, WORKLOAD, split, gpu, engine.number),
        created=CREATED,
        licence=judge(Declared(licence=model.entry.licence, gate="none"), repo=model.id),
    )

"""Engines × targets × sizes × places of weights: what is rendered, and what is refused and why.

`refused` is as much a promise as `cases` is: a combination in it has to raise an error with a way out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from selfhost.assets import targets
from selfhost.engines import Spreads, engine_names, get_engine
from selfhost.errors import UnsupportedError
from selfhost.manifests import RenderOptions
from selfhost.manifests.options.access import AccessOptions
from selfhost.manifests.options.weights import WeightOptions
from selfhost.plan import Plan
from tests.matrices import Case, fitting

DIGEST = "@sha256:" + "ab" * 32
# Name -> GPU, its number in a group, and groups in a row; the last is on two nodes.
SIZES = {
    "one": ("h100-sxm-80gb", 1, 1),
    "two": ("h100-sxm-80gb", 2, 1),
    "eight": ("h200-sxm-141gb", 8, 1),
    "amd": ("mi300x-192gb", 1, 1),
    "nodes": ("h200-sxm-141gb", 8, 2),
}
HOST = RenderOptions(weights=WeightOptions(uri="hostpath:/srv/models"), pod_security="privileged")
WEIGHTS = {
    "claim": RenderOptions(weights=WeightOptions(uri="pvc:weights")),
    "claim-directory": RenderOptions(weights=WeightOptions(uri="pvc:weights#models/qwen")),
    "nfs": RenderOptions(weights=WeightOptions(uri="nfs://files.example/models")),
    "host": HOST,
    "image": RenderOptions(weights=WeightOptions(uri=f"oci://registry.example/qwen:1{DIGEST}")),
    "s3": RenderOptions(weights=WeightOptions(uri="s3://models/qwen", s3_secret="s3")),
    "s3-own": RenderOptions(
        weights=WeightOptions(
            uri="s3://models/qwen",
            s3_endpoint="http://minio.storage.svc:9000",
            s3_image=f"registry.example/aws:2{DIGEST}",
        )
    ),
}
SINCE = {"image": "1.31"}  # image volumes are alpha from 1.31 on and GA in 1.36 (KEP-4639)
UNRESTRICTED = {"host": "a directory of a node is a volume that *restricted* does not permit"}
# The engine's pods are made by these targets' own charts, or there are none.
CHARTS = ("helm", "llm-d", "production-stack", "compose", "systemd")
# What a target asks for whatever else is asked.
OPTIONS = {
    "gateway": RenderOptions(
        access=AccessOptions(expose="gateway", host="llm.example.org", gateway="public/gateways")
    )
}
# Engines that a target's own software starts in no other way.
ONLY = {
    "production-stack": ("vllm",),  # its chart starts `vllm serve`
    "llm-d": ("vllm", "sglang"),  # whose metrics the endpoint picker reads
    "gateway": ("vllm", "sglang"),
    "systemd": ("vllm", "sglang", "llamacpp"),  # the others run from their images alone
}
# Images whose processes are root's.
ROOT = {"tgi": "TGI's image is root's"}
# These name the model's directory in a file or a variable, which another place of weights does not reach.
FIXED = {"ollama", "triton"}
# One machine, which has its weights in a directory: what these take is in families of their own.
MACHINES = ("compose", "systemd", "hybrid")
SEVERAL = ("kserve", "lws")


@cache
def _plan(engine: str, size: str) -> Plan | None:
    """None where the engine itself refuses the GPU or the split."""
    gpu, tensor, pipeline = SIZES[size]
    try:
        return fitting(gpu, tensor=tensor, pipeline=pipeline, engine=engine)
    except UnsupportedError:
        return None


def why_not(target: str, engine: str, size: str) -> str:
    """Why a combination is refused; empty where it is rendered."""
    if engine not in ONLY.get(target, (engine,)):
        return "its software starts one engine alone"
    if size == "nodes" and target not in SEVERAL:
        return "one pod, one node"
    if size == "nodes" and not isinstance(get_engine(engine), Spreads):
        return "the engine runs on one node"
    return ""


def _sizes() -> Iterator[tuple[str, Case, bool]]:
    for target in targets():
        if target in ("monitor", "hybrid"):
            continue  # have families of their own
        for engine in engine_names():
            for size in SIZES:
                decided = _plan(engine, size)
                if decided is not None:
                    case = Case(
                        plan=decided, target=target, options=OPTIONS.get(target, RenderOptions()),
                        unrestricted="" if target in CHARTS else ROOT.get(engine, ""),
                    )  # fmt: skip
                    yield f"{target}-{engine}-{size}", case, bool(why_not(target, engine, size))


def _weights() -> Iterator[tuple[str, Case, bool]]:
    for target in targets():
        if target == "monitor":
            continue
        if target in MACHINES:
            continue
        for engine in engine_names():
            if target != "kubernetes" and engine != "vllm":
                continue  # a place of weights meets each engine once and each target once
            decided = _plan(engine, "two")
            if decided is None:
                continue
            for name, options in WEIGHTS.items():
                if target in OPTIONS:
                    options = replace(options, access=OPTIONS[target].access)
                case = Case(
                    plan=decided, target=target, options=options, since=SINCE.get(name, "1.29"),
                    unrestricted="" if target in CHARTS else UNRESTRICTED.get(name, ROOT.get(engine, "")),
                )  # fmt: skip
                no = bool(why_not(target, engine, "two")) or (
                    engine in FIXED and name not in ("claim", "nfs")
                )
                yield f"{target}-{engine}-weights-{name}", case, no


def cases() -> dict[str, Case]:
    """What is rendered."""
    return {name: case for name, case, no in (*_sizes(), *_weights()) if not no}


def refused() -> dict[str, Case]:
    """What raises an error, with what helps."""
    found = {name: case for name, case, no in (*_sizes(), *_weights()) if no}
    decided = _plan("vllm", "two")
    assert decided is not None
    found["host-restricted"] = Case(
        plan=decided, options=RenderOptions(weights=WeightOptions(uri="hostpath:/srv/models"))
    )
    shared = RenderOptions(access_mode="ReadWriteOnce")
    found["once-three-replicas"] = Case(plan=fitting("h100-sxm-80gb", replicas=3), options=shared)
    return found

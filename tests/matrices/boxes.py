"""One machine, by Compose and by systemd; and the proxy that sends some requests to a closed model."""

from __future__ import annotations

from typing import Any

from selfhost.engines import engine_names
from selfhost.manifests import RenderOptions
from selfhost.manifests.options.access import AccessOptions
from selfhost.manifests.options.box import BoxOptions
from selfhost.manifests.options.nodes import NodeOptions
from selfhost.manifests.options.proxy import ProxyOptions
from selfhost.manifests.options.weights import WeightOptions
from tests.matrices import Case, fitting
from tests.matrices.claims import on_cpu
from tests.plans import plan

KEY = AccessOptions(api_key_secret="llm-key")
CLOSED = "openai/gpt-5.6-luna"
# Images whose processes are root's.
ROOT = {"tgi": "TGI's image is root's"}
PLACES = {
    "directory": "hostpath:/srv/qwen", "volume": "pvc:models", "volume-directory": "pvc:models#qwen",
    "nfs": "nfs://files.example/models", "image": "oci://registry.example/qwen:1", "s3": "s3://models/qwen",
}  # fmt: skip


def _compose() -> dict[str, Case]:
    found = {
        "plain": Case(plan=plan(), target="compose"),
        "key": Case(plan=plan(), target="compose", options=RenderOptions(access=KEY)),
        "open": Case(plan=plan(), target="compose", options=RenderOptions(box=BoxOptions(bind="0.0.0.0"))),
        "podman": Case(plan=plan(), target="compose", options=RenderOptions(box=BoxOptions(cdi=True))),
        "named": Case(
            plan=plan(), target="compose", options=RenderOptions(box=BoxOptions(gpu_devices=("2", "3")))
        ),
        "amd": Case(plan=fitting("mi300x-192gb"), target="compose"),
        "intel": Case(plan=fitting("arc-pro-b60-24gb"), target="compose"),
        "cpu": Case(plan=on_cpu(), target="compose"),
    }
    for name, uri in PLACES.items():
        options = RenderOptions(weights=WeightOptions(uri=uri))
        found[f"weights-{name}"] = Case(plan=plan(), target="compose", options=options)
    for engine in engine_names():
        found[engine] = Case(plan=fitting("h100-sxm-80gb", engine=engine), target="compose")
    return found


def _systemd() -> dict[str, Case]:
    return {
        "plain": Case(plan=plan(), target="systemd"),
        "key": Case(plan=plan(), target="systemd", options=RenderOptions(access=KEY)),
        "open": Case(plan=plan(), target="systemd", options=RenderOptions(box=BoxOptions(bind="::"))),
        "sglang-key": Case(plan=plan(engine="sglang"), target="systemd", options=RenderOptions(access=KEY)),
        "llamacpp": Case(plan=fitting("h100-sxm-80gb", engine="llamacpp"), target="systemd"),
        "amd": Case(plan=fitting("mi300x-192gb"), target="systemd"),
        "cpu": Case(plan=on_cpu(), target="systemd"),
        "directory": Case(
            plan=plan(),
            target="systemd",
            options=RenderOptions(weights=WeightOptions(uri="hostpath:/srv/qwen")),
        ),
        "elsewhere": Case(
            plan=plan(),
            target="systemd",
            options=RenderOptions(box=BoxOptions(engine_bin="/home/llm/venv/bin/vllm")),
        ),
    }


def hybrid(**changes: Any) -> RenderOptions:
    """Options of the proxy; `access` and others stand beside them."""
    access = changes.pop("access", AccessOptions())
    return RenderOptions(proxy=ProxyOptions(**{"fallback_model": CLOSED, **changes}), access=access)


def _hybrid() -> dict[str, Case]:
    gateway = AccessOptions(
        expose="gateway", host="llm.example.org", gateway="public/gateways", api_key_secret="llm-key"
    )
    found = {
        "plain": hybrid(),
        "home-alone": hybrid(fallback_model=None),
        "simple": hybrid(route_by="simple", simple_tokens=500, complex_words=("prove", "step by step")),
        "header": hybrid(route_by="header"),
        "budget": hybrid(budget="100", budget_period="7d", fallback_price="1.25,10"),
        "clocks": hybrid(proxy_timeout=60, proxy_retries=0, cooldown=5, proxy_replicas=1),
        "elsewhere": hybrid(
            fallback_base="https://llm.example.org:8443/v1", proxy_image="registry.example/litellm:1"
        ),
        "gateway": hybrid(access=gateway),
    }
    cases = {name: Case(plan=plan(), target="hybrid", options=options) for name, options in found.items()}
    for engine in engine_names():
        cases[engine] = Case(
            plan=fitting("h100-sxm-80gb", engine=engine), target="hybrid", options=hybrid(),
            unrestricted=ROOT.get(engine, ""),
        )  # fmt: skip
    cases["replicas"] = Case(plan=plan(replicas=3), target="hybrid", options=hybrid())
    return cases


def cases() -> dict[str, Case]:
    """What is rendered."""
    families = {"compose": _compose(), "systemd": _systemd(), "hybrid": _hybrid()}
    return {f"{target}-{name}": case for target, family in families.items() for name, case in family.items()}


def refused() -> dict[str, Case]:
    """What raises an error, with what helps."""
    found = {}
    for target in ("compose", "systemd"):
        found[f"{target}-replicas"] = Case(plan=plan(replicas=2), target=target)
        found[f"{target}-nodes"] = Case(plan=plan(tensor=16), target=target)
        found[f"{target}-mig"] = Case(plan=fitting("h100-sxm-80gb:3g.40gb"), target=target)
        found[f"{target}-ray"] = Case(
            plan=plan(), target=target, options=RenderOptions(nodes=NodeOptions(ray=True))
        )
        found[f"{target}-namespace"] = Case(
            plan=plan(), target=target, options=RenderOptions(namespace="other")
        )
    found["systemd-triton"] = Case(plan=fitting("h100-sxm-80gb", engine="triton"), target="systemd")
    for name, uri in PLACES.items():
        if name != "directory":
            options = RenderOptions(weights=WeightOptions(uri=uri))
            found[f"systemd-weights-{name}"] = Case(plan=plan(), target="systemd", options=options)
    ingress = AccessOptions(expose="ingress", host="llm.example.org")
    found["hybrid-ingress"] = Case(plan=plan(), target="hybrid", options=hybrid(access=ingress))
    for target in ("kubernetes", "lws", "compose"):
        found[f"{target}-proxy"] = Case(plan=plan(), target=target, options=hybrid())
    found["kubernetes-box"] = Case(plan=plan(), options=RenderOptions(box=BoxOptions(bind="0.0.0.0")))
    return found

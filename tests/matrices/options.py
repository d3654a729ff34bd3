"""The options that belong to no group: alone and in pairs, on one GPU and on two, with one replica and with three."""

from __future__ import annotations

from itertools import combinations

from selfhost.engines import parse_image
from selfhost.manifests import RenderOptions
from selfhost.plan import Plan
from selfhost.workload import Workload
from tests.matrices import Case
from tests.plans import plan

DIGEST = "@sha256:" + "ab" * 32
OPTIONS: dict[str, dict[str, object]] = {
    "default": {},
    "namespace": {"namespace": "models"},
    "image": {"image": f"mirror.example:5000/vllm/vllm-openai:v0.32.0{DIGEST}"},
    "pull-image": {"pull_image": f"mirror.example:5000/selfhost:0.1.0{DIGEST}"},
    "storage": {"storage_class": "fast", "access_mode": "ReadWriteMany"},
    "secret": {"token_secret": "hub"},
    "mirror": {"hub_endpoint": "http://hub.models.svc:8765"},
    "gateway": {"gateway_namespace": "gateway"},
    "monitoring": {"monitoring_namespace": "prometheus"},
    "no-monitor": {"pod_monitor": False},
    "surge": {"surge": True, "access_mode": "ReadWriteMany"},
    "writable": {"read_only_root": False},
}
OTHER = ("old-engine", "image")  # the image is that of another release
WRITABLE = frozenset({"CKV_K8S_22"})


def plans() -> dict[str, Plan]:
    """What the options meet."""
    return {
        "one": plan(gpu="h200-sxm-141gb", tensor=1),
        "two": plan(),
        "three-replicas": plan(replicas=3),
        "unpinned": plan(model={"origin": "catalogue", "revision": None}),
        "directory": plan(
            model={"id": "/data/tiny llama", "origin": "directory", "revision": None}, tensor=1
        ),
        "digest": plan(replicas=2, image=parse_image(f"vllm/vllm-openai:v0.32.0{DIGEST}")),
        "old-engine": plan(engine="vllm@0.11", workload=Workload(max_model_len=16384, kv_dtype="fp8")),
    }


def cases() -> dict[str, Case]:
    """Each option with each plan, and each pair of options with one of the plans in turn."""
    made = plans()
    found = {}
    for plan_name, decided in made.items():
        for name, values in OPTIONS.items():
            if (plan_name, name) == OTHER:
                continue
            found[f"{plan_name}-{name}"] = _case(decided, values)
    names = list(made)
    for number, (first, second) in enumerate(combinations(list(OPTIONS)[1:], 2)):
        plan_name = names[number % len(names)]
        if plan_name == OTHER[0] and OTHER[1] in (first, second):
            plan_name = names[0]
        found[f"{plan_name}-{first}-{second}"] = _case(made[plan_name], OPTIONS[first] | OPTIONS[second])
    return found


def _case(decided: Plan, values: dict[str, object]) -> Case:
    options = RenderOptions(**values)  # type: ignore[arg-type]
    return Case(plan=decided, options=options, beyond=frozenset() if options.read_only_root else WRITABLE)

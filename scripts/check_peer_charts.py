"""Render other projects' real charts with our values and hold the pods against the plans they are made of.

`python scripts/check_peer_charts.py --helm HELM CHART...`: each CHART is a folder of llm-d-modelservice, vllm-stack or
inferencepool, or KServe's config/llmisvcconfig, brought here by whoever runs this; none of them is part of selfhost.
HELM and kubectl beside it come from scripts/get_helm.py. Nothing is installed and no cluster is asked.

KServe's presets are merged as its controller does it, strategically; kubectl does the same to a Deployment.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

# Chart -> target, the values that are for it, and what its release adds to the plan's name.
CHARTS = {
    "llm-d-modelservice": ("llm-d", "values.yaml", ""),
    "inferencepool": ("llm-d", "inferencepool-values.yaml", "-pool"),
    "vllm-stack": ("production-stack", "values.yaml", ""),
}
# What vllm-stack says beside the plan's own arguments (production_stack.py lists it among the gaps).
CHART_FLAGS = {("--host", "0.0.0.0"), ("--enable-prefix-caching", "")}
# Text that means something to YAML, Go's templates, Kubernetes or a shell.
HOSTILE = ('{{ .Values.x }} "q" ', "a: b # {{`", "$(HOME) $x `id`", "{{{ - }}", "line\nbreak\t\u00e9\u2028")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """One case: our objects, the chart's, and the view they come from."""

    ours: list[Any]
    theirs: list[Any]
    view: Any
    files: Path
    restricted: bool


def prepared(chart: Path, folder: Path) -> tuple[str, Path]:
    """Name of a chart, and a copy of it without dependencies that are off by default."""
    copy = folder / chart.name
    shutil.copytree(chart, copy)
    about = yaml.safe_load((copy / "Chart.yaml").read_text(encoding="utf-8"))
    kept = [item for item in about.get("dependencies", ()) if "condition" not in item]
    about = {**about, "dependencies": kept, "version": about["version"].replace("0.0.0", "1.5.0")}
    (copy / "Chart.yaml").write_text(yaml.safe_dump(about), encoding="utf-8")
    (copy / "Chart.lock").unlink(missing_ok=True)
    if not any((copy / "charts").glob("*")):
        for item in kept:  # a chart of the same checkout
            beside = (chart / item["repository"].removeprefix("file://")).resolve()
            shutil.copytree(beside, copy / "charts" / beside.name)
    return str(about["name"]), copy


def cases(target: str) -> Iterator[tuple[str, Any]]:
    """The matrix's cases of a target, and some with hostile text in them."""
    from selfhost.engines import Argument, EnvVar
    from tests.matrix import CASES, Case
    from tests.plans import plan

    for name, case in CASES.items():
        if case.target == target:
            yield name, case
    for number, text in enumerate(HOSTILE):
        made = plan()
        word = Argument(flag="--chat-template", value=text, because="hostile")
        variable = EnvVar(name="HOSTILE", value=text, because="hostile")
        engine = replace(made.engine, args=(*made.engine.args, word), env=(*made.engine.env, variable))
        yield f"hostile-{number}", Case(plan=replace(made, engine=engine), target=target)


def rendered(helm: str, chart: str, folder: Path, case: Any) -> Rendered:
    """Our files, and what the chart makes of them."""
    from importlib import import_module

    from selfhost.manifests import render, write_manifests

    (target, values, suffix), plan, options = CHARTS[chart], case.plan, case.options
    out = Path(tempfile.mkdtemp(dir=folder.parent)) / "out"
    manifests = render(plan, target=target, options=options)
    write_manifests(manifests, out)
    words = [
        helm,
        "template",
        plan.name + suffix,
        str(folder),
        "-n",
        options.namespace,
        "-f",
        str(out / values),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    ours = [yaml.safe_load(document.text) for document in manifests.documents if document.is_object]
    theirs = [item for item in yaml.safe_load_all(done.stdout) if item]
    view = import_module(f"selfhost.manifests.{target.replace('-', '_')}").view(plan, options)
    return Rendered(
        ours=ours, theirs=theirs, view=view, files=out, restricted=options.pod_security == "restricted"
    )


def merged(kubectl: str, presets: Path, folder: Path, case: Any) -> Rendered:
    """An LLMInferenceService of one node laid over KServe's preset, as the Deployment that KServe makes of it."""
    from selfhost.manifests import render
    from selfhost.manifests.kserve import view

    preset = yaml.safe_load((presets / "config-llm-template.yaml").read_text(encoding="utf-8"))
    manifests = render(case.plan, target="kserve", options=case.options)
    ours = [yaml.safe_load(document.text) for document in manifests.documents if document.is_object]
    (asked,) = kind(ours, "LLMInferenceService")
    shown, labels = (
        view(case.plan, case.options),
        {"kserve.io/component": "workload"} | asked["spec"]["labels"],
    )
    whole = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": shown.workload.removeprefix("deployment/"), "namespace": shown.namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": preset["spec"]["template"]},
        },
    }
    base, patch = folder / "preset.json", folder / "patch.json"
    text = json.dumps(whole).replace("{{ if .GlobalConfig.EnableTLS }}HTTPS{{else}}HTTP{{- end }}", "HTTP")
    base.write_text(text, encoding="utf-8")
    patch.write_text(
        json.dumps({"spec": {"template": {"spec": asked["spec"]["template"]}}}), encoding="utf-8"
    )
    words = [kubectl, "patch", "--local", "-f", str(base), "--patch-file", str(patch), "-o", "json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    # What is left of Go's templates: ours, which print what they hold, and the name of a Secret.
    text = done.stdout.replace("{{`{{`}}", "{{").replace(
        "{{ ChildName .ObjectMeta.Name `-kserve-self-signed-certs` }}", "x"
    )
    return Rendered(ours=ours, theirs=[json.loads(text)], view=shown, files=folder, restricted=True)


def kserve_cases() -> Iterator[tuple[str, Any]]:
    """Those of the matrix that become an LLMInferenceService of one node, and the hostile ones."""
    from selfhost.manifests import RenderOptions
    from selfhost.manifests.options.kserve import KserveOptions

    asked = RenderOptions(
        surge=True, access_mode="ReadWriteMany", kserve=KserveOptions(kind="LLMInferenceService")
    )
    for name, case in cases("kserve"):
        if name.startswith("hostile"):
            yield name, replace(case, options=asked)
        elif case.options.kserve.kind == "LLMInferenceService" and not case.options.nodes.several(case.plan):
            yield name, case


def kserve_problems(found: Rendered) -> Iterator[str]:
    """The merged Deployment starts the plan's words, ends by one handler, and is selected by what stands beside."""
    from tests.validators import problems

    (deployment,) = found.theirs
    yield from problems(deployment)
    yield from pod_problems(replace(found, view=found.view), deployment, exact=True)
    yield from selector_problems(found, deployment)
    spec = deployment["spec"]["template"]["spec"]
    if len(spec["containers"]) != 1 or len(spec["containers"][0]["lifecycle"]["preStop"]) != 1:
        yield "more than one container, or two ways to end"
    if spec["terminationGracePeriodSeconds"] != found.view.server.grace.value:
        yield "another time to end"


def kind(objects: list[Any], name: str) -> list[Any]:
    """Objects of a kind."""
    return [item for item in objects if item["kind"] == name]


def server(found: Rendered) -> Any:
    """The Deployment of the engine."""
    (one,) = (
        item for item in kind(found.theirs, "Deployment") if item["metadata"]["name"] == found.view.workload
    )
    return one


def flags(words: list[str]) -> list[tuple[str, str]]:
    """Arguments as pairs, however they are spelled; sorted."""
    pairs, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            pairs.append(("", word))
        elif "=" in word:
            name, _, value = word.partition("=")
            pairs.append((name, value))
        else:
            takes = bool(rest) and not rest[0].startswith("--")
            pairs.append((word, rest.pop(0) if takes else ""))
    return sorted(pairs)


def problems_of(found: Rendered, chart: str, kubectl: str) -> Iterator[str]:
    """What is wrong with a case."""
    from tests.validators import problems

    for item in found.theirs:
        item["metadata"].setdefault("namespace", found.view.namespace)
        yield from problems(item)
    if chart == "inferencepool":
        yield from pool_problems(found)
        return
    deployment = server(found)
    if chart == "vllm-stack":
        yield from patched_problems(found, deployment, kubectl)
    yield from pod_problems(found, deployment, exact=chart == "llm-d-modelservice")
    yield from selector_problems(found, deployment)


def pool_problems(found: Rendered) -> Iterator[str]:
    """The pool is called as our route says, and selects the model's pods."""
    (pool,) = kind(found.theirs, "InferencePool")
    if pool["metadata"]["name"] != found.view.pool:
        yield f"the pool is called {pool['metadata']['name']}"
    wanted = {pair.key: pair.value for pair in found.view.selector} | {"llm-d.ai/inference-serving": "true"}
    if pool["spec"]["selector"]["matchLabels"] != wanted:
        yield f"the pool selects {pool['spec']['selector']}"


def patched_problems(found: Rendered, deployment: Any, kubectl: str) -> Iterator[str]:
    """The patch applies, and gives a whole pod."""
    from tests.validators import problems

    path = found.files.parent / "deployment.yaml"
    path.write_text(yaml.safe_dump(deployment), encoding="utf-8")
    patch = found.files / "patch-deployment.yaml"
    words = [kubectl, "patch", "--local", "-f", str(path), "--patch-file", str(patch), "-o", "json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        yield done.stderr.strip()
        return
    patched = json.loads(done.stdout)
    yield from problems(patched)
    spec = patched["spec"]["template"]["spec"]
    container = spec["containers"][0]
    if spec["terminationGracePeriodSeconds"] != found.view.server.grace.value or "lifecycle" not in container:
        yield "the patch does not bring the drain"
    if len(spec["containers"]) != 1 or spec["enableServiceLinks"] is not False:
        yield "the patch brings something else"


def pod_problems(found: Rendered, deployment: Any, *, exact: bool) -> Iterator[str]:
    """Arguments, variables, accelerators, probes, memory and rights are the plan's."""
    from tests.podsecurity import violations

    spec, wanted = deployment["spec"]["template"]["spec"], planned_pod(found).containers[0]
    if found.restricted:
        yield from violations(deployment)
    container = spec["containers"][0]
    yield from word_problems(container, wanted, exact=exact)
    resources, probes = container["resources"], wanted.probes
    for device in wanted.devices:
        if {resources[which].get(device.name) for which in ("requests", "limits")} != {device.count.value}:
            yield f"{device.name}: {resources}"
    if resources["limits"]["memory"] != wanted.memory_limit.value:
        yield f"memory: {resources}"
    start = container["startupProbe"]
    if (
        start["failureThreshold"] * start["periodSeconds"]
        < probes.startup_failures.value * probes.period.value
    ):
        yield "the start has less time than the plan gives it"
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        if container[name]["timeoutSeconds"] < probes.timeout.value:
            yield f"{name} has little patience"
    yield from shared_memory_problems(found, spec)
    if spec["serviceAccountName"] != found.view.name:
        yield "another service account"


def planned_pod(found: Rendered) -> Any:
    """The pod that the chart is asked for; llm-d's decode, which is the whole server where prefill is not apart."""
    role = getattr(found.view, "decode", None)
    return found.view.server if role is None else role.pod


def word_problems(container: Any, wanted: Any, *, exact: bool) -> Iterator[str]:
    """The command, its arguments and the environment."""
    args = [arg.value for arg in wanted.args]
    said = [*container["command"], *container.get("args", ())]
    if exact and said != [*wanted.command, *args]:
        yield f"starts {said}"
    if not exact:
        extra = set(flags(said[2:])) ^ set(flags(args))
        if said[:2] != list(wanted.command) or not extra <= CHART_FLAGS:
            yield f"arguments differ in {sorted(extra - CHART_FLAGS)}"
    known = {item["name"]: item.get("value") for item in container["env"]}
    for variable in wanted.env:
        if (
            variable.value is not None
            and variable.name != "HF_HOME"
            and known.get(variable.name) != variable.value
        ):
            yield f"{variable.name} is {known.get(variable.name)!r}"


def shared_memory_problems(found: Rendered, spec: Any) -> Iterator[str]:
    """One volume in memory is at /dev/shm, as large as planned."""
    mounts = spec["containers"][0]["volumeMounts"]
    volumes = {item["name"]: item.get("emptyDir") or {} for item in spec["volumes"]}
    there = [volumes[mount["name"]] for mount in mounts if mount["mountPath"] == "/dev/shm"]
    planned = [
        item.empty.size.value for item in planned_pod(found).volumes if item.empty and item.empty.memory
    ]
    if there != [{"medium": "Memory", "sizeLimit": size} for size in planned]:
        yield f"/dev/shm is {there}, planned {planned}"


def selector_problems(found: Rendered, deployment: Any) -> Iterator[str]:
    """What stands beside finds the chart's pods and its Deployment."""
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    spec = deployment["spec"]["template"]["spec"]
    every = [*spec["containers"], *spec.get("initContainers", ())]
    ports = {port["name"] for container in every for port in container.get("ports", ())}
    for item in found.ours:
        name = f"{item['kind']} {item['metadata']['name']}"
        if item["kind"] in ("PodDisruptionBudget", "PodMonitor", "NetworkPolicy"):
            where = item["spec"].get("selector") or item["spec"]["podSelector"]
            download = where["matchLabels"].get("app.kubernetes.io/component") == "download"
            if not download and not where["matchLabels"].items() <= labels:
                yield f"{name} selects {where}"
        if (
            item["kind"] == "PodMonitor"
            and not {one["port"] for one in item["spec"]["podMetricsEndpoints"]} <= ports
        ):
            yield f"{name} reads a port that is not among {ports}"
        if item["kind"] in ("ScaledObject", "HorizontalPodAutoscaler"):
            aim = item["spec"]["scaleTargetRef"]["name"]
            if aim != deployment["metadata"]["name"]:
                yield f"{name} scales {aim}"
        if item["kind"] == "HTTPRoute":
            yield from route_problems(found, item)


def route_problems(found: Rendered, route: Any) -> Iterator[str]:
    """A route leads to a Service that the chart makes."""
    (backend,) = route["spec"]["rules"][0]["backendRefs"]
    services = {item["metadata"]["name"] for item in kind(found.theirs, "Service")}
    if backend["kind"] == "Service" and backend["name"] not in services:
        yield f"the route leads to {backend['name']}, which is not among {services}"


def main() -> int:
    """Check every chart that was named; 1 where something is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--helm", required=True, help="helm, with kubectl beside it")
    parser.add_argument("charts", nargs="+", type=Path, metavar="CHART")
    asked = parser.parse_args()
    kubectl, bad, count = str(Path(asked.helm).parent / "kubectl"), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for chart in asked.charts:
            presets = (chart / "config-llm-template.yaml").is_file()
            name, copy = ("kserve", chart) if presets else prepared(chart.resolve(), Path(folder))
            if name not in CHARTS and not presets:
                parser.error(f"{chart} is the chart {name}, which nothing is rendered for")
            for label, case in kserve_cases() if presets else cases(CHARTS[name][0]):
                count += 1
                try:
                    if presets:
                        found = list(kserve_problems(merged(kubectl, chart, Path(folder), case)))
                    else:
                        found = list(problems_of(rendered(asked.helm, name, copy, case), name, kubectl))
                except RuntimeError as error:
                    found = [str(error)]
                bad += bool(found)
                for problem in found:
                    print(f"{name} {label}: {problem}")
    print(f"{count} renders of {len(asked.charts)} charts, {bad} with problems")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

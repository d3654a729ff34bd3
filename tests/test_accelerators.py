"""Platforms as data: what is planned, imaged and asked for on each, and how claims choose devices."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from selfhost.catalog.accelerators import PLATFORMS, accelerator, accelerators, platform_of
from selfhost.catalog.gpus import Gpu, find_gpu, gpus, main_memory, searched
from selfhost.engines import get_engine, parse_engine
from selfhost.errors import SelfhostError, UnknownGpuError, UnsupportedError, UsageError
from selfhost.manifests import RenderOptions, render
from selfhost.manifests.accelerators import CLAIM, DeviceRequest, devices
from selfhost.manifests.options.gpus import GpuOptions
from selfhost.memory import budget
from selfhost.plan import Plan, from_json, to_json
from selfhost.units import GIB, MIB
from selfhost.workload import Split, Workload
from tests.conftest import Cli
from tests.matrices import fitting
from tests.matrices.claims import GAUDI, cases, on_cpu
from tests.plans import plan, spec


def options(**changes: Any) -> RenderOptions:
    return RenderOptions(gpus=GpuOptions(**changes))


def objects(made: Plan, **changes: Any) -> dict[str, Any]:
    """What is rendered, by kind."""
    texts = [one.text for one in render(made, options=options(**changes)).documents if one.is_object]
    return {item["kind"]: item for text in texts for item in yaml.safe_load_all(text)}


def server(made: Plan, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pod's spec and its main container."""
    pod = objects(made, **changes)["Deployment"]["spec"]["template"]["spec"]
    return pod, pod["containers"][0]


def product(pod: dict[str, Any]) -> tuple[str, list[str]]:
    term = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (rule,) = term["nodeSelectorTerms"][0]["matchExpressions"]
    return rule["key"], rule["values"]


class TestData:
    def test_every_platform_has_its_facts(self) -> None:
        assert [one.platform for one in accelerators()] == list(PLATFORMS)
        for one in accelerators():
            assert one.source
            assert one.checked.startswith("2026-")
            assert bool(one.groups) == bool(one.groups_because)
            assert one.claims is None or one.claims.source.startswith("https://")

    def test_every_gpu_has_a_platform_of_its_vendor(self) -> None:
        for gpu in gpus():
            assert accelerator(gpu.platform).vendor == gpu.vendor
            assert gpu.resource in accelerator(gpu.platform).resources

    def test_only_compared_platforms_are_searched(self) -> None:
        assert {gpu.platform for gpu in searched()} == {"cuda", "rocm"}
        assert {gpu.platform for gpu in gpus()} == {"cuda", "rocm", "xpu", "hpu"}

    def test_old_plans_know_their_platform_by_the_vendor(self) -> None:
        document = json.loads(to_json(plan(gpu="mi300x-192gb", tensor=1)))
        del document["gpu"]["platform"]
        old = from_json(json.dumps(document))
        assert old.gpu.platform is None
        assert old.gpu.on == "rocm"
        with pytest.raises(UnsupportedError):
            platform_of("Intel")


class TestEstimates:
    """Where CUDA's rules stand in, the size says so and is held wider."""

    @pytest.mark.parametrize("gpu_id", ["gaudi3-128gb", "arc-pro-b60-24gb"])
    def test_the_certainty_is_wider_by_a_tenth_of_the_memory(self, gpu_id: str) -> None:
        gpu, load = find_gpu(gpu_id), Workload(max_model_len=4096)
        found = budget(spec(), load, Split(tensor=8), gpu)
        twin = budget(spec(), load, Split(tensor=8), replace(gpu, vendor="NVIDIA", platform="cuda"))
        assert found.certainty_bytes is not None
        assert twin.certainty_bytes is not None
        assert abs(found.certainty_bytes - twin.certainty_bytes - gpu.memory_bytes // 10) < GIB
        assert found.weights_bytes == twin.weights_bytes

    def test_the_plan_says_whose_rules_they_are(self) -> None:
        sizing = fitting("arc-pro-b60-24gb").provenance.sizing
        assert sizing is not None
        assert "rules of CUDA" in sizing
        assert fitting("h100-sxm-80gb").provenance.sizing is None

    @pytest.mark.parametrize(
        ("gpu_id", "load", "words"),
        [
            ("arc-pro-b60-24gb", {"max_loras": 2}, "--max-loras"),
            ("gaudi3-128gb", {"kv_dtype": "fp8"}, "KV cache of fp8"),
            ("gaudi3-128gb", {"speculative_tokens": 2}, "--speculative-tokens"),
            ("arc-pro-b60-24gb", {"quantization": "nvfp4"}, "nvfp4"),
        ],
    )
    def test_what_is_not_known_there_is_refused(self, gpu_id: str, load: dict[str, Any], words: str) -> None:
        with pytest.raises(UnsupportedError) as error:
            fitting(gpu_id, image=GAUDI, workload=Workload(max_model_len=4096, **load))
        assert words in error.value.message
        assert error.value.hint


class TestVllm:
    @pytest.mark.parametrize(
        ("platform", "repository"),
        [
            ("cuda", "vllm/vllm-openai"),
            ("rocm", "vllm/vllm-openai-rocm"),
            ("xpu", "vllm/vllm-openai-xpu"),
            ("cpu", "vllm/vllm-openai-cpu"),
        ],
    )
    def test_images(self, platform: Any, repository: str) -> None:
        assert get_engine("vllm").image(parse_engine("vllm"), platform).repository == repository

    @pytest.mark.parametrize(
        ("engine", "platform"), [("vllm@0.32", "hpu"), ("vllm@0.25", "xpu"), ("vllm@0.18", "cpu")]
    )
    def test_an_image_that_nobody_published_is_refused_with_the_way_out(
        self, engine: str, platform: Any
    ) -> None:
        with pytest.raises(UnsupportedError) as error:
            get_engine("vllm").image(parse_engine(engine), platform)
        assert "--image" in (error.value.hint or "")

    def test_a_gaudi_plan_takes_a_named_image(self) -> None:
        made = fitting("gaudi3-128gb", tensor=8, image=GAUDI)
        env = {one.name: one.value for one in made.engine.env}
        assert env["PT_HPU_ENABLE_LAZY_COLLECTIVES"] == "true"
        pod, container = server(made)
        assert container["resources"]["limits"]["habana.ai/gaudi"] == "8"
        assert product(pod) == ("intel.feature.node.kubernetes.io/gaudi", ["true"])

    def test_on_a_cpu_the_cache_is_fixed_and_the_limit_holds_it(self) -> None:
        made = on_cpu()
        env = {one.name: one.value for one in made.engine.env}
        needed = made.memory.kv_needed_bytes // GIB
        assert needed <= int(env["VLLM_CPU_KVCACHE_SPACE"]) <= (made.memory.kv_available_bytes or 0) // GIB
        assert env["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
        assert made.pod.memory_bytes.value > made.gpu.memory_bytes
        flags = {word.flag for word in made.engine.args}
        assert not flags & {"--gpu-memory-utilization", "--kv-cache-memory-bytes"}

    @pytest.mark.parametrize("machine", ["amd64", "arm64"])
    def test_a_cpu_pod_asks_for_no_device(self, machine: str) -> None:
        pod, container = server(on_cpu(machine))
        assert not any("/" in name for name in container["resources"]["limits"])
        assert product(pod) == ("kubernetes.io/arch", [machine])
        assert "tolerations" not in pod

    def test_a_cpu_is_one_rank(self) -> None:
        card = main_memory(64 * GIB)
        with pytest.raises(UnsupportedError, match="one rank"):
            plan(card=card, split=Split(tensor=2))


class TestHandingOut:
    def test_the_device_plugin_counts(self) -> None:
        found = devices(plan(), options())
        assert [(one.name, one.count.value) for one in found.resources] == [("nvidia.com/gpu", "2")]
        assert not found.claims
        assert found.template is None
        assert not found.said

    def test_one_pod_of_several_asks_for_its_own(self) -> None:
        found = devices(plan(), options(), gpus=1)
        assert found.resources[0].count.value == "1"
        assert "1 of them in this pod" in found.resources[0].count.because

    def test_amd_says_what_is_not_restricted(self) -> None:
        found = devices(plan(gpu="mi300x-192gb", tensor=1), options())
        assert found.groups == (44, 109)
        assert any("restricted" in line for line in found.said)

    @pytest.mark.parametrize(
        ("strategy", "resource", "label"),
        [
            (None, "nvidia.com/mig-3g.40gb", "nvidia.com/mig-3g.40gb.product"),
            ("mixed", "nvidia.com/mig-3g.40gb", "nvidia.com/mig-3g.40gb.product"),
            ("single", "nvidia.com/gpu", "nvidia.com/gpu.product"),
        ],
    )
    def test_mig_strategies(self, strategy: Any, resource: str, label: str) -> None:
        pod, container = server(fitting("h100-sxm-80gb:3g.40gb"), mig_strategy=strategy)
        assert container["resources"]["limits"][resource] == "1"
        assert product(pod) == (label, ["NVIDIA-H100-80GB-HBM3-MIG-3g.40gb"])

    def test_time_slicing_says_whether_a_second_one_can_start(self) -> None:
        shared = "nvidia.com/gpu.shared"
        full = fitting("l4-24gb")
        found = devices(full, options(gpu_resource=shared))
        assert found.resources[0].name == shared
        assert any("second one cannot start" in line for line in found.said)
        half = replace(full, memory=replace(full.memory, utilization=0.45))
        assert any("0.45 of a GPU" in line for line in devices(half, options(gpu_resource=shared)).said)

    @pytest.mark.parametrize(
        ("made", "changes"),
        [
            (plan, {"gpu_resource": "nvidia.com/gpu.shared"}),
            (plan, {"mig_strategy": "single"}),
            (lambda: fitting("h100-sxm-80gb:3g.40gb"), {"gpu_resource": "nvidia.com/gpu"}),
            (on_cpu, {"dra": True}),
            (on_cpu, {"gpu_resource": "nvidia.com/gpu"}),
        ],
    )
    def test_options_that_the_plan_has_no_use_for(self, made: Any, changes: dict[str, Any]) -> None:
        with pytest.raises(UsageError) as error:
            devices(made(), options(**changes))
        assert error.value.hint

    @pytest.mark.parametrize(
        "changes",
        [
            {"or_gpus": ("h200-sxm-141gb",)},
            {"dra": True, "gpu_resource": "nvidia.com/gpu"},
            {"dra": True, "mig_strategy": "single"},
            {"gpu_resource": "gpu"},
            {"gpu_resource": "a b/c"},
            {"mig_strategy": "none"},
            {"dra": True, "or_gpus": ("a", "a")},
            {"dra": True, "or_gpus": tuple("abcdefgh")},
        ],
    )
    def test_options_that_contradict_each_other(self, changes: dict[str, Any]) -> None:
        with pytest.raises(UsageError):
            GpuOptions(**changes)


class TestClaims:
    def test_a_claim_takes_the_place_of_counting(self) -> None:
        made = plan()
        pod, container = server(made, dra=True)
        assert not any("/" in name for name in container["resources"]["limits"])
        assert container["resources"]["claims"] == [{"name": CLAIM}]
        template = objects(made, dra=True)["ResourceClaimTemplate"]
        assert pod["resourceClaims"] == [
            {"name": CLAIM, "resourceClaimTemplateName": template["metadata"]["name"]}
        ]
        assert template["apiVersion"] == "resource.k8s.io/v1"
        (request,) = template["spec"]["spec"]["devices"]["requests"]
        assert request["exactly"]["count"] == 2
        assert request["exactly"]["deviceClassName"] == "gpu.nvidia.com"
        assert "nodeAffinity" not in (pod.get("affinity") or {})

    def test_a_prioritized_list_begins_with_the_plans_own(self) -> None:
        template = objects(plan(), dra=True, or_gpus=("h200-sxm-141gb",))["ResourceClaimTemplate"]
        (request,) = template["spec"]["spec"]["devices"]["requests"]
        first, second = request["firstAvailable"]
        assert "H100" in first["selectors"][0]["cel"]["expression"]
        assert "H200" in second["selectors"][0]["cel"]["expression"]
        assert len({first["name"], second["name"]}) == 2

    @pytest.mark.parametrize(
        ("other", "words"),
        [
            ("a100-sxm-80gb", "kernels"),
            ("l4-24gb", "less than was planned for"),
            ("mi300x-192gb", "image"),
            ("h100-pcie-80gb", "own GPU"),
            ("no-such-gpu", "No GPU"),
        ],
    )
    def test_an_alternative_has_to_hold_the_plan(self, other: str, words: str) -> None:
        with pytest.raises(SelfhostError) as error:
            devices(fitting("h100-pcie-80gb"), options(dra=True, or_gpus=(other,)))
        assert words in error.value.message
        assert error.value.hint

    @pytest.mark.parametrize("name", sorted(name for name in cases() if name.startswith("dra-")))
    def test_expressions_choose_the_planned_product_alone(self, name: str) -> None:
        case = cases()[name]
        found = devices(case.plan, case.options).template
        assert found is not None
        requests = found.first_available or (found.exactly,)
        wanted = (case.plan.gpu.id, *case.options.gpus.or_gpus)
        for request, gpu_id in zip(requests, wanted, strict=True):
            assert request is not None
            chosen = {one.id for one in (*gpus(), find_gpu(gpu_id)) if admits(request, one)}
            assert gpu_id in chosen
            names = {find_gpu(one).aliases for one in chosen}
            assert names == {find_gpu(gpu_id).aliases}

    def test_a_device_with_less_memory_is_not_taken(self) -> None:
        found = devices(plan(), options(dra=True)).template
        assert found is not None
        assert found.exactly is not None
        whole = find_gpu("h100-sxm-80gb")
        assert admits(found.exactly, whole)
        assert not admits(found.exactly, replace(whole, reported_bytes=40 * GIB))


class Quantity(int):
    """What CEL's quantity() makes of whole mebibytes."""

    def compareTo(self, other: int) -> int:  # noqa: N802
        return (self > other) - (self < other)


def admits(request: DeviceRequest, gpu: Gpu) -> bool:
    """Whether the expressions are true of a device as its driver publishes it; CEL's subset here is Python's too."""
    by = accelerator(gpu.platform).claims
    if by is None or request.device_class != (by.mig_class if gpu.mig_profile else by.device_class):
        return False
    product = {"alias": gpu.aliases[0], "label": gpu.node_label[1]}.get(by.spelling, gpu.device)
    attributes = SimpleNamespace(**{by.attribute: product, "profile": gpu.mig_profile})
    device = SimpleNamespace(
        attributes={by.driver: attributes},
        capacity={by.driver: SimpleNamespace(memory=Quantity(gpu.reported_bytes))},
    )
    names = {"device": device, "quantity": lambda text: Quantity(int(text.removesuffix("Mi")) * MIB)}
    return all(eval(one.value, {"__builtins__": {}}, names) for one in request.selectors)


class TestCli:
    def test_a_cpu_needs_its_memory(self) -> None:
        with pytest.raises(UnknownGpuError) as error:
            find_gpu("cpu")
        assert "--gpu-memory" in (error.value.hint or "")

    def test_from_a_cpu_to_manifests(self, cli: Cli, tmp_path: Path) -> None:
        file, folder = tmp_path / "plan.json", tmp_path / "out"
        planned = cli(
            "plan", "HuggingFaceTB/SmolLM2-360M-Instruct", "--gpu", "cpu-arm64", "--gpu-memory", "16GiB",
            "--context", "2k", "-o", file,
        )  # fmt: skip
        assert planned.code == 0, planned.err
        assert "estimate" in planned.out
        rendered = cli("render", file, "-o", folder)
        assert rendered.code == 0, rendered.err
        text = (folder / "50-deployment.yaml").read_text(encoding="utf-8")
        assert "vllm/vllm-openai-cpu:v0.32.0" in text
        assert "arm64" in text

    def test_gaudi_without_an_image_is_refused_and_with_one_planned(self, cli: Cli, tmp_path: Path) -> None:
        words = ("plan", "Qwen/Qwen3-8B", "--gpu", "gaudi3", "--context", "4k", "-o", tmp_path / "plan.json")
        refused = cli(*words)
        assert refused.code == 1
        assert "--image" in refused.err
        assert cli(*words, "--image", "registry.example/vllm-gaudi:0.16.0").code == 0

    def test_without_a_name_only_compared_gpus_are_searched(self, cli: Cli) -> None:
        found = cli("plan", "Qwen/Qwen3-8B", "--context", "4k", "--json")
        facts = json.loads(found.out)
        assert not {"gaudi2-96gb", "gaudi3-128gb", "arc-pro-b60-24gb"} & set(
            re.findall(r'"([-a-z0-9]+)"', found.out)
        )
        assert facts

    def test_claims_by_the_command_line(self, cli: Cli, tmp_path: Path) -> None:
        file = tmp_path / "plan.json"
        file.write_text(to_json(plan()), encoding="utf-8")
        done = cli("render", file, "-o", tmp_path / "out", "--dra", "--or-gpu", "h200-sxm-141gb")
        assert done.code == 0, done.err
        assert (tmp_path / "out" / "25-resourceclaimtemplate.yaml").is_file()


def test_what_vllm_does_on_a_platform_is_said_of_vllm_alone() -> None:
    made = render(plan(gpu="mi300x-192gb", engine="sglang"))
    text = next(str(document.text) for document in made.documents if document.name == "README.md")
    assert "AMD: not tried under Pod Security restricted" in text
    assert "vLLM's own" not in text


def _planned(gpu: str) -> Plan:
    if gpu == "cpu":
        return on_cpu()
    return fitting(gpu, image=GAUDI) if gpu.startswith("gaudi") else fitting(gpu)


class TestWhatIsSaidOfADevice:
    @pytest.mark.parametrize("gpu", ["gaudi3-128gb", "arc-pro-b60-24gb", "cpu"])
    def test_an_estimate_is_said_once(self, gpu: str) -> None:
        readme = next(one.text for one in render(_planned(gpu)).documents if one.name == "README.md")
        assert readme.count("by the rules of CUDA: an estimate, compared with no start-up") == 1
        assert "memory memory" not in readme

    @pytest.mark.parametrize(("gpu", "named"), [("h100-sxm-80gb", True), ("mi300x-192gb", False)])
    def test_hooks_of_nvidia_are_no_matter_of_others(self, gpu: str, named: bool) -> None:
        text = next(one.text for one in render(_planned(gpu)).documents if one.name == "50-deployment.yaml")
        assert ("CDI" in text) is named

"""A plan sized again with something changed, and what becomes of a deployment by it: plain values, no cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from selfhost.cli._overrides import overridden
from selfhost.cluster.values import parts
from selfhost.deploy import canary
from selfhost.deploy.desired import desired, hash_of_plan
from selfhost.deploy.replan import Changes, parse_settings, replan
from selfhost.deploy.rollback import choose
from selfhost.deploy.rollout import PAUSED_ANNOTATION
from selfhost.deploy.scale import paused, scaled
from selfhost.deploy.types import Desired, Head, State
from selfhost.deploy.upgrade import next_plan
from selfhost.diff import compare_plans
from selfhost.errors import NoRoomError, OfflineError, SelfhostError, UnsupportedError, UsageError
from selfhost.hub import load_model
from selfhost.lint import Text, lint
from selfhost.manifests.options import RenderOptions
from selfhost.model.raw import RawModel
from selfhost.plan import Plan
from selfhost.workload import Workload
from tests.deployments import options, wanted
from tests.plans import CREATED, plan

ROUTED = options(access={"expose": "gateway", "host": "llm.example.org", "gateway": "public/gateways"})
OTHER = "b" * 40


def bundled(reference: str) -> RawModel:
    """The Hub without a network: bundled configurations, which follow no commit."""
    if not reference.startswith("catalog:"):
        raise OfflineError("the Hub does not answer")
    return load_model(reference)


def again(of: Plan, *words: str, load: Any = bundled, **changes: Any) -> Plan:
    return replan(of, Changes(settings=parse_settings(words), **changes), created=CREATED, load=load)


def flags(of: Plan) -> dict[str | None, str | None]:
    return {argument.flag: argument.value for argument in of.engine.args}


# -- flags --------------------------------------------------------------------------------------------------------


def test_a_flag_by_the_engines_name_is_sized_and_nothing_else_is_chosen_anew() -> None:
    before = plan()
    after = again(before, "--max-num-seqs=256")
    assert flags(after) == flags(before) | {"--max-num-seqs": "256"}
    assert (after.workload.max_num_seqs, after.memory.max_num_seqs) == (256, 256)
    kept = (
        "schema",
        "name",
        "model",
        "weights",
        "gpu",
        "split",
        "replicas",
        "licence",
        "alternatives",
        "refusals",
    )
    assert all(getattr(after, name) == getattr(before, name) for name in kept)
    assert after.clocks.load_seconds == before.clocks.load_seconds


def test_less_work_takes_less_memory_and_the_bill_says_so() -> None:
    before = again(plan(), "max-num-seqs=1024")
    after = again(before, "max-num-seqs=64", "kv-cache-dtype=fp8")
    assert after.memory.kv_bytes_per_token < before.memory.kv_bytes_per_token
    _, memory = compare_plans(before, after)
    assert {change.term for change in memory} >= {"KV cache"}


@pytest.mark.parametrize(
    ("word", "field", "value"),
    [
        ("max-model-len=8k", "max_model_len", 8192),
        ("context-length=4096", "max_model_len", 4096),
        ("gpu-memory-utilization=0.9", "gpu_memory_utilization", 0.9),
        ("max_num_batched_tokens=4096", "max_num_batched_tokens", 4096),
        ("enforce-eager", "enforce_eager", True),
        ("enforce-eager=off", "enforce_eager", False),
        ("no-enable-prefix-caching", "prefix_caching", False),
        ("enable-prefix-caching=false", "prefix_caching", False),
        ("no-prefix-caching=off", "prefix_caching", True),
        ("kv-cache-memory=34GiB", "kv_cache_memory_bytes", 34 << 30),
        ("kv-cache-dtype=default", "kv_dtype", "auto"),
        ("concurrency=4", "concurrency", 4),
    ],
)
def test_how_a_setting_is_read(word: str, field: str, value: object) -> None:
    assert getattr(again(plan(), word).workload, field) == value


def test_every_field_of_the_load_has_a_flag_that_is_taken() -> None:
    from selfhost.deploy.replan import _field

    flags_of = {one.metadata["flag"].lstrip("-"): one.name for one in Workload.__dataclass_fields__.values()}
    assert {flag: _field(plan(), flag) for flag in flags_of} == flags_of


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("tensor-parallel-size=4", "GPUs of a replica stay"),
        ("swap-space=4", "not known here"),
        ("max-num-seqs", "needs a value"),
        ("max-num-seqs=many", "max-num-seqs=many"),
        ("max-num-seqs=0", "between 1"),
        ("enforce-eager=perhaps", "on or off"),
        ("kv-cache-dtype=int2", "is not known"),
        ("=3", "not FLAG=VALUE"),
    ],
)
def test_what_cannot_be_set_is_refused_with_a_way_out(word: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        again(plan(), word)


def test_the_same_twice_is_refused_whatever_it_is_called() -> None:
    for words in (("max-num-seqs=1", "--max_num_seqs=2"), ("max-num-seqs=1", "max-running-requests=2")):
        with pytest.raises(UsageError, match="twice"):
            again(plan(), *words)


def test_what_does_not_fit_says_by_how_many_bytes() -> None:
    with pytest.raises(NoRoomError) as caught:
        again(plan(), "gpu-memory-utilization=0.5")
    assert caught.value.exit_code == 4
    assert caught.value.short_bytes > 0
    assert f"{caught.value.short_bytes:,} bytes" in caught.value.message


def test_fewer_requests_at_once_are_not_sized_for_more() -> None:
    after = again(plan(), "max-num-seqs=8")
    assert (after.workload.concurrency, after.memory.concurrency) == (8, 8)


# -- engine, model, replicas --------------------------------------------------------------------------------------


def test_another_release_has_its_own_image_and_keeps_the_load() -> None:
    after = again(plan(), engine="@0.33.0")
    assert (after.engine.version, after.engine.image.tag) == ("0.33.0", "v0.33.0")
    assert after.workload == plan().workload


def test_another_engine_chooses_its_own_steps() -> None:
    after = again(plan(), engine="sglang")
    assert after.engine.name == "sglang"
    assert after.workload.max_model_len == 16384
    assert after.engine.image.repository == "lmsysorg/sglang"


def test_an_image_of_ones_own_is_not_guessed_for_another_release() -> None:
    own = replace(
        plan(), engine=replace(plan().engine, image=replace(plan().engine.image, repository="mirror/vllm"))
    )
    with pytest.raises(UsageError, match="not the published one"):
        again(own, engine="@0.33.0")
    assert again(own, engine="@0.33.0", image="mirror/vllm:33").engine.image.reference == "mirror/vllm:33"
    assert again(own, "max-num-seqs=64").engine.image.repository == "mirror/vllm"
    assert again(own, image="mirror/vllm:34").workload == own.workload


def test_another_revision_needs_its_own_configuration() -> None:
    with pytest.raises(OfflineError):
        again(plan(), revision=OTHER)

    def hub(reference: str) -> RawModel:
        assert reference == f"Qwen/Qwen3-32B@{OTHER}"
        return replace(bundled("catalog:Qwen/Qwen3-32B"), origin="hub", revision=OTHER)

    after = again(plan(), revision=OTHER, load=hub)
    assert after.model.revision == OTHER
    assert flags(after)["--revision"] == OTHER
    assert after.weights.kind == "hub"


def test_replicas_alone_need_no_configuration() -> None:
    def nobody(_: str) -> RawModel:
        raise AssertionError("nobody asks")

    after = again(plan(), replicas=3, load=nobody)
    assert after == replace(plan(), replicas=3)
    assert again(plan(), load=nobody) == plan()
    with pytest.raises(UsageError, match="between 1 and 1000"):
        again(plan(), replicas=0)


def test_a_model_of_files_that_are_not_here_says_so() -> None:
    away = replace(plan(), model=replace(plan().model, origin="directory", source="/nowhere/model"))
    with pytest.raises(SelfhostError, match="not here") as caught:
        again(away, "max-num-seqs=64", load=load_model)
    assert caught.value.hint


def test_a_plan_that_is_given_keeps_the_name_of_the_deployment() -> None:
    before = wanted()
    after = next_plan(before, replace(plan(), name="other"), Changes(), created=CREATED)
    assert (after.name, hash_of_plan(after)) == (before.name, before.plan_hash)


def test_changes_in_words() -> None:
    asked = Changes(
        settings=(("max-num-seqs", "256"), ("enforce-eager", "")), engine="@0.33.0", revision=OTHER
    )
    assert str(asked) == "max-num-seqs=256, enforce-eager, engine @0.33.0, revision bbbbbbbbbbbb"
    assert not Changes().any


def test_options_that_were_typed_change_those_and_no_others() -> None:
    given = options(access={"api_key_secret": "k"}, pod_monitor=False)
    after = overridden(
        given, {"expose": "gateway", "host": "a.example.org", "gateway": "g", "dashboard": True}
    )
    assert (after.access.api_key_secret, after.access.host, after.scaling.dashboard) == (
        "k",
        "a.example.org",
        True,
    )
    assert after.pod_monitor is False
    with pytest.raises(UsageError, match="needs --host"):
        overridden(given, {"expose": "gateway"})


# -- replicas of a deployment -------------------------------------------------------------------------------------


def test_more_replicas_of_a_shared_volume() -> None:
    before = wanted(options=options(access_mode="ReadWriteMany"))
    after = scaled(before, 3)
    deployment = next(item for item in after.objects if item["kind"] == "Deployment")
    assert (deployment["spec"]["replicas"], after.plan.replicas) == (3, 3)
    assert after.hash != before.hash


def test_replicas_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="ReadWriteOnce volume"):
        scaled(wanted(), 2)
    with pytest.raises(UsageError, match="scaled to none") as caught:
        scaled(wanted(), 0)
    assert "selfhost pause" in str(caught.value.hint)
    for kind, who in (("keda", "KEDA"), ("hpa", "HorizontalPodAutoscaler")):
        given = options(access_mode="ReadWriteMany", scaling={"autoscale": kind, "max_replicas": 4})
        with pytest.raises(UsageError, match=f"{who}'s to decide, between 1 and 4") as caught:
            scaled(wanted(options=given), 2)
        assert "--min-replicas 2 --max-replicas 4" in str(caught.value.hint)


def test_a_pause_holds_what_would_bring_the_pods_back() -> None:
    given = options(access_mode="ReadWriteMany", scaling={"autoscale": "keda", "max_replicas": 4})
    found = {item["kind"]: item for item in paused(wanted(options=given))}
    assert found["Deployment"]["spec"]["replicas"] == 0
    assert found["Deployment"]["metadata"]["annotations"][PAUSED_ANNOTATION] == "true"
    assert found["ScaledObject"]["metadata"]["annotations"]["autoscaling.keda.sh/paused-replicas"] == "0"
    with pytest.raises(UnsupportedError, match="KServe"):
        paused(wanted(target="kserve"))


def test_a_pause_leaves_what_answers_in_the_models_stead() -> None:
    found = paused(wanted(target="gateway", options=ROUTED))
    assert [item["metadata"]["name"] for item in found] == ["qwen3-32b"]


# -- revisions ----------------------------------------------------------------------------------------------------


def head(number: int, state: State, content: str = "") -> Head:
    ref = wanted().objects[0]
    from selfhost.cluster.kinds import ref_of

    return Head(
        name="qwen", namespace="llm", number=number, state=state, hash=content or str(number), plan_hash="", target="",
        model="", created="", by="", because="", ref=ref_of(ref), version="1",
    )  # fmt: skip


def test_which_revision_a_rollback_means() -> None:
    found = (
        head(5, "failed"),
        head(4, "deployed"),
        head(3, "failed"),
        head(2, "superseded"),
        head(1, "superseded"),
    )
    assert choose(found, None).number == 4
    assert choose(found[1:], None).number == 2
    assert choose(found, 1).number == 1
    with pytest.raises(UsageError, match="Revision 9 of qwen is not kept") as caught:
        choose(found, 9)
    assert "5, 4, 3, 2, 1" in str(caught.value.hint)
    with pytest.raises(UsageError, match="before 1"):
        choose((head(1, "deployed"),), None)


def test_a_rollback_of_a_rollback_does_not_come_to_the_same() -> None:
    found = (head(3, "deployed", "a"), head(2, "superseded", "b"), head(1, "superseded", "a"))
    assert choose(found, None).number == 2


# -- canary -------------------------------------------------------------------------------------------------------


def first() -> Desired:
    return wanted(options=ROUTED)


def test_a_canary_is_a_deployment_of_its_own_without_a_way_in() -> None:
    found = canary.wanted_canary(first(), again(plan(), "max-num-seqs=64"), 1)
    assert found.name == "qwen3-32b-canary"
    kinds = {item["kind"] for item in found.objects}
    assert {"Deployment", "Service", "NetworkPolicy"} <= kinds
    assert not kinds & {"HTTPRoute", "Ingress", "ScaledObject"}
    labels = {item["metadata"]["labels"]["app.kubernetes.io/instance"] for item in found.objects}
    assert labels == {"qwen3-32b-canary"}
    assert not {(one["kind"], one["metadata"]["name"]) for one in found.objects} & {
        (one["kind"], one["metadata"]["name"]) for one in first().objects
    }
    policies = [item for item in found.objects if item["kind"] == "NetworkPolicy"]
    policy = next(item for item in policies if item["metadata"]["name"] == "qwen3-32b-canary")
    assert "gateways" in str(policy["spec"]["ingress"]), "the Gateway's pods may send to the canary"


def test_a_canary_reads_the_firsts_weights_where_both_can() -> None:
    shared = replace(ROUTED, access_mode="ReadWriteMany")
    same = canary.wanted_canary(wanted(options=shared), plan(), 1)
    assert not any(item["kind"] == "PersistentVolumeClaim" for item in same.objects)
    other = replace(plan(), model=replace(plan().model, revision=OTHER))
    own = canary.wanted_canary(wanted(options=shared), other, 1)
    claims = [item["metadata"]["name"] for item in own.objects if item["kind"] == "PersistentVolumeClaim"]
    assert claims == ["qwen3-32b-canary-weights"]


def test_the_route_shares_requests_by_weight() -> None:
    found = canary.wanted_canary(first(), plan(), 1)
    route = canary.shared_route(first(), found, 25)
    backends = [
        (one["name"], one["weight"]) for rule in parts(route["spec"], "rules") for one in rule["backendRefs"]
    ]
    assert backends == [("qwen3-32b", 75), ("qwen3-32b-canary", 25)]
    assert canary.weight_of(route, "qwen3-32b") == 25
    plain = canary.route_of(first())
    assert plain == next(item for item in first().objects if item["kind"] == "HTTPRoute")
    assert canary.weight_of(plain, "qwen3-32b") is None
    for weight in (-1, 101):
        with pytest.raises(UsageError, match="between 0 and 100"):
            canary.shared_route(first(), found, weight)


def test_a_canary_without_a_route_is_refused() -> None:
    with pytest.raises(UsageError, match="no HTTPRoute") as caught:
        canary.wanted_canary(wanted(), plan(), 1)
    assert "--expose gateway" in str(caught.value.hint)
    with pytest.raises(UnsupportedError, match="Target gateway"):
        canary.wanted_canary(wanted(target="gateway", options=ROUTED), plan(), 1)
    with pytest.raises(UsageError, match="longer than 40"):
        canary.canary_name("a" * 34)


def test_what_a_canary_adds_is_as_clean_as_the_rest() -> None:
    import yaml

    found = canary.wanted_canary(first(), plan(), 1)
    objects = [*found.objects, canary.shared_route(first(), found, 10)]
    text = yaml.safe_dump_all([item for item in objects if item["kind"] != "ConfigMap"])
    result = lint((Text(name="canary.yaml", content=text),))
    assert [one for one in result.findings if one.severity in ("error", "warning")] == []


def test_what_is_promoted_is_the_canarys_plan_under_the_firsts_name() -> None:
    tried = again(plan(), "max-num-seqs=64")
    found = canary.wanted_canary(first(), tried, 1)
    after = canary.promoted(first(), found)
    assert after.hash == desired(tried, "kubernetes", ROUTED).hash
    assert isinstance(after.options, RenderOptions)

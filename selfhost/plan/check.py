"""What must hold between the fields of a plan, whoever wrote it."""

from __future__ import annotations

import re

from selfhost.errors import PlanFormatError
from selfhost.plan.types import Plan
from selfhost.throughput.types import Range

# RFC 1035, as Kubernetes asks of a Service; 40 leaves room for suffixes within 63.
NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_KEY = re.compile(r"[a-z0-9]([-a-z0-9.]{0,200}[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_IMAGE = re.compile(r"[a-z0-9][-a-z0-9._/:]{0,200}")
_TAG = re.compile(r"[A-Za-z0-9_][-A-Za-z0-9_.]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ENGINE = re.compile(r"[a-z][a-z0-9-]{0,39}")
_FLAG = re.compile(r"--[a-z0-9][-a-z0-9]{0,80}")
_LONGEST_TEXT, _MOST_TEXTS = 500, 60
_CURRENCY = re.compile(r"[A-Z]{3}")
_LARGEST_FIGURE = 1e15
_HTTP_PATH = re.compile(r"/[-A-Za-z0-9._~/]{0,100}")

MOST_REPLICAS = 1000


def check(plan: Plan) -> None:
    """Refuse a plan that no engine or cluster could be given.

    Raises:
        PlanFormatError: names the first field that is wrong.
    """
    _names(plan)
    _licence(plan)
    _numbers(plan)
    _clocks(plan)
    _worth(plan)


def _need(good: bool, path: str, wanted: str) -> None:
    if not good:
        raise PlanFormatError(f"plan.{path} {wanted}.", hint="Write it again with `selfhost plan`.")


def _names(plan: Plan) -> None:
    _need(
        NAME.fullmatch(plan.name) is not None,
        "name",
        "must be lower-case letters, digits and dashes, at most 40",
    )
    _need(_ENGINE.fullmatch(plan.engine.name) is not None, "engine.name", "is no name of an engine")
    revision, digest = plan.model.revision, plan.engine.image.digest
    _need(
        revision is None or _COMMIT.fullmatch(revision) is not None,
        "model.revision",
        "must be a commit or null",
    )
    _need(
        _IMAGE.fullmatch(plan.engine.image.repository) is not None,
        "engine.image.repository",
        "is not a repository",
    )
    _need(_TAG.fullmatch(plan.engine.image.tag) is not None, "engine.image.tag", "is not a tag")
    _need(plan.engine.image.tag != "latest", "engine.image.tag", "must be pinned, not latest")
    _need(
        digest is None or _DIGEST.fullmatch(digest) is not None,
        "engine.image.digest",
        "must be sha256:... or null",
    )
    named = () if plan.gpu.platform == "cpu" else (("resource", plan.gpu.resource),)
    for path, value in (*named, ("label", plan.gpu.label)):
        _need(_KEY.fullmatch(value) is not None, f"gpu.{path}", "is not a qualified name")
    _need(bool(plan.gpu.label_values), "gpu.label_values", "must name at least one product")
    for number, label in enumerate(plan.gpu.label_values):
        _need(_LABEL.fullmatch(label) is not None, f"gpu.label_values[{number}]", "is not a label value")
    seen: set[str] = set()
    for number, variable in enumerate(plan.engine.env):
        _need(
            _ENV.fullmatch(variable.name) is not None, f"engine.env[{number}].name", "is not a variable name"
        )
        _need(variable.name not in seen, f"engine.env[{number}].name", "stands twice")
        seen.add(variable.name)
    _need(bool(plan.engine.command), "engine.command", "must not be empty")
    for path, value in (("health_path", plan.engine.health_path), ("metrics_path", plan.engine.metrics_path)):
        _need(_HTTP_PATH.fullmatch(value) is not None, f"engine.{path}", "is not an absolute path")
    for path, value in (
        ("engine.home_path", plan.engine.home_path),
        ("weights.mount_path", plan.weights.mount_path),
        ("weights.cache_path", plan.weights.cache_path),
    ):
        climbs = ".." in value.split("/")
        _need(_HTTP_PATH.fullmatch(value) is not None and not climbs, path, "is not an absolute path")
    if plan.weights.kind == "volume":
        location, mount = plan.weights.location, plan.weights.mount_path
        inside = location.startswith(f"{mount}/") and ".." not in location.split("/")
        _need(inside, "weights.location", f"must lie below {mount}")
    for number, word in enumerate(plan.engine.args):
        good = word.flag is None or _FLAG.fullmatch(word.flag) is not None
        _need(good, f"engine.args[{number}].flag", "is not a flag")


def _licence(plan: Plan) -> None:
    verdict = plan.licence
    if verdict is None:
        return
    texts = (verdict.licence or "", verdict.name, verdict.source, *verdict.terms, *verdict.obligations)
    short = all(text.isprintable() and len(text) <= _LONGEST_TEXT for text in texts)
    _need(short and len(texts) <= _MOST_TEXTS, "licence", "holds more than a line for each of its words")
    allowed = verdict.permission == "yes" or (verdict.permission != "no" and verdict.accepted)
    _need(verdict.use is None or allowed, "licence.permission", f"does not cover {verdict.use} use")


def _numbers(plan: Plan) -> None:
    _need(1 <= plan.replicas <= MOST_REPLICAS, "replicas", f"must be between 1 and {MOST_REPLICAS}")
    _need(1024 <= plan.engine.port <= 65535, "engine.port", "must be between 1024 and 65535")
    _need(plan.gpu.count == plan.split.gpus, "gpu.count", f"must be the {plan.split.gpus} GPUs of the split")
    _need(plan.memory.gpu_id == plan.gpu.id, "memory.gpu_id", "must be the planned GPU")
    for name in type(plan.memory).__dataclass_fields__:
        value = getattr(plan.memory, name)
        _need(not isinstance(value, (int, float)) or value >= 0, f"memory.{name}", "must not be negative")
    positive = (
        ("model.parameters", plan.model.parameters),
        ("model.max_context_tokens", plan.model.max_context_tokens),
        ("gpu.memory_bytes", plan.gpu.memory_bytes),
        ("weights.stored_bytes.value", plan.weights.stored_bytes.value),
        ("pod.cpu_request.value", plan.pod.cpu_request.value),
        ("pod.memory_bytes.value", plan.pod.memory_bytes.value),
        ("pod.shared_memory_bytes.value", plan.pod.shared_memory_bytes.value),
        ("pod.home_bytes.value", plan.pod.home_bytes.value),
        ("pod.tmp_bytes.value", plan.pod.tmp_bytes.value),
    )
    for path, value in positive:
        _need(value > 0, path, "must be more than 0")
    pod = plan.pod
    _need(
        plan.weights.volume_bytes.value >= plan.weights.stored_bytes.value,
        "weights.volume_bytes",
        "is too small",
    )
    _need(pod.cpu_limit.value >= pod.cpu_request.value, "pod.cpu_limit", "must not be below the request")
    _need(
        pod.memory_bytes.value > pod.shared_memory_bytes.value,
        "pod.memory_bytes",
        "must hold the shared memory",
    )
    scratch = pod.home_bytes.value + pod.tmp_bytes.value
    _need(pod.ephemeral_bytes.value >= scratch, "pod.ephemeral_bytes", "must hold home and tmp")


def _clocks(plan: Plan) -> None:
    clocks = plan.clocks
    for name in type(clocks).__dataclass_fields__:
        value = getattr(clocks, name).value
        _need(0 <= value <= 10**7, f"clocks.{name}.value", "must be between 0 and 10,000,000")
    load = clocks.load_seconds.value
    _need(clocks.probe_period_seconds.value >= 1, "clocks.probe_period_seconds", "must be at least 1")
    patience = clocks.startup_failures.value * clocks.probe_period_seconds.value
    _need(load >= 1 and patience >= load, "clocks.startup_failures", "gives up before the load time is over")
    _need(clocks.engine_ready_seconds.value >= load, "clocks.engine_ready_seconds", "is below the load time")
    _need(
        clocks.progress_deadline_seconds.value > load,
        "clocks.progress_deadline_seconds",
        "is below the load time",
    )
    _need(clocks.download_attempts.value >= 1, "clocks.download_attempts", "must be at least 1")
    _need(
        clocks.download_deadline_seconds.value >= 1, "clocks.download_deadline_seconds", "must be at least 1"
    )
    ending = clocks.pre_stop_seconds.value + clocks.drain_seconds.value
    _need(
        clocks.grace_seconds.value > ending,
        "clocks.grace_seconds",
        "must be more than pre-stop and drain together",
    )


def _worth(plan: Plan) -> None:
    """The optional figures: ranges in order, and nothing that is less than nothing."""
    for part, value in (("estimate", plan.estimate), ("cost", plan.cost)):
        if value is None:
            continue
        for name in type(value).__dataclass_fields__:
            found = getattr(value, name)
            if isinstance(found, Range):
                ordered = 0 <= found.low <= found.typical <= found.high < _LARGEST_FIGURE
                _need(ordered, f"{part}.{name}", "must be a range from low to high, of 0 or more")
            elif isinstance(found, (int, float)):
                _need(0 <= found < _LARGEST_FIGURE, f"{part}.{name}", "must be 0 or more")
    cost = plan.cost
    if cost is not None:
        _need(_CURRENCY.fullmatch(cost.currency) is not None, "cost.currency", "must be a code such as USD")

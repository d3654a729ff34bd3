"""What the namespace limits: ResourceQuotas, of which the rollout takes a part, and LimitRanges, which each pod keeps.

Counted as kubernetes pkg/quota/v1/evaluator/core (1.37) counts: a pod by its requests and limits, a claim by its
storage, anything else by one; LimitRanges as plugin/pkg/admission/limitranger does.
"""

from __future__ import annotations

from collections.abc import Iterator

from selfhost.cluster.kinds import kind_of
from selfhost.cluster.types import Object
from selfhost.cluster.values import part, parts, text
from selfhost.deploy.amounts import (
    Amounts,
    added,
    amounts,
    container_amounts,
    limits_of,
    milli,
    requests_of,
    shown,
)
from selfhost.deploy.capacity import Wanted, has_ended, name_of
from selfhost.deploy.preflight.facts import Look, Unread
from selfhost.deploy.preflight.needs import needs_of
from selfhost.deploy.surge import steps, workloads
from selfhost.deploy.types import Finding

_PLAIN = ("cpu", "memory", "ephemeral-storage")  # as quota names them without `requests.`
_COUNTED = ("pods", "services", "configmaps", "secrets", "persistentvolumeclaims", "resourcequotas")
# Scopes that every pod of a deployment is in: it asks for something, and has no deadline; jobs have one.
_WITHIN, _OUTSIDE = ("NotBestEffort", "NotTerminating"), ("BestEffort", "Terminating")
_CLASS_STORAGE = ".storageclass.storage.k8s.io/requests.storage"


def quota(look: Look) -> Iterator[Finding]:
    """Whether every quota has room for what the rollout adds."""
    quotas = look.facts.quotas
    if isinstance(quotas, Unread):
        yield Finding(
            code="quota",
            level="unknown",
            message=f"Whether a quota stands against it is not known: {quotas.sentence}.",
            hint=quotas.hint,
        )
        return
    wrong = False
    for item in quotas:
        if not _applies(item, look):
            continue
        status = part(item, "status")
        hard = amounts(part(status, "hard") or part(part(item, "spec"), "hard"))
        used = amounts(part(status, "used"))
        new = _added(look, hard)
        over = [
            name
            for name, most in hard.items()
            if new.get(name, 0) > 0 and used.get(name, 0) + new[name] > most
        ]
        lines = tuple(
            f"{name}: {shown(name, used.get(name, 0))} used of {shown(name, hard[name])}, "
            f"{shown(name, new[name])} more are needed"
            for name in over
        )
        if over:
            wrong = True
            yield Finding(
                code="quota",
                level="error",
                message=f"ResourceQuota {_name(item)} has no room for the rollout: {lines[0]}.",
                hint="Have the quota raised, scale something in the namespace down, or deploy into another.",
                evidence=lines,
            )
        for line in _unlimited(look, hard):
            wrong = True
            yield Finding(
                code="quota",
                level="error",
                message=f"ResourceQuota {_name(item)} refuses pods that do not say their {line[0]}: {line[1]}.",
                hint="A LimitRange with defaults would say it for them; else have the quota changed.",
            )
    if quotas and not wrong:
        yield Finding(code="quota", level="ok", message="quota")


def _added(look: Look, hard: Amounts) -> Amounts:
    """What the rollout adds to what is counted, by the quota's own names."""
    pods = look.facts.pods
    known = () if isinstance(pods, Unread) else pods
    widest: Amounts = {}
    for step in steps(look.desired, look.before, known):
        asked = _pods_of(step.wanted)
        for pod in known:
            if name_of(pod) in step.leaving and not has_ended(pod):
                gone = _of_pod(part(pod, "spec"))
                asked = added(asked, {name: -amount for name, amount in gone.items()})
        for name, amount in asked.items():
            widest[name] = max(widest.get(name, amount), amount)
    return added(widest, _objects(look, hard))


def _pods_of(wanted: tuple[Wanted, ...]) -> Amounts:
    total: Amounts = {}
    for one in wanted:
        each = _of_pod(one.spec)
        total = added(total, {name: amount * one.count for name, amount in each.items()})
    return total


def _of_pod(spec: Object) -> Amounts:
    asked, limits = requests_of(spec), limits_of(spec)
    found = {f"requests.{name}": amount for name, amount in asked.items()}
    found |= {f"limits.{name}": amount for name, amount in limits.items()}
    found |= {name: amount for name, amount in asked.items() if name in _PLAIN}
    return found | {"pods": 1000, "count/pods": 1000}


def _objects(look: Look, hard: Amounts) -> Amounts:
    """Objects that are new: those of the revision before, and claims that are there, count already."""
    there = set() if look.before is None else {_key(item) for item in look.before.objects}
    for read in (look.facts.claims, look.facts.services, look.facts.deployments):
        there |= set() if isinstance(read, Unread) else {_named(item) for item in read}
    counts: Amounts = {}
    for item in look.desired.objects:
        if _key(item) in there or _named(item) in there:
            continue
        kind = kind_of(text(item, "apiVersion"), text(item, "kind"))
        names = [f"count/{kind.plural}{f'.{kind.group}' if kind.group else ''}"]
        names += [kind.plural] if kind.plural in _COUNTED else []
        for name in names:
            counts[name] = counts.get(name, 0) + 1000
        if kind.name == "PersistentVolumeClaim":
            size = milli(part(part(part(item, "spec"), "resources"), "requests").get("storage")) or 0
            of_class = text(part(item, "spec"), "storageClassName")
            for name in ("requests.storage", *((f"{of_class}{_CLASS_STORAGE}",) if of_class else ())):
                counts[name] = counts.get(name, 0) + size
    for name in ("configmaps", "count/configmaps"):  # the revision that is kept
        counts[name] = counts.get(name, 0) + 1000
    return {name: amount for name, amount in counts.items() if name in hard}


def _unlimited(look: Look, hard: Amounts) -> Iterator[tuple[str, str]]:
    """A quota on cpu or memory takes only pods whose every container says them (evaluator/core/pods.go Constraints)."""
    ranges = look.facts.limits
    if isinstance(ranges, Unread) or ranges:
        return  # its defaults may say it
    for name in hard:
        which, dot, resource = name.partition(".")
        if name in _PLAIN:
            which, resource = "requests", name
        elif not dot or which not in ("requests", "limits") or resource not in _PLAIN[:2]:
            continue
        for container in _containers(look):
            if resource not in container_amounts(container, which):
                yield f"{resource} {which}", f"container {text(container, 'name')}"
                break


def _applies(item: Object, look: Look) -> bool:
    """Whether a quota counts the pods that serve."""
    spec = part(item, "spec")
    given = spec.get("scopes")
    scopes = {str(one) for one in given} if isinstance(given, list) else set()
    if scopes & set(_OUTSIDE) or scopes - set(_WITHIN):
        return False
    classes = set(needs_of(look.desired).priority_classes)
    for one in parts(part(spec, "scopeSelector"), "matchExpressions"):
        scope, operator = text(one, "scopeName"), text(one, "operator")
        values = one.get("values")
        named = {str(value) for value in values} if isinstance(values, list) else set()
        if scope == "PriorityClass":
            hit = {"In": bool(classes & named), "NotIn": not classes & named, "Exists": bool(classes)}.get(
                operator, not classes
            )
            if not hit:
                return False
        elif scope not in _WITHIN:
            return False
    return True


def limit_range(look: Look) -> Iterator[Finding]:
    """Whether pods, containers and claims keep within every LimitRange."""
    ranges = look.facts.limits
    if isinstance(ranges, Unread):
        yield Finding(
            code="limit-range",
            level="unknown",
            message=f"Whether a LimitRange stands against it is not known: {ranges.sentence}.",
            hint=ranges.hint,
        )
        return
    lines: dict[str, None] = {}
    for item in ranges:
        for limit in parts(part(item, "spec"), "limits"):
            for line in _against(look, limit):
                lines[f"{_name(item)}: {line}"] = None
    if lines:
        yield Finding(
            code="limit-range",
            level="error",
            message=f"A LimitRange of {look.desired.namespace} refuses pods of the rollout: {next(iter(lines))}.",
            hint="Have the LimitRange changed, or deploy into a namespace of its own.",
            evidence=tuple(lines),
        )
    elif ranges:
        yield Finding(code="limit-range", level="ok", message="limits")


def _against(look: Look, limit: Object) -> Iterator[str]:
    match text(limit, "type"):
        case "Container":
            given = (amounts(part(limit, "defaultRequest")), amounts(part(limit, "default")))
            for container in _containers(look):
                limits = given[1] | container_amounts(container, "limits")
                asked = given[0] | container_amounts(container, "requests")
                for name in set(limits) - set(asked):
                    asked[name] = limits[name]
                yield from _compared(f"container {text(container, 'name')}", limit, asked, limits)
        case "Pod":
            for one in workloads(look.desired.objects):
                for group in one.groups:
                    spec = part(group.template, "spec")
                    total = [
                        added(*(container_amounts(each, which) for each in parts(spec, "containers")))
                        for which in ("requests", "limits")
                    ]
                    yield from _compared(f"pod {group.what}", limit, total[0], total[1])
        case "PersistentVolumeClaim":
            for claim in needs_of(look.desired).own_claims:
                asked = amounts(part(part(part(claim, "spec"), "resources"), "requests"))
                yield from _compared(f"claim {_name(claim)}", limit, asked, {}, claims=True)


def _compared(
    what: str, limit: Object, asked: Amounts, limits: Amounts, *, claims: bool = False
) -> Iterator[str]:
    for name, least in amounts(part(limit, "min")).items():
        if asked.get(name, 0) < least:
            yield f"{what} asks for {shown(name, asked.get(name, 0))} {name}, at least {shown(name, least)}"
    for name, most in amounts(part(limit, "max")).items():
        if claims:
            if asked.get(name, 0) > most:
                yield f"{what} asks for {shown(name, asked[name])} {name}, at most {shown(name, most)}"
        elif name not in limits:
            yield f"{what} has no limit of {name}, at most {shown(name, most)}"
        elif max(limits[name], asked.get(name, 0)) > most:
            yield f"{what} has a limit of {shown(name, limits[name])} {name}, at most {shown(name, most)}"
    for name, ratio in amounts(part(limit, "maxLimitRequestRatio")).items():
        if not asked.get(name) or not limits.get(name):
            yield f"{what} does not say both request and limit of {name}"
        elif limits[name] * 1000 > ratio * asked[name]:
            yield (
                f"{what}: {name} limit {shown(name, limits[name])} is more than {ratio / 1000:g} times the request "
                f"{shown(name, asked[name])}"
            )


def _containers(look: Look) -> Iterator[Object]:
    """Those that stay; the limiter of admission looks at these alone, at start-up containers not."""
    for one in workloads(look.desired.objects):
        for group in one.groups:
            yield from parts(part(group.template, "spec"), "containers")


def _key(item: Object) -> tuple[str, str]:
    return text(item, "kind"), _name(item)


def _named(item: Object) -> tuple[str, str]:
    """Of a list's item, which does not say its kind: told by what only that kind has."""
    spec = part(item, "spec")
    kind = text(item, "kind") or (
        "PersistentVolumeClaim"
        if "accessModes" in spec
        else "Deployment"
        if "template" in spec
        else "Service"
    )
    return kind, _name(item)


def _name(item: Object) -> str:
    return text(part(item, "metadata"), "name")


CHECKS = (quota, limit_range)

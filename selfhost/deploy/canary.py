"""A canary: a second deployment of the new plan beside the first, and a share of the route's requests for it.

The canary is a deployment of its own, `<name>-canary`, with its own revisions and lock; nothing of the first one is
touched but its HTTPRoute. So whatever is interrupted, either can be looked at, upgraded and destroyed by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from selfhost.cluster import Api, Object, Ref
from selfhost.cluster.kinds import ROUTE, SERVICE, ref_of
from selfhost.cluster.values import part, parts, text, texts, whole
from selfhost.deploy import revisions
from selfhost.deploy.desired import desired, with_objects
from selfhost.deploy.destroy import LOCK_WAIT_SECONDS, destroy, find
from selfhost.deploy.lock import held
from selfhost.deploy.settings import Confirm, Preview, Result, Settings
from selfhost.deploy.types import Desired, Event, Head, Tell
from selfhost.errors import ClusterError, UnsupportedError, UsageError
from selfhost.manifests import RenderOptions
from selfhost.manifests.exposure import gateway_namespace
from selfhost.manifests.options.scaling import ScalingOptions
from selfhost.plan import Plan

SUFFIX = "-canary"
BECAUSE = "canary of "  # how the revisions of a canary begin to say why they are
WEIGHT_ANNOTATION = "selfhost/canary-weight"  # on the route of the first
WEIGHT = 10  # Ours: percent; of ten requests one, so that a bad canary shows in minutes and hurts few
_LONGEST_NAME = 40  # of a plan (selfhost/plan/check.py)

Deploy = Callable[[Api, Desired, Settings, Tell, Confirm], Result]


def canary_name(name: str) -> str:
    """What the canary of a deployment is called.

    Raises:
        UsageError: that would be longer than a deployment's name may be.
    """
    if len(name) + len(SUFFIX) > _LONGEST_NAME:
        raise UsageError(
            f"{name}{SUFFIX} is longer than {_LONGEST_NAME} characters.",
            hint="Upgrade without --canary, or deploy under a shorter name.",
        )
    return f"{name}{SUFFIX}"


def canary_of(api: Api, namespace: str, name: str) -> tuple[Head, ...]:
    """Revisions of the canary of a deployment, the newest first; empty where there is none.

    A deployment that somebody called so by hand is none.
    """
    if len(name) + len(SUFFIX) > _LONGEST_NAME:
        return ()
    found = revisions.heads(api, namespace, f"{name}{SUFFIX}")
    return found if any(head.because.startswith(f"{BECAUSE}{name}") for head in found) else ()


def refuse_beside_canary(api: Api, namespace: str, name: str) -> None:
    """Refuse what would give a canary's requests back without a word: its share is in the first one's route.

    Raises:
        UsageError: there is a canary of that deployment.
    """
    if canary_of(api, namespace, name):
        again = f"selfhost upgrade {name} -n {namespace}"
        raise UsageError(
            f"{name} has a canary, {canary_name(name)}.",
            hint=f"First `{again} --promote` or `{again} --abort`.",
        )


def wanted_canary(before: Desired, plan: Plan, replicas: int) -> Desired:
    """The second deployment.

    Args:
        before: the first.
        plan: that the canary tries.
        replicas: of the canary.

    Raises:
        UsageError, UnsupportedError: nothing could share requests between the two.
    """
    refuse_without_route(before)
    named = replace(plan, name=canary_name(before.name), replicas=replicas)
    return desired(named, before.target, _options(before, plan))


def refuse_without_route(before: Desired) -> None:
    """A canary needs an HTTPRoute to a Service.

    Raises:
        UsageError, UnsupportedError: there is none.
    """
    if before.target != "kubernetes":
        raise UnsupportedError(
            f"Target {before.target} has no route between two Services, which a canary needs.",
            hint=f"`selfhost upgrade {before.name}` without --canary goes back by itself where it fails.",
        )
    if before.options.access.expose != "gateway":
        raise UsageError(
            f"{before.name} has no HTTPRoute whose requests could be shared.",
            hint="Deploy it with --expose gateway --gateway NAME --host HOST, or upgrade without --canary.",
        )


def _options(before: Desired, plan: Plan) -> RenderOptions:
    """Those of the first, without its way in and its autoscaling: the first one's route leads to both."""
    given = before.options
    access = replace(given.access, expose="none", host=None, gateway=None, request_timeout=None)
    scaling = ScalingOptions(
        spread=given.scaling.spread, priority_class=given.scaling.priority_class, rules=given.scaling.rules
    )
    options = replace(
        given, access=access, scaling=scaling, gateway_namespace=gateway_namespace(given), surge=False,
        image=_image(before, plan),
    )  # fmt: skip
    claim = _shared_claim(before, plan)
    if claim is not None:
        options = replace(options, weights=replace(given.weights, uri=f"pvc:{claim}"))
    return options


def _shared_claim(before: Desired, plan: Plan) -> str | None:
    """The first one's own claim, where pods on several nodes may mount it and it holds the weights already.

    Raises:
        UsageError: the weights are copied there by hand, and only one node may mount it.
    """
    if before.options.weights.uri not in (None, "hf"):
        return None  # a place that everybody names the same way
    for item in before.objects:
        if text(item, "kind") != "PersistentVolumeClaim":
            continue
        modes = part(item, "spec").get("accessModes")
        shared = isinstance(modes, list) and "ReadWriteMany" in modes
        same = (plan.model.id, plan.model.revision) == (before.plan.model.id, before.plan.model.revision)
        if shared and same:
            return text(part(item, "metadata"), "name")
        if plan.weights.kind == "volume":
            raise UsageError(
                f"The weights of {before.name} were copied to a volume that only one node mounts.",
                hint="Upgrade without --canary, or use --access-mode ReadWriteMany, nfs:// or oci:// weights.",
            )
    return None


# -- the route ----------------------------------------------------------------------------------------------------


def route_of(before: Desired) -> Object:
    """The HTTPRoute of the first, all requests to the first.

    Raises:
        UsageError: there is none.
    """
    for item in before.objects:
        if text(item, "kind") == ROUTE.name:
            return _routed(item, None)
    raise UsageError(f"{before.name} has no HTTPRoute.", hint="Deploy it with --expose gateway.")


def shared_route(before: Desired, canary: Desired, weight: int) -> Object:
    """The HTTPRoute with a share of the requests for the canary.

    Args:
        before: the first.
        canary: the second.
        weight: percent of the requests.

    Raises:
        UsageError: no share.
    """
    if not 0 <= weight <= 100:
        raise UsageError(f"--weight must be between 0 and 100 percent, not {weight}.")
    port = next(
        (whole(one, "port") for item in canary.objects if ref_of(item).kind == SERVICE.name
         for one in parts(part(item, "spec"), "ports")),
        canary.plan.engine.port,
    )  # fmt: skip
    return _routed(route_of(before), (canary.name, port or canary.plan.engine.port, weight))


def weight_of(route: Object, name: str) -> int | None:
    """Percent of the requests that the route sends to the canary of that deployment; None where there is none."""
    for rule in parts(part(route, "spec"), "rules"):
        for backend in parts(rule, "backendRefs"):
            if text(backend, "name") == f"{name}{SUFFIX}":
                return whole(backend, "weight")
    return None


def live_weight(api: Api, before: Desired) -> int | None:
    """The same of the route that is on the cluster."""
    route = api.get(ref_of(route_of(before)))
    return None if route is None else weight_of(route, before.name)


def share(api: Api, before: Desired, canary: Desired | None, weight: int, tell: Tell) -> None:
    """Send a share of the requests to the canary, the rest to the first.

    Args:
        api: the cluster.
        before: the first.
        canary: the second; None gives everything to the first.
        weight: percent of the requests.
        tell: hears of it.

    Raises:
        ClusterError: the route cannot be changed.
    """
    item = route_of(before) if canary is None else shared_route(before, canary, weight)
    with held(api, before.namespace, before.name, wait_seconds=LOCK_WAIT_SECONDS):
        api.apply(item)
    words = f"{100 - weight} % of the requests go to {before.name}"
    words += f", {weight} % to {before.name}{SUFFIX}" if canary is not None else ""
    tell(Event(type="note", message=words, facts={"weight": weight}))


def _routed(route: Object, canary: tuple[str, int, int] | None) -> Object:
    spec, metadata = part(route, "spec"), part(route, "metadata")
    rules = []
    for rule in parts(spec, "rules"):
        first = parts(rule, "backendRefs")[0]
        backends = [first | {"weight": 1}]
        if canary is not None:
            name, port, weight = canary
            backends = [
                first | {"weight": 100 - weight},
                first | {"name": name, "port": port, "weight": weight},
            ]
        rules.append(rule | {"backendRefs": backends})
    notes = {key: value for key, value in texts(metadata, "annotations").items() if key != WEIGHT_ANNOTATION}
    notes |= {} if canary is None else {WEIGHT_ANNOTATION: str(canary[2])}
    bare = {key: value for key, value in metadata.items() if key != "annotations"}
    return route | {
        "metadata": bare | ({"annotations": notes} if notes else {}),
        "spec": spec | {"rules": rules},
    }


# -- the end of it ------------------------------------------------------------------------------------------------


def promote(
    api: Api,
    before: Desired,
    canary: Desired,
    settings: Settings,
    tell: Tell,
    confirm: Confirm,
    deploy: Deploy,
) -> Result:
    """Make the canary's plan the first one's, with the canary serving meanwhile, then remove the canary.

    Each step is one that this command goes on from when it is run again.

    Args:
        api: the cluster.
        before: the first.
        canary: the second, ready.
        settings: how to go about it.
        tell: hears what happens.
        confirm: asked before anything is changed.
        deploy: `selfhost.deploy.run.deploy`.

    Raises:
        ClusterError: see `deploy`.
    """
    plain = promoted(before, canary)
    if before.hash == plain.hash and settings.dry_run:
        return Result(ended="dry-run", message=f"{canary.name} would go")
    if before.hash == plain.hash:  # broken off while the canary was removed: it may not serve any more
        share(api, before, None, 0, tell)
        remove(api, before.namespace, before.name, tell)
        return Result(ended="ready", message=f"{before.name} serves what {canary.name} tried")
    # while the first one's pods are made anew the canary answers everything
    route = shared_route(plain, canary, 100)
    meanwhile = with_objects(
        plain, tuple(route if text(item, "kind") == ROUTE.name else item for item in plain.objects)
    )

    def ask(wanted: Desired, preview: Preview) -> bool:
        if not confirm(wanted, preview):
            return False
        share(api, before, canary, 100, tell)
        return True

    result = deploy(api, meanwhile, replace(settings, because=f"promote {canary.name}", wait=True), tell, ask)
    if result.ended not in ("ready", "unchanged"):
        return result
    quietly = replace(
        settings, because=f"{canary.name} promoted", preflight=False, smoke=False, rollback=False, wait=True
    )
    last = deploy(api, plain, quietly, tell, lambda *_: True)
    if last.ended not in ("ready", "unchanged"):
        return last
    # nobody is to go back to a route that leads to a canary which is gone
    for head in revisions.heads(api, before.namespace, before.name):
        if head.hash == meanwhile.hash:
            api.delete(head.ref)
    remove(api, before.namespace, before.name, tell)
    return last


def promoted(before: Desired, canary: Desired) -> Desired:
    """What the first becomes: the canary's plan under its own name, with its own options and replicas."""
    plan = replace(canary.plan, name=before.name, replicas=before.plan.replicas)
    return desired(plan, before.target, replace(before.options, image=_image(before, plan)))


def _image(before: Desired, plan: Plan) -> str | None:
    """The image that the first was deployed with, unless the plan has one of its own."""
    return before.options.image if plan.engine.image == before.plan.engine.image else None


def abort(api: Api, before: Desired, found: tuple[Head, ...], tell: Tell) -> None:
    """Give all requests back to the first, then remove the canary.

    Args:
        api: the cluster.
        before: the first, as it was deployed last.
        found: revisions of the first, the newest first.
        tell: hears what happens.

    Raises:
        ClusterError: a promotion broke off, and the first does not serve.
    """
    if found and found[0].state == "pending":
        raise ClusterError(
            f"Revision {found[0].number} of {before.name} is not ready yet, so it cannot take all requests.",
            hint=f"`selfhost upgrade {before.name} -n {before.namespace} --promote` goes on, "
            f"`selfhost rollback {before.name} -n {before.namespace}` goes back.",
        )
    share(api, before, None, 0, tell)
    remove(api, before.namespace, before.name, tell)


def remove(api: Api, namespace: str, name: str, tell: Tell) -> tuple[Ref, ...]:
    """Remove the canary with everything that was made for it, its own copy of the weights too."""
    there = find(api, namespace, canary_name(name))
    return destroy(api, there, with_weights=True, tell=tell)

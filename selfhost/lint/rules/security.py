"""What the pod may do besides serving: root, the host, the cluster's API, code from the model's repository."""

from __future__ import annotations

from collections.abc import Iterator

from selfhost.lint.labels import same_namespace, selects
from selfhost.lint.model import Container, Lot, Pod
from selfhost.lint.nodes import Map
from selfhost.lint.types import Found, Rule

_STANDARDS = "https://kubernetes.io/docs/concepts/security/pod-security-standards/, 2026-11-21"


def _own(lot: Lot) -> Iterator[tuple[Pod, Container]]:
    """Engines whose pod is all that its text shows."""
    for pod, container, _ in lot.engines():
        if not pod.managed:
            yield pod, container


def _root(lot: Lot) -> Iterator[Found]:
    for pod, container in _own(lot):
        inner, outer = container.body.map("securityContext"), pod.spec.map("securityContext")
        user = inner.number("runAsUser")
        user = outer.number("runAsUser") if user is None else user
        told = inner.get("runAsNonRoot", outer.get("runAsNonRoot"))
        if user == 0:
            line = inner.line("runAsUser") if "runAsUser" in inner else outer.line("runAsUser")
            yield Found(
                where=container.at(line, "securityContext.runAsUser"), message="runs as root (runAsUser: 0)"
            )
        elif user is None and told is not True:
            yield Found(
                where=container.where, message="may run as root: neither runAsNonRoot nor runAsUser is set"
            )


def _privileged(lot: Lot) -> Iterator[Found]:
    for _, container in _own(lot):
        context = container.body.map("securityContext")
        if context.get("privileged") is True:
            yield Found(
                where=container.at(context.line("privileged"), "securityContext.privileged"),
                message="is privileged",
            )
        elif context.get("allowPrivilegeEscalation") is True:
            line = context.line("allowPrivilegeEscalation")
            yield Found(
                where=container.at(line, "securityContext.allowPrivilegeEscalation"),
                message="may escalate privileges",
            )
        elif "allowPrivilegeEscalation" not in context:
            yield Found(
                where=container.where,
                message="may escalate privileges: allowPrivilegeEscalation is not set",
                fix="set allowPrivilegeEscalation: false",
                severity="note",
            )


def _host(lot: Lot) -> Iterator[Found]:
    for pod, _ in _own(lot):
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.spec.get(key) is True:
                yield Found(
                    where=pod.at(pod.spec.line(key), key), message=f"{key}: the pod shares the node's own"
                )


def _token(lot: Lot) -> Iterator[Found]:
    for pod, _ in _own(lot):
        if pod.spec.get("automountServiceAccountToken") is False:
            continue
        name = pod.spec.text("serviceAccountName") or "default"
        accounts = [
            each
            for each in lot.of_kind("ServiceAccount")
            if each.name == name and same_namespace(each, pod.owner)
        ]
        if any(each.body.get("automountServiceAccountToken") is False for each in accounts):
            continue
        if pod.spec.get("automountServiceAccountToken") is True:
            continue  # said on purpose
        yield Found(
            where=pod.where, message="gets a token for the cluster's API, which an engine does not use"
        )


def _remote_code(lot: Lot) -> Iterator[Found]:
    for _, container, engine in lot.engines():
        flag = engine.flag("trust-remote-code")
        variable = container.variable("TRUST_REMOTE_CODE") if engine.name == "tgi" else None
        if flag is not None and (flag.value or "").lower() != "false":
            yield Found(
                where=container.at(flag.where.line, "args"),
                message=f"{flag.written}: code of the model's repository runs here",
            )
        elif variable is not None and (variable.value or "").lower() == "true":
            yield Found(
                where=variable.where, message="TRUST_REMOTE_CODE: code of the model's repository runs here"
            )


def _no_policy(lot: Lot) -> Iterator[Found]:
    policies = list(lot.of_kind("NetworkPolicy", "CiliumNetworkPolicy"))
    for pod, _ in _own(lot):
        if any(
            _covers(policy.body.map("spec").map("podSelector").map("matchLabels"), pod) for policy in policies
        ):
            continue
        if any(not policy.body.at("spec", "podSelector") for policy in policies):
            continue
        yield Found(
            where=pod.owner.where,
            message="no NetworkPolicy selects the engine: everything in the cluster may ask it",
        )


def _covers(selector: Map, pod: Pod) -> bool:
    return selects(selector, pod.labels)


def _no_toleration(lot: Lot) -> Iterator[Found]:
    for pod, container in _own(lot):
        if container.gpus and not pod.spec.seq("tolerations"):
            yield Found(where=pod.where, message="asks for GPUs and tolerates no taint")


RULES = (
    Rule(
        code="SH041",
        title="Runs as root",
        severity="warning",
        reason="An engine parses models and requests of strangers; as root a hole in it is one in the "
        "node. Pod Security "
        "`restricted` refuses the pod.",
        fix="Set runAsNonRoot: true and a runAsUser of 10000 or more, with writable directories for caches.",
        sources=(_STANDARDS,),
        check=_root,
    ),
    Rule(
        code="SH042",
        title="Privileged, or may become so",
        severity="warning",
        reason="A privileged container owns the node; GPUs come by the device plugin and need no privilege.",
        fix="Set privileged: false and allowPrivilegeEscalation: false.",
        sources=(_STANDARDS,),
        check=_privileged,
    ),
    Rule(
        code="SH043",
        title="Shares the node's network, processes or memory",
        severity="warning",
        reason="hostNetwork, hostPID and hostIPC take the walls between the pod and its node away; Pod "
        "Security `baseline` "
        "refuses them.",
        fix="Use a memory-backed emptyDir at /dev/shm in place of hostIPC, and a Service in place of hostNetwork.",
        sources=(_STANDARDS,),
        check=_host,
    ),
    Rule(
        code="SH044",
        title="Token of the service account",
        severity="note",
        reason="Whoever gets into the engine gets the token with it.",
        fix="Set automountServiceAccountToken: false.",
        sources=(
            "https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/, 2026-11-21",
        ),
        check=_token,
    ),
    Rule(
        code="SH046",
        title="GPUs without a toleration",
        severity="note",
        reason="GPU nodes are often tainted, so that only pods with the toleration land there.",
        fix="Tolerate nvidia.com/gpu (or your cluster's taint), or ignore this where nodes have none.",
        sources=(
            "https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/, 2026-11-21",
        ),
        check=_no_toleration,
    ),
    Rule(
        code="SH049",
        title="Code from the model's repository",
        severity="warning",
        reason="With --trust-remote-code whoever can change the model's repository runs code in the cluster.",
        fix="Leave it out where the engine knows the architecture; else pin --revision to a commit that was read.",
        sources=("transformers' docs, trust_remote_code, 2026-11-21",),
        compose=True,
        check=_remote_code,
    ),
    Rule(
        code="SH050",
        title="No network policy",
        severity="note",
        reason="Without a policy every pod of the cluster may use the engine, and the engine may reach everything.",
        fix="Add a NetworkPolicy that lets the gateway and Prometheus in, and DNS and the model's source out.",
        sources=("https://kubernetes.io/docs/concepts/services-networking/network-policies/, 2026-11-21",),
        check=_no_policy,
    ),
)

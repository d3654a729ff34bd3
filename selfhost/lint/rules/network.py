"""Addresses and ports: what the engine listens on, and who asks where."""

from __future__ import annotations

from collections.abc import Iterator

from selfhost.lint.edits import add_after, add_key, replace_value
from selfhost.lint.labels import has_label, same_namespace, selects
from selfhost.lint.model import Container, Engine, Lot, Pod
from selfhost.lint.nodes import number_of
from selfhost.lint.types import Edit, Found, Rule

_LOOPBACK = frozenset(("127.0.0.1", "localhost", "::1", "[::1]"))
# Default ports: vLLM 0.32, SGLang 0.5.23, TGI 3.3.7's image, llama.cpp's server image, Ollama; read 2026-11-21.
PORTS = {"vllm": 8000, "sglang": 30000, "tgi": 80, "llamacpp": 8080, "ollama": 11434}
_PORT_VARIABLES = {"tgi": "PORT", "llamacpp": "LLAMA_ARG_PORT"}
# Variables of an engine that a Service's name can produce: `<NAME>_PORT=tcp://…`.
_TAKEN = {
    "vllm": {"VLLM_PORT": "vLLM ends at a URL in VLLM_PORT"},
    "tgi": {"PROMETHEUS_PORT": "TGI reads a number from PROMETHEUS_PORT"},
    "sglang": {"SGLANG_PORT": "SGLang reads SGLANG_PORT"},
}


def engine_port(container: Container, engine: Engine) -> int | None:
    """The port an engine serves on; None where it cannot be known."""
    if engine.name not in PORTS:
        return None
    flag = engine.flag("port")
    if flag is not None:
        return number_of(flag.value) if flag.value is not None else None
    name = _PORT_VARIABLES.get(engine.name)
    variable = container.variable(name) if name else None
    if variable is not None:
        return number_of(variable.value) if variable.value is not None else None
    host = container.variable("OLLAMA_HOST") if engine.name == "ollama" else None
    if host is not None:
        tail = (host.value or "").rpartition(":")[2]
        return number_of(tail) or PORTS["ollama"] if host.value is not None else None
    return PORTS[engine.name] if engine.complete and not container.env_from else None


def _loopback(lot: Lot) -> Iterator[Found]:
    for pod, container, engine in lot.engines():
        if engine.name not in PORTS or pod.role == "worker" or len(pod.mains) > 1:
            continue
        rank = engine.flag("node-rank")
        if rank is not None and rank.value not in (None, "0"):
            continue
        flag = engine.flag("host")
        host = flag.value if flag else None
        if flag is None and engine.name == "ollama":
            variable = container.variable("OLLAMA_HOST")
            host = (variable.value or "").partition("://")[2] or (variable.value or "") if variable else None
            host = host.rpartition(":")[0] or host if host else None
        if host in _LOOPBACK:
            edits = replace_value(flag.value_span, "0.0.0.0") if flag and flag.value_span else ()
            yield Found(
                where=container.at(flag.where.line if flag else container.where.line, "args"),
                message=f"{engine.name} listens on {host} only: probes and the Service cannot reach it",
                fix="set the host to 0.0.0.0",
                edits=edits,
            )
        elif flag is None and engine.name == "sglang" and engine.complete and not container.env_from:
            yield Found(
                where=container.where,
                message="SGLang listens on 127.0.0.1 unless told otherwise: probes and the Service cannot reach it",
                edits=_host(container, engine),
            )


def _host(container: Container, engine: Engine) -> tuple[Edit, ...]:
    """`--host=0.0.0.0` behind the last option that is an item of its own."""
    for key in ("args", "command"):
        items = container.body.seq(key)
        spans = {flag.value_span or flag.span for flag in engine.flags}
        for index in range(len(items) - 1, -1, -1):
            if items.spans[index] in spans:
                return add_after(items, index, "--host=0.0.0.0")
    return ()


def _links(lot: Lot) -> Iterator[Found]:
    services = list(lot.of_kind("Service"))
    for pod, container, engine in lot.engines():
        if pod.spec.get("enableServiceLinks") is False:
            continue
        for service in services:
            if service.body.map("spec").text("clusterIP") == "None" or not same_namespace(service, pod.owner):
                continue
            made = f"{service.name.upper().replace('-', '_')}_PORT"
            why = _TAKEN.get(engine.name, {}).get(made)
            if why is None or container.variable(made) is not None:
                continue
            yield Found(
                where=pod.at(pod.spec.line(), "enableServiceLinks"),
                message=f"Service {service.name} sets {made}=tcp://… in this pod: {why}",
                fix="set enableServiceLinks: false, or give the Service another name",
                edits=add_key(pod.spec, "enableServiceLinks: false"),
            )


def _ports(lot: Lot) -> Iterator[Found]:
    for pod, container, engine in lot.engines():
        port = engine_port(container, engine)
        if port is None:
            continue
        names = {each.name: each.number for each in container.ports if each.name}
        others = {each.number for other in pod.mains if other is not container for each in other.ports}
        for probe in container.probes:
            if probe.action not in ("http", "tcp") or probe.port is None:
                continue
            number = number_of(probe.port)
            if number is None and probe.port not in names:
                yield Found(
                    where=probe.where,
                    message=f"{probe.kind} probe asks port {probe.port}, which no port of the container is called",
                    fix=f"name a containerPort {probe.port}, or probe port {port}",
                )
                continue
            number = names.get(probe.port) if number is None else number
            if number is not None and number != port and number not in others and len(pod.mains) == 1:
                yield Found(
                    where=probe.where,
                    message=f"{probe.kind} probe asks port {number}, {engine.name} listens on {port}",
                    fix=f"probe port {port}",
                )
        yield from _services(lot, pod, container, engine, port)


def _services(lot: Lot, pod: Pod, container: Container, engine: Engine, port: int) -> Iterator[Found]:
    """A Service that selects the pod and reaches none of its engine's ports."""
    if len(pod.mains) > 1 or pod.managed:
        return
    names = {each.name: each.number for each in container.ports if each.name}
    for service in lot.of_kind("Service"):
        spec = service.body.map("spec")
        if not same_namespace(service, pod.owner) or not selects(spec.map("selector"), pod.labels):
            continue
        missed: list[tuple[int, str]] = []
        for _, entry in spec.seq("ports").maps():
            target = entry.text("targetPort") or entry.text("port")
            number = number_of(target) if target else None
            number = names.get(target or "") if number is None else number
            if number == port or target is None:
                missed = []
                break
            missed.append((entry.line(), target))
        if missed:
            line, target = missed[0]
            yield Found(
                where=service.at(line, "spec.ports"),
                message=f"Service {service.name} asks port {target} of {pod.owner.name}, {engine.name} "
                f"listens on {port}",
                fix=f"set targetPort: {port}",
            )


def _unselected(lot: Lot) -> Iterator[Found]:
    for pod in lot.pods:
        owner = pod.owner
        if owner.kind not in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"):
            continue
        wanted = owner.body.at("spec", "selector", "matchLabels")
        if wanted and not selects(wanted, pod.labels):
            missing = next(key for key, value in wanted.items() if not has_label(pod.labels, key, value))
            yield Found(
                where=owner.at(wanted.line(missing), "spec.selector.matchLabels"),
                message=f"the selector asks for label {missing}, which the pod's labels do not have with that value",
            )


def _low_port(lot: Lot) -> Iterator[Found]:
    for pod, container, engine in lot.engines():
        port = engine_port(container, engine)
        if port is None or port >= 1024 or not _unprivileged(pod, container):
            continue
        add = container.body.at("securityContext", "capabilities").seq("add")
        if any(
            str(each).upper().removeprefix("CAP_") in ("NET_BIND_SERVICE", "ALL") for each in add
        ) or _sysctl(pod):
            continue
        yield Found(
            where=container.where,
            message=f"{engine.name} listens on port {port} and does not run as root",
            fix="set PORT (or --port) to 8080, and the Service's targetPort and the probes with it",
        )


def _sysctl(pod: Pod) -> bool:
    sysctls = pod.spec.map("securityContext").seq("sysctls")
    return any(each.text("name") == "net.ipv4.ip_unprivileged_port_start" for _, each in sysctls.maps())


def _unprivileged(pod: Pod, container: Container) -> bool:
    for context in (container.body.map("securityContext"), pod.spec.map("securityContext")):
        user = context.number("runAsUser")
        if user is not None:
            return user > 0
        if context.get("runAsNonRoot") is True:
            return True
    return False


RULES = (
    Rule(
        code="SH030",
        title="Engine on loopback",
        severity="error",
        reason="SGLang binds 127.0.0.1 unless told otherwise, so nothing outside the container reaches "
        "it: no probe, no Service.",
        fix="Add --host=0.0.0.0 to the arguments.",
        sources=("SGLang 0.5.23, srt/server_args.py, read 2026-11-21",),
        compose=True,
        check=_loopback,
        fixable=True,
    ),
    Rule(
        code="SH036",
        title="Service links that collide with the engine's variables",
        severity="error",
        reason="Kubernetes sets NAME_PORT=tcp://… for each Service of the namespace: one called vllm "
        "sets VLLM_PORT, at which "
        "vLLM ends.",
        fix="Set enableServiceLinks: false on the pod.",
        sources=("vllm-project/vllm#34199, vllm PR #18209, gpustack/gpustack#5908, 2026-11-21",),
        check=_links,
        fixable=True,
    ),
    Rule(
        code="SH007",
        title="Ports that do not meet",
        severity="error",
        reason="A probe or Service that asks another port than the engine listens on is refused: the pod "
        "is never ready.",
        fix="Use one port in --port, containerPort, probes and targetPort.",
        sources=("https://kubernetes.io/docs/concepts/services-networking/service/, 2026-11-21",),
        check=_ports,
    ),
    Rule(
        code="SH006",
        title="Selector that does not match the pods",
        severity="error",
        reason="The API server refuses a workload whose selector does not match the labels of its own template.",
        fix="Give the template every label of the selector.",
        sources=(
            "https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#selector, 2026-11-21",
        ),
        check=_unselected,
    ),
    Rule(
        code="SH045",
        title="Port below 1024 without root",
        severity="warning",
        reason="A process that is not root may not bind ports below 1024 unless the container runtime "
        "allows it; TGI's image "
        "listens on 80.",
        fix="Set the port to 8080 or another above 1023.",
        sources=("TGI 3.3.7 Dockerfile (PORT=80), read 2026-11-21",),
        check=_low_port,
    ),
)

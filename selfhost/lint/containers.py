"""A container's mapping to `Container`: image, words, variables, probes, resources, mounts and the engine in it."""

from __future__ import annotations

import re
from dataclasses import replace

from selfhost.lint.command import Environment, command_line, expand
from selfhost.lint.engines import engine_of
from selfhost.lint.images import image_of
from selfhost.lint.model import (
    Accelerator,
    Container,
    Mount,
    Port,
    Probe,
    ProbeKind,
    Variable,
)
from selfhost.lint.nodes import Map, number_of, text_of
from selfhost.lint.types import Settings, Where

# Extended resources that are accelerators. Device plugins of NVIDIA (whole, MIG, renamed shares), AMD, Intel, Google,
# AWS, Huawei and others, as their own docs name them, 2026-11-21.
_ACCELERATOR = re.compile(
    r"nvidia\.com/(gpu(\.shared)?|mig-[0-9a-z.+-]+|[A-Z0-9_]*GPU[A-Z0-9_-]*)$|amd\.com/gpu|"
    r"gpu\.intel\.com/(i915|xe)$|habana\.ai/gaudi|google\.com/tpu|aws\.amazon\.com/neuron(core|device)?$|"
    r"huawei\.com/[Aa]scend|cambricon\.com/|metax-tech\.com/gpu|furiosa\.ai/|rebellions\.ai/|tenstorrent\.com/|qualcomm\.com/"
)
_SOURCES = (
    ("secretKeyRef", "secret"), ("configMapKeyRef", "configmap"), ("fieldRef", "field"),
    ("resourceFieldRef", "resource"), ("fileKeyRef", "file"),
)  # fmt: skip
_ACTIONS = (("httpGet", "http"), ("tcpSocket", "tcp"), ("exec", "exec"), ("grpc", "grpc"))
_KINDS: tuple[ProbeKind, ...] = ("startup", "readiness", "liveness")


def is_accelerator(resource: str) -> bool:
    """An extended resource that stands for accelerators (not for their memory or shares of cores)."""
    return _ACCELERATOR.match(resource) is not None


def container_of(body: Map, where: Where, settings: Settings, *, init: bool) -> Container:
    """Read a container.

    Args:
        body: its mapping.
        where: its place.
        settings: what the user said about engines.
        init: it stands among initContainers.
    """
    variables = _variables(body, where)
    values: Environment = {each.name: each.value for each in variables}
    line = command_line(body, values)
    image = image_of(body.text("image"))
    resources = body.map("resources")
    requests, limits = resources.map("requests"), resources.map("limits")
    sidecar = init and body.text("restartPolicy") == "Always"
    by_runtime = (
        "modelFormat" in body or "runtime" in body
    )  # of KServe: its image stands in the ServingRuntime
    engine = engine_of(
        line, image, values, where, settings,
        init=init and not sidecar, patch=image is None and not by_runtime,
    )  # fmt: skip
    return Container(
        name=body.text("name") or "",
        image=image,
        init=init and not sidecar,
        words=tuple(word for command in line.commands for word in command.words),
        complete=not line.shell,
        variables=variables,
        env_from=bool(body.seq("envFrom")),
        ports=_ports(body, where),
        probes=tuple(
            _probe(kind, body.map(f"{kind}Probe"), body, where) for kind in _KINDS if body.map(f"{kind}Probe")
        ),
        requests=requests,
        limits=limits,
        accelerators=_accelerators(requests, limits, where),
        claims=tuple(claim.text("name") or "" for _, claim in resources.seq("claims").maps()),
        mounts=_mounts(body, where),
        engine=engine,
        where=where,
        body=body,
    )


def _below(where: Where, line: int, path: str) -> Where:
    return replace(where, line=line, path=f"{where.path}.{path}")


def _variables(body: Map, where: Where) -> tuple[Variable, ...]:
    found: list[Variable] = []
    values: dict[str, str | None] = {}
    for index, entry in body.seq("env").maps():
        name = entry.text("name") or ""
        place = _below(where, entry.line(), f"env[{index}]")
        source, value = "none", None
        if "value" in entry:
            source, text = "value", text_of(entry["value"])
            if text is None:
                value = "" if entry["value"] is None else None
            else:
                resolved, known = expand(text, values)
                value = resolved if known else None
        elif entry.map("valueFrom"):
            source = next((short for key, short in _SOURCES if key in entry.map("valueFrom")), "other")
        else:
            value = ""
        values[name] = value
        found.append(Variable(name=name, value=value, source=source, where=place, body=entry))
    return tuple(found)


def _ports(body: Map, where: Where) -> tuple[Port, ...]:
    return tuple(
        Port(
            name=entry.text("name") or "",
            number=entry.number("containerPort"),
            protocol=entry.text("protocol") or "TCP",
            where=_below(where, entry.line(), f"ports[{index}]"),
        )
        for index, entry in body.seq("ports").maps()
    )


def _probe(kind: ProbeKind, probe: Map, body: Map, where: Where) -> Probe:
    action = next((short for key, short in _ACTIONS if key in probe), "none")
    http, key = probe.map("httpGet"), f"{kind}Probe"
    port = {"http": http, "tcp": probe.map("tcpSocket"), "grpc": probe.map("grpc")}.get(action, Map())
    path = http.text("path")
    return Probe(
        kind=kind,
        action=action,
        path=(path or "/").partition("?")[0] if action == "http" else None,
        port=port.text("port"),
        command=tuple(text_of(word) or "" for word in probe.map("exec").seq("command")),
        headers=tuple((entry.text("name") or "").lower() for _, entry in http.seq("httpHeaders").maps()),
        # Kubernetes' defaults: core/v1 Probe, 1.37.
        initial_delay_seconds=_counted(probe, "initialDelaySeconds", 0),
        period_seconds=_counted(probe, "periodSeconds", 10),
        timeout_seconds=_counted(probe, "timeoutSeconds", 1),
        failures=_counted(probe, "failureThreshold", 3),
        where=_below(where, body.line(key), key),
        body=probe,
    )


def _counted(probe: Map, key: str, default: int) -> int:
    number = probe.number(key)
    return default if number is None or (number == 0 and default) else number


def _accelerators(requests: Map, limits: Map, where: Where) -> tuple[Accelerator, ...]:
    found = []
    for name in sorted({*requests, *limits}):
        if is_accelerator(name):
            line = limits.line(name) if name in limits else requests.line(name)
            key = "limits" if name in limits else "requests"
            found.append(
                Accelerator(
                    resource=name,
                    request=number_of(requests.get(name)),
                    limit=number_of(limits.get(name)),
                    where=_below(where, line, f"resources.{key}.{name}"),
                )
            )
    return tuple(found)


def _mounts(body: Map, where: Where) -> tuple[Mount, ...]:
    return tuple(
        Mount(
            name=entry.text("name") or "",
            path=entry.text("mountPath") or "",
            sub_path=entry.text("subPath") or "",
            where=_below(where, entry.line(), f"volumeMounts[{index}]"),
            body=entry,
        )
        for index, entry in body.seq("volumeMounts").maps()
    )

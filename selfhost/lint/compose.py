"""Services of a Compose file as pods, so that the rules about engines themselves can look at them.

Only rules whose `compose` says so see them: what is a fault of a pod's surroundings (surge, service links, grace
period) is none of a Compose file's. https://github.com/compose-spec/compose-spec, read 2026-11-26.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from selfhost.lint.model import Object, Pod
from selfhost.lint.nodes import Map, Seq, Span, Value, text_of
from selfhost.lint.pods import pod_of
from selfhost.lint.types import Settings, Where

COMPOSE_FILE = "Compose file"
# `$$`, `${NAME}` with a default or an alternative, `$NAME`: values from the shell or a .env file beside.
_REFERENCE = re.compile(r"\$\$|\$\{([A-Za-z_]\w*)(?::?([-?+])((?:[^{}]|\$\{[^{}]*\})*))?\}|\$([A-Za-z_]\w*)")
_SECRET = re.compile(r"(KEY|TOKEN|PASSWORD|SECRET)$")


def compose_object(file: str, body: Map, line: int) -> Object:
    """The whole file as one object."""
    where = Where(file=file, line=line)
    return Object(
        kind=COMPOSE_FILE, api_version="", name="", namespace="", labels=Map(), annotations=Map(),
        body=body, where=where,
    )  # fmt: skip


def services_of(item: Object, settings: Settings) -> Iterator[Pod]:
    """A pod with one container for every service that has an image."""
    services = item.body.map("services")
    for name, service in services.items():
        if isinstance(service, Map) and service.text("image"):
            spec = _spec(name, service)
            yield pod_of(item, spec, f"services.{name}", services.line(name), settings)


def _spec(name: str, service: Map) -> Map:
    at = service.span
    container = _map(at, name=name, image=_filled(service.text("image") or "")[0])
    container.keys_at["image"] = service.keys_at["image"]
    for ours, theirs in (("command", "entrypoint"), ("args", "command")):
        if service.get(theirs):
            container[ours] = _words(service[theirs])
            container.keys_at[ours], container.values_at[ours] = (
                service.keys_at[theirs],
                service.values_at[theirs],
            )
    container["env"] = _environment(service.get("environment"))
    container["resources"] = _resources(service)
    spec = _map(at, containers=_seq(at, container))
    if service.text("ipc"):
        spec["hostIPC"] = True  # of the host or of another container: not the 64 MiB of its own
    size = service.text("shm_size")
    if size is not None:
        volume = _map(service.keys_at["shm_size"], medium="Memory", sizeLimit=_size(size))
        spec["volumes"] = _seq(at, _map(service.keys_at["shm_size"], name="shm", emptyDir=volume))
    mounts = [_map(at, name=kind, mountPath=path) for kind, path in _mounted(service)]
    container["volumeMounts"] = _seq(at, *mounts)
    return spec


def _mounted(service: Map) -> Iterator[tuple[str, str]]:
    if service.text("shm_size") is not None:
        yield "shm", "/dev/shm"
    for entry in service.seq("volumes"):
        text = entry.text("target") if isinstance(entry, Map) else (text_of(entry) or "")
        parts = (text or "").split(":")
        yield "volume", parts[1] if len(parts) > 1 and not isinstance(entry, Map) else parts[0]
    for text in (text_of(each) or "" for each in service.seq("tmpfs")):
        yield "volume", text.partition(":")[0]


def _map(span: Span, **entries: Value) -> Map:
    made = Map()
    made.span = span
    for key, value in entries.items():
        made[key] = value
        made.keys_at[key] = made.values_at[key] = span
    return made


def _seq(span: Span, *items: Value) -> Seq:
    made = Seq()
    made.span = span
    made.extend(items)
    made.spans.extend(item.span if isinstance(item, Map | Seq) else span for item in items)
    return made


def _filled(text: str) -> tuple[str, bool]:
    """Defaults in the place of variables; what has none as Kubernetes writes a reference that nobody resolves."""
    known = True

    def value(found: re.Match[str]) -> str:
        nonlocal known
        if found[0] == "$$":
            return "$"
        if found[2] == "-":
            return _filled(found[3] or "")[0]
        known = False
        return f"$(host.{found[1] or found[4]})"

    return _REFERENCE.sub(value, text), known


def _words(value: Value) -> Value:
    if isinstance(value, Seq):
        filled = _seq(value.span, *(_filled(text_of(each) or "")[0] for each in value))
        filled.spans[:] = value.spans
        return filled
    return _filled(text_of(value) or "")[0]


def _environment(value: Value) -> Seq:
    """Both forms, `NAME=value` and `NAME: value`; a name alone passes on the host's."""
    entries = []
    if isinstance(value, Map):
        for name, each in value.items():
            entries.append(_variable(name, text_of(each), value.keys_at[name]))
    elif isinstance(value, Seq):
        for index, each in enumerate(value):
            name, given, text = (text_of(each) or "").partition("=")
            entries.append(_variable(name, text if given else None, value.spans[index]))
    return _seq(value.span if isinstance(value, Map | Seq) else Span(1, 0, 1, 0), *entries)


def _variable(name: str, text: str | None, span: Span) -> Map:
    filled, known = _filled(text) if text is not None else ("", False)
    if known and not (filled != text and _SECRET.search(name)):  # the default of a key is not the key
        return _map(span, name=name, value=filled)
    return _map(span, name=name, valueFrom=_map(span, fileKeyRef=_map(span)))


def _resources(service: Map) -> Map:
    """GPUs as far as they are counted: `count: all`, `gpus: all` and runtimes give what the machine has."""
    held = service.at("deploy", "resources", "reservations").seq("devices")
    listed = service.seq("gpus")
    total, at = 0, service.span
    for _, device in (*held.maps(), *listed.maps()):
        if "gpu" not in [text_of(each) for each in device.seq("capabilities")] and device in list(held):
            continue
        ids = device.seq("device_ids")
        number = len(ids) or device.number("count")
        at = device.span
        if number is None:
            return _map(at, claims=_seq(at, _map(at, name="gpus")))
        total += number
    open_ended = service.text("gpus") or service.text("runtime") or service.seq("devices")
    if open_ended or (not total and ("deploy" in service or "extends" in service)):
        return _map(at, claims=_seq(at, _map(at, name="gpus")))
    return _map(at, limits=_map(at, **{"nvidia.com/gpu": total})) if total else _map(at)


def _size(text: str) -> str:
    """`16gb` and `16g` are binary in Compose files."""
    found = re.match(r"(\d+(?:\.\d+)?)\s*([kmgtKMGT]?)[iI]?[bB]?$", text.strip())
    return f"{found[1]}{found[2].upper() or ''}{'i' if found[2] else ''}" if found else text

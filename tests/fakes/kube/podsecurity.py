"""Pod Security admission: what of a pod a level does not allow, in pod-security-admission's words (1.36)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tests.fakes.kube.wire import Object, at

_CAPABILITIES = frozenset({
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
})  # fmt: skip
_VOLUMES = frozenset({
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret",
})  # fmt: skip


def violations(spec: Object, level: str) -> list[str]:
    """Why a pod does not hold to `baseline` or `restricted`."""
    if level != "restricted":
        return [*_baseline(spec), *_lax(spec)]
    return [*_baseline(spec), *_restricted(spec)]


def _containers(spec: Object) -> Iterator[Object]:
    for name in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(name) or ()


def _named(spec: Object, test: Callable[[Object], Any]) -> str:
    """`container "a"` or `containers "a", "b"`, empty where no container is meant."""
    names = [f'"{one.get("name")}"' for one in _containers(spec) if test(one)]
    return f"container{'s' if len(names) > 1 else ''} {', '.join(names)}" if names else ""


def _baseline(spec: Object) -> Iterator[str]:
    hosts = [f"{name}=true" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    if hosts:
        yield f"host namespaces ({', '.join(hosts)})"
    ports = [
        (one, port["hostPort"])
        for one in _containers(spec)
        for port in one.get("ports") or ()
        if port.get("hostPort")
    ]
    if ports:
        names = _named(spec, lambda one: any(port.get("hostPort") for port in one.get("ports") or ()))
        numbers = ", ".join(str(port) for _, port in ports)
        uses = f"use hostPorts {numbers}" if len(ports) > 1 else f"uses hostPort {numbers}"
        yield f"hostPort ({names} {uses})"
    found = _named(spec, lambda one: at(one, "securityContext", "privileged"))
    if found:
        yield f"privileged ({found} must not set securityContext.privileged=true)"


def _lax(spec: Object) -> Iterator[str]:
    """What the level restricted has rules of its own for."""
    paths = [f'"{one.get("name")}"' for one in spec.get("volumes") or () if one.get("hostPath") is not None]
    if paths:
        yield f"hostPath volumes (volume{'s' if len(paths) > 1 else ''} {', '.join(paths)})"
    added = _named(spec, lambda one: _added(one) - _CAPABILITIES)
    if added:
        names = sorted({name for one in _containers(spec) for name in _added(one) - _CAPABILITIES})
        quoted = ", ".join(f'"{name}"' for name in names)
        yield f"non-default capabilities ({added} must not include {quoted} in securityContext.capabilities.add)"


def _added(one: Object) -> frozenset[str]:
    return frozenset(at(one, "securityContext", "capabilities", "add") or ())


def _restricted(spec: Object) -> Iterator[str]:
    found = _named(spec, lambda one: at(one, "securityContext", "allowPrivilegeEscalation") is not False)
    if found:
        yield f"allowPrivilegeEscalation != false ({found} must set securityContext.allowPrivilegeEscalation=false)"
    found = _named(spec, lambda one: "ALL" not in (at(one, "securityContext", "capabilities", "drop") or ()))
    more = _named(spec, lambda one: _added(one) - {"NET_BIND_SERVICE"})
    if found or more:
        words = [f'{found} must set securityContext.capabilities.drop=["ALL"]'] if found else []
        names = sorted({name for one in _containers(spec) for name in _added(one) - {"NET_BIND_SERVICE"}})
        quoted = ", ".join(f'"{name}"' for name in names)
        words += [f"{more} must not include {quoted} in securityContext.capabilities.add"] if more else []
        yield f"unrestricted capabilities ({'; '.join(words)})"
    odd = [
        (one.get("name"), kind)
        for one in spec.get("volumes") or ()
        for kind in one
        if kind != "name" and kind not in _VOLUMES
    ]
    if odd:
        names = [f'"{name}"' for name, _ in odd]
        kinds = sorted({f'"{kind}"' for _, kind in odd})
        plural = len(names) > 1
        yield (
            f"restricted volume types (volume{'s' if plural else ''} {', '.join(names)} use{'' if plural else 's'} "
            f"restricted volume type{'s' if len(kinds) > 1 else ''} {', '.join(kinds)})"
        )
    yield from _roots(spec)
    yield from _seccomp(spec)


def _roots(spec: Object) -> Iterator[str]:
    pod = at(spec, "securityContext", "runAsNonRoot")
    bad = _named(spec, lambda one: at(one, "securityContext", "runAsNonRoot") is False)
    unset = _named(spec, lambda one: at(one, "securityContext", "runAsNonRoot") is None)
    if bad:
        yield f"runAsNonRoot != true ({bad} must not set securityContext.runAsNonRoot=false)"
    elif unset and pod is False:
        yield "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)"
    elif unset and pod is None:
        yield f"runAsNonRoot != true (pod or {unset} must set securityContext.runAsNonRoot=true)"
    users = [
        f'"{one.get("name")}"' for one in _containers(spec) if at(one, "securityContext", "runAsUser") == 0
    ]
    if at(spec, "securityContext", "runAsUser") == 0:
        yield "runAsUser=0 (pod must not set runAsUser=0)"
    elif users:
        yield f"runAsUser=0 (container{'s' if len(users) > 1 else ''} {', '.join(users)} must not set runAsUser=0)"


def _seccomp(spec: Object) -> Iterator[str]:
    right = ("RuntimeDefault", "Localhost")
    pod = at(spec, "securityContext", "seccompProfile", "type")
    bad = _named(spec, lambda one: at(one, "securityContext", "seccompProfile", "type") not in (None, *right))
    unset = _named(spec, lambda one: at(one, "securityContext", "seccompProfile", "type") is None)
    if bad:
        yield f'seccompProfile ({bad} must not set securityContext.seccompProfile.type to "Unconfined")'
    elif unset and pod not in right:
        yield (
            f"seccompProfile (pod or {unset} must set securityContext.seccompProfile.type to "
            '"RuntimeDefault" or "Localhost")'
        )

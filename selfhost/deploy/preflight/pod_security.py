"""The Pod Security Standards over a pod spec: what levels `baseline` and `restricted` have against it; pure.

Kubernetes 1.37, "Pod Security Standards" and pod-security-admission/policy; the newest version of each level, which
is what namespaces without a version label enforce. The dry-run of the objects does not ask the admission plugin: it
judges pods, and templates only with a warning.
"""

from __future__ import annotations

from collections.abc import Iterator

from selfhost.cluster.types import Object
from selfhost.cluster.values import part, parts, text, whole

_RESTRICTED_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
_CAPABILITIES = {
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}  # fmt: skip
_SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
}  # fmt: skip


def violations(spec: Object, level: str) -> tuple[str, ...]:
    """What a level has against a pod, a phrase each; nothing for `privileged`.

    Args:
        spec: of the pod.
        level: `privileged`, `baseline` or `restricted`.
    """
    if level == "privileged":
        return ()
    found = [*_baseline(spec)]
    if level == "restricted":
        found += _restricted(spec)
    return tuple(dict.fromkeys(found))


def _containers(spec: Object) -> tuple[Object, ...]:
    return (*parts(spec, "initContainers"), *parts(spec, "containers"))


def _baseline(spec: Object) -> Iterator[str]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name) is True:
            yield name
    for volume in parts(spec, "volumes"):
        if "hostPath" in volume:
            yield f"hostPath volume {text(volume, 'name')}"
    outer = part(spec, "securityContext")
    for sysctl in parts(outer, "sysctls"):
        if text(sysctl, "name") not in _SYSCTLS:
            yield f"sysctl {text(sysctl, 'name')}"
    if _seccomp(outer) == "Unconfined":
        yield "seccomp is Unconfined"
    for container in _containers(spec):
        yield from (f"container {text(container, 'name')} {line}" for line in _of_container(container))


def _of_container(container: Object) -> Iterator[str]:
    own = part(container, "securityContext")
    if own.get("privileged") is True:
        yield "is privileged"
    given = part(own, "capabilities").get("add")
    extra = {str(one) for one in given} - _CAPABILITIES if isinstance(given, list) else set()
    if extra:
        yield f"adds {', '.join(sorted(extra))}"
    if any(whole(port, "hostPort") for port in parts(container, "ports")):
        yield "takes a port of the host"
    if _seccomp(own) == "Unconfined":
        yield "has no seccomp (Unconfined)"
    if (text(own, "procMount") or "Default") != "Default":
        yield "sees an unmasked /proc"


def _restricted(spec: Object) -> Iterator[str]:
    for volume in parts(spec, "volumes"):
        kinds = set(volume) - {"name"} - _RESTRICTED_VOLUMES - {"hostPath"}
        if kinds:
            yield f"volume {text(volume, 'name')} is of a kind that it does not permit ({', '.join(sorted(kinds))})"
    outer = part(spec, "securityContext")
    for container in _containers(spec):
        own, name = part(container, "securityContext"), text(container, "name")
        capabilities = part(own, "capabilities")
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"container {name} may escalate privileges"
        dropped = capabilities.get("drop")
        if not isinstance(dropped, list) or "ALL" not in dropped:
            yield f"container {name} does not drop all capabilities"
        given = capabilities.get("add")
        if isinstance(given, list) and {str(one) for one in given} - {"NET_BIND_SERVICE"}:
            yield f"container {name} adds capabilities"
        if own.get("runAsNonRoot", outer.get("runAsNonRoot")) is not True:
            yield f"container {name} may run as root"
        if own.get("runAsUser", outer.get("runAsUser")) == 0:
            yield f"container {name} runs as root"
        if (_seccomp(own) or _seccomp(outer)) not in ("RuntimeDefault", "Localhost"):
            yield f"container {name} has no seccomp profile"


def _seccomp(context: Object) -> str:
    return text(part(context, "seccompProfile"), "type")

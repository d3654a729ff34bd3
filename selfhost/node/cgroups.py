"""Which container, pod or systemd unit a process belongs to, from the lines of /proc/<pid>/cgroup.

Forms (cgroups(7), and the cgroup drivers of docker, containerd, CRI-O, podman and the kubelet):

    0::/system.slice/docker-<64 hex>.scope                                        docker, systemd driver, v2
    4:memory:/docker/<64 hex>                                                     docker, cgroupfs driver, v1
    0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid with _>.slice/cri-containerd-<64 hex>.scope
    0::/kubepods/besteffort/pod<uid with ->/<64 hex>                              kubelet, cgroupfs driver
    0::/…-pod<uid>.slice:cri-containerd:<64 hex>                                  containerd, runc without systemd
    0::/machine.slice/libpod-<64 hex>.scope/container                             podman
    0::/system.slice/vllm.service                                                 a unit without a container
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_CONTAINER = re.compile(r"(?<![0-9a-f])([0-9a-f]{64})(?![0-9a-f])")
# A pod's uid is a UUID; a static pod's is the 32 digits of a hash.
_POD = re.compile(
    r"(?:^|[-/])pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32})"
    r"(?=\.slice|/|:|$)"
)
_UNIT = re.compile(r"([^/]+\.service)(?=/|$)")
# Helpers of a container, not the container: they would name it by the same id.
_NO_CONTAINER = ("libpod-conmon-", "crio-conmon-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Where a process belongs; None where it does not.

    Args:
        container_id: 64 hex digits.
        pod_uid: as Kubernetes writes it, with hyphens.
        unit: systemd unit, outside containers only: inside one it would be the container runtime's.
    """

    container_id: str | None = None
    pod_uid: str | None = None
    unit: str | None = None


def membership(text: str) -> Membership:
    """What the lines of /proc/<pid>/cgroup say.

    Args:
        text: the file. Of several hierarchies (v1) the first that names a container counts; a container within a
            container (kind, docker in docker) is named by its innermost id.
    """
    paths = [line.split(":", 2)[2] for line in text.splitlines() if line.count(":") >= 2]
    for path in paths:
        if any(helper in path for helper in _NO_CONTAINER):
            continue
        ids = _CONTAINER.findall(path)
        pods = _POD.findall(path)
        if ids or pods:
            return Membership(
                container_id=ids[-1] if ids else None,
                pod_uid=pods[-1].replace("_", "-") if pods else None,
            )
    for path in paths:
        units = _UNIT.findall(path)
        # user@1000.service/app.slice/vllm.service: the innermost is the one that somebody can restart.
        if units:
            return Membership(unit=_unescaped(units[-1]))
    return Membership()


def _unescaped(unit: str) -> str:
    r"""A unit's name with systemd's \x2d turned back into what it stands for, as far as it is printable."""
    plain = re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), unit)
    return plain if plain.isprintable() else unit

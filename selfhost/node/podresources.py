"""Which pod was given which GPU: the kubelet's pod-resources API, gRPC over a unix socket.

Own declarations of what is read of `v1.PodResourcesLister/List` (staging/src/k8s.io/kubelet/pkg/apis/podresources/v1,
kubernetes 1.37, 2026-11-21); fields that are not declared are skipped by protobuf.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from selfhost.observation import Missing, Reading, known

SOCKET = Path("/var/lib/kubelet/pod-resources/kubelet.sock")
METHOD = "/v1.PodResourcesLister/List"
# Ours: the kubelet answers in milliseconds; what takes longer is not waited for in a poll.
_DEADLINE_SECONDS = 1.0
_KEPT_SECONDS = 10.0
# What the kubelet's own clients allow (pkg/kubelet/apis/podresources/client.go: 16 MiB).
_LARGEST_BYTES = 16 << 20
_HINT = (
    "mount /var/lib/kubelet/pod-resources read-only into the pod, and run as a user who may open the socket"
)

# Message -> (number, name, type); a type that is no scalar is a message below, and every field but a * is single.
_MESSAGES: dict[str, tuple[tuple[int, str, str], ...]] = {
    "ListPodResourcesRequest": (),
    "ListPodResourcesResponse": ((1, "pod_resources", "*PodResources"),),
    "PodResources": (
        (1, "name", "string"),
        (2, "namespace", "string"),
        (3, "containers", "*ContainerResources"),
    ),
    "ContainerResources": (
        (1, "name", "string"),
        (2, "devices", "*ContainerDevices"),
        (5, "dynamic_resources", "*DynamicResource"),
    ),
    "ContainerDevices": ((1, "resource_name", "string"), (2, "device_ids", "*string")),
    "DynamicResource": (
        (2, "claim_name", "string"),
        (3, "claim_namespace", "string"),
        (4, "claim_resources", "*ClaimResource"),
    ),
    "ClaimResource": (
        (1, "cdi_devices", "*CDIDevice"),
        (2, "driver_name", "string"),
        (3, "pool_name", "string"),
        (4, "device_name", "string"),
    ),
    "CDIDevice": ((1, "name", "string"),),
}

# NVIDIA/k8s-device-plugin: a UUID, with ::<n> for a replica of a GPU that is shared by time-slicing or MPS.
_UUID = re.compile(r"(?:GPU|MIG)-[0-9A-Za-z/-]+")
# GKE's own plugin: nvidia0, nvidia0/gi3, and nvidia0/vgpu1 or nvidia0/gi3/vgpu1 where it is shared.
_GKE = re.compile(r"nvidia(\d{1,4})(?:/gi(\d{1,4}))?(?:/vgpu\d+)?")
# NVIDIA's DRA driver names a device after the minor number of its GPU: gpu-0, and gpu-0-mig-9-0-1, whose profile and
# placement tell no instance id.
_DRA_DRIVER = "gpu.nvidia.com"
_DRA = re.compile(r"gpu-(\d{1,4})")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOwner:
    """A container and one device it was given.

    Args:
        device: the id as the kubelet gives it, without the number of a replica.
        shared: the device was given as one of several replicas.
        claim: name of the ResourceClaim, for devices given by dynamic resource allocation.
    """

    namespace: str
    pod: str
    container: str
    device: str
    shared: bool = False
    claim: str | None = None

    @property
    def who(self) -> tuple[str, str, str]:
        """Namespace, pod and container."""
        return self.namespace, self.pod, self.container

    def holds(self, uuid: str, minor: int | None, *, gpu_instance: int | None = None) -> bool:
        """Whether this is the GPU, or with `gpu_instance` its MIG instance, of that UUID and minor number."""
        if self.device == uuid:
            return True
        if minor is None:
            return False
        if self.claim is not None:
            found = _DRA.fullmatch(self.device)
            return found is not None and gpu_instance is None and int(found[1]) == minor
        found = _GKE.fullmatch(self.device)
        instance = None if gpu_instance is None else str(gpu_instance)
        return found is not None and int(found[1]) == minor and found[2] == instance


class PodResources:
    """The kubelet's list of devices and the containers they were given to, kept for some seconds.

    Args:
        socket: the kubelet's socket.
        deadline_seconds: how long an answer is waited for.
        kept_seconds: how long an answer, or the lack of one, is used.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        socket: Path = SOCKET,
        *,
        deadline_seconds: float = _DEADLINE_SECONDS,
        kept_seconds: float = _KEPT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._socket = socket
        self._deadline_seconds = deadline_seconds
        self._kept_seconds = kept_seconds
        self._clock = clock
        self._listed: Reading[tuple[DeviceOwner, ...]] | None = None
        self._listed_at = 0.0

    def list(self) -> Reading[tuple[DeviceOwner, ...]]:
        """Every NVIDIA device that a container was given; Missing with the reason where the kubelet does not say.

        Never takes longer than the deadline, and raises nothing.
        """
        now = self._clock()
        if self._listed is None or now - self._listed_at >= self._kept_seconds:
            self._listed = self._ask()
            self._listed_at = now
        return self._listed

    def owners(
        self, uuid: str, minor: int | None = None, *, gpu_instance: int | None = None
    ) -> Reading[tuple[DeviceOwner, ...]]:
        """The containers that hold one GPU or MIG instance; more than one where it is shared."""
        listed = self.list()
        if not known(listed):
            return listed
        return tuple(owner for owner in listed if owner.holds(uuid, minor, gpu_instance=gpu_instance))

    def _ask(self) -> Reading[tuple[DeviceOwner, ...]]:
        try:
            if not self._socket.is_socket():
                return Missing(missing=f"no kubelet socket at {self._socket}; in a pod, {_HINT}")
        except OSError as error:
            return Missing(missing=f"{self._socket} cannot be looked at ({error.strerror}); {_HINT}")
        try:
            import grpc

            request, response = messages("ListPodResourcesRequest"), messages("ListPodResourcesResponse")
        except ImportError as error:
            return Missing(
                missing=f"{error.name or 'grpcio'} is not installed: pip install 'selfhost[cluster]'"
            )
        options = [("grpc.max_receive_message_length", _LARGEST_BYTES), ("grpc.enable_http_proxy", 0)]
        try:
            with grpc.insecure_channel(f"unix://{self._socket.absolute()}", options=options) as channel:
                call = channel.unary_unary(
                    METHOD,
                    request_serializer=request.SerializeToString,
                    response_deserializer=response.FromString,
                )
                answer = call(request(), timeout=self._deadline_seconds)
        except grpc.RpcError as error:
            return Missing(missing=_failed(error, self._deadline_seconds))
        return tuple(_owners(answer))


@cache
def messages(name: str) -> Any:
    """The protobuf class of one message of the API, made from the declarations above.

    Raises:
        ImportError: protobuf is not installed.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="selfhost/podresources.proto", package="v1", syntax="proto3"
    )
    for message, declared in _MESSAGES.items():
        own = file.message_type.add(name=message)
        for number, field, of in declared:
            repeated, of = of.startswith("*"), of.removeprefix("*")
            made = own.field.add(name=field, number=number)
            made.label = kind.LABEL_REPEATED if repeated else kind.LABEL_OPTIONAL
            made.type = kind.TYPE_STRING if of == "string" else kind.TYPE_MESSAGE
            if of != "string":
                made.type_name = f".v1.{of}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"v1.{name}"))


def _owners(answer: Any) -> list[DeviceOwner]:
    found = []
    for pod in answer.pod_resources:
        for container in pod.containers:
            who = {"namespace": pod.namespace, "pod": pod.name, "container": container.name}
            for devices in container.devices:
                for given in devices.device_ids:
                    device, _, replica = given.partition("::")
                    if _UUID.fullmatch(device) or _GKE.fullmatch(device):
                        shared = bool(replica) or "/vgpu" in device
                        found.append(DeviceOwner(**who, device=device, shared=shared))
            for claim in container.dynamic_resources:
                found.extend(
                    DeviceOwner(**who, device=resource.device_name, claim=claim.claim_name)
                    for resource in claim.claim_resources
                    if resource.driver_name == _DRA_DRIVER
                )
    return found


def _failed(error: Any, deadline_seconds: float) -> str:
    code = error.code().name if callable(getattr(error, "code", None)) else "UNKNOWN"
    if code == "DEADLINE_EXCEEDED":
        return f"the kubelet did not answer within {deadline_seconds:g} s"
    if code == "UNIMPLEMENTED":
        return "this kubelet has no pod-resources v1 (Kubernetes 1.20 and later have)"
    if code == "UNAVAILABLE":
        return f"the kubelet's socket cannot be opened or nobody listens; {_HINT}"
    if code == "RESOURCE_EXHAUSTED":
        return "the kubelet limits how often it is asked, or its answer is larger than 16 MiB"
    return f"the kubelet answered {code.lower().replace('_', ' ')}"

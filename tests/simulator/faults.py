"""What may go wrong with a pod, each as a behaviour for `Simulator.behave`: images, configuration, nodes, storage.

Faults of the program in a container stand in tests.simulator.crashes. Words of containerd when a name is resolved after
its core/remotes/docker/resolver.go, of the kubelet's admission after pkg/kubelet/lifecycle/predicate.go and
cm/admission/errors.go (stored copies of the main branches, read 2026-11-26). As users quote them, in READMEs and issues
of others: the rest of a pull's errors, runc's frame around a hook, and nvidia-container-cli's own words.
"""

from __future__ import annotations

from tests.simulator.box import Behaviour

_UNPACK = 'failed to pull and unpack image "{image}": '
_RESOLVE = _UNPACK + 'failed to resolve reference "{image}": '


def slow_pull(seconds: float, image_bytes: int | None = None) -> Behaviour:
    """The image takes its time."""
    return Behaviour(name="slow pull", pull_seconds=seconds, image_bytes=image_bytes)


def image_not_found() -> Behaviour:
    """No such tag or digest in the registry."""
    said = "rpc error: code = NotFound desc = " + _RESOLVE + "{image}: not found"
    return Behaviour(name="image not found", pull_seconds=1.0, pull_error=said)


def image_denied() -> Behaviour:
    """The registry wants credentials, or has no such repository: it says the same of both."""
    said = (
        "rpc error: code = Unknown desc = "
        + _RESOLVE
        + "pull access denied, repository does not exist or may "
    )
    said += "require authorization: server message: insufficient_scope: authorization failed"
    return Behaviour(name="image denied", pull_seconds=1.0, pull_error=said)


def image_unauthorized(registry: str = "registry.example.com") -> Behaviour:
    """The registry refuses the credentials."""
    said = (
        "rpc error: code = Unknown desc = "
        + _RESOLVE
        + "failed to authorize: failed to fetch anonymous token: "
    )
    said += f"unexpected status from GET request to https://{registry}/token: 401 Unauthorized"
    return Behaviour(name="image unauthorized", pull_seconds=1.0, pull_error=said)


def registry_unreachable(registry: str = "registry.example.com") -> Behaviour:
    """The node finds no way to the registry."""
    said = (
        "rpc error: code = Unknown desc = "
        + _RESOLVE
        + f'failed to do request: Head "https://{registry}/v2/vllm/vllm-openai/manifests/v0.32.0": '
    )
    said += f"dial tcp: lookup {registry} on 10.96.0.10:53: no such host"
    return Behaviour(name="registry unreachable", pull_seconds=1.0, pull_error=said)


def registry_times_out(registry: str = "registry.example.com") -> Behaviour:
    """The registry does not answer."""
    said = (
        "rpc error: code = Unknown desc = "
        + _RESOLVE
        + f'failed to do request: Head "https://{registry}/v2/vllm/vllm-openai/manifests/v0.32.0": '
    )
    said += "dial tcp 192.0.2.10:443: i/o timeout"
    return Behaviour(name="registry times out", pull_seconds=30.0, pull_error=said)


def registry_limits() -> Behaviour:
    """Too many pulls without an account."""
    said = (
        "rpc error: code = Unknown desc = "
        + _UNPACK
        + "failed to copy: httpReadSeeker: failed open: unexpected "
    )
    said += "status code https://registry-1.docker.io/v2/vllm/vllm-openai/manifests/sha256:0: 429 Too Many Requests - "
    said += "Server message: toomanyrequests: You have reached your unauthenticated pull rate limit. "
    said += "https://www.docker.com/increase-rate-limit"
    return Behaviour(name="registry limits", pull_seconds=1.0, pull_error=said)


def image_no_space() -> Behaviour:
    """The node's disk is full."""
    said = "rpc error: code = Unknown desc = " + _UNPACK + "failed to extract layer "
    said += "sha256:4d2f5e1c0e0b: write /var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/214/fs/"
    said += "usr/local/lib/python3.12/dist-packages/torch/lib/libtorch_cuda.so: no space left on device"
    return Behaviour(name="image: no space", pull_seconds=40.0, pull_error=said)


def image_of_other_machine() -> Behaviour:
    """The image is for another processor."""
    said = "rpc error: code = NotFound desc = " + _UNPACK + "no match for platform in manifest: not found"
    return Behaviour(name="image of another machine", pull_seconds=1.0, pull_error=said)


def device_unavailable(resource: str = "nvidia.com/gpu", requested: int = 1, available: int = 0) -> Behaviour:
    """The device plugin has fewer devices than the scheduler believed (kubelet's cm/devicemanager and cm/admission)."""
    said = f"Allocate failed due to requested number of devices unavailable for {resource}. Requested: {requested}, "
    said += f"Available: {available}, which is unexpected"
    return Behaviour(name="device unavailable", admission=("UnexpectedAdmissionError", said))


def device_unhealthy(resource: str = "nvidia.com/gpu") -> Behaviour:
    """No device of the plugin is healthy."""
    said = "Allocate failed due to no healthy devices present; cannot allocate unhealthy devices "
    said += f"{resource}, which is unexpected"
    return Behaviour(name="device unhealthy", admission=("UnexpectedAdmissionError", said))


def out_of_gpus(
    resource: str = "nvidia.com/gpu", requested: int = 2, used: int = 8, capacity: int = 8
) -> Behaviour:
    """Another pod was faster: the kubelet counts again and refuses (lifecycle/predicate.go)."""
    said = f"Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
    return Behaviour(name="out of GPUs", admission=(f"OutOf{resource}", said))


def failed_mount(volume: str = "weights", said: str = "") -> Behaviour:
    """A volume cannot be mounted, by default one on a server that refuses."""
    words = said or (
        "mount failed: exit status 32\nMounting command: mount\nMounting arguments: -t nfs "
        "nfs.example.com:/weights /var/lib/kubelet/pods/volumes/weights\n"
        "Output: mount.nfs: access denied by server while mounting nfs.example.com:/weights"
    )
    text = f'MountVolume.SetUp failed for volume "{volume}" : {words}'
    return Behaviour(name="failed mount", mount=text)


def attached_elsewhere(volume: str = "pvc-1") -> Behaviour:
    """A ReadWriteOnce volume is still on another node (pkg/controller/volume/attachdetach/reconciler)."""
    said = f'Multi-Attach error for volume "{volume}" Volume is already exclusively attached to one node and can\'t be '
    return Behaviour(name="attached elsewhere", mount=said + "attached to another")


def missing_secret(name: str = "api-key") -> Behaviour:
    """A Secret that the environment names is not there. Without any fault the simulator looks itself."""
    return Behaviour(name="missing Secret", config_error=f'secret "{name}" not found')


def missing_config_map(name: str = "settings") -> Behaviour:
    """A ConfigMap that the environment names is not there."""
    return Behaviour(name="missing ConfigMap", config_error=f'configmap "{name}" not found')


def must_not_be_root() -> Behaviour:
    """runAsNonRoot, and the image runs as root (pkg/kubelet/kuberuntime/security_context.go)."""
    said = 'container has runAsNonRoot and image will run as root (pod: "pod", container: server)'
    return Behaviour(name="must not be root", config_error=said)


def no_nvidia_runtime() -> Behaviour:
    """The node has GPUs and no container toolkit that knows them."""
    said = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create "
    said += "failed: unable to start container process: error during container init: error running prestart hook #0: "
    said += "exit status 1, stdout: , stderr: Auto-detected mode as 'legacy'\nnvidia-container-cli: initialization "
    said += "error: load library failed: libnvidia-ml.so.1: cannot open shared object file: no such file or directory"
    return Behaviour(name="no NVIDIA runtime", create_error=said)


def driver_too_old_for_image(cuda: str = "13.0", driver: str = "550.54.15") -> Behaviour:
    """The container toolkit refuses an image that needs a newer CUDA than the driver brings."""
    said = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create "
    said += "failed: unable to start container process: error during container init: error running prestart hook #0: "
    said += (
        "exit status 1, stdout: , stderr: Auto-detected mode as 'legacy'\nnvidia-container-cli: requirement "
    )
    said += f"error: unsatisfied condition: cuda>={cuda}, please update your driver to a newer version, or use an "
    said += f"earlier cuda container: unknown (driver {driver})"
    return Behaviour(name="driver too old for the image", create_error=said.partition(" (driver")[0])

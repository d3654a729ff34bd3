"""Images that cannot be pulled or run on the node.

The kubelet's words (pkg/kubelet/images/image_manager.go, kuberuntime/kuberuntime_container.go, 1.36) around those of
containerd 2 and CRI-O and of the registry.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from selfhost.deploy.causes._scene import Box, Scene, Seen
from selfhost.deploy.engine_log import shortened
from selfhost.deploy.types import Cause

RANK = 210
_PULLING = (
    "ErrImagePull",
    "ImagePullBackOff",
    "RegistryUnavailable",
    "ErrImageNeverPull",
    "ImageInspectError",
    "SignatureValidationFailed",
)
# Ours: the kubelet's back-off grows to 5 minutes; a network that comes back is met within two tries.
_NETWORK_SECONDS = 600.0
_LIMIT_SECONDS = 900.0
_FULL_SECONDS = 300.0  # the kubelet removes unused images by itself when a disk is full


def image_name_invalid(scene: Scene) -> Iterator[Cause]:
    """The image's name is none.

    Way out: deploy with the right `--image`.
    """
    for pod in scene.pods:
        for box in pod.boxes:
            if box.reason == "InvalidImageName":
                yield _cause(
                    "image-name-invalid",
                    pod,
                    box,
                    box.message,
                    f"{box.image!r} is no name of an image.",
                    "Deploy with the right --image.",
                    final=True,
                )


def image_disk_full(scene: Scene) -> Iterator[Cause]:
    """The node's disk has no room for the image.

    Way out: make room on that node: `kubectl describe node NODE` shows DiskPressure; `crictl rmi --prune` there.
    """
    for pod, box, words in _failing(
        scene, r"no space left on device|disk quota exceeded|insufficient (?:disk|storage)"
    ):
        yield _cause(
            "image-disk-full",
            pod,
            box,
            words,
            f"The disk of {pod.node} has no room for {_short(box)}.",
            f"Make room on {pod.node} (crictl rmi --prune there), or give it a larger disk.",
            patience=_FULL_SECONDS,
        )


def image_rate_limited(scene: Scene) -> Iterator[Cause]:
    """The registry has had too many pulls from here.

    Way out: wait, or log in: an image pull secret (`--image-pull-secret`), or a mirror.
    """
    for pod, box, words in _failing(
        scene, r"toomanyrequests|429 Too Many Requests|rate limit|pull QPS exceeded"
    ):
        yield _cause(
            "image-rate-limited",
            pod,
            box,
            words,
            f"The registry gives no more of {_short(box)} for now: its limit of pulls is reached.",
            "Wait, pull with an account (an image pull secret), or from a mirror.",
            patience=_LIMIT_SECONDS,
        )


def image_unauthorised(scene: Scene) -> Iterator[Cause]:
    """The registry asks for credentials, or does not accept those of the pull secret; a private image looks the same.

    Way out: an image pull secret of the namespace, named in the rendering.
    """
    pattern = (
        r"401 Unauthorized|403 Forbidden|unauthorized|authentication required|denied: |access denied|"
        r"insufficient_scope|authorization failed|no basic auth credentials|may require "
        r"authorization|pull access denied"
    )
    for pod, box, words in _failing(scene, pattern):
        yield _cause(
            "image-unauthorised",
            pod,
            box,
            words,
            f"The registry does not let {pod.node or 'the node'} pull {_short(box)} with the credentials it has.",
            f"kubectl -n {scene.snapshot.namespace} create secret docker-registry NAME "
            f"--docker-server=… and deploy with "
            "--image-pull-secret NAME; a name that does not exist is refused the same way.",
            final=True,
        )


def image_wrong_platform(scene: Scene) -> Iterator[Cause]:
    """The image is of another architecture than the node.

    Way out: an image for it, or nodes of the other architecture.
    """
    for pod, box, words in _failing(
        scene,
        r"no match for platform|no matching manifest for|no image found in (?:image index|manifest list)",
    ):
        yield _cause(
            "image-wrong-platform",
            pod,
            box,
            words,
            f"{_short(box)} does not exist for the architecture of {pod.node}.",
            "Deploy with an --image that has it, or onto nodes of another architecture.",
            final=True,
        )
    for line in scene.lines(r"exec format error"):
        yield line.cause(
            "image-wrong-platform",
            f"{_short(line.box)} holds programs of another architecture than {line.pod.node or 'the node'}.",
            "Deploy with an --image that has it, or onto nodes of another architecture.",
        )
    for line in scene.created(r"exec format error"):
        yield line.cause(
            "image-wrong-platform",
            f"{_short(line.box)} holds programs of another architecture than {line.pod.node or 'the node'}.",
            "Deploy with an --image that has it, or onto nodes of another architecture.",
        )


def image_not_found(scene: Scene) -> Iterator[Cause]:
    """The registry has no such image or tag.

    Way out: deploy with the right `--image`, or push it there.
    """
    pattern = r"not found|manifest unknown|name unknown|does not exist|404"
    for pod, box, words in _failing(scene, pattern):
        if not re.search(r"no such host|server misbehaving|dial tcp|certificate", words):
            yield _cause(
                "image-not-found",
                pod,
                box,
                words,
                f"The registry has no {_short(box)}.",
                "Deploy with the right --image, or push it to that registry.",
                final=True,
            )


def image_never_pulled(scene: Scene) -> Iterator[Cause]:
    """The image is not on the node, and the pod's policy is never to pull it.

    Way out: load the image onto the node, or take the policy away.
    """
    for pod in scene.pods:
        for box in pod.boxes:
            if box.reason == "ErrImageNeverPull":
                yield _cause(
                    "image-never-pulled",
                    pod,
                    box,
                    box.message,
                    f"{_short(box)} is not on {pod.node}, and imagePullPolicy Never forbids to pull it.",
                    f"Load it onto {pod.node} (selfhost bundle does), or take the policy away.",
                    final=True,
                )


def image_registry_unreachable(scene: Scene) -> Iterator[Cause]:
    """The node does not reach the registry: name, network, proxy or certificate.

    Way out: see that the node resolves and reaches it, or pull from a mirror.
    """
    pattern = (
        r"no such host|server misbehaving|i/o timeout|dial tcp|connection refused|connection reset|TLS handshake|"
        r"x509|certificate|proxyconnect|context deadline exceeded|network is unreachable|EOF|no route to host|"
        r"Client\.Timeout|50[0234] |RegistryUnavailable"
    )
    for pod, box, words in _failing(scene, pattern):
        host = box.image.partition("/")[0] if "." in box.image.partition("/")[0] else "docker.io"
        why = "does not reach"
        if re.search(r"no such host|server misbehaving", words):
            why = "cannot resolve"
        elif re.search(r"x509|certificate", words):
            why = "does not trust the certificate of"
        yield _cause(
            "image-registry-unreachable",
            pod,
            box,
            words,
            f"{pod.node or 'The node'} {why} the registry {host}, which has {_short(box)}.",
            "See to the node's name server, network, proxy or certificates, or deploy with an --image of a mirror.",
            final=False,
            patience=_NETWORK_SECONDS,
        )


def image_not_pulled(scene: Scene) -> Iterator[Cause]:
    """The image cannot be pulled for another reason; the runtime's words are given.

    Way out: what the words say.
    """
    for pod, box, words in _failing(scene, r""):
        yield _cause(
            "image-not-pulled",
            pod,
            box,
            words,
            f"{pod.node or 'The node'} cannot pull {_short(box)}.",
            f"kubectl describe pod {pod.name}",
            patience=_NETWORK_SECONDS,
        )


def _failing(scene: Scene, pattern: str) -> Iterator[tuple[Seen, Box, str]]:
    """Containers whose image does not come, and the most telling words about it."""
    sought = re.compile(pattern, re.IGNORECASE)
    for pod in scene.pods:
        for box in pod.boxes:
            if box.reason not in _PULLING or box.state != "waiting" or box.reason == "ErrImageNeverPull":
                continue
            events = [e.message for e in pod.said("Failed", "InspectFailed") if box.image in e.message]
            words = max(
                (box.message, *events), key=lambda one: ("Failed to pull" in one or ":" in one, len(one))
            )
            bare = words.replace(box.image, "IMAGE")  # a tag must not read as a reason
            if sought.search(bare) and (pattern or words):
                yield pod, box, words


def _short(box: Box) -> str:
    return box.image or "its image"


def _cause(
    code: str,
    pod: Seen,
    box: Box,
    words: str,
    sentence: str,
    hint: str,
    *,
    final: bool = False,
    patience: float = 0.0,
) -> Cause:
    return Cause(
        code=code,
        sentence=sentence,
        evidence=(shortened(words),),
        hint=hint,
        final=final,
        patience_seconds=patience,
        since=pod.condition_since("PodScheduled"),
        pod=pod.name,
        node=pod.node,
    )

"""Cases of what the API server, volumes and images do."""

from __future__ import annotations

from selfhost.deploy.types import Snapshot
from tests.causes import (
    BUSY,
    CLUSTER,
    FORBIDDEN,
    IMAGE,
    LACK_OF_GPUS,
    NAME,
    TWO,
    UNBOUND,
    about_claim,
    box,
    claim,
    event,
    failed,
    mounting,
    pod,
    pulling,
    refused,
    snap,
    waiting,
)

CASES: dict[str, tuple[Snapshot, str | None, str]] = {
    # refused
    "quota": (
        refused(
            FORBIDDEN
            + (
                "exceeded quota: gpus, requested: requests.nvidia.com/gpu=2, used: "
                "requests.nvidia.com/gpu=7, limited: requests.nvidia.com/gpu=8"
            )
        ),
        "quota",
        "requests.nvidia.com/gpu=7 of requests.nvidia.com/gpu=8",
    ),
    "quota that asks for limits": (
        refused(
            FORBIDDEN + "failed quota: all: must specify limits.cpu for: server; limits.memory for: server"
        ),
        "quota",
        "must specify limits.cpu",
    ),
    "quota while own pods end": (
        snap(
            pod(box(running=True), going=-20),
            events=(
                event(
                    "FailedCreate",
                    FORBIDDEN + "exceeded quota: gpus, requested: a=1, used: a=1, limited: a=1",
                    about=f"{NAME}-9d",
                    kind="ReplicaSet",
                ),
            ),
        ),
        None,
        "",
    ),
    "quota of the past": (
        snap(
            pod(box(running=True), phase="Running"),
            events=(
                event(
                    "FailedCreate",
                    FORBIDDEN + "exceeded quota: gpus, requested: a=1, used: a=1, limited: a=1",
                    about=f"{NAME}-7c9d",
                    kind="ReplicaSet",
                ),
            ),
        ),
        None,
        "",
    ),
    "limit range": (
        refused(FORBIDDEN + "maximum memory usage per Container is 16Gi, but limit is 30Gi"),
        "limit-range",
        "maximum of memory per Container is 16Gi, and 30Gi",
    ),
    "limit range ratio": (
        refused(
            FORBIDDEN + "cpu max limit to request ratio per Container is 1, but provided ratio is 2.000000"
        ),
        "limit-range",
        "may be 1 times",
    ),
    "pod security": (
        refused(
            FORBIDDEN
            + (
                'violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false '
                '(container "server" must set securityContext.allowPrivilegeEscalation=false)'
            )
        ),
        "pod-security",
        "restricted:latest",
    ),
    "openshift": (
        refused(
            FORBIDDEN
            + (
                "unable to validate against any security context constraint: [provider "
                '"anyuid": Forbidden: not usable by user or serviceaccount]'
            )
        ),
        "pod-security",
        "SecurityContextConstraints",
    ),
    "kyverno": (
        refused(
            'admission webhook "validate.kyverno.svc-fail" denied the request: resource '
            "Pod/llm/x was blocked: require-team-label: label team is required"
        ),
        "policy-refused",
        "validate.kyverno.svc-fail",
    ),
    "admission policy": (
        refused(
            FORBIDDEN
            + "ValidatingAdmissionPolicy 'no-latest' with binding 'all' denied request: pin the image"
        ),
        "policy-refused",
        "no-latest refuses pods of qwen3-32b: pin the image",
    ),
    "webhook away": (
        refused(
            'Internal error occurred: failed calling webhook "pods.example.com": failed to '
            'call webhook: Post "https://hook.ops.svc:443/mutate": dial tcp '
            "10.0.0.1:443: connect: connection refused"
        ),
        "webhook-unreachable",
        "pods.example.com does not answer",
    ),
    "service account": (
        refused(
            FORBIDDEN + 'error looking up service account llm/qwen3-32b: serviceaccount "qwen3-32b" not found'
        ),
        "service-account-missing",
        "qwen3-32b",
    ),
    "priority class": (
        refused(FORBIDDEN + "no PriorityClass with name gpu-high was found"),
        "priority-class-missing",
        "gpu-high",
    ),
    "runtime class": (
        refused(FORBIDDEN + 'pod rejected: RuntimeClass "nvidia" not found'),
        "runtime-class-missing",
        "no RuntimeClass nvidia",
    ),
    "another refusal": (
        refused('pods "x" is forbidden: a plugin of this cluster says no'),
        "pods-refused",
        "does not accept",
    ),
    # volumes
    "no such class": (
        waiting(
            UNBOUND,
            claims=(claim(),),
            events=(about_claim("ProvisioningFailed", 'storageclass.storage.k8s.io "fast" not found'),),
        ),
        "storage-class-missing",
        "StorageClass fast",
    ),
    "no default class": (
        waiting(
            UNBOUND,
            claims=(claim(storage_class=None),),
            events=(
                about_claim(
                    "FailedBinding",
                    "no persistent volumes available for this claim and no storage class is set",
                ),
            ),
        ),
        "storage-class-missing",
        "no default",
    ),
    "claim that waits for its pod": (
        waiting(
            LACK_OF_GPUS,
            claims=(claim(),),
            nodes=TWO,
            others=BUSY,
            events=(
                about_claim(
                    "WaitForFirstConsumer", "waiting for first consumer to be created before binding"
                ),
            ),
        ),
        "insufficient-gpus",
        "gpu-1 has 1 of 8",
    ),
    "provisioner fails": (
        waiting(
            UNBOUND,
            claims=(claim(),),
            events=(
                about_claim(
                    "ProvisioningFailed",
                    (
                        'failed to provision volume with StorageClass "fast": rpc error: code = '
                        "ResourceExhausted desc = quota exceeded for SSD"
                    ),
                ),
            ),
        ),
        "volume-not-provisioned",
        "quota",
    ),
    "access mode": (
        waiting(
            UNBOUND,
            claims=(claim(),),
            events=(
                about_claim(
                    "ProvisioningFailed",
                    (
                        'failed to provision volume with StorageClass "fast": rpc error: code = '
                        "InvalidArgument desc = Volume capabilities MULTI_NODE_MULTI_WRITER not supported"
                    ),
                ),
            ),
        ),
        "volume-not-provisioned",
        "ReadWriteMany",
    ),
    "provisioner silent": (
        waiting(
            UNBOUND,
            claims=(claim(),),
            events=(
                about_claim(
                    "ExternalProvisioning",
                    (
                        "Waiting for a volume to be created either by the external provisioner "
                        "'ebs.csi.aws.com' or manually by the system administrator."
                    ),
                ),
            ),
        ),
        "volume-not-provisioned",
        "ebs.csi.aws.com",
    ),
    "volume in another zone": (
        waiting(
            CLUSTER
            + "1 node(s) had volume node affinity conflict, 2 node(s) didn't match Pod's node affinity/selector."
        ),
        "volume-elsewhere",
        "none of the nodes",
    ),
    "no claim": (
        waiting(f'0/3 nodes are available: persistentvolumeclaim "{NAME}-weights" not found. not found'),
        "claim-missing",
        f"{NAME}-weights",
    ),
    "attached elsewhere": (
        mounting(
            "FailedAttachVolume",
            'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) qwen3-32b-old',
        ),
        "volume-in-use",
        "qwen3-32b-old",
    ),
    "attached earlier": (
        snap(
            pod(box(running=True), phase="Running"),
            events=(
                event(
                    "FailedAttachVolume",
                    'Multi-Attach error for volume "pvc-1" Volume is already exclusively attached to one node',
                ),
            ),
        ),
        None,
        "",
    ),
    "secret to mount": (
        mounting("FailedMount", 'MountVolume.SetUp failed for volume "key" : secret "api-key" not found'),
        "secret-or-config-missing",
        "Secret api-key",
    ),
    "config map key": (
        mounting(
            "FailedMount",
            (
                'MountVolume.SetUp failed for volume "selfhost" : configmap references '
                "non-existent config key: selfhost.pyz"
            ),
        ),
        "secret-or-config-missing",
        "lacks the key selfhost.pyz",
    ),
    "secret to read": (
        snap(pod(box(waiting="CreateContainerConfigError", says='secret "api-key" not found'))),
        "secret-or-config-missing",
        "create secret generic api-key",
    ),
    "nfs": (
        mounting(
            "FailedMount",
            (
                'MountVolume.SetUp failed for volume "weights" : mount failed: exit status 32 '
                "Output: mount.nfs: Connection timed out"
            ),
        ),
        "volume-not-mounted",
        "NFS server",
    ),
    "driver of a volume": (
        mounting(
            "FailedMount",
            (
                'MountVolume.MountDevice failed for volume "pvc-1" : kubernetes.io/csi: '
                "attacher.MountDevice failed: driver name efs.csi.aws.com not found in the "
                "list of registered CSI drivers"
            ),
        ),
        "volume-not-mounted",
        "Install the CSI driver efs.csi.aws.com",
    ),
    # images
    "bad name": (
        pulling('couldn\'t parse image name "vllm/VLLM:x"', reason="InvalidImageName"),
        "image-name-invalid",
        "no name of an image",
    ),
    "tag that is not there": (
        pulling(
            f'failed to pull and unpack image "docker.io/{IMAGE}": failed to resolve '
            f'reference "docker.io/{IMAGE}": docker.io/{IMAGE}: not found'
        ),
        "image-not-found",
        f"no {IMAGE}",
    ),
    "back-off with its reason": (
        pulling(
            f'Back-off pulling image "{IMAGE}": ErrImagePull: manifest unknown', reason="ImagePullBackOff"
        ),
        "image-not-found",
        IMAGE,
    ),
    "private": (
        pulling(
            f'failed to resolve reference "docker.io/{IMAGE}": failed to authorize: failed to '
            f"fetch anonymous token: unexpected status: 401 Unauthorized"
        ),
        "image-unauthorised",
        "--image-pull-secret",
    ),
    "docker's denied": (
        pulling(
            "pull access denied, repository does not exist or may require authorization: "
            "server message: insufficient_scope: authorization failed"
        ),
        "image-unauthorised",
        "credentials",
    ),
    "no name server": (
        pulling(
            'failed to do request: Head "https://registry-1.docker.io/v2/x": dial tcp: '
            "lookup registry-1.docker.io on 10.0.0.10:53: no such host"
        ),
        "image-registry-unreachable",
        "cannot resolve",
    ),
    "registry's certificate": (
        pulling(
            'failed to do request: Head "https://r.example/v2/": tls: failed to verify '
            "certificate: x509: certificate signed by unknown authority"
        ),
        "image-registry-unreachable",
        "does not trust",
    ),
    "registry times out": (
        pulling('failed to do request: Head "https://r.example/v2/": dial tcp 10.1.1.1:443: i/o timeout'),
        "image-registry-unreachable",
        "does not reach",
    ),
    "rate limit": (
        pulling(
            "429 Too Many Requests - Server message: toomanyrequests: You have reached your "
            "unauthenticated pull rate limit."
        ),
        "image-rate-limited",
        "limit of pulls",
    ),
    "node's disk": (
        pulling(
            "failed to extract layer sha256:1: write /var/lib/containerd/x: no space left on device: unknown"
        ),
        "image-disk-full",
        "disk of gpu-1",
    ),
    "no such platform": (
        pulling(f'failed to pull and unpack image "{IMAGE}": no match for platform in manifest: not found'),
        "image-wrong-platform",
        "architecture of gpu-1",
    ),
    "other processor": (
        failed("exec /usr/bin/python3: exec format error"),
        "image-wrong-platform",
        "another architecture",
    ),
    "never pulled": (
        pulling(
            f'Container image "{IMAGE}" is not present with pull policy of Never', reason="ErrImageNeverPull"
        ),
        "image-never-pulled",
        "Never",
    ),
    "a pull that says nothing known": (pulling("the runtime is in a mood"), "image-not-pulled", IMAGE),
}

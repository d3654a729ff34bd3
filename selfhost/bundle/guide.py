"""What a bundle says to the person who carries it in: README.md, and the pod that takes weights onto the volume."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from selfhost.bundle.images import Moved
from selfhost.bundle.manifest import BundledWeights, Member
from selfhost.licence import Verdict, sentence
from selfhost.manifests.environment import note, quote
from selfhost.manifests.kubernetes import View
from selfhost.plan import Plan
from selfhost.units import size_text

LOADER = "loader.yaml"
README = "README.md"
IMAGES = "images.txt"
SUMS = "SHA256SUMS"
_LOAD_SECONDS = 86400


def images_text(moved: Sequence[Moved]) -> str:
    """images.txt: source and target of every image."""
    lines = ["# Written by selfhost bundle: SOURCE TARGET, as `skopeo copy` and `crane copy` take them."]
    lines += [one.line for one in moved]
    unpinned = [one for one in moved if one.new.digest is None]
    lines += [f"# NOT PINNED: {one.line.partition(' ')[0]} may name other bytes tomorrow" for one in unpinned]
    return "\n".join(lines) + "\n"


def sums_text(members: Iterable[Member]) -> str:
    """SHA256SUMS, for `sha256sum --check` where there is no selfhost."""
    return "".join(f"{member.sha256}  {member.path}\n" for member in members)


def readme(
    plan: Plan,
    shown: View,
    moved: Sequence[Moved],
    *,
    weights: BundledWeights | None,
    licence: Verdict | None,
    mirror: str | None,
) -> str:
    """README.md: what is in the bundle, and how it gets into a cluster without internet."""
    parts = [
        f"<!-- Written by selfhost bundle. -->\n# {note(plan.name)}, for a cluster without internet\n",
        "\n".join(f"- {note(line)}" for line in shown.headline) + "\n",
        _licence(licence, plan),
        _contents(weights),
        _check_and_unpack(),
        _push(moved, mirror),
        _load(plan, shown, weights),
        _apply(plan, shown),
    ]
    return "\n".join(part for part in parts if part)


def loader(plan: Plan, shown: View, image: str) -> str:
    """A pod that holds the volume of the weights while they are copied onto it.

    It runs where the server will, as the volume may be of that zone or node, under Pod Security `restricted`.
    """
    labels = [pair for pair in shown.download_labels if pair.key != "app.kubernetes.io/component"]
    lines = [
        "# Written by selfhost bundle: holds the volume while the weights are copied onto it; delete it afterwards.",
        "apiVersion: v1",
        "kind: Pod",
        "metadata:",
        f"  name: {quote(_pod(plan))}",
        f"  namespace: {quote(shown.namespace)}",
        "  labels:",
        *(f"    {quote(pair.key)}: {quote(pair.value)}" for pair in labels),
        '    "app.kubernetes.io/component": "loader"',
        "spec:",
        "  restartPolicy: Never",
        f"  activeDeadlineSeconds: {_LOAD_SECONDS}",
        f"  serviceAccountName: {quote(shown.name)}",
        "  automountServiceAccountToken: false",
        "  enableServiceLinks: false",
        "  terminationGracePeriodSeconds: 1",
        "  affinity:",
        "    nodeAffinity:",
        "      requiredDuringSchedulingIgnoredDuringExecution:",
        "        nodeSelectorTerms:",
        "          - matchExpressions:",
        f"              - key: {quote(shown.node_label)}",
        "                operator: In",
        "                values:",
        *(f"                  - {quote(value)}" for value in shown.node_values),
        "  tolerations:",
        *(
            f"    - key: {quote(key)}\n      operator: Exists\n      effect: NoSchedule"
            for key in shown.gpu_taints
        ),
        "  securityContext:",
        "    runAsNonRoot: true",
        f"    runAsUser: {shown.user_id}",
        f"    runAsGroup: {shown.user_id}",
        f"    fsGroup: {shown.user_id}",
        "    fsGroupChangePolicy: OnRootMismatch",
        "    seccompProfile:",
        "      type: RuntimeDefault",
        "  containers:",
        "    - name: loader",
        f"      image: {quote(image)}",
        "      imagePullPolicy: IfNotPresent",
        f'      command: ["python3", "-c", "import time; time.sleep({_LOAD_SECONDS})"]',
        "      resources:",
        "        requests:",
        "          cpu: 100m",
        "          memory: 128Mi",
        "        limits:",
        '          cpu: "2"',
        "          memory: 2Gi # written pages count until they are on the volume",
        "      securityContext:",
        "        allowPrivilegeEscalation: false",
        "        readOnlyRootFilesystem: true",
        "        runAsNonRoot: true",
        f"        runAsUser: {shown.user_id}",
        "        capabilities:",
        '          drop: ["ALL"]',
        "        seccompProfile:",
        "          type: RuntimeDefault",
        "      volumeMounts:",
        "        - name: weights",
        f"          mountPath: {quote(shown.storage.path)}",
        "  volumes:",
        "    - name: weights",
        "      persistentVolumeClaim:",
        f"        claimName: {quote(shown.storage.claim_name)}",
        "",
    ]
    return "\n".join(lines)


def _pod(plan: Plan) -> str:
    return f"{plan.name}-loader"


def _licence(licence: Verdict | None, plan: Plan) -> str:
    if licence is None:
        said = plan.model.licence or "none that is known"
        return f"Licence: {note(said)}. Whoever gets this bundle gets the model; read its terms first.\n"
    duties = "".join(f"- {note(one)}\n" for one in licence.obligations)
    return f"Licence: {note(sentence(licence))}.\n{note(licence.source)}\n\n{duties}"


def _contents(weights: BundledWeights | None) -> str:
    rows = [
        ("`manifest.json`", "every file with its length and SHA-256; first in the archive"),
        ("`images.txt`", "images that have to be in the cluster's registry; their bytes are not in here"),
        ("`plan.json`", "what was decided, and why"),
        ("`manifests/`", "the objects, for `kubectl apply -k`"),
        ("`chart/`", "the same objects as a Helm chart"),
        ("`loader.yaml`", "a pod through which weights get onto the volume"),
        ("`SHA256SUMS`", "the hashes once more, for `sha256sum --check`"),
    ]
    if weights is not None:
        what = f"{note(weights.repo)} at {note(weights.revision)}: {weights.files} files, "
        what += size_text(weights.size_bytes)
        rows.append(("`weights/`", what))
    return "\n".join(["| file | what |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in rows), ""])


def _check_and_unpack() -> str:
    return """\
## 1. Check and unpack

```console
selfhost bundle verify BUNDLE.tar
selfhost bundle unpack BUNDLE.tar --dir bundle --only manifests
```

`verify` prints the SHA-256 of the manifest, which has to be the one that `bundle create` printed. selfhost itself
comes in as wheels: `pip wheel .` in its source outside, `pip install --no-index --find-links . selfhost` inside.
Without it, all but the Hub's cache of step 3 can be had with `tar -xf BUNDLE.tar -C bundle` and
`sha256sum --check SHA256SUMS`.
"""


def _push(moved: Sequence[Moved], mirror: str | None) -> str:
    names = "\n".join(f"- `{note(one.record.source)}`" for one in moved)
    if mirror is None:
        return f"""\
## 2. Images

The manifests name the images as they are published; the cluster's nodes have to find them there or at a mirror of it:

{names}
"""
    return f"""\
## 2. Images

On a machine that reaches both sides:

```console
grep -v '^#' {IMAGES} | while read -r source target; do
  skopeo copy --all --preserve-digests "docker://$source" "docker://$target"
done
```

Where none does, copy each to a directory outside (`skopeo copy --all --preserve-digests docker://SOURCE dir:image`),
carry it in, and copy it on from there (`... dir:image docker://TARGET`). `--all` and `--preserve-digests` keep the
digests that the manifests name.

{names}
"""


def _load(plan: Plan, shown: View, weights: BundledWeights | None) -> str:
    space = note(shown.namespace)
    first = f"""\
## 3. Weights

```console
kubectl create namespace {space}
kubectl label namespace {space} pod-security.kubernetes.io/enforce=restricted
```
"""
    if weights is None:
        where = f"`{note(shown.storage.marker)}` exists where the volume is mounted at `{note(shown.storage.path)}`"
        return f"{first}\nThis bundle holds no weights; the server waits until {where}.\n"
    if shown.download is None:
        return f"{first}\n{_onto_volume(plan, shown, layout='directory', target=plan.weights.location)}"
    serve = """\
Either a machine that the cluster reaches serves them, and the manifests name it (`bundle create --hub-endpoint
http://MACHINE:8765`); the download Job then pulls from there:

```console
selfhost bundle unpack BUNDLE.tar --only weights --layout cache --dir hub
HF_HUB_CACHE=hub selfhost pull --serve :8765
```
"""
    named = f"These manifests name {note(shown.hub_endpoint)}.\n" if shown.hub_endpoint else ""
    copy = "Or they are copied onto the volume; the download Job then finds and verifies them:\n\n"
    onto = _onto_volume(plan, shown, layout="cache", target=plan.weights.cache_path)
    return f"{first}\n{serve}\n{named}{copy}{onto}"


def _onto_volume(plan: Plan, shown: View, *, layout: str, target: str) -> str:
    space, pod, folder = note(shown.namespace), note(_pod(plan)), note(target)
    return f"""\
```console
selfhost bundle unpack BUNDLE.tar --only weights --layout {layout} --dir hub
kubectl apply -f bundle/manifests/10-serviceaccount.yaml -f bundle/manifests/30-persistentvolumeclaim.yaml \\
  -f bundle/{LOADER}
kubectl -n {space} wait --for=condition=Ready pod/{pod} --timeout=15m
kubectl -n {space} exec {pod} -- mkdir -p {folder}
tar -C hub -cf - . | kubectl -n {space} exec -i {pod} -- tar -C {folder} -xmf - --no-same-permissions
kubectl -n {space} delete pod {pod}
```
"""


def _apply(plan: Plan, shown: View) -> str:
    space, name = note(shown.namespace), note(plan.name)
    return f"""\
## 4. The server

```console
kubectl apply -k bundle/manifests
kubectl -n {space} rollout status deployment/{name} --timeout={plan.clocks.progress_deadline_seconds.value}s
kubectl -n {space} port-forward service/{name} {shown.port}
```

With Helm instead: `helm install {name} bundle/chart/{name} --namespace {space}`. `--set images.engine.registry=...`
names another registry.
"""

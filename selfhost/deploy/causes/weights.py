"""Weights and the files beside them: what fetches them, and what the engine finds on the volume.

Words of `selfhost pull` (selfhost/hub/remote.py, selfhost/pull), huggingface_hub 2.4 (utils/_http.py, errors.py,
_snapshot_download.py), transformers 5.19 (utils/hub.py), vLLM 0.32.0 (model_loader) and safetensors 0.8.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from selfhost.cluster.values import part, parts, text
from selfhost.deploy.causes._scene import Line, Scene
from selfhost.deploy.engine_log import progress
from selfhost.deploy.types import Cause

RANK = 510
_GATED = (
    r"access has to be granted by its owner|GatedRepoError|Cannot access gated repo|You are "
    r"trying to access a gated repo"
    r"|is a gated repository|the Hub did not accept the token|Invalid credentials in "
    r"Authorization|Access to model .* is restricted"
)
_NETWORK = (
    r"the Hub did not answer|tries in a row brought nothing|the Hub did not finish|We couldn't connect to"
    r"|Temporary failure in name resolution|Name or service not known|getaddrinfo|Connection "
    r"refused|Network is unreachable"
    r"|Max retries exceeded|ConnectTimeout|ConnectionError|proxy .*cannot be used|ProxyError|certificate .*not trusted"
    r"|CERTIFICATE_VERIFY_FAILED|cannot be reached|the Hub answered 5\d\d|No route to host"
)


def gated_model(scene: Scene) -> Iterator[Cause]:
    """The model's owner grants access to each account, and the token in the cluster has none, or there is none.

    Way out: accept the terms on its page, then `kubectl create secret generic hf-token --from-file=token=FILE`.
    """
    for line in scene.lines(_GATED, fatal=True):
        secret, model = _token_secret(scene), _model(scene)
        yield line.cause(
            "gated-model",
            f"The Hub does not let this deployment download {model}: its token is missing, or has no access.",
            f"Accept the terms on https://huggingface.co/{model}, then: kubectl -n "
            f"{scene.snapshot.namespace} create secret "
            f"generic {secret} --from-file=token=FILE",
        )


def revision_missing(scene: Scene) -> Iterator[Cause]:
    """The Hub has no such model or revision, or none that this account may see.

    Way out: plan again with a revision that its page shows.
    """
    pattern = (
        r"has no revision|RevisionNotFoundError|Revision Not Found|is not a valid git "
        r"identifier|RepositoryNotFoundError"
        r"|Repository Not Found|not found, or private|No model \S+ on the Hub|: no such "
        r"revision|is not a valid model identifier"
        r"|no such repository"
    )
    for line in scene.lines(pattern, fatal=True):
        plan = scene.plan
        revision = f" at {plan.model.revision[:12]}" if plan and plan.model.revision else ""
        yield line.cause(
            "revision-missing",
            f"The Hub has no {_model(scene)}{revision}, or not for this account.",
            f"selfhost plan {_model(scene)} again; a private model needs a token in the Secret {_token_secret(scene)}.",
        )


def licence_refused(scene: Scene) -> Iterator[Cause]:
    """The licence of the model does not permit the use that the plan names, or its terms are not accepted.

    Way out: plan with `--accept-licence` after reading it, or choose another model.
    """
    for line in scene.lines(
        r"Error: .*(?:does not permit|permits .* under conditions|licence of .* is unknown|The licence of )"
    ):
        yield line.cause(
            "licence-refused",
            f"The licence of {_model(scene)} does not let the download go on: {_own(line)}.",
            "Read it, then plan with --accept-licence, or choose another model.",
        )


def download_disk_full(scene: Scene) -> Iterator[Cause]:
    """The volume of the weights, or the pod's own disk, is full.

    Way out: a larger claim: `kubectl edit pvc` where its class can grow, else another claim.
    """
    pattern = (
        r"No space left on device|\[Errno 28\]|Disk quota exceeded|has .{3,20} free, "
        r"and .{3,20} are still to come|not enough free disk space"
    )
    for line in scene.lines(pattern, fatal=True):
        if "/dev/shm" in line.match.string:
            continue
        claim = _claim(line)
        need = f" {scene.plan.weights.volume_bytes.value // (1 << 30)} GiB are planned." if scene.plan else ""
        space = scene.snapshot.namespace
        hint = (
            f"kubectl -n {space} edit pvc {claim}, where its StorageClass allows to grow; else a new claim."
            if claim
            else ("Give it more room: a larger volume, or larger limits of its emptyDirs.")
        )
        yield line.cause(
            "download-disk-full",
            f"The disk is full in {line.pod.name}{f' (claim {claim})' if claim else ''}.{need}",
            hint,
        )


def download_rate_limited(scene: Scene) -> Iterator[Cause]:
    """The Hub answers 429: too many requests from here.

    Way out: a token in the Secret gives a higher limit; the download goes on by itself.
    """
    for line in scene.lines(r"the Hub answered 429|429 Client Error|Too Many Requests|the Hub asks to wait"):
        yield line.cause(
            "download-rate-limited",
            f"The Hub lets no more be downloaded of {_model(scene)} for now (429).",
            f"Wait, or put a token into the Secret {_token_secret(scene)}: it has a higher limit.",
            final=_gave_up(scene),
            patience=900.0,
        )


def weights_missing(scene: Scene) -> Iterator[Cause]:
    """The engine finds no weights, or not the planned revision, on the volume, and may not fetch any.

    Way out: let the download run again, or copy them to where the plan says.
    """
    pattern = (
        r"Cannot find any model weights|Cannot find any safetensors|Cannot find an "
        r"appropriate cached snapshot|LocalEntryNotFoundError"
        r"|cannot find the requested files|outgoing traffic has been disabled|couldn't find them in the cached files"
        r"|did not appear within \d+ s: the weights are not on the volume|failed to (?:open"
        r"|load) (?:GGUF )?(?:file|model).*No such file"
        r"|Could not detect config format for no config file|Invalid repository ID or local "
        r"directory|error loading model: .*failed to open"
    )
    for line in scene.lines(pattern, fatal=True):
        if "did not appear within" in line.match[0] and (_download_fails(scene) or _download_works(scene)):
            continue  # the server waits for a download whose own end tells more
        plan = scene.plan
        where = plan.weights.mount_path if plan else "the volume"
        what = f"{_model(scene)}{f' at {plan.model.revision[:12]}' if plan and plan.model.revision else ''}"
        if plan is not None and plan.weights.kind == "volume":
            hint = f"Copy the model's files to {plan.weights.location} on the volume: selfhost pull fetches them."
        else:
            hint = "Deploy again: the download fetches what is missing; kubectl get jobs says how the last one ended."
        yield line.cause("weights-missing", f"The weights of {what} are not on the volume ({where}).", hint)


def weights_damaged(scene: Scene) -> Iterator[Cause]:
    """A file of the weights is cut off or damaged.

    Way out: delete it and let the download run again; `selfhost verify` names which.
    """
    pattern = (
        r"SafetensorError|MetadataIncompleteBuffer|incomplete metadata, file not fully "
        r"covered|HeaderTooLarge|HeaderTooSmall|InvalidHeader|"
        r"PytorchStreamReader failed|invalid magic (?:number|characters)|is not what (?:its"
        r"|the) lock file says|tensor .* data is not within the file bounds|"
        r"Following weights were not initialized from checkpoint|Consistency check failed"
    )
    for line in scene.lines(pattern, fatal=True):
        yield line.cause(
            "weights-damaged",
            f"A file of the weights of {_model(scene)} is cut off or damaged: {_own(line)}.",
            (
                "selfhost verify names the file; delete it and the marker beside it, then deploy "
                "again: it is fetched anew."
            ),
        )


def files_missing(scene: Scene) -> Iterator[Cause]:
    """The tokenizer, a chat template or a configuration is missing beside the weights.

    Way out: name the repository that has it (`--set tokenizer=`), or add the files.
    """
    pattern = (
        r"does not appear to have a file named (?P<file>\S+?)\.?(?:\s|$)|Can't load "
        r"(?P<what>tokenizer|the configuration|image processor|feature extractor)"
        r"|Couldn't instantiate the backend tokenizer|No (?P<none>tokenizer) file found"
        r"|Entry Not Found for url: (?P<url>\S+)|FileNotFoundError: .*'(?P<path>[^']*(?:json|model|txt|jinja))'"
    )
    for line in scene.lines(pattern, fatal=True):
        found = line.match.groupdict()
        name = next(
            (value for key in ("file", "what", "none", "path", "url") if (value := found[key])), "tokenizer"
        )
        yield line.cause(
            "files-missing",
            f"{_model(scene)} lacks a file that the engine needs: {name.rstrip('.')}.",
            "Add it to the model's directory, or name the repository that has it: --set tokenizer=ORG/NAME.",
        )


def download_deadline(scene: Scene) -> Cause | None:
    """The download's Job took longer than the plan gives it.

    Way out: deploy again: it goes on where it stopped; or a nearer mirror (`--hub-endpoint`).
    """
    for job in scene.snapshot.jobs:
        for one in parts(part(job, "status"), "conditions"):
            if (
                text(one, "type") == "Failed"
                and text(one, "status") == "True"
                and text(one, "reason") == "DeadlineExceeded"
            ):
                limit = part(job, "spec").get("activeDeadlineSeconds")
                reached = _came_to(scene)
                return Cause(
                    code="download-deadline",
                    sentence=f"The download was not done within "
                    f"{f'{limit:,} s' if isinstance(limit, int) else 'its time'}"
                    f"{reached}.",
                    evidence=(text(one, "message"),),
                    hint="Deploy again: it goes on where it stopped; a nearer mirror (--hub-endpoint) is faster.",
                    final=True,
                )
    return None


def download_network(scene: Scene) -> Iterator[Cause]:
    """The download does not reach the Hub: name, network policy, proxy or certificate.

    Way out: open the way (a NetworkPolicy, `--https-proxy`, `--ca-config-map`), or a mirror (`--hub-endpoint`).
    """
    for line in scene.lines(_NETWORK, fatal=True):
        if line.pod.component != "download" and scene.plan is not None and scene.plan.weights.kind != "hub":
            continue
        words = line.match.string
        if re.search(r"name resolution|Name or service|getaddrinfo", words):
            why = "cannot resolve its name"
        elif re.search(r"roxy", words):
            why = "does not get through the proxy"
        elif re.search(r"certificate|CERTIFICATE", words):
            why = "does not trust its certificate"
        else:
            why = "gets no answer"
        yield line.cause(
            "download-network",
            f"{line.pod.name} {why} when it asks the Hub for {_model(scene)}.",
            "See to the namespace's egress (a NetworkPolicy, DNS), --https-proxy and --ca-config-map, or deploy with "
            "--hub-endpoint MIRROR.",
            final=_gave_up(scene),
            patience=300.0,
        )


def download_failed(scene: Scene) -> Cause | None:
    """The download's Job failed, for a reason that its log does not tell in a known form.

    Way out: read its log: `selfhost logs NAME --download`.
    """
    for job in scene.snapshot.jobs:
        name = text(part(job, "metadata"), "name")
        for one in parts(part(job, "status"), "conditions"):
            if (
                text(one, "type") == "Failed"
                and text(one, "status") == "True"
                and text(one, "reason") != "DeadlineExceeded"
            ):
                last = next(
                    (
                        line
                        for pod, box, _ in scene.ended()
                        if pod.component == "download"
                        for line in reversed(box.log.splitlines())
                        if line.strip()
                    ),
                    "",
                )
                pod = next((p.name for p in scene.pods if p.component == "download"), "")
                return Cause(
                    code="download-failed",
                    sentence=f"The download {name} failed for good.",
                    evidence=(text(one, "message"), last[:300]),
                    hint=f"selfhost logs {scene.snapshot.name} -n {scene.snapshot.namespace} --download",
                    final=True,
                    pod=pod,
                )
    return None


def _gave_up(scene: Scene) -> bool:
    """The download's Job has failed: nothing tries again."""
    return any(
        text(one, "type") == "Failed" and text(one, "status") == "True"
        for job in scene.snapshot.jobs
        for one in parts(part(job, "status"), "conditions")
    )


def _download_fails(scene: Scene) -> bool:
    return _gave_up(scene) or any(pod.component == "download" for pod, _, _ in scene.ended())


def _download_works(scene: Scene) -> bool:
    """Whether a download is still at it: neither done nor given up."""
    ended = [
        any(
            text(one, "type") in ("Complete", "Failed") and text(one, "status") == "True"
            for one in parts(part(job, "status"), "conditions")
        )
        for job in scene.snapshot.jobs
    ]
    return not all(ended)


def _came_to(scene: Scene) -> str:
    for pod in scene.pods:
        for box in pod.boxes:
            found = (
                progress((box.log or box.running_log).splitlines(), "pull")
                if pod.component == "download"
                else None
            )
            if found is not None:
                return f"; it had come to {found.detail}"
    return ""


def _model(scene: Scene) -> str:
    return scene.plan.model.id if scene.plan else "the model"


def _own(line: Line) -> str:
    return line.text.partition(": ")[2].rstrip(". ")[:160] or line.text[:160]


def _claim(line: Line) -> str:
    volumes = parts(line.pod.spec, "volumes")
    return next(
        (name for one in volumes if (name := text(part(one, "persistentVolumeClaim"), "claimName"))), ""
    )


def _token_secret(scene: Scene) -> str:
    for pod in (*scene.snapshot.pods, *scene.snapshot.jobs):
        spec = part(pod, "spec")
        spec = part(part(spec, "template"), "spec") or spec
        for one in parts(spec, "volumes"):
            if text(one, "name") == "token" and (name := text(part(one, "secret"), "secretName")):
                return name
    return "hf-token"

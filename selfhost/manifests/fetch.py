"""The pod that fetches the weights, beside which the server waits."""

from __future__ import annotations

from dataclasses import replace

from selfhost.engines import Argument
from selfhost.manifests.accelerators import devices
from selfhost.manifests.adapters import pulls_of
from selfhost.manifests.download import ARCHIVE_PATH, Download
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.outbound import download_additions
from selfhost.manifests.pod import (
    Additions,
    Container,
    EmptyDir,
    FileItem,
    Files,
    Mount,
    Noted,
    Number,
    PodView,
    SecretKey,
    Variable,
    Volume,
)
from selfhost.manifests.quantities import literal
from selfhost.manifests.server import USER_ID, labels, selector
from selfhost.manifests.weights import Storage
from selfhost.manifests.zipapp import ARCHIVE_FILE
from selfhost.plan import Plan

TOKEN_PATH = "/var/run/secrets/selfhost"
_SCRATCH = EmptyDir(size=Noted(value="512Mi", because="settings, sockets and scratch files"))


def fetch_pod(
    plan: Plan,
    options: RenderOptions,
    stored: Storage,
    found: Download,
    name: str,
    more: Additions | None = None,
) -> PodView:
    """The pod of the download Job.

    Args:
        plan: the decision.
        options: what the cluster decides.
        stored: where the weights are to lie.
        found: what fetches them.
        name: the Job, after which the ConfigMap with the archive is called.
        more: variables and files that options add.
    """
    added = (more or Additions()) + download_additions(options)
    volumes = [
        stored.volume,
        Volume(name="home", empty=_SCRATCH),
        Volume(name="tmp", empty=_SCRATCH),
    ]
    if found.kind == "pull":
        volumes.append(Volume(name="token", secret=_token(options)))
    if found.archive:
        items = (FileItem(key=ARCHIVE_FILE, path=ARCHIVE_FILE),)
        because = "made by kustomization.yaml, of the file beside it"
        volumes.append(Volume(name="selfhost", config_map=Files(name=name, items=items, because=because)))
    where = devices(plan, options)
    container = _container(plan, options, stored, found, added)
    return PodView(
        labels=labels(plan, "download"),
        selector=selector(plan, "download"),
        annotations=(),
        service_account=plan.name,
        grace=Number(value=30, because="a download that breaks off goes on where it stopped"),
        nodes=where.nodes,  # takes no GPU, but runs where the server will: the volume is made in that zone
        spread=False,
        restart="Never",
        beside=selector(plan, "server"),
        taints=where.taints,
        pull_secrets=options.access.image_pull_secrets,
        user_id=USER_ID,
        groups=(),
        groups_because="",
        init=tuple(  # before the model, whose marker the server waits for
            replace(container, name=adapter, args=_words(words)) for adapter, words in pulls_of(plan, options)
        ),
        containers=(container,),
        volumes=(*volumes, *added.volumes),
    )


def _words(words: tuple[Argument, ...]) -> tuple[Noted, ...]:
    return tuple(Noted(value=literal(word.text), because=word.because) for word in words)


def _token(options: RenderOptions) -> Files:
    return Files(
        name=options.token_secret,
        items=(FileItem(key="token", path="token"),),
        optional=True,
        because="only gated repositories need a token",
    )


def _container(
    plan: Plan, options: RenderOptions, stored: Storage, found: Download, added: Additions
) -> Container:
    mounts = [
        Mount(name=stored.volume.name, path=stored.path),
        Mount(name="home", path=plan.engine.home_path),
        Mount(name="tmp", path="/tmp"),
    ]
    if found.kind == "pull":
        mounts.append(Mount(name="token", path=TOKEN_PATH, read_only=True))
    if found.archive:
        mounts.append(Mount(name="selfhost", path=ARCHIVE_PATH, read_only=True))
    env = _pull_env(plan, options) if found.kind == "pull" else _s3_env(plan, options)
    return Container(
        name="download",
        image=Noted(value=found.image.reference, because=found.image_because),
        command=found.command,
        args=_words(found.words),
        env=(*env, *added.env),
        cpu_request=Noted(value="2", because="every byte is hashed"),
        cpu_limit=Noted(value="4", because="every byte is hashed"),
        memory_request=Noted(value="512Mi", because="a pull takes less than 200 MB"),
        memory_limit=Noted(
            value="2Gi",
            because="a pull takes less than 200 MB; written pages count too until they are on the volume",
        ),
        ephemeral=Noted(value="2Gi", because="home, /tmp and logs"),
        user_id=USER_ID,
        read_only_root=True,
        root_because="writes to the volume, home and /tmp alone",
        mounts=(*mounts, *added.mounts),
    )


def _pull_env(plan: Plan, options: RenderOptions) -> tuple[Variable, ...]:
    home = plan.engine.home_path
    found = [
        Variable(name="HOME", value=home, because="writable"),
        Variable(name="USER", value="selfhost", because="this user ID has no passwd entry"),
        Variable(
            name="HF_HOME", value=f"{home}/huggingface", because="what the Hub library writes besides weights"
        ),
        Variable(name="HF_HUB_CACHE", value=plan.weights.cache_path, because="the weights volume"),
        Variable(
            name="HF_TOKEN_PATH",
            value=f"{TOKEN_PATH}/token",
            because="a file, so that the token is in no environment",
        ),
        Variable(name="HF_HUB_DISABLE_TELEMETRY", value="1", because="no usage reports"),
    ]
    if options.hub_endpoint is not None:
        found.append(Variable(name="HF_ENDPOINT", value=options.hub_endpoint, because="the mirror, as asked"))
    return tuple(found)


def _s3_env(plan: Plan, options: RenderOptions) -> tuple[Variable, ...]:
    found = [Variable(name="HOME", value=plan.engine.home_path, because="writable")]
    if options.weights.s3_secret is not None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            key = SecretKey(name=options.weights.s3_secret, key=name)
            found.append(Variable(name=name, secret=key, because="from the Secret, as asked"))
    return tuple(found)

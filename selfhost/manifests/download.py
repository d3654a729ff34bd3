"""What fetches the weights: the words of `selfhost pull`, and an image that runs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from selfhost.engines import Argument, Image, get_engine, parse_engine, parse_image
from selfhost.licence import accept_id
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.options.weights import Source
from selfhost.manifests.zipapp import ARCHIVE_FILE
from selfhost.plan import Plan
from selfhost.plan.derive import SKIP, SKIP_BESIDE_SAFETENSORS

ARCHIVE_PATH = "/opt/selfhost"
PULLER = "vllm"  # whose image fetches for engines whose own cannot; --pull-image names another
HTTPS_PORT, HTTP_PORT = 443, 80
_TRUST = "--trust-remote-code"
S3_IMAGE = "amazon/aws-cli:2.22.0"  # a release of 2024-11; --s3-image names a newer one or a mirror's
_COPY = """\
set -eu
from=$1 to=$2 marker=$3
shift 3
mkdir -p "$to" "$(dirname "$marker")"
aws s3 sync --no-progress "$@" "$from" "$to"
: > "$marker"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A download.

    Args:
        image: the container's image.
        image_because: why this one.
        command: what starts selfhost.
        words: its arguments.
        archive: selfhost is not in the image but comes as ARCHIVE_FILE, to be mounted at ARCHIVE_PATH.
        ports: TCP ports of the Hub, and of where it keeps its files.
    """

    image: Image
    image_because: str
    command: tuple[str, ...]
    words: tuple[Argument, ...]
    archive: bool
    ports: tuple[int, ...]
    kind: Literal["pull", "s3"] = "pull"


def download(plan: Plan, options: RenderOptions, *, marker: str) -> Download:
    """How the weights of a plan are fetched: pulled from the Hub, or copied from S3.

    Args:
        plan: the decision.
        options: what the cluster decides.
        marker: the file that the server waits for.

    Raises:
        UsageError: the plan names an engine or a release that is not known.
    """
    source = options.weights.source
    if source is not None and source.kind == "s3":
        return _copy(plan, options, source, marker)
    archive = options.pull_image is None
    image, because = carrier(plan, options.pull_image)
    return Download(
        image=image,
        image_because=because,
        command=("python3", f"{ARCHIVE_PATH}/{ARCHIVE_FILE}") if archive else ("selfhost",),
        words=_words(plan, marker),
        archive=archive,
        ports=_ports(options.hub_endpoint),
    )


def _copy(plan: Plan, options: RenderOptions, source: Source, marker: str) -> Download:
    """Copies a directory of S3; goes on where an earlier pod stopped, as files that are there whole are left alone."""
    chosen, endpoint = options.weights, options.weights.s3_endpoint
    because = "the aws command" if chosen.s3_image is None else "as asked; has the aws command"
    target = plan.weights.location
    if plan.model.origin == "gguf":
        target = target.rpartition("/")[0]
    words = [
        Argument(value=_COPY, because="the marker is written last: the server waits for it"),
        Argument(value="copy", because="name of the script in its messages"),
        Argument(value=f"s3://{source.name}/{source.path}", because="as asked"),
        Argument(value=target, because="the model's directory on the weights volume"),
        Argument(value=marker, because="written last: the server waits for it"),
    ]
    if endpoint is not None:
        words.append(Argument(flag="--endpoint-url", value=endpoint, because="S3 that is not Amazon's"))
    return Download(
        image=parse_image(chosen.s3_image or S3_IMAGE),
        image_because=because,
        command=("/bin/sh", "-c"),
        words=tuple(words),
        archive=False,
        ports=_ports(endpoint),
        kind="s3",
    )


def _words(plan: Plan, marker: str) -> tuple[Argument, ...]:
    revision, skip = plan.model.revision, plan.weights.skip
    reference, because = f"{plan.weights.location}@{revision}", "the commit that was planned"
    if revision is None:
        reference = plan.weights.location
        because = "NOT PINNED: the tip of the default branch on the day of the download"
    words = [
        Argument(value="pull", because="goes on where an earlier pod stopped, and verifies every file"),
        Argument(value=reference, because=because),
        Argument(flag="--ready-file", value=marker, because="written last: the server waits for it"),
    ]
    words += _licence(plan)
    if not set(SKIP_BESIDE_SAFETENSORS) <= set(skip):
        words.append(
            Argument(
                flag="--allow-pickle", because="no safetensors were seen in planning; pickles are scanned"
            )
        )
    if any(argument.flag == _TRUST for argument in plan.engine.args):
        words.append(Argument(flag=_TRUST, because="the server runs the code that comes with the model"))
    by_itself = {*SKIP, *SKIP_BESIDE_SAFETENSORS}  # a pull takes one format of the weights and no copies
    words += [
        Argument(flag="--exclude", value=pattern, because="left out by the plan")
        for pattern in skip
        if pattern not in by_itself
    ]
    return tuple(words)


def _licence(plan: Plan) -> list[Argument]:
    """What the plan was made for, so that the licence is judged again where the weights are fetched."""
    verdict, words = plan.licence, []
    if verdict is not None and verdict.use is not None:
        words.append(
            Argument(flag="--use", value=verdict.use, because="as planned; the licence has to permit it")
        )
        if verdict.accepted:
            words.append(
                Argument(flag="--accept-licence", value=accept_id(verdict), because="accepted in planning")
            )
    return words


def carrier(plan: Plan, asked: str | None) -> tuple[Image, str]:
    """An image whose Python runs selfhost.pyz, or that has selfhost, and why this one."""
    if asked is not None:
        return parse_image(asked), "as asked; selfhost is installed in it"
    engine = plan.engine
    driver = get_engine(engine.name)
    if driver.pulls(parse_engine(f"{engine.name}@{engine.version}")):
        return engine.image, "the server's own image; its Hub library does the talking"
    latest = parse_engine(engine.name)
    if not driver.pulls(latest):  # no release of this engine has what a pull needs: the one that has
        puller = parse_engine(PULLER)
        because = f"not the server's own image: selfhost pull does not run in images of {engine.name}"
        return get_engine(puller.engine).image(puller, "cuda"), because
    newest = driver.image(latest, plan.gpu.on)
    if engine.image.repository.endswith(f"/{newest.repository}"):  # a mirror
        newest = Image(repository=engine.image.repository, tag=newest.tag)
    because = f"not the server's own image: the Hub library of {engine.name} {engine.version} may be too old"
    return newest, because


def _ports(endpoint: str | None) -> tuple[int, ...]:
    """Ports to open: the endpoint's, and that of the storage to which the Hub and many mirrors send on."""
    if endpoint is None:
        return (HTTPS_PORT,)
    parts = urlsplit(endpoint)
    port = parts.port or (HTTP_PORT if parts.scheme == "http" else HTTPS_PORT)
    return tuple(sorted({HTTPS_PORT, port}))

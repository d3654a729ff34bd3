"""Pack, check and unpack what a cluster without internet needs: weights, manifests, chart and image list."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from selfhost.cli._options import Grouped, json_option, options_of
from selfhost.cli._output import emit_json, facts, headline, next_step, say
from selfhost.manifests.options import RenderOptions

if TYPE_CHECKING:
    from selfhost.bundle import Manifest
    from selfhost.engines import Image
    from selfhost.plan import Plan
    from selfhost.pull.types import Snapshot

_FILE = click.Path(path_type=Path, dir_okay=False)
_HINT = "name it with its digest, --image REPOSITORY:TAG@sha256:..., or add --allow-unpinned."


@click.group()
def command() -> None:
    """Carry a planned model into a cluster without internet, in one tar file.

    The bundle holds the verified weights, the manifests and a Helm chart, and a list of the container images with their
    digests; the images themselves are mirrored with ordinary tools. Its README.md says step by step what to do with it.
    """


@command.command(cls=Grouped, short_help="Write the bundle of a plan.")
@click.argument("plan", type=click.Path(path_type=Path, allow_dash=True), metavar="PLAN")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The bundle."
)
@click.option(
    "--weights", metavar="DIR|cache",
    help="Directory that `selfhost pull` filled, or `cache` for the Hub's; left out, the bundle holds none.",
)  # fmt: skip
@click.option(
    "--mirror", metavar="REGISTRY[/PATH]",
    help="Where the cluster finds its images; the manifests then name them there.",
)  # fmt: skip
@click.option("--allow-unpinned", is_flag=True, help="Go on where an image's digest cannot be found out.")
@click.option("--force", is_flag=True, help="Replace a file that selfhost did not write.")
@options_of(RenderOptions, "options", without=frozenset({"weights"}))  # the bundle's own --weights packs them
@json_option
def create(
    plan: Path,
    output: Path,
    weights: str | None,
    mirror: str | None,
    allow_unpinned: bool,
    force: bool,
    options: RenderOptions,
    as_json: bool,
) -> None:
    """Write the bundle of PLAN, a plan.json of `selfhost plan`: all of it or nothing.

    An image's digest comes from the plan or from --image, else its registry is asked. SOURCE_DATE_EPOCH gives the time
    that stands in the bundle, so that the same plan and weights give the same file.
    """
    from selfhost.bundle import create as write
    from selfhost.plan import read_plan

    decided = read_plan(plan)
    snapshot = None if weights is None else _snapshot(weights, decided)
    total = snapshot.lock.total_bytes if snapshot is not None else 0
    with _progress(total, "packed", quiet=as_json) as done:
        made = write(
            decided,
            output,
            created=_now(),
            resolve=_resolver(allow_unpinned=allow_unpinned),
            options=options,
            snapshot=snapshot,
            mirror=mirror,
            force=force,
            report=done,
        )
    if as_json:
        emit_json(
            "bundle-create",
            {
                "file": str(made.path),
                "digest": made.digest,
                "size_bytes": made.size_bytes,
                **_told(made.manifest),
                "notes": list(made.notes),
            },
        )
        return
    headline(f"{made.manifest.name}: {_size(made.size_bytes)} in {made.path}, {_what(made.manifest)}.")
    click.echo()
    facts(_facts(made.manifest, made.digest))
    for note in made.notes:
        click.echo()
        say(note)
    next_step(f"selfhost bundle verify {shlex.quote(str(output))}", "where it was carried to")


@command.command(short_help="Check every byte of a bundle.")
@click.argument("file", type=_FILE, metavar="FILE")
@click.option(
    "--digest", metavar="sha256:HEX", help="What `bundle create` printed; another bundle is refused."
)
@json_option
def verify(file: Path, digest: str | None, as_json: bool) -> None:
    """Check every byte of a bundle against its manifest, reading it once and writing nothing."""
    from selfhost.bundle import open_bundle
    from selfhost.bundle import verify as check

    bundle = open_bundle(file)
    if digest is not None:
        _check_digest(digest, bundle.digest, file)
    with _progress(_content(bundle.manifest), "checked", quiet=as_json) as done:
        check(bundle, report=done)
    if as_json:
        told = {"file": str(file), "digest": bundle.digest, "size_bytes": bundle.size_bytes}
        emit_json("bundle-verify", {**told, **_told(bundle.manifest)})
        return
    files = len(bundle.manifest.members)
    headline(
        f"{file} is whole: {files} files, {_size(bundle.size_bytes)}, all as its manifest says.", good=True
    )
    click.echo()
    facts(_facts(bundle.manifest, bundle.digest))
    next_step(f"selfhost bundle unpack {shlex.quote(str(file))} --dir bundle", "bundle/README.md goes on")


@command.command(short_help="Unpack a bundle, verifying while writing.")
@click.argument("file", type=_FILE, metavar="FILE")
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="DIR",
    help="Directory to write below.",
)  # fmt: skip
@click.option(
    "--only", type=click.Choice(["weights", "manifests"]),
    help="A part: the model's files, right in DIR; or all but them.",
)  # fmt: skip
@click.option(
    "--layout", type=click.Choice(["directory", "cache"]), default="directory", show_default=True,
    help="Weights by their names, or as a cache of the Hub's library.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace files that are there with other content.")
@json_option
def unpack(
    file: Path,
    directory: Path,
    only: Literal["weights", "manifests"] | None,
    layout: Literal["directory", "cache"],
    force: bool,
    as_json: bool,
) -> None:
    """Unpack a bundle below a directory, verifying every file before it gets its name.

    No link is followed and nothing outside DIR is written. Run again, it keeps the files that are whole.
    """
    from selfhost.bundle import open_bundle
    from selfhost.bundle import unpack as write

    bundle = open_bundle(file)
    with _progress(_content(bundle.manifest, only), "unpacked", quiet=as_json) as done:
        made = write(bundle, directory, only=only, layout=layout, force=force, report=done)
    if as_json:
        emit_json(
            "bundle-unpack",
            {
                "dir": str(made.root),
                "model_dir": None if made.model is None else str(made.model),
                "written": list(made.written),
                "kept": list(made.kept),
                "notes": list(made.notes),
            },
        )
        return
    kept = f", {len(made.kept)} were there already" if made.kept else ""
    headline(f"{len(made.written)} files are in {made.root}{kept}, all verified.", good=True)
    for note in made.notes:
        click.echo()
        say(note)
    if only != "weights":
        next_step(f"less {shlex.quote(str(made.root / 'README.md'))}", "says what to do with them")
    elif layout == "cache":
        next_step(
            f"HF_HUB_CACHE={shlex.quote(str(made.root))} selfhost pull --serve", "serves them to others"
        )
    else:
        next_step(f"selfhost verify {shlex.quote(str(made.model))}", "checks them again at any time")


def _snapshot(weights: str, plan: Plan) -> Snapshot:
    """The verified files that were asked for."""
    from selfhost.errors import ModelNotFoundError
    from selfhost.hub.load import cache_directory
    from selfhost.hub.references import Reference
    from selfhost.pull.local import find_pulled, snapshot_at

    if weights != "cache":
        return snapshot_at(Path(weights))
    name, revision = plan.weights.location, plan.model.revision
    shown = name if revision is None else f"{name}@{revision}"
    if plan.weights.kind == "hub":
        reference = Reference(text=shown, kind="hub", name=name, revision=revision)
        found = find_pulled(reference, directory=None, cache=cache_directory(os.environ))
        if found is not None:
            return found
    raise ModelNotFoundError(
        f"The Hub's cache holds no pulled {shown}.", hint=f"`selfhost pull {shlex.quote(shown)}` brings it."
    )


def _resolver(*, allow_unpinned: bool) -> Callable[[Image], str | None]:
    """What asks registries for digests, as far as the environment and the user let it."""
    from selfhost.bundle.registry import digest_of
    from selfhost.errors import MalformedAnswerError, OfflineError
    from selfhost.hub.load import is_offline

    def resolve(image: Image) -> str | None:
        try:
            if is_offline(os.environ):
                name = f"{image.repository}:{image.tag}"
                raise OfflineError(
                    f"HF_HUB_OFFLINE is set, and the digest of {name} is not known.", hint=_HINT
                )
            return digest_of(image)
        except (OfflineError, MalformedAnswerError):
            if not allow_unpinned:
                raise
            return None

    return resolve


def _now() -> str:
    """The time that the bundle carries."""
    from selfhost.bundle.manifest import time_text
    from selfhost.errors import UsageError

    fixed = os.environ.get("SOURCE_DATE_EPOCH")
    if fixed is None:
        return time_text(time.time())
    if not (fixed.isascii() and fixed.isdigit()) or int(fixed) >= 8**11:
        raise UsageError(f"SOURCE_DATE_EPOCH is {fixed[:40]!r}, which is no count of seconds.")
    return time_text(int(fixed))


class _progress:  # noqa: N801 -- used as a function
    """Bytes done, on stderr while it lasts."""

    def __init__(self, total_bytes: int, verb: str, *, quiet: bool) -> None:
        from selfhost.pull.progress import Progress

        self._progress = Progress(total_bytes, None if quiet else sys.stderr, verb=verb)

    def __enter__(self) -> Callable[[int], None]:
        return self._progress.__enter__().got

    def __exit__(self, *error: object) -> None:
        self._progress.__exit__(*error)


def _check_digest(wanted: str, found: str, file: Path) -> None:
    from selfhost.errors import BundleError

    if wanted.removeprefix("sha256:").lower() != found.removeprefix("sha256:"):
        raise BundleError(
            f"{file} is another bundle: its manifest is {found}.", hint="bring the right file over."
        )


def _content(manifest: Manifest, only: str | None = None) -> int:
    """Bytes of the members that are asked for."""
    roles = ("weights", "lock")
    wanted = (
        member for member in manifest.members if only is None or (member.role in roles) == (only == "weights")
    )
    return sum(member.size_bytes for member in wanted)


def _told(manifest: Manifest) -> dict[str, object]:
    """What every command says of a bundle as JSON."""
    from selfhost.strict import encode

    return {
        "name": manifest.name,
        "created": manifest.created,
        "model": encode(manifest.model),
        "weights": encode(manifest.weights),
        "licence": None if manifest.licence is None else manifest.licence.licence,
        "images": encode(manifest.images),
        "files": len(manifest.members),
    }


def _facts(manifest: Manifest, digest: str) -> dict[str, str]:
    from selfhost.licence import brief

    rows = {"manifest": digest}
    if manifest.weights is not None:
        rows["weights"] = f"{manifest.weights.repo} at {manifest.weights.revision}"
    if manifest.licence is not None:
        rows["licence"] = brief(manifest.licence)
    for number, image in enumerate(manifest.images):
        rows["image" if number == 0 else f"image {number + 1}"] = image.target
    return rows


def _what(manifest: Manifest) -> str:
    weights = manifest.weights
    if weights is None:
        return "without weights"
    return f"with {_size(weights.size_bytes)} of weights in {weights.files} files"


def _size(size_bytes: int) -> str:
    from selfhost.units import size_text

    return size_text(size_bytes)

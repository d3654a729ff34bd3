"""What changes under a deployment by itself: images and models without a fixed version."""

from __future__ import annotations

import re
from collections.abc import Iterator

from selfhost.lint.model import Engine, Lot
from selfhost.lint.types import Found, Rule

_MOVING = re.compile(
    r"(^|[-_.])(latest|nightly|main|master|dev|edge|stable|unstable|canary|head|rolling|server|server-cuda|full|light)$"
)
# A release in full; Triton counts months, llama.cpp builds; some tag days or commits.
_RELEASE = re.compile(r"\d+\.\d+\.\d+|\d\d\.\d\d-|\d{4}-\d\d-\d\d|b\d{4,}|[0-9a-f]{7,40}$")
_PLACEHOLDER = re.compile(r"[$<>{}]|^[A-Z0-9_]+$")  # something else fills it in
_LOCAL = ("/", "./", "~", "s3://", "gs://", "pvc://", "oci://", "file:")


def _image(lot: Lot) -> Iterator[Found]:
    for _, container, _ in lot.engines():
        image = container.image
        if image is None or image.digest or _PLACEHOLDER.search(image.text):
            continue
        where = container.at(container.body.line("image"), "image")
        if image.tag is None:
            yield Found(where=where, message=f"image {image.text} has no tag: it is whatever is newest")
        elif _MOVING.search(image.tag.lower()):
            yield Found(where=where, message=f"image tag {image.tag} moves")


def _digest(lot: Lot) -> Iterator[Found]:
    for _, container, _ in lot.engines():
        image = container.image
        if image is None or image.digest or _PLACEHOLDER.search(image.text) or image.tag is None:
            continue
        if _MOVING.search(image.tag.lower()) or _RELEASE.search(image.tag):
            continue
        where = container.at(container.body.line("image"), "image")
        yield Found(where=where, message=f"image tag {image.tag} is no full release, and there is no digest")


def _revision(lot: Lot) -> Iterator[Found]:
    for pod, container, engine in lot.engines():
        if not _from_hub(engine) or pod.role == "worker":
            continue
        offline = container.variable("HF_HUB_OFFLINE")
        if offline is not None and offline.value in ("1", "true", "True"):
            continue  # what is on the volume cannot move
        if engine.revision is None and engine.complete and not container.env_from:
            yield Found(
                where=container.where,
                message=f"model {engine.model} has no revision: it is whatever main is today",
            )
        elif engine.revision in ("main", "master"):
            yield Found(
                where=container.where, message=f"revision {engine.revision} of model {engine.model} moves"
            )


def _from_hub(engine: Engine) -> bool:
    model = engine.model
    return (
        engine.name in ("vllm", "sglang", "tgi")
        and model is not None
        and model.count("/") == 1
        and not model.startswith(_LOCAL)
    )


RULES = (
    Rule(
        code="SH038",
        title="Image that moves",
        severity="warning",
        reason="A restart may bring another engine, with other flags, metrics and memory needs, and "
        "replicas may differ.",
        fix="Name a release, best with its digest.",
        sources=("https://kubernetes.io/docs/concepts/containers/images/#image-names, 2026-11-21",),
        compose=True,
        check=_image,
    ),
    Rule(
        code="SH051",
        title="Image of no full release",
        severity="note",
        reason="A tag such as v0.11 moves with each patch release; a digest is the bytes.",
        fix="Name all of the release, or write repository:tag@sha256:….",
        sources=("https://kubernetes.io/docs/concepts/containers/images/#image-names, 2026-11-21",),
        compose=True,
        check=_digest,
    ),
    Rule(
        code="SH039",
        title="Model without a revision",
        severity="warning",
        reason="Replicas that start on different days may serve different weights, templates or code under one name.",
        fix="Add --revision with the commit of the model's repository.",
        sources=("vLLM 0.32 --revision, SGLang 0.5.23 --revision, TGI 3.3.7 --revision, read 2026-11-21",),
        compose=True,
        check=_revision,
    ),
)

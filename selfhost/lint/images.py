"""Image references: their parts, the engine an image is named for, and the release in its tag."""

from __future__ import annotations

import re

from selfhost.lint.model import Image

# Part of an image's repository -> engine; the first that matches. From the projects' own pages, 2026-11-21; Google's
# Deep Learning Containers, Ascend's and OpenShift AI's builds, 2026-11-26.
_IMAGES = (
    (re.compile(r"(^|/)vllm/vllm-(openai|tpu|neuron|omni)"), "vllm"),
    (re.compile(r"(^|/)llm-d/llm-d(-(cuda|rocm|xpu|cpu|hpu|aws|gke|tpu|dev)[a-z0-9-]*)?$"), "vllm"),
    (
        re.compile(r"(^|/)(lmcache/vllm-openai|rocm/vllm(-dev)?|vllm-cpu-release-repo|rhai(is|i)/vllm-.*)$"),
        "vllm",
    ),
    (
        re.compile(
            r"(^|/)(vllm-openai|vllm-server|vllm-cuda|vllm-cpu-env|vllm-ascend|pytorch-vllm-serve|vllm)$"
        ),
        "vllm",
    ),
    (re.compile(r"(^|/)lmsysorg/sglang"), "sglang"),
    (
        re.compile(r"(^|/)(text-generation-inference|tgi-gaudi)$|/huggingface-text-generation-inference-"),
        "tgi",
    ),
    (re.compile(r"(^|/)tritonserver$"), "triton"),
    (re.compile(r"(^|/)(ggml-org|ggerganov)/llama\.cpp$"), "llamacpp"),
    (re.compile(r"(^|/)ollama(/ollama)?$"), "ollama"),
)
_NO_ENGINE_IMAGES = re.compile(
    r"llm-d-(inference-scheduler|routing-sidecar|benchmark|inference-sim|kv-cache|model-service)"
    r"|(^|-)(sim|simulator|mock|mocker|bench|benchmark|exporter|webui|gateway|controller|operator|runtime)($|-)"
    r"|(^|-)(router|production-stack)"
)
# Images whose entry point is a script of their own: it reads further variables, such as AIP_HTTP_PORT.
_SCRIPTED = re.compile(r"/huggingface-text-generation-inference-|/pytorch-vllm-serve$")
_VERSION = re.compile(r"(?:^|[^0-9a-z.])v?(\d+\.\d+(?:\.\d+)?(?:\.post\d+|rc\d+)?)(?![0-9.])")
_OWN = re.compile(r"(^|/)(vllm/vllm-|lmsysorg/sglang|huggingface/text-generation-inference|ollama/ollama)")


def image_of(text: str | None) -> Image | None:
    """An image reference taken apart; None where there is none."""
    if not text:
        return None
    name, _, digest = text.partition("@")
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        head, tag = name, ""
    return Image(text=text, repository=head, tag=tag or None, digest=digest or None)


def no_engine(image: Image | None) -> bool:
    """The image is named for something beside an engine: a router, a simulator, a benchmark."""
    return image is not None and _NO_ENGINE_IMAGES.search(image.repository.rpartition("/")[2]) is not None


def image_engine(image: Image | None) -> str | None:
    """The engine that an image is named for, None where it is none of the known ones."""
    if image is None or no_engine(image):
        return None
    repository = image.repository.lower()
    return next((engine for pattern, engine in _IMAGES if pattern.search(repository)), None)


def image_version(image: Image | None) -> str | None:
    """Release in an image's tag, such as `0.11.2` of `v0.11.2-cu129`; None where the tag names none."""
    if image is None or image.tag is None:
        return None
    found = _VERSION.search("-" + image.tag)
    return found[1] if found else None


def own(image: Image | None) -> bool:
    """The tag is the engine's own project's; a distribution's tags count its own releases."""
    return image is not None and _OWN.search(image.repository) is not None


def scripted(image: Image | None) -> bool:
    """What the image starts is not its engine alone: options that are not given may be there all the same."""
    return image is not None and _SCRIPTED.search(image.repository) is not None

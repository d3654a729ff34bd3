"""checkov over a part of the matrix, the golden cases and the examples; fails on any check that is no named exception.

checkov is no dependency of selfhost: `make lint-manifests` installs it into an environment of its own, and CHECKOV
names the program to run. It is started once for everything, as a start costs more than a hundred objects do: each case
is in a folder and a namespace of its own there, so that no policy of one covers a pod of another. Pods inside custom
resources, which checkov does not look into, are given to it as pods.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from tests.matrix import Case

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
# Check -> why a rendered default may fail it.
EXCEPTIONS = {
    "CKV_K8S_43": "no digest: offline nobody knows it; `selfhost render --image repository:tag@sha256:...` pins it",
    "CKV_K8S_15": "pull policy Always without a digest: a GPU pod should start while the registry is away",
}
# Check -> what was asked for, in the cases whose `beyond` names it; each goes away without the option.
ASKED = {
    "CKV_K8S_22": "a writable root file system: --writable-root",
    "CKV_K8S_17": "hostPID, as NVML names processes by the host's numbers: the monitor, unless --no-host-pid",
    "CKV_K8S_40": "root without one capability: the monitor, unless --monitor-non-root; TGI, whose image starts so",
    "CKV_K8S_23": "as CKV_K8S_40",
    "CKV_K8S_35": "a secret as a variable: an engine's key (--api-key-secret), S3's, LiteLLM's, which no file can hold",
    "CKV_K8S_38": "a token of the service account: the endpoint picker watches the API server, target gateway",
    "CKV_K8S_16": "privileged: the monitor with --kernel-log",
    "CKV_K8S_20": "as CKV_K8S_16",
    "CKV_K8S_28": "as CKV_K8S_16",
    "CKV_K8S_37": "as CKV_K8S_16",
}
# Check -> why a pod inside a custom resource, taken out of it, may fail it.
TAKEN_OUT = {
    "CKV2_K8S_6": "a controller adds the labels by which a policy selects the pod",
    "CKV_K8S_8": "workers of several nodes answer no request and have no probe",
    "CKV_K8S_9": "as CKV_K8S_8",
}
GOLDEN_BEYOND = {"directory": frozenset({"CKV_K8S_22"}), "exposed": frozenset({"CKV_K8S_35"})}
EXAMPLES_BEYOND = {"qwen3-8b-hybrid": frozenset({"CKV_K8S_35"})}
# Engines whose image starts as root alone.
ROOTS = {"tgi": frozenset({"CKV_K8S_23", "CKV_K8S_40"})}
# Kinds whose pods checkov finds by itself.
KNOWN = {"Pod", "Deployment", "Job", "DaemonSet", "StatefulSet", "CronJob", "ReplicaSet"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A case as checkov gets it."""

    name: str
    objects: tuple[Any, ...]
    beyond: frozenset[str] = frozenset()


def cases(per_family: int) -> list[Checked]:
    """Golden files, examples, and of each family and target of the matrix so many cases, evenly spread."""
    from tests.matrix import CASES, objects

    folders = sorted(path for path in (ROOT / "tests" / "golden" / "kubernetes").iterdir() if path.is_dir())
    found = [
        Checked(
            name=f"golden/{path.name}", objects=read(path), beyond=GOLDEN_BEYOND.get(path.name, frozenset())
        )
        for path in folders
    ]
    found += [
        Checked(
            name=f"examples/{path.parent.name}",
            objects=read(path),
            beyond=EXAMPLES_BEYOND.get(path.parent.name, frozenset()),
        )
        for path in sorted((ROOT / "examples").glob("*/rendered"))
    ]
    families: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, case in CASES.items():
        # What was asked to be less strict is a kind of its own, so that the least strict are among the chosen.
        families[name.partition("/")[0], case.target, ",".join(sorted(case.beyond))].append(name)
    for names in families.values():
        step = max(1, -(-len(names) // per_family))
        found += [Checked(name=n, objects=objects(n), beyond=asked(CASES[n])) for n in names[::step]]
    return found


def asked(case: Case) -> frozenset[str]:
    """Checks that fail because of what a case asks for."""
    found = case.beyond | ROOTS.get(case.plan.engine.name, frozenset())
    if case.target == "hybrid" or case.options.access.api_key_secret or case.options.weights.s3_secret:
        found |= {"CKV_K8S_35"}
    return found | ({"CKV_K8S_38"} if case.target == "gateway" else set())


def read(folder: Path) -> tuple[Any, ...]:
    """The objects of a rendered folder."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("[0-9]*.yaml"))]
    return tuple(document for text in texts for document in yaml.load_all(text, loader) if document)


def with_pods(found: tuple[Any, ...]) -> list[Any]:
    """The objects, and pods of the kinds that checkov does not know; what has no image is a controller's to fill."""
    from tests.podsecurity import containers, pods

    made = [copy.deepcopy(document) for document in found]
    for document in found:
        if document["kind"] in KNOWN:
            continue
        for number, pod in enumerate(pods(document)):
            if all("image" in container for container in containers(pod)):
                name = f"{document['kind'].lower()}-{number}-{document['metadata']['name']}"[:63].rstrip("-")
                labels = document["metadata"].get("labels") or {}
                metadata = {
                    "name": name,
                    "namespace": document["metadata"].get("namespace"),
                    "labels": labels,
                }
                made.append(
                    {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": copy.deepcopy(pod)}
                )
    return made


def write(case: Checked, number: int, folder: Path) -> int:
    """Write a case's objects into its folder and namespaces; how many there are."""
    folder.mkdir()
    made = with_pods(case.objects)
    for at, document in enumerate(made):
        if namespace := document["metadata"].get("namespace"):
            document["metadata"]["namespace"] = f"case-{number}-{namespace}"
        text = yaml.dump(document, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False)
        (folder / f"{at:02}.yaml").write_text(text, encoding="utf-8")
    return len(made)


def report(program: str, folder: Path) -> Any:
    """What checkov says of everything below a folder."""
    done = subprocess.run(
        [program, "-d", str(folder), "--framework", "kubernetes", "--quiet", "--skip-download", "-o", "json"],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    if not done.stdout.startswith("{"):
        raise SystemExit(f"{program} ended with {done.returncode} and no report: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def main() -> int:
    """Print a line per case with a failure; 1 when a check failed that is no exception."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--per-family", type=int, default=8, help="cases of each family of the matrix")
    per_family = parser.parse_args().per_family
    program = os.environ.get("CHECKOV") or shutil.which("checkov")
    if program is None:
        print("checkov is not installed; `make lint-manifests` sets it up")
        return 2
    chosen = cases(per_family)
    with tempfile.TemporaryDirectory() as made:
        count = sum(write(case, n, Path(made) / f"{n:04}") for n, case in enumerate(chosen))
        said = report(program, Path(made))
    failed: dict[int, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for check in said["results"]["failed_checks"]:
        inside = check["resource"].startswith("Pod.")
        if not (inside and check["check_id"] in TAKEN_OUT):
            failed[int(check["file_path"].split("/")[1])][check["check_id"]].add(check["resource"])
    wrong = 0
    for number, case in enumerate(chosen):
        unexpected = set(failed[number]) - set(EXCEPTIONS) - case.beyond
        wrong += len(unexpected)
        print(f"{case.name:48} failed {', '.join(sorted(failed[number])) or '-'}")
        for check in sorted(unexpected):
            print(f"  {check} fails for {', '.join(sorted(failed[number][check]))}")
    summary = said["summary"]
    print(
        f"{len(chosen)} cases, {count} objects: {summary['passed']} checks passed, {summary['failed']} failed"
    )
    if summary["passed"] < count or summary["parsing_errors"]:
        print("not everything was checked")
        wrong += 1
    for check, reason in EXCEPTIONS.items():
        print(f"exception {check}: {reason}")
    for check, reason in (ASKED | TAKEN_OUT).items():
        print(f"only where asked for, {check}: {reason}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

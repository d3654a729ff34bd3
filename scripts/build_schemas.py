"""Write tests/schemas/: the definitions of custom resources that are rendered, from the projects' own releases.

`python scripts/build_schemas.py [NAME=REPOSITORY ...]` takes each file out of the tag of a git repository on this
machine; a project that is not named is cloned. Prose, status and webhooks are left out, what decides whether an object
is valid stays. tests/validators.py reads the files; tests/test_apiserver.py installs them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

OUT = Path(__file__).parent.parent / "tests" / "schemas"
READ = "2026-11-26"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A release of a project and its files of definitions, all under the Apache License 2.0."""

    repository: str
    tag: str
    folder: str
    files: tuple[str, ...]


SOURCES = {
    "keda": Source(
        repository="kedacore/keda", tag="v2.20.2", folder="config/crd/bases",
        files=("keda.sh_scaledobjects", "keda.sh_triggerauthentications"),
    ),
    "gateway-api": Source(
        repository="kubernetes-sigs/gateway-api", tag="v1.6.1", folder="config/crd/standard",
        files=("gateway.networking.k8s.io_gateways", "gateway.networking.k8s.io_httproutes"),
    ),
    "inference": Source(
        repository="kubernetes-sigs/gateway-api-inference-extension", tag="v1.6.0", folder="config/crd/bases",
        files=("inference.networking.k8s.io_inferencepools",),
    ),
    # The last release with these; they moved to another project afterwards.
    "inference-objective": Source(
        repository="kubernetes-sigs/gateway-api-inference-extension", tag="v1.5.0", folder="config/crd/bases",
        files=(
            "inference.networking.x-k8s.io_inferenceobjectives",
            "inference.networking.x-k8s.io_inferencemodelrewrites",
        ),
    ),
    "prometheus-operator": Source(
        repository="prometheus-operator/prometheus-operator", tag="v0.93.0",
        folder="example/prometheus-operator-crd",
        files=(
            "monitoring.coreos.com_podmonitors", "monitoring.coreos.com_servicemonitors",
            "monitoring.coreos.com_prometheusrules",
        ),
    ),
    "lws": Source(
        repository="kubernetes-sigs/lws", tag="v0.10.0", folder="config/crd/bases",
        files=(
            "leaderworkerset.x-k8s.io_leaderworkersets", "disaggregatedset.x-k8s.io_disaggregatedsets",
        ),
    ),
    "kserve": Source(
        repository="kserve/kserve", tag="v0.20.0", folder="config/crd/full",
        files=(
            "serving.kserve.io_inferenceservices", "serving.kserve.io_servingruntimes",
            "serving.kserve.io_clusterservingruntimes", "llmisvc/serving.kserve.io_llminferenceservices",
            "llmisvc/serving.kserve.io_llminferenceserviceconfigs",
        ),
    ),
    "kuberay": Source(
        repository="ray-project/kuberay", tag="v1.7.0", folder="ray-operator/config/crd/bases",
        files=("ray.io_rayclusters", "ray.io_rayservices"),
    ),
}  # fmt: skip


def git(repository: Path, *words: str) -> str:
    """Output of git in a repository."""
    done = subprocess.run(
        ["git", "-C", str(repository), *words], capture_output=True, text=True, check=True
    )  # fmt: skip
    return done.stdout


def pruned(schema: Any) -> Any:
    """A schema without prose; a field may itself be called `description`, which is why this knows the structure."""
    if isinstance(schema, list):
        return [pruned(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("description", "example", "externalDocs", "title"):
            continue
        if key == "properties":
            kept[key] = {name: pruned(below) for name, below in value.items()}
        elif key in ("default", "enum"):
            kept[key] = value
        else:
            kept[key] = pruned(value)
    return kept


def definition(text: str) -> dict[str, Any]:
    """What is kept of a CustomResourceDefinition."""
    whole = next(d for d in yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if d)
    versions = []
    for version in whole["spec"]["versions"]:
        schema = pruned(version["schema"]["openAPIV3Schema"])
        schema["properties"].pop("status", None)
        versions.append({
            "name": version["name"], "served": version["served"], "storage": version["storage"],
            "schema": {"openAPIV3Schema": schema},
        })  # fmt: skip
    spec = {key: whole["spec"][key] for key in ("group", "names", "scope")}
    # The API server takes groups of *.k8s.io with this note alone.
    notes = {
        key: value
        for key, value in (whole["metadata"].get("annotations") or {}).items()
        if key == "api-approved.kubernetes.io"
    }
    metadata = {"name": whole["metadata"]["name"], "annotations": notes}
    return {
        "apiVersion": whole["apiVersion"], "kind": whole["kind"], "metadata": metadata,
        "spec": spec | {"versions": versions},
    }  # fmt: skip


def packed(value: Any) -> bytes:
    """Compact JSON, compressed; the same bytes for the same value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)


def main() -> None:
    """Write every definition and the README beside them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("repositories", nargs="*", metavar="NAME=REPOSITORY")
    given = dict(word.split("=", 1) for word in parser.parse_args().repositories)
    OUT.mkdir(exist_ok=True)
    lines = []
    with tempfile.TemporaryDirectory() as cloned:
        for name, source in SOURCES.items():
            repository = Path(given.get(name, Path(cloned) / name))
            if name not in given:
                url = f"https://github.com/{source.repository}"
                words = ["clone", "--quiet", "--depth=1", f"--branch={source.tag}", url, str(repository)]
                subprocess.run(["git", *words], check=True)
            commit = git(repository, "rev-parse", f"{source.tag}^{{commit}}").strip()
            for file in source.files:
                made = definition(git(repository, "show", f"{source.tag}:{source.folder}/{file}.yaml"))
                path = OUT / f"{made['metadata']['name']}.json.gz"
                path.write_bytes(packed(made))
                kind, versions = made["spec"]["names"]["kind"], made["spec"]["versions"]
                served = ", ".join(version["name"] for version in versions)
                place = f"https://github.com/{source.repository}/blob/{commit}/{source.folder}/{file}.yaml"
                lines.append(f"| {kind} {served} | [{source.repository}]({place}) {source.tag} |")
    (OUT / "README.md").write_text(README + "\n".join(lines) + "\n", encoding="utf-8")


README = f"""# Definitions of custom resources

What the projects publish as CustomResourceDefinition, without prose, status and webhooks, each file one definition as
compressed JSON. All are under the [Apache License 2.0](https://www.apache.org/licenses/LICENSE-2.0). Written by
`python scripts/build_schemas.py` on {READ}; `tests/validators.py` reads them.

| kind | source |
|---|---|
"""

if __name__ == "__main__":
    main()

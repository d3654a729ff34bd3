"""The chart as Helm fills it in: objects of a plan, and what the schema says to a values file."""

from __future__ import annotations

import base64
import subprocess
import tempfile
from atexit import register
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from shutil import rmtree
from typing import Any

import yaml

from selfhost.manifests import RenderOptions, render
from selfhost.manifests.chart import chart_files
from selfhost.plan import Plan
from tests.programs import helm

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def chart() -> Path:
    """A folder with the chart, as every rendering writes it."""
    root = Path(tempfile.mkdtemp(prefix="selfhost-chart-"))
    register(rmtree, root, ignore_errors=True)
    for path, data in chart_files().items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def template(values: str, *words: str) -> subprocess.CompletedProcess[str]:
    """`helm template` with a values file."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(values)
        file.flush()
        line = [helm(), "template", "release", chart(), "-f", file.name, *words]
        return subprocess.run(list(map(str, line)), capture_output=True, text=True, check=False, timeout=60)


def objects_of(text: str) -> list[Any]:
    """Objects in what Helm printed."""
    return [one for one in yaml.load_all(text, LOADER) if one is not None]


def values_of(plan: Plan, options: RenderOptions) -> str:
    """The values file of a rendering."""
    documents = render(plan, target="helm", options=options).documents
    return next(document.text for document in documents if document.name == "values.yaml")


def chart_objects(plan: Plan, options: RenderOptions) -> list[Any]:
    """Objects that the chart gives with the values of a rendering, without the pod of `helm test`.

    One process of Helm, about 0.1 s.
    """
    done = template(values_of(plan, options), "--skip-tests")
    assert done.returncode == 0, done.stderr
    return objects_of(done.stdout)


def plain_objects(plan: Plan, options: RenderOptions) -> list[Any]:
    """Objects of target kubernetes, and the ConfigMap that kustomize makes of the file beside them."""
    documents = render(plan, options=options).documents
    found = [
        one
        for document in documents
        if document.is_object
        for one in yaml.load_all(document.text, LOADER)
        if one is not None
    ]
    files = {document.name: document.data for document in documents if document.data is not None}
    texts = {document.name: document.text for document in documents}
    for made in (yaml.load(texts["kustomization.yaml"], LOADER) or {}).get("configMapGenerator", ()):
        data = {name: base64.b64encode(files[name] or b"").decode() for name in made["files"]}
        meta = {
            "name": made["name"],
            "namespace": found[0]["metadata"]["namespace"],
            "labels": made["options"]["labels"],
        }
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "binaryData": data})
    return found


def by_name(objects: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Objects by kind and name, of which no two are alike."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for one in objects:
        key = (one["kind"], one["metadata"]["name"])
        assert key not in found, key
        found[key] = one
    return found

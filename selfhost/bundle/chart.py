"""Rendered manifests as a Helm chart that gives the very same objects: images are values, the rest is as planned."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from selfhost import __version__
from selfhost.bundle.images import Moved
from selfhost.manifests import Document
from selfhost.manifests.environment import note, quote
from selfhost.manifests.kubernetes import View
from selfhost.plan import Plan

_IMAGE = re.compile(r'^( *(?:- )?image: )"([^"\\]+)"', re.MULTILINE)
_HELPERS = """\
{{- define "selfhost.image" -}}
{{- with .registry }}{{ . }}/{{ end }}{{ .repository }}:{{ .tag }}{{ with .digest }}@{{ . }}{{ end }}
{{- end -}}
"""


def chart_files(
    plan: Plan, shown: View, documents: Sequence[Document], moved: Sequence[Moved], *, mirror: str | None
) -> dict[str, bytes]:
    """The chart's files by their path below its folder.

    Args:
        plan: what is deployed.
        shown: the plan as the templates of Kubernetes see it.
        documents: rendered objects, and the archive for the download where there is one.
        moved: their images; the first is the engine's.
        mirror: the registry inside, which becomes a value.
    """
    keys = {one.new.reference: key for one, key in zip(moved, _keys(moved), strict=True)}
    files = {
        "Chart.yaml": _chart(plan),
        "values.yaml": _values(moved, mirror),
        "templates/_helpers.tpl": _HELPERS,
    }
    for document in documents:
        if document.is_object:
            files[f"templates/{document.name}"] = _template(document.text, keys)
    made = {path: text.encode() for path, text in files.items()}
    for document in documents:
        if document.data is not None and shown.download is not None:
            made[f"files/{document.name}"] = document.data
            made["templates/35-configmap-download.yaml"] = _config_map(shown, document.name).encode()
    return made


def _keys(moved: Sequence[Moved]) -> list[str]:
    """What the values call each image."""
    return ["engine", "download", *(f"image{number}" for number in range(3, len(moved) + 1))][: len(moved)]


def _template(text: str, keys: Mapping[str, str]) -> str:
    """An object's text for Helm: what looks like a template in it is printed as it is, images come from the values."""
    escaped = text.replace("{{", '{{ "{{" }}')

    def value(match: re.Match[str]) -> str:
        key = keys.get(match[2])
        if key is None:
            return match[0]
        return f'{match[1]}{{{{ include "selfhost.image" .Values.images.{key} | quote }}}}'

    return _IMAGE.sub(value, escaped)


def _chart(plan: Plan) -> str:
    return "\n".join(
        (
            "apiVersion: v2",
            f"name: {quote(plan.name)}",
            f"description: {quote(f'{plan.model.id} on {plan.gpu.count} x {plan.gpu.name}, as planned')}",
            "type: application",
            f"version: {quote(__version__)}",
            f"appVersion: {quote(plan.engine.version)}",
            'kubeVersion: ">=1.29.0-0"',
            "",
        )
    )


def _values(moved: Sequence[Moved], mirror: str | None) -> str:
    lines = ["# Where the images are pulled from; images.txt of the bundle brings them there.", "images:"]
    for key, one in zip(_keys(moved), moved, strict=True):
        image = one.new
        repository = image.repository if mirror is None else image.repository.removeprefix(f"{mirror}/")
        lines += [
            f"  {key}: # {note(f'{one.record.source}')}",
            f"    registry: {quote(mirror or '')}",
            f"    repository: {quote(repository)}",
            f"    tag: {quote(image.tag)}",
            f"    digest: {quote(image.digest or '')}",
        ]
    return "\n".join(lines) + "\n"


def _config_map(shown: View, name: str) -> str:
    """What kustomize makes of the archive beside its manifests."""
    assert shown.download is not None
    labels = [f"    {quote(label.key)}: {quote(label.value)}" for label in shown.download_labels]
    lines = [
        "apiVersion: v1",
        "kind: ConfigMap",
        "metadata:",
        f"  name: {quote(shown.download.name)}",
        f"  namespace: {quote(shown.namespace)}",
        "  labels:",
        *labels,
        "binaryData:",
        f'  {quote(name)}: {{{{ .Files.Get "files/{name}" | b64enc | quote }}}}',
        "",
    ]
    return "\n".join(lines)

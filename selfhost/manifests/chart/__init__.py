"""The Helm chart: the templates of Kubernetes in Go's language, their view as its values, types as its schema.

Nothing here knows an object: what templates/kubernetes/ say is translated, so that manifests and chart cannot differ.
"""

from __future__ import annotations

from selfhost.manifests.chart.contents import chart_files, default_values, values_schema, values_text
from selfhost.manifests.chart.default import default_plan
from selfhost.manifests.chart.lines import TranslationError

__all__ = [
    "TranslationError",
    "chart_files",
    "default_plan",
    "default_values",
    "values_schema",
    "values_text",
]

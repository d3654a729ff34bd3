"""The chart's README: how it is used, and a row for each value of its schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from selfhost.plan import Plan


def readme(schema: Mapping[str, Any], plan: Plan) -> str:
    """README.md of the chart.

    Args:
        schema: of its values.
        plan: whose values are the default.
    """
    rows = "\n".join(f"| `{path}` | {kind} | {words} |" for path, kind, words in _rows(schema, ""))
    return f"""\
<!-- Written by selfhost render; the types of the view and the templates decide it. -->
# selfhost

One inference server for one language model on Kubernetes: server, weights, policies and metrics, as `selfhost plan`
sized them. The values are a plan in Kubernetes' terms; nobody has to write them by hand:

```console
selfhost plan Qwen/Qwen3-32B --context 16k --concurrency 16 -o plan.json
selfhost render plan.json --target helm -o out
helm upgrade --install qwen3-32b out/chart -f out/values.yaml -n llm --create-namespace
helm test qwen3-32b -n llm
```

Without values of a plan the chart installs {plan.model.id} on {plan.gpu.count} x {plan.gpu.name}.
Its objects are those of `selfhost render --target kubernetes`, from the same templates.
Pods run under Pod Security `restricted`.

`values.schema.json` knows every value: a name that is misspelt, a quantity that is none or a pair that contradicts
itself is refused by every `helm install`, `upgrade`, `template` and `lint`. `helm uninstall` leaves the claim with the
weights where it is.

## Values

`[]` is an item of a list.

| value | type | what it is |
|---|---|---|
{rows}
"""


def _rows(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    for name, below in node.get("properties", {}).items():
        yield from _row(below, f"{path}{name}")


def _row(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    yield path, _kind(node), node["description"].replace("|", "\\|")
    if "properties" in node:
        yield from _rows(node, f"{path}.")
    elif "items" in node and "properties" in node["items"]:
        yield from _rows(node["items"], f"{path}[].")


def _kind(node: Mapping[str, Any]) -> str:
    kinds = [node["type"]] if isinstance(node["type"], str) else list(node["type"])
    if "enum" in node:
        return " or ".join(f"`{value}`" for value in node["enum"] if value is not None)
    return " or ".join(kinds)

"""The chart with the values of a case gives the objects of its manifests, for every case of the target kubernetes.

Helm is started once for many cases: a chart that depends on ours once for each, under another name. What our schema
says of the values is asked of the schema itself then, as Helm adds a value `global` to those of a dependency.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from tests.charts import LOADER, by_name, chart, plain_objects, values_of
from tests.matrix import CASES
from tests.programs import helm

NAMES = [name for name, case in CASES.items() if case.target == "kubernetes"]
PARTS = 6
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def chart_objects(values: dict[str, Any], folder: Path) -> dict[str, list[Any]]:
    """Name -> what the chart gives with the values of that name."""
    ours = chart()
    shutil.copytree(ours, folder / "charts" / "selfhost")
    (folder / "charts" / "selfhost" / "values.schema.json").unlink()
    version = yaml.load((ours / "Chart.yaml").read_text(encoding="utf-8"), LOADER)["version"]
    aliases = {f"c{number}": name for number, name in enumerate(values)}
    depends = [{"name": "selfhost", "alias": alias, "version": version} for alias in aliases]
    head = {"apiVersion": "v2", "name": "all", "version": "0.0.1", "dependencies": depends}
    (folder / "Chart.yaml").write_text(yaml.dump(head, Dumper=DUMPER), encoding="utf-8")
    # As a file of values: in the chart's own, null would not take a default away.
    given = folder / "given.yaml"
    text = yaml.dump({alias: values[name] for alias, name in aliases.items()}, Dumper=DUMPER)
    given.write_text(text, encoding="utf-8")
    words: list[str | Path] = [helm(), "template", "release", folder, "--values", given, "--skip-tests"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, list[Any]] = defaultdict(list)
    for part in re.split(r"^---\n", done.stdout, flags=re.MULTILINE):
        source = re.match(r"# Source: all/charts/(\w+)/", part)
        if source:
            read = yaml.load_all(part, LOADER)
            found[aliases[source[1]]] += [document for document in read if document is not None]
    return found


def merged(default: Any, given: Any) -> Any:
    """Values as the schema sees them: over the chart's own, where null takes away what is there."""
    if not isinstance(default, dict) or not isinstance(given, dict):
        return given
    made = default | {name: merged(default.get(name), value) for name, value in given.items()}
    return {name: value for name, value in made.items() if value is not None or default.get(name) is None}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(PARTS))
def test_chart_equals_manifests(part: int, tmp_path: Path) -> None:
    names = NAMES[part::PARTS]
    values = {name: yaml.load(values_of(CASES[name].plan, CASES[name].options), LOADER) for name in names}
    schema = jsonschema_rs.validator_for(
        json.loads((chart() / "values.schema.json").read_text(encoding="utf-8"))
    )
    default = yaml.load((chart() / "values.yaml").read_text(encoding="utf-8"), LOADER)
    for name in names:
        assert [error.message for error in schema.iter_errors(merged(default, values[name]))] == [], name
    found = chart_objects(values, tmp_path / "all")
    for name in names:
        expected = by_name(plain_objects(CASES[name].plan, CASES[name].options))
        assert by_name(found[name]) == expected, name


def test_most_of_the_matrix_is_compared() -> None:
    assert len(NAMES) >= 200

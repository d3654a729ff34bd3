"""Templates in Go's language say what the same templates say in Jinja's, for every shape that a view can have."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jinja2 import DictLoader, Environment, StrictUndefined

from selfhost.assets import asset_dir
from selfhost.manifests.chart.lines import TranslationError, emit
from selfhost.manifests.chart.shapes import camel, shape_of
from selfhost.manifests.chart.trace import trace
from selfhost.manifests.chart.translate import translate
from selfhost.manifests.chart.values import to_yaml, tree
from selfhost.manifests.environment import FILTERS, environment, finalize
from tests.programs import helm


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    value: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    value: int
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    key: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port.

    Args:
        name: what it is called.
    """

    name: str
    number: int | None = None
    because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    title: str
    labels: tuple[Pair, ...]
    ports: tuple[Port, ...] = ()
    words: tuple[Noted, ...] = ()
    inner: Port | None = None
    note: Noted | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Top:
    name: str
    kind: Literal["a", "b"]
    count: int
    on: bool
    limit: Number
    maybe: str | None
    optional: Part | None
    part: Part
    parts: tuple[Part, ...]
    groups: tuple[tuple[Pair, ...], ...]
    count_because: str
    unused: str = "nowhere"

    @property
    def both(self) -> bool:
        return self.on and self.optional is not None


TEMPLATES = {
    "all.yaml": """\
# {{ plan.name | note }}
name: {{ plan.name | q }} # {{ plan.count_because | note }}
kind: {{ plan.kind | q }} # stays
count: {{ plan.count }}
limit: {{ plan.limit.value }} # a {{ plan.limit.because | note }}; b
{% if plan.on %}
"on": true
{% else %}
"on": false # not {{ plan.name | note }}
{% endif %}
{% if plan.both %}
both: true
{% endif %}
{% if plan.maybe %}
maybe: {{ plan.maybe | q }}
{% endif %}
{% if plan.optional %}
optional:
  {% with part = plan.optional %}
  {% include "part.yaml@2" %}
  {% endwith %}
{% elif plan.count %}
counted: true
{% else %}
neither: true
{% endif %}
part:
  {% with part = plan.part %}
  {% include "part.yaml@2" %}
  {% endwith %}
parts:
  {% for part in plan.parts %}
  - which: {{ plan.name | q }}
    {% include "part.yaml@4" %}
  {% endfor %}
groups:
  {% for group in plan.groups %}
  -
    {% for pair in group %}
    {{ pair.key | q }}: {{ pair.value | q }}
    {% endfor %}
  {% endfor %}
block: |
  {% raw %}
  {{ not: a template }}
  {% endraw %}

  text: "with" # all of it
end: [{{ plan.name | q }}, {{ plan.count }}]
""",
    "part.yaml": """\
title: {{ part.title | q }}
labels:
  {% for label in part.labels %}
  {{ label.key | q }}: {{ label.value | q }}
  {% endfor %}
ports:
  {% for port in part.ports %}
  - name: {{ port.name | q }} # {{ port.because | note }}
    {% if port.number %}
    number: {{ port.number }}
    {% endif %}
  {% endfor %}
words:
  {% for word in part.words %}
  - {{ word.value | q }} # {{ word.because | note }}
  {% endfor %}
{% if part.inner %}
inner: {{ part.inner.name | q }}
{% endif %}
{% if part.note %}
note: {{ part.note.value | q }}
{% endif %}
""",
}


def source(name: str) -> str:
    file, _, spaces = name.partition("@")
    return "".join(" " * int(spaces or 0) + line for line in TEMPLATES[file].splitlines(keepends=True))


def jinja(templates: dict[str, str]) -> Environment:
    made = Environment(
        loader=DictLoader(templates), undefined=StrictUndefined, finalize=finalize, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    made.filters = dict(FILTERS)
    return made


ENVIRONMENT = jinja(
    {"all.yaml": TEMPLATES["all.yaml"]} | {f"part.yaml@{n}": source(f"part.yaml@{n}") for n in (2, 4)}
)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
pairs = st.dictionaries(names, text, max_size=3).map(
    lambda d: tuple(Pair(key=k, value=v) for k, v in d.items())
)
ports = st.builds(Port, name=text, number=st.none() | st.integers(1, 2**53 - 1), because=text)
noted = st.builds(Noted, value=text, because=text)
parts = st.builds(
    Part, title=text, labels=pairs, ports=st.lists(ports, max_size=3).map(tuple),
    words=st.lists(noted, max_size=3).map(tuple), inner=st.none() | ports, note=st.none() | noted,
)  # fmt: skip
tops = st.builds(
    Top, name=text, kind=st.sampled_from("ab"), count=st.integers(0, 2**53 - 1), on=st.booleans(),
    limit=st.builds(Number, value=st.integers(0, 10**9), because=text), maybe=st.none() | text,
    optional=st.none() | parts, part=parts, parts=st.lists(parts, max_size=3).map(tuple),
    groups=st.lists(pairs, max_size=2).map(tuple), count_because=text,
)  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chart that goes over `tops`, so that one process of Helm fills in many views."""
    root = tmp_path_factory.mktemp("small")
    (root / "templates").mkdir()
    (root / "Chart.yaml").write_text("apiVersion: v2\nname: small\nversion: 0.1.0\n")
    helpers = (asset_dir("templates") / "helm/_helpers.tpl").read_text(encoding="utf-8")
    (root / "templates/_helpers.tpl").write_text(helpers)
    body = emit(translate(ENVIRONMENT, "all.yaml", Top)).replace("$.Values", "$values")
    head = "{{- range $number, $values := .Values.tops }}\n---\nnumber: {{ $number }}\n"
    (root / "templates/all.yaml").write_text(f"{head}{body}\n{{{{- end }}}}\n", encoding="utf-8")
    return root


@settings(
    max_examples=20,
    deadline=None,
    phases=[
        Phase.explicit,
        Phase.reuse,
        Phase.generate,
    ],  # smaller examples would take a process of Helm each
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
@given(views=st.lists(tops, min_size=1, max_size=6))
def test_any_view_gives_the_same_objects(small: Path, views: list[Top], tmp_path: Path) -> None:
    used = trace({"all.yaml": translate(ENVIRONMENT, "all.yaml", Top)}, prose={})
    values = "tops:\n"
    for view in views:
        lines = to_yaml(tree(view, used)).splitlines()
        values += "\n".join(("  - " if at == 0 else "    ") + line for at, line in enumerate(lines)) + "\n"
    (tmp_path / "values.yaml").write_text(values, encoding="utf-8")
    line = [helm(), "template", "x", small, "-f", tmp_path / "values.yaml"]
    done = subprocess.run(list(map(str, line)), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    # Helm orders what it prints.
    found = {one.pop("number"): one for one in yaml.safe_load_all(done.stdout) if one is not None}
    template = ENVIRONMENT.get_template("all.yaml")
    assert found == {at: yaml.safe_load(template.render(plan=view)) for at, view in enumerate(views)}


class TestTranslation:
    def test_notes_are_gone_and_other_comments_stay(self) -> None:
        made = emit(translate(ENVIRONMENT, "all.yaml", Top))
        assert "because" not in made.lower()
        assert "# stays" in made
        assert "limit: {{ int64 $.Values.limit }}\n" in made
        assert (
            'words:\n    {{- range $word := $.Values.optional.words }}\n    - {{ include "selfhost.q" $word }}\n'
            in made
        )
        assert made.startswith('name: {{ include "selfhost.q" $.Values.name }}\n')

    def test_braces_of_others_are_printed(self) -> None:
        assert '{{ "{{" }} not: a template }}' in emit(translate(ENVIRONMENT, "all.yaml", Top))

    def test_what_no_template_prints_is_no_value(self) -> None:
        used = trace({"all.yaml": translate(ENVIRONMENT, "all.yaml", Top)}, prose={})
        assert ("unused",) not in used
        assert ("countBecause",) not in used
        assert ("both",) in used

    @pytest.mark.parametrize(
        ("template", "fault"),
        [
            ("{{ plan.nothing | q }}\n", "no nothing"),
            ("a: {{ plan.name }}\n", "without a filter"),
            ("a: {{ plan.on | q }}\n", "filter q"),
            ("a: {{ plan.part | q }}\n", "no single value"),
            ("a: {{ plan.name | note }}\n", "outside of a comment"),
            ("{% for x in plan.name %}\n- {{ x }}\n{% endfor %}\n", "is no list"),
            ("a: {% if plan.on %}x{% endif %}\n", "in the middle of a line"),
            ("{% for p in plan.part.labels %}\n- {{ p.name | q }}\n{% endfor %}\n", "a pair has no name"),
            ("{% set x = 1 %}\n", "Assign"),
            ("a: {{ other.name | q }}\n", "no other"),
        ],
    )  # fmt: skip
    def test_faults_are_named_with_their_template(self, template: str, fault: str) -> None:
        with pytest.raises(TranslationError, match=fault) as caught:
            translate(jinja({"x.yaml": template}), "x.yaml", Top)
        assert str(caught.value).startswith("templates/x.yaml: ") or fault == "outside of a comment"

    def test_a_part_that_was_named_keeps_its_meaning_in_a_loop_of_that_name(self) -> None:
        template = (
            "{% for part in plan.parts %}\n{% with first = part %}\n{% for part in plan.parts %}\n"
            "- {{ first.title | q }}\n- {{ part.title | q }}\n{% endfor %}\n{% endwith %}\n{% endfor %}\n"
        )
        made = emit(translate(jinja({"x.yaml": template}), "x.yaml", Top))
        assert '"selfhost.q" $part.title' in made
        assert '"selfhost.q" $part2.title' in made

    def test_and_or_not(self) -> None:
        template = "{% if plan.on and not plan.maybe or plan.count %}\na: 1\n{% endif %}\n"
        made = emit(translate(jinja({"x.yaml": template}), "x.yaml", Top))
        assert "{{- if or (and $.Values.on (not $.Values.maybe)) $.Values.count }}" in made


class TestValues:
    def test_reasons_stand_beside_their_values(self) -> None:
        used = trace({"all.yaml": translate(ENVIRONMENT, "all.yaml", Top)}, prose={})
        part = Part(
            title="yes", labels=(Pair(key="a/b", value="1e3"),), ports=(Port(name="x", because="why not"),),
            words=(Noted(value="null", because="said so"),),
        )  # fmt: skip
        top = Top(
            name="n", kind="a", count=3, on=True, limit=Number(value=5, because="five"), maybe=None, optional=None,
            part=part, parts=(), groups=(), count_because="three of them",
        )  # fmt: skip
        text = to_yaml(tree(top, used))
        assert text == (
            'name: "n"\nkind: "a"\ncount: 3 # three of them\n"on": true\nlimit: 5 # five\npart:\n  title: "yes"\n'
            '  labels:\n    "a/b": "1e3"\n  ports:\n    - name: "x" # why not\n  words:\n    - "null" # said so\n'
            "parts: []\ngroups: []\nboth: false\n"
        )

    @given(st.text(st.characters(exclude_categories=["Cs"])))
    def test_any_text_survives(self, text: str) -> None:
        used = {("title",): (), ("labels",): ()}
        part = Part(title=text, labels=(Pair(key="k", value=f"{text}\n{text}\n"),))
        made = to_yaml(tree(part, used))
        assert yaml.safe_load(made) == {"title": text, "labels": {"k": f"{text}\n{text}\n"}}


class TestTrace:
    def test_places(self) -> None:
        template = """\
kind: Thing
metadata:
  name: {{ plan.name | q }}
spec:
  list:
  - first: {{ plan.count }}
    second: [{{ plan.kind | q }}]
  - {{ plan.name | q }}
  {% for pair in plan.part.labels %}
  - {{ pair.key | q }}: {{ pair.value | q }}
  {% endfor %}
  text: |
    key: {{ plan.kind | q }}
  {% if plan.on %}
  sole:
    {% for word in plan.part.words %}
    - {{ word.value | q }}
    {% endfor %}
  {% endif %}
  always:
    {% for port in plan.part.ports %}
    - port: {{ port.name | q }}
    {% endfor %}
"""
        found = trace({"x": translate(jinja({"x": template}), "x", Top)}, prose={})
        places = {".".join(path): [(use.where, use.role) for use in uses] for path, uses in found.items()}
        assert places["name"] == [("Thing metadata.name", "value"), ("Thing spec.list[]", "value")]
        assert places["count"] == [("Thing spec.list[].first", "value")]
        assert places["kind"] == [("Thing spec.list[].second[]", "value")]
        assert places["part.labels.{key}"] == [("Thing spec.list[].*", "key")]
        assert places["on"] == [("Thing spec", "guard")]
        assert places["part.words"] == [("Thing spec.sole", "loop")]
        assert places["part.ports"] == [("Thing spec.always", "sole")]


def test_names_of_values() -> None:
    assert [camel(name) for name in ("max_surge", "a", "if_", "tls_secret_name")] == [
        "maxSurge", "a", "if", "tlsSecretName",
    ]  # fmt: skip


def test_types_that_are_no_views() -> None:
    with pytest.raises(TypeError):
        shape_of(int)


def test_every_template_of_kubernetes_is_translated() -> None:
    from selfhost.manifests.kubernetes import View

    folder = asset_dir("templates") / "kubernetes"
    for path in sorted(folder.glob("[0-9]*.j2")):
        made: Any = translate(environment(), f"kubernetes/{path.name}", View, skip=("kubernetes/_head.j2",))
        assert emit(made).count("{{- end }}") == emit(made).count("{{- if") + emit(made).count("{{- range")

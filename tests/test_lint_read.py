"""Reading anybody's YAML: places of nodes, broken and hostile files, what is skipped, and the speed of it all."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfhost.lint import Text, apply_edits, lint, mend, read_lot, rules
from selfhost.lint.command import shell_commands
from selfhost.lint.model import Word
from selfhost.lint.nodes import Map, Seq
from selfhost.lint.read import DEEPEST, MOST_ALIASED, read
from selfhost.lint.sizes import quantity
from selfhost.lint.types import Edit
from selfhost.units import GIB

CASES = Path(__file__).parent / "lint" / "cases"
POD = CASES / "SH014_wrong.yaml"


def first(text: str) -> Map:
    documents, broken = read("a.yaml", text)
    assert broken == []
    body = documents[0].body
    assert isinstance(body, Map)
    return body


def test_every_node_knows_its_place() -> None:
    body = first("a:\n  - x: 1\n    y: two\n  - z\nb: {c: 3}\n")
    assert body == {"a": [{"x": 1, "y": "two"}, "z"], "b": {"c": 3}}
    assert (body.line("a"), body.line("b"), body.line("nothing")) == (1, 5, 1)
    items = body.seq("a")
    assert [items.line(index) for index in range(2)] == [2, 4]
    inner = items[0]
    assert isinstance(inner, Map)
    assert inner.keys_at["y"][:2] == (3, 4)
    assert inner.values_at["y"] == (3, 7, 3, 10)
    assert body.map("b").flow
    assert not body.map("a")
    assert body.seq("b") == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("'1'", "1"), ("1.5", 1.5), ("1e3", 1000.0), ("0x10", 16), ("010", "010"), ("true", True),
        ("No", False), ("~", None), ("null", None), ('""', ""), ("!!str 1", "1"), ("!Ref x", "x"),
        ("2026-11-21", "2026-11-21"),
        ("1_000", "1_000"), ("v0.11", "v0.11"), (".5", 0.5), ("+1", 1), ("=", "="), ("1" * 60, "1" * 60),
    ],
)  # fmt: skip
def test_scalars_are_what_kubernetes_reads(text: str, value: object) -> None:
    assert first(f"a: {text}\n")["a"] == value


def test_anchors_and_merges() -> None:
    body = first("base: &b\n  x: 1\n  y: 2\nother:\n  <<: *b\n  y: 3\nlist: [*b, *b]\n")
    assert body["other"] == {"x": 1, "y": 3}
    assert body["list"] == [{"x": 1, "y": 2}] * 2


def test_a_key_that_stands_twice_is_told_of() -> None:
    documents, _ = read("a.yaml", "a: 1\nb: 2\na: 3\n")
    assert [(span.line, key, line) for span, key, line in documents[0].duplicates] == [(3, "a", 1)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: [1,\nc: 2\n", 3), ("a: b: c\n", 1), ("a:\n\t- b\n", 2), ("a: *nothing\n", 1), ("a: \x01\n", 1),
        ("'", 1), ("{" * 50_000, 1), ("&a [*a]\n", 1), ("%YAML 9\n---\na: 1", 1), ("- " * 500 + "a\n", 1), ("!<", 1),
    ],
)  # fmt: skip
def test_broken_text_is_one_sentence_with_its_line(text: str, line: int) -> None:
    _, broken = read("a.yaml", text)
    assert len(broken) == 1
    assert (broken[0].file, broken[0].line) == ("a.yaml", line)
    assert "\n" not in broken[0].message
    assert "Traceback" not in broken[0].message


def test_reading_goes_on_behind_a_broken_document() -> None:
    documents, broken = read("a.yaml", "a: 1\n---\nb: [\n---\nc: 3\n---\nd: {\n---\ne: 5\n")
    assert [document.body for document in documents] == [{"a": 1}, {"c": 3}, {"e": 5}]
    assert [document.line for document in documents] == [1, 5, 9]
    assert [each.line for each in broken] == [4, 8]


def test_a_laugh_is_refused_before_it_is_walked() -> None:
    lines = ["a0: &a0 [l, l, l, l, l, l, l, l, l, l]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    start = time.perf_counter()
    documents, broken = read("a.yaml", "\n".join(lines))
    assert documents == []
    assert f"{MOST_ALIASED:,}" in broken[0].message
    assert time.perf_counter() - start < 2


def test_depth_has_a_bound() -> None:
    assert read("a", "[" * (DEEPEST - 1) + "]" * (DEEPEST - 1))[1] == []
    assert "deep" in read("a", "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1))[1][0].message


def test_json_and_marks_of_byte_order() -> None:
    assert first('{\n\t"a": {\n\t\t"b": [1, null, "x\\u00e9"]\n\t}\n}') == {"a": {"b": [1, None, "xé"]}}
    assert first("\ufeffa: 1\n") == {"a": 1}
    assert first("a: 1\r\nb:\r\n  - 2\r\n") == {"a": 1, "b": [2]}


def why(name: str, text: str) -> list[str]:
    _, skipped, unread = read_lot((Text(name=name, content=text),))
    assert unread == ()
    return [each.why for each in skipped]


def test_what_is_no_object_is_named() -> None:
    assert "values" in why("values.yaml", "replicaCount: 1\nimage: {repository: vllm/vllm-openai}\n")[0]
    assert "chart" in why("Chart.yaml", "apiVersion: v2\nname: x\nversion: 0.1.0\n")[0]
    kustomization = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [a.yaml]\n"
    assert "kustomization" in why("kustomization.yaml", kustomization)[0]
    assert "kustomization" in why("kustomization.yaml", "resources: [a.yaml]\n")[0]
    assert (
        "not rendered"
        in why("t.yaml", 'a: {{ .Values.a }}\n{{- if .Values.b }}\nb: {{ include "x" . }}\n{{- end }}\n')[0]
    )
    # A template that is YAML as it stands, and rendered texts that something else fills in.
    assert "not rendered" in why("t.yaml", "kind: Pod\napiVersion: v1\ngpus: {{ .Values.gpus }}\n")[0]
    assert (
        why(
            "r.yaml",
            "kind: X\napiVersion: v1\n# {{ .Values.gpus }}\na: '--name={{.Name}} {{ $labels.pod }}'\n",
        )
        == []
    )
    assert why("empty.yaml", "# nothing\n---\n---\n") == []
    assert why("list.yaml", "- 1\n") != []
    assert why("text.yaml", "just text\n") != []


def test_lists_are_taken_apart() -> None:
    pod = POD.read_text(encoding="utf-8")
    indented = "\n".join(f"    {line}" for line in pod.splitlines())
    listed = f"apiVersion: v1\nkind: List\nitems:\n  -\n{indented}\n"
    report = lint((Text(name="a", content=listed),), select=("SH014",))
    plain = lint((Text(name="a", content=pod),), select=("SH014",))
    assert [each.where.line for each in report.findings] == [each.where.line + 4 for each in plain.findings]
    as_json = json.dumps({"apiVersion": "v1", "kind": "List", "items": [json.loads(json.dumps(first(pod)))]})
    assert len(lint((Text(name="a", content=as_json),), select=("SH014",)).findings) == 1


def test_quantities() -> None:
    assert quantity("16Gi") == 16 * GIB
    assert quantity("1.5Gi") == 3 * GIB // 2
    assert quantity(1000) == 1000
    assert quantity("2G") == 2 * 10**9
    assert [quantity(text) for text in ("", "x", "100m", None, "1e3", "-1Gi")] == [None] * 6


def test_a_shell_string_is_taken_apart() -> None:
    script = "set -e\nexport TP=2\n# a comment; not a command\nfoo 2>&1 | tee log &\n"
    script += 'exec vllm serve "$MODEL" \\\n  --tp ${TP} --len ${LEN:-4096} --json \'{"a": "$b"}\' $EXTRA > /dev/null\n'
    commands = shell_commands(Word(text=script, known=True, line=10), {"MODEL": "a/b"})
    last = commands[-1]
    assert [word.text for word in last.words] == [
        "vllm", "serve", "a/b", "--tp", "2", "--len", "4096", "--json", '{"a": "$b"}', "$EXTRA",
    ]  # fmt: skip
    assert [word.line for word in last.words][:4] == [14, 14, 14, 15]
    assert [word.known for word in last.words] == [True] * 9 + [False]
    assert last.loose == {9}


def test_edits_keep_comments_and_line_ends() -> None:
    text = "a: 1 # one\r\nb: 2\r\n"
    replaced, written = apply_edits(text, [Edit(line=1, column=3, end_line=1, end_column=4, text="7")])
    assert (replaced, written) == ("a: 7 # one\r\nb: 2\r\n", 1)
    added, _ = apply_edits("a: 1", [Edit(line=2, column=0, end_line=2, end_column=0, text="b: 2\n")])
    assert added == "a: 1\nb: 2\n"
    overlapping = [
        Edit(line=1, column=0, end_line=1, end_column=4, text="x"),
        Edit(line=1, column=3, end_line=1, end_column=4, text="y"),
    ]
    assert apply_edits("a: 1\n", overlapping) == ("x\n", 1)


def test_a_thousand_documents_are_read_and_judged_in_five_seconds() -> None:
    case = POD.read_text(encoding="utf-8")
    golden = (POD.parents[2] / "golden" / "kubernetes" / "replicas" / "50-deployment.yaml").read_text(
        encoding="utf-8"
    )
    documents = [case.replace("name: llm", f"name: llm-{number}") for number in range(500)]
    documents += [golden.replace('name: "qwen3-32b"', f'name: "q-{number}"') for number in range(500)]
    text = Text(name="all.yaml", content="\n---\n".join(documents))
    start = time.process_time()
    report = lint((text,))
    seconds = time.process_time() - start  # of this process: other work on the machine is not ours
    assert (report.objects, report.unread) == (1000, ())
    assert seconds < 5, f"{seconds:.1f} s"


WORDS = [
    "vllm/vllm-openai:latest",
    "16Gi",
    "100%",
    "$(A)",
    "sh",
    "-c",
    "vllm serve a/b --tp 2",
    "Memory",
    "--host",
]
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 100_000), st.floats(allow_nan=False), st.text(max_size=12),
    st.sampled_from(WORDS),
)  # fmt: skip
NAMES = """
    apiVersion kind metadata name namespace labels spec template containers initContainers image args command env
    value valueFrom resources limits requests nvidia.com/gpu memory volumes volumeMounts mountPath emptyDir sizeLimit
    livenessProbe startupProbe httpGet path port ports containerPort selector matchLabels replicas strategy
    rollingUpdate maxSurge triggers query groups rules expr data items leaderWorkerTemplate size workerTemplate
    lifecycle preStop exec sleep seconds securityContext runAsUser minAvailable panels
"""
KEYS = st.sampled_from(NAMES.split())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=40,
)
KIND_NAMES = """
    Deployment StatefulSet Job CronJob Pod LeaderWorkerSet InferenceService Service List PodDisruptionBudget
    ScaledObject HorizontalPodAutoscaler PrometheusRule ConfigMap PersistentVolumeClaim
"""
KINDS = st.sampled_from(KIND_NAMES.split())


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=KINDS,
    body=st.dictionaries(KEYS, VALUES, max_size=5),
    spec=VALUES,
    template=VALUES,
    pod=VALUES,
    container=VALUES,
)
def test_no_object_whatever_its_shape_ends_the_linter(
    kind: str, body: dict[str, object], spec: object, template: object, pod: object, container: object
) -> None:
    if isinstance(pod, dict):
        pod["containers"] = [
            {
                "name": "c",
                "image": "vllm/vllm-openai:v0.32.0",
                **(container if isinstance(container, dict) else {}),
            }
        ]
    if isinstance(template, dict):
        template["spec"] = pod
    if isinstance(spec, dict):
        spec["template"] = template
        spec["leaderWorkerTemplate"] = {"size": 2, "workerTemplate": template}
    whole = {**body, "apiVersion": "apps/v1", "kind": kind, "spec": spec}
    given_text = Text(name="a.yaml", content=json.dumps(whole, allow_nan=True))
    report = lint((given_text,))
    lines = given_text.content.count("\n") + 1
    for finding in report.findings:
        assert 1 <= finding.where.line <= lines
    mend((given_text,))


@settings(max_examples=150, deadline=None)
@given(text=st.one_of(st.text(max_size=200), st.text(alphabet="ab:-[]{}&*#|>'\"\n\t ?!%,<", max_size=80)))
def test_no_text_ends_the_reader(text: str) -> None:
    for each in read("a.yaml", text)[1]:
        assert each.line >= 1
        assert "\n" not in each.message


@settings(max_examples=100, deadline=None)
@given(script=st.text(alphabet="ab$\\{}()'\"`;&|<> \n#=-/~", max_size=60))
def test_no_script_ends_the_shell_reader(script: str) -> None:
    for command in shell_commands(Word(text=script, known=True, line=1), {"a": "b"}):
        assert command.words


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 2000), name=st.sampled_from(sorted(path.name for path in CASES.glob("*.yaml"))))
def test_a_file_cut_anywhere_is_read_or_refused(cut: int, name: str) -> None:
    content = (CASES / name).read_text(encoding="utf-8")[:cut]
    report = lint((Text(name=name, content=content),))
    assert report.files == 1
    assert all(finding.code in {rule.code for rule in rules()} for finding in report.findings)


def test_seq_and_map_are_total() -> None:
    assert Map().map("a").seq("b").line() == 1
    assert Seq().line(5) == 1


def test_a_plan_is_told_from_values() -> None:
    plan = Path(__file__).parent.parent / "examples" / "qwen3-32b" / "plan.json"
    _, skipped, unread = read_lot((Text(name="plan.json", content=plan.read_text(encoding="utf-8")),))
    assert unread == ()
    assert [each.why for each in skipped] == ["a plan of selfhost: lint what `selfhost render` makes of it"]

"""Every rule of `selfhost lint` finds its fault in a wrong file, keeps quiet on a right one, and mends what it can."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from selfhost.lint import Finding, Rule, Settings, Text, lint, mend, read_lot, rules
from selfhost.lint.nodes import Map

HERE = Path(__file__).parent
CASES = HERE / "lint" / "cases"
GOLDEN = HERE / "golden" / "kubernetes"
EXAMPLES = HERE.parent / "examples"
POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n"
WRONG = sorted(path.name for path in CASES.glob("SH*_wrong*.yaml"))
RIGHT = sorted(path.name for path in CASES.glob("SH*_right*.yaml"))


def text(name: str) -> Text:
    return Text(name=name, content=(CASES / name).read_text(encoding="utf-8"))


def found(content: str, *codes: str, settings: Settings | None = None) -> list[Finding]:
    report = lint((Text(name="a.yaml", content=content),), settings, select=codes)
    assert report.unread == ()
    return list(report.findings)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.code)
def test_every_rule_has_a_wrong_and_a_right_file_and_says_what_it_rests_on(rule: Rule) -> None:
    assert f"{rule.code}_wrong.yaml" in WRONG
    assert f"{rule.code}_right.yaml" in RIGHT
    assert rule.sources
    assert all(source.strip() for source in rule.sources)
    assert rule.reason.endswith(".")
    assert rule.fix.endswith(".")
    assert not rule.title.endswith(".")


def test_every_case_belongs_to_a_rule() -> None:
    codes = {rule.code for rule in rules()}
    strays = [path.name for path in CASES.iterdir() if path.name.partition("_")[0] not in codes]
    assert strays == []


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_found(name: str) -> None:
    code = name[:5]
    given = text(name)
    report = lint((given,), select=(code,))
    assert report.unread == ()
    assert report.findings, f"{code} finds nothing in {name}"
    lines = given.content.split("\n")
    for finding in report.findings:
        assert finding.code == code
        assert 1 <= finding.where.line <= len(lines)
        assert lines[finding.where.line - 1].strip(), "a finding points at an empty line"
        assert not finding.message.endswith(".")


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_file_is_quiet(name: str) -> None:
    report = lint((text(name),), select=(name[:5],))
    assert report.unread == ()
    assert [finding.message for finding in report.findings] == []


@pytest.mark.parametrize("rule", [rule for rule in rules() if rule.fixable], ids=lambda rule: rule.code)
def test_what_is_fixable_is_mended_and_nothing_else_changes(rule: Rule) -> None:
    mended_one = False
    for name in (name for name in WRONG if name.startswith(rule.code)):
        given = text(name)
        before = lint((given,), select=(rule.code,))
        mended = mend((given,), select=(rule.code,))
        can = [finding for finding in before.findings if finding.edits]
        assert len(mended.report.findings) <= len(before.findings) - len(can)
        mended_one |= bool(can)
        kept = [line for line in given.content.split("\n") if line in mended.texts[0].content]
        assert len(kept) >= given.content.count("\n") - 3
    assert mended_one, f"{rule.code} mends none of its wrong files"


def test_rules_that_do_not_say_so_make_no_edits() -> None:
    for rule in rules():
        for name in (name for name in WRONG if name.startswith(rule.code)):
            edits = [finding.edits for finding in lint((text(name),), select=(rule.code,)).findings]
            assert rule.fixable or not any(edits), rule.code


@cache
def own_renders() -> tuple[Path, ...]:
    folders = {path.parent for path in (*GOLDEN.rglob("*.yaml"), *EXAMPLES.rglob("rendered/*.yaml"))}
    return tuple(sorted(folders))


@pytest.mark.parametrize("folder", own_renders(), ids=lambda path: "/".join(path.parts[-2:]))
def test_nothing_is_found_in_what_selfhost_renders(folder: Path) -> None:
    texts = [
        Text(name=path.name, content=path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.yaml"))
    ]
    report = lint(texts)
    told = [f"{each.where.file}:{each.where.line} {each.code} {each.message}" for each in report.findings]
    assert told == []
    assert report.unread == ()


def test_a_secret_is_never_repeated() -> None:
    for name in (name for name in WRONG if name.startswith(("SH008", "SH040"))):
        report = lint((text(name),))
        said = " ".join(f"{each.message} {each.fix} {each.where}" for each in report.findings)
        for secret in ("hf_", "sk-", "letmein", "insert-your"):
            assert secret not in said


def test_files_are_judged_together() -> None:
    pods = text("SH036_right_name.yaml")
    service = (
        "apiVersion: v1\nkind: Service\nmetadata: {name: vllm, namespace: llm}\nspec: {ports: [{port: 80}]}\n"
    )
    report = lint((pods, Text(name="svc.yaml", content=service)), select=("SH036",))
    assert [finding.where.file for finding in report.findings] == [pods.name]


def test_folders_with_the_same_object_are_judged_apart() -> None:
    pods, service = text("SH036_right.yaml").content.split("---\n")
    pods = pods.replace("      enableServiceLinks: false\n", "")
    apart = lint(
        Text(name=name, content=content)
        for name, content in (("a/pod.yaml", pods), ("b/pod.yaml", pods), ("b/service.yaml", service))
    )
    assert [each.where.file for each in apart.findings if each.code == "SH036"] == ["b/pod.yaml"]


def test_spare_gpus_and_the_engine_can_be_said() -> None:
    double = text("SH035_wrong_double.yaml")
    assert lint((double,), Settings(spare_gpus=1), select=("SH035",)).findings
    assert not lint((double,), Settings(spare_gpus=2), select=("SH035",)).findings
    content = text("SH014_wrong.yaml").content.replace(
        "vllm/vllm-openai:v0.32.0", "registry.corp/llm/server:7"
    )
    assert found(content, "SH014") == []
    assert len(found(content, "SH014", settings=Settings(engine="vllm", version="0.32.0"))) == 1


def test_a_comment_silences_a_line_a_block_or_a_document() -> None:
    content = text("SH014_wrong.yaml").content
    behind = content.replace('"1"}', '"1"} # selfhost: ignore SH014 a shared GPU')
    above = content.replace(
        "          resources:", "          # selfhost: ignore SH014, SH010 a shared GPU\n          resources:"
    )
    top = f"# selfhost: ignore SH014 a test\n{content}"
    for silenced in (behind, above, top):
        assert silenced != content
        report = lint((Text(name="a.yaml", content=silenced),), select=("SH014",))
        assert (report.findings, report.silenced) == ((), 1)
    other = content.replace('"1"}', '"1"} # selfhost: ignore SH010 no reason')
    assert len(found(other, "SH014")) == 1
    below = f"{top}---\n{content}"
    assert len(found(below, "SH014")) == 1


def test_engines_are_told_from_what_else_runs_in_their_images() -> None:
    def engine(container: str) -> str | None:
        pod = f"{POD}    - {{name: c, {container}}}\n"
        lot, _, _ = read_lot((Text(name="a", content=pod),))
        held = lot.pods[0].containers[0].engine
        return None if held is None else f"{held.name} {held.version} {held.model}"

    vllm = "image: vllm/vllm-openai:v0.11.2-cu129"
    assert engine(f"{vllm}, args: [--model, a/b]") == "vllm 0.11.2 a/b"
    assert (
        engine(f"{vllm}, command: [python3, -m, vllm.entrypoints.openai.api_server, --model=a/b]")
        == "vllm 0.11.2 a/b"
    )
    assert engine(f"{vllm}, command: [sleep, infinity]") is None
    assert engine(f"{vllm}, command: [vllm, bench, serve]") is None
    assert engine(f"{vllm}, command: [hf, download, a/b]") is None
    assert (
        engine(f'{vllm}, command: [bash, -c, "numactl -N 0 vllm serve a/b && sleep 1"]') == "vllm 0.11.2 a/b"
    )
    assert engine("image: redis:7, args: [--model, a/b]") is None
    assert engine("image: lmcache/lmstack-router:latest, args: [--port, '8000']") is None
    assert engine("image: corp/any:1, command: [vllm, serve, a/b]") == "vllm None a/b"
    assert (
        engine("image: 'lmsysorg/sglang:v0.5.9', command: [sglang, serve, --model-path, a/b]")
        == "sglang 0.5.9 a/b"
    )
    assert engine("image: ollama/ollama:0.12.0") == "ollama 0.12.0 None"
    assert (
        engine("image: ghcr.io/ggml-org/llama.cpp:server-cuda-b6000, args: [-hf, a/b]") == "llamacpp None a/b"
    )


def test_an_unquoted_unknown_variable_leaves_the_command_line_open() -> None:
    script = f"{POD}    - name: c\n      image: lmsysorg/sglang:v0.5.9\n"
    script += '      command: [bash, -c, "python3 -m sglang.launch_server --model-path a/b $EXTRA"]\n'
    assert found(script, "SH030") == []
    assert len(found(script.replace(" $EXTRA", ""), "SH030")) == 1


def test_documents_hold_mappings_that_know_their_lines() -> None:
    lot, _, _ = read_lot((text("SH014_wrong.yaml"),))
    body = lot.objects[0].body
    assert isinstance(body.at("spec", "template"), Map)
    assert body.at("spec", "template", "spec").seq("nothing") == []
    assert body.line("spec") == 4


def test_a_compose_file_has_the_faults_of_its_engines_alone() -> None:
    content = (
        "services:\n"
        "  db:\n    image: postgres:latest\n    environment: {POSTGRES_PASSWORD: correct-horse}\n"
        "  llm:\n    image: vllm/vllm-openai:v0.32.0\n"
        "    command: --model Qwen/Qwen3-8B --tensor-parallel-size 2 --host 127.0.0.1\n"
        "    shm_size: 16gb\n    gpus: all\n"
    )
    given = Text(name="compose.yaml", content=content)
    assert {each.code for each in lint((given,)).findings} == {"SH030", "SH039"}
    assert [each.where.line for each in lint((given,), select=("SH030",)).findings] == [7]
    report = mend((given,))
    assert report.texts[0].content == content


def test_a_key_in_the_arguments_is_told_of_once_and_a_placeholder_is_no_key() -> None:
    words = (
        "      args:\n        - Qwen/Qwen3-8B\n        - --api-key\n        - sk-Zk3mN8qR5tW2xY7vB4cD9fG6hJ\n"
    )
    content = POD + "    - name: e\n      image: vllm/vllm-openai:v0.32.0\n" + words
    assert [each.severity for each in found(content, "SH008")] == ["error"]
    waiting = content.replace("sk-Zk3mN8qR5tW2xY7vB4cD9fG6hJ", "nvapi-NVKEY")
    assert [each.severity for each in found(waiting, "SH008")] == ["warning"]


@pytest.mark.parametrize(
    ("option", "said"),
    [("--swap-space=4", "take it out: the V1 engine"), ("--rope-theta=1", "write --hf-overrides instead")],
)
def test_an_option_that_is_gone_says_what_to_write(option: str, said: str) -> None:
    image = f"    - {{name: e, image: 'vllm/vllm-openai:v0.32.0', args: [Qwen/Qwen3-8B, {option}]}}\n"
    (gone,) = found(POD + image, "SH101")
    assert gone.fix.startswith(said)

"""The licence gate: what is declared and what it is for become a verdict, and what is not permitted is refused."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from selfhost import strict
from selfhost.errors import LicenceError, PlanFormatError
from selfhost.licence import (
    USES,
    Declared,
    Use,
    Verdict,
    accept_id,
    brief,
    judge,
    openness_sentence,
    require,
    sentence,
    strictness,
)
from selfhost.manifests import render
from selfhost.manifests.licence import licence_annotations
from tests.conftest import Cli
from tests.plans import plan

APACHE = Declared(licence="apache-2.0")
LLAMA = Declared(licence="llama3.3")
NON_COMMERCIAL = Declared(licence="cc-by-nc-4.0")
RESEARCH = Declared(licence="other", name="qwen-research")
NOTHING = Declared()


def refusal(declared: Declared, use: Use, *accepted: str, base: Declared | None = None) -> LicenceError:
    with pytest.raises(LicenceError) as caught:
        require(judge(declared, use=use, accepted=accepted, base=base))
    return caught.value


class TestFinding:
    """From id, name and link to a row of the catalogue."""

    @pytest.mark.parametrize(
        ("declared", "repo", "licence"),
        [
            (APACHE, None, "apache-2.0"),
            (Declared(licence="Apache-2.0"), None, "apache-2.0"),
            (Declared(licence="other", name="Tongyi-Qianwen"), None, "qwen"),
            (Declared(licence="other", name="tongyi qianwen"), None, "qwen"),
            (Declared(licence="other", name="deepseek_license"), None, "deepseek"),
            (Declared(name="exaone"), None, "exaone"),
            (
                Declared(licence="other", link="https://mistral.ai/licenses/MNPL-0.1.md"),
                "mistralai/Codestral-22B-v0.1",
                "mnpl",
            ),
            (
                # Its license_name is literally `other`.
                Declared(
                    licence="other",
                    name="other",
                    link="https://huggingface.co/MiniMaxAI/MiniMax-M2.7/blob/main/LICENSE",
                ),
                "MiniMaxAI/MiniMax-M2.7",
                "minimax-nc",
            ),
            (Declared(licence="other", name="modified-mit"), "moonshotai/Kimi-K2.5", "kimi-modified-mit"),
            (
                Declared(licence="other", name="modified-mit"),
                "MiniMaxAI/MiniMax-M2.1",
                "minimax-modified-mit",
            ),
            (
                Declared(
                    licence="other",
                    name="modified-mit",
                    link="https://huggingface.co/moonshotai/Kimi-K2-Base/blob/main/LICENSE",
                ),
                "somebody/kimi-tune",
                "kimi-modified-mit",
            ),
            (Declared(licence="other", name="proprietary"), None, "proprietary"),
        ],
    )
    def test_found(self, declared: Declared, repo: str | None, licence: str) -> None:
        assert judge(declared, repo=repo).licence == licence

    @pytest.mark.parametrize(
        ("declared", "licence"),
        [
            (NOTHING, None),
            (Declared(licence="unknown"), "unknown"),
            (Declared(licence="other"), "other"),
            (Declared(licence="other", link="LICENSE"), "other"),
            (Declared(licence="other", name="acme-1.0"), "acme-1.0"),
            (Declared(licence="other", name="modified-mit"), "modified-mit"),
            (Declared(licence="h-research"), "h-research"),
        ],
    )
    def test_unknown(self, declared: Declared, licence: str | None) -> None:
        for use in (None, *USES):
            verdict = judge(declared, use=use)
            assert verdict.licence == licence
            assert verdict.permission == "unknown"
            assert verdict.verification == "none"
            assert verdict.checked is None
            assert "unknown: read it" in sentence(verdict)
            assert "unknown: read it" in brief(verdict)

    def test_where_they_differ_the_strictest_counts(self) -> None:
        """`license: apache-2.0` beside a link to a research licence."""
        verdict = judge(Declared(licence="apache-2.0", link="https://mistral.ai/licenses/MRL-0.1.md"))
        assert (verdict.licence, verdict.permission) == ("mrl", "no")
        assert any("license_link" in note for note in verdict.notes)
        verdict = judge(Declared(licence="apache-2.0", name="qwen-research"))
        assert (verdict.licence, verdict.permission) == ("qwen-research", "no")
        assert any("differ" in note for note in verdict.notes)

    @given(
        licence=st.none() | st.text(max_size=200),
        name=st.none() | st.text(max_size=200),
        link=st.none() | st.text(max_size=400),
        base=st.none() | st.text(max_size=80),
    )
    def test_whatever_strangers_declare_is_never_permitted_and_one_line(
        self, licence: str | None, name: str | None, link: str | None, base: str | None
    ) -> None:
        declared = Declared(licence=licence, name=name, link=link)
        verdict = judge(declared, use="commercial", base=None if base is None else Declared(licence=base))
        assert verdict.permission == "unknown" or verdict.checked is not None
        for text in (sentence(verdict), brief(verdict), accept_id(verdict), verdict.source, verdict.name):
            assert text.isprintable()
            assert len(text) < 1000


class TestUses:
    @pytest.mark.parametrize(
        ("declared", "permissions"),
        [
            (APACHE, ("yes", "yes", "yes")),
            (LLAMA, ("conditional", "conditional", "conditional")),
            (NON_COMMERCIAL, ("no", "no", "yes")),
            (RESEARCH, ("no", "no", "yes")),
            (Declared(licence="other", name="mnpl"), ("no", "no", "yes")),
            (Declared(licence="other", name="kimi-k3"), ("conditional", "yes", "conditional")),
            (Declared(licence="other", name="qwen3.8-max"), ("conditional", "yes", "conditional")),
            (Declared(licence="agpl-3.0"), ("conditional", "conditional", "conditional")),
            (Declared(licence="gpl-3.0"), ("conditional", "yes", "yes")),
            (NOTHING, ("unknown", "unknown", "unknown")),
        ],
    )
    def test_permission(self, declared: Declared, permissions: tuple[str, ...]) -> None:
        assert tuple(judge(declared, use=use).permission for use in USES) == permissions
        assert judge(declared).permission == permissions[0], "without a use the commercial one is judged"

    def test_acceptable_use_binds_researchers_too(self) -> None:
        assert judge(NON_COMMERCIAL, use="research", repo="CohereLabs/aya-101").permission == "conditional"


class TestRequire:
    def test_nothing_is_refused_where_no_use_is_named(self) -> None:
        for declared in (APACHE, LLAMA, NON_COMMERCIAL, NOTHING):
            verdict = judge(declared)
            require(verdict)
            assert verdict.use is None

    @pytest.mark.parametrize("use", ["commercial", "internal"])
    def test_a_prohibition_is_refused_and_no_acceptance_lifts_it(self, use: Use) -> None:
        for accepted in ((), ("cc-by-nc-4.0",)):
            error = refusal(NON_COMMERCIAL, use, *accepted)
            assert f"does not permit {use} use" in error.message
            assert "choose another model" in (error.hint or "")
            assert "--accept" not in (error.hint or "")
        require(judge(NON_COMMERCIAL, use="research"))

    def test_conditions_are_listed_until_they_are_accepted(self) -> None:
        error = refusal(LLAMA, "commercial")
        assert "700 million monthly active users" in error.message
        assert "Built with Llama" in error.message
        assert "utputs" in error.message
        assert "--accept-licence llama3.3" in (error.hint or "")
        assert "https://" in (error.hint or "")
        for spelling in ("llama3.3", "LLAMA3.3", " llama3.3 "):
            verdict = judge(LLAMA, use="commercial", accepted=(spelling,))
            assert verdict.accepted
            require(verdict)
            assert "conditional, accepted" in sentence(verdict)

    @pytest.mark.parametrize("use", USES)
    def test_unknown_is_refused_for_every_use_until_it_is_accepted(self, use: Use) -> None:
        error = refusal(NOTHING, use)
        assert "unknown: read it" in error.message
        assert "--accept-licence unknown" in (error.hint or "")
        require(judge(NOTHING, use=use, accepted=("unknown",)))
        acme = Declared(licence="other", name="Acme 1.0", link="https://acme.example/terms")
        error = refusal(acme, use)
        assert "https://acme.example/terms" in (error.hint or "")
        assert "--accept-licence acme-1.0" in (error.hint or "")
        for accepted in ("acme-1.0", "Acme 1.0", "unknown"):
            require(judge(acme, use=use, accepted=(accepted,)))

    @pytest.mark.parametrize(
        ("declared", "accepted"),
        [
            (LLAMA, "llama3.1"),
            (LLAMA, "unknown"),
            (APACHE, "llama3.3"),
            (NOTHING, "apache-2.0"),
            (NON_COMMERCIAL, "x"),
        ],
    )
    def test_accepting_another_licence_is_an_error_that_names_the_own(
        self, declared: Declared, accepted: str
    ) -> None:
        for use in (None, *USES):
            with pytest.raises(LicenceError) as caught:
                judge(declared, use=use, accepted=(accepted,), repo="org/model")
            assert declared.licence is None or declared.licence in caught.value.message
            assert accepted in caught.value.message
            assert "org/model" in caught.value.message

    def test_a_list_of_accepted_licences_may_name_others_too(self) -> None:
        verdict = judge(LLAMA, use="commercial", accepted=("gemma", "llama3.3"))
        require(verdict)
        assert verdict.accepted

    def test_what_was_read_while_it_was_unknown_may_turn_out_to_ask_for_nothing(self) -> None:
        verdict = judge(APACHE, use="commercial", accepted=("unknown",))
        require(verdict)
        assert verdict.permission == "yes"

    def test_a_contract_lifts_what_is_proprietary(self) -> None:
        own = Declared(licence="other", name="proprietary")
        assert judge(own).openness == "closed"
        refusal(own, "commercial")
        require(judge(own, use="commercial", accepted=("proprietary",)))

    def test_a_name_that_no_shell_should_see_is_not_offered(self) -> None:
        error = refusal(Declared(licence="other", name="$(rm -rf ~)"), "commercial")
        assert (error.hint or "").endswith("--accept-licence unknown")


class TestBase:
    """A fine-tune is bound by what it was made from."""

    TUNE = Declared(licence="apache-2.0", base_models=("meta-llama/Llama-3.3-70B-Instruct",))

    def test_a_stricter_base_counts(self) -> None:
        verdict = judge(self.TUNE, use="commercial", base=LLAMA)
        assert (verdict.licence, verdict.permission) == ("llama3.3", "conditional")
        assert "Built with Llama" in " ".join(verdict.obligations)
        assert "Keep the licence and its notices" in " ".join(verdict.obligations)
        assert any("stricter" in note and "meta-llama/Llama-3.3" in note for note in verdict.notes)
        assert "--accept-licence llama3.3" in (refusal(self.TUNE, "commercial", base=LLAMA).hint or "")

    def test_a_base_that_forbids_forbids(self) -> None:
        for own in (APACHE, NOTHING, Declared(licence="other", name="acme")):
            assert judge(own, use="internal", base=RESEARCH).permission == "no"

    def test_without_a_declaration_the_base_s_is_inherited(self) -> None:
        verdict = judge(Declared(base_models=("Qwen/Qwen3-32B",)), base=APACHE)
        assert (verdict.licence, verdict.permission) == ("apache-2.0", "yes")
        assert verdict.notes == ("Inherited from Qwen/Qwen3-32B.",)
        named = judge(NOTHING, base=APACHE, base_repo="org/base")
        assert named.notes == ("Inherited from org/base.",)

    def test_a_freer_base_frees_nobody(self) -> None:
        assert judge(RESEARCH, use="commercial", base=APACHE).permission == "no"
        assert (
            judge(Declared(licence="other", name="acme"), use="commercial", base=APACHE).permission
            == "unknown"
        )

    def test_conditions_add_up(self) -> None:
        verdict = judge(Declared(licence="gemma"), base=LLAMA)
        assert verdict.licence == "gemma"
        assert any("Google" in one for one in verdict.obligations)
        assert any("700 million" in one for one in verdict.obligations)
        assert any("apply too" in note for note in verdict.notes)

    def test_an_unknown_base_is_told(self) -> None:
        verdict = judge(self.TUNE, base=NOTHING)
        assert verdict.permission == "yes"
        assert "not known" in " ".join(verdict.notes)

    def test_strictness_orders(self) -> None:
        order = [APACHE, LLAMA, NOTHING, RESEARCH]
        assert [strictness(one, use="commercial", repo=None) for one in order] == [0, 1, 2, 3]


class TestAccess:
    def test_the_european_union(self) -> None:
        verdict = judge(Declared(licence="apache-2.0", eu_excluded=True), use="commercial")
        assert verdict.permission == "conditional"
        assert "not in EU" in verdict.terms
        require(
            judge(
                Declared(licence="apache-2.0", eu_excluded=True), use="commercial", accepted=("apache-2.0",)
            )
        )
        assert judge(Declared(licence="mrl", name="mrl", eu_excluded=True)).permission == "no"

    @pytest.mark.parametrize(
        ("gate", "word"), [("manual", "approve"), ("auto", "accepted on"), ("none", None)]
    )
    def test_a_gate_is_an_obligation(self, gate: str, word: str | None) -> None:
        verdict = judge(Declared(licence="mit", gate=gate), use="commercial")  # type: ignore[arg-type]
        assert verdict.gate == gate
        assert verdict.permission == "yes"
        assert any(word in one for one in verdict.obligations) if word else len(verdict.obligations) == 1


class TestWords:
    def test_a_line_for_people(self) -> None:
        text = sentence(judge(LLAMA))
        assert text.startswith(
            "llama3.3, conditional: more than 700 million monthly active users need a licence"
        )
        assert 'display "Built with Llama"' in text
        assert text.endswith("and 2 more")
        assert (
            brief(judge(LLAMA))
            == "llama3.3, conditional: attribution, 700 M users, acceptable use, output use"
        )
        assert brief(judge(APACHE, use="internal")) == "apache-2.0, permits internal use"
        assert brief(judge(RESEARCH)) == "qwen-research, non-commercial"
        assert brief(judge(RESEARCH, use="internal")) == "qwen-research, does not permit internal use"
        assert brief(judge(NOTHING)) == sentence(judge(NOTHING)) == "unknown: read it"
        assert sentence(judge(LLAMA), most=99).count(";") == 3

    def test_what_nobody_read_says_so(self) -> None:
        for words in (sentence, brief):
            assert "not checked" in words(judge(Declared(licence="other", name="jamba-open-model-license")))
            assert "not checked" not in words(judge(LLAMA))

    @pytest.mark.parametrize(
        ("declared", "repo", "openness", "word"),
        [
            (APACHE, "allenai/OLMo-2-0325-32B-Instruct", "open-source", "Open source"),
            (APACHE, "EleutherAI/pythia-160m", "open-source", "data and code"),
            (APACHE, "HuggingFaceTB/SmolLM3-3B", "open-source", "recipe"),
            (APACHE, "Qwen/Qwen3-32B", "open-weight", "not known"),
            (APACHE, None, "open-weight", "not known"),
            (LLAMA, None, "open-weight", "terms of their own"),
            (NOTHING, "allenai/OLMo-2-0325-32B-Instruct", "unknown", "unknown"),
            (Declared(licence="other", name="proprietary"), None, "closed", "contract"),
        ],
    )
    def test_openness(self, declared: Declared, repo: str | None, openness: str, word: str) -> None:
        verdict = judge(declared, repo=repo)
        assert verdict.openness == openness
        assert word in openness_sentence(verdict)
        assert openness_sentence(verdict).endswith(".")

    def test_a_verdict_goes_through_json_and_older_ones_are_read(self) -> None:
        def refuse(text: str) -> PlanFormatError:
            return PlanFormatError(text)

        verdict = judge(
            LLAMA, use="commercial", accepted=("llama3.3",), repo="meta-llama/Llama-3.3-70B-Instruct"
        )
        data = json.loads(json.dumps(strict.encode(verdict)))
        assert strict.decode(Verdict, data, "licence", refuse) == verdict
        for later in ("terms", "verification", "openness_because", "notes"):
            del data[later]
        older = strict.decode(Verdict, data, "licence", refuse)
        assert isinstance(older, Verdict)
        assert openness_sentence(older).startswith("Open weight")


class TestPlan:
    MODEL = (
        "plan",
        "meta-llama/Llama-3.3-70B-Instruct",
        "--context",
        "8k",
        "--concurrency",
        "4",
        "--gpu",
        "h200-sxm",
    )

    def test_the_verdict_is_shown_and_nothing_refused_without_a_use(self, cli: Cli) -> None:
        ran = cli(*self.MODEL)
        assert ran.code == 0
        assert "Licence: llama3.3, conditional: attribution, 700 M users" in ran.out
        assert "open-weight" in ran.out

    @pytest.mark.parametrize("option", ["--use", "--licence-use"])
    def test_a_use_is_refused_until_its_terms_are_accepted(self, cli: Cli, option: str) -> None:
        ran = cli(*self.MODEL, option, "commercial")
        assert ran.code == 1
        assert ran.out == ""
        assert "under conditions" in ran.err
        assert "--accept-licence llama3.3" in ran.err
        ran = cli(*self.MODEL, option, "commercial", "--accept-licence", "llama3.3")
        assert ran.code == 0
        assert "conditional, accepted" in ran.out
        assert "--use commercial --accept-licence llama3.3" in ran.out, "the next step repeats the decision"

    def test_the_errors_kind_for_programs(self, cli: Cli) -> None:
        ran = cli(*self.MODEL, "--use", "commercial", "--json")
        assert json.loads(ran.err)["error"]["kind"] == "LicenceError"

    def test_a_wrong_acceptance_and_a_wrong_use(self, cli: Cli) -> None:
        ran = cli(*self.MODEL, "--accept-licence", "llama3.1")
        assert ran.code == 1
        assert "is llama3.3, not llama3.1" in ran.err
        assert cli(*self.MODEL, "--use", "fun").code == 2

    def test_the_verdict_travels_into_the_plan(self, cli: Cli, tmp_path: Path) -> None:
        path = tmp_path / "plan.json"
        words = ("--use", "internal", "--accept-licence", "llama3.3")
        ran = cli(*self.MODEL, *words, "-o", path, "--json")
        written = json.loads(path.read_text(encoding="utf-8"))
        assert written["licence"] == ran.json()["licence"] == ran.json()["plan"]["licence"]
        assert (written["licence"]["use"], written["licence"]["accepted"]) == ("internal", True)
        rendered = cli("render", path, "-o", tmp_path / "out")
        assert rendered.code == 0, rendered.err

    def test_unknown_is_said(self, cli: Cli) -> None:
        ran = cli(
            "plan",
            "deepseek-ai/DeepSeek-V4-Flash",
            "--context",
            "8k",
            "--concurrency",
            "4",
            "--gpu",
            "h200-sxm",
        )
        assert "Licence: unknown: read it." in ran.out


class TestAnnotations:
    """The verdict on the Deployment and on the Job that fetches the weights."""

    @pytest.mark.parametrize(
        ("verdict", "expected"),
        [
            (
                judge(LLAMA, use="commercial", accepted=("llama3.3",)),
                {
                    "selfhost/licence": "llama3.3",
                    "selfhost/licence-permission": "conditional",
                    "selfhost/licence-use": "commercial",
                    "selfhost/licence-accepted": "true",
                    "selfhost/licence-obligations": "attribution, 700 M users, acceptable use, output use",
                    "selfhost/openness": "open-weight",
                },
            ),
            (
                judge(NOTHING),
                {
                    "selfhost/licence": "unknown",
                    "selfhost/licence-permission": "unknown",
                    "selfhost/licence-use": "unspecified",
                    "selfhost/licence-accepted": "false",
                    "selfhost/licence-obligations": "read it",
                    "selfhost/openness": "unknown",
                },
            ),
            (
                judge(APACHE, use="internal", repo="allenai/OLMo-2-0325-32B-Instruct"),
                {
                    "selfhost/licence": "apache-2.0",
                    "selfhost/licence-permission": "yes",
                    "selfhost/licence-use": "internal",
                    "selfhost/licence-accepted": "false",
                    "selfhost/licence-obligations": "none",
                    "selfhost/openness": "open-source",
                },
            ),
            (None, {}),
        ],
    )
    def test_on_deployment_and_job(self, verdict: Verdict | None, expected: dict[str, str]) -> None:
        found = 0
        for document in render(plan(licence=verdict)).documents:
            for item in yaml.safe_load_all(document.text) if document.name.endswith(".yaml") else ():
                if isinstance(item, dict) and item.get("kind") in ("Deployment", "Job"):
                    annotations = item["metadata"]["annotations"]
                    words = ("selfhost/licence", "selfhost/openness")
                    assert {k: v for k, v in annotations.items() if k.startswith(words)} == expected
                    found += 1
        assert found == 2

    @pytest.mark.parametrize("said", ["a'\"\\$(X){{7*7}}", "x" * 300, "ü" * 50, "a: b # c"])
    def test_whatever_is_declared_values_are_short_and_plain(self, said: str) -> None:
        declared = Declared(licence="other", name=said)
        for key, value in licence_annotations(plan(licence=judge(declared))):
            assert key.startswith("selfhost/")
            assert len(value) <= 240
            assert re.fullmatch(r"[A-Za-z0-9 ._+,:;()/@-]*", value)


def test_sizing_and_help_load_nothing_of_it() -> None:
    for words in (("size", "Qwen/Qwen3-32B", "--gpu", "h200-sxm-141gb"), ("--help",)):
        ran = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "selfhost", *words],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        assert "selfhost.cli" in ran.stderr
        assert "licence" not in ran.stderr
        assert "openness" not in ran.stderr


class TestCommand:
    def test_the_list(self, cli: Cli) -> None:
        ran = cli("licences")
        assert ran.code == 0
        assert "Not legal advice" in ran.out
        assert "llama3.3" in ran.out
        assert len(ran.out.splitlines()) > 60

    def test_words_choose(self, cli: Cli) -> None:
        found = {one["id"] for one in cli("licences", "alibaba", "conditional", "--json").json()["licences"]}
        assert found == {"qwen", "qwen-community-1.0", "qwen3.8-max"}

    @pytest.mark.parametrize("name", ["llama3.3", "LLAMA3.3"])
    def test_one_in_detail(self, cli: Cli, name: str) -> None:
        ran = cli("licences", name)
        assert "700,000,000" in ran.out
        assert "- More than 700 million monthly active users need a licence from Meta." in ran.out
        assert "how sure" in ran.out
        assert "--accept-licence llama3.3" in ran.out

    def test_how_sure_is_said_of_what_nobody_read(self, cli: Cli) -> None:
        assert "its text was not read" in " ".join(cli("licences", "jamba-open").out.split())

    def test_none(self, cli: Cli) -> None:
        ran = cli("licences", "no-such-licence")
        assert (ran.code, ran.out) == (1, "")
        assert "no-such-licence" in ran.err

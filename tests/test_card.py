"""What cards, GGUF headers and lock files declare, and which base model's licence binds a model."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfhost import strict
from selfhost.errors import LicenceError, MalformedAnswerError
from selfhost.hub import load_model
from selfhost.hub.bases import ask_bundled, base_of, declared_of, read_licence
from selfhost.hub.card import declared_by, declared_by_card, declared_by_gguf, declared_by_lock, licence_id
from selfhost.hub.licence_text import clauses
from selfhost.hub.lineage import DEPTH, MOST, binding_base
from selfhost.licence import Declared, judge, require
from tests.conftest import Cli
from tests.fakes.hub import FakeHub, Repo, safetensors, serve

CONFIG = {"architectures": ["LlamaForCausalLM"], "hidden_size": 8, "num_hidden_layers": 1}
WEIGHTS = {"model.embed_tokens.weight": ("BF16", (16, 8), 256), "model.norm.weight": ("F32", (8,), 32)}
FRONT = b"""---
license: "other" # see below
license_name: 'Acme 1.0'
license_link: https://acme.example/terms#v1
language:
- en
- de
base_model:
  - acme/base
  - "other/base"
extra_gated_eu_disallowed: true
extra_gated_prompt: |
  license: apache-2.0
  - nothing
tags: [a, b]
---
license: mit
"""


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is reached without the machine's proxy."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class TestCard:
    def test_everything_that_is_declared(self) -> None:
        assert declared_by_card(FRONT) == Declared(
            licence="other",
            name="Acme 1.0",
            link="https://acme.example/terms#v1",
            eu_excluded=True,
            base_models=("acme/base", "other/base"),
        )

    @pytest.mark.parametrize(
        ("text", "licence"),
        [
            ("---\nlicense: Apache-2.0\n---\n", "apache-2.0"),
            ("\ufeff---\r\nlicense: mit\r\n---\r\n", "mit"),
            ("---\nlicense:\n- mit\n---", "mit"),
            ("---\nlicense: [mit]\n---", "mit"),
            ("---\nlicense: mit", "mit"),
            ("---\nlicense: mit\nlicense: apache-2.0\n---", "mit"),
            ("license: mit\n", None),
            ("# Model\n---\nlicense: mit\n---\n", None),
            ("---\n license: mit\n---\n", None),
            ("---\nlicense:mit\n---\n", None),
            ("---\nlicense: >\n  mit\n---\n", None),
            ("---\nlicense:\n---\n", None),
            ("", None),
            ("\0\0", None),
        ],
    )
    def test_front_matter(self, text: str, licence: str | None) -> None:
        assert declared_by_card(text.encode()).licence == licence

    def test_several_licences_are_not_one_of_them(self) -> None:
        declared = declared_by_card(b"---\nlicense:\n- apache-2.0\n- cc-by-nc-4.0\n---\n")
        assert declared == Declared(licence="other", name="apache-2.0 and cc-by-nc-4.0")
        assert judge(declared).permission == "unknown"

    @given(st.binary(max_size=2000))
    def test_no_card_breaks_the_reader(self, data: bytes) -> None:
        declared = declared_by_card(b"---\n" + data)
        assert declared.licence is None or declared.licence.isprintable()

    @pytest.mark.parametrize(
        "line", [b" " * 60_000 + b"x", b"a" * 60_000, b"license: " + b" " * 60_000 + b"x", b"- \n"]
    )
    def test_no_card_takes_long(self, line: bytes) -> None:
        start = time.perf_counter()
        declared_by_card(b"---\nlicense:\n" + line + b"\n" + line + b"\n" + b"- a\n" * 10_000)
        assert time.perf_counter() - start < 1


class TestHubAnswer:
    @pytest.mark.parametrize(
        ("gated", "gate"),
        [(False, "none"), ("auto", "auto"), ("manual", "manual"), (None, "unknown"), (7, "unknown")],
    )
    def test_gates(self, gated: object, gate: str) -> None:
        assert declared_by({"cardData": {"license": "mit"}, "gated": gated}).gate == gate

    @pytest.mark.parametrize(
        "card", [None, [], "mit", {"license": 7}, {"license": {"a": 1}}, {"license": []}]
    )
    def test_absurd_cards_declare_nothing(self, card: object) -> None:
        assert declared_by({"cardData": card}).licence in (None, "other")

    def test_base_models_are_repositories(self) -> None:
        bases = ["a/b", "../../etc/passwd", "https://evil.example", "c/d/e", 7, "x" * 1000, "plain"]
        assert declared_by({"cardData": {"base_model": bases}}).base_models == ("a/b", "plain")
        assert len(declared_by({"cardData": {"base_model": ["a/b"] * 1000}}).base_models) == 16

    def test_in_one_word(self) -> None:
        assert licence_id(Declared(licence="other", name="Acme-1.0")) == "acme-1.0"
        assert licence_id(Declared(licence="other")) == "other"
        assert licence_id(Declared(licence="mit\nmit")) is None
        assert licence_id(Declared()) is None


class TestGguf:
    def test_general_fields(self) -> None:
        declared = declared_by_gguf(
            {
                "general.license": "other",
                "general.license.name": "llama3.3",
                "general.license.link": "https://acme.example",
                "general.base_model.count": 2,
                "general.base_model.0.repo_url": "https://huggingface.co/meta-llama/Llama-3.3-70B-Instruct",
                "general.base_model.1.repo_url": "https://evil.example/a/b",
            }
        )
        assert judge(declared).licence == "llama3.3"
        assert declared.base_models == ("meta-llama/Llama-3.3-70B-Instruct",)

    @pytest.mark.parametrize("fields", [{}, {"general.license": 7}, {"general.base_model.count": 10**9}])
    def test_absurd_fields(self, fields: Mapping[str, object]) -> None:
        assert declared_by_gguf(fields) == Declared()


class TestLock:
    CARD = Declared(licence="other", name="acme", base_models=("a/b",))

    def test_what_the_pull_knew(self) -> None:
        verdict = judge(Declared(licence="llama3.3", gate="manual", eu_excluded=True), use="commercial")
        lock = {"repo": "acme/tuned", "licence": strict.encode(verdict)}
        declared, repo = declared_by_lock(lock, self.CARD)
        assert repo == "acme/tuned"
        assert (declared.licence, declared.gate, declared.eu_excluded) == ("llama3.3", "manual", True)
        again = judge(declared, use="commercial")
        assert (again.licence, again.permission, again.gate) == (
            verdict.licence,
            verdict.permission,
            verdict.gate,
        )

    @pytest.mark.parametrize(
        "lock",
        [{}, {"repo": "../x", "licence": []}, {"repo": 7, "licence": {"licence": 7, "gate": 7, "terms": 7}}],
    )
    def test_an_absurd_lock_says_nothing(self, lock: dict[str, object]) -> None:
        declared, repo = declared_by_lock(lock, self.CARD)
        assert repo is None
        assert (declared.licence, declared.name, declared.eu_excluded) == ("other", "acme", False)

    def test_of_a_directory(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps(CONFIG))
        (tmp_path / "README.md").write_bytes(FRONT)
        raw = load_model(str(tmp_path))
        assert (raw.declared, raw.repository) == (declared_by_card(FRONT), None)
        lock = {"repo": "allenai/OLMo-2-7B", "licence": strict.encode(judge(Declared(licence="apache-2.0")))}
        (tmp_path / "selfhost.lock.json").write_text(json.dumps(lock))
        raw = load_model(str(tmp_path))
        assert (raw.licence, raw.repository) == ("apache-2.0", "allenai/OLMo-2-7B")
        (tmp_path / "selfhost.lock.json").write_text("{")
        with pytest.raises(MalformedAnswerError, match="lock"):
            load_model(str(tmp_path))


class TestBundled:
    @pytest.mark.parametrize(
        ("name", "licence"),
        [
            ("meta-llama/Llama-3.3-70B-Instruct", "llama3.3"),
            ("meta-llama/Llama-3.1-70B-Instruct", "llama3.1"),
            ("deepseek-ai/DeepSeek-V3", "deepseek"),
            ("deepseek-ai/DeepSeek-V3-0324", "mit"),
            ("MiniMaxAI/MiniMax-M2.5", "minimax-modified-mit"),
        ],
    )
    def test_an_alias_has_the_licence_of_its_own(self, name: str, licence: str) -> None:
        raw = load_model(name)
        assert (raw.licence, declared_of(raw).licence, raw.repository) == (licence, licence, name)
        known = ask_bundled(name)
        assert known is not None
        assert known.licence == licence

    def test_what_is_not_bundled(self) -> None:
        assert ask_bundled("acme/none") is None
        assert ask_bundled("Qwen3-32B") is None, "a short name is no repository"


class TestLineage:
    """Chains of `base_model`."""

    def chain(self, cards: Mapping[str, Declared]) -> tuple[str, Declared] | None:
        self.asked: list[str] = []

        def ask(name: str) -> Declared | None:
            self.asked.append(name)
            return cards.get(name)

        return binding_base(Declared(base_models=("a/1",)), ask=ask, use="commercial")

    def test_the_strictest_of_the_chain_and_not_the_nearest(self) -> None:
        cards = {
            "a/1": Declared(licence="apache-2.0", base_models=("a/2",)),
            "a/2": Declared(licence="mit", base_models=("a/3",)),
            "a/3": Declared(licence="llama3.1"),
        }
        assert self.chain(cards) == ("a/3", cards["a/3"])

    def test_what_forbids_goes_before_what_is_unknown(self) -> None:
        cards = {
            "a/1": Declared(licence="other", name="acme", base_models=("a/2", "a/3")),
            "a/2": Declared(licence="apache-2.0"),
            "a/3": Declared(licence="mrl", name="mrl"),
        }
        assert self.chain(cards) == ("a/3", cards["a/3"])
        del cards["a/3"]
        assert self.chain(cards) == ("a/2", cards["a/2"])

    def test_silent_links_are_passed(self) -> None:
        cards = {"a/1": Declared(base_models=("a/2",)), "a/2": Declared(licence="gemma")}
        assert self.chain(cards) == ("a/2", cards["a/2"])

    def test_circles_long_chains_and_wide_merges_end(self) -> None:
        circle = {"a/1": Declared(base_models=("a/2",)), "a/2": Declared(base_models=("a/1",))}
        assert self.chain(circle) is None
        assert self.asked == ["a/1", "a/2"]
        self.chain({f"a/{number}": Declared(base_models=(f"a/{number + 1}",)) for number in range(1, 50)})
        assert len(self.asked) == DEPTH
        wide = {
            f"a/{number}": Declared(base_models=tuple(f"a/{i}" for i in range(50))) for number in range(50)
        }
        self.chain(wide)
        assert len(self.asked) == MOST
        assert len(set(self.asked)) == MOST


TEXT = b"""ACME RESEARCH LICENSE. This agreement is for non-commercial
use only. More than 50 million
monthly active users, or a yearly revenue above US$ 10 million, need a licence. It does not apply in the
European Union. Whoever offers Model-as-a-Service shall prominently display the name."""
CLAUSES = (
    "Its text speaks of 50 million monthly active users.",
    "Its text speaks of non-commercial use.",
    "Its text speaks of a revenue of 10 million USD.",
    "Its text excludes the European Union.",
    "Its text speaks of offering the model as a service.",
    "Its text asks to display a name prominently.",
)


class TestText:
    """A LICENSE file gives hints to who has to read it, and permits nothing."""

    def test_clauses(self) -> None:
        assert clauses(TEXT) == CLAUSES
        assert clauses(b"Permission is hereby granted, free of charge, to any person") == ()

    @pytest.mark.parametrize(
        "text", [b"", b"\xff" * 1000, b"revenue " * 9000, b"not apply" * 9000, b"9" * 70_000]
    )
    def test_no_text_takes_long(self, text: bytes) -> None:
        start = time.perf_counter()
        assert clauses(text) == ()
        assert time.perf_counter() - start < 1

    def test_of_a_directory(self, tmp_path: Path, cli: Cli) -> None:
        (tmp_path / "config.json").write_text(json.dumps(CONFIG))
        (tmp_path / "LICENSE").write_bytes(TEXT)
        verdict = judge(declared_of(load_model(str(tmp_path))), use="research")
        assert verdict.permission == "unknown"
        assert verdict.obligations[1:] == CLAUSES
        with pytest.raises(LicenceError, match="research; its text speaks of 50 million"):
            require(verdict)
        (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
        assert declared_of(load_model(str(tmp_path))) == Declared(licence="mit")


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    files = {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": safetensors(WEIGHTS)}
    tune = Repo(files=files, card={"license": "apache-2.0", "base_model": ["acme/middle"]})
    middle = Repo(files=files, card={"license": "mit", "base_model": "meta-llama/Llama-3.3-70B-Instruct"})
    with serve(repos={"acme/tune": tune, "acme/middle": middle}) as running:
        yield running


class TestOnline:
    def test_the_hub_is_asked_for_what_is_not_bundled(self, hub: FakeHub) -> None:
        raw = load_model("acme/tune", environ=hub.environ())
        assert raw.declared == Declared(licence="apache-2.0", gate="none", base_models=("acme/middle",))
        before = len(hub.paths())
        assert base_of(raw, use="commercial", environ=hub.environ()) == (
            "meta-llama/Llama-3.3-70B-Instruct",
            Declared(licence="llama3.3"),
        )
        assert hub.paths()[before:] == ["/api/models/acme/middle"]

    def test_offline_and_refusals_leave_it_unknown(self, hub: FakeHub) -> None:
        raw = load_model("acme/tune", environ=hub.environ())
        assert base_of(raw, environ=hub.environ(HF_HUB_OFFLINE="1")) is None
        del hub.repos["acme/middle"]
        assert base_of(raw, environ=hub.environ()) is None

    def test_the_text_is_read_where_the_card_names_no_licence(self, hub: FakeHub) -> None:
        repo = hub.repos["acme/tune"]
        repo.card = {"license": "other"}
        repo.files = {**repo.files, "LICENSE.md": TEXT}
        raw = load_model("acme/tune", environ=hub.environ())
        assert read_licence(raw, environ=hub.environ()).clauses == CLAUSES
        assert read_licence(raw, environ=hub.environ(HF_HUB_OFFLINE="1")).clauses == ()
        repo.gated = True
        assert read_licence(raw, environ=hub.environ()).clauses == ()

    def test_plan_takes_the_base_s_terms(
        self, hub: FakeHub, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        widths = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 2, "vocab_size": 64}
        config = {**CONFIG, **widths, "max_position_embeddings": 64}
        hub.repos["acme/tune"].files = {"config.json": json.dumps(config).encode()}
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.delenv("HF_HUB_OFFLINE")
        words = ("plan", "acme/tune", "--gpu", "l4-24gb", "--concurrency", "1", "-o", tmp_path / "plan.json")
        ran = cli(*words)
        assert ran.code == 0, ran.err
        told = " ".join(ran.out.split())
        assert "Licence: llama3.3, conditional" in told
        assert "made from meta-llama/Llama-3.3-70B-Instruct, whose licence llama3.3 is stricter" in told
        ran = cli(*words, "--use", "commercial")
        assert ran.code == 1
        assert "--accept-licence llama3.3" in ran.err

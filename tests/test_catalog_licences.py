"""The licence catalogue is complete, says how it is known, and its columns agree with its sentences."""

from __future__ import annotations

import re
import time
from typing import get_args

import pytest

import selfhost.licence.types
from selfhost.catalog import licences as catalogue
from selfhost.catalog.licences import HOW_SURE, Licence, find_licence, licence_ids, licences, of_id, of_link
from selfhost.catalog.models import models
from selfhost.catalog.openness import open_trainings, openness_of


def test_there_are_enough_and_they_are_sorted() -> None:
    assert len(licences()) >= 59
    assert list(licence_ids()) == sorted(licence_ids())
    assert {row.commercial for row in licences()} == {"yes", "conditional", "no", "unknown"}


def test_every_kind_of_term_is_there() -> None:
    """What a gate asks about: users, revenue, regions, hosting, registration, outputs, uses, display."""
    rows = licences()
    assert {row.users for row in rows} >= {700_000_000, 100_000_000}
    assert {row.revenue_usd for row in rows} >= {1_000_000, 20_000_000, 10_000_000_000}
    for kind in (
        "hosting",
        "excluded_regions",
        "display",
        "registration",
        "acceptable_use",
        "outputs",
        "osi",
    ):
        assert sum(bool(getattr(row, kind)) for row in rows) >= 3, kind


@pytest.mark.parametrize("row", licences(), ids=licence_ids())
def test_a_row_is_whole(row: Licence) -> None:
    assert row.source.startswith("https://")
    assert row.evidence
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", row.checked)
    assert row.verification in HOW_SURE
    assert row.obligations or row.id == "cc0-1.0"
    for text in row.obligations:
        assert text.endswith(".")
        assert ";" not in text, "obligations are joined with semicolons"
        assert text.isprintable()
        assert len(text) < 200
    if row.commercial == "yes":
        assert row.verification in ("text", "classification"), "nothing is permitted from memory"
        assert (row.users, row.revenue_usd, row.excluded_regions, row.acceptable_use) == (
            None,
            None,
            (),
            False,
        )
    if row.commercial == "conditional":
        assert row.terms, "a condition has a name"


def amounts(row: Licence) -> str:
    return " ".join((*row.obligations, row.notes or ""))


@pytest.mark.parametrize("row", licences(), ids=licence_ids())
def test_columns_stand_in_the_sentences_too(row: Licence) -> None:
    text = amounts(row)
    if row.users is not None:
        assert f"{row.users // 10**6} million" in text
    if row.revenue_usd is not None:
        shown = (
            f"{row.revenue_usd / 1e9:g} billion"
            if row.revenue_usd >= 1e9
            else f"{row.revenue_usd / 1e6:g} million"
        )
        assert shown in text or f"{row.revenue_usd / 1e6:g} a year" in text
    names = {"EU": "European Union", "UK": "United Kingdom", "KR": "South Korea", "US": "United States"}
    for region in row.excluded_regions:
        assert names[region.partition(" ")[0]] in text
    if row.outputs is not None:
        assert "utputs" in text
    assert row.registration == bool(re.search(r"regist|notified|application", text))
    assert row.hosting == bool(re.search(r"to others|as a service", text))


def test_internal_use_of_a_non_commercial_licence_is_commercial() -> None:
    for row in licences():
        if row.commercial == "no":
            assert row.internal == "no"
            assert row.research in ("yes", "conditional")
        else:
            assert row.research != "no"


@pytest.mark.parametrize("row", licences(), ids=licence_ids())
def test_found_by_every_name(row: Licence) -> None:
    for name in (row.id, row.id.upper()):
        assert find_licence(name) == row
    for name in (*row.hub_ids, *row.hub_names, *(name.replace("-", "_") for name in row.hub_names)):
        assert of_id(name, owners=row.owners) == (row,)
    for link in row.links:
        assert of_link(f"https://www.{link}") == row
        assert of_link(f"http://{link.title()}#terms") == row


def test_names_mean_one_licence_unless_their_owners_differ() -> None:
    seen: dict[str, list[Licence]] = {}
    for row in licences():
        for name in {row.id, *row.hub_ids, *row.hub_names}:
            seen.setdefault(name, []).append(row)
    for name, rows in seen.items():
        owners = [owner for row in rows for owner in row.owners]
        assert len(owners) == len(set(owners)), name
        assert sum(not row.owners for row in rows) <= 1, name
    assert {name for name, rows in seen.items() if len(rows) > 1} == {"modified-mit", "cc-by-nc-4.0"}


def test_a_shared_name_is_nobodys_without_its_owner() -> None:
    assert {row.id for row in of_id("modified-mit")} == {"kimi-modified-mit", "minimax-modified-mit"}
    assert [row.id for row in of_id("modified-mit", owners={"moonshotai"})] == ["kimi-modified-mit"]
    assert len(of_id("modified-mit", owners={"somebody"})) == 2
    assert find_licence("modified-mit") is None
    assert [row.id for row in of_id("cc-by-nc-4.0", owners={"coherelabs"})] == ["cc-by-nc-cohere"]
    assert [row.id for row in of_id("cc-by-nc-4.0", owners={"somebody"})] == ["cc-by-nc-4.0"]


@pytest.mark.parametrize(
    "link",
    [
        "LICENSE",
        "https://apache.org.evil.example/licenses/LICENSE-2.0",
        "https://evil.example/?next=https://www.apache.org/licenses/LICENSE-2.0",
        "https://evil.example#apache.org/licenses/license-2.0",
        "https://apache.org@evil.example/licenses/LICENSE-2.0",
        "ftp://apache.org/licenses/LICENSE-2.0",
        "https://huggingface.co/somebody/model/blob/main/LICENSE",
        "https://" + "a" * 100_000,
        "",
    ],
)
def test_links_that_lead_elsewhere(link: str) -> None:
    assert of_link(link) is None


@pytest.mark.parametrize("name", ["", "other", "unknown", " Other ", "x" * 100_000, "../../etc/passwd", "no"])
def test_names_that_mean_nothing(name: str) -> None:
    assert of_id(name) == ()


def test_every_licence_of_a_bundled_model_is_known() -> None:
    for entry in models():
        if entry.licence is not None:
            assert find_licence(entry.licence) is not None, entry.id


def test_types_are_those_of_the_verdict() -> None:
    types = selfhost.licence.types
    assert get_args(catalogue.Permission) == get_args(types.Permission)
    assert get_args(catalogue.Verification) == get_args(types.Verification)


def test_loading_is_fast() -> None:
    for cached in (catalogue._index, catalogue._load):
        cached.cache_clear()
    start = time.perf_counter()
    assert find_licence("llama3.3") is not None
    assert time.perf_counter() - start < 0.05
    licences()
    assert time.perf_counter() - start < 0.5


class TestOpenness:
    def test_rows_are_whole_and_sorted(self) -> None:
        prefixes = [one.prefix for one in open_trainings()]
        assert prefixes == sorted(prefixes)
        for one in open_trainings():
            assert one.source.startswith("https://")
            assert one.prefix == one.prefix.lower()
            assert re.fullmatch(r"20\d\d-\d\d-\d\d", one.checked)

    def test_open_source_takes_data_code_and_an_approved_licence(self) -> None:
        found, because = openness_of("allenai/OLMo-2-0325-32B-Instruct", licence="apache-2.0", osi=True)
        assert found == "open-source"
        assert "OLMo 2" in because
        assert "https://" in because
        assert (
            openness_of("bigcode/starcoder2-15b", licence="bigcode-openrail-m", osi=False)[0] == "open-weight"
        )

    def test_an_approved_licence_alone_is_open_weight_and_says_so(self) -> None:
        found, because = openness_of("Qwen/Qwen3-32B", licence="apache-2.0", osi=True)
        assert found == "open-weight"
        assert "not known" in because

    def test_without_a_licence_nothing_is_known(self) -> None:
        assert openness_of("allenai/OLMo-2-0325-32B-Instruct", licence=None, osi=False)[0] == "unknown"
        assert openness_of(None, licence="proprietary", osi=False)[0] == "closed"

"""`selfhost bundle`: its output, its JSON, and where it looks for digests and weights."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import selfhost.cli
from selfhost.bundle import open_bundle, unpack
from selfhost.manifests import Document, render, write_manifests
from selfhost.plan import write_plan
from selfhost.pull.types import LOCK_NAME
from tests.bundles import PINNED, make, members, tree
from tests.conftest import Cli
from tests.plans import plan as make_plan
from tests.snapshots import FILES, snapshot

SCHEMAS = Path(selfhost.cli.__file__).parent / "schemas"


@pytest.fixture
def planned(tmp_path: Path) -> Path:
    write_plan(make_plan(), tmp_path / "plan.json")
    snapshot(tmp_path / "model")
    return tmp_path / "plan.json"


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))


def test_the_commands_follow_their_schemas(cli: Cli, planned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1764000000")
    out = planned.with_name("b.tar")
    made = cli(
        "bundle",
        "create",
        planned,
        "-o",
        out,
        "--weights",
        planned.parent / "model",
        "--image",
        PINNED.image,
        "--json",
    )
    assert made.code == 0, made.err
    jsonschema.validate(made.json(), schema("bundle-create"))
    assert made.json()["created"] == "2025-11-24T16:00:00Z"
    checked = cli("bundle", "verify", out, "--digest", made.json()["digest"], "--json")
    jsonschema.validate(checked.json(), schema("bundle-verify"))
    done = cli("bundle", "unpack", out, "--dir", planned.with_name("out"), "--json")
    jsonschema.validate(done.json(), schema("bundle-unpack"))
    wrong = cli("bundle", "verify", out, "--digest", "sha256:" + "0" * 64)
    assert wrong.code == 1
    assert "another bundle" in wrong.err


def test_the_commands_speak_to_people(cli: Cli, planned: Path) -> None:
    out = planned.with_name("b.tar")
    made = cli(
        "bundle", "create", planned, "-o", out, "--weights", planned.parent / "model", "--allow-unpinned"
    )
    assert made.code == 0, made.err
    assert "not pinned" in made.out
    assert " ".join(cli("bundle", "verify", out).out.split()).startswith(f"{out} is whole")
    done = cli("bundle", "unpack", out, "--dir", planned.with_name("out"))
    assert "all verified" in " ".join(done.out.split())
    again = cli("bundle", "unpack", out, "--dir", planned.with_name("out"))
    kept = re.fullmatch(r"2 files are in .*?, (\d+) were there already, .*", " ".join(again.out.split()))
    assert kept is not None
    assert int(kept[1]) == len([path for path in planned.with_name("out").rglob("*") if path.is_file()]) - 2


def test_offline_and_unpinned_is_refused_with_the_way_out(cli: Cli, planned: Path) -> None:
    ran = cli("bundle", "create", planned, "-o", planned.with_name("b.tar"))
    assert ran.code == 1
    error, hint = ran.err.splitlines()
    assert "digest of vllm/vllm-openai:v0.32.0 is not known" in error
    assert "--image" in hint
    assert "--allow-unpinned" in hint
    assert not planned.with_name("b.tar").exists()


def test_the_cache_is_a_source_of_weights(cli: Cli, planned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = planned.with_name("hub")
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    words = ("bundle", "create", planned, "--allow-unpinned", "--weights")
    missing = cli(*words, "cache", "-o", planned.with_name("a.tar"))
    assert missing.code == 1
    assert "selfhost pull" in missing.err
    assert cli(*words, planned.parent / "model", "-o", planned.with_name("a.tar")).code == 0
    assert (
        cli(
            "bundle",
            "unpack",
            planned.with_name("a.tar"),
            "--only",
            "weights",
            "--layout",
            "cache",
            "--dir",
            hub,
        ).code
        == 0
    )
    assert cli(*words, "cache", "-o", planned.with_name("b.tar")).code == 0
    weights = {name for name in members(planned.with_name("b.tar")) if name.startswith("weights/")}
    assert weights == {f"weights/{name}" for name in (*FILES, LOCK_NAME)}


def test_a_bundle_renders_into_a_directory_as_render_does(tmp_path: Path) -> None:
    done = unpack(open_bundle(make(tmp_path, mirror=None).path), tmp_path / "out", only="manifests")
    write_manifests(render(make_plan(), options=PINNED), tmp_path / "rendered")
    rendered = tree(tmp_path / "rendered")
    unpacked = tree(done.root / "manifests")
    assert unpacked == {name: data for name, data in rendered.items() if name in unpacked}
    assert isinstance(render(make_plan()).documents[0], Document)

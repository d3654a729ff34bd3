"""`selfhost pull` and `selfhost verify` on the command line: what they print, what they refuse, and with which code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import pytest

from selfhost.cli._pull_onward import without_gate
from tests.conftest import Ran
from tests.fakes.hub import COMMIT, FakeHub, Repo, serve
from tests.pulls import NAME, pull_tiny, repo, shards
from tests.test_cli_json import schema

Pull = Callable[..., Ran]


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serve(repos={NAME: repo()}) as running:
        yield running


@pytest.fixture
def selfhost(hub: FakeHub, tmp_path: Path) -> Pull:
    """Run `selfhost WORDS...` in a process of its own, in an empty directory, without a terminal."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "SELFHOST_"))}
    env = {**clean, **hub.environ(HF_HOME=str(tmp_path / "hf"), NO_PROXY="127.0.0.1"), "COLUMNS": "80"}

    def run(*words: str | Path, **more: str) -> Ran:
        (tmp_path / "here").mkdir(exist_ok=True)
        ran = subprocess.run(
            [sys.executable, "-m", "selfhost", *map(str, words)],
            env={**env, **more}, cwd=tmp_path / "here", capture_output=True, text=True, timeout=50, check=False,
        )  # fmt: skip
        assert "Traceback" not in ran.stderr
        return Ran(code=ran.returncode, out=ran.stdout, err=ran.stderr)

    return run


def test_a_dry_run_says_what_and_why_and_writes_nothing(selfhost: Pull, tmp_path: Path) -> None:
    ran = selfhost("pull", NAME, "--dry-run")
    assert ran.code == 0, ran.err
    assert ran.out.startswith(f"{NAME} at {COMMIT[:12]}: 7 of 8 files")
    for words in (
        "weights, named by the index",
        "not read when serving",
        "measured just now",
        "apache-2.0",
        "Open weight",
    ):
        assert words in ran.out
    assert f"Next: selfhost pull {NAME}@{COMMIT}" in ran.out
    assert f"snapshots/{COMMIT}\n" in ran.out  # a path is not cut, however long
    assert all(len(line) <= 80 for line in ran.out.splitlines() if COMMIT not in line and "/" not in line)
    assert not (tmp_path / "hf" / "hub").exists()


def test_a_pull_without_a_terminal_is_plain(selfhost: Pull, tmp_path: Path) -> None:
    ran = selfhost("pull", NAME, "--dir", "m")
    assert (ran.code, ran.err) == (0, "")
    assert "all verified" in ran.out
    assert "\x1b" not in ran.out + ran.err
    assert "Next: selfhost plan ./m" in ran.out
    checked = selfhost("verify", "m")
    assert (checked.code, "are right" in checked.out) == (0, True)


def test_json_follows_its_schema(selfhost: Pull, tmp_path: Path) -> None:
    for words in (("--dry-run",), (), ("--dir", "m")):
        ran = selfhost("pull", NAME, *words, "--json")
        assert (ran.code, ran.err) == (0, "")
        jsonschema.validate(ran.json(), schema("pull"))
        assert ran.json()["revision"] == COMMIT
    ran = selfhost("verify", "m", "--json")
    jsonschema.validate(ran.json(), schema("verify"))
    assert ran.json()["ok"]
    (tmp_path / "here" / "m" / "config.json").write_text("{}")
    (tmp_path / "here" / "m" / "mine.txt").write_text("")
    ran = selfhost("verify", "m", "--json")
    jsonschema.validate(ran.json(), schema("verify"))
    assert (ran.code, ran.json()["ok"], ran.json()["extra"]) == (5, False, ["mine.txt"])
    assert ran.json()["faults"] == [{"path": "config.json", "message": "has 2 bytes, not 81"}]


def test_verify_tells_the_command_that_mends(selfhost: Pull, tmp_path: Path) -> None:
    selfhost("pull", NAME, "--dir", "m")
    weights = tmp_path / "here" / "m" / "model-00001-of-00003.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    ran = selfhost("verify", "m")
    assert ran.code == 5
    assert "holds other bytes than its SHA-256 says" in ran.out
    assert f"Next: selfhost pull {NAME}@{COMMIT} --dir m" in ran.out
    assert selfhost("pull", NAME, "--dir", "m").code == 0
    assert selfhost("verify", "m").code == 0


def test_a_gguf_file_that_was_named_is_named_again(selfhost: Pull, hub: FakeHub, tmp_path: Path) -> None:
    files = {"tiny.Q4.gguf": b"GGUF" + bytes(20), "tiny.Q8.gguf": b"GGUF" + bytes(40)}
    hub.repos["acme/tiny-gguf"] = repo({**shards(1, 100), **files})
    words, again = ("pull", "acme/tiny-gguf:tiny.Q4.gguf"), f"acme/tiny-gguf@{COMMIT}:tiny.Q4.gguf"
    planned = selfhost(*words, "--dry-run")
    assert f"To pull the same again: {again}" in " ".join(planned.out.split())
    assert f"Next: selfhost pull {again}\n" in planned.out
    assert f"Next: selfhost plan {again}\n" in selfhost(*words).out
    assert "Next: selfhost plan ./m/tiny.Q4.gguf" in selfhost(*words, "--dir", "m").out
    (tmp_path / "here" / "m" / "tiny.Q4.gguf").write_bytes(b"GGUF")
    assert f"Next: selfhost pull {again} --dir m\n" in selfhost("verify", "m").out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("pull",), 2, "Name a MODEL"),
        (("pull", "./here"), 1, "on this machine already"),
        (("pull", "acme/none"), 1, "No model acme/none"),
        (("pull", "catalog:Qwen/Qwen3-32B"), 1, "No model Qwen/Qwen3-32B on the Hub, or it is private."),
        (("pull", f"{NAME}@v9"), 1, "no revision v9"),
        (("pull", NAME, "--include", "*.zip"), 1, "left to pull"),
        (("pull", NAME, "--include", ""), 2, "matches no file"),
        (("pull", NAME, "--use", "fun"), 2, "Invalid value for '--use'"),
        (("pull", NAME, "--to", "elsewhere"), 2, "is no destination"),
        (("pull", NAME, "--to", "gs://bucket/x"), 1, "needs a library that is not installed"),
        (("pull", NAME, "--dir", "/dev/null/x"), 1, "Cannot write /dev/null/x"),
        (("pull", NAME, "--jobs", "0"), 2, "at least 1"),
        (("pull", NAME, "--limit-rate", "fast"), 2, "is not a size"),
        (("pull", NAME, "--serve", "nowhere"), 2, "is no address"),
        (("pull", NAME, "--token-file", "none"), 2, "cannot be read"),
        (("pull", NAME, "--accept-licence", "mit"), 1, "apache-2.0"),
        (("verify", "."), 1, "selfhost.lock.json"),
        (("verify", "none"), 1, "Cannot read"),
        (("verify",), 2, "Missing argument"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_sentence_and_one_way_out(
    words: tuple[str, ...], code: int, said: str, selfhost: Pull, tmp_path: Path
) -> None:
    ran = selfhost(*words)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith("Error: ")
    assert said in ran.err.splitlines()[0]
    assert list((tmp_path / "here").iterdir()) == []


def test_errors_as_json(selfhost: Pull) -> None:
    ran = selfhost("pull", "acme/none", "--json")
    assert (ran.code, ran.out) == (1, "")
    jsonschema.validate(json.loads(ran.err), schema("error"))


def test_an_unreachable_hub_is_said_after_a_few_tries(selfhost: Pull) -> None:
    ran = selfhost("pull", NAME, HF_ENDPOINT="http://127.0.0.1:9")
    assert ran.code == 1
    assert "cannot be reached" in ran.err


def test_a_use_that_the_licence_does_not_permit(selfhost: Pull, hub: FakeHub, tmp_path: Path) -> None:
    hub.repos[NAME].card = {"license": "cc-by-nc-4.0"}
    ran = selfhost("pull", NAME, "--use", "internal", "--dir", "m")
    assert ran.code == 1
    assert "does not permit internal use" in ran.err
    assert not (tmp_path / "here" / "m").exists()
    assert selfhost("pull", NAME, "--use", "research", "--dir", "m").code == 0


def test_terms_have_to_be_accepted_where_a_use_is_named(selfhost: Pull, hub: FakeHub) -> None:
    hub.repos[NAME].card = {"license": "llama3.3"}
    ran = selfhost("pull", NAME, "--use", "commercial")
    assert ran.code == 1
    assert "--accept-licence llama3.3" in ran.err
    ran = selfhost("pull", NAME, "--use", "commercial", "--accept-licence", "llama3.3", "--json")
    assert ran.code == 0
    assert ran.json()["licence"]["accepted"]


def test_unknown_is_never_fine(selfhost: Pull, hub: FakeHub) -> None:
    hub.repos[NAME].card = {}
    ran = selfhost("pull", NAME, "--use", "commercial")
    assert ran.code == 1
    assert "unknown: read it" in ran.err


def test_a_token_from_a_file_opens_a_gate_and_is_never_shown(
    selfhost: Pull, hub: FakeHub, tmp_path: Path
) -> None:
    hub.repos[NAME].gated = "manual"
    hub.repos[NAME].granted = frozenset(("hf_sesame",))
    (tmp_path / "token").write_text("hf_sesame\n")
    closed = selfhost("pull", NAME, "--dry-run")
    assert closed.code == 1
    assert "its owner has to approve each account; refused now" in closed.out
    open_ = selfhost("pull", NAME, "--token-file", tmp_path / "token", "--dir", "m")
    assert open_.code == 0, open_.err
    assert "hf_sesame" not in closed.out + closed.err + open_.out + open_.err
    by_path = selfhost("pull", NAME, "--dir", "n", HF_TOKEN_PATH=str(tmp_path / "token"))
    assert by_path.code == 0, by_path.err


def quantized(of: str, *, downloads: int) -> Repo:
    return repo(shards(1, 1000), tags=(f"base_model:quantized:{of}", "awq"), facts={"downloads": downloads})


def test_the_publishers_own_quantized_version_is_pulled_and_others_are_told(
    selfhost: Pull, hub: FakeHub
) -> None:
    hub.repos |= {
        "acme/tiny-AWQ": quantized(NAME, downloads=5),
        "them/tiny-awq": quantized(NAME, downloads=9),
    }
    ran = selfhost("pull", NAME, "--quant", "awq", "--dry-run")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("acme/tiny-AWQ at")
    assert "the publisher's own version" in ran.out
    assert "them/tiny-awq" in ran.out
    pulled = selfhost("pull", NAME, "--quant", "awq", "--json").json()
    assert pulled["repo"] == "acme/tiny-AWQ"


def test_the_command_after_a_dry_run_keeps_what_was_asked(selfhost: Pull) -> None:
    words = "--to file:///nowhere/x --limit-rate 5000000 --jobs 2 --ready-file r --serve :8765 --allow-gated"
    ran = selfhost("pull", NAME, "--dry-run", *words.split())
    assert f"Next: selfhost pull {NAME}@{COMMIT} {words}\n" in ran.out


def test_a_gated_model_in_the_cache_does_not_keep_the_others_from_being_served(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repos["acme/gated"] = repo(gated="auto", granted=frozenset({"hf_good"}))
    gated = pull_tiny(hub, tmp_path, "acme/gated", environ={"HF_TOKEN": "hf_good"}).snapshot
    free = pull_tiny(hub, tmp_path).snapshot
    assert without_gate((gated, free)) == (free,)
    assert "acme/gated is gated and left out" in capsys.readouterr().err
    assert without_gate((gated,)) == (gated,)  # which `serve` refuses


def test_several_strangers_versions_are_offered_not_pulled(selfhost: Pull, hub: FakeHub) -> None:
    hub.repos |= {"you/tiny-AWQ": quantized(NAME, downloads=5), "them/tiny-awq": quantized(NAME, downloads=9)}
    ran = selfhost("pull", NAME, "--quant", "awq", "--dry-run")
    assert (ran.code, ran.out.splitlines()[0]) == (
        0,
        f"2 repositories hold {NAME} so; choose the one you trust.",
    )
    assert ran.out.index("them/tiny-awq") < ran.out.index("you/tiny-AWQ")
    as_json = selfhost("pull", NAME, "--quant", "awq", "--dry-run", "--json").json()
    jsonschema.validate(as_json, schema("pull"))
    assert [twin["repo"] for twin in as_json["twins"]] == ["them/tiny-awq", "you/tiny-AWQ"]
    ran = selfhost("pull", NAME, "--quant", "awq")
    assert (ran.code, ran.out) == (1, "")
    assert "them/tiny-awq, you/tiny-AWQ" in ran.err
    assert selfhost("pull", NAME, "--quant", "gptq").code == 1


def test_the_ready_file_comes_last(selfhost: Pull, hub: FakeHub, tmp_path: Path) -> None:
    from tests.fakes.hub.faults import Flip

    ready = tmp_path / "deep" / "ready"
    fault = hub.fail(Flip(at=5000), path="model-00002", times=None)
    assert selfhost("pull", NAME, "--ready-file", ready).code == 1
    assert not ready.exists()
    hub.faults.remove(fault)
    assert selfhost("pull", NAME, "--ready-file", ready).code == 0
    assert (Path(ready.read_text().strip()) / "selfhost.lock.json").is_file()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB, where this user may mount one; elsewhere tests/test_pull.py limits the file size."""
    path = tmp_path / "small"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    yield path
    subprocess.run(["umount", path], check=True)


def test_too_little_room_is_said_first(selfhost: Pull, hub: FakeHub, small: Path) -> None:
    hub.repos[NAME] = repo(shards(3, 800_000))
    (small / "filler").write_bytes(b"x" * 1_500_000)
    ran = selfhost("pull", NAME, "--dir", small / "m")
    assert (ran.code, "still to come" in ran.err) == (1, True)
    assert sum(size for name, size in hub.sent.items() if name.endswith(".safetensors")) == 0


def test_a_disk_that_fills_up_leaves_what_is_there(selfhost: Pull, hub: FakeHub, small: Path) -> None:
    from tests.fakes.hub.faults import Throttle

    hub.repos[NAME] = repo(shards(3, 800_000))
    slow = hub.fail(Throttle(bytes_per_second=400_000), path=".safetensors", times=None)

    def fill() -> None:
        """Once the room was found to be enough and files are on their way."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not any(name.endswith(".safetensors") for name in hub.sent):
            time.sleep(0.02)
        (small / "filler").write_bytes(b"x" * 1_600_000)

    filling = threading.Thread(target=fill)
    filling.start()
    ran = selfhost("pull", NAME, "--dir", small / "m")
    filling.join()
    assert (ran.code, ran.err.count("\n")) == (1, 2), ran.err
    assert "The disk is full" in ran.err
    assert "goes on from here" in ran.err
    (small / "filler").unlink()
    hub.faults.remove(slow)
    assert selfhost("pull", NAME, "--dir", small / "m").code == 0
    hub.settle(1.0)
    sent = sum(size for name, size in hub.sent.items() if name.endswith(".safetensors"))
    assert sent < 1.2 * 3 * 800_000


def test_a_read_only_directory(selfhost: Pull, small: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    ran = selfhost("pull", NAME, "--dir", small / "n")
    assert (ran.code, ran.err.count("\n")) == (1, 2)
    assert "Read-only file system" in ran.err

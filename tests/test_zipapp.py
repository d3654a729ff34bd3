"""selfhost.pyz: what is in it, that it needs nothing else of selfhost, and that the rendered Job pulls with it."""

from __future__ import annotations

import ast
import base64
import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from selfhost.manifests import render, write_manifests
from selfhost.manifests.output import MARK
from selfhost.manifests.zipapp import ARCHIVE_FILE, LARGEST_BYTES, archives, imported, modules, pull_archive
from tests.fakes.hub import COMMIT, Repo, serve
from tests.jobs import MODEL, Job, model_files, rendered_job
from tests.plans import plan

# What selfhost uses elsewhere, and an engine's image need not have.
OUR_OTHERS = ("gguf", "jinja2", "rich", "s3fs", "fsspec")


def contents() -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(pull_archive())) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / ARCHIVE_FILE
    path.write_bytes(pull_archive())
    return path


def python(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run this interpreter away from the checkout."""
    return subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, check=False, cwd="/", timeout=50
    )


class TestContents:
    def test_equal_sources_give_equal_bytes(self) -> None:
        before = pull_archive()
        archives.cache_clear()
        modules.cache_clear()
        assert pull_archive() == before
        with zipfile.ZipFile(io.BytesIO(before)) as archive:
            entries = archive.infolist()
        assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
        assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
        assert {entry.external_attr >> 16 for entry in entries} == {0o100644}

    def test_holds_the_command_and_its_data_but_no_sizing(self) -> None:
        names = set(contents())
        assert {
            "__main__.py",
            "selfhost/cli/pull.py",
            "selfhost/pull/run.py",
            "selfhost/hub/remote.py",
        } <= names
        assert "selfhost/catalog/licences.toml" in names
        for absent in (
            "families",
            "catalog/models/",
            "manifests",
            "engines",
            "kv/",
            "quantization",
            "gpus",
            ".pyc",
        ):
            assert not [name for name in names if absent in name], absent

    def test_sources_are_those_of_the_package(self) -> None:
        root = Path(__file__).parent.parent
        for name, data in contents().items():
            if name != "__main__.py":
                assert data == (root / name).read_bytes(), name

    def test_says_in_its_first_line_who_wrote_it(self) -> None:
        assert MARK.encode() in pull_archive().split(b"\n", 1)[0]

    def test_fits_a_config_map_and_its_annotation(self) -> None:
        """kubectl apply writes the object a second time, into an annotation; all of those have 256 KiB together."""
        assert len(pull_archive()) < LARGEST_BYTES
        text = base64.b64encode(bytes(LARGEST_BYTES)).decode()
        config = {
            "apiVersion": "v1", "kind": "ConfigMap", "binaryData": {ARCHIVE_FILE: text},
            "metadata": {"name": "n" * 63, "namespace": "n" * 63, "labels": {"label" * 12: "value" * 12}},
        }  # fmt: skip
        assert len(json.dumps(config)) < 256 * 1024


class TestImports:
    def test_of_every_kind_are_followed(self) -> None:
        source = """
import os, selfhost.a
from selfhost.b import c, d as e
try:
    import selfhost.f
except ImportError:
    from selfhost import g
finally:
    import selfhost.h
class X:
    async def y(self):
        match self:
            case 1:
                with self:
                    import selfhost.i
"""
        found = {name for name in imported(ast.parse(source)) if name.startswith("selfhost")}
        assert found == {
            "selfhost.a", "selfhost.b", "selfhost.b.c", "selfhost.b.d", "selfhost.f", "selfhost", "selfhost.g",
            "selfhost.h", "selfhost.i",
        }  # fmt: skip

    def test_that_never_run_in_a_pod_are_not(self) -> None:
        source = """
if TYPE_CHECKING:
    import selfhost.a
else:
    import selfhost.b
def _complete_model():
    import selfhost.c
"""
        assert list(imported(ast.parse(source))) == ["selfhost.b"]

    def test_in_functions_are_left_out_where_that_is_wanted(self) -> None:
        source = "import selfhost.a\ndef f():\n    import selfhost.b\n"
        assert list(imported(ast.parse(source), deep=False)) == ["selfhost.a"]

    def test_are_all_in_the_archive_and_its_few_dependencies(self, archive: Path) -> None:
        script = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({OUR_OTHERS!r}))  # so that importing one of them fails
sys.path.insert(0, {str(archive)!r})
for name in {sorted(modules())!r}:
    module = importlib.import_module(name)
    assert module.__file__.startswith({str(archive)!r}), module
"""
        done = python("-W", "error", "-c", script)
        assert done.returncode == 0, done.stderr


class TestCommand:
    def test_help_and_version(self, archive: Path) -> None:
        done = python(archive, "pull", "--help")
        assert done.returncode == 0, done.stderr
        assert "--ready-file" in done.stdout
        assert python(archive, "--version").stdout.startswith("selfhost ")

    def test_other_commands_are_not_there(self, archive: Path) -> None:
        done = python(archive, "size", "x")
        assert done.returncode == 2
        assert "No such command 'size'" in done.stderr

    def test_an_image_without_the_hub_library_is_told_so(self, archive: Path) -> None:
        done = python("-I", "-S", archive, "pull", "x")  # -S: without site-packages
        assert done.returncode == 1
        error, hint = done.stderr.splitlines()
        assert error == "Error: This image has no huggingface_hub; selfhost pull needs 1.0 or newer."
        assert "--pull-image" in hint


class TestJob:
    """The rendered command, run as it stands with the volumes in other places."""

    def test_pulls_and_lets_the_server_start(self, tmp_path: Path) -> None:
        with serve(repos={MODEL: Repo(files=model_files(), card={"license": "apache-2.0"})}) as hub:
            job = rendered_job(tmp_path, hub.url)
            assert job.wait().returncode == 1
            done = job.run(sys.executable)
            assert done.returncode == 0, done.stderr
            sent = hub.sent_bytes
            assert job.run(sys.executable).returncode == 0
        assert hub.sent_bytes < sent + 100_000  # a second pod finds what the first has pulled
        assert job.wait().returncode == 0
        check_snapshot(job)

    def test_what_cannot_be_pulled_never_starts_the_server(self, tmp_path: Path) -> None:
        with serve(repos={MODEL: Repo(files=model_files(), gated=True)}) as hub:
            job = rendered_job(tmp_path, hub.url)
            done = job.run(sys.executable)
        assert done.returncode == 1
        assert done.stderr.count("Error:") == 1
        assert "Traceback" not in done.stderr
        assert job.wait().returncode == 1

    def test_the_secret_opens_a_gated_repository(self, tmp_path: Path) -> None:
        repo = Repo(
            files=model_files(),
            card={"license": "apache-2.0"},
            gated="auto",
            granted=frozenset(["hf_secret"]),
        )
        with serve(repos={MODEL: repo}) as hub:
            job = rendered_job(tmp_path, hub.url)
            (job.token / "token").write_text("hf_secret\n", encoding="utf-8")
            done = job.run(sys.executable)
        assert done.returncode == 0, done.stderr
        assert "hf_secret" not in done.stdout + done.stderr

    def test_a_repository_that_is_not_there_is_told_so(self, tmp_path: Path) -> None:
        with serve(repos={}) as hub:
            done = rendered_job(tmp_path, hub.url).run(sys.executable)
        assert done.returncode == 1
        assert done.stderr.startswith("Error: ")
        assert "example/tiny" in done.stderr
        assert "Traceback" not in done.stderr

    def test_keeps_its_hands_off_everything_but_the_volume_and_its_home(self, tmp_path: Path) -> None:
        with serve(repos={MODEL: Repo(files=model_files(), card={"license": "apache-2.0"})}) as hub:
            job = rendered_job(tmp_path, hub.url)
            before = {path for path in tmp_path.rglob("*") if job.volume not in path.parents}
            assert job.run(sys.executable).returncode == 0
            after = {path for path in tmp_path.rglob("*") if job.volume not in path.parents}
        assert {path for path in after - before if job.home not in path.parents} == set()


def check_snapshot(job: Job) -> None:
    """What huggingface_hub, and so the engine, finds offline."""
    from huggingface_hub import snapshot_download

    path = snapshot_download(MODEL, revision=COMMIT, cache_dir=job.cache, local_files_only=True)
    found = {
        str(file.relative_to(path)): file.read_bytes() for file in Path(path).rglob("*") if file.is_file()
    }
    lock = json.loads(found.pop("selfhost.lock.json"))
    assert lock["revision"] == COMMIT
    wanted = {name: data for name, data in model_files().items() if not name.endswith(".bin")}
    assert found == wanted


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_makes_the_config_map(tmp_path: Path) -> None:
    write_manifests(render(plan()), tmp_path)
    done = subprocess.run(
        ["kubectl", "kustomize", str(tmp_path)], capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == 0, done.stderr
    built = {document["kind"]: document for document in yaml.safe_load_all(done.stdout)}
    config, job = built["ConfigMap"], built["Job"]
    assert base64.b64decode(config["binaryData"][ARCHIVE_FILE]) == pull_archive()
    assert config["metadata"]["namespace"] == "llm"
    assert config["metadata"]["labels"] == job["metadata"]["labels"]
    (volume,) = [v for v in job["spec"]["template"]["spec"]["volumes"] if "configMap" in v]
    assert volume["configMap"]["name"] == config["metadata"]["name"]

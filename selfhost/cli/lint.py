"""Find faults of LLM serving in anybody's manifests, and mend the safe ones."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from selfhost.cli._options import AT_LEAST, json_option
from selfhost.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection

    from selfhost.lint import Report, Settings, Text

_ENGINES = ("vllm", "sglang", "tgi", "triton", "llamacpp", "ollama")


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...|-")
@click.option(
    "--fix", is_flag=True, help="Write the safe fixes into the files; with -, print the mended text."
)
@click.option("--diff", is_flag=True, help="Print what --fix would change, and change nothing.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "sarif"]),
    default="text",
    show_default=True,
    help="How findings are printed; sarif is SARIF 2.1.0.",
)
@click.option("--notes", is_flag=True, help="Print notes too; json and sarif always hold them.")
@click.option("--select", multiple=True, metavar="CODE", help="Look for these codes alone; may be repeated.")
@click.option("--ignore", multiple=True, metavar="CODE", help="Do not look for these codes; may be repeated.")
@click.option("--engine", metavar="E@V", help="Engine, with its version, of images that do not say it.")
@click.option(
    "--spare-gpus", type=AT_LEAST[0], metavar="N", help="GPUs that are free for the pods of an update."
)
@click.option("--strict", is_flag=True, help="Exit code 5 for warnings too.")
@json_option
def command(
    files: tuple[str, ...],
    fix: bool,
    diff: bool,
    form: str,
    notes: bool,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    engine: str | None,
    spare_gpus: int | None,
    strict: bool,
    as_json: bool,
) -> int:
    """Read Kubernetes YAML (files, folders, or - for what `helm template` prints) and say what is wrong in it.

    Compose files are read for what is wrong with their engines.

    All files are judged together. Exit code 0: no error (notes and warnings may be there); 5: errors, or with --strict
    warnings; 1: a file could not be read. A comment `# selfhost: ignore SH014 reason` keeps a finding quiet: behind a
    line or above it for what is indented below, at the top for the document. docs/lint.md explains each code.
    """
    from selfhost.lint import gather, lint, mend

    if fix and diff:
        raise UsageError("--fix and --diff exclude each other.", hint="--diff shows what --fix would write.")
    settings, chosen, left = (
        _settings(engine, spare_gpus),
        _codes("--select", select),
        _codes("--ignore", ignore),
    )
    stdin = None if sys.stdin is None else sys.stdin.buffer
    texts, unread = gather(files, stdin)
    fixed = 0
    if fix or diff:
        mended = mend(texts, settings, select=chosen, ignore=left)
        report = mended.report
        if diff:
            return _diff(texts, mended.texts, report, strict, bool(unread))
        fixed = mended.fixed
        _write(texts, mended.texts)
    else:
        report = lint(texts, settings, select=chosen, ignore=left)
    broken = (*unread, *report.unread)
    _print(report, broken, "json" if as_json else form, fixed, notes, aside=fix and "-" in files)
    return _exit_code(report, strict, bool(broken))


def _settings(engine: str | None, spare_gpus: int | None) -> Settings:
    from selfhost.lint import Settings

    name, _, version = (engine or "").partition("@")
    if name and name not in _ENGINES:
        raise UsageError(f"--engine {engine}: no such engine.", hint=f"It is one of {', '.join(_ENGINES)}.")
    return Settings(spare_gpus=spare_gpus, engine=name or None, version=version.removeprefix("v") or None)


def _codes(option: str, given: Collection[str]) -> frozenset[str]:
    from selfhost.lint import rules

    codes = {code.strip().upper() for word in given for code in word.split(",") if code.strip()}
    unknown = sorted(codes - {rule.code for rule in rules()})
    if unknown:
        raise UsageError(f"{option} {unknown[0]}: no such code.", hint="The codes stand in docs/lint.md.")
    return frozenset(codes)


def _exit_code(report: Report, strict: bool, broken: bool) -> int:
    if broken:
        return 1
    bad = ("error", "warning") if strict else ("error",)
    return 5 if any(finding.severity in bad for finding in report.findings) else 0


def _print(
    report: Report, broken: tuple[object, ...], form: str, fixed: int, notes: bool, *, aside: bool
) -> None:
    from contextlib import nullcontext, redirect_stdout

    from selfhost.cli._lint_output import show_json, show_sarif, show_text

    # Mended standard input goes to standard output alone.
    with redirect_stdout(sys.stderr) if aside else nullcontext():
        if form == "json":
            show_json(report, broken, fixed)
        elif form == "sarif":
            show_sarif(report, broken)
        else:
            show_text(report, broken, fixed, notes=notes)


def _write(before: tuple[Text, ...], after: tuple[Text, ...]) -> None:
    from selfhost.errors import SelfhostError

    for old, new in zip(before, after, strict=True):
        if new.path is None and new.name == "<stdin>":
            click.echo(new.content, nl=False)
        elif new.path is not None and new.content != old.content:
            try:
                Path(new.path).write_bytes(new.content.encode())
            except OSError as error:
                raise SelfhostError(f"{new.path} cannot be written: {error.strerror}.") from error


def _diff(
    before: tuple[Text, ...], after: tuple[Text, ...], report: Report, strict: bool, broken: bool
) -> int:
    import difflib

    for old, new in zip(before, after, strict=True):
        lines = difflib.unified_diff(
            old.content.splitlines(keepends=True), new.content.splitlines(keepends=True), old.name, new.name
        )
        for line in lines:
            click.echo(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n", nl=False)
    return _exit_code(report, strict, broken or bool(report.unread))

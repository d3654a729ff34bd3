"""Write the generated parts of README.md, CONTRIBUTING.md and docs/, or with --check say which are out of date.

A generated part stands between `<!-- begin: WHAT -->` and `<!-- end -->`. WHAT is one of the functions in PARTS, or a
command line that starts with `$ selfhost`, of which the part shows the output as it is without a terminal.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from selfhost.cli import app, command_names, summary
from selfhost.cli._errors import EXIT_CODES, run
from selfhost.errors import SelfhostError

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
RECORDING = EXAMPLES / "trouble.jsonl.gz"
PART = re.compile(r"(<!-- begin: (.+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
PAGES = ("README.md", "CONTRIBUTING.md", "docs/*.md")


def table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [heads, tuple("---" for _ in heads), *rows]
    return (
        "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        + "\n"
    )


def transcript(line: str, folder: Path) -> str:
    """A command line and what it prints, as a console block. All of a page's commands share a folder."""
    words = shlex.split(line.removeprefix("$ "))[1:]
    out, before = io.StringIO(), Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            run(app, words)
    finally:
        os.chdir(before)
    return f"```console\n{line}\n{out.getvalue().rstrip()}\n```\n"


def commands() -> str:
    """Every command with its help."""
    parts = [f"```text\n{_help([])}```\n"]
    for name in command_names():
        parts.append(f"## selfhost {name}\n\n{summary(name)}\n\n```text\n{_help([name])}```\n")
        command = app.get_command(click.Context(app), name)
        if isinstance(command, click.Group):
            parts += [f"```text\n{_help([name, below])}```\n" for below in command.commands]
    return "\n".join(parts)


def help_() -> str:
    """The help of selfhost itself."""
    return f"```text\n{_help([])}```\n"


def pull_example() -> str:
    """A dry run, a pull and a check against a Hub on loopback; what differs from machine to machine is put still."""
    sys.path.insert(0, str(ROOT))
    from tests.fakes.hub import Content, Random, serve
    from tests.pulls import repo, shards

    more: dict[str, Content] = {
        "chat_template.jinja": b"{{ messages }}", "generation_config.json": b"{}", "LICENSE": b"Apache License",
        "pytorch_model.bin": Random(size=36_000_000), "original/consolidated.00.pth": Random(size=36_000_000),
        "onnx/model.onnx": Random(size=20_000_000), "modeling_tiny.py": b"import os",
    }  # fmt: skip
    lines = (
        "selfhost pull acme/tiny --dir tiny --dry-run",
        "selfhost pull acme/tiny --dir tiny",
        "selfhost verify tiny",
    )
    shown = []
    with (
        serve(repos={"acme/tiny": repo(shards(4, 9_000_000) | more)}) as hub,
        tempfile.TemporaryDirectory() as folder,
    ):
        dropped = ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE", "FORCE_COLOR")
        env = {key: value for key, value in os.environ.items() if key not in dropped}
        env |= hub.environ(HF_HOME=f"{folder}/.cache/huggingface", NO_PROXY="127.0.0.1")
        for line in lines:
            words = [sys.executable, "-m", "selfhost", *shlex.split(line)[1:]]
            env["PYTHONPATH"] = str(ROOT)
            ran = subprocess.run(words, env=env, cwd=folder, capture_output=True, text=True, check=True)
            text = ran.stdout.replace(os.path.realpath(folder), "~").replace(folder, "~")
            for pattern, still in _STILL:
                text = re.sub(pattern, still, text)
            shown.append(f"$ {line}\n{text.rstrip()}\n")
    return "```console\n" + "\n".join(shown) + "```\n"


_STILL = (
    (r"; [0-9.]+ [KMG]iB are free", "; 812.40 GiB are free"),
    (r"(time +).*, measured just now", r"\g<1>1 s at 412 MiB/s, measured just now"),
    (
        r"(took +).*: (.*) over the network, .*/s in all",
        r"\g<1>1 s: \g<2> over the network, 301 MiB/s in all",
    ),
    (r"(pulled +)[0-9TZ:-]{20}", r"\g<1>2026-11-26T12:00:00Z"),
)


def xids() -> str:
    """The Xid catalogue."""
    from selfhost.catalog.xids import xids as every

    rows = [
        (
            str(xid.code), xid.meaning, xid.severity, xid.action.replace("_", " "),
            " → ".join(word for word in (xid.immediate, xid.later) if word) or "–", xid.note or "–",
        )
        for xid in every().values()
    ]  # fmt: skip
    return table(("Xid", "meaning", "class", "action", "NVIDIA: at once → if it goes on", "note"), rows)


def metrics() -> str:
    """Every metric of the exporter."""
    from selfhost.metrics import ENGINE_LABELS, GPU_LABELS, METRICS

    scopes = {"gpu": GPU_LABELS, "engine": ENGINE_LABELS, "node": ()}
    rows = [
        (
            f"`{metric.name}`", metric.kind, metric.help, ", ".join(scopes[metric.scope] + metric.labels) or "–",
            f"`{metric.dcgm.name}`" if metric.dcgm else "–",
        )
        for metric in METRICS
    ]  # fmt: skip
    return table(("metric", "type", "meaning", "labels", "with --dcgm-names also"), rows)


def checks() -> str:
    """Every check that a node with GPUs and engines gets, and where its rule is from."""
    from selfhost.health import Context, assess
    from selfhost.monitor import replay

    history = tuple(replay(RECORDING))
    found = assess(history, Context(now=history[-1].at)).checks
    sources = {check.code: check.source for check in found}
    return table(
        ("check", "its rule, and where that is from"), [(f"`{c}`", s) for c, s in sorted(sources.items())]
    )


def _help(words: list[str]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        run(app, [*words, "--help"])
    return out.getvalue()


def _rows(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, ...]]:
    for name, field in node.get("properties", {}).items():
        here = f"{path}{name}"
        kind = field.get("type", "enum" if "enum" in field else "constant")
        shown = " or ".join(kind) if isinstance(kind, list) else kind
        if "enum" in field:
            shown = " or ".join(f"`{value}`" for value in field["enum"])
        if "const" in field:
            shown = f"`{field['const']}`"
        yield (f"`{here}`", shown, field["description"])
        yield from _rows(field, f"{here}.")
        if "items" in field:
            yield from _rows(field["items"], f"{here}[].")


def schemas() -> str:
    """Every JSON output with its fields."""
    parts = []
    for path in sorted((ROOT / "selfhost/cli/schemas").glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        head = f"## {path.stem}\n\n{document['title']}. JSON Schema: `selfhost/cli/schemas/{path.name}`.\n"
        parts.append(f"{head}\n{table(('field', 'type', 'meaning'), _rows(document))}")
    return "\n".join(parts)


def engines() -> str:
    """Every engine: its releases, and what its manifests differ in."""
    from selfhost.catalog.accelerators import PLATFORMS
    from selfhost.engines import engine_names, get_engine, parse_engine, spelled
    from selfhost.errors import UnsupportedError

    rows, images = [], []
    for name in engine_names():
        engine, version = get_engine(name), parse_engine(name)
        probes, key = engine.probes(version), engine.key(version)
        takes = (
            "none: something before it has to check" if key is None else f"`{key.variable or key.file_flag}`"
        )
        rows.append(
            (
                name,
                f"{version.text} ({spelled(engine, engine.oldest)} to {spelled(engine, engine.newest)})",
                str(engine.port),
                f"`{probes.ready}`, `{probes.live}`, {probes.timeout_seconds} s",
                takes,
                "yes" if engine.drains(version) else "no",
                "none" if not engine.metrics(version) else f"`{engine.metrics_path}`",
                engine.sizing(version).because or "vLLM's own rules",
            )
        )
        for platform in PLATFORMS:
            with contextlib.suppress(UnsupportedError):
                images.append((name, platform, f"`{engine.image(version, platform).reference}`"))
    heads = (
        "engine",
        "release (known)",
        "port",
        "probes: ready, live, timeout",
        "key",
        "drains",
        "metrics",
        "memory is",
    )
    return table(heads, rows) + "\n" + table(("engine", "platform", "image of the default release"), images)


def gpus() -> str:
    """The GPU catalogue."""
    from selfhost.catalog.gpus import gpus as every
    from selfhost.cli.gpus import code_name, flops
    from selfhost.units import gib

    heads = (
        "id",
        "GPU",
        "GiB reported",
        "GiB usable",
        "known from",
        "GB/s",
        "bf16",
        "fp8",
        "fp4",
        "built for",
        "source",
    )
    rows = [
        (
            f"`{gpu.id}`", f"{gpu.vendor} {gpu.name}", gib(gpu.reported_bytes), gib(gpu.memory_bytes),
            gpu.usable_evidence, f"{gpu.bandwidth_bytes_per_second / 1e9:,.0f}", flops(gpu.bf16_flops),
            flops(gpu.fp8_flops), flops(gpu.fp4_flops), code_name(gpu), f"[{gpu.checked}]({gpu.source})",
        )
        for gpu in every()
    ]  # fmt: skip
    return table(heads, rows)


def models() -> str:
    """The bundled models."""
    from selfhost.catalog.models import models as every

    rows = [
        (
            f"`{entry.id}`", "–" if entry.parameters is None else f"{entry.parameters / 1e9:,.2f} B",
            entry.modality, entry.status, entry.licence or "–", f"[{entry.checked}]({entry.source})",
        )
        for entry in every()
    ]  # fmt: skip
    return table(("id", "parameters", "takes", "status", "licence", "source"), rows)


def licences() -> str:
    """The licence catalogue."""
    from selfhost.catalog.licences import licences as every
    from selfhost.cli.licences import KNOWN_BY

    rows = [
        (
            f"`{row.id}`", row.name, row.commercial, row.internal, row.research, ", ".join(row.terms) or "–",
            " ".join(row.obligations) or "–", KNOWN_BY[row.verification], f"[{row.checked}]({row.source})",
        )
        for row in every()
    ]  # fmt: skip
    heads = (
        "id",
        "licence",
        "commercial",
        "internal",
        "research",
        "asks for",
        "in sentences",
        "known by",
        "source",
    )
    return table(heads, rows)


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _linked(date: str, source: str | None) -> str:
    return date if source is None else f"[{date}]({source})"


def price_kinds() -> str:
    """Kinds of prices, what their rows are of, and how long they stay fresh."""
    from selfhost.catalog.prices import KINDS

    rows = [
        (f"`{name}`", kind.title, " → ".join(kind.keys), kind.unit, str(kind.fresh_days), kind.because)
        for name, kind in KINDS.items()
    ]
    return table(("table", "prices of", "rows by", "per, or in", "fresh for days", "because"), rows)


def prices() -> str:
    """The price catalogue."""
    from selfhost.catalog.prices import KINDS, load_prices

    parts = []
    for name, kind in KINDS.items():
        rows = [
            (
                f"`{row.key.partition('.')[2]}`", _amount(row.low), _amount(row.typical), _amount(row.high),
                row.currency or "–", row.confidence, str(len(row.seen)), _linked(row.date, row.source),
            )
            for row in load_prices().rows()
            if row.key.startswith(f"{name}.")
        ]  # fmt: skip
        heads = (kind.title, "low", "typical", "high", "in", "sure", "seen", "newest, best source")
        parts.append(f"### {name}\n\n{table(heads, rows)}")
    return "\n".join(parts)


def api_prices() -> str:
    """The catalogue's own rows of API prices."""
    from selfhost.api_prices.rows import own_models, own_prices

    rows = []
    for key, model in own_models().items():
        price = own_prices().get(key)
        name = (model.provider, f"`{model.model}`", model.kind)
        if price is None:
            rows.append((*name, "–", "–", "–", "–", model.unpriced or "–", "–"))
            continue
        cached = price.rates.cached_input
        terms = [
            *(["dearer long prompts"] if price.tiers else []),
            *(["hours"] if price.windows else []),
            *(["batches"] if price.batch else []),
        ]
        rows.append(
            (
                *name, _amount(price.rates.input), "–" if cached is None else _amount(cached),
                _amount(price.rates.output), price.currency, ", ".join(terms) or "–",
                f"{_linked(price.date, price.source)}, {price.confidence}",
            )
        )  # fmt: skip
    return table(("provider", "model", "kind", "input", "cached", "output", "in", "and", "read, sure"), rows)


def openness() -> str:
    """Models whose training is published."""
    from selfhost.catalog.openness import open_trainings

    rows = [
        (
            one.name, f"`{one.prefix}…`", one.data, "published" if one.code else "–", f"[{one.checked}]({one.source})",
        )
        for one in open_trainings()
    ]  # fmt: skip
    return table(("models", "repositories", "training data", "training code", "source"), rows)


def advice_rules() -> str:
    """Every rule and pitfall of the advice, in both languages."""
    from selfhost.advise.tables import pitfalls
    from selfhost.advise.tables import rules as every

    rows = sorted((*every(), *pitfalls()), key=lambda rule: rule.number)
    return table(
        ("rule", "id", "kind", "English", "中文"),
        ((str(one.number), f"`{one.id}`", one.kind, one.text["en"], one.text["zh"]) for one in rows),
    )


def advice_decisions() -> str:
    """The rows of the decision, in order."""
    from selfhost.advise.tables import decisions

    return table(
        ("#", "row", "where", "leads to", "rules", "otherwise"),
        (
            (
                str(number), f"`{row.id}`",
                _condition(row.when) + (f" and not ({_condition(row.unless)})" if row.unless else ""),
                row.path, ", ".join(map(str, row.rules)),
                ", ".join(f"{path} ({rule})" for path, rule in row.alternatives),
            )
            for number, row in enumerate(decisions(), start=1)
        ),
    )  # fmt: skip


def _condition(when: Any) -> str:
    """A condition of the advice in words."""
    parts = []
    for name, wanted in when.items():
        if name == "any":
            parts.append("(" + " or ".join(_condition(one) for one in wanted) + ")")
        else:
            parts.append(f"{name} {' or '.join(wanted) if isinstance(wanted, list) else wanted}")
    return ", ".join(parts) or "whatever else"


def advice_odds() -> str:
    """Answers at odds with each other."""
    from selfhost.advise.tables import odds

    rows = (
        (
            one.text["en"],
            one.text["zh"],
            ", ".join(f"`{key}`" for key in one.keys),
            " ".join(one.ways.get("en", ("an error",))),
        )
        for one in odds()
    )
    return table(("English", "中文", "answers", "ways out"), rows)


def advice_questions() -> str:
    """Every key of an answers file."""
    from selfhost.advise.tables import questions

    def takes(one: Any) -> str:
        return ", ".join(f"`{choice.value}`" for choice in one.choices) or one.unit or one.kind

    rows = (
        (
            f"`{one.key}`",
            one.ask["en"],
            takes(one),
            one.why["en"],
            ", ".join(map(str, one.rules)),
            ", ".join(one.also) or "–",
        )
        for one in questions()
    )
    return table(("key", "question", "takes", "why", "rules", "also called"), rows)


def speeds() -> str:
    """Estimated against measured speed, by limit, GPU and source."""
    import bench_throughput as bench

    def part(rows: Path, what: str) -> str:
        cases, skipped = bench.read(rows)
        errors = bench.compare(cases)
        lines = [
            (title, str(len(some)), f"{bench.quantile(some, 0.5):.1%}", f"{bench.quantile(some, 0.9):.1%}")
            for name in ("group", "number", "GPU", "source")
            for title, some in sorted(bench.grouped(errors, name).items())
        ]
        left = f"{len(skipped)} left out, as their model is not known or does not fit"
        return f"{what}: {len(cases)} measured deployments, {len(errors)} numbers; {left}.\n\n" + table(
            ("absolute error of", "numbers", "median", "90 % below"), lines
        )

    return part(bench.ROWS, "Fitted") + "\n" + part(bench.HELD_OUT, "Held out")


def allocations() -> str:
    """How selfhost's sizes compare with vLLM's own allocations, per architecture."""
    import bench_allocations as bench
    from bench_truth import bundled_cases

    scores = tuple(map(bench.score, bundled_cases()))
    found = bench.totals(scores)
    share = f"{100 * found.weights_right / found.cases:.1f} % right in weights"
    share += f", {100 * found.kv_right / found.cases:.1f} % in KV cache and capacity."
    rows = table(("architecture", *bench.HEADS[1:]), bench.rows(scores, by="architecture"))
    return f"{found.cases} cases of {found.models} models: {share}\n\n{rows}"


def start_ups() -> str:
    """How selfhost's available KV memory compares with start-up logs, largest errors first."""
    import bench_startups as bench

    starts = bench.starts()
    rows = [bench.start_row(item) for item in bench.worst(starts, 15)]
    return f"{bench.summary(bench.start_totals(starts))}\n\n{table(bench.START_HEADS, rows)}"


def peers() -> str:
    """Six models by selfhost and by other tools."""
    import bench_peers as bench

    results = json.loads(bench.RESULTS.read_text(encoding="utf-8"))
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    parts = [f"Measured on {results['measured']} with {versions}.\n"]
    parts += [table(heads, rows) for heads, rows in bench.tables(results)]
    return "\n".join(parts)


def exit_codes() -> str:
    """What each exit code means."""
    return table(("code", "meaning"), [(str(code), meaning) for code, meaning in EXIT_CODES.items()])


def errors() -> str:
    """Every class of error."""

    def below(kind: type[SelfhostError]) -> Iterator[type[SelfhostError]]:
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    rows = [
        (f"`{kind.__name__}`", str(kind.exit_code), (kind.__doc__ or "").strip().splitlines()[0])
        for kind in below(SelfhostError)
    ]
    return table(("kind", "exit code", "when"), rows)


def _first_line(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    lines = text.lstrip("\ufeff").splitlines()
    if not lines:
        return ""
    if path.suffix == ".py":
        return lines[0].strip('"').rstrip(".")
    comment = next((line for line in lines if line.startswith("#") and not line.startswith("#!")), "")
    return comment.lstrip("# ").rstrip(".")


def tree() -> str:
    """Every module of the package with its own first line."""
    lines: list[str] = []
    shown = (".py", ".toml", ".j2")
    for folder, _, names in sorted(os.walk(ROOT / "selfhost")):
        inside = Path(folder).relative_to(ROOT)
        if "__pycache__" in inside.parts or inside.name in ("models", "schemas"):
            continue
        files = [
            Path(folder) / name for name in sorted(names) if name.endswith(shown) and name != "__main__.py"
        ]
        if not files:
            continue
        head = Path(folder) / "__init__.py"
        if inside.name == "families":  # one file per family of models; docs/models.md lists what they read
            files = [head]
        lines.append(f"{inside}/".ljust(34) + (_first_line(head) if head in files else ""))
        lines += [f"  {file.name}".ljust(34) + _first_line(file) for file in files if file != head]
    return "```text\n" + "\n".join(line.rstrip() for line in lines) + "\n```\n"


def lint_rules() -> str:
    """Every rule of `selfhost lint`: a table, then each with its reason, fix and sources."""
    from selfhost.lint import rules

    rows = [
        (f"[{rule.code}](#{rule.code})", rule.severity, rule.title, "yes" if rule.fixable else "")
        for rule in rules()
    ]
    parts = [table(("code", "severity", "fault", "`--fix`"), rows)]
    for rule in rules():
        mends = " `--fix` writes it where the text is plain enough." if rule.fixable else ""
        if rule.compose:
            mends += f" In a Compose file: {rule.compose_fix}" if rule.compose_fix else " Compose files too."
        parts.append(
            f'### <a id="{rule.code}"></a>{rule.code}: {rule.title}\n\n{rule.severity}. {rule.reason}\n\n'
            f"Fix: {rule.fix}{mends}\n\nSource: {'; '.join(rule.sources)}.\n"
        )
    return "\n".join(parts)


def migration(part: str) -> str:
    """A part of the table from TGI to vLLM and SGLang."""
    from selfhost.migrate import ENGINES
    from selfhost.migrate import table as every

    rows = []
    for row in getattr(every(), part).values():
        cells = [f"`{row.name}`" + (f", `{row.flag}`" if row.flag not in (None, row.name) else "")]
        cells += [_becomes(row.outcomes[engine]) for engine in ENGINES]
        rows.append(tuple(cells))
    return table(("TGI", "vLLM", "SGLang"), rows)


def _becomes(outcome: Any) -> str:
    """What something of TGI becomes, and why; or that there is nothing, and what to do."""
    if outcome.values:
        values = (
            f"`{value}`: " + (f"`{' '.join(one.words)}`; " if one.words else "")
            + (one.because if not one.instead or one.before else f"no equivalent: {one.instead}")
            + (f" (before {one.before}; later none: {one.instead})" if one.before else "")
            for value, one in sorted(outcome.values.items())
        )  # fmt: skip
        return ". ".join(values)
    if outcome.to is None:
        return f"no equivalent: {outcome.instead}" if outcome.instead else outcome.because
    return f"`{outcome.to}`: {outcome.near or outcome.because}"


def migrated_settings() -> str:
    """Flags and variables of TGI in vLLM and SGLang."""
    return migration("settings")


def migrated_metrics() -> str:
    """Metrics of TGI in vLLM and SGLang."""
    return migration("metrics")


def migrated_endpoints() -> str:
    """What clients of TGI call in vLLM and SGLang."""
    return migration("endpoints")


def failures() -> str:
    """Every cause that a deployment which does not get ready may have, family by family."""
    from selfhost.deploy.causes import known

    families: dict[str, list[tuple[str, ...]]] = {}
    for one in known():
        families.setdefault(one.family, []).append((f"`{one.code}`", one.says, _sentence(one.way_out)))
    parts = [
        f"### {name}\n\n{table(('code', 'named when', 'way out'), rows)}" for name, rows in families.items()
    ]
    return "\n".join(parts)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


PARTS: dict[str, Callable[[], str]] = {
    part.__name__.strip("_").replace("_", "-"): part
    for part in (
        help_,
        commands,
        schemas,
        engines,
        gpus,
        models,
        licences,
        price_kinds,
        prices,
        api_prices,
        openness,
        advice_rules,
        advice_decisions,
        advice_odds,
        advice_questions,
        allocations,
        speeds,
        start_ups,
        peers,
        xids,
        metrics,
        checks,
        lint_rules,
        failures,
        migrated_settings,
        migrated_metrics,
        migrated_endpoints,
        exit_codes,
        errors,
        pull_example,
        tree,
    )
}


def fresh(page: Path) -> str:
    """A page's text with every generated part written again.

    Raises:
        KeyError: a part that nothing generates.
    """
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(RECORDING, folder)
        shutil.copytree(EXAMPLES, Path(folder, "examples"))

        def write(match: re.Match[str]) -> str:
            what = match[2]
            body = transcript(what, Path(folder)) if what.startswith("$ selfhost ") else PARTS[what]()
            return match[1] + body + match[4]

        return PART.sub(write, page.read_text(encoding="utf-8"))


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail when a page is out of date.")
def main(check: bool) -> None:
    """Write the generated parts of the pages."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "COLUMNS": "80", "NO_COLOR": "1", "TZ": "UTC"}
    time.tzset()
    stale = False
    for page in sorted(path for pattern in PAGES for path in ROOT.glob(pattern)):
        old, new = page.read_text(encoding="utf-8"), fresh(page)
        if old == new:
            continue
        stale = True
        name = str(page.relative_to(ROOT))
        if check:
            changes = difflib.unified_diff(
                old.splitlines(), new.splitlines(), name, "generated", lineterm="", n=1
            )
            print("\n".join(list(changes)[:40]))
        else:
            page.write_text(new, encoding="utf-8")
            print(f"wrote {name}")
    if check and stale:
        sys.exit("Out of date: `make docs` writes these pages again.")


if __name__ == "__main__":
    main()

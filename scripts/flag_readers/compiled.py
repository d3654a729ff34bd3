"""Parsers written in Rust, C++ and Go: TGI, llama.cpp and Ollama."""

from __future__ import annotations

import re
from pathlib import Path

from flag_readers import Option, Read


def tgi(tree: Path) -> Read:
    """TGI's launcher (clap: `#[clap(long, env)]` names the option and the variable after the field)."""
    text = (tree / "launcher/src/main.rs").read_text()
    read = Read()
    body = re.search(r"^struct Args \{(.*?)^\}", text, re.DOTALL | re.MULTILINE)
    assert body, "launcher/src/main.rs: struct Args"
    enums = {
        name: set(re.findall(r"^\s+(?:#\[clap\(name = \"([^\"]+)\"\)\]|)\s*([A-Z]\w*),", words, re.MULTILINE))
        for name, words in re.findall(r"^enum (\w+) \{(.*?)^\}", text, re.DOTALL | re.MULTILINE)
    }
    for clap, field, kind in re.findall(
        r"#\[clap\(((?:[^()\]]|\([^()]*\))*)\)\]\s*(?:pub )?(\w+):\s*([^,\n]+(?:<[^>]*>)?),", body.group(1)
    ):
        if "long" not in clap:
            continue
        option = Option(shape="switch" if kind.strip() == "bool" else "value")
        inner = re.sub(r"Option<(\w+)>", r"\1", kind.strip())
        if inner in enums:
            option.choices = {name or _kebab(variant) for name, variant in enums[inner]}
        short = re.search(r"\bshort(?: = '(\w)')?", clap)
        if short:
            option.aliases.add("-" + (short.group(1) or field[0]))
        read.options["--" + field.replace("_", "-")] = option
        named = re.search(r'env = "([A-Z_0-9]+)"', clap)
        if "env" in clap:
            read.variables.add(named.group(1) if named else field.upper())
    for path in sorted(tree.rglob("*.rs")):
        for kind, name in re.findall(
            r'metrics::(gauge|counter|histogram)!\(\s*"(tgi_\w+)"', path.read_text()
        ):
            read.metrics[name] = (kind, ())
    for path in [*sorted(tree.rglob("*.rs")), *sorted(tree.rglob("*.py"))]:
        found = path.read_text(errors="replace")
        read.variables |= set(re.findall(r"""env::var(?:_os)?\(\s*"([A-Z][A-Z0-9_]+)\"""", found))
        read.variables |= set(
            re.findall(r"""os\.(?:getenv|environ\.get)\(\s*["']([A-Z][A-Z0-9_]+)["']""", found)
        )
    return read


def _kebab(variant: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", variant).lower()


def llamacpp(tree: Path) -> Read:
    """llama.cpp's common/arg.cpp: `{"-c", "--ctx-size"}, "N", ...` with `set_env`; metrics of the server."""
    text = (tree / "common/arg.cpp").read_text()
    read = Read()
    # Of several options of one meaning the last spelling is the long one.
    for block in re.split(r"\badd_opt\(", text)[1:]:
        head = re.match(
            r"common_arg\(\s*\{([^}]*)\},\s*(?:\{([^}]*)\},\s*)?(\"(?:[^\"\\]|\\.)*\"\s*,\s*(?=[\"{]|string_format|\(?std))?",
            block,
        )
        if not head:
            continue
        names = re.findall(r'"(-[^"]+)"', head.group(1)) + re.findall(r'"(-[^"]+)"', head.group(2) or "")
        long = [name for name in names if name.startswith("--")] or names
        if not long:
            continue
        signature = re.search(r"\[[^\]]*\]\s*\(([^)]*)\)", block)
        takes_value = bool(signature and re.search(r"std::string|\bint\b|int value", signature.group(1)))
        read.options[long[0]] = Option(
            aliases=set(names) - {long[0]}, shape="value" if takes_value or head.group(3) else "switch"
        )
        read.variables |= set(re.findall(r'set_env\("([A-Z0-9_]+)"\)', block))
    for path in sorted(tree.rglob("*.cpp")):
        found = path.read_text(errors="replace")
        read.variables |= set(re.findall(r'getenv\("((?:LLAMA|GGML)_[A-Z0-9_]+)"\)', found))
        if "llamacpp:" in found:
            read.metrics.update(_llamacpp_metrics(found))
    return read


def _llamacpp_metrics(text: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Names of the table of metrics, which stands between its groups `counter` and `gauge`."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for name in re.findall(r"llamacpp:([a-z_]{4,})", text):
        found["llamacpp:" + name] = ("counter" if name.endswith("_total") else "gauge", ())
    for group, body in re.findall(r'\{\s*"(counter|gauge)",\s*\{(.*?)\}\}\s*\}', text, re.DOTALL):
        for name in re.findall(r'\{\s*"name",\s*"([a-z_]+)"', body):
            found["llamacpp:" + name] = (group, ())
    for group, body in re.findall(r"metric_item> (counter|gauge)s = \{(.*?)\n    \};", text, re.DOTALL):
        for name in re.findall(r'\{\s*"([a-z_]+)"', body):
            found["llamacpp:" + name] = (group, ())
    return found


def ollama(tree: Path) -> Read:
    """Ollama has no options that matter in a container: its environment is its configuration."""
    read = Read()
    folders = ("envconfig", "server", "llm", "discover", "runner", "api", "ml", "fs", "cmd")
    for folder in folders:
        for path in sorted((tree / folder).rglob("*.go")):
            if path.name.endswith("_test.go"):
                continue
            read.variables |= set(re.findall(r'"((?:OLLAMA)_[A-Z0-9_]+)"', path.read_text()))
    return read


def triton(tree: Path) -> Read:
    """Triton: the table of options in command_line_parser.cc and the tables of metrics in its user guide."""
    read = Read()
    text = (tree / "src/command_line_parser.cc").read_text()
    for name, kind in re.findall(r'\{OPTION_\w+,\s*"([a-z0-9-]+)",\s*(Option::Arg\w+|"[^"]*")', text):
        read.options["--" + name] = Option(shape="switch" if kind == "Option::ArgNone" else "value")
    guide = (tree / "docs/user_guide/metrics.md").read_text()
    # Triton's counters carry no `_total`: a gauge is what has one series of its own name here.
    for name in re.findall(r"`(nv_[a-z_]+)`", guide):
        kind = "summary" if "_summary_" in name else "histogram" if "histogram" in name else "gauge"
        read.metrics[name] = (kind, ())
    return read

"""Writes selfhost/catalog/engine_flags/<engine>.tsv from the sources of an engine's releases.

    python scripts/build_flags.py vllm DIRECTORY

DIRECTORY holds one unpacked source tree per release, named by it (`0.32.0`). Trees come from PyPI's source archives
(vLLM, llama-cpp-python for llama.cpp) and wheels (SGLang), and from tags (TGI, Ollama, Triton, by its image). Nothing
of a tree is run. The same trees give the same file.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from flag_readers import Read, compiled, python

OUT = Path(__file__).parents[1] / "selfhost" / "catalog" / "engine_flags"
READERS: dict[str, Callable[[Path], Read]] = {
    "vllm": python.vllm,
    "sglang": python.sglang,
    "tgi": compiled.tgi,
    "llamacpp": compiled.llamacpp,
    "ollama": compiled.ollama,
    "triton": compiled.triton,
}
COLUMNS = ("what", "name", "since", "until", "shape", "more")


def number(text: str) -> tuple[int, ...]:
    """A release as numbers."""
    return tuple(int(part) for part in re.findall(r"\d+", text))


def rows(reads: dict[str, Read]) -> list[tuple[str, ...]]:
    """One row for each option, value, variable and metric: first and last release that has it."""
    seen: dict[tuple[str, str], list[str]] = {}
    about: dict[tuple[str, str], tuple[str, str]] = {}
    changed: dict[str, str] = {}
    for release, read in reads.items():
        for name, option in read.options.items():
            key = ("flag", name)
            seen.setdefault(key, []).append(release)
            shape, _, _ = about.get(key, ("", ""))[0].partition("@")
            # A shape that changed says since when: `boolean@0.8.5`.
            if shape and shape != option.shape:
                changed[name] = release
            since = f"@{changed[name]}" if name in changed else ""
            about[key] = (option.shape + since, ",".join(sorted(option.aliases)) or "-")
            for choice in option.choices:
                seen.setdefault(("value", f"{name}={choice}"), []).append(release)
        for name in read.variables:
            seen.setdefault(("variable", name), []).append(release)
        for name, (kind, labels) in read.metrics.items():
            seen.setdefault(("metric", name), []).append(release)
            about["metric", name] = (kind, ",".join(labels) or "-")
    newest = list(reads)[-1]
    return [
        (
            what,
            name,
            releases[0],
            "-" if releases[-1] == newest else releases[-1],
            *about.get((what, name), ("-", "-")),
        )
        for (what, name), releases in sorted(seen.items())
    ]


def main() -> None:
    """Reads every tree of a directory and writes the engine's table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engine", choices=READERS)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--source", default="", help="where the trees are from, for the head of the file")
    given = parser.parse_args()
    trees = sorted(
        (path for path in given.directory.iterdir() if path.is_dir()), key=lambda path: number(path.name)
    )
    reads = {tree.name: READERS[given.engine](tree) for tree in trees}
    for release, read in reads.items():
        counts = f"{len(read.options)} options, {len(read.variables)} variables, {len(read.metrics)} metrics"
        print(f"{given.engine} {release}: {counts}")
    lines = [
        "# Written by scripts/build_flags.py; do not edit.",
        f"# Source: {given.source or 'source trees of the releases'}.",
        "# until is the last release read that has it; `-` where the newest has it still.",
        "# releases: " + " ".join(reads),
        "\t".join(COLUMNS),
        *("\t".join(row) for row in rows(reads)),
    ]
    OUT.mkdir(exist_ok=True)
    (OUT / f"{given.engine}.tsv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

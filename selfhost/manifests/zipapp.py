"""selfhost.pyz: `selfhost pull` and the modules it needs in one file, which the Python of an engine's image runs.

No image with selfhost in it is published, and a cluster may have no way out to fetch it. So the command travels with
the manifests, in a ConfigMap, and finds its few dependencies (huggingface_hub, click, filelock, hf_xet) in the engine's
image.
"""

from __future__ import annotations

import ast
import io
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ARCHIVE_FILE = "selfhost.pyz"
COMMANDS = ("pull",)
# What its functions import stays behind: --to and --serve are no part of a download Job.
SHALLOW = frozenset(("selfhost.cli._pull_onward",))
# A ConfigMap holds 1 MiB (Kubernetes' documentation, "ConfigMaps"), but `kubectl apply` keeps a second copy of it in an
# annotation. Annotations of an object may have 256 KiB (apimachinery, api/validation/objectmeta.go), and base64 makes
# four bytes of three.
LARGEST_BYTES = 180 * 1024
# The first line of the file, in front of the archive; Python looks for the archive at the end.
HEAD = b"# Written by selfhost render: what `selfhost pull` needs, as a zip archive that python3 runs.\n"

_ROOT = Path(__file__).parent.parent
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that the format has
_MODE = 0o100644 << 16
# The command line without its listing of commands, which reads a folder.
_MAIN = """\
import sys
from importlib.metadata import PackageNotFoundError, version

for name, least in {needed!r}.items():
    try:
        found = version(name)
    except PackageNotFoundError:
        found = "0"
    if int(found.partition(".")[0]) < least:
        has = f"{{name}} {{found}}" if found != "0" else f"no {{name}}"
        print(f"Error: This image has {{has}}; selfhost pull needs {{least}}.0 or newer.", file=sys.stderr)
        sys.exit("Hint: Render again with --pull-image, an image that has selfhost installed.")

import click

from selfhost import __version__
from selfhost.cli._errors import run
{imports}

app = click.Group("selfhost", help="The part of selfhost that fetches weights.")
app = click.version_option(__version__, prog_name="selfhost", message="%(prog)s %(version)s")(app)
{commands}
sys.exit(run(app, sys.argv[1:]))
"""
_NEEDED = {"huggingface_hub": 1, "click": 8, "filelock": 3}  # distribution -> least major version


@cache
def pull_archive() -> bytes:
    """The archive: equal sources give equal bytes.

    Start it with `python3 selfhost.pyz pull MODEL`.
    """
    files = {"__main__.py": _main().encode()}
    for path, source in modules().values():
        files[_inside(path)] = source
        files |= {_inside(data): data.read_bytes() for data in _data_files(path, source)}
    out = io.BytesIO()
    out.write(HEAD)
    with zipfile.ZipFile(out, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system, entry.external_attr = 3, _MODE  # the same on every system
            archive.writestr(entry, files[name], zipfile.ZIP_DEFLATED, 9)
    return out.getvalue()


@cache
def modules() -> dict[str, tuple[Path, bytes]]:
    """Modules of selfhost that the commands import, at once or in a function, and the packages around them.

    Found by following imports in the sources, so that a new module is in the archive without being listed.

    Returns:
        Name -> source file and its content.
    """
    found: dict[str, tuple[Path, bytes]] = {}
    wanted = ["selfhost.cli._errors", *(f"selfhost.cli.{name}" for name in COMMANDS)]
    while wanted:
        name = wanted.pop()
        path = _source(name) if name and name not in found else None
        if path is not None:
            source = path.read_bytes()
            found[name] = path, source
            wanted += [name.rpartition(".")[0], *imported(ast.parse(source), deep=name not in SHALLOW)]
    return found


def imported(node: ast.AST, *, deep: bool = True) -> Iterator[str]:
    """Names that a module may import, as far as it runs in a pod.

    What only a type checker imports is left out, and what completes words in a shell (functions called `complete…`).

    Args:
        node: a module, or a statement in it.
        deep: also what functions import when they run.
    """
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        blocks = [node.orelse]
    elif isinstance(node, ast.FunctionDef) and (not deep or node.name.lstrip("_").startswith("complete")):
        blocks = []
    else:
        blocks = [getattr(node, name, []) for name in ("body", "orelse", "finalbody", "handlers", "cases")]
    for statement in (statement for block in blocks for statement in block):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            yield str(statement.module)
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)
        else:
            yield from imported(statement, deep=deep)


def _source(name: str) -> Path | None:
    """Source file of one of selfhost's modules; None for a name inside of one, and for other people's modules."""
    first, *rest = name.split(".")
    if first != _ROOT.name:
        return None
    path = _ROOT.joinpath(*rest)
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def _data_files(module: Path, source: bytes) -> Iterator[Path]:
    """Files beside a module that it names in a string of its own."""
    beside = {path.name: path for path in module.parent.iterdir() if path.suffix not in ("", ".py")}
    for node in ast.walk(ast.parse(source)) if beside else ():
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in beside:
            yield beside[node.value]


def _inside(path: Path) -> str:
    return path.relative_to(_ROOT.parent).as_posix()


def _main() -> str:
    imports = "\n".join(f"from selfhost.cli import {name}" for name in COMMANDS)
    commands = "\n".join(f'app.add_command({name}.command, "{name}")' for name in COMMANDS)
    return _MAIN.format(needed=_NEEDED, imports=imports, commands=commands)

"""selfhost.pyz: a command of selfhost and the modules it needs, which the Python of an engine's image runs.

No image with selfhost in it is published, and a cluster may have no way out to fetch it. So the command travels with
the manifests, in a ConfigMap, and finds its few dependencies in the engine's image: `selfhost pull` huggingface_hub,
click, filelock and hf_xet, `selfhost monitor` click, prometheus_client, rich, grpcio and protobuf.
"""

from __future__ import annotations

import ast
import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from selfhost.errors import OutputError

ARCHIVE_FILE = "selfhost.pyz"
# A ConfigMap holds 1 MiB (Kubernetes' documentation, "ConfigMaps"), but `kubectl apply` keeps a second copy of it in an
# annotation. Annotations of an object may have 256 KiB (apimachinery, api/validation/objectmeta.go), and base64 makes
# four bytes of three.
LARGEST_BYTES = 180 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What an archive is made for.

    Args:
        commands: names of the commands in it.
        shallow: modules of which what their functions import stays behind.
        closed: packages that list their own modules, of which only what somebody imports by name comes along.
        needed: distribution of the image -> least major version.
        option: of `selfhost render`, names an image that has selfhost.
        distributions: module of somebody else's -> its distribution; the module is one file and travels along.
    """

    commands: tuple[str, ...]
    shallow: frozenset[str]
    closed: frozenset[str] = frozenset()
    needed: tuple[tuple[str, int], ...]
    option: str
    distributions: tuple[tuple[str, str], ...] = ()


PULL = Part(
    commands=("pull",),
    shallow=frozenset(("selfhost.cli._pull_onward",)),  # --to and --serve are no part of a download Job
    needed=(("huggingface_hub", 1), ("click", 8), ("filelock", 3)),
    option="--pull-image",
)
MONITOR = Part(
    commands=("monitor", "health"),
    shallow=frozenset(),
    closed=frozenset(("selfhost.model.families",)),  # a plan is read, not made: no architecture is needed
    needed=(("click", 8), ("prometheus_client", 0), ("rich", 13)),
    option="--monitor-image",
    distributions=(("pynvml", "nvidia-ml-py"),),  # BSD, one file that begins with its licence
)
# The first line of the file, in front of the archive; Python looks for the archive at the end.
_HEAD = "# Written by selfhost render: what `selfhost {first}` needs, as a zip archive that python3 runs.\n"

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
        found = None
    if found is None or int(found.partition(".")[0]) < least:
        has = f"{{name}} {{found}}" if found else f"no {{name}}"
        print(f"Error: This image has {{has}}; selfhost {first} needs {{least}}.0 or newer.", file=sys.stderr)
        sys.exit("Hint: Render again with {option}, an image that has selfhost installed.")
{more}
import click

from selfhost import __version__
from selfhost.cli._errors import run
{imports}

app = click.Group("selfhost", help="The part of selfhost that {does}.")
app = click.version_option(__version__, prog_name="selfhost", message="%(prog)s %(version)s")(app)
{commands}
sys.exit(run(app, sys.argv[1:]))
"""
# Where one archive does not hold it all, the first finds the others beside itself.
_MORE = """
import os

import selfhost

for name in {others!r}:
    path = os.path.join(os.path.dirname(os.path.abspath(sys.path[0])), name)
    sys.path.insert(1, path)
    selfhost.__path__.append(os.path.join(path, "selfhost"))
"""
_DOES = {"pull": "fetches weights", "monitor": "watches GPUs and engines"}


def pull_archive() -> bytes:
    """The archive of the download Job: equal sources give equal bytes.

    Start it with `python3 selfhost.pyz pull MODEL`.
    """
    (data,) = archives(PULL).values()
    return data


@cache
def archives(part: Part) -> dict[str, bytes]:
    """The archives of a part, each small enough for a ConfigMap; the first is started, the others lie beside it.

    Returns:
        File name -> content. Equal sources give equal bytes.

    Raises:
        OutputError: one package alone is too large for an archive.
    """
    shares: list[dict[str, bytes]] = []
    room: list[int] = []
    for files in _units(part):  # each into the first archive that has room for it
        size = sum(_packed_bytes(name, data) for name, data in files.items())
        at = next((at for at, left in enumerate(room) if size <= left), len(shares))
        if at == len(shares):
            shares.append({})
            room.append(LARGEST_BYTES - 4096)  # the list at the end, and a __main__ that names the others
        shares[at].update(files)
        room[at] -= size
    names = [ARCHIVE_FILE, *(f"selfhost-{number}.pyz" for number in range(2, len(shares) + 1))]
    shares[0]["__main__.py"] = _main(part, names[1:]).encode()
    made = {name: _zip(files, part) for name, files in zip(names, shares, strict=True)}
    if any(len(data) > LARGEST_BYTES for data in made.values()):
        raise OutputError("A package of selfhost is too large for a ConfigMap.")
    return made


def _units(part: Part) -> list[dict[str, bytes]]:
    """Files that have to stay together, largest first: each package or module directly below selfhost.

    The first are selfhost's own, its command line and what starts it.
    """
    units: dict[str, dict[str, bytes]] = {"": {"__main__.py": _main(part, []).encode()}}
    for name, (path, source) in modules(part).items():
        unit = name.split(".")[1] if "." in name else ""
        unit = "" if unit == "cli" else unit
        files = units.setdefault(unit, {})
        files[_inside(path)] = source
        files |= {_inside(data): data.read_bytes() for data in _data_files(path, source)}
    for module, distribution in part.distributions:
        units[f"{module}.py"] = {f"{module}.py": _foreign(module, distribution)}
    others = sorted(
        (name for name in units if name), key=lambda name: (-sum(map(len, units[name].values())), name)
    )
    return [units[""], *(units[name] for name in others)]


def _foreign(module: str, distribution: str) -> bytes:
    """Source of a module of one file, as it is installed here.

    Raises:
        OutputError: it is not installed.
    """
    from importlib.metadata import PackageNotFoundError, files

    try:
        found = [file for file in files(distribution) or () if str(file) == f"{module}.py"]
    except PackageNotFoundError:
        found = []
    if not found:
        raise OutputError(
            f"{distribution} is not installed, which the monitor's archive takes {module}.py from.",
            hint=f"Install {distribution}, or name an image that has selfhost with --monitor-image.",
        )
    return Path(str(found[0].locate())).read_bytes()


def _packed_bytes(name: str, data: bytes) -> int:
    """What a file takes in an archive: its header, its entry in the list at the end (APPNOTE.TXT 4.3) and its bytes."""
    return 30 + 46 + 2 * len(name.encode()) + len(zlib.compress(data, 9))


def _zip(files: dict[str, bytes], part: Part) -> bytes:
    out = io.BytesIO()
    out.write(_HEAD.format(first=part.commands[0]).encode())
    with zipfile.ZipFile(out, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system, entry.external_attr = 3, _MODE  # the same on every system
            archive.writestr(entry, files[name], zipfile.ZIP_DEFLATED, 9)
    return out.getvalue()


@cache
def modules(part: Part = PULL) -> dict[str, tuple[Path, bytes]]:
    """Modules of selfhost that the commands import, at once or in a function, and the packages around them.

    Found by following imports in the sources, so that a new module is in the archive without being listed. A package
    that lists its own modules (`iter_modules(__path__)`) brings them all.

    Returns:
        Name -> source file and its content.
    """
    found: dict[str, tuple[Path, bytes]] = {}
    wanted = ["selfhost.cli._errors", *(f"selfhost.cli.{name}" for name in part.commands)]
    while wanted:
        name = wanted.pop()
        path = _source(name) if name and name not in found else None
        if path is not None:
            source = path.read_bytes()
            found[name] = path, source
            wanted += [name.rpartition(".")[0], *imported(ast.parse(source), deep=name not in part.shallow)]
            if b"iter_modules(__path__)" in source and name not in part.closed:
                wanted += [f"{name}.{beside.stem}" for beside in sorted(path.parent.iterdir())]
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


def _main(part: Part, others: list[str]) -> str:
    return _MAIN.format(
        needed=dict(part.needed),
        first=part.commands[0],
        option=part.option,
        does=_DOES[part.commands[0]],
        more=_MORE.format(others=others) if others else "",
        imports="\n".join(f"from selfhost.cli import {name}" for name in part.commands),
        commands="\n".join(f'app.add_command({name}.command, "{name}")' for name in part.commands),
    )

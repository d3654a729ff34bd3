"""Pickled weights -> Findings: whether a file would do more than rebuild tensors when loaded. Nothing is loaded.

Only names on a list are good: those that PyTorch itself lets pass with `weights_only=True`, and numpy's arrays and
numbers. Everything else is a finding, and so is whatever cannot be followed to its end. A file without findings "holds
only tensors", which is not a promise that it is safe.

picklescan 1.0.5 (MIT) was weighed for this and adds nothing. It looks for bad names: `importlib.import_module`,
`marshal.loads` and `multiprocessing.util.spawnv_passfds` count as suspicious and the file as clean. Its `strict` knows
fewer of the names that tensors need than PyTorch's own list. It reads a name from the opcodes before an import instead
of from the stack, gathers all opcodes in memory, takes what is no pickle for clean, and unpacks 7z onto the disk.
"""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from selfhost.errors import VerifyError
from selfhost.hub.references import shown
from selfhost.pull.opcodes import BrokenError, Seen, follow
from selfhost.pull.pickle_names import REBUILDING, runs_code

Format = Literal["torch", "torch-legacy", "pickle", "unknown"]
Kind = Literal["dangerous", "unlisted", "odd", "unreadable"]

MAXIMUM_DIRECTORY_BYTES = 8 << 20  # of a zip archive; PyTorch writes about 90 bytes for each tensor
MAXIMUM_PROGRAM_BYTES = 256 << 20  # data.pkl, which holds no tensor's data; 10,000 tensors take about 2 MB
MAXIMUM_PICKLES = 1000  # in a row
SHOWN_FINDINGS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that tensors do not need.

    Args:
        kind: `dangerous` can run commands, `unlisted` is another name, `odd` is in no file that PyTorch writes,
            `unreadable` could not be followed.
        what: a part of a sentence with the file as its subject.
    """

    kind: Kind
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a file would do when loaded.

    Args:
        path: the file.
        format: how it is packed.
        names: everything that it imports.
        found: findings, the gravest first.
    """

    path: Path
    format: Format
    names: tuple[str, ...]
    found: tuple[Finding, ...]

    @property
    def clean(self) -> bool:
        """Whether it holds only tensors and plain values."""
        return not self.found

    @property
    def sentence(self) -> str:
        """What was found, without a full stop."""
        if self.clean:
            return f"{self.path.name} holds only tensors"
        more = len(self.found) - SHOWN_FINDINGS
        whats = [finding.what for finding in self.found[:SHOWN_FINDINGS]]
        return "it " + ", ".join(whats) + (f", and {more} more" if more > 0 else "")


def scan(path: Path) -> Findings:
    """Look into a file with pickles, in the order in which `torch.load` decides what it is (torch/serialization.py).

    Args:
        path: the file; links are followed.

    Raises:
        VerifyError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return _Scan(path).run(stream)
    except OSError as error:
        raise VerifyError(
            f"{path} cannot be read: {error.strerror or error}.", hint="check the file's permissions."
        ) from None


class _Scan:
    """One scan: what was seen so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen = Seen()
        self.unreadable: str | None = None

    def run(self, stream: io.BufferedReader) -> Findings:
        start = stream.read(tarfile.BLOCKSIZE)
        stream.seek(0)
        kind: Format = "unknown"
        try:
            if start.startswith(_ZIP):
                kind = "torch"
                self.archive(stream)
            else:
                _refuse_others(start)
                kind = "torch-legacy" if start.startswith(_LEGACY) else "pickle"
                self.pickles(stream, legacy=kind == "torch-legacy")
        except BrokenError as error:
            self.unreadable = str(error)
        return Findings(path=self.path, format=kind, names=tuple(self.seen.names), found=self.found())

    def found(self) -> tuple[Finding, ...]:
        names = [name for name in self.seen.names if name not in REBUILDING]
        return (
            *(
                Finding(kind="dangerous", what=f"imports {shown(n)}, which can run commands")
                for n in names
                if runs_code(n)
            ),
            *(Finding(kind="unlisted", what=f"imports {shown(n)}") for n in names if not runs_code(n)),
            *(Finding(kind="odd", what=what) for what in self.seen.faults),
            *(Finding(kind="unreadable", what=what) for what in [self.unreadable] if what is not None),
        )

    def pickles(self, stream: io.BufferedReader, *, legacy: bool) -> None:
        """Pickles in a row: of PyTorch before 1.6 five and then the tensors' bytes, else up to the end of the file."""
        for number in range(MAXIMUM_PICKLES):
            if legacy and number == _LEGACY_PICKLES:
                return
            if number and not legacy and not stream.peek(1):
                return
            try:
                follow(stream, self.seen)
            except BrokenError as error:
                where = f"at byte {stream.tell():,}" if number else "as a pickle"
                raise BrokenError(f"cannot be read {where}: it {error}") from None
        raise BrokenError(f"has more than {MAXIMUM_PICKLES:,} pickles in a row")

    def archive(self, stream: io.BufferedReader) -> None:
        """A zip archive, of which `torch.load` unpickles data.pkl and takes data/N as bytes."""
        _check_end(stream)
        try:
            with zipfile.ZipFile(_Bounded(stream)) as archive:
                program = self.members(archive.infolist())
                with archive.open(program) as packed:
                    self.program(packed)
        except (
            zipfile.BadZipFile,
            zlib.error,
            NotImplementedError,
            RuntimeError,
            EOFError,
            ValueError,
        ) as error:
            raise BrokenError(f"is a damaged archive ({shown(str(error), 80)})") from None

    def members(self, members: list[zipfile.ZipInfo]) -> zipfile.ZipInfo:
        """Hold the names against what PyTorch writes; gives data.pkl."""
        seen: set[str] = set()
        program = None
        top = members[0].filename.partition("/")[0] if members else ""
        for member in members:
            name = member.filename
            key = name.casefold()
            if key in seen or member.orig_filename != name:
                self.seen.fault(f"has two files called {shown(name, 80)!r}, or one under two names")
            seen.add(key)
            folder, _, rest = name.partition("/")
            if rest == "data.pkl" and folder == top:
                program = member
            elif folder != top or not _is_data(rest):
                script = rest.startswith("code/") or rest == "constants.pkl"
                what = "a TorchScript program" if script else shown(name, 80)
                self.seen.fault(f"holds {what} beside its tensors")
        if program is None:
            raise BrokenError("is an archive without PyTorch's data.pkl")
        if program.flag_bits & _ENCRYPTED:
            raise BrokenError("is an encrypted archive")
        if program.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # all that miniz knows
            raise BrokenError("packs its data.pkl in an unusual way")
        if program.file_size > MAXIMUM_PROGRAM_BYTES:
            raise BrokenError(f"has a data.pkl of {program.file_size:,} bytes")
        return program

    def program(self, packed: IO[bytes]) -> None:
        with io.BufferedReader(packed) as stream:  # type: ignore[type-var]
            try:
                follow(stream, self.seen)
            except BrokenError as error:
                raise BrokenError(f"has a data.pkl that cannot be read: it {error}") from None
            if stream.read(1):
                self.seen.fault("has bytes behind the end of its data.pkl")


class _Bounded:
    """A file of which `zipfile` cannot read a whole directory of gigabytes at once."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self.seek = stream.seek
        self.tell = stream.tell
        self.seekable = stream.seekable

    def read(self, count: int = -1) -> bytes:
        data = self._stream.read(
            count if 0 <= count <= MAXIMUM_DIRECTORY_BYTES else MAXIMUM_DIRECTORY_BYTES + 1
        )
        if len(data) > MAXIMUM_DIRECTORY_BYTES:
            raise BrokenError("has a directory longer than that of any checkpoint")
        return data


def _check_end(stream: io.BufferedReader) -> None:
    """Refuse an archive of which another reader could see another directory than `zipfile` does.

    PyTorch reads with miniz, which goes by the offsets that the end of the archive states; `zipfile` tolerates bytes in
    between and looks for the end in several places. Only where all agree is what was scanned what will be loaded.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _TAIL))
    tail = stream.read()
    stream.seek(0)
    end = tail[-22:]
    if len(end) < 22 or not end.startswith(b"PK\5\6") or end[20:] != b"\0\0":
        raise BrokenError("does not end as an archive of PyTorch does")
    at = size - 22
    length, offset = struct.unpack("<II", end[12:20])
    locator = tail[-42:-22]
    if locator.startswith(b"PK\6\7"):
        at -= 20 + 56
        (stated,) = struct.unpack("<Q", locator[8:16])
        large = tail[-98:-42]
        if stated != at or not large.startswith(b"PK\6\6"):
            raise BrokenError("states the place of its directory in two ways")
        length, offset = struct.unpack("<QQ", large[40:56])
    if offset + length != at:
        raise BrokenError("states the place of its directory in two ways")


def _refuse_others(start: bytes) -> None:
    """Archives that hold pickles and are not followed.

    Raises:
        BrokenError: it is one of them.
    """
    if not start:
        raise BrokenError("is empty")
    for magic, name in _OTHERS.items():
        if start.startswith(magic):
            raise BrokenError(f"is {name}, which is not looked into")
    try:
        tarfile.TarInfo.frombuf(start, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return
    raise BrokenError("is a tar archive, as PyTorch wrote them before 0.1.10, which is not looked into")


def _is_data(name: str) -> bool:
    """Whether `torch.load` takes a member as bytes."""
    return name in _PLAIN_MEMBERS or (name.startswith("data/") and name.count("/") == 1)


_ZIP = b"PK\3\4"
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
)
_ENCRYPTED = 1
_TAIL = 128
# The number with which PyTorch before 1.6 begins, pickled (MAGIC_NUMBER in torch/serialization.py); then come version,
# system, tensors and the keys of their bytes.
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_LEGACY_PICKLES = 5
_PLAIN_MEMBERS = ("version", "byteorder", ".data/serialization_id", ".format_version", ".storage_alignment")
_OTHERS = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"\x04\x22\x4d\x18": "an lz4 file",
    b"GGUF": "a GGUF file under another name",
    b"\x93NUMPY": "a numpy file under another name",
    b"\x89HDF": "an HDF5 file under another name",
}

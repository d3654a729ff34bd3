"""Pickled weights: what PyTorch writes is clean; everything that would do more, or cannot be followed, is a finding."""

from __future__ import annotations

import io
import pickle
import random
import struct
import tarfile
import tracemalloc
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfhost.errors import VerifyError
from selfhost.pull import opcodes, pickles
from selfhost.pull.pickles import Findings, scan

MAGIC = 0x1950A86A20F9469CFC6C  # torch/serialization.py, MAGIC_NUMBER

# {"w": a tensor}, as torch.save of 2.13 writes it; `%s` stands where a legacy file names the view.
TENSORS = (
    b"\x80\x02}q\x00X\x01\x00\x00\x00wq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\x00\x00\x00storageq\x03"
    b"ctorch\nFloatStorage\nq\x04X\x01\x00\x00\x000q\x05X\x03\x00\x00\x00cpuq\x06K\x02tq\x07QK\x00K\x02\x85q\x08K\x01"
    b"\x85q\t\x89ccollections\nOrderedDict\nq\n)Rq\x0btq\x0cRq\rs."
)
MEMBERS: Mapping[str, bytes] = {
    "archive/data.pkl": TENSORS,
    "archive/.format_version": b"1",
    "archive/.storage_alignment": b"64",
    "archive/byteorder": b"little",
    "archive/data/0": b"\x80\x02cos\nsystem\n.",  # a tensor's bytes, which nobody unpickles
    "archive/version": b"3\n",
    "archive/.data/serialization_id": b"0636067198576868467415",
}
SYSTEM = b"cos\nsystem\n(X\x02\x00\x00\x00idtR."


def archive(members: Mapping[str, bytes] = MEMBERS, *, method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    return out.getvalue()


def legacy(program: bytes = TENSORS) -> bytes:
    parts = [MAGIC, 1001, {"protocol_version": 1001, "little_endian": True}]
    first = b"".join(pickle.dumps(part, protocol=2) for part in parts)
    return first + program + pickle.dumps(["0"], protocol=2) + struct.pack("<qff", 2, 1.0, 2.0)


@pytest.fixture
def look(tmp_path: Path) -> Any:
    def scan_bytes(data: bytes) -> Findings:
        path = tmp_path / "pytorch_model.bin"
        path.write_bytes(data)
        return scan(path)

    return scan_bytes


def kinds(findings: Findings) -> list[str]:
    return [finding.kind for finding in findings.found]


# What tensors need.


def test_what_pytorch_writes_holds_only_tensors(look: Any) -> None:
    for data, kind in ((archive(), "torch"), (legacy(), "torch-legacy"), (archive(method=8), "torch")):
        findings = look(data)
        assert findings.clean
        assert findings.format == kind
        assert findings.sentence == "pytorch_model.bin holds only tensors"
        assert set(findings.names) == {
            "torch._utils._rebuild_tensor_v2",
            "torch.FloatStorage",
            "collections.OrderedDict",
        }


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_and_numpy(look: Any, protocol: int) -> None:
    value = {
        "step": 3, "long": 1 << 200, "huge": 1 << 3000, "negative": -5, "rate": 1e-4, "name": "überlang", "none": None,
        "list": [1, (2, 3), {4}, frozenset({5})], "bytes": b"\0\xff", "empty": b"", "array": bytearray(b"ab"),
        "true": True, "ordered": OrderedDict(a=1), "complex": 1 + 2j, "long text": "x" * 70_000,
        "weights": numpy.ones((3, 4), numpy.float32), "number": numpy.int64(4),
        "fortran": numpy.ones((2, 2), order="F"),
    }  # fmt: skip
    findings = look(pickle.dumps(value, protocol=protocol))
    assert findings.found == ()
    assert findings.format == "pickle"


def test_several_pickles_in_a_row(look: Any) -> None:
    assert look(pickle.dumps(1) + pickle.dumps(2)).clean
    findings = look(pickle.dumps(1) + pickle.dumps(2, protocol=0)[:-1] + SYSTEM)
    assert kinds(findings) == ["dangerous"]
    assert not look(pickle.dumps(1) + b"rest").clean


def test_a_zip64_archive_is_read(look: Any) -> None:
    data = archive()
    end = len(data) - 22
    length, offset = struct.unpack("<II", data[end + 12 : end + 20])
    count = len(MEMBERS)
    large = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, offset)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    assert look(data[:end] + large + locator + data[end:]).clean
    elsewhere = struct.pack("<4sIQI", b"PK\6\7", 0, end - 1, 1)
    assert "two ways" in look(data[:end] + large + elsewhere + data[end:]).sentence


# What does more.

TEXT = {
    name: b"\x8c" + bytes((len(name),)) + name.encode()
    for name in ("os", "system", "collections", "OrderedDict")
}
IMPORTS = {
    "by name": b"cos\nsystem\n",
    "from the stack": TEXT["os"] + TEXT["system"] + b"\x93",
    "from the memo": TEXT["system"] + b"\x940" + TEXT["os"] + b"h\x00\x93",
    "from the memo by a long number": TEXT["os"]
    + b"r\xff\x00\x00\x000"
    + b"j\xff\x00\x00\x00"
    + TEXT["system"]
    + b"\x93",
    "from the memo in words": TEXT["os"] + b"p77\n0g77\n" + TEXT["system"] + b"\x93",
    "below a decoy": TEXT["os"] + TEXT["system"] + TEXT["collections"] + TEXT["OrderedDict"] + b"00\x93",
    "behind a marked decoy": TEXT["os"]
    + TEXT["system"]
    + b"("
    + TEXT["collections"]
    + TEXT["OrderedDict"]
    + b"1\x93",
    "overwritten in the memo": TEXT["collections"]
    + b"q\x010"
    + TEXT["os"]
    + b"q\x010h\x01"
    + TEXT["system"]
    + b"\x93",
    "doubled": b"Vsystem\nq\x000" + TEXT["os"] + b"2q\x010h\x00\x93",
    "as text of Python 2": b"S'os'\nU\x06system\x93",
    "as long text": b"X\x02\x00\x00\x00os\x8d\x06\x00\x00\x00\x00\x00\x00\x00system\x93",
}


@pytest.mark.parametrize("how", IMPORTS)
@pytest.mark.parametrize("frame", [False, True])
def test_an_import_is_seen_however_it_is_written(look: Any, how: str, frame: bool) -> None:
    body = IMPORTS[how] + b"X\x02\x00\x00\x00id\x85R."
    framed = b"\x95" + struct.pack("<Q", len(body)) + body if frame else body
    for data in (b"\x80\x04" + framed, archive({**MEMBERS, "archive/data.pkl": b"\x80\x04" + framed})):
        findings = look(data)
        assert findings.names == ("os.system",)
        assert kinds(findings) == ["dangerous"]
        assert findings.sentence == "it imports os.system, which can run commands"


@pytest.mark.parametrize(
    ("program", "names"),
    [
        (b"(X\x02\x00\x00\x00idios\nsystem\n.", ("os.system",)),
        (b"(cos\nsystem\nX\x02\x00\x00\x00ido.", ("os.system",)),
        (b"\x80\x04cos\nsystem\n)}\x92.", ("os.system",)),
        (b"\x80\x02cos\nsystem\n)\x81.", ("os.system",)),
        (b"cos\nsystem\n0K\x01.", ("os.system",)),
        (b"c__builtin__\neval\n(V1\ntR.", ("__builtin__.eval",)),
        (b"cimportlib\nimport_module\n(Vos\ntR.", ("importlib.import_module",)),
        (b"ctorch.storage\n_load_from_bytes\n(Vx\ntR.", ("torch.storage._load_from_bytes",)),
        (b"ccollections\nOrderedDict.__init__\n.", ("collections.OrderedDict.__init__",)),
        (b"ccollections\nordereddict\n.", ("collections.ordereddict",)),
        (b"ccollections \nOrderedDict\n.", ("collections .OrderedDict",)),
        (b"ctorch._utils\n_rebuild_tensor_v2\r\n.", ("torch._utils._rebuild_tensor_v2\r",)),
    ],
)
def test_any_name_that_is_not_listed_is_a_finding(look: Any, program: bytes, names: tuple[str, ...]) -> None:
    findings = look(program)
    assert findings.names == names
    assert not findings.clean
    assert findings.found[0].what.isprintable()


class _Own:
    """An object of somebody's own class."""


def test_an_unknown_class_is_not_called_dangerous(look: Any) -> None:
    findings = look(pickle.dumps({"model": _Own()}))
    assert kinds(findings)[0] == "unlisted"
    assert "_Own" in findings.sentence
    assert "commands" not in findings.sentence


@pytest.mark.parametrize(
    ("program", "what"),
    [
        (b"\x80\x04]\x8c\x01x\x93.", "worked out"),
        (b"\x80\x04ccollections\nOrderedDict\n)R\x8c\x01x\x93.", "worked out"),
        (b"Vo\\u0073\nVsystem\n\x93.", "worked out"),
        (b"S'o\\x73'\nS'system'\n\x93.", "worked out"),
        (b"X\x00\x10\x00\x00" + b"o" * 4096 + b"\x8c\x06system\x93.", "worked out"),
        (b"\x82\x01.", "copyreg"),
        (b"\x84\x01\x00\x00\x00.", "copyreg"),
        (b"ccollections\nOrderedDict\n)R)R.", "another call gave it"),
        (b"}(Va\nVb\nu)R.", "another call gave it"),
        (b"ccollections\nOrderedDict\n}b.", "changes what it imported"),
        (b"ccollections\nOrderedDict\nVa\nVb\ns.", "changes what it imported"),
        (b"ccollections\nOrderedDict\n(Va\nVb\nu.", "changes what it imported"),
        (b"ccollections\nOrderedDict\nVa\na.", "changes what it imported"),
    ],
)
def test_odd_moves(look: Any, program: bytes, what: str) -> None:
    findings = look(program)
    assert "odd" in kinds(findings)
    assert what in findings.sentence


def test_many_findings_are_told_shortly(look: Any) -> None:
    program = b"".join(b"cmodule%d\nname\n0" % number for number in range(5000)) + b"N."
    findings = look(program)
    assert len(findings.names) == opcodes.MAXIMUM_NAMES
    assert findings.sentence.endswith(f", and {opcodes.MAXIMUM_NAMES - 2} more")
    assert len(findings.sentence) < 300


# Archives that another reader could see another way.


def members(**changes: bytes) -> dict[str, bytes]:
    return {**MEMBERS, **{f"archive/{name}": data for name, data in changes.items()}}


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        ({"archive/code/__torch__.py": b"import os"}, "TorchScript"),
        ({"archive/constants.pkl": TENSORS}, "TorchScript"),
        ({"archive/other.pkl": TENSORS}, "other.pkl"),
        ({"other/data.pkl": TENSORS}, "other/data.pkl"),
        ({"archive/data/deep/0": b""}, "deep"),
        ({"archive/DATA.PKL": b"cos\nsystem\n."}, "two files"),
        ({"archive/../../etc/passwd": b""}, "etc/passwd"),
    ],
)
def test_what_an_archive_may_not_hold(look: Any, extra: dict[str, bytes], what: str) -> None:
    findings = look(archive({**MEMBERS, **extra}))
    assert "odd" in kinds(findings)
    assert what in findings.sentence


def test_two_members_of_one_name(look: Any) -> None:
    data = archive({**MEMBERS, "archive/data.pk1": b"cos\nsystem\n."}).replace(b"data.pk1", b"data.pkl")
    assert "two files" in look(data).sentence
    hidden = archive({**MEMBERS, "archive/data.pkl_x": b"cos\nsystem\n."}).replace(
        b"data.pkl_x", b"data.pkl\0x"
    )
    assert "two files" in look(hidden).sentence


def test_an_archive_with_two_directories(look: Any) -> None:
    """`zipfile` takes the directory just before the end, another reader the one that the end points at."""
    good = archive()
    bad = archive({"archive/data.pkl": b"cos\nsystem\n.", "archive/only_in_the_other": b""})
    at, other = (data.index(b"PK\1\2") for data in (good, bad))
    spliced = good[:at] + bad[other:-22] + good[at:]
    assert "archive/only_in_the_other" not in zipfile.ZipFile(io.BytesIO(spliced)).namelist()
    assert "two ways" in look(spliced).sentence


@pytest.mark.parametrize("tail", [b"x", b"\0" * 30, archive()[-22:] + b"x", b"PK\5\6"])
def test_bytes_behind_the_end_of_an_archive(look: Any, tail: bytes) -> None:
    assert kinds(look(archive() + tail)) == ["unreadable"]


def test_an_archive_whose_names_differ_inside(look: Any) -> None:
    data = bytearray(archive())
    data[data.index(b"archive/data.pkl")] = ord("B")  # in the local header only
    assert not look(bytes(data)).clean


def test_damaged_and_encrypted_archives(look: Any) -> None:
    data = archive()
    flipped = bytearray(data)
    flipped[data.index(b"wq\x01")] ^= 1  # the checksum does not fit any more
    assert not look(bytes(flipped)).clean
    directory = data.index(b"PK\1\2")
    flagged = bytearray(data)
    flagged[6] |= 1
    flagged[directory + 8] |= 1
    assert "encrypted" in look(bytes(flagged)).sentence
    assert "unusual" in look(archive(method=zipfile.ZIP_LZMA)).sentence
    assert "unusual" in look(archive(method=zipfile.ZIP_BZIP2)).sentence
    assert "without" in look(archive({"arr_0.npy": b"\x93NUMPY"})).sentence
    assert not look(archive({})).clean


def test_a_zip_bomb_is_not_unpacked(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MAXIMUM_PROGRAM_BYTES", 1 << 20)
    bomb = archive(members(**{"data.pkl": b"N" + b"N0" * (1 << 20) + b"."}), method=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 10_000
    assert "has a data.pkl of" in look(bomb).sentence
    real = struct.pack("<I", (2 << 20) + 2)
    assert bomb.count(real) == 2
    findings = look(bomb.replace(real, struct.pack("<I", 1000)))  # it says that it is small
    assert kinds(findings) == ["unreadable"]


def test_what_stands_behind_the_end_of_data_pkl(look: Any) -> None:
    assert "behind the end" in look(archive(members(**{"data.pkl": TENSORS + SYSTEM}))).sentence


# What cannot be followed.


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "empty"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(100), "7z"),
        (b"\x1f\x8b" + bytes(100), "gzip"),
        (b"GGUF" + bytes(100), "GGUF"),
        (b"\x93NUMPY\1\0", "numpy"),
        (b"\xff" * 100, "no opcode 0xff"),
        (b"version https://git-lfs.github.com/spec/v1\n", "as a pickle"),
        (b"\x80\x02", "ends early"),
        (b".", "empty stack"),
        (b"0.", "empty stack"),
        (b"(.", "empty stack"),
        (b"(R.", "empty stack"),
        (b"N1.", "mark"),
        (b"t.", "mark"),
        (b"N2h\x05.", "never kept"),
        (b"Np-1\n.", "no usual way"),
        (b"T\xff\xff\xff\xff.", "negative length"),
        (b"X\xff\xff\xff\x7fabc", "ends early"),
        (b"V" + b"x" * 2_000_000, "endless line"),
        (b"Vabc", "ends early"),
        (b"cos", "ends early"),
    ],
)
def test_what_is_no_pickle_is_not_clean(look: Any, data: bytes, what: str) -> None:
    findings = look(data)
    assert kinds(findings) == ["unreadable"]
    assert what in findings.sentence


def test_a_tar_checkpoint_is_not_looked_into(look: Any) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as packed:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            member = tarfile.TarInfo(name)
            member.size = len(SYSTEM)
            packed.addfile(member, io.BytesIO(SYSTEM))
    assert "tar archive" in look(out.getvalue()).sentence


def test_what_ran_before_a_break_is_told_too(look: Any) -> None:
    findings = look(SYSTEM[:-1] + b"\xff")
    assert kinds(findings) == ["dangerous", "unreadable"]


def test_every_truncation_is_noticed(look: Any) -> None:
    for whole in (archive(), TENSORS):
        for length in range(len(whole)):
            assert not look(whole[:length]).clean, length
    end = len(legacy()) - 16  # there come the tensors' bytes, which nobody unpickles
    for length in range(end):
        assert not look(legacy()[:length]).clean, length


def test_long_arguments_stay_on_disk(tmp_path: Path) -> None:
    path, size = tmp_path / "model.pkl", 64 << 20
    with path.open("wb") as out:
        out.write(b"\x80\x04}(\x8c\x01a\x8e" + struct.pack("<Q", size))
        out.seek(size, io.SEEK_CUR)
        out.write(b"\x8c\x01bNu.")
    tracemalloc.start()
    try:
        assert scan(path).clean
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_endless_work_is_cut_short(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opcodes, "MAXIMUM_STEPS", 1000)
    assert "steps" in look(b"N0" * 600 + b"N.").sentence
    monkeypatch.setattr(opcodes, "MAXIMUM_DEPTH", 100)
    assert "piles up" in look(b"N" * 200 + b".").sentence
    monkeypatch.setattr(opcodes, "MAXIMUM_MEMO", 10)
    assert "remembers" in look(b"N" + b"\x94" * 20 + b".").sentence
    monkeypatch.setattr(pickles, "MAXIMUM_PICKLES", 5)
    assert "in a row" in look(b"N." * 6).sentence
    monkeypatch.setattr(pickles, "MAXIMUM_DIRECTORY_BYTES", 300)
    assert "directory" in look(archive()).sentence


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(VerifyError, match="cannot be read"):
        scan(tmp_path / "missing.bin")
    with pytest.raises(VerifyError, match="cannot be read"):
        scan(tmp_path)


QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(st.binary(max_size=200))
def test_any_bytes_give_findings(look: Any, data: bytes) -> None:
    assert all(one.clean or one.sentence for one in (look(data), look(b"\x80\x04" + data)))


@QUICK
@given(st.integers(0, 1 << 30), st.sampled_from(["archive", "legacy", "plain"]))
def test_any_damage_gives_findings(look: Any, seed: int, which: str) -> None:
    data = bytearray({"archive": archive(), "legacy": legacy(), "plain": TENSORS}[which])
    source = random.Random(seed)
    for _ in range(source.randint(1, 4)):
        data[source.randrange(len(data))] = source.randrange(256)
    found = look(bytes(data))
    assert found.clean or found.sentence


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@QUICK
@given(VALUES, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_values_are_always_clean(look: Any, value: object, protocol: int) -> None:
    assert look(pickle.dumps(value, protocol=protocol)).clean


class _Calls:
    """Something that is called when it is loaded."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return self.target, ("x",)


@QUICK
@given(
    VALUES,
    st.integers(0, pickle.HIGHEST_PROTOCOL),
    st.sampled_from([eval, exec, compile, open, print, __import__]),
)
def test_a_call_is_found_wherever_it_stands(look: Any, value: object, protocol: int, target: Any) -> None:
    findings = look(pickle.dumps([value, {"a": (_Calls(target), value)}], protocol=protocol))
    assert not findings.clean
    assert any(name.endswith(f".{target.__name__}") for name in findings.names)

"""Xid codes, read from xids.tsv: what each means, how bad it is to a node that serves models, what NVIDIA would do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pkgutil import get_data
from typing import Literal, cast, get_args

XidClass = Literal["info", "app", "watch", "reset", "reboot", "support"]
XidAction = Literal[
    "none", "fix_configuration", "restart_engine", "reset_gpu", "reboot_node", "inspect_hardware"
]
# Worst first: of several codes in one incident the first of these is the cause that is acted on.
CLASSES: tuple[XidClass, ...] = ("reboot", "support", "reset", "app", "watch", "info")
SOURCE = "NVIDIA Xid catalogue, as of 2025-10-29 (selfhost/catalog/xids.tsv, 2026-11-21)"

# Codes that follow from another one near them: 45 cleans up after it, 154 announces what it asks for, 171 and 172 say
# which memory a 48 was in (NVIDIA's catalogue).
FOLLOWERS = frozenset((45, 154, 171, 172))
# NVLink 5: the sub-code decides (NVIDIA's catalogue, WORKFLOW_NVLINK5_ERR).
NVLINK5 = frozenset(range(144, 151))
_FILE = "xids.tsv"
_COLUMNS = ["code", "mnemonic", "meaning", "class", "action", "immediate", "later", "note"]
# The line's first hexadecimal word in parentheses is `intrinfo`.
_INTRINFO = re.compile(r"\(0x([0-9a-fA-F]{1,8})\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Xid:
    """One code.

    Args:
        mnemonic: NVIDIA's name, empty where it has none.
        severity: class, see the head of the file; ours.
        action: what to do.
        immediate, later: NVIDIA's own actions, at once and when it goes on; empty where they are not known.
        note: where peers disagree, and why the row stands as it does.
        recognised: NVIDIA describes the code.
    """

    code: int
    mnemonic: str
    meaning: str
    severity: XidClass
    action: XidAction
    immediate: str
    later: str
    note: str
    recognised: bool = True


@cache
def xids() -> dict[int, Xid]:
    """Every code of the catalogue."""
    data = get_data(__package__, _FILE)
    assert data is not None
    lines = [line for line in data.decode().splitlines() if line and not line.startswith("#")]
    assert lines[0].split("\t") == _COLUMNS, f"{_FILE}: columns"
    found: dict[int, Xid] = {}
    for line in lines[1:]:
        row = dict(zip(_COLUMNS, ("" if cell == "-" else cell for cell in line.split("\t")), strict=True))
        code = int(row["code"])
        assert not found or code > max(found), f"{_FILE}: {code} is not in order"
        assert row["class"] in get_args(XidClass), f"{_FILE}: class of {code}"
        assert row["action"] in get_args(XidAction), f"{_FILE}: action of {code}"
        found[code] = Xid(
            code=code,
            mnemonic=row["mnemonic"],
            meaning=row["meaning"],
            severity=cast("XidClass", row["class"]),
            action=cast("XidAction", row["action"]),
            immediate=row["immediate"],
            later=row["later"],
            note=row["note"],
            recognised=row["meaning"] != "not described by NVIDIA",
        )
    return found


def xid(code: int) -> Xid:
    """One code. A number that the catalogue does not have is to be watched: neither well nor fatal by itself."""
    return xids().get(code) or Xid(
        code=code,
        mnemonic="",
        meaning="not in the catalogue",
        severity="watch",
        action="inspect_hardware",
        immediate="",
        later="",
        note="",
        recognised=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NvlinkDetail:
    """What a line about Xid 144 to 150 says of itself. `fatal` is the line's own word, None without one."""

    sub_code: int | None
    fatal: bool | None


def nvlink_detail(detail: str) -> NvlinkDetail:
    """Decode the line of an NVLink 5 error as far as it can be without NVIDIA's table.

    Args:
        detail: the kernel log's line after the code.

    Returns:
        Sub-code, bits 20 to 25 of `intrinfo` (gpud 4a8de33, read 2026-11-21), and the severity that the line names.
    """
    found = _INTRINFO.search(detail)
    words = detail.lower()
    fatal = None
    if re.search(r"\bnon-?fatal\b", words):
        fatal = False
    elif re.search(r"\bfatal\b", words):
        fatal = True
    return NvlinkDetail(sub_code=(int(found[1], 16) >> 20) & 0x3F if found else None, fatal=fatal)

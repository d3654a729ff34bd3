"""The kernel log -> Xid and SXid events: from /dev/kmsg, or from a file that dmesg or journalctl wrote.

Never waits: the device is read without blocking, and both what is read and what is kept have an end.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from selfhost.observation import KernelEvent, Missing, Reading

KMSG = Path("/dev/kmsg")
# A ring buffer holds a few hundred KiB; a saved log may hold weeks, of which the end counts.
MAX_BYTES = 16 << 20
MAX_EVENTS = 5_000
# One record of /dev/kmsg is at most 8 KiB (CONSOLE_EXT_LOG_MAX, kernel/printk/printk.c).
_RECORD_BYTES = 8192

# The patterns of gpud's kernel log reader (4a8de33, read 2026-11-21), which also takes the line without a number.
_XID = re.compile(r"NVRM: Xid \(((?:PCI:)?[0-9a-fA-F:.]+)\).*?: (\d{1,6})(?:,\s*(.*))?$")
_SXID = re.compile(r"SXid \(((?:PCI:)?[0-9a-fA-F:.]+)\).*?: (\d{1,6})(?:,\s*(.*))?$")
_FALLEN = re.compile(
    r"NVRM: (?:GPU(?: at)? )?(?:PCI:)?"
    r"([0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-9a-fA-F])?)\b.*fallen off the bus"
)
_PID = re.compile(r"\bpid=['\"<]?(\d{1,10})")
_NAME = re.compile(r"\bname=([^,]{1,64})")

# `6,1234,98765432,-;text` of /dev/kmsg, `[  98.765432] text` of dmesg; microseconds or seconds since boot.
_RAW = re.compile(r"^\d{1,6},\d{1,20},(\d{1,20}),[^;]{0,64};(.*)$")
_SINCE_BOOT = re.compile(r"^(?:<\d{1,3}>)?\[\s*(\d{1,12}\.\d{1,9})(?:\s*[,@][^\]]{0,40})?\]\s*(.*)$")
_ISO = re.compile(r"^(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:[.,](\d{1,6})\d*)?\s?(Z|[+-]\d\d:?\d\d)?\s+(.*)$")
# `[Thu Nov 26 14:02:11 2026] text` of dmesg -T, `Nov 26 14:02:11 host kernel: text` of journalctl and syslog.
_CTIME = re.compile(r"^\[\w{3} (\w{3}) +(\d{1,2}) (\d\d):(\d\d):(\d\d) (\d{4})\]\s*(.*)$")
_SYSLOG = re.compile(r"^(\w{3}) +(\d{1,2}) (\d\d):(\d\d):(\d\d)(?:\.\d{1,9})? (.*)$")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def read_kernel_log(
    path: Path | None = None, *, now: float, booted_at: float | None
) -> Reading[tuple[KernelEvent, ...]]:
    """Every line about an Xid, an SXid or a GPU that fell off the bus, oldest first.

    Args:
        path: a file of dmesg's or journalctl's output; None reads /dev/kmsg.
        now: Unix time, for lines that have no year or no time.
        booted_at: Unix time of the boot, for lines that count from it.

    Returns:
        The events, or a Missing with the reason why there is no log. Raises nothing.
    """
    source = KMSG if path is None else path
    try:
        lines = _records(source) if _is_device(source) else _tail(source)
        events: deque[KernelEvent] = deque(maxlen=MAX_EVENTS)
        events.extend(parse_lines(lines, now=now, booted_at=booted_at))
    except OSError as error:
        return Missing(missing=_why(source, error, named=path is not None))
    return tuple(sorted(events, key=lambda event: event.at))


def parse_lines(lines: Iterable[str], *, now: float, booted_at: float | None) -> Iterator[KernelEvent]:
    """The events among a kernel log's lines, in any of the forms that this module knows."""
    for line in lines:
        if "Xid" not in line and "fallen off the bus" not in line:
            continue
        at, text = _time(line, now, booted_at)
        event = _event(text, at)
        if event is not None:
            yield event


def _event(text: str, at: float) -> KernelEvent | None:
    kind: Literal["xid", "sxid"] = "xid"
    found = _XID.search(text)
    if found is None and (found := _SXID.search(text)):
        kind = "sxid"
    if found is None:
        fallen = _FALLEN.search(text)
        if fallen is None:
            return None
        return KernelEvent(
            at=at,
            kind="xid",
            code=79,
            pci_address=fallen[1].lower(),
            detail="GPU has fallen off the bus",
        )
    detail = (found[3] or "").strip()
    pid, name = _PID.search(detail), _NAME.search(detail)
    return KernelEvent(
        at=at,
        kind=kind,
        code=int(found[2]),
        pci_address=found[1].lower().removeprefix("pci:"),
        pid=int(pid[1]) if pid else None,
        process=name[1].strip() if name and name[1].strip() != "<unknown>" else None,
        detail=detail[:300],
    )


def _time(line: str, now: float, booted_at: float | None) -> tuple[float, str]:
    """A line's Unix time and what follows it; `now` where the line does not say and cannot be placed."""
    if raw := _RAW.match(line):
        return ((booted_at + int(raw[1]) / 1e6) if booted_at is not None else now), raw[2]
    if since := _SINCE_BOOT.match(line):
        return ((booted_at + float(since[1])) if booted_at is not None else now), since[2]
    if iso := _ISO.match(line):
        fraction = int((iso[2] or "0").ljust(6, "0")) / 1e6
        try:
            moment = datetime.fromisoformat(iso[1].replace(" ", "T") + _zone(iso[3])).timestamp()
        except (ValueError, OverflowError):  # a 30th of February
            moment = now
        return moment + fraction, iso[4]
    if full := _CTIME.match(line):
        return _local(int(full[6]), full[1], full[2], full[3], full[4], full[5], now), full[7]
    if short := _SYSLOG.match(line):
        year = datetime.fromtimestamp(now, tz=UTC).year
        at = _local(year, short[1], short[2], short[3], short[4], short[5], now)
        if at > now + 86_400:  # December's lines read in January
            at = _local(year - 1, short[1], short[2], short[3], short[4], short[5], now)
        return at, short[6]
    return now, line


def _zone(text: str | None) -> str:
    """`+0000` as `+00:00`; nothing stays nothing, which is this machine's own zone."""
    if text is None or text == "Z" or ":" in text:
        return (text or "").replace("Z", "+00:00")
    return f"{text[:3]}:{text[3:]}"


def _local(year: int, month: str, day: str, hour: str, minute: str, second: str, otherwise: float) -> float:
    """A time in this machine's zone, as dmesg -T and journalctl print it."""
    if month not in _MONTHS:
        return otherwise
    fields = (year, _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), 0, 0, -1)
    try:
        return time.mktime(fields)
    except (OverflowError, ValueError):
        return otherwise


def _is_device(path: Path) -> bool:
    return stat.S_ISCHR(path.stat().st_mode)


def _records(path: Path) -> Iterator[str]:
    """The records of a kmsg device, up to its end. O_NONBLOCK: without it a read waits for the next message."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        left = MAX_BYTES
        # Records that are overwritten while we read cost one EPIPE each time; the bound holds for them too.
        for _ in range(MAX_BYTES // 64):
            try:
                record = os.read(handle, _RECORD_BYTES)
            except BlockingIOError:
                return
            except BrokenPipeError:
                continue
            if not record or left <= 0:
                return
            left -= len(record)
            # What follows the first line are the record's key=value pairs.
            yield record.split(b"\n", 1)[0].decode("utf-8", "replace")
    finally:
        os.close(handle)


def _tail(path: Path) -> Iterator[str]:
    """The last lines of a file; a pipe without a writer is an empty one."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        cut = False
        if stat.S_ISREG(os.fstat(handle).st_mode):
            size = os.fstat(handle).st_size
            cut = size > MAX_BYTES
            file.seek(max(0, size - MAX_BYTES))
        data = file.read(MAX_BYTES) or b""
    lines = data.decode("utf-8", "replace").splitlines()
    yield from lines[1:] if cut else lines


def _why(path: Path, error: OSError, *, named: bool) -> str:
    if named:
        return f"the kernel log {path} cannot be read: {error.strerror}"
    if isinstance(error, FileNotFoundError):
        return f"no kernel log here: there is no {path} (in a container, mount it or name a file)"
    if isinstance(error, PermissionError):
        return f"no right to read the kernel log ({path}): root, or CAP_SYSLOG where dmesg is restricted"
    return f"the kernel log {path} cannot be read: {error.strerror}"

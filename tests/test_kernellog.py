"""The kernel log: lines of real form in every dress, /dev/kmsg's records, and sources that cannot be read."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from selfhost.node import kernellog
from selfhost.node.kernellog import MAX_EVENTS, parse_lines, read_kernel_log
from selfhost.observation import KernelEvent, Missing

NOW = datetime(2026, 11, 26, 15, 0, tzinfo=UTC).timestamp()
BOOTED = NOW - 100_000
XID = "NVRM: Xid (PCI:0000:18:00): 31, pid=4123, name=VLLM::Worker_TP, Ch 00000010, intr 10000000. MMU Fault: ENGINE"
FALLEN = "NVRM: GPU 0000:18:00.0: GPU has fallen off the bus."


def parse(text: str) -> list[KernelEvent]:
    return list(parse_lines(text.splitlines(), now=NOW, booted_at=BOOTED))


def local(year: int, month: int, day: int, hour: int, minute: int, second: int) -> float:
    return time.mktime((year, month, day, hour, minute, second, 0, 0, -1))


@pytest.mark.parametrize(
    ("before", "at"),
    [
        ("[   12.500000] ", BOOTED + 12.5),
        ("<4>[99000.25] ", BOOTED + 99_000.25),
        ("[   12.500000][ T1234] ", BOOTED + 12.5),
        ("4,1234,12500000,-;", BOOTED + 12.5),
        ("6,1234,12500000,-,caller=T1;", BOOTED + 12.5),
        ("2026-11-26T14:02:11,500000+00:00 ", datetime(2026, 11, 26, 14, 2, 11, 500_000, UTC).timestamp()),
        ("2026-11-26T14:02:11+0100 gpu-3 kernel: ", datetime(2026, 11, 26, 13, 2, 11, tzinfo=UTC).timestamp()),
        ("2026-11-26T14:02:11.250Z gpu-3 kernel: ", datetime(2026, 11, 26, 14, 2, 11, 250_000, UTC).timestamp()),
        ("[Thu Nov 26 14:02:11 2026] ", local(2026, 11, 26, 14, 2, 11)),
        ("Nov 26 14:02:11 gpu-3 kernel: ", local(2026, 11, 26, 14, 2, 11)),
        ("Nov  6 04:02:11 gpu-3 kernel: ", local(2026, 11, 6, 4, 2, 11)),
        ("Dec 30 14:02:11 gpu-3 kernel: ", local(2025, 12, 30, 14, 2, 11)),
        ("", NOW),
        ("2026-02-30T14:02:11Z gpu-3 kernel: ", NOW),
    ],
)  # fmt: skip
def test_times(before: str, at: float) -> None:
    (event,) = parse(before + XID)
    assert event.at == pytest.approx(at, abs=1e-3)
    assert (event.code, event.pci_address, event.pid, event.process) == (
        31,
        "0000:18:00",
        4123,
        "VLLM::Worker_TP",
    )


def test_a_pid_that_is_not_known() -> None:
    (event,) = parse(
        "[1.0] NVRM: Xid (PCI:0000:18:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
    )
    assert (event.code, event.pid, event.process) == (79, None, None)


def test_off_the_bus_without_a_number() -> None:
    (event,) = parse(f"[1.0] {FALLEN}")
    assert (event.kind, event.code, event.pci_address) == ("xid", 79, "0000:18:00.0")
    (other,) = parse("[1.0] NVRM: GPU at PCI:0000:3b:00: GPU has fallen off the bus.")
    assert other.pci_address == "0000:3b:00"


def test_switches() -> None:
    (event,) = parse(
        "[1.0] nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 12028, Non-fatal, Link 32 egress non-posted PRIV error"
    )
    assert (event.kind, event.code, event.pci_address) == ("sxid", 12028, "0000:c1:00.0")
    assert event.detail.startswith("Non-fatal")


def test_an_old_driver_without_a_bus_prefix() -> None:
    (event,) = parse("[1.0] NVRM: Xid (0000:03:00): 13, Graphics Exception")
    assert (event.code, event.pci_address) == (13, "0000:03:00")


@pytest.mark.parametrize(
    "text",
    [
        "[1.0] NVRM: loading NVIDIA UNIX x86_64 Kernel Module  580.95.05",
        "[1.0] NVRM: Xid",
        "[1.0] NVRM: Xid (PCI:0000:18:00): no number",
        "[1.0] usb 1-1: fallen off the bus",
        "\0\0\0 Xid (\x1b[31m",
        "",
    ],
)
def test_what_is_none(text: str) -> None:
    assert parse(text) == []


def test_without_the_time_of_the_boot() -> None:
    (event,) = parse_lines([f"[1.0] {XID}"], now=NOW, booted_at=None)
    assert event.at == NOW


def test_a_file_is_read_sorted(tmp_path: Path) -> None:
    log = tmp_path / "dmesg.txt"
    log.write_text(f"[9.0] {XID}\n[3.0] {FALLEN}\n\xff noise\n", encoding="latin-1")
    events = read_kernel_log(log, now=NOW, booted_at=BOOTED)
    assert not isinstance(events, Missing)
    assert [event.code for event in events] == [79, 31]


def test_what_is_kept_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "dmesg.txt"
    log.write_text("".join(f"[{n}.0] {XID}\n" for n in range(MAX_EVENTS + 50)), encoding="utf-8")
    events = read_kernel_log(log, now=NOW, booted_at=BOOTED)
    assert not isinstance(events, Missing)
    assert len(events) == MAX_EVENTS
    assert events[-1].at == BOOTED + MAX_EVENTS + 49
    monkeypatch.setattr(kernellog, "MAX_BYTES", 1000)
    few = read_kernel_log(log, now=NOW, booted_at=BOOTED)
    assert not isinstance(few, Missing)
    assert 0 < len(few) < 10


def test_a_pipe_without_a_writer_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    began = time.monotonic()
    assert read_kernel_log(tmp_path / "pipe", now=NOW, booted_at=BOOTED) == ()
    assert time.monotonic() - began < 1


def test_missing_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = read_kernel_log(tmp_path / "none", now=NOW, booted_at=BOOTED)
    assert isinstance(named, Missing)
    assert str(tmp_path / "none") in named.missing
    monkeypatch.setattr(kernellog, "KMSG", tmp_path / "none")
    assert "no kernel log here" in getattr(read_kernel_log(now=NOW, booted_at=BOOTED), "missing", "")
    assert "cannot be read" in getattr(read_kernel_log(tmp_path, now=NOW, booted_at=BOOTED), "missing", "")


def test_the_machine_s_own_log_comes_back_at_once() -> None:
    began = time.monotonic()
    events = read_kernel_log(now=time.time(), booted_at=time.time() - 1000)
    assert time.monotonic() - began < 5
    assert isinstance(events, tuple | Missing)

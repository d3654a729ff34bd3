"""Every reading of the first GPU beside nvidia-smi's of the same moment, field by field: on a machine that has one.

nvidia-smi is asked before and after; a reading has to lie between its two answers, or within the tolerance of either.
`--json FILE` keeps what was compared. Exits with 1 where a reading differs, or is missing and nvidia-smi has it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
MIB = 2**20
# What nvidia-smi writes where there is no such reading.
NONE = (
    "[n/a]",
    "n/a",
    "[not supported]",
    "[requested functionality has been deprecated]",
    "[unknown error]",
    "",
)
WORDS = {"enabled": 1, "disabled": 0, "yes": 1, "no": 0, "active": 1, "not active": 0, "none": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One reading and its column.

    Args:
        path: where the reading stands in a GPU of `selfhost monitor --json`.
        column: of `nvidia-smi --query-gpu`.
        unit: of the column, in units of the reading.
        slack: how far the two may be apart, in units of the reading: rounding, and what changes while they are read.
    """

    path: str
    column: str
    unit: float = 1
    slack: float = 0


def _pairs() -> tuple[Pair, ...]:
    """Every reading that nvidia-smi shows, too."""
    found = [
        Pair(path="identity.name", column="name"),
        Pair(path="identity.uuid", column="uuid"),
        Pair(path="identity.pci_address", column="pci.bus_id"),
        Pair(path="identity.serial", column="serial"),
        Pair(path="identity.vbios", column="vbios_version"),
        Pair(path="identity.compute_capability", column="compute_cap"),
        Pair(path="identity.memory_total_bytes", column="memory.total", unit=MIB, slack=MIB / 2),
        Pair(path="identity.pcie_max_generation", column="pcie.link.gen.max"),
        Pair(path="identity.pcie_device_generation", column="pcie.link.gen.gpumax"),
        Pair(path="identity.pcie_max_width", column="pcie.link.width.max"),
        Pair(path="identity.sm_clock_max_mhz", column="clocks.max.sm"),
        Pair(path="identity.power_limit_default_watts", column="power.default_limit"),
        Pair(path="fast.memory_used_bytes", column="memory.used", unit=MIB, slack=8 * MIB),
        Pair(path="fast.memory_free_bytes", column="memory.free", unit=MIB, slack=8 * MIB),
        Pair(path="fast.memory_reserved_bytes", column="memory.reserved", unit=MIB, slack=MIB),
        Pair(path="fast.utilization_ratio", column="utilization.gpu", unit=0.01, slack=0.05),
        Pair(path="fast.memory_busy_ratio", column="utilization.memory", unit=0.01, slack=0.05),
        Pair(path="fast.temperature_celsius", column="temperature.gpu", slack=2),
        Pair(path="fast.memory_temperature_celsius", column="temperature.memory", slack=2),
        Pair(path="fast.power_watts", column="power.draw", slack=20),
        Pair(path="fast.sm_clock_mhz", column="clocks.sm", slack=45),
        Pair(path="fast.memory_clock_mhz", column="clocks.mem"),
        Pair(path="fast.clock_reasons", column="clocks_event_reasons.active"),
        Pair(path="fast.recovery_action", column="gpu_recovery_action"),
        Pair(path="slow.power_limit_watts", column="enforced.power.limit"),
        Pair(path="slow.fan_ratio", column="fan.speed", unit=0.01),
        Pair(path="slow.encoder_ratio", column="utilization.encoder", unit=0.01),
        Pair(path="slow.decoder_ratio", column="utilization.decoder", unit=0.01),
        Pair(path="slow.margin_celsius", column="temperature.gpu.tlimit", slack=2),
        Pair(path="slow.performance_state", column="pstate"),
        Pair(path="slow.pcie_generation", column="pcie.link.gen.gpucurrent"),
        Pair(path="slow.pcie_width", column="pcie.link.width.current"),
        Pair(path="slow.persistence", column="persistence_mode"),
        Pair(path="slow.ecc_enabled", column="ecc.mode.current"),
        Pair(path="slow.ecc_pending", column="ecc.mode.pending"),
        Pair(path="slow.ecc.sram_threshold_exceeded", column="ecc.errors.sram.threshold_exceeded"),
        Pair(path="slow.mig_enabled", column="mig.mode.current"),
        Pair(path="slow.mig_pending", column="mig.mode.pending"),
        Pair(path="slow.retired_pending", column="retired_pages.pending"),
        Pair(path="slow.remapped.corrected", column="remapped_rows.correctable"),
        Pair(path="slow.remapped.uncorrected", column="remapped_rows.uncorrectable"),
        Pair(path="slow.remapped.pending", column="remapped_rows.pending"),
        Pair(path="slow.remapped.failed", column="remapped_rows.failure"),
        Pair(path="slow.remapped.banks_without_spares", column="remapped_rows.histogram.none"),
    ]
    counters = {
        "power_cap": "sw_power_cap",
        "sync_boost": "sync_boost",
        "sw_thermal": "sw_thermal_slowdown",
        "hw_thermal": "hw_thermal_slowdown",
        "power_brake": "hw_power_brake_slowdown",
    }
    found += [
        Pair(
            path=f"fast.held_down.{ours}_seconds",
            column=f"clocks_event_reasons_counters.{theirs}",
            unit=1e-6,
            slack=1e-6,
        )
        for ours, theirs in counters.items()
    ]
    found += [
        Pair(path=f"slow.ecc.{count}_{kind}", column=f"ecc.errors.{kind}.{count}.total")
        for count in ("volatile", "aggregate")
        for kind in ("corrected", "uncorrected")
    ]
    return tuple(found)


def columns(wanted: tuple[str, ...], index: int) -> dict[str, str]:
    """What nvidia-smi says; a column that it does not know is left out."""

    def ask(names: tuple[str, ...]) -> list[str] | None:
        words = [
            "nvidia-smi",
            f"--id={index}",
            f"--query-gpu={','.join(names)}",
            "--format=csv,noheader,nounits",
        ]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return [part.strip() for part in done.stdout.strip().split(", ")] if done.returncode == 0 else None

    answer = ask(wanted)
    if answer is not None and len(answer) == len(wanted):
        return dict(zip(wanted, answer, strict=True))
    alone = {name: ask((name,)) for name in wanted}
    return {name: ", ".join(found) for name, found in alone.items() if found is not None}


def number(text: str) -> float | None:
    """A figure out of a column; words of a mode count as 1 and 0, P-states by their number."""
    lower = text.lower()
    if lower in WORDS:
        return WORDS[lower]
    for prefix, base in (("0x", 16), ("p", 10)):
        if lower.startswith(prefix):
            try:
                return int(lower.removeprefix(prefix), base)
            except ValueError:
                return None
    try:
        return float(text)
    except ValueError:
        return None


def reading(gpu: Mapping[str, object], path: str) -> object:
    """A value by its path."""
    value: object = gpu
    for part in path.split("."):
        if not isinstance(value, Mapping) or "missing" in value:
            return value
        value = value.get(part)
    return value


def verdict(pair: Pair, ours: object, before: str, after: str) -> str:
    """`equal`, `both none`, or what is wrong."""
    absent = [text.lower() in NONE for text in (before, after)]
    if isinstance(ours, Mapping):
        return "both none" if all(absent) else f"MISSING: {ours.get('missing')}"
    if all(absent):
        return "only ours"
    if isinstance(ours, str):
        return "equal" if ours.lower() in (before.lower(), after.lower()) else "DIFFERS"
    if not isinstance(ours, (int, float)):
        return f"UNREADABLE: {ours!r}"
    bounds = [found * pair.unit for text in (before, after) if (found := number(text)) is not None]
    if not bounds:
        return "only ours"
    near = min(bounds) - pair.slack <= ours <= max(bounds) + pair.slack + 1e-9 * abs(max(bounds))
    return "equal" if near else "DIFFERS"


def look() -> Callable[[], dict[str, object]]:
    """Two looks at the GPUs, so that GPM has what it needs; the first GPU of the second one."""
    from selfhost.monitor import Sources, watch_once
    from selfhost.strict import encode

    def seen() -> dict[str, object]:
        sources = Sources(discover_engines=False, kernel_log=False)
        found = encode(watch_once(sources, window_seconds=0)[-1].node.gpus[0])
        assert isinstance(found, dict)
        return found

    return seen


def main() -> int:
    """Compare, and print a row for each reading."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the rows into this file")
    given = parser.parse_args()
    pairs = _pairs()
    wanted = tuple(pair.column for pair in pairs)
    seen = look()
    before = columns(wanted, 0)
    gpu = seen()
    after = columns(wanted, 0)
    rows, wrong = [], 0
    for pair in pairs:
        ours = reading(gpu, pair.path)
        if pair.column not in before or pair.column not in after:
            said, theirs = "no such column", ""
        else:
            said = verdict(pair, ours, before[pair.column], after[pair.column])
            theirs = " … ".join(dict.fromkeys((before[pair.column], after[pair.column])))
        wrong += said[0].isupper()
        rows.append(
            {"reading": pair.path, "ours": ours, "column": pair.column, "nvidia_smi": theirs, "said": said}
        )
        shown = "–" if isinstance(ours, Mapping) else str(ours)
        print(f"{pair.path:38}{shown:>40}  {pair.column:50}{theirs:>44}  {said}")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{len(rows)} readings, {sum(row['said'] == 'equal' for row in rows)} equal, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())

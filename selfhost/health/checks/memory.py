"""Memory that wears: row remapping, ECC errors, retired pages, the InfoROM that records them."""

from __future__ import annotations

from selfhost.health.checks._family import Finding, Trail, family, grown, unanswered
from selfhost.health.types import Check, Context, History
from selfhost.observation import Missing, known

_REMAP = "DCGM 4.6.0, gpud, AzNHC and Meta GCM fail on a failed remapping (read 2026-11-21)"
_ROWS = "DCGM 4.6.0 warns at 512 (read 2026-11-21)"
_UNREPAIRABLE = "nvmlDeviceGetUnrepairableMemoryFlag_v1; DCGM 4.6.0 fails on it (read 2026-11-21)"
_ECC = "DCGM 4.6.0: any double-bit error fails; Meta GCM: 0 (read 2026-11-21)"
_SRAM = "AzNHC: any uncorrectable SRAM error; DCGM 4.6.0: sram_threshold (read 2026-11-21)"
_CORRECTED = "AzNHC: 20,000,000 corrected errors of DRAM (read 2026-11-21); as a rate per day: ours"
_PAGES = "DCGM 4.6.0: 63 retired pages; Meta GCM: 10 and pending (read 2026-11-21)"
_INFOROM = "nvmlDeviceValidateInforom, code 14; DCGM 4.6.0 warns (read 2026-11-21)"

MOST_REMAPPED_ROWS = 512
MOST_CORRECTED = 20_000_000
WARN_RETIRED_PAGES, MOST_RETIRED_PAGES = 10, 63


def _remap_failed(trail: Trail, context: Context) -> Finding | None:
    failed = trail.gpu.slow.remapped.failed
    if isinstance(failed, Missing):
        return unanswered(failed, "row remapping", trail)
    if not failed:
        return None
    return Finding(
        level="critical",
        message=f"{trail.gpu.label}: a row of memory could not be remapped: drain it, the board must be exchanged",
        evidence="remapped_rows.failure is yes",
        action="inspect_hardware",
    )


def _remap_pending(trail: Trail, context: Context) -> Finding | None:
    pending = trail.gpu.slow.remapped.pending
    if isinstance(pending, Missing):
        return unanswered(pending, "row remapping", trail)
    if not pending:
        return None
    rows = trail.gpu.slow.remapped
    counts = ", ".join(
        f"{value} {name}"
        for name, value in (("uncorrectable", rows.uncorrected), ("correctable", rows.corrected))
        if known(value)
    )
    return Finding(
        level="warn",
        message=f"{trail.gpu.label}: rows of memory are remapped at the next reset: plan a window, serving goes on",
        evidence="remapped_rows.pending is yes" + (f"; remapped so far: {counts}" if counts else ""),
        action="reset_gpu",
    )


def _remapped_rows(trail: Trail, context: Context) -> list[Finding] | Finding:
    rows = trail.gpu.slow.remapped
    found = []
    if known(rows.uncorrected) and rows.uncorrected >= MOST_REMAPPED_ROWS:
        found.append(
            Finding(
                level="warn",
                message=f"{trail.gpu.label}: {rows.uncorrected} rows of memory were remapped: plan its exchange",
                evidence=f"{rows.uncorrected} rows for uncorrectable errors, limit {MOST_REMAPPED_ROWS}",
                action="inspect_hardware",
            )
        )
    if known(rows.banks_without_spares) and rows.banks_without_spares > 0:
        found.append(
            Finding(
                level="warn",
                message=f"{trail.gpu.label}: {rows.banks_without_spares} banks of memory have no spare row left; the "
                "next error there cannot be remapped",
                evidence=f"row remapper histogram: {rows.banks_without_spares} banks with none (limit 0 is ours)",
                action="inspect_hardware",
            )
        )
    if isinstance(rows.uncorrected, Missing) and isinstance(rows.banks_without_spares, Missing):
        return unanswered(rows.uncorrected, "count of remapped rows", trail)
    return found


def _unrepairable(trail: Trail, context: Context) -> Finding | None:
    flag = trail.gpu.slow.unrepairable_memory
    if isinstance(flag, Missing):
        return unanswered(flag, "flag for unrepairable memory", trail)
    if not flag:
        return None
    return Finding(
        level="critical",
        message=f"{trail.gpu.label}: has memory that cannot be repaired: drain it, the board must be exchanged",
        evidence="unrepairable memory flag is set",
        action="inspect_hardware",
    )


def _uncorrected(trail: Trail, context: Context) -> Finding | None:
    errors = trail.gpu.slow.ecc.volatile_uncorrected
    if isinstance(errors, Missing):
        return unanswered(errors, "ECC counter", trail)
    if errors == 0:
        return None
    total = trail.gpu.slow.ecc.aggregate_uncorrected
    return Finding(
        level="critical",
        message=f"{trail.gpu.label}: {errors} uncorrectable memory errors since the driver was loaded: "
        "answers may be wrong or the engine dead; drain it and reset it",
        evidence=f"{errors} volatile uncorrected ECC errors"
        + (f", {total} over the board's life" if known(total) else ""),
        action="reset_gpu",
    )


def _sram(trail: Trail, context: Context) -> Finding | None:
    ecc = trail.gpu.slow.ecc
    if known(ecc.sram_threshold_exceeded) and ecc.sram_threshold_exceeded:
        return Finding(
            level="critical",
            message=f"{trail.gpu.label}: its SRAM had more errors than NVIDIA allows: the board must be exchanged",
            evidence="SRAM error threshold exceeded",
            action="inspect_hardware",
        )
    if known(ecc.sram_uncorrected) and ecc.sram_uncorrected > 0:
        return Finding(
            level="critical",
            message=f"{trail.gpu.label}: {ecc.sram_uncorrected} uncorrectable SRAM errors: drain it and reset it",
            evidence=f"{ecc.sram_uncorrected} uncorrected SRAM errors",
            action="reset_gpu",
        )
    if isinstance(ecc.sram_uncorrected, Missing) and isinstance(ecc.sram_threshold_exceeded, Missing):
        return unanswered(ecc.sram_uncorrected, "SRAM error counter", trail)
    return None


def _corrected(trail: Trail, context: Context) -> Finding | None:
    latest = trail.gpu.slow.ecc.volatile_corrected
    if isinstance(latest, Missing):
        return unanswered(latest, "ECC counter", trail)
    growth = grown([(at, slow.ecc.volatile_corrected) for at, slow in trail.slow])
    daily = growth[0] / growth[1] * 86_400 if growth and growth[1] > 0 else 0.0
    if latest < MOST_CORRECTED and daily < MOST_CORRECTED:
        return None
    return Finding(
        level="warn",
        message=f"{trail.gpu.label}: very many corrected memory errors: watch it, and plan its exchange if they go on",
        evidence=f"{latest} volatile corrected ECC errors" + (f", {daily:.0f} a day now" if daily else ""),
        action="inspect_hardware",
    )


def _retired(trail: Trail, context: Context) -> Finding | None:
    pages, pending = trail.gpu.slow.retired_pages, trail.gpu.slow.retired_pending
    if isinstance(pages, Missing) and isinstance(pending, Missing):
        return unanswered(pages, "page retirement (boards before Ampere)", trail)
    count = pages if known(pages) else 0
    waits = known(pending) and pending
    evidence = f"{count} pages retired" + (", more at the next reset" if waits else "")
    if count >= MOST_RETIRED_PAGES:
        return Finding(
            level="critical",
            message=f"{trail.gpu.label}: has retired {count} pages of memory: the board must be exchanged",
            evidence=f"{evidence}, limit {MOST_RETIRED_PAGES}",
            action="inspect_hardware",
        )
    if waits:
        return Finding(
            level="warn",
            message=f"{trail.gpu.label}: pages of memory are retired at the next reset: plan a window",
            evidence=evidence,
            action="reset_gpu",
        )
    if count >= WARN_RETIRED_PAGES:
        return Finding(
            level="warn",
            message=f"{trail.gpu.label}: has retired {count} pages of memory: plan its exchange",
            evidence=f"{evidence}, watched from {WARN_RETIRED_PAGES}",
            action="inspect_hardware",
        )
    return None


def _inforom(trail: Trail, context: Context) -> Finding | None:
    valid = trail.gpu.slow.inforom_valid
    if isinstance(valid, Missing):
        return unanswered(valid, "check of the InfoROM", trail)
    if valid:
        return None
    return Finding(
        level="warn",
        message=f"{trail.gpu.label}: its InfoROM is corrupt: errors are not recorded and ECC may not be kept",
        evidence="nvmlDeviceValidateInforom refused it",
        action="inspect_hardware",
    )


def memory(history: History, context: Context) -> list[Check]:
    """Every check of this family."""
    rules = (
        ("memory-remap-failed", _REMAP, "no remapping failed", _remap_failed),
        ("memory-remap-pending", _REMAP, "no rows wait for a reset", _remap_pending),
        ("memory-remapped-rows", _ROWS, "few rows remapped, spares left", _remapped_rows),
        ("memory-unrepairable", _UNREPAIRABLE, "no memory beyond repair", _unrepairable),
        ("ecc-uncorrected", _ECC, "no uncorrectable memory errors", _uncorrected),
        ("ecc-sram", _SRAM, "no uncorrectable SRAM errors", _sram),
        ("ecc-corrected", _CORRECTED, "corrected memory errors within limits", _corrected),
        ("memory-retired-pages", _PAGES, "few pages retired", _retired),
        ("inforom", _INFOROM, "the InfoROM is valid", _inforom),
    )
    return [
        check
        for code, source, well, rule in rules
        for check in family(history, context, code=code, source=source, well=well, rule=rule)
    ]


CHECKS = (memory,)

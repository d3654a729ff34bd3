"""Files that `selfhost cost` reads and writes: scenarios and assumptions, as TOML, YAML or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from selfhost.cost.reading import Table, spread_of
from selfhost.cost.types import Assumption
from selfhost.errors import OutputError, UsageError
from selfhost.tables import parse_tables

SCHEMA = "selfhost/assumptions/v1"
_MOST_BYTES = 4 << 20
_SUFFIXES = (".toml", ".yaml", ".yml", ".json")
_HINT = "Name a file that ends in .toml, .yaml or .json."


def read_tables(path: Path) -> object:
    """The tables of a file, read by what its name ends in.

    Raises:
        UsageError: it cannot be read, or is not what its name says.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror or error}.", hint=_HINT) from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text.", hint=_HINT) from None
    if len(data) > _MOST_BYTES:
        raise UsageError(f"{path} is larger than 4 MiB.")
    if not text.strip():
        raise UsageError(f"{path} is empty.", hint="docs/cost.md shows what it holds.")
    try:
        return parse_tables(path.suffix.lower(), text)
    except (ValueError, RecursionError) as error:
        reason = (
            "it nests too deep"
            if isinstance(error, RecursionError)
            else " ".join(str(error).partition(": value has")[0].split())[:200]
        )
        known = path.suffix.lower() in _SUFFIXES
        hint = "docs/cost.md shows what it holds." if known else _HINT
        raise UsageError(f"{path} cannot be understood: {reason}.", hint=hint) from None


def read_assumptions(path: Path) -> tuple[Assumption, ...]:
    """What `--export-assumptions` wrote, or a hand-written part of it.

    Raises:
        UsageError: names the assumption that is wrong.
    """
    top = Table(read_tables(path), str(path))
    schema = top.text("schema", SCHEMA)
    if schema != SCHEMA:
        raise UsageError(f"{path} is {str(schema)[:60]!r}, this selfhost reads {SCHEMA!r}.")
    rows = top.take("assumption") or {}
    top.end()
    if not isinstance(rows, dict):
        raise UsageError(f"{path}: assumption must be a table by name.")
    return tuple(_row(str(key), value, f"{path}: {key}") for key, value in rows.items())


def _row(key: str, value: object, where: str) -> Assumption:
    if not isinstance(value, dict):
        low, typical, high = spread_of(value, where)
        return Assumption(key=key, low=low, typical=typical, high=high, unit="", source="yours")
    table = Table(value, where)
    unit, currency = table.text("unit", ""), table.text("currency")
    source, date, note = table.text("source"), table.text("date"), table.text("note")
    low, typical, high = spread_of(
        {end: table.take(end) for end in ("low", "typical", "high") if table.has(end)}, where
    )
    table.end()
    return Assumption(
        key=key, low=low, typical=typical, high=high, unit=unit or "", currency=currency, source=source, date=date,
        note=note,
    )  # fmt: skip


def apply(found: Sequence[Assumption], own: Sequence[Assumption], where: Path) -> tuple[Assumption, ...]:
    """The assumptions with those of a file in their place.

    Raises:
        UsageError: the file has one that this calculation does not know, or in another currency.
    """
    import difflib

    from selfhost.cost.assumed import overridden

    by_key = {one.key: one for one in found}
    for given in own:
        if given.key not in by_key:
            close = difflib.get_close_matches(given.key[:80], by_key, n=1, cutoff=0.6)
            hint = f"Did you mean {close[0]!r}?" if close else "--export-assumptions writes those there are."
            raise UsageError(f"{where}: this calculation has no assumption {given.key[:80]!r}.", hint=hint)
        ours = by_key[given.key].currency
        if given.currency is not None and given.currency != ours:
            raise UsageError(
                f"{where}: {given.key} is in {ours or 'no currency'} here, not in {given.currency[:10]}.",
                hint="Convert it, or leave its currency out.",
            )
        _bounded(given, by_key[given.key], where)
    return overridden(found, own)


def _bounded(given: Assumption, ours: Assumption, where: Path) -> None:
    """Shares stay shares."""
    share = ours.unit.startswith("ratio") and "all power" not in ours.unit and ours.currency is None
    if share and given.high > 1 and ours.high <= 1:
        raise UsageError(f"{where}: {given.key} is a share and {given.high:g} is more than 1.")
    if (
        ours.low > 0
        and given.low == 0
        and (ours.unit.startswith(("output tokens", "times")) or ours.key.startswith("exchange rate"))
    ):
        raise UsageError(f"{where}: {given.key} must be more than 0.")
    if ours.key == "PUE" and given.low < 1:
        raise UsageError(f"{where}: PUE must be at least 1, not {given.low:g}.")


def write_assumptions(path: Path, assumptions: Sequence[Assumption]) -> None:
    """Write all assumptions as TOML (or JSON where the name says so), to be changed and given back.

    Raises:
        OutputError: the file cannot be written.
    """
    rows = {one.key: _columns(one) for one in assumptions}
    if path.suffix.lower() == ".json":
        text = json.dumps({"schema": SCHEMA, "assumption": rows}, indent=2, ensure_ascii=False) + "\n"
    else:
        # Text and numbers of JSON are TOML and YAML too; only TOML has tables by this name.
        lines = [f'schema = "{SCHEMA}"']
        for key, columns in rows.items():
            lines += ["", f"[assumption.{json.dumps(key, ensure_ascii=False)}]"]
            lines += [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in columns.items()]
        text = "\n".join(lines) + "\n"
    if path.suffix.lower() not in (".json", ".toml"):
        raise UsageError(f"{path}: assumptions are written as .toml or .json.")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror or error}.") from None


def _columns(one: Assumption) -> dict[str, object]:
    columns: dict[str, object] = {"low": one.low, "typical": one.typical, "high": one.high, "unit": one.unit}
    texts = {"currency": one.currency, "source": one.source, "date": one.date, "note": one.note}
    return columns | {name: text for name, text in texts.items() if text is not None}

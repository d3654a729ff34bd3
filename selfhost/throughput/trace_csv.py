"""A CSV file of requests -> Trace, refusing gaps by line and field.

Column names of public traces are understood: the Azure LLM inference traces of 2023 and 2024 (`TIMESTAMP`,
`ContextTokens`, `GeneratedTokens`; github.com/Azure/AzurePublicDataset), BurstGPT (`Timestamp`, `Request tokens`,
`Response tokens`; github.com/HPMLL/BurstGPT, arXiv:2401.17644), Vidur's (`arrived_at`, `num_prefill_tokens`,
`num_decode_tokens`; github.com/microsoft/vidur). All read 2026-11.
"""

from __future__ import annotations

import csv
import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice, repeat
from pathlib import Path
from typing import NoReturn

from selfhost.throughput.arrivals import MOST_REQUESTS, Trace, TraceError, uncollected
from selfhost.throughput.types import MOST_TOKENS

_BLOCK_LETTERS = 1 << 18
# Names with everything but letters and digits taken off, in small letters.
_SECONDS = (
    "arrivalseconds", "arrivaltimeseconds", "arrivals", "arrivaltimes", "arrivaltime", "arrivaltimestamp", "arrival",
    "arrivedat", "timestamp", "times", "timeseconds", "time", "seconds", "ts", "t",
)  # fmt: skip
_MILLISECONDS = ("arrivalms", "arrivaltimems", "timestampms", "timems", "ms")
_PROMPT = (
    "prompttokens", "prompt", "promptlen", "promptlength", "inputtokens", "inputlength", "inputlen", "input",
    "contexttokens", "requesttokens", "numprefilltokens", "numprompttokens", "prefilltokens",
)  # fmt: skip
_OUTPUT = (
    "outputtokens", "output", "outputlen", "outputlength", "completiontokens", "generatedtokens", "responsetokens",
    "numdecodetokens", "numoutputtokens", "decodetokens",
)  # fmt: skip
# A column that counts rows says when one is missing; pandas writes its index under an empty name.
_COUNTS = ("", "unnamed0", "index", "row", "rownumber", "number", "no", "seq", "sequence")
_MAYBE_COUNTS = ("id", "requestid", "request", "requestnumber")  # only where they begin with 0 or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """Where a file has what, and what its head calls it."""

    time: int
    prompt: int
    output: int
    count: int | None
    maybe_count: int | None
    names: tuple[str, ...]
    milliseconds: bool
    delimiter: str


def read_csv(path: Path, *, requests: int | None = None) -> Trace:
    """A trace from a file with a head and a row per request.

    Times are seconds from any moment, milliseconds where the column's name ends in ms, or ISO 8601 dates. A gap is an
    empty line or field, a row shorter than the head, a column of row numbers that skips one, or a time before that of
    the row above. A long silence between two requests is none: nights are silent.

    Args:
        path: the file, UTF-8, with commas, semicolons or tabs.
        requests: read no more than these first ones.

    Raises:
        TraceError: there is no such file, or it has a gap or something that is no time or number of tokens; names the
            first such line and its field.
    """
    try:
        columns = _head(path)
        most = MOST_REQUESTS + 1 if requests is None else requests
        with uncollected():
            read = _whole_blocks(path, columns, most) or _row_by_row(path, columns, most)
    except OSError as error:
        raise TraceError(
            f"{path} cannot be read: {error.strerror or error}.",
            hint="Name a CSV file with a row for each request.",
        ) from None
    except UnicodeDecodeError:
        raise TraceError(f"{path} is not UTF-8 text.", hint="Save the trace as CSV in UTF-8.") from None
    except csv.Error as error:
        raise TraceError(f"{path} is not CSV: {error}.") from None
    times, prompts, outputs = read
    if len(times) > MOST_REQUESTS:
        raise TraceError(
            f"{path} has more than {MOST_REQUESTS:,} requests.", hint="Take its first ones: --requests N."
        )
    begin = times[0]
    return Trace(
        at_seconds=[time - begin for time in times],
        prompt_tokens=prompts,
        output_tokens=outputs,
        name=path.name,
    )


def _rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line it ends on, fields) of each row."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        for row in reader:
            yield reader.line_num, row


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _head(path: Path) -> _Columns:
    with path.open(encoding="utf-8-sig", newline="") as file:
        line = file.readline()
    delimiter = next((mark for mark in (",", ";", "\t") if mark in line), ",")
    names = next(csv.reader([line], delimiter=delimiter), [])
    if not names:
        raise TraceError(f"{path} is empty.", hint="A trace has a head and a row for each request.")
    plain = [_plain(name) for name in names]

    for name, first in zip(names, plain, strict=True):
        if first and plain.count(first) > 1:
            raise TraceError(
                f"{path}, line 1: the column {name.strip()!r} is there twice.", hint="Leave one of them."
            )

    def find(wanted: tuple[str, ...]) -> int | None:
        return next((plain.index(name) for name in wanted if name in plain), None)

    def need(what: str, example: str, wanted: tuple[str, ...]) -> int:
        found = find(wanted)
        if found is None:
            raise TraceError(
                f"{path}, line 1: no column with {what}; it has {', '.join(name or '(unnamed)' for name in names)}.",
                hint=f"Name the columns arrival_seconds, prompt_tokens and output_tokens; {example} is understood too.",
            )
        return found

    return _Columns(
        time=need("the time of arrival", "TIMESTAMP", (*_SECONDS, *_MILLISECONDS)),
        prompt=need("the tokens of the prompt", "ContextTokens", _PROMPT),
        output=need("the tokens of the output", "GeneratedTokens", _OUTPUT),
        count=find(_COUNTS),
        maybe_count=find(_MAYBE_COUNTS),
        names=tuple(name.strip() or "(unnamed)" for name in names),
        milliseconds=find(_SECONDS) is None,
        delimiter=delimiter,
    )


Read = tuple[list[float], list[int], list[int]]


def _whole_blocks(path: Path, columns: _Columns, most: int) -> Read | None:
    """The file by columns of many rows, under a second for a million; None where one has to be looked at closely."""
    if columns.count is not None or columns.maybe_count is not None:
        return None
    times: list[float] = []
    prompts: list[int] = []
    outputs: list[int] = []
    width, dated = len(columns.names), None
    with path.open(encoding="utf-8-sig") as file:
        file.readline()
        while len(times) < most and (block := file.read(_BLOCK_LETTERS) + file.readline()):
            fields = _fields(block, columns.delimiter, width)
            if fields is None:
                return None
            try:
                moments, is_date = _moments(fields[columns.time :: width])
                prompts += map(int, fields[columns.prompt :: width])
                outputs += map(int, fields[columns.output :: width])
            except (ValueError, TypeError):
                return None
            if dated not in (None, is_date):
                return None
            times += moments
            dated = is_date
    del times[most:], prompts[most:], outputs[most:]
    sound = (
        bool(times)
        and 0 <= times[0] <= times[-1] < math.inf
        and all(map(operator.le, times, islice(times, 1, None)))
        and 1 <= min(prompts) <= max(prompts) <= MOST_TOKENS
        and 1 <= min(outputs) <= max(outputs) <= MOST_TOKENS
    )
    if not sound:
        return None
    return ([time / 1e3 for time in times] if columns.milliseconds and not dated else times), prompts, outputs


def _fields(block: str, delimiter: str, width: int) -> list[str] | None:
    """Those of whole rows one after another, the first of a row with the line's end before it; None for other rows."""
    if '"' in block:
        return None
    if not block.endswith("\n"):
        block += "\n"
    fields = block.replace("\n", delimiter + "\n").split(delimiter)
    heads = fields[width::width]
    if len(fields) != len(heads) * width + 1 or not all(map(str.startswith, heads, repeat("\n"))):
        return None
    if block.count("\n") != len(heads):
        return None
    del fields[-1]
    return fields


def _moments(texts: Sequence[str]) -> tuple[list[float], bool]:
    """(seconds, whether they were dates) of a column.

    Raises:
        ValueError: one is neither.
        TypeError: some dates have a time zone and others have none.
    """
    try:
        return list(map(float, texts)), False
    except ValueError:
        dates = [datetime.fromisoformat(text.strip()) for text in texts]
    begin = datetime(1970, 1, 1, tzinfo=None if dates[0].tzinfo is None else UTC)
    return [(date - begin).total_seconds() for date in dates], True


class _Place:
    """A row in its file, for messages."""

    def __init__(self, path: Path, columns: _Columns) -> None:
        self.path, self.columns, self.line = path, columns, 1

    def refuse(self, column: int, why: str, hint: str | None = None) -> NoReturn:
        raise TraceError(
            f"{self.path}, line {self.line}, field {self.columns.names[column]}: {why}.",
            hint=hint or "Mend or drop that request; nothing is filled in for it.",
        )


def _row_by_row(path: Path, columns: _Columns, most: int) -> Read:
    times: list[float] = []
    prompts: list[int] = []
    outputs: list[int] = []
    place = _Place(path, columns)
    ended_on: int | None = None
    kind: str | None = None
    count, number = columns.count, 0
    for line, row in islice(_rows(path, columns.delimiter), 1, None):
        if not row:
            ended_on = ended_on or line
            continue
        place.line = ended_on or line
        if ended_on is not None:
            place.refuse(columns.time, "the line is empty, and requests follow it")
        if len(row) != len(columns.names):
            place.refuse(
                min(len(row), len(columns.names) - 1),
                f"the row has {len(row)} fields where the head has {len(columns.names)}",
            )
        if not times and columns.maybe_count is not None and row[columns.maybe_count].strip() in ("0", "1"):
            count = count if count is not None else columns.maybe_count
        if count is not None:
            number = _counted(row[count], number if times else None, count, place)
        at, its_kind = _time(row[columns.time], place)
        if kind not in (None, its_kind):
            place.refuse(columns.time, f"{its_kind} after {kind}")
        kind = its_kind
        if times and at < times[-1]:
            place.refuse(columns.time, f"{row[columns.time]!r} is before the time of the row above")
        times.append(at)
        prompts.append(_tokens(row[columns.prompt], columns.prompt, place))
        outputs.append(_tokens(row[columns.output], columns.output, place))
        if len(times) >= most:
            break
    if not times:
        raise TraceError(f"{path} has a head and no requests.", hint="A trace has a row for each request.")
    return times, prompts, outputs


def _counted(text: str, before: int | None, column: int, place: _Place) -> int:
    try:
        number = int(text)
    except ValueError:
        return place.refuse(column, f"{text!r} is no row number" if text.strip() else "it is empty")
    if before is not None and number != before + 1:
        place.refuse(column, f"row {number} follows row {before}, so requests are missing or out of order")
    return number


def _time(text: str, place: _Place) -> tuple[float, str]:
    """(seconds, what they were written as)."""
    column = place.columns.time
    if not text.strip():
        place.refuse(column, "it is empty")
    try:
        at = float(text)
    except ValueError:
        return _date(text.strip(), place)
    if not math.isfinite(at) or at < 0:
        place.refuse(column, f"{text.strip()!r} is no time: times are 0 or more seconds")
    return (at / 1e3 if place.columns.milliseconds else at), "plain numbers"


def _date(text: str, place: _Place) -> tuple[float, str]:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        place.refuse(place.columns.time, f"{text!r} is neither seconds nor an ISO 8601 date")
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC).timestamp(), "dates without a time zone"
    return moment.timestamp(), "dates with a time zone"


def _tokens(text: str, column: int, place: _Place) -> int:
    if not text.strip():
        place.refuse(column, "it is empty")
    try:
        tokens = int(text)
    except ValueError:
        tokens = _whole(text, column, place)
    if tokens == 0:
        place.refuse(
            column, "0 tokens, which is no request that was answered",
            hint="Drop failed requests from the trace; BurstGPT has files without them.",
        )  # fmt: skip
    if not 1 <= tokens <= MOST_TOKENS:
        place.refuse(column, f"{text.strip()} is not between 1 and {MOST_TOKENS:,} tokens")
    return tokens


def _whole(text: str, column: int, place: _Place) -> int:
    """`472.0`, as tables with gaps elsewhere are written."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value != int(value):
        place.refuse(column, f"{text.strip()!r} is no number of tokens")
    return int(value)

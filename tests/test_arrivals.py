"""Arrivals: traces from files, with every gap refused by line and field, and arrivals at random."""

from __future__ import annotations

import random
import statistics
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfhost.errors import UsageError
from selfhost.throughput.arrivals import Trace, TraceError, at_random
from selfhost.throughput.trace_csv import read_csv
from tests.conftest import Cli

HEAD = "arrival_seconds,prompt_tokens,output_tokens\n"
ROWS = "0.5,100,20\n0.75,200,30\n2,50,10\n"


def written(folder: Path, text: str, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def content(trace: Trace) -> tuple[list[float], list[int], list[int]]:
    return list(trace.at_seconds), list(trace.prompt_tokens), list(trace.output_tokens)


PLAIN = ([0.0, 0.25, 1.5], [100, 200, 50], [20, 30, 10])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(HEAD + ROWS, id="own names"),
        pytest.param("\ufeff" + HEAD + ROWS.replace("\n", "\r\n"), id="byte order mark, CRLF"),
        pytest.param((HEAD + ROWS).replace(",", ";"), id="semicolons"),
        pytest.param((HEAD + ROWS).replace(",", "\t"), id="tabs"),
        pytest.param(HEAD + ROWS + "\n\n", id="empty lines at the end"),
        pytest.param(HEAD + ROWS.replace("100,20", '" 100",20.0'), id="quoted, 20.0"),
        pytest.param(
            "timestamp_ms,input_length,output_length\n500,100,20\n750,200,30\n2000,50,10\n", id="ms"
        ),
        pytest.param(
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6800000,100,20\n"
            "2023-11-16 18:15:46.9300000,200,30\n2023-11-16 18:15:48.1800000,50,10\n",
            id="Azure 2023",
        ),
        pytest.param(
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,100,20\n"
            "2024-05-10 00:00:00.259930+00:00,200,30\n2024-05-10 02:00:01.509930+02:00,50,10\n",
            id="Azure 2024, with zones",
        ),
        pytest.param(
            "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
            "0.5,ChatGPT,100,20,120,Conversation log\n0.75,GPT-4,200,30,230,API log\n2,ChatGPT,50,10,60,API log\n",
            id="BurstGPT",
        ),
        pytest.param(
            ",arrived_at,num_prefill_tokens,num_decode_tokens\n0,0.5,100,20\n1,0.75,200,30\n2,2,50,10\n",
            id="Vidur, with the index of pandas",
        ),
        pytest.param("id,t,prompt,output\na,0.5,100,20\nb,0.75,200,30\na,2,50,10\n", id="names as ids"),
    ],
)
def test_traces_are_read_by_the_names_of_their_columns(text: str, tmp_path: Path) -> None:
    times, prompts, outputs = content(read_csv(written(tmp_path, text)))
    assert times == pytest.approx(PLAIN[0], abs=1e-6)
    assert (prompts, outputs) == PLAIN[1:]


GAPS = [
    pytest.param(ROWS.replace("200", ""), 3, "prompt_tokens", "is empty", id="no tokens"),
    pytest.param(ROWS.replace("0.75", " "), 3, "arrival_seconds", "is empty", id="no time"),
    pytest.param(ROWS.replace(",30", ""), 3, "output_tokens", "2 fields", id="short row"),
    pytest.param(ROWS.replace(",30", ",30,1"), 3, "output_tokens", "4 fields", id="long row"),
    pytest.param("0.5,100,20\n\n2,50,10\n", 3, "arrival_seconds", "line is empty", id="empty line"),
    pytest.param(ROWS.replace("0.75", "0.25"), 3, "arrival_seconds", "'0.25' is before the time", id="back in time"),
    pytest.param(ROWS.replace("0.5", "-0.5"), 2, "arrival_seconds", "0 or more", id="negative time"),
    pytest.param(ROWS.replace("2,50", "nan,50"), 4, "arrival_seconds", "0 or more", id="nan"),
    pytest.param(ROWS.replace("2,50", "inf,50"), 4, "arrival_seconds", "0 or more", id="inf"),
    pytest.param(ROWS.replace("0.75", "soon"), 3, "arrival_seconds", "neither seconds", id="garbage time"),
    pytest.param(ROWS.replace("200", "many"), 3, "prompt_tokens", "no number of tokens", id="garbage tokens"),
    pytest.param(ROWS.replace("200", "2.5"), 3, "prompt_tokens", "no number of tokens", id="half a token"),
    pytest.param(ROWS.replace("200", "-2"), 3, "prompt_tokens", "not between", id="negative tokens"),
    pytest.param(ROWS.replace("50,10", "50,0"), 4, "output_tokens", "0 tokens", id="a failed request"),
    pytest.param(ROWS.replace("200", "9" * 20), 3, "prompt_tokens", "not between", id="too many tokens"),
    pytest.param(ROWS.replace("0.75", "2024-05-10"), 3, "arrival_seconds", "dates", id="kinds of times mixed"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "line", "field", "why"), GAPS)
def test_a_gap_is_refused_by_line_and_field(
    rows: str, line: int, field: str, why: str, tmp_path: Path
) -> None:
    with pytest.raises(TraceError, match=rf"trace\.csv, line {line}, field {field}: .*{why}") as caught:
        read_csv(written(tmp_path, HEAD + rows))
    assert caught.value.hint


@pytest.mark.parametrize("head", ["index", "", "id", "request_id"])
def test_a_row_that_is_missing_shows_in_a_column_of_row_numbers(head: str, tmp_path: Path) -> None:
    rows = "0,0,100,20\n1,1,200,30\n3,2,50,10\n"
    with pytest.raises(TraceError, match=r"line 4, field .*: row 3 follows row 1"):
        read_csv(written(tmp_path, f"{head},t,prompt,output\n{rows}"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        (HEAD, "no requests"),
        ("t,prompt\n0,1\n", "line 1: no column with the tokens of the output"),
        ("a,b,c\n0,1,1\n", "line 1: no column with the time of arrival"),
        ("t,prompt,Prompt,output\n0,1,2,3\n", "line 1: the column 'prompt' is there twice"),
        (HEAD + '0,"1,1\n', "line 2"),
    ],
)
def test_what_is_no_trace_is_refused(text: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=why):
        read_csv(written(tmp_path, text))


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read: No such file"):
        read_csv(tmp_path / "absent.csv")
    with pytest.raises(TraceError, match="cannot be read: Is a directory"):
        read_csv(tmp_path)
    (tmp_path / "trace.csv").write_bytes(HEAD.encode() + b"0,\xff\xfe,1\n")
    with pytest.raises(TraceError, match="not UTF-8"):
        read_csv(tmp_path / "trace.csv")
    written(tmp_path, HEAD + "0,1,1\n" + f'1,"{"1" * 200_000}",1\n')
    with pytest.raises(TraceError, match="not CSV: field larger"):
        read_csv(tmp_path / "trace.csv")


TOKENS = st.integers(min_value=1, max_value=10**8)
REQUESTS = st.lists(st.tuples(st.floats(min_value=0, max_value=1e6), TOKENS, TOKENS), min_size=1, max_size=20)


@given(requests=REQUESTS, counted=st.booleans())
@settings(max_examples=60, deadline=None)
def test_what_was_written_is_read(
    requests: list[tuple[float, int, int]], counted: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """By columns, and row by row where a column counts them."""
    requests.sort(key=lambda one: one[0])
    rows = [
        (f"{number}," if counted else "") + f"{at!r},{prompt},{output}\n"
        for number, (at, prompt, output) in enumerate(requests, start=1)
    ]
    head = ("id," if counted else "") + HEAD
    trace = read_csv(written(tmp_path_factory.getbasetemp(), head + "".join(rows)))
    first = requests[0][0]
    assert content(trace) == (
        [at - first for at, _, _ in requests],
        [prompt for _, prompt, _ in requests],
        [output for _, _, output in requests],
    )


@given(
    requests=REQUESTS,
    place=st.integers(min_value=0, max_value=19),
    column=st.integers(min_value=0, max_value=2),
    garbage=st.text(
        st.characters(exclude_characters='",\r\n\x00', codec="utf-8", exclude_categories=["N"]), max_size=6
    ),
)
@settings(max_examples=60, deadline=None)
def test_garbage_anywhere_names_its_line_and_field(
    requests: list[tuple[float, int, int]],
    place: int,
    column: int,
    garbage: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    requests.sort(key=lambda one: one[0])
    place %= len(requests)
    rows = [[repr(at), str(prompt), str(output)] for at, prompt, output in requests]
    rows[place][column] = garbage
    text = HEAD + "".join(",".join(row) + "\n" for row in rows)
    field = HEAD.strip().split(",")[column]
    with pytest.raises(TraceError, match=f"line {place + 2}, field {field}: "):
        read_csv(written(tmp_path_factory.getbasetemp(), text))


def test_the_first_requests_and_another_rate(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD + ROWS.replace("2,50,10", "2,,"))
    two = read_csv(path, requests=2)
    assert content(two) == ([0.0, 0.25], [100, 200], [20, 30])
    assert (two.request_rate, two.mean_prompt_tokens, two.mean_output_tokens) == (4.0, 150.0, 25.0)
    assert list(two.at_rate(1.0).at_seconds) == [0.0, 1.0]
    with pytest.raises(UsageError, match="at once"):
        two.first(1).at_rate(1.0)


@pytest.mark.parametrize("burstiness", [0.0, 0.5, 1.0, 2.0, 4.0])
def test_random_arrivals_have_the_rate_and_burstiness_asked_for(burstiness: float) -> None:
    trace = at_random(
        request_rate=5.0,
        requests=40_000,
        prompt_tokens=10,
        output_tokens=3,
        chance=random.Random(7),
        burstiness=burstiness,
    )
    gaps = [after - before for before, after in zip(trace.at_seconds, trace.at_seconds[1:], strict=False)]
    assert statistics.fmean(gaps) == pytest.approx(0.2, rel=0.06)
    assert statistics.pstdev(gaps) / statistics.fmean(gaps) == pytest.approx(burstiness, rel=0.06, abs=1e-6)
    assert set(trace.prompt_tokens) == {10}
    assert set(trace.output_tokens) == {3}


def test_a_seed_makes_the_same_arrivals() -> None:
    def drawn(seed: int) -> Trace:
        return at_random(
            request_rate=1.0, requests=50, prompt_tokens=1, output_tokens=1, chance=random.Random(seed)
        )

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"request_rate": 0.0}, "--request-rate"),
        ({"request_rate": float("nan")}, "--request-rate"),
        ({"requests": 0}, "--requests"),
        ({"requests": 10**9}, "--requests"),
        ({"burstiness": -1.0}, "--burstiness"),
        ({"burstiness": float("nan")}, "--burstiness"),
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, float], why: str) -> None:
    usual = {"request_rate": 1.0, "requests": 5, "prompt_tokens": 1, "output_tokens": 1}
    with pytest.raises(UsageError, match=why):
        at_random(**{**usual, **wrong}, chance=random.Random(0))  # type: ignore[arg-type]


ESTIMATE = ("estimate", "Qwen/Qwen3-8B", "--gpu", "h100-sxm-80gb")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--arrivals", "poisson"), "--arrivals needs a rate"),
        (("--arrivals", "poisson", "--request-rate", "1", "--burstiness", "2"), "burstiness of 1"),
        (("--arrivals", "bursty", "--request-rate", "1", "--concurrency", "2"), "--concurrency"),
        (("--burstiness", "2"), "--burstiness is of a simulation"),
        (("--requests", "2"), "--requests is of a simulation"),
        (("--seed", "2"), "--seed is of a simulation"),
        (("--balance", "least-loaded"), "--balance is of a simulation"),
        (("--trace", "t.csv", "--arrivals", "poisson"), "--arrivals and --trace contradict"),
        (("--trace", "t.csv", "--prompt-tokens", "5"), "--prompt-tokens and --trace contradict"),
        (("--trace", "t.csv", "--seed", "5"), "--seed and --trace contradict"),
    ],
)
def test_options_that_contradict_are_one_error(words: tuple[str, ...], why: str, cli: Cli) -> None:
    ran = cli(*ESTIMATE, *words)
    assert (ran.code, ran.out) == (2, "")
    assert why in ran.err
    assert ran.err.count("Error:") == 1


def test_a_trace_with_gaps_is_one_error_of_the_command(cli: Cli, tmp_path: Path) -> None:
    path = written(tmp_path, HEAD + ROWS.replace("200", ""))
    ran = cli(*ESTIMATE, "--trace", path)
    assert (ran.code, ran.out) == (1, "")
    assert "line 3, field prompt_tokens: it is empty" in " ".join(ran.err.split())
    assert ran.err.count("Error:") == 1

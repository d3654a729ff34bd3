"""Metrics, labels and number of series of a query; promql-parser agrees on what PromQL is."""

from __future__ import annotations

import promql_parser
import pytest

from selfhost.lint.promql import parse

QUERIES = {
    'vllm:num_requests_waiting{model="x"}': (("vllm:num_requests_waiting",), True),
    'sum(vllm:num_requests_waiting{model_name="x"})': (("vllm:num_requests_waiting",), False),
    "sum by (model_name) (rate(vllm:prompt_tokens_total[5m]))": (("vllm:prompt_tokens_total",), True),
    'sum by (model_name) (a{model_name="x"})': (("a",), False),
    "histogram_quantile(0.95, sum by (le) (rate(a_bucket[5m])))": (("a_bucket",), False),
    "histogram_quantile(0.95, rate(a_bucket[5m]))": (("a_bucket",), True),
    "avg(a) > 0.8 or vector(0)": (("a",), False),
    'avg(a) / on (pod) group_left (x) b{pod="p"}': (("a", "b"), False),
    "max_over_time(sum(x)[5m:1m])": (("x",), False),
    "sum without (pod) (x offset 5m)": (("x",), True),
    '1 - x{pod="p-0"}': (("x",), False),
    '{__name__=~"a|b"}': (("a", "b"), True),
    "count(x @ start())": (("x",), False),
    "time() - x": (("x",), True),
}


@pytest.mark.parametrize("text", QUERIES)
def test_a_query_names_its_metrics_and_whether_it_gives_several_series(text: str) -> None:
    promql_parser.parse(text)
    names, several = QUERIES[text]
    assert (parse(text).names, parse(text).several) == (names, several)


def test_matchers_come_with_their_metric() -> None:
    (selector,) = parse('rate(a:b{x="1",y=~"2|3",}[1m])').selectors
    assert selector.metric == "a:b"
    assert [(each.label, each.operator, each.value) for each in selector.matchers] == [
        ("x", "=", "1"),
        ("y", "=~", "2|3"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        'sum(rate(vllm:a_bucket{model_name="$model"}[$__rate_interval]))',
        "label_values(vllm:a_bucket, model_name)",
        'vllm:a_bucket{namespace=~"$ns"} / {{ .Values.x }}',
        "rate(vllm:a_bucket[[[interval]]]) ) trailing",
    ],
)
def test_templates_leave_the_metric_in_sight(text: str) -> None:
    assert "vllm:a_bucket" in parse(text).names


def test_what_is_filled_in_later_is_unknown() -> None:
    read = parse("sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)")
    assert read.names == ()
    assert read.several is None


@pytest.mark.parametrize("text", ["", "((((", "{", "sum(", '"', "a{b", "]" * 50, "(" * 5000, "\x00", "a or"])
def test_nonsense_is_no_error(text: str) -> None:
    assert parse(text).several is None

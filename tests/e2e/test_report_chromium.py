"""A report in a real Chromium, at the sizes of a desk, a phone and a sheet of paper: boxes measured, nothing loaded.

SELFHOST_SCREENSHOTS names a folder for pictures of what was measured.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selfhost.cli import app
from selfhost.cli._errors import run
from selfhost.report import charts
from selfhost.report.pdf import browser, has_chinese
from tests.browsers import Browser, started
from tests.conftest import Cli

PLAN = Path(__file__).parents[2] / "examples/qwen3-32b/plan.json"
VOLUME = ("--tokens-per-month", "3B")
PROGRAM = browser()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium: `apt-get install chromium`")

# A4 less the margins of the style sheet: 182 mm by 267, at 96 pixels an inch.
A4_HEIGHT = 1009
SIZES: dict[str, dict[str, Any]] = {
    "desk": {"width": 1280, "height": 900},
    "tablet": {"width": 820, "height": 1100},
    "phone": {"width": 390, "height": 844, "phone": True},
    "small-phone": {"width": 320, "height": 640, "phone": True},
    "paper": {"width": 688, "height": A4_HEIGHT, "media": "print"},
}
CHARTS = ["cost", "latency", "memory", "throughput", "tornado"]
_MOST_SHEETS = 8

# Boxes of text that do not hold each other, and lie over each other by more than rounding.
OVERLAPS = """
(() => {
  const shown = [...document.querySelectorAll('h1,h2,p,li,dt,dd,th,td,caption,figcaption,summary,figure svg')].filter(
    one => one.checkVisibility() && getComputedStyle(one).clipPath == 'none'
      && !(one.closest('thead') && getComputedStyle(one.closest('thead')).clipPath != 'none')
  ).map(one => [one, one.getBoundingClientRect()]).filter(([, box]) => box.width > 1 && box.height > 1)
    .sort(([, p], [, q]) => p.top - q.top);
  const found = [];
  for (let i = 0; i < shown.length; i++) {
    const [a, p] = shown[i];
    for (let j = i + 1; j < shown.length && shown[j][1].top < p.bottom - 1.5; j++) {
      const [b, q] = shown[j];
      const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
      const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
      if (wide > 1.5 && high > 1.5 && !a.contains(b) && !b.contains(a))
        found.push([a.tagName, a.textContent.slice(0, 40), b.tagName, b.textContent.slice(0, 40)]);
    }
  }
  return found.slice(0, 10);
})()
"""
# Words of one chart over each other, or outside it; a word's white edge is the same word once more.
CHART_WORDS = """
(() => {
  const found = [];
  for (const svg of document.querySelectorAll('figure.chart svg')) {
    const frame = svg.getBoundingClientRect();
    const words = [...svg.querySelectorAll('text')].filter(one => one.textContent.trim())
      .map(one => [one.textContent, one.getBoundingClientRect()]).filter(([, box]) => box.width > 0);
    for (const [text, box] of words)
      if (box.left < frame.left - 3 || box.right > frame.right + 3
          || box.top < frame.top - 3 || box.bottom > frame.bottom + 3)
        found.push(['outside', text]);
    for (let i = 0; i < words.length; i++) for (let j = i + 1; j < words.length; j++) {
      const [a, p] = words[i], [b, q] = words[j];
      const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
      const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
      if (a != b && wide > 2 && high > 3) found.push(['over', a, b]);
    }
  }
  return found.slice(0, 10);
})()
"""
WIDER = """
[...document.querySelectorAll('body *')].filter(one => {
  const box = one.getBoundingClientRect();
  return box.width > 1 && one.checkVisibility() && getComputedStyle(one).clipPath == 'none'
    && !one.closest('svg') && !one.closest('thead')
    && (box.right > document.documentElement.clientWidth + 1 || box.left < -1);
}).map(one => one.tagName + ' ' + one.textContent.slice(0, 60)).slice(0, 5)
"""
SCROLLS = """
[...document.querySelectorAll('.scroll')].filter(one => one.checkVisibility() && one.scrollWidth > one.clientWidth + 1)
  .map(one => one.getAttribute('aria-label') + ' ' + one.scrollWidth + '>' + one.clientWidth)
"""
SMALLEST = """
Math.min(...[...document.querySelectorAll('figure.chart svg')].flatMap(svg => {
  const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  return [...svg.querySelectorAll('text')].map(one => parseFloat(getComputedStyle(one).fontSize) * scale);
}))
"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert PROGRAM is not None
    with started(PROGRAM, tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report of the example's plan in each language."""
    folder = tmp_path_factory.mktemp("pages")
    for lang, money in (("en", ()), ("zh", ("--currency", "CNY", "--country", "CN"))):
        words = ("report", str(PLAN), "-o", str(folder / f"{lang}.html"), "--lang", lang, *money, *VOLUME)
        assert run(app, words) == 0
    return {lang: folder / f"{lang}.html" for lang in ("en", "zh")}


@pytest.fixture
def page(request: pytest.FixtureRequest, pages: dict[str, Path]) -> Path:
    """The report in the language that the test asks for."""
    if request.param == "zh" and not has_chinese():
        pytest.skip("no font has Chinese: `apt-get install fonts-noto-cjk`")
    return pages[request.param]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("page", ["en", "zh"], indirect=True)
def test_nothing_overlaps_or_runs_out_of_the_page(page: Path, size: str, tab: Browser) -> None:
    tab.open(page, **SIZES[size])
    folder = os.environ.get("SELFHOST_SCREENSHOTS")
    if folder:
        tab.picture(Path(folder) / f"{page.stem}-{size}.png")
    assert tab.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert tab.run(WIDER) == []
    assert tab.run(SCROLLS) == []
    assert tab.run(OVERLAPS) == []
    assert tab.run(CHART_WORDS) == []


@pytest.mark.parametrize("size", ["desk", "phone", "paper"])
@pytest.mark.parametrize("page", ["en", "zh"], indirect=True)
def test_the_charts_are_there_and_can_be_read(page: Path, size: str, tab: Browser) -> None:
    tab.open(page, **SIZES[size])
    names = tab.run("[...document.querySelectorAll('figure.chart')].map(one => one.id.slice(6)).sort()")
    assert names == CHARTS
    sizes = tab.run(
        "[...document.querySelectorAll('figure.chart svg')].map(one => [one.getBoundingClientRect().width, "
        "one.getBoundingClientRect().height, one.querySelectorAll('path,line,rect').length])"
    )
    assert all(wide > 250 and high > 80 and shapes > 5 for wide, high, shapes in sizes), sizes
    titles = tab.run(
        "[...document.querySelectorAll('figure.chart svg')].every(one => one.querySelector('title').textContent)"
    )
    assert titles is True
    assert tab.run(SMALLEST) > 8.5


@pytest.mark.parametrize("page", ["en", "zh"], indirect=True)
def test_it_asks_nothing_of_a_network(page: Path, tab: Browser) -> None:
    for size in ("desk", "phone", "paper"):
        tab.open(page, **SIZES[size])
        assert tab.asked == [page.as_uri()]
        assert tab.said == []  # the page's policy refused nothing either


@pytest.mark.parametrize("page", ["zh"], indirect=True)
def test_chinese_is_drawn_by_a_font_that_has_it(page: Path, tab: Browser) -> None:
    tab.open(page, **SIZES["desk"])
    for selector in ("h1", "#risks h2", ".lead", "#chart-cost svg text"):
        text = tab.run(f"document.querySelector({selector!r}).textContent")
        drawn = tab.fonts(selector)
        assert drawn, (selector, text)
        assert not any("last resort" in name.lower() for name in drawn), drawn
        if re.search(r"[\u4e00-\u9fff]", text):
            assert any(re.search("CJK|Hei|Song|Ming|Kai|PingFang|YaHei|WenQuan", name) for name in drawn), (
                drawn
            )


@pytest.mark.parametrize("page", ["en", "zh"], indirect=True)
def test_on_paper_folded_tables_are_open(page: Path, tab: Browser) -> None:
    tab.open(page, **SIZES["paper"])
    hidden = tab.run(
        "[...document.querySelectorAll('details table')].filter(one => !one.checkVisibility()"
        " || one.getBoundingClientRect().height < 20).length"
    )
    assert hidden == 0
    sheets = len(re.findall(rb"/Type\s*/Page\b", tab.pdf()))
    assert 1 <= sheets <= _MOST_SHEETS


@pytest.mark.parametrize("page", ["en", "zh"], indirect=True)
def test_the_first_sheet_has_the_answer_and_both_charts_of_money(page: Path, tab: Browser) -> None:
    tab.open(page, **SIZES["paper"])
    ends = tab.run(
        "['cost', 'sensitivity'].map(one => document.getElementById(one).getBoundingClientRect().bottom)"
    )
    assert max(ends) < A4_HEIGHT


def test_a_pdf_is_printed(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "report.pdf"
    ran = cli("report", PLAN, "-o", path, *VOLUME)
    assert ran.code == 0, ran.err
    assert path.read_bytes().startswith(b"%PDF-")
    assert [one.name for one in tmp_path.iterdir()] == ["report.pdf"]


BROKEN = """<!DOCTYPE html><meta charset="utf-8"><body style="margin:0"><p style="margin:0">one line of words</p>
<p style="margin:-14px 0 0">another line over it</p><h2 style="width:3000px">too wide</h2>
<div class="scroll" aria-label="t" style="overflow:auto;width:90px"><table><tr><td>averylongwordthatrolls</table></div>
<figure class="chart"><svg viewBox="0 0 100 50" width="100" height="50"><text x="10" y="20">first</text>
<text x="12" y="22">second</text><text x="-60" y="40" style="font-size:6px">beyond</text></svg></figure>
<img src="http://127.0.0.1:9/x.png">"""


def test_each_check_finds_what_it_is_for(tab: Browser, tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    page.write_text(BROKEN, encoding="utf-8")
    tab.open(page, **SIZES["desk"])
    assert not tab.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert [found.split()[0] for found in tab.run(WIDER)] == ["H2"]
    assert len(tab.run(SCROLLS)) == 1
    assert [found[0::2] for found in tab.run(OVERLAPS)] == [["P", "P"]]
    assert sorted(found[0] for found in tab.run(CHART_WORDS)) == ["outside", "over"]
    assert tab.run(SMALLEST) < 8.5
    assert any(address.endswith("/x.png") for address in tab.asked)


@pytest.mark.parametrize("months", [(1.0, 3.0), (6.3, 8.9), (20.0, 21.0), (34.0, 36.0)])
def test_break_evens_stay_in_the_picture_wherever_they_lie(
    months: tuple[float, ...], tab: Browser, tmp_path: Path
) -> None:
    xs = tuple(float(month) for month in range(37))
    bought = charts.Line(name="Buy, new", xs=xs, ys=tuple(100 + 3 * x for x in xs))
    rented = [
        charts.Line(name=f"API {at:g}", xs=xs, ys=tuple((100 / at + 3) * x for x in xs)) for at in months
    ]
    marks = tuple(charts.Mark(x=at, y=100 + 3 * at, text=f"break-even, month {at:.0f}") for at in months)
    svg = charts.over_months(
        (bought, *rented),
        x_title="month",
        y_title="USD",
        labels="datum.value",
        marks=marks,
        strong="Buy, new",
    )
    page = tmp_path / "chart.html"
    figure = charts.inlined(svg, "cost", "Cost", "Two break-evens")
    page.write_text(f"<!DOCTYPE html><figure class=chart>{figure}</figure>", encoding="utf-8")
    tab.open(page, **SIZES["phone"])
    assert tab.run("document.querySelectorAll('figure.chart svg text').length") > 10
    assert tab.run(CHART_WORDS) == []
    wide = re.findall(r'aria-label="[^"]*"|stroke-width="4.5"', svg)
    assert wide.count('stroke-width="4.5"') == 1  # the recommended way

"""The live view's frames: golden ones, every width, every state that keys can reach, and words for readings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from selfhost.health.types import Health
from selfhost.live import panels, rates, words
from selfhost.live.detail import detail
from selfhost.live.frame import frame, row_keys
from selfhost.live.glyphs import ASCII, UNICODE, Glyphs, bar, glyphs_for, spark
from selfhost.live.keys import Keys
from selfhost.live.seen import see
from selfhost.live.source import Replay
from selfhost.live.state import HELP, PANELS, ViewState, press
from selfhost.observation import GpuProcess, LatencySum, Missing, NodeSnapshot, NvmlState, Observation
from selfhost.observation.node import SCHEMA
from tests import nodes
from tests.test_observation import values

Golden = Callable[[str, str], str]
SIZES = ((80, 24), (200, 50))
EMPTY = Observation(schema=SCHEMA, at=nodes.START, node=NodeSnapshot(host="bare"))


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def drawn(
    history: tuple[Observation, ...],
    state: ViewState,
    width: int = 80,
    height: int = 24,
    health: Health | None = None,
    now: float | None = None,
) -> str:
    """A frame as text, after looking at its size."""
    lines = frame(history, state, width, height, history[-1].at if now is None else now, health)
    assert len(lines) == height
    for line in lines:
        assert cell_len(line.plain) <= width, line.plain
        assert "\n" not in line.plain
        assert "\x1b" not in line.plain
    return "\n".join(line.plain.rstrip() for line in lines) + "\n"


def typed(
    state: ViewState, text: list[str] | str, history: tuple[Observation, ...], health: Health
) -> ViewState:
    for key in text:
        state = press(state, key, row_keys(history, state, health), panels.sortable(state.panel))
    return state


STATES: dict[str, list[str]] = {
    "gpus": [],
    "gpus-by-power": ["s"] * 5,
    "filtered": ["/", *"embedder", "enter"],
    "typing": ["/", *"llm/ll"],
    "processes": ["2"],
    "engines": ["3", "j"],
    "checks": ["4"],
    "detail": ["j", "j", "j", "enter"],
    "detail-lost": ["G", "k", "k", "k", "k", "enter"],
    "detail-engine": ["3", "j", "j", "enter"],
    "detail-check": ["4", "j", "enter"],
    "paused": ["p", "j"],
    "help": ["?"],
}  # fmt: skip


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("name", STATES)
def test_frames_look_as_they_did(name: str, width: int, height: int, golden: Golden) -> None:
    history, health = nodes.history(), nodes.judged()
    state = typed(ViewState(), STATES[name], history, health)
    text = drawn(history, state, width, height, health)
    assert text == golden(f"live/{name}-{width}x{height}.txt", text)


@pytest.mark.parametrize("name", ["gpus", "engines", "checks", "detail"])
def test_in_ascii_too(name: str, golden: Golden) -> None:
    history, health = nodes.history(), nodes.judged()
    state = typed(ViewState(glyphs=ASCII), STATES[name], history, health)
    text = drawn(history, state, 80, 24, health)
    assert text.isascii()
    assert text == golden(f"live/{name}-ascii-80x24.txt", text)


def test_eight_gpus_engines_and_trends_fit_in_80_by_24() -> None:
    text = drawn(nodes.history(), ViewState(), 80, 24, nodes.judged())
    for index in range(8):
        assert f" {index}  " in text
    assert "LOST: the GPU is lost (NVML 15)" in text
    assert text.count("3g.40gb") == 2
    assert "wedged for 36 s" in text
    assert "bound by memory bandwidth" in text
    assert "util  " in text.splitlines()[-4]


def test_what_is_wrong_can_be_read_without_colour() -> None:
    text = drawn(nodes.history(), ViewState(), 160, 30, nodes.judged())
    lines = text.splitlines()
    assert lines[1].startswith(" ✗ CRITICAL  gpu 5")
    assert "→ reboot the node" in lines[1]
    assert any(line.startswith("✗  5  LOST") for line in lines)
    assert any(line.startswith("!  2") and "HW thermal, SW thermal" in line for line in lines)
    assert any(line.startswith("✓  0") for line in lines)
    assert any("└ CRITICAL: wedged" in line for line in lines)


def test_a_missing_reading_is_a_dash_and_its_reason_stands_in_the_detail() -> None:
    history, health = nodes.history(), nodes.judged()
    state = typed(ViewState(), ["G", "k", "k"], history, health)
    assert state.key == f"gpu/{nodes.uuid(nodes.DIVIDED)}"
    row = next(line for line in drawn(history, state, 80, 24, health).splitlines() if line.startswith("✓  7"))
    assert row.split()[2] == "–"
    full = drawn(history, replace(state, detail=True), 100, 80, health)
    assert "utilization       – not supported by this board (NVML 3)" in full
    assert "PCIe traffic      – not supported by this board (NVML 3)" in full
    assert "5200" in full
    assert "not visible from here" in full


def test_traffic_and_tokens_are_rates_of_counters() -> None:
    seen = see(nodes.history())
    assert seen.gpus[0].pcie.sent == pytest.approx(2.5e9 / nodes.STEP)
    assert seen.gpus[1].nvlink.received == pytest.approx(8e10 / nodes.STEP)
    assert isinstance(seen.gpus[nodes.DIVIDED].pcie.sent, Missing)
    first, second = seen.engines
    assert first.rates.generation == pytest.approx(1210)
    assert first.rates.prompt == pytest.approx(9200)
    assert first.rates.first_token_seconds == pytest.approx(3.1 / 9)
    assert second.rates.generation == 0
    assert second.rates.first_token_seconds == Missing(missing="no request in the window")


def test_a_rate_needs_two_readings_and_a_counter_that_only_grows() -> None:
    assert rates.rate([(1.0, 5)]) == rates.ONE_READING
    assert rates.rate([(1.0, 5), (1.0, 9)]) == rates.ONE_READING
    assert rates.rate([(1.0, 5), (3.0, 9)]) == 2.0
    assert rates.rate([(1.0, 5), (2.0, 2), (3.0, 9)]) == rates.RESTARTED
    assert rates.rate([(1.0, 5), (2.0, nodes.IS_LOST)]) == nodes.IS_LOST
    assert rates.rate([]) == rates.ONE_READING
    again = [LatencySum(seconds=9.0, count=9), LatencySum(seconds=1.0, count=1)]
    assert rates.mean_latency(again) == rates.RESTARTED


def test_metrics_that_are_old_do_not_thin_the_rate() -> None:
    one, two = nodes.engine(0, 0), nodes.engine(0, 1)
    stale = replace(two, at=two.at + 8, metrics_age_seconds=8.0)
    assert rates.engine_rates([one, two, stale]) == rates.engine_rates([one, two])


def test_a_gap_in_the_history_is_a_gap_in_the_line() -> None:
    assert spark([0.0, None, 1.0, 0.5], 6, 1.0, UNICODE) == "  ▁ █▅"
    assert spark([3.0, float("nan")], 2, 2.0, ASCII) == "# "
    assert spark([], 3, 1.0, UNICODE) == "   "
    assert spark([0.0, 0.0], 2, 0.0, UNICODE) == "▁▁"
    assert bar(0.5, 4, ASCII) == "##.."
    assert bar(None, 4, UNICODE) == "    "


@pytest.mark.parametrize(
    ("environ", "glyphs"),
    [
        ({"LANG": "en_GB.UTF-8", "TERM": "xterm"}, UNICODE),
        ({"LANG": "C.utf8"}, UNICODE),
        ({"LANG": "en_GB.UTF-8", "LC_ALL": "C"}, ASCII),
        ({"LANG": "en_GB.UTF-8", "LC_ALL": "", "LC_CTYPE": "de_DE"}, ASCII),
        ({"LANG": "en_GB.UTF-8", "TERM": "linux"}, ASCII),
        ({}, ASCII),
    ],
)
def test_signs_are_those_that_the_terminal_can_show(environ: dict[str, str], glyphs: Glyphs) -> None:
    assert glyphs_for(environ) is glyphs


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (0x0, ""),
        (0x1, "idle"),
        (0x60, "HW thermal, SW thermal"),
        (0x84, "power brake, power cap"),
        (0x1000004, "power cap, 0x1000000"),
    ],
)
def test_reasons_for_low_clocks_are_words_worst_first(mask: int, said: str) -> None:
    assert words.clock_reasons(mask) == said


def test_numbers_are_short() -> None:
    assert [words.count(value) for value in (0, 9.44, 99.7, 999.6, 1210, 99960, 2.5e9, 7e13)] == [
        "0", "9.4", "100", "1.0k", "1.2k", "100k", "2.5G", "70.0T",
    ]  # fmt: skip
    assert [words.age(value) for value in (0.4, 41, 185, 7800, 360000, float("inf"))] == [
        "0 s", "41 s", "3 min 5 s", "2 h 10 min", "4 d 4 h", "–",
    ]  # fmt: skip
    assert words.seconds(0.0843) == "84 ms"
    assert words.seconds(1.318) == "1.32 s"
    assert words.ranges([4, 0, 1, 2, 7]) == "0-2, 4, 7"
    assert words.kinds(["NVIDIA L4", "NVIDIA L4", "NVIDIA GeForce RTX 4090"]) == "2 × L4, 1 × RTX 4090"
    assert words.clock(1e300) == "--:--:--"


def test_shared_memory_is_called_the_systems() -> None:
    gpu = nodes.gpu(0, 0)
    shared = replace(
        gpu,
        identity=replace(gpu.identity, unified_memory=True, memory_total_bytes=nodes.NOT_SUPPORTED),
        fast=replace(gpu.fast, memory_used_bytes=nodes.NOT_SUPPORTED),
    )
    node = nodes.observation(0).node
    assert words.memory_text(shared, node) == "sys 248/2048"
    assert words.memory_text(shared, replace(node, system_memory_total_bytes=None)) == "–"
    plain = replace(shared, identity=replace(shared.identity, unified_memory=False))
    assert words.memory_text(plain, node) == "–"  # never the host's memory for a board that does not share it


# --- keys and states -------------------------------------------------------------------------------------------------


def test_keys_are_read_whatever_pieces_they_come_in() -> None:
    keys = Keys()
    assert keys.feed(b"jk\x1b[A\x1bOB\x1b[5~\t\r\x7f") == [
        "j",
        "k",
        "up",
        "down",
        "pageup",
        "tab",
        "enter",
        "backspace",
    ]
    assert keys.feed(b"\x1b") == []
    assert keys.pending
    assert keys.feed(b"[") == []
    assert keys.feed(b"Z") == ["backtab"]
    assert keys.feed(b"\x1b") == []
    assert keys.flush() == ["escape"]
    assert keys.feed("日".encode()[:2]) == []
    assert keys.feed("日".encode()[2:] + b"\x00\x01") == ["日"]
    assert keys.feed(b"\x1b[200~") == []  # a sequence that means nothing here
    assert keys.feed(b"\x1bq") == ["escape", "q"]


@given(st.lists(st.binary(max_size=12), max_size=12))
def test_no_bytes_upset_the_keys(pieces: list[bytes]) -> None:
    keys = Keys()
    for piece in pieces:
        for key in keys.feed(piece):
            assert key.isprintable()
    keys.flush()


def test_sorting_goes_through_the_columns_and_back() -> None:
    history, health = nodes.history(), nodes.judged()
    state = typed(ViewState(), "s" * 5, history, health)
    order = [key for key in row_keys(history, state, health) if key.startswith("gpu/")]
    power = {gpu.identity.uuid: gpu.fast.power_watts for gpu in history[-1].node.gpus if gpu.fault is None}
    known = [power[key[4:]] for key in order if key[4:] in power]
    assert known == sorted(known, reverse=True)  # type: ignore[type-var]
    assert order[-1] == f"gpu/{nodes.uuid(nodes.LOST)}"  # what is not known stands last
    other = typed(state, "S", history, health)
    turned = [key for key in row_keys(history, other, health) if key.startswith("gpu/")]
    assert turned[:-1] == order[:-1][::-1]
    assert turned[-1] == order[-1]
    many = len(panels.sortable("gpus"))
    assert typed(ViewState(), "s" * (many + 1), history, health).sort == -1


def test_selection_stays_on_its_row_when_the_order_changes() -> None:
    history, health = nodes.history(), nodes.judged()
    state = typed(ViewState(), ["j", "j"], history, health)
    key = state.key
    state = typed(state, "sss", history, health)
    assert state.key == key
    assert key in row_keys(history, state, health)


@pytest.mark.parametrize("text", ["embedder", "EMBEDDER", "MIG-77aa", nodes.uuid(nodes.DIVIDED)[:12], "5200"])
def test_the_filter_finds_names_pods_uuids_and_processes(text: str) -> None:
    history = nodes.history()
    keys = row_keys(history, ViewState(filter=text))
    assert [key for key in keys if key.startswith("gpu/")] == [f"gpu/{nodes.uuid(nodes.DIVIDED)}"]


def test_a_filter_that_nothing_contains_says_how_to_get_out() -> None:
    text = drawn(nodes.history(), ViewState(filter="nobody"), 80, 24)
    assert "nothing contains 'nobody'; Esc shows all again" in text


def test_typing_a_filter_takes_every_key_as_a_sign() -> None:
    history, health = nodes.history(), nodes.judged()
    state = typed(ViewState(), ["/", *"qp?h", "backspace"], history, health)
    assert state.typing
    assert state.filter == "qp?"
    assert [state.quit, state.paused, state.help] == [False] * 3
    assert typed(state, ["escape"], history, health).filter == ""


def test_reset_puts_back_what_was_chosen_and_keeps_what_was_asked_for() -> None:
    history, health = nodes.history(), nodes.judged()
    begun = ViewState(interval=5.0, began=5.0, source="recording to trouble.jsonl")
    state = typed(begun, ["j", "s", "S", "+", "p", "/", *"gpu", "enter"], history, health)
    assert (state.interval, state.paused, state.filter) == (10.0, True, "gpu")
    assert typed(state, "r", history, health) == begun


def test_the_interval_has_a_shortest_and_a_longest() -> None:
    history, health = nodes.history(1), nodes.judged()
    assert typed(ViewState(), "-" * 20, history, health).interval == 0.5
    assert typed(ViewState(), "+" * 20, history, health).interval == 60.0
    assert typed(ViewState(replay=True), "+" * 20, history, health).speed == 64.0


def test_every_key_of_the_help_does_something() -> None:
    text = drawn(nodes.history(), ViewState(help=True), 80, 24)
    for key, what in HELP:
        assert key in text
        assert what.split()[0] in text


KEYS = st.sampled_from(
    [*"qsS/pP?hjkgG1234+-r x日", "up", "down", "left", "right", "enter", "escape", "tab", "backtab", "backspace",
     "pageup", "pagedown", "home", "end"]
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.lists(KEYS, max_size=25), st.integers(1, 220), st.integers(1, 60), st.sampled_from([UNICODE, ASCII])
)
def test_whatever_is_pressed_a_frame_fits(keys: list[str], width: int, height: int, glyphs: Glyphs) -> None:
    history, health = nodes.history(3), nodes.judged()
    state = typed(ViewState(glyphs=glyphs), keys, history, health)
    text = drawn(history, state, width, height, health)
    assert glyphs is UNICODE or text.isascii()


@settings(max_examples=40, deadline=None)
@given(values(Observation), st.sampled_from(PANELS), st.integers(40, 200), st.booleans())
def test_whatever_is_observed_a_frame_fits(
    observation: Observation, panel: str, width: int, opened: bool
) -> None:
    state = ViewState(panel=panel, detail=opened)  # type: ignore[arg-type]
    keys = row_keys((observation,), state)
    state = press(state, "j", keys, panels.sortable(state.panel))
    drawn((observation, observation), state, width, 24)
    for key in keys:
        assert detail(see((observation,)), key)


def test_names_cannot_move_the_cursor() -> None:
    evil = GpuProcess(pid=1, memory_bytes=1, name="\x1b[2J\x07evil\n\u202e", pod="a\tb", namespace="n")
    seen = nodes.observation(0)
    gpu = replace(seen.node.gpus[0], slow=replace(seen.node.gpus[0].slow, processes=(evil,)))
    history = (replace(seen, node=replace(seen.node, gpus=(gpu,), host="h\x1bost")),)
    for panel in PANELS:
        drawn(history, ViewState(panel=panel), 80, 24)
    assert "evil" in drawn(history, ViewState(panel="processes"), 80, 24)


def test_wide_signs_count_twice() -> None:
    seen = nodes.observation(0)
    wide = GpuProcess(pid=1, memory_bytes=1, name="日本語" * 40, pod="笔记本" * 30, namespace="n")
    gpu = replace(seen.node.gpus[0], slow=replace(seen.node.gpus[0].slow, processes=(wide,)))
    history = (replace(seen, node=replace(seen.node, gpus=(gpu,))),)
    for width in range(40, 130):
        text = drawn(history, ViewState(panel="processes"), width, 12)
        assert "日本語" in text


# --- trouble ----------------------------------------------------------------------------------------------------------


def test_a_node_without_nvml_says_why() -> None:
    why = Missing(missing="libnvidia-ml.so.1 is not here", code=12)
    history = (
        Observation(schema=SCHEMA, at=nodes.START, node=NodeSnapshot(host="bare", nvml=NvmlState(fault=why))),
    )
    text = drawn(history, ViewState(), 80, 24)
    assert "libnvidia-ml.so.1 is not here (NVML 12)" in text
    assert "NVML counts no GPU" in drawn((EMPTY,), ViewState(), 80, 24)
    assert "engines were not looked for" in drawn((EMPTY,), ViewState(panel="engines"), 80, 24)


def test_a_call_that_hangs_and_readings_that_are_late_are_loud() -> None:
    seen = nodes.observation(0)
    stuck = NvmlState(stuck_seconds=41.0, stuck_call="nvmlDeviceGetMemoryInfo_v2")
    hung = replace(seen, node=replace(seen.node, nvml=stuck))
    assert "nvmlDeviceGetMemoryInfo_v2 not back for 41 s" in drawn((hung,), ViewState(), 120, 24)
    assert "nothing new for 41 s" in drawn((seen,), ViewState(), 80, 24, now=seen.at + 41)
    assert "nothing new" not in drawn((seen,), ViewState(paused=True), 80, 24, now=seen.at + 41)
    assert "nothing new" not in drawn((seen,), ViewState(replay=True), 80, 24, now=seen.at + 1e6)


def test_a_screen_that_is_too_small_says_so() -> None:
    assert "needs 40x10" in drawn(nodes.history(1), ViewState(), 39, 24)
    assert frame(nodes.history(1), ViewState(), 80, 0, 0.0) == []
    assert "✓  0" in drawn(nodes.history(1), ViewState(), 40, 10, nodes.judged())


def test_more_gpus_than_lines_scroll_with_the_selection() -> None:
    history = nodes.healthy(2, gpus=16)
    state = ViewState(selected=(f"gpu/{nodes.uuid(15)}", None, None, None))
    assert "✗ 15" in drawn(history, state, 80, 10, nodes.judged()) or " 15  " in drawn(history, state, 80, 10)


# --- a recording that plays -------------------------------------------------------------------------------------------


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_recording_plays_at_its_pace_and_can_be_stepped() -> None:
    hand = Hand()
    replay = Replay(nodes.history(10), hand)

    def after(seconds: float, **state: Any) -> int:
        hand.now += seconds
        replay.follow(ViewState(replay=True, **state))
        return len(replay.history())

    assert after(0) == 1
    assert after(4.1) == 3
    hand.now += 100
    assert len(replay.history()) == 3  # one turn of the loop sees one moment, however long it takes
    hand.now -= 100
    assert after(0, speed=4.0) == 3
    assert after(1.0, speed=4.0, paused=True) == 5
    assert after(100, speed=4.0, paused=True) == 5
    replay.step(-1)
    assert after(0, paused=True, speed=4.0) == 4
    replay.step(3)
    assert replay.told() == "recording 7 of 10  4 x"
    assert after(1000, paused=True) == 7
    assert after(0) == 7
    assert after(1000) == 10
    assert replay.told() == "recording 10 of 10  end"
    replay.step(1)
    assert len(replay.history()) == 10


def test_gaps_in_a_recording_are_not_waited_for() -> None:
    hand = Hand()
    first, second = nodes.observation(0), nodes.observation(1)
    replay = Replay((first, replace(second, at=first.at + 86_400), replace(second, at=first.at - 5)), hand)
    hand.now += 61
    replay.follow(ViewState(replay=True))
    assert replay.told() == "recording 3 of 3  end"

"""The live view driven for real in tmux: keys in, the screen out, and the terminal as it was on every way out."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from selfhost.monitor import Recorder
from tests import nodes
from tests.screens import Screen, needs_tmux, screen

pytestmark = needs_tmux
Golden = Callable[[str, str], str]
MODES_OF_A_SHELL, MODES_OF_THE_VIEW = "0 1 1", "1 0 0"
END = "recording 20 of 20"


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "trouble.jsonl"
    with Recorder(path) as recorder:
        for observation in nodes.history():
            recorder.write(observation)
    return path


def begin(shell: Screen, words: str = "--replay trouble.jsonl", *, ends: bool = True) -> None:
    shell.type(f"stty -g > before; selfhost monitor --watch {words}; echo left with $?; stty -g > after")
    shell.press("Enter")
    shell.until("q quit")
    if ends:
        shell.type("++++++")  # 64 times as fast: 38 seconds in less than one
        shell.until(END)
    assert shell.modes() == MODES_OF_THE_VIEW


def left(shell: Screen, folder: Path, code: int) -> str:
    """The shell's screen after the view; the terminal is as it was before."""
    shown = shell.until(f"left with {code}")
    deadline = time.monotonic() + 10
    while not (folder / "after").exists() or not (folder / "after").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (folder / "after").read_text() == (folder / "before").read_text()
    assert shell.modes() == MODES_OF_A_SHELL
    assert "GPUs 8" not in shown
    return shown


def process_of(shell: Screen) -> int:
    """The view's process: the child of the window's shell."""
    parent = shell.tmux("display-message", "-p", "#{pane_pid}").strip()
    return int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[-1])


def unjudged(text: str) -> str:
    """A screen without what checks say in their own words: those have tests of their own, and change with the checks.

    tests/golden/live/ holds the same screens with a fixed verdict, word for word.
    """
    lines = text.splitlines()
    assert re.match(r" [✗X] CRITICAL  ", lines[1])
    lines[1] = " (verdict)"
    lines[2] = re.sub(r" {2,}", "  ", re.sub(r"4 checks \d+ bad", "4 checks", lines[2]))
    lines = [re.sub(r"^  ([└`]) \S.*", r"  \1 (what binds it)", line) for line in lines]
    lines = [re.sub(r"^[✗!?✓·X+.](?= )", "*", line) for line in lines]
    kept = [line for line in lines[:-1] if not re.match(r"\* (CRITICAL|WARN|unknown|ok|skipped) ", line)]
    return "\n".join(kept).rstrip() + f"\n{lines[-1]}\n"


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50)])
def test_the_view_answers_to_its_keys(
    width: int, height: int, recording: Path, tmp_path: Path, golden: Golden
) -> None:
    def same(name: str, shown: str) -> None:
        text = unjudged(shown)
        assert text == golden(f"live/tmux-{name}-{width}x{height}.txt", text)

    with screen(tmp_path, width, height) as shell:
        begin(shell)
        same("gpus", shell.text())
        shell.type("sssss")
        same(
            "sorted", shell.until(lambda shown: re.search(r"^✗  2.*\n✓  1", shown, re.MULTILINE) is not None)
        )
        shell.type("S")
        shell.until(lambda shown: re.search(r"^✓  1.*\n✗  2", shown, re.MULTILINE) is not None)
        shell.type("r/embedder")
        shell.until("/embedder_")
        shell.press("Enter")
        same("filtered", shell.until(lambda shown: "/embedder" in shown and "/embedder_" not in shown))
        shell.press("Escape")
        shell.until("LOST")
        shell.type("++++++p")
        same("paused", shell.until("PAUSED"))
        shell.press("Left")
        shell.until("recording 19 of 20")
        shell.press("Right")
        shell.until("recording 20 of 20")
        shell.type("?")
        same("help", shell.until("this help"))
        shell.type("?2")
        same("processes", shell.until("[2 processes 7]"))
        shell.press("Tab")
        same("engines", shell.until("[3 engines 2]"))
        shell.type("4")
        # Every check there is stands here, so that this list alone is not compared with what it was.
        listed = [line[2:10].strip() for line in shell.until("[4 checks").splitlines()[4:-1] if line.strip()]
        order = ["CRITICAL", "WARN", "unknown", "ok", "skipped"]
        assert listed == sorted(listed, key=order.index)
        assert listed[0] == "CRITICAL"
        shell.type("1")
        shell.press("Down", "Down", "Enter")
        same("detail", shell.until("Esc back"))
        shell.press("Escape")
        shell.until("[1 GPUs 8]")
        shell.type("q")
        left(shell, tmp_path, 0)


def test_the_terminal_is_put_back_after_ctrl_c(recording: Path, tmp_path: Path) -> None:
    with screen(tmp_path, 80, 24) as shell:
        begin(shell)
        shell.press("C-c")
        assert "Interrupted." in left(shell, tmp_path, 130)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_the_terminal_is_put_back_after_a_signal(
    number: signal.Signals, recording: Path, tmp_path: Path
) -> None:
    with screen(tmp_path, 80, 24) as shell:
        begin(shell)
        os.kill(process_of(shell), number)
        assert "q quit" not in left(shell, tmp_path, 128 + number)


def test_ctrl_z_gives_the_terminal_to_the_shell_and_fg_takes_it_back(recording: Path, tmp_path: Path) -> None:
    with screen(tmp_path, 80, 24) as shell:
        shell.type("set -m; clear")
        shell.press("Enter")
        begin(shell)
        shell.press("C-z")
        shell.until(lambda shown: "q quit" not in shown and "ready>" in shown)
        assert shell.modes() == MODES_OF_A_SHELL
        shell.type("stty -g | cmp - before && echo as it was")
        shell.press("Enter")
        shell.until("\nas it was")
        shell.type("fg")
        shell.press("Enter")
        assert END in shell.until("q quit")
        assert shell.modes() == MODES_OF_THE_VIEW
        shell.type("j2")  # single keys are read again
        shell.until("[2 processes 7]")
        shell.type("q")
        shell.until(lambda shown: "q quit" not in shown)
        assert shell.modes() == MODES_OF_A_SHELL


def test_another_size_is_another_frame(recording: Path, tmp_path: Path) -> None:
    with screen(tmp_path, 200, 50) as shell:
        begin(shell)
        assert "NVLink in/out" in shell.text()
        shell.tmux("resize-window", "-x", "60", "-y", "15")
        shown = shell.until(lambda text: "NVLink in/out" not in text and "q quit" in text)
        assert max(map(len, shown.split("\n"))) <= 60
        shell.tmux("resize-window", "-x", "30", "-y", "8")
        shell.until("needs 40x10")
        shell.tmux("resize-window", "-x", "80", "-y", "24")
        shell.until("q quit")
        shell.type("q")
        left(shell, tmp_path, 0)


def test_without_utf8_and_colours_all_is_still_told(recording: Path, tmp_path: Path, golden: Golden) -> None:
    with screen(tmp_path, 80, 24, LC_ALL="C", NO_COLOR="1") as shell:
        begin(shell)
        shown = shell.text()
        assert shown.isascii()
        assert unjudged(shown) == golden("live/tmux-ascii-80x24.txt", unjudged(shown))
        coloured = shell.tmux("capture-pane", "-p", "-e")
        codes = {code for found in re.findall(r"\x1b\[([0-9;]*)m", coloured) for code in found.split(";")}
        assert not {code for code in codes if re.fullmatch(r"(3|4|9|10)[0-7]", code)}, codes
        assert "7" in codes  # reverse and bold are no colours
        shell.type("q")
        left(shell, tmp_path, 0)


def test_a_live_poller_is_shown_where_there_is_no_gpu(tmp_path: Path) -> None:
    with screen(tmp_path, 80, 24) as shell:
        begin(shell, "--no-engines --interval 0.5 --record own.jsonl", ends=False)
        shell.until("recording to own.jsonl")
        shell.until("libnvidia-ml.so.1 is not here")
        shell.type("q")
        left(shell, tmp_path, 0)
    lines = (tmp_path / "own.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) >= 2
    assert '"selfhost/recording/v1"' in lines[0]


def test_only_what_changed_is_written_again(recording: Path, tmp_path: Path) -> None:
    """On a bare pseudo-terminal, where every byte can be counted."""
    master, slave = pty.openpty()
    os.set_blocking(master, False)
    environ = os.environ | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "COLUMNS": "80", "LINES": "24"}
    view = subprocess.Popen(
        [sys.executable, "-m", "selfhost", "monitor", "--watch", "--replay", str(recording)],
        stdin=slave, stdout=slave, stderr=slave, env=environ, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    try:
        first = heard(master, "q quit", 20)
        assert first.startswith("\x1b[?1049h")
        os.write(master, b" ")  # paused: nothing changes any more
        heard(master, "PAUSED", 10)
        time.sleep(1.2)
        assert heard(master, None, 0.5) == ""
        os.write(master, b"j")  # another row is selected: that row alone, and no clearing of the screen
        moved = heard(master, "\x1b[7m", 5)
        assert "\x1b[2J" not in moved
        assert "\x1b[1;1H" not in moved
        assert moved.count(";1H") <= 6  # the row, and the trends of the GPU that is selected now
        os.write(master, b"q")
        assert heard(master, "\x1b[?1049l", 5).count("\x1b[?25h") == 1
        assert view.wait(10) == 0
    finally:
        view.kill()
        view.wait()
        os.close(master)


def heard(master: int, wanted: str | None, seconds: float) -> str:
    """What a program wrote until it wrote `wanted`, or in that time."""
    got = b""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            got += os.read(master, 65536)
        except (BlockingIOError, OSError):
            time.sleep(0.02)
        if wanted is not None and wanted in got.decode("utf-8", "replace"):
            return got.decode("utf-8", "replace")
    assert wanted is None, f"{wanted!r} was never written: {got!r}"
    return got.decode("utf-8", "replace")

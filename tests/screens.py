"""A terminal that tests can look at: tmux with one window, keys in and the screen's text out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PATIENCE_SECONDS = 25.0
needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


class Screen:
    """One tmux window with a shell in it."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-u", "-S", str(self._socket), "-f", "/dev/null", *words], capture_output=True, text=True,
            check=True, timeout=10, env=os.environ | {"LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        return done.stdout

    def press(self, *keys: str) -> None:
        """Keys by tmux's names (Enter, Escape, C-c), or text."""
        self.tmux("send-keys", *keys)

    def type(self, text: str) -> None:
        self.tmux("send-keys", "-l", text)

    def text(self) -> str:
        shown = self.tmux("capture-pane", "-p")
        return "\n".join(line.rstrip() for line in shown.split("\n")[: self.size()[1]]) + "\n"

    def size(self) -> tuple[int, int]:
        width, height = self.tmux("display-message", "-p", "#{pane_width} #{pane_height}").split()
        return int(width), int(height)

    def modes(self) -> str:
        """Whether the alternate screen is on, the cursor shown and lines wrapped."""
        return self.tmux("display-message", "-p", "#{alternate_on} #{cursor_flag} #{wrap_flag}").strip()

    def until(self, holds: Callable[[str], bool] | str) -> str:
        """The screen once it shows a text, or what a function asks for, and has stopped changing."""
        ready = holds if callable(holds) else lambda shown: holds in shown
        end = time.monotonic() + PATIENCE_SECONDS
        before = ""
        while time.monotonic() < end:
            shown = self.text()
            if ready(shown) and shown == before:
                return shown
            before = shown
            time.sleep(0.12)
        raise AssertionError(f"the screen never showed what was waited for:\n{before}")


@contextmanager
def screen(folder: Path, width: int, height: int, **environ: str) -> Iterator[Screen]:
    """A shell on a terminal of that size; `selfhost` in it is this checkout's."""
    opened = Screen(folder / "tmux")
    root = Path(__file__).parents[1]
    settings = {
        "TZ": "UTC", "LC_ALL": "C.UTF-8", "PS1": "ready> ", "PYTHONPATH": str(root), "HOME": str(folder),
        "XDG_STATE_HOME": str(folder / "state"), "XDG_CONFIG_HOME": str(folder / "config"), "ENV": "", "HISTFILE": "",
        "HF_HUB_OFFLINE": "1",
    } | environ  # fmt: skip
    words = [f"{name}={value}" for name, value in settings.items()]
    opened.tmux(
        "new-session", "-d", "-x", str(width), "-y", str(height), "-c", str(folder), "env", *words, "sh", ";",
        "set-option", "-g", "status", "off", ";", "set-option", "-g", "escape-time", "10",
    )  # fmt: skip
    try:
        opened.tmux("resize-window", "-x", str(width), "-y", str(height))
        opened.type(f'selfhost() {{ {sys.executable} -m selfhost "$@"; }}; clear')
        opened.press("Enter")
        opened.until(lambda shown: shown.startswith("ready>"))
        yield opened
    finally:
        opened.tmux("kill-server")

"""The terminal: single keys, the alternate screen, only changed lines written, and all put back on every way out."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from selfhost.errors import SelfhostError
from selfhost.live.keys import Keys

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

# xterm's private modes 1049 (alternate screen), 25 (cursor), 7 (wrapping at the right edge).
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[0m\x1b[?1049l"
# How long a lone escape byte waits for the rest of a sequence; a slow line still sends one within this.
ESCAPE_SECONDS = 0.05
_ENDINGS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class TerminalError(SelfhostError):
    """The live view was asked for where there is no terminal that could show it."""


def require_terminal(environ: Mapping[str, str]) -> None:
    """Refuse where keys cannot be read or lines cannot be drawn.

    Raises:
        TerminalError: with the way out.
    """
    hint = "`selfhost monitor` prints the same once as text, `selfhost monitor --json` for programs."
    if sys.stdin is None or not sys.stdin.isatty():
        raise TerminalError("--watch needs a terminal, and standard input is none.", hint=hint)
    if sys.stdout is None or not sys.stdout.isatty():
        raise TerminalError("--watch needs a terminal, and standard output is none.", hint=hint)
    if environ.get("TERM", "dumb") in ("dumb", ""):
        raise TerminalError("--watch needs a terminal that can move its cursor, and TERM is dumb.", hint=hint)


class Terminal:
    """A context manager that takes the terminal and gives it back as it was.

    Args:
        environ: NO_COLOR and TERM.
        keyboard, screen: file descriptors.
    """

    def __init__(self, environ: Mapping[str, str], *, keyboard: int = 0, screen: int = 1) -> None:
        self._keyboard, self._screen = keyboard, screen
        self._keys = Keys()
        self._drawn: list[str] = []
        self._console = _console(environ)
        self._saved: list[Any] | None = None
        self._mode: list[Any] = []
        self._before: dict[signal.Signals, Any] = {}
        self._wake = (-1, -1)
        self._wakeup_before = -1
        self._ended_by: signal.Signals | None = None
        self.closed = False

    def __enter__(self) -> Terminal:
        self._wake = os.pipe()
        for end in self._wake:
            os.set_blocking(end, False)
        self._wakeup_before = signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        for number in (signal.SIGINT, *_ENDINGS, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH):
            self._before[number] = signal.signal(number, self._on_signal)
        try:
            self._take()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        signal.set_wakeup_fd(self._wakeup_before)
        for end in self._wake:
            os.close(end)
        if self._ended_by == signal.SIGINT:
            raise KeyboardInterrupt
        if self._ended_by is not None:
            # The screen is as it was: end as if nobody had listened, so that whoever sent it sees what it did.
            signal.signal(self._ended_by, signal.SIG_DFL)
            os.kill(os.getpid(), self._ended_by)

    def _take(self) -> None:
        import termios

        mode = termios.tcgetattr(self._keyboard)
        self._saved = [*mode[:6], list(mode[6])]
        mode[3] &= ~(termios.ICANON | termios.ECHO)  # Ctrl-C and Ctrl-Z stay signals
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        self._mode = mode
        self._again()

    def _again(self) -> None:
        import termios

        termios.tcsetattr(self._keyboard, termios.TCSADRAIN, self._mode)
        self._drawn = []
        self._write(_ENTER)

    def _give_back(self) -> None:
        import termios

        if self._saved is None:
            return
        saved, self._saved = self._saved, None
        self._write(_LEAVE)
        with contextlib.suppress(OSError, termios.error):  # a terminal that is gone needs nothing put back
            termios.tcsetattr(self._keyboard, termios.TCSAFLUSH, saved)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTSTP:
            self._stop()
        elif number == signal.SIGCONT:
            if (
                self._saved is not None
            ):  # after SIGSTOP, which nobody can listen to: the shell had the terminal
                self._again()
        elif number == signal.SIGWINCH:
            self._drawn = []
        elif (
            number == signal.SIGINT and self.closed
        ):  # again: whatever keeps the loop from ending is cut short
            raise KeyboardInterrupt
        else:
            self.closed = True
            self._ended_by = signal.Signals(number)

    def _stop(self) -> None:
        """Ctrl-Z: the shell gets its screen; what follows runs once the shell lets this go on."""
        self._give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._on_signal)
        self._take()

    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        try:
            size = os.get_terminal_size(self._screen)
        except OSError:
            return 80, 24
        return (size.columns or 80, size.lines or 24)

    def draw(self, lines: Sequence[Text], width: int) -> None:
        """Write the lines that differ from those on the screen, in one go.

        Args:
            lines: from the top.
            width: columns of the screen. A line that fills them needs no clearing behind it, which would take its
                last sign away: the cursor stays on it.
        """
        made = [f"{self._ansi(text)}\x1b[0m" + ("" if text.cell_len >= width else "\x1b[K") for text in lines]
        old, self._drawn = self._drawn, made
        fresh = len(old) != len(made)
        parts = ["\x1b[2J"] if fresh else []
        parts += [
            f"\x1b[{place + 1};1H{text}" for place, text in enumerate(made) if fresh or text != old[place]
        ]
        if parts:
            self._write("".join(parts))

    def _ansi(self, text: Text) -> str:
        from rich.color import ColorSystem

        systems = {"256": ColorSystem.EIGHT_BIT, "truecolor": ColorSystem.TRUECOLOR}
        system = systems.get(self._console.color_system or "", ColorSystem.STANDARD)
        parts = []
        for piece in text.render(self._console):
            style = piece.style
            if style is not None and self._console.no_color:
                style = style.without_color
            parts.append(style.render(piece.text, color_system=system) if style else piece.text)
        return "".join(parts)

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        while data:
            try:
                data = data[os.write(self._screen, data) :]
            except BlockingIOError:
                select.select([], [self._screen], [], 1.0)
            except OSError:  # the terminal is gone
                self.closed = True
                return

    def wait(self, seconds: float) -> Iterator[str]:
        """Keys that are pressed within `seconds`; ends early with a key, a signal or another size."""
        try:
            ready, _, _ = select.select([self._keyboard, self._wake[0]], [], [], max(seconds, 0.0))
        except InterruptedError:
            return
        if self._wake[0] in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake[0], 512)
        if self._keyboard not in ready or self.closed:
            return
        yield from self._read()
        while self._keys.pending:
            more, _, _ = select.select([self._keyboard], [], [], ESCAPE_SECONDS)
            yield from self._read() if more else self._keys.flush()

    def _read(self) -> list[str]:
        try:
            data = os.read(self._keyboard, 1024)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:  # hung up
            self.closed = True
            return self._keys.flush()
        return self._keys.feed(data)


def _console(environ: Mapping[str, str]) -> Console:
    from rich.console import Console

    return Console(
        force_terminal=True, no_color=bool(environ.get("NO_COLOR")), highlight=False, emoji=False, markup=False,
        legacy_windows=False,
    )  # fmt: skip

"""HTML of a report -> PDF, printed by a Chromium that is on the machine.

A browser alone: WeasyPrint 70 did not end within ten minutes on this style sheet (tried 2026-11).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from selfhost.errors import OutputError, UnsupportedError

BROWSER = "SELFHOST_CHROMIUM"  # path of one, before all others
_NAMES = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge", "msedge",
)  # fmt: skip
_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
_LONGEST_SECONDS = 120  # of a first start on a slow disk; a page takes two
# The page has no script and its policy forbids every load; these keep the browser itself quiet.
FLAGS = (
    "--headless=new", "--disable-gpu", "--no-first-run", "--no-default-browser-check", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip


def browser() -> str | None:
    """Path of a Chromium or one of its kin, None where there is none."""
    return next(iter(_browsers()), None)


def _browsers() -> Iterator[str]:
    named = os.environ.get(BROWSER)
    if named:
        yield named
    for name in _NAMES:
        if found := shutil.which(name):
            yield found
    for place in _PLACES:
        if os.path.exists(place):
            yield place


def flags(profile: Path) -> list[str]:
    """How it is started, with a profile of its own.

    Root has no sandbox on Linux (chromium: sandbox/linux/README.md), and containers are often root.
    """
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    return [*FLAGS, *(["--no-sandbox"] if root else []), f"--user-data-dir={profile}"]


def has_chinese() -> bool:
    """Whether a font for Chinese is installed; where fontconfig does not say, the system brings one."""
    lister = shutil.which("fc-list")
    if lister is None:
        return True
    try:
        found = subprocess.run([lister, ":lang=zh"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return True
    return found.returncode != 0 or bool(found.stdout.strip())


def to_pdf(html: str, *, chinese: bool) -> bytes:
    """Print a page.

    Args:
        html: the whole page.
        chinese: it is written in Chinese, which takes a font for it.

    Raises:
        UnsupportedError: nothing is there to print with, or Chinese would come out as boxes.
        OutputError: the browser did not print.
    """
    if chinese and not has_chinese():
        raise UnsupportedError(
            "No font of this machine has Chinese, so that it would be printed as boxes.",
            hint="Install one (Debian: fonts-noto-cjk), or write .html, which a reader's own fonts show.",
        )
    found = browser()
    if found is not None:
        return _by_browser(found, html)
    raise UnsupportedError(
        "A PDF takes a Chromium, Chrome or Edge, and none is here.",
        hint=f"Install one (Debian: chromium), name one in {BROWSER}, or write .html and print it from a browser.",
    )


def _by_browser(path: str, html: str) -> bytes:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="selfhost-report-", ignore_cleanup_errors=True) as folder:
        page, printed = Path(folder) / "report.html", Path(folder) / "report.pdf"
        page.write_text(html, encoding="utf-8")
        words = [
            path,
            *flags(Path(folder) / "profile"),
            "--no-pdf-header-footer",
            f"--print-to-pdf={printed}",
        ]
        try:
            ran = subprocess.run(
                [*words, page.as_uri()], capture_output=True, timeout=_LONGEST_SECONDS, check=False, text=True,
                errors="replace", stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise _failed(path, f"it did not end within {_LONGEST_SECONDS} s") from None
        except OSError as error:
            raise _failed(path, error.strerror or str(error)) from None
        if not printed.exists() or not printed.stat().st_size:
            last = ran.stderr.strip().splitlines()[-1:] or [f"exit code {ran.returncode}"]
            raise _failed(path, last[0][:200])
        return printed.read_bytes()


def _failed(path: str, why: str) -> OutputError:
    return OutputError(
        f"{path} did not print the report: {why}.", hint=f"Name another browser in {BROWSER}, or write .html."
    )

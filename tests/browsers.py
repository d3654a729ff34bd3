"""A real Chromium, told what to do over its DevTools protocol: sizes, media, scripts, pictures, what it loads."""

from __future__ import annotations

import base64
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfhost.report.pdf import flags

START_SECONDS = 60


@dataclass(slots=True)
class Browser:
    """One tab. `asked` are the addresses that were asked for, `said` the complaints of the page."""

    socket: Any
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    last: int = 0

    def call(self, method: str, **parameters: Any) -> Any:
        """Send one command and wait for its answer; what happens meanwhile is written down."""
        self.last += 1
        self.socket.send(json.dumps({"id": self.last, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.last:
                assert "error" not in message, message["error"]
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        if message.get("method") == "Network.requestWillBeSent":
            self.asked.append(message["params"]["request"]["url"])
        if message.get("method") == "Log.entryAdded":
            self.said.append(message["params"]["entry"]["text"])

    def open(
        self, path: Path, *, width: int, height: int, phone: bool = False, media: str = "screen"
    ) -> None:
        """Show a file in a window of that size, in CSS pixels."""
        for domain in ("Network", "Page", "Log", "Runtime", "DOM", "CSS"):
            self.call(f"{domain}.enable")
        self.asked.clear()
        self.said.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )  # fmt: skip
        self.call("Emulation.setEmulatedMedia", media=media)
        self.call("Page.navigate", url=path.as_uri())
        ends = time.monotonic() + START_SECONDS
        while self.run("document.readyState") != "complete" or not self.run("location.pathname").endswith(
            path.name
        ):
            assert time.monotonic() < ends, "the page does not load"
            time.sleep(0.05)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def fonts(self, selector: str) -> dict[str, int]:
        """Fonts that an element's text is really drawn with, by glyphs."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        found = self.call("CSS.getPlatformFontsForNode", nodeId=node)["fonts"]
        return {one["familyName"]: one["glyphCount"] for one in found}

    def picture(self, path: Path) -> None:
        """A picture of the whole page."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)[
            "data"
        ]
        path.write_bytes(base64.b64decode(data))

    def pdf(self) -> bytes:
        """The page on A4."""
        return base64.b64decode(
            self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"]
        )


@contextmanager
def started(program: str, folder: Path) -> Iterator[Browser]:
    """A browser with a profile of its own, stopped afterwards."""
    import websocket

    profile = folder / "profile"
    command = [
        program, *flags(profile), "--remote-debugging-port=0", "--remote-allow-origins=*", "about:blank",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        said = profile / "DevToolsActivePort"
        ends = time.monotonic() + START_SECONDS
        while not (said.exists() and said.read_text().strip()):
            assert process.poll() is None, "the browser ended"
            assert time.monotonic() < ends, "the browser does not start"
            time.sleep(0.05)
        port = said.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
            tab = next(one for one in json.load(answer) if one["type"] == "page")
        socket = websocket.create_connection(tab["webSocketDebuggerUrl"], timeout=START_SECONDS)
        try:
            yield Browser(socket=socket)
        finally:
            socket.close()
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

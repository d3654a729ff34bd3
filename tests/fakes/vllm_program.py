"""A Python that has vLLM, as `selfhost up --local` sees one: it says so, and serves what tests/fakes/serving.py serves.

`install(folder)` writes the program; what it does beside serving stands in script.json beside it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any

VERSION = "0.32.0"
_HERE = Path(__file__).resolve()


def install(folder: Path, **script: Any) -> Path:
    """Write the program into a folder.

    Args:
        folder: made if it does not exist.
        script: `say`, lines that are printed first; `die`, exit status after them; `delay`, seconds before it serves;
            `gate`, waits for a file `go` before; `linger`, seconds that it takes to end; `child`, starts a process that
            ignores to be asked; `wrong`, name of another model that it serves; `none`, has no vLLM; `version`, of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "python"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(_HERE.parents[2])!r})\n"
        f"from tests.fakes.vllm_program import main\nsys.exit(main({str(folder)!r}, sys.argv[1:]))\n",
        encoding="utf-8",
    )
    program.chmod(0o755)
    (folder / "script.json").write_text(json.dumps(script), encoding="utf-8")
    return program


def main(folder: str, words: list[str]) -> int:
    """Answer as Python would with these words."""
    script = json.loads((Path(folder) / "script.json").read_text(encoding="utf-8"))
    if words[:1] == ["-c"]:
        if script.get("none"):
            return 3
        _say(f"vllm {script.get('version', VERSION)}+cpu")
        return 0
    options = dict(
        word.removeprefix("--").split("=", 1) for word in words if word.startswith("--") and "=" in word
    )
    _note(Path(folder), words)
    for line in script.get("say", ()):
        _say(line)
    if "die" in script:
        return int(script["die"])
    if script.get("child"):
        subprocess.Popen(
            [sys.executable, "-c", "import signal,time;signal.signal(15,signal.SIG_IGN);time.sleep(300)"]
        )
    time.sleep(script.get("delay", 0.0))
    while script.get("gate") and not (Path(folder) / "go").exists():
        time.sleep(0.02)
    return _serve(options, script)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _note(folder: Path, words: list[str]) -> None:
    """What it was started with, for tests that look."""
    with (folder / "started.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"pid": os.getpid(), "words": words, "environ": dict(os.environ)}) + "\n")


def _serve(options: dict[str, str], script: dict[str, Any]) -> int:
    from tests.fakes.serving import Serving, handler_of

    model = script.get("wrong") or options.get("served-model-name", "tiny")
    serving = Serving(model=model, key=os.environ.get("VLLM_API_KEY"), chat=True)
    server = ThreadingHTTPServer((options["host"], int(options["port"])), handler_of(serving))
    server.daemon_threads = True

    def end(number: int, frame: FrameType | None) -> None:
        def late() -> None:
            time.sleep(script.get("linger", 0.0))
            server.shutdown()

        threading.Thread(target=late, daemon=True).start()

    signal.signal(signal.SIGTERM, end)
    _say("INFO 11-26 12:00:00 [launcher.py:40] Application startup complete.")
    server.serve_forever(poll_interval=0.02)
    server.server_close()
    return 0

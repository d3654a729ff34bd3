"""What runs in containers where everything is well: the wait for weights, the download, the engine, anything else."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

from tests.simulator import vllm_log
from tests.simulator.box import FOREVER, Box, Exit
from tests.simulator.engine import Served
from tests.simulator.vllm_log import Start

Run = Generator[float, None, Exit | int | None]
DOWNLOAD_BYTES_A_SECOND = 800 << 20
DOWNLOAD_BYTES = 65_524_246_528  # of Qwen3-32B in bf16


def idle(box: Box) -> Run:
    """A server of whatever kind: it listens at once, for ever."""
    box.listening = True
    yield FOREVER
    return None


def finish(box: Box) -> Run:
    """An init container or a job that nobody described: it ends well."""
    yield 0.5
    return 0


def await_weights(box: Box) -> Run:
    """The init container `weights`: waits for the file that its last words name, as long as they say."""
    marker, seconds = box.words[-2], float(box.words[-1])
    waited = 0.0
    while not box.exists(marker):
        if waited >= seconds:
            box.say(f"{marker} did not appear within {seconds:.0f} s: the weights are not on the volume")
            return 1
        yield 5.0
        waited += 5
    return 0


def download(box: Box) -> Run:
    """The download Job: selfhost pull's own lines, then the file that the server waits for."""
    return (yield from downloading(box))


def downloading(box: Box, *, total_bytes: int = DOWNLOAD_BYTES, speed: int = DOWNLOAD_BYTES_A_SECOND) -> Run:
    """A pull of so many bytes.

    Args:
        box: the container.
        total_bytes: how much there is.
        speed: bytes a second.
    """
    from selfhost.pull.progress import PLAIN_SECONDS, Progress
    from selfhost.units import size_text

    repo = next((word for word in box.words if word.count("/") == 1 and not word.startswith("/")), "model")
    marker = box.option("--ready-file")
    if marker and box.exists(marker):
        box.say(f"{repo}: 17 files, {size_text(total_bytes)}, all verified.")
        return 0
    clock = [0.0]
    progress = Progress(total_bytes, None, clock=lambda: clock[0])
    yield 2.0
    while progress.done_bytes < total_bytes:
        yield PLAIN_SECONDS
        clock[0] += PLAIN_SECONDS
        progress.got(min(round(speed * PLAIN_SECONDS), total_bytes - progress.done_bytes))
        box.say(progress.line())
    yield 1.0
    if marker:
        box.write(marker)
    name, _, revision = repo.partition("@")
    box.say(f"{name} at {revision[:12] or 'main'}: 17 files, {size_text(total_bytes)}, all verified.")
    return 0


def start_of(box: Box) -> Start:
    """What the engine's arguments ask for."""
    model = next((word for word in box.words[2:] if not word.startswith("-")), "model")
    return Start(
        model=model,
        tensor=int(box.option("--tensor-parallel-size", "1")),
        max_model_len=int(box.option("--max-model-len", "16384")),
    )


def serve(box: Box) -> Run:
    """The engine: loads, compiles, captures, listens."""
    return (yield from serving(box))


def serving(box: Box, **changes: object) -> Run:
    """An engine whose start is as `changes` have it, fields of `Start`."""
    start = replace(start_of(box), **changes)  # type: ignore[arg-type]
    for seconds, text in vllm_log.whole(start):
        yield seconds
        box.say(text)
    box.engine = Served.of(box, start)
    box.listening = True
    yield FOREVER
    return None

"""Pulling and verifying as ratios: against `hf download` and `sha256sum` on the same files; exits with 1 past a limit.

A Hub on loopback serves random shards to both clients in turns. Memory is the proportional set size of the whole
process tree, sampled. `--kills` ends a pull of 1 GiB with SIGKILL at random moments and counts what was sent twice.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PULL_RATIO, VERIFY_RATIO, PEAK_BYTES, TWICE_SHARE = 1.0, 2.5, 200 * 10**6, 0.05
# Out of Xet storage hf_xet moves the bytes of both, and a pull has its hashing on top of that.
XET_PULL_RATIO = 0.9
REPO = "acme/bench"
BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parent.parent
SAMPLE_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One run of a program: seconds from start to end, most memory of its processes together, its exit code."""

    seconds: float
    peak_bytes: int
    code: int


def shards(directory: Path, total_bytes: int, count: int) -> None:
    """Write random shards with true headers, an index and a configuration."""
    directory.mkdir(parents=True)
    size = total_bytes // count
    weight_map = {}
    for number in range(count):
        name, tensor = f"model-{number + 1:05}-of-{count:05}.safetensors", f"t{number}"
        table = {tensor: {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
        header = json.dumps(table).encode()
        with (directory / name).open("wb") as stream:
            stream.write(struct.pack("<Q", len(header)) + header)
            left = size
            while left:
                left -= stream.write(os.urandom(min(left, 1 << 20)))
        weight_map[tensor] = name
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (directory / "config.json").write_text("{}")


@contextmanager
def hub(directory: Path, xet: Path | None) -> Iterator[str]:
    """The Hub in a process of its own; with `xet` both clients read a local Xet storage in that directory."""
    words = [sys.executable, "-m", "tests.fakes.hub", str(directory), "--repo", REPO]
    words += [] if xet is None else ["--xet", str(xet)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def environment(url: str, home: Path) -> dict[str, str]:
    """What both clients run with."""
    return {
        **os.environ,
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "NO_PROXY": "127.0.0.1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    }


def run(words: list[str], env: dict[str, str]) -> Ran:
    """Run a program and watch its memory."""
    began = time.monotonic()
    with subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        peak = [0]
        watching = threading.Thread(target=_watch, args=(process, peak), daemon=True)
        watching.start()
        _, error = process.communicate()
        seconds = time.monotonic() - began
        watching.join()
    if process.returncode:
        sys.exit(f"{' '.join(words[:3])} failed: {error.decode()[-500:]}")
    return Ran(seconds=seconds, peak_bytes=peak[0], code=process.returncode)


def _watch(process: subprocess.Popen[bytes], peak: list[int]) -> None:
    while process.poll() is None:
        peak[0] = max(peak[0], sum(map(_memory, _tree(process.pid))))
        time.sleep(SAMPLE_SECONDS)


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(below for child in children for below in _tree(int(child)))]


def _memory(pid: int) -> int:
    """Proportional set size in bytes: shared pages are divided among those that share them."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def compare(work: Path, total_bytes: int, rounds: int, *, xet: bool, slack: float) -> list[str]:
    """Pull with both clients in turns, then verify; returns what is past its limit."""
    pull_limit, verify_limit = (XET_PULL_RATIO if xet else PULL_RATIO) / slack, VERIFY_RATIO / slack
    source = work / "source"
    shards(source, total_bytes, 8)
    ours: list[Ran] = []
    theirs: list[Ran] = []
    check: list[Ran] = []
    sums: list[Ran] = []
    with hub(source, work / "xet" if xet else None) as url:
        for number in range(rounds):
            for name, results in (("hf", theirs), ("selfhost", ours)):
                target = work / name
                shutil.rmtree(target, ignore_errors=True)
                verb = "download" if name == "hf" else "pull"
                option = "--local-dir" if name == "hf" else "--dir"
                env = environment(url, work / f"home-{name}-{number}")
                results.append(run([str(BIN / name), verb, REPO, option, str(target)], env))
                os.sync()
    files = sorted(map(str, (work / "selfhost").glob("*.safetensors")))
    for _ in range(rounds):
        sums.append(run(["sha256sum", *files], dict(os.environ)))
        check.append(run([str(BIN / "selfhost"), "verify", str(work / "selfhost")], dict(os.environ)))
    pull = statistics.median(b.seconds / a.seconds for a, b in zip(ours, theirs, strict=True))
    verify = statistics.median(b.seconds / a.seconds for a, b in zip(check, sums, strict=True))
    peak = max(result.peak_bytes for result in (*ours, *check))
    gib = total_bytes / 2**30
    print(
        f"pull      {pull:.2f} × hf download   (limit {pull_limit:.2g}; {gib:.1f} GiB, {rounds} rounds in turns)"
    )
    print(f"verify    {verify:.2f} × sha256sum     (limit {verify_limit:.2g}; {os.cpu_count()} processors)")
    others = max(result.peak_bytes for result in theirs)
    print(
        f"memory    {peak / 1e6:.0f} MB             (limit {PEAK_BYTES / 1e6:.0f}; hf {others / 1e6:.0f} MB)"
    )
    return [
        name
        for name, bad in (
            ("pull", pull < pull_limit),
            ("verify", verify < verify_limit),
            ("memory", peak > PEAK_BYTES),
        )
        if bad
    ]


def kill(work: Path, total_bytes: int, kills: int, seed: int) -> list[str]:
    """End a pull again and again; returns what is past its limit."""
    from selfhost.pull.lockfile import read_lock
    from selfhost.pull.verify import verify

    source, target = work / "kill-source", work / "killed"
    shards(source, total_bytes, 4)
    chance = random.Random(seed)
    done = 0
    sys.path.insert(0, str(ROOT))
    from tests.fakes.hub import Repo, serve

    files = {path.name: path for path in source.iterdir()}
    with serve(repos={REPO: Repo(files=dict(files))}) as running:
        env = environment(running.url, work / "home-kill")
        words = [str(BIN / "selfhost"), "pull", REPO, "--dir", str(target)]
        while done < kills:
            process = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                process.wait(chance.uniform(0.3, 1.0))
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                done += 1
        run(words, env)
        time.sleep(0.5)
        sent = sum(size for name, size in running.sent.items() if name.endswith(".safetensors"))
    faults = verify(target, read_lock(target))
    same = all((target / name).read_bytes() == path.read_bytes() for name, path in files.items())
    twice = sent / sum(path.stat().st_size for path in files.values() if path.suffix == ".safetensors") - 1
    print(
        f"kills     {done} × kill -9, {100 * twice:.1f} % sent twice (limit {100 * TWICE_SHARE:.0f} %), ",
        end="",
    )
    print("whole and right" if same and not faults else "WRONG")
    return ["kills"] if twice > TWICE_SHARE or faults or not same else []


def main() -> None:
    """Measure and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=8.0, help="size of the model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--xet", action="store_true", help="out of a local Xet storage instead of over HTTP")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slack", type=float, default=1.0, help="divides the limits of speed")
    parser.add_argument("--work", type=Path, help="where the files go; a temporary directory if absent")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work, prefix="selfhost-bench-") as work:
        past = compare(
            Path(work), int(options.gib * 2**30), options.rounds, xet=options.xet, slack=options.slack
        )
        if options.kills:
            past += kill(Path(work), 1 << 30, options.kills, options.seed)
    if past:
        sys.exit(f"past the limit: {', '.join(past)}")


if __name__ == "__main__":
    main()

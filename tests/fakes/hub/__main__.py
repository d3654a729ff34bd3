"""The fake Hub by itself, for clients that are measured in other processes.

    python -m tests.fakes.hub DIRECTORY --repo ORG/NAME [--port P]
    python -m tests.fakes.hub --random 8x1073741824 --repo ORG/NAME

The first line on the output is its address. `GET /_fake` answers with what was sent so far.
"""

from __future__ import annotations

import argparse
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fakes.hub import Content, Random, Repo, serve
from tests.fakes.hub.xet import put_in_xet


def main(words: list[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.hub", description=__doc__)
    parser.add_argument("directory", type=Path, nargs="?")
    parser.add_argument("--repo", default="acme/model")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--random", metavar="COUNTxBYTES", help="serve random shards, with no file on disk")
    parser.add_argument(
        "--xet", type=Path, metavar="DIRECTORY", help="keep LFS files in a local Xet storage too"
    )
    options = parser.parse_args(words)
    repo = Repo(files=_files(options.directory, options.random))
    with ThreadPoolExecutor() as pool:  # hashes are made now, not while a client waits
        list(pool.map(lambda name: repo.blob(name, repo.files[name]), repo.files))
    if options.xet:
        put_in_xet(repo, options.xet)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    with serve(repos={options.repo: repo}, port=options.port) as hub:
        print(hub.url, flush=True)  # noqa: T201
        try:
            signal.pause()
        except KeyboardInterrupt:
            return


def _files(directory: Path | None, shards: str | None) -> dict[str, Content]:
    files: dict[str, Content] = {}
    if directory is not None:
        found = sorted(path for path in directory.rglob("*") if path.is_file())
        files |= {path.relative_to(directory).as_posix(): path for path in found}
    if shards:
        count, size = (int(part) for part in shards.split("x"))
        names = [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
        files |= {name: Random(size=size, seed=seed) for seed, name in enumerate(names)}
        files.setdefault("config.json", b"{}")
    return files


if __name__ == "__main__":
    main()

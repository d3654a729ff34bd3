"""Run a peer's own command with its HTTP clients pointed at $BENCH_HUB instead of the address written in its code.

`PYTHON peer_shim.py COMMAND ARG...`, with the interpreter of the peer's environment.
"""

from __future__ import annotations

import os
import sys
import urllib.request
from importlib import metadata
from typing import Any

WRITTEN, HUB = "https://huggingface.co", os.environ["BENCH_HUB"]


def _moved(url: Any) -> Any:
    return HUB + str(url)[len(WRITTEN) :] if str(url).startswith(WRITTEN) else url


_open = urllib.request.OpenerDirector.open


def _open_moved(self: Any, fullurl: Any, *args: Any, **kwargs: Any) -> Any:
    if isinstance(fullurl, urllib.request.Request):
        fullurl.full_url = _moved(fullurl.full_url)
    else:
        fullurl = _moved(fullurl)
    return _open(self, fullurl, *args, **kwargs)


urllib.request.OpenerDirector.open = _open_moved  # type: ignore[method-assign]

for _module in ("httpx", "httpx2"):
    try:
        _client: Any = __import__(_module)
    except ImportError:
        continue
    for _kind in (_client.Client, _client.AsyncClient):
        _build = _kind.build_request

        def _build_moved(
            self: Any, method: str, url: Any, *args: Any, _build: Any = _build, **kwargs: Any
        ) -> Any:
            return _build(self, method, _moved(url), *args, **kwargs)

        _kind.build_request = _build_moved

command = sys.argv[1]
sys.argv = sys.argv[1:]
(entry,) = (e for e in metadata.entry_points(group="console_scripts") if e.name == command)
sys.exit(entry.load()())

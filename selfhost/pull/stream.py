"""Bytes of one file from an offset on: over HTTP with the Hub library's session, or out of Xet storage with hf_xet.

huggingface_hub 2.4 downloads into a temporary file of each process's own and deletes it on any failure
(file_download.py, `_download_to_tmp_and_move`; huggingface_hub#4196), so that nothing could be resumed. Here its
session, headers, addresses and Xet client bring the bytes, and the offset is ours.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from typing import Any

from selfhost.errors import MalformedAnswerError, OfflineError, SelfhostError
from selfhost.hub.remote import Hub, file_path, refusal, translate
from selfhost.pull.types import Listing, RemoteFile

SILENCE_SECONDS = 15.0  # a peer that sends nothing for so long is left; huggingface_hub's own default is 10
SLOW_WINDOW_SECONDS = 20.0
SLOW_BYTES_PER_SECOND = 1024  # below this a peer holds the connection rather than serves; a modem gave 7,000
XET_PIECE_BYTES = 1 << 20
# hf_xet would buffer 1.5 GB and more, 0.4 GB of it for each file; with these, 16 ranges of at most 4 MB are on their
# way at once and a pull stays below 200 MB (`scripts/bench_pull.py --xet`). Names as in XetConfig of hf_xet 1.8.
XET_LIMITS = {
    "reconstruction.download_buffer_size": 24_000_000,
    "reconstruction.download_buffer_limit": 24_000_000,
    "reconstruction.download_buffer_perfile_size": 4_000_000,
    "reconstruction.min_prefetch_buffer": 1_000_000,
    "reconstruction.min_reconstruction_fetch_size": 1_000_000,
    "reconstruction.max_reconstruction_fetch_size": 4_000_000,
    "client.ac_max_download_concurrency": 16,
    "client.read_timeout": "30s",
    "client.connect_timeout": "20s",
    "client.retry_max_duration": "60s",
}

# On a local network a megabyte in flight is more than the delay asks for (1 ms x 4 Gbit/s = 0.5 MB); what a killed pull
# had in flight has to be sent again, so there the kernel is kept from buffering more.
_LAN_SECONDS = 0.001
_LAN_BUFFER_BYTES = 256 << 10
_TCP_INFO_RTT_OFFSET = 68  # tcpi_rtt in microseconds, struct tcp_info of linux/tcp.h

Pieces = Generator[bytes, None, None]


class RetryLaterError(Exception):
    """A failure that a further try may not meet; it never reaches a user.

    Args:
        message: one sentence.
        after_seconds: what the peer asked to wait, None where it did not.
    """

    def __init__(self, message: str, *, after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.after_seconds = after_seconds


def http_pieces(hub: Hub, listing: Listing, file: RemoteFile, begin: int) -> Pieces:
    """Bytes of a file over HTTP, from `begin` to at most its end.

    Every call asks the Hub for the file anew, so that a signed link that has expired is replaced by a fresh one.

    Args:
        hub: whom to ask.
        listing: repository and commit.
        file: the file.
        begin: offset of the first byte.

    Raises:
        RetryLaterError: 408, 425, 429, 5xx, a link that expired, a connection that broke, a peer that stalls.
        SelfhostError: a refusal that stays.
        MalformedAnswerError: another part or another length than was asked for.
    """
    what = f"{file.path} of {listing.repo}"
    path = file_path(listing.repo, listing.commit, file.path)
    headers = {**hub.headers, "Accept-Encoding": "identity"}
    if begin:
        headers["Range"] = f"bytes={begin}-"
    try:
        with hub.session.stream(
            "GET", hub.endpoint + path, headers=headers, timeout=SILENCE_SECONDS
        ) as answer:
            _check_status(answer, hub, what)
            _check_hash(answer, file, what)
            skip = _check_span(answer, begin, file.size_bytes, what)
            _keep_buffers_small(answer)
            yield from _cut(_watched(_body(answer), what), skip, file.size_bytes - begin, what)
    except (SelfhostError, RetryLaterError):
        raise
    except Exception as error:
        translated = translate(error, what=what, endpoint=hub.endpoint)
        if translated is None:
            raise
        if (
            isinstance(translated, (OfflineError, MalformedAnswerError))
            and type(error).__name__ not in _FINAL
        ):
            raise RetryLaterError(translated.message) from error
        raise translated from error


_FINAL = ("UnsupportedProtocol", "InvalidURL", "OfflineModeIsEnabled", "DecodingError")


def _check_status(answer: Any, hub: Hub, what: str) -> None:
    status = answer.status_code
    if 200 <= status < 300:
        return
    # The Hub sends us on to its storage, on another host, with a link that is valid for a while.
    moved = bool(answer.history) and answer.history[0].url.netloc != answer.url.netloc
    if status in (408, 425, 429) or status >= 500 or (moved and status in (400, 401, 403, 404, 410)):
        again = "its link has expired" if moved and status == 403 else f"the answer was {status}"
        raise RetryLaterError(f"{what}: {again}.", after_seconds=_asked_wait(answer.headers))
    raise refusal(status, answer.headers, what=what, has_token=hub.has_token)


def _asked_wait(headers: Any) -> float | None:
    from selfhost.hub.remote import retry_after

    seconds = retry_after(headers)
    return None if seconds is None else float(seconds)


def _check_hash(answer: Any, file: RemoteFile, what: str) -> None:
    """The Hub says in advance which content it sends: the redirect carries the hash of the file behind it."""
    for step in (*answer.history, answer):
        linked = step.headers.get("X-Linked-Etag", "").removeprefix("W/").strip('"').lower()
        if linked and file.sha256 is not None and linked != file.sha256:
            raise MalformedAnswerError(
                f"{what}: the Hub sends another content than it lists.",
                hint="pull again; the list is asked anew.",
            )


def _check_span(answer: Any, begin: int, size_bytes: int, what: str) -> int:
    """How many bytes to drop at the start: none, or `begin` where the server knows no ranges."""
    if answer.status_code == 206:
        span, _, total = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        first = span.partition("-")[0]
        if first != str(begin) or total not in (str(size_bytes), "*"):
            raise MalformedAnswerError(
                f"{what}: asked for byte {begin:,} of {size_bytes:,}, got another part of the file.",
                hint="pull again; if it stays, the mirror is at fault.",
            )
        return 0
    encoded = answer.headers.get("Content-Encoding", "identity").lower() != "identity"
    length = answer.headers.get("Content-Length", "")
    if not encoded and length.isdecimal() and int(length) != size_bytes:
        raise MalformedAnswerError(
            f"{what}: the answer has {int(length):,} bytes, the Hub lists {size_bytes:,}.",
            hint="pull again; if it stays, the mirror is at fault.",
        )
    return begin


def _body(answer: Any) -> Pieces:
    if answer.headers.get("Content-Encoding", "identity").lower() == "identity":
        yield from answer.iter_raw()
    else:
        yield from answer.iter_bytes()


def _watched(pieces: Pieces, what: str, clock: Callable[[], float] = time.monotonic) -> Pieces:
    """The same pieces, but a peer that sends next to nothing is left.

    Only time spent waiting for the peer counts: a slow disk or a bandwidth limit on our side is not its fault.
    """
    waited, got = 0.0, 0
    before = clock()
    for piece in pieces:
        waited += clock() - before
        got += len(piece)
        if waited >= SLOW_WINDOW_SECONDS:
            if got < SLOW_BYTES_PER_SECOND * waited:
                raise RetryLaterError(
                    f"{what}: the peer sends less than {SLOW_BYTES_PER_SECOND} bytes a second."
                )
            waited, got = 0.0, 0
        yield piece
        before = clock()


def _cut(pieces: Pieces, skip: int, size_bytes: int, what: str) -> Pieces:
    """Drop `skip` bytes, give `size_bytes`, and refuse more."""
    for piece in pieces:
        if skip:
            dropped = min(skip, len(piece))
            skip -= dropped
            piece = piece[dropped:]
        if len(piece) > size_bytes:
            raise MalformedAnswerError(
                f"{what} is longer than the Hub lists.",
                hint="pull again; if it stays, the mirror is at fault.",
            )
        size_bytes -= len(piece)
        if piece:
            yield piece


def _keep_buffers_small(answer: Any) -> None:
    stream = answer.extensions.get("network_stream")
    plain = stream.get_extra_info("socket") if stream is not None else None
    if not isinstance(plain, socket.socket) or not hasattr(socket, "TCP_INFO"):
        return
    try:
        info = plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        (microseconds,) = struct.unpack_from("=I", info, _TCP_INFO_RTT_OFFSET)
        if microseconds / 1e6 < _LAN_SECONDS:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _LAN_BUFFER_BYTES)
    except (OSError, struct.error):
        return


def xet_pieces(hub: Hub, listing: Listing, file: RemoteFile, begin: int) -> Pieces | None:
    """Bytes of a file out of Xet storage from `begin` on; None where the file, the Hub or the machine has no Xet.

    Raises:
        RetryLaterError: the storage failed; plain HTTP is there as well.
    """
    group = _xet_group(hub, listing, file)
    return None if group is None else _xet_stream(group, file, begin, f"{file.path} of {listing.repo}")


def _xet_stream(found: tuple[Any, str], file: RemoteFile, begin: int, what: str) -> Pieces:
    from hf_xet import XetFileInfo

    group, address = found
    try:
        stream = group.download_stream(XetFileInfo(address, file.size_bytes), start=begin)
        with closing(_Cancelled(stream)):
            for data in stream:
                for start in range(0, len(data), XET_PIECE_BYTES):
                    yield data[start : start + XET_PIECE_BYTES]
    except Exception as error:  # the library's classes differ between releases; nothing of ours runs in here
        raise RetryLaterError(f"{what}: Xet storage failed ({type(error).__name__}).") from error


class _Cancelled:
    """Ends a stream that was not read to its end."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def close(self) -> None:
        self.stream.cancel()


def _xet_group(hub: Hub, listing: Listing, file: RemoteFile) -> tuple[Any, str] | None:
    """A connection to the storage that holds a file, and the file's address there."""
    if os.environ.get("HF_HUB_DISABLE_XET", "").upper() in ("1", "ON", "YES", "TRUE"):
        return None
    # A pull writes to its destination alone; hf_xet, from its import on, would keep a log below HF_HOME.
    os.environ.setdefault("HF_XET_LOG_DEST", os.devnull)
    try:
        from hf_xet import XetConfig  # noqa: F401 -- came with streams and their limits
        from huggingface_hub.utils import parse_xet_file_data_from_response  # type: ignore[attr-defined]
    except ImportError:  # an older library, or a machine without a build of hf_xet
        return None
    url = hub.endpoint + file_path(listing.repo, listing.commit, file.path)
    try:
        answer = hub.session.request(
            "HEAD", url, headers=dict(hub.headers), timeout=SILENCE_SECONDS, follow_redirects=False
        )
    except Exception as error:
        if translate(error, what=file.path, endpoint=hub.endpoint) is None:
            raise
        return None  # plain HTTP will meet the same trouble and has the words for it
    data = parse_xet_file_data_from_response(answer, endpoint=hub.endpoint)
    if data is None or not answer.status_code < 400:
        return None
    plain = {key: value for key, value in hub.headers.items() if key.lower() != "authorization"}
    try:
        group = _xet_session().new_download_stream_group(
            token_refresh_url=data.refresh_route,
            token_refresh_headers=dict(hub.headers),
            custom_headers=plain,
        )
    except Exception:  # no token, or a storage that is away: the same content comes over plain HTTP
        return None
    return group, data.file_hash


def _xet_session() -> Any:
    """The one session of this process: its buffers are then shared by all files."""
    from hf_xet import XetConfig, XetSession

    with _session_lock:
        if not _sessions:
            config = XetConfig()
            for name, value in XET_LIMITS.items():
                with suppress(
                    ValueError, KeyError, AttributeError, TypeError
                ):  # a release that names it otherwise
                    config = config.with_config(name, value)
            _sessions.append(XetSession(config))
        return _sessions[0]


_sessions: list[Any] = []
_session_lock = threading.Lock()

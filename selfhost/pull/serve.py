"""Serve verified files to other machines, read-only and by hash, as the Hub that their HF_ENDPOINT names.

The unmodified `hf download`, huggingface_hub and selfhost itself pull from it. It asks nobody, reads no token, lists no
directory, and hands out only what a lock file names and what is unchanged since it was verified. Whoever reaches its
port can read what it serves; a network policy or a firewall says who that is.
"""

from __future__ import annotations

import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from selfhost.errors import UsageError
from selfhost.pull.serving.connection import Connection, Limits
from selfhost.pull.serving.crowd import Crowd
from selfhost.pull.serving.table import Table, make_table
from selfhost.pull.types import Snapshot
from selfhost.units import size_text

_BACKLOG = 128
_SHORT_SECONDS = 0.05
_ANY = ("0.0.0.0", "::")
# A documentation address (RFC 5737): asking for the way to it sends nothing and names this machine's own address.
_ELSEWHERE = ("192.0.2.1", 9)


class Server:
    """A server that runs in threads of its own between `with` and the block's end.

    `url` is what a client's HF_ENDPOINT is set to, `table` what is served.
    """

    def __init__(
        self,
        snapshots: Sequence[Snapshot],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        announce: Callable[[str], None] = lambda line: None,
        allow_gated: bool = False,
        limits: Limits | None = None,
    ) -> None:
        """Make the table of what is served, and listen.

        Args:
            snapshots: what to serve; every file has to be verified already.
            host: name or address to listen at; empty for every address of the machine.
            port: 0 for a free one.
            announce: told one line for each file that was asked for, from several threads, one at a time.
            allow_gated: also serve models of which the owner grants access one by one.
            limits: what clients may ask.

        Raises:
            LicenceError: a gated model.
            VerifyError: a file that is missing or has another length.
            UsageError: nothing to serve, or an address that cannot be used.
        """
        self.table: Table = make_table(snapshots, allow_gated=allow_gated)
        self._limits = limits or Limits()
        self._announce = announce
        self._speaking = threading.Lock()
        self._crowd = Crowd(self._limits.connections)
        self._connections: set[Connection] = set()
        self._socket = _listen(host, port)
        self.url = _url(*self._socket.getsockname()[:2])
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._accept, daemon=True, name="selfhost-serve")

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._wake.send(b"\0")
        self._thread.join()
        self._crowd.hang_up(idle_only=False)
        if not self._crowd.wait_empty(self._limits.drain_seconds):
            for connection in tuple(self._connections):
                connection.cut()
            self._crowd.wait_empty(self._limits.drain_seconds)
        for end in (self._wake, self._woken):
            end.close()

    def _accept(self) -> None:
        with self._socket, selectors.DefaultSelector() as ready:
            ready.register(self._socket, selectors.EVENT_READ)
            ready.register(self._woken, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    if key.fileobj is self._woken:
                        return
                    self._take()

    def _take(self) -> None:
        try:
            plain, address = self._socket.accept()
        except (
            OSError
        ):  # it left before it was taken, or descriptors are short and idle clients have to give theirs
            self._crowd.hang_up(idle_only=True)
            time.sleep(_SHORT_SECONDS)
            return
        connection = Connection(
            plain,
            str(address[0]).removeprefix("::ffff:"),
            table=self.table,
            limits=self._limits,
            crowd=self._crowd,
            announce=self._say,
        )
        if not self._crowd.admit(connection):
            plain.close()
            return
        threading.Thread(target=self._run, args=(connection,), daemon=True, name="selfhost-client").start()

    def _run(self, connection: Connection) -> None:
        self._connections.add(connection)
        try:
            connection.run()
        finally:
            self._connections.discard(connection)

    def _say(self, line: str) -> None:
        with self._speaking, suppress(OSError):  # a log that nobody reads any more ends no transfer
            self._announce(line)


def serve(
    snapshots: Sequence[Snapshot],
    *,
    host: str,
    port: int,
    stop: threading.Event | None = None,
    announce: Callable[[str], None],
    allow_gated: bool = False,
    limits: Limits | None = None,
) -> None:
    """Serve until `stop` is set, or the process gets SIGTERM or Ctrl-C.

    Args:
        snapshots: what to serve; every file has to be verified already.
        host: name or address to listen at; empty for every address of the machine.
        port: 0 for a free one.
        stop: ends the server when set.
        announce: told where the server is, and one line for each file that was asked for.
        allow_gated: also serve models of which the owner grants access one by one.
        limits: what clients may ask.

    Raises:
        SelfhostError: see `Server`.
    """
    stop = stop or threading.Event()
    with suppress(KeyboardInterrupt):
        before = _end_on_sigterm()
        try:
            with Server(
                snapshots, host=host, port=port, announce=announce, allow_gated=allow_gated, limits=limits
            ) as server:
                for line in _opening(server):
                    announce(line)
                stop.wait()
        finally:
            if before is not None:
                signal.signal(signal.SIGTERM, before)


def _opening(server: Server) -> tuple[str, ...]:
    models = {
        (model.repo, model.commit): model
        for revisions in server.table.models.values()
        for model in revisions.values()
    }
    lines = []
    for model in models.values():
        size = sum(offer.file.size_bytes for offer in model.files.values())
        gate = f", {model.verdict.gate} gate passed over" if model.verdict.gate in ("auto", "manual") else ""
        lines.append(
            f"{model.repo}@{model.commit[:12]}: {len(model.files)} files, {size_text(size)}, "
            f"licence {model.verdict.licence or 'unknown'}{gate}"
        )
    return (*lines, f"Serving. On other machines: export HF_ENDPOINT={server.url}")


def _end_on_sigterm() -> signal.Handlers | Callable[..., object] | int | None:
    """Let SIGTERM do what Ctrl-C does; only the main thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGTERM, signal.default_int_handler)


def _listen(host: str, port: int) -> socket.socket:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if port not in range(1 << 16):  # getaddrinfo would take it modulo 65,536
            raise OverflowError("a port is a number from 0 to 65,535")
        if not host and socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG
            )
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"Cannot listen at {where}: {reason}.", hint="name another [HOST]:PORT, such as :8765."
        ) from None


def _url(host: str, port: int) -> str:
    if host in _ANY:
        host = _own_address(host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _own_address(any_host: str) -> str:
    """The address by which this machine reaches others, for whom to tell it; loopback where it has none."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect(_ELSEWHERE)
        return str(asking.getsockname()[0])
    return "::1" if any_host == "::" else "127.0.0.1"

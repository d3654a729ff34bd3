"""A poller's observations as a Prometheus exporter over HTTP.

- `serve(poller, host, port, ...)`: until a signal ends it.
- `parse_listen(text) -> (host, port)`: of `--serve :9835`.
- `Exporter(poller, ...)` and `Server(exporter, host, port)`: the two parts, for those that want no signals.
"""

from selfhost.exporter.exporter import Exporter
from selfhost.exporter.serve import serve
from selfhost.exporter.server import Server, parse_listen

__all__ = ["Exporter", "Server", "parse_listen", "serve"]

"""A port of a pod through the API server: one websocket that carries one connection, used as a socket is.

The protocol is v4.channel.k8s.io, which the kubelet speaks itself (Kubernetes 1.36
staging/src/k8s.io/cri-streaming/pkg/streaming/portforward/websocket.go, read 2026-11-26): binary messages whose first
byte is the channel, 0 for data and 1 for errors; the first message of each channel is the port in two bytes.
"""

from __future__ import annotations

import ssl
from typing import Any

from selfhost.cluster.answers import error_of
from selfhost.cluster.api import Api
from selfhost.cluster.paths import path_of
from selfhost.cluster.types import Ref
from selfhost.cluster.values import json_object, printable
from selfhost.errors import ClusterError
from selfhost.hush import hushed

PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERROR = 0, 1
# Ours: below the largest frame that any proxy on the way is known to take.
_LARGEST_MESSAGE = 1 << 15


class ForwardError(ClusterError):
    """The way to the pod's port is open no more, or never was."""


def forward(api: Api, pod: Ref, port: int, *, seconds: float) -> Stream:
    """Connect to a port of a pod. One request to the API server.

    Args:
        api: the cluster.
        pod: which.
        port: of its network, whatever container listens there.
        seconds: how long connecting may take.

    Raises:
        ApiError: the server refuses: no such pod, or not permitted (get and create of pods/portforward).
        ForwardError: no connection.
    """
    import kubernetes.stream.ws_client
    from websocket import WebSocketBadStatusException, WebSocketException

    ws_client: Any = kubernetes.stream.ws_client

    path = f"{path_of(pod)}/portforward"
    what = f"forward port {port} of Pod {pod.namespace}/{pod.name}"
    api.count("GET", path)
    configuration = api.connection.client.configuration
    address = ws_client.get_websocket_url(f"{api.connection.host}{path}", [("ports", str(port))])
    headers = {key: value for key, value in api.connection.headers().items() if key != "Accept"}
    options: dict[str, Any] = {"header": [f"{key}: {value}" for key, value in headers.items()]}
    options |= {"subprotocols": [PROTOCOL], "suppress_origin": True, "timeout": seconds}
    if configuration.proxy or configuration.proxy_headers:
        options = ws_client.websocket_proxycare(options, configuration, address, None)
    socket: Any = ws_client.WebSocket(sslopt=_tls(configuration, address), skip_utf8_validation=True)
    try:
        socket.connect(address, **options)
    except WebSocketBadStatusException as error:
        socket.shutdown()
        body = json_object(error.resp_body or b"")
        raise error_of(int(error.status_code), body, what=what, who=api.connection.name) from None
    except (WebSocketException, OSError, ValueError) as error:
        socket.shutdown()
        words = printable(" ".join(str(error).split()))[:200] or type(error).__name__
        raise ForwardError(
            f"Cannot {what}: {words.rstrip('.')}.", hint=f"`kubectl -n {pod.namespace} port-forward {pod.name} {port}`"
            " opens once the way is there.",
        ) from None  # fmt: skip
    return Stream(socket, what=what)


def _tls(configuration: Any, address: str) -> dict[str, Any]:
    """As the official client's own websockets have it (kubernetes 37 stream/ws_client.py create_websocket)."""
    options: dict[str, Any] = {"cert_reqs": ssl.CERT_NONE}
    if address.startswith("wss://") and configuration.verify_ssl:
        options = {"cert_reqs": ssl.CERT_REQUIRED}
        options |= {"ca_certs": configuration.ssl_ca_cert} if configuration.ssl_ca_cert else {}
        if configuration.assert_hostname is not None:
            options["check_hostname"] = configuration.assert_hostname
    for option, value in (
        ("certfile", configuration.cert_file),
        ("keyfile", configuration.key_file),
        ("server_hostname", configuration.tls_server_name),
    ):
        if value:
            options[option] = value
    return options


class Stream:
    """A connection to a port of a pod, with the methods of a socket that HTTP needs."""

    def __init__(self, websocket: Any, *, what: str) -> None:
        self._websocket = websocket
        self._what = what
        self._begun: set[int] = set()
        self._rest = b""
        self._ended = False

    def settimeout(self, seconds: float | None) -> None:
        """How long the next call may take."""
        self._websocket.settimeout(seconds)

    def sendall(self, data: bytes) -> None:
        """Send bytes.

        Raises:
            ConnectionResetError: the other end is closed.
            TimeoutError: they were not taken in time.
        """
        from websocket import WebSocketConnectionClosedException, WebSocketTimeoutException

        view = memoryview(data)
        try:
            for start in range(0, len(view), _LARGEST_MESSAGE):
                self._websocket.send_binary(bytes((_DATA,)) + bytes(view[start : start + _LARGEST_MESSAGE]))
        except WebSocketConnectionClosedException:
            raise ConnectionResetError("the forwarded connection is closed") from None
        except WebSocketTimeoutException:
            raise TimeoutError from None

    def recv_into(self, buffer: Any) -> int:
        """Receive bytes; 0 once the pod has closed the connection.

        Raises:
            ForwardError: the pod could not be reached, as where nothing listens on the port.
            TimeoutError: nothing came in time.
        """
        while not self._rest and not self._ended:
            self._receive()
        size = min(len(buffer), len(self._rest))
        memoryview(buffer)[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def close(self) -> None:
        """End it; without the websocket's farewell, whose answer would have to be waited for."""
        self._ended = True
        self._websocket.shutdown()

    def _receive(self) -> None:
        from websocket import ABNF, WebSocketException, WebSocketTimeoutException

        try:
            code, frame = self._websocket.recv_data_frame(True)
        except WebSocketTimeoutException:
            raise TimeoutError from None
        except (WebSocketException, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            self._ended = True
            return
        data = bytes(frame.data)
        if code == ABNF.OPCODE_CLOSE:
            self._ended = True
        elif code == ABNF.OPCODE_BINARY and data:
            self._take(data[0], data[1:])

    def _take(self, channel: int, data: bytes) -> None:
        if channel not in self._begun:  # the port's number, which is known
            self._begun.add(channel)
        elif channel == _DATA:
            self._rest += data
        elif channel == _ERROR and data:
            self._ended = True
            said = printable(hushed(" ".join(data.decode("utf-8", errors="replace").split())))
            raise ForwardError(f"Cannot {self._what}: {said.rstrip('.')}.")

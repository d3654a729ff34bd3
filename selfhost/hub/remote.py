"""The conversation with the Hub: model facts, small JSON files and tensor headers by range request; never weights.

huggingface_hub gives the session (proxies, certificates), the headers (token, user agent) and the addresses. Reading
is done here, because its own readers trust an answer's length, retry for minutes and write into the cache.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from selfhost.errors import (
    GatedModelError,
    MalformedAnswerError,
    ModelNotFoundError,
    OfflineError,
    RateLimitedError,
    SelfhostError,
)
from selfhost.hub.references import shown
from selfhost.hub.safejson import MAXIMUM_BYTES

DEFAULT_ENDPOINT = "https://huggingface.co"
CONNECTIONS = 8
MAXIMUM_MOVES = 5
CHUNK_BYTES = 1 << 16
READ_SECONDS = 10.0  # longest silence of a peer; huggingface_hub's own default

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of a file.

    Args:
        data: the bytes from the start that was asked for.
        file_bytes: length of the whole file, None when the peer did not say.
    """

    data: bytes
    file_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """An endpoint, who asks, and until when.

    Args:
        endpoint: base address without a trailing slash.
        headers: what goes with every request.
        has_token: a token is among them.
        deadline: `time.monotonic()` after which nothing is read any more.
        session: huggingface_hub's HTTP client.
    """

    endpoint: str
    headers: Mapping[str, str]
    has_token: bool
    deadline: float
    session: Any

    def json(self, path: str, *, what: str) -> bytes:
        """A whole small answer.

        Args:
            path: below the endpoint.
            what: what is asked for, for the error.
        """
        with self._answer(path, {}, what=what) as answer:
            return self._body(answer, MAXIMUM_BYTES, what=what, whole=True)

    def head(self, path: str, *, what: str) -> Mapping[str, str]:
        """Headers of a file's address itself, not of the storage that it redirects to."""
        wait = max(0.1, min(READ_SECONDS, self.deadline - time.monotonic()))
        headers = {**self.headers, "Accept-Encoding": "identity"}
        try:
            for _ in range(MAXIMUM_MOVES):
                answer = self.session.request(
                    "HEAD", self.endpoint + path, headers=headers, timeout=wait, follow_redirects=False
                )
                moved = answer.headers.get("Location", "") if 300 <= answer.status_code < 400 else ""
                if "X-Linked-Etag" in answer.headers or not moved.startswith("/") or moved.startswith("//"):
                    break
                path = moved  # a repository that has another name now
        except Exception as error:
            translated = translate(error, what=what, endpoint=self.endpoint)
            if translated is None:
                raise
            raise translated from error
        if not 200 <= answer.status_code < 400:
            raise refusal(answer.status_code, answer.headers, what=what, has_token=self.has_token)
        found: Mapping[str, str] = answer.headers
        return found

    def start(self, path: str, size: int, *, what: str, begin: int = 0) -> Part:
        """Bytes of a file from `begin`, at most `size`, fewer where the file ends."""
        headers = {"Range": f"bytes={begin}-{begin + size - 1}"}
        with self._answer(path, headers, what=what) as answer:
            if answer.status_code == 206:
                first, total = _content_range(answer.headers.get("Content-Range", ""), what)
                if first != begin:
                    raise MalformedAnswerError(f"{what}: the Hub sent another part of the file.", hint=_AGAIN)
                return Part(data=self._body(answer, size, what=what, whole=False), file_bytes=total)
            # A server without ranges sends the file from its start; the rest stays unread.
            length = answer.headers.get("Content-Length", "")
            data = self._body(answer, begin + size, what=what, whole=False)
            return Part(data=data[begin:], file_bytes=int(length) if length.isdecimal() else None)

    @contextmanager
    def _answer(self, path: str, headers: Mapping[str, str], *, what: str) -> Iterator[Any]:
        """Open one answer and refuse it unless it is a success."""
        wait = max(0.1, min(READ_SECONDS, self.deadline - time.monotonic()))
        everything = {**self.headers, "Accept-Encoding": "identity", **headers}
        try:
            with self.session.stream("GET", self.endpoint + path, headers=everything, timeout=wait) as answer:
                if not 200 <= answer.status_code < 300:
                    raise refusal(answer.status_code, answer.headers, what=what, has_token=self.has_token)
                yield answer
        except SelfhostError:
            raise
        except Exception as error:
            translated = translate(error, what=what, endpoint=self.endpoint)
            if translated is None:
                raise
            raise translated from error

    def _body(self, answer: Any, limit: int, *, what: str, whole: bool) -> bytes:
        """Read up to `limit` bytes; with `whole` a longer body is refused."""
        parts: list[bytes] = []
        size = 0
        for chunk in answer.iter_bytes(CHUNK_BYTES):
            if time.monotonic() > self.deadline:
                raise OfflineError(f"{what}: the Hub did not finish its answer in time.", hint=_LATER)
            parts.append(chunk)
            size += len(chunk)
            if size > limit and whole:
                raise MalformedAnswerError(f"{what} is longer than {limit:,} bytes.", hint=_AGAIN)
            if size >= limit and not whole:
                break
        return b"".join(parts)[:limit]


def connect(environ: Mapping[str, str], *, deadline: float) -> Hub:
    """The Hub that the environment names: HF_ENDPOINT, HF_TOKEN, or the token that `hf auth login` stored.

    Raises:
        OfflineError: HF_ENDPOINT is no web address.
        GatedModelError: HF_TOKEN, or what is stored, cannot be a token.
    """
    from selfhost import __version__

    _name_certificates(environ)
    endpoint = (environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
    if not _is_address(endpoint):
        raise OfflineError(
            f"HF_ENDPOINT is {shown(endpoint)!r}, which is no web address.",
            hint=f"unset it, or set {DEFAULT_ENDPOINT}",
        )
    token = (environ.get("HF_TOKEN") or environ.get("HUGGING_FACE_HUB_TOKEN") or "").strip()
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise GatedModelError(
            "HF_TOKEN holds characters that no token has.", hint="set it again without spaces."
        )
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    try:
        headers = build_hf_headers(token=token or None, library_name="selfhost", library_version=__version__)
        str(headers.get("authorization", "")).encode("ascii")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it holds characters that no token has"
        raise GatedModelError(
            f"The Hub token that is stored on this machine cannot be used: {reason}.",
            hint="set HF_TOKEN, or HF_TOKEN_PATH to another file.",
        ) from None
    return Hub(
        endpoint=endpoint,
        headers=headers,
        has_token="authorization" in {name.lower() for name in headers},
        deadline=deadline,
        session=_session(),
    )


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port beyond 65,535, half an IPv6 address
        return False
    return known and text.isprintable() and " " not in text


def _session() -> Any:
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    try:
        return get_session()
    except (ImportError, ValueError) as error:  # SOCKS without its library, an address of no known kind
        raise OfflineError(
            f"The proxy that the environment names cannot be used: {shown(str(error)).partition('. ')[0]}.",
            hint="set HTTPS_PROXY to an http:// address, or add the Hub to NO_PROXY.",
        ) from None
    except OSError as error:
        raise OfflineError(
            f"The certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read: {error.strerror or error}.",
            hint="name a file in PEM form, or unset it.",
        ) from None


def _name_certificates(environ: Mapping[str, str]) -> None:
    """Let the Hub library's client know certificates that are named in the way of other programs.

    The client reads SSL_CERT_FILE and SSL_CERT_DIR only; requests and curl have made REQUESTS_CA_BUNDLE and
    CURL_CA_BUNDLE usual in companies.
    """
    if environ.get("SSL_CERT_FILE") or environ.get("SSL_CERT_DIR"):
        return
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if environ.get(name):
            os.environ["SSL_CERT_FILE"] = environ[name]
            return


def within(seconds: float, work: Callable[[], T], *, what: str) -> T:
    """Run `work` in a thread that may be left behind, so that no peer can hold the caller longer than this.

    Raises:
        OfflineError: when the time is over.
    """
    results: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((work(), None))
        except BaseException as error:
            results.put((None, error))

    threading.Thread(target=run, daemon=True, name="selfhost-hub").start()
    try:
        value, error = results.get(timeout=max(0.0, seconds))
    except queue.Empty:
        raise OfflineError(f"{what}: the Hub did not answer within {seconds:g} s.", hint=_LATER) from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


def each(items: tuple[str, ...], work: Callable[[str], T]) -> tuple[T, ...]:
    """`work` on every item over a few connections, in order; the first error wins."""
    todo = queue.SimpleQueue[int]()
    for number in range(len(items)):
        todo.put(number)
    done: dict[int, T] = {}
    errors: list[BaseException] = []

    def run() -> None:
        while not errors:
            try:
                number = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done[number] = work(items[number])
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(min(CONNECTIONS, len(items)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return tuple(done[number] for number in range(len(items)))


def file_path(name: str, revision: str, file: str) -> str:
    """Path of a file below the endpoint."""
    return f"/{name}/resolve/{quote(revision, safe='')}/{quote(file)}"


def refusal(status: int, headers: Mapping[str, str], *, what: str, has_token: bool) -> SelfhostError:
    """The error for an answer that is no success, from its status and the Hub's X-Error headers alone."""
    code = headers.get("X-Error-Code", "")
    message = headers.get("X-Error-Message", "")
    if code == "GatedRepo" or (status == 403 and code != "RepoNotFound"):
        hint = "accept its terms on its page, then set HF_TOKEN to a token of that account."
        if has_token:
            hint = "accept its terms on its page with the account that the token belongs to."
        return GatedModelError(f"{what}: access has to be granted by its owner.", hint=hint)
    if status == 401 and "Invalid credentials" in message:
        return GatedModelError(
            f"{what}: the Hub did not accept the token.", hint="set HF_TOKEN to a valid token."
        )
    if status in (401, 404, 410):
        missing = _MISSING.get(code, "not found" if status != 401 else "not found, or private")
        return ModelNotFoundError(f"{what}: {missing}.")
    if status == 429:
        seconds = retry_after(headers)
        wait = f"wait {seconds} s" if seconds is not None else "wait some minutes"
        more = "" if has_token else ", or set HF_TOKEN for a higher limit"
        return RateLimitedError(
            f"{what}: the Hub answered 429, too many requests.", hint=f"{wait}{more}.", after_seconds=seconds
        )
    if status == 451 or "disabled" in message:
        return GatedModelError(f"{what}: the Hub has disabled access to it.", hint="choose another model.")
    if status >= 500:
        return OfflineError(f"{what}: the Hub answered {status}.", hint=_LATER, passing=True)
    return MalformedAnswerError(f"{what}: the Hub answered {status}.", hint=_AGAIN)


def translate(error: Exception, *, what: str, endpoint: str) -> SelfhostError | None:
    """The error for a failure of the HTTP client, by the name of its class or a parent; None for any other.

    The client is httpx under huggingface_hub 1.x and httpx2 under 2.x, with the same names.
    """
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return OfflineError(
            f"{what}: the certificate that {endpoint} shows is not trusted here.",
            hint="set SSL_CERT_FILE to a file with your network's own certificates.",
        )
    for parent in type(error).__mro__:
        known = _FAILURES.get(parent.__name__)
        if known is not None:
            kind, sentence, hint = known
            made = kind(f"{what}: {sentence.format(endpoint=endpoint)}.", hint=hint)
            if isinstance(made, OfflineError):
                made.passing = parent.__name__ != "OfflineModeIsEnabled"
            return made
    return None


_LATER = "check the network and try again; a bundled model needs none (`selfhost models`)."
_AGAIN = "try again; if it stays, report it to the repository's owner."
_OFFLINE_HINT = (
    "check the network, HTTPS_PROXY and HF_ENDPOINT; a bundled model needs no network (`selfhost models`)."
)
_FORBIDDEN_HINT = "unset HF_HUB_OFFLINE; a bundled model needs no network (`selfhost models`)."
_MISSING = {
    "RepoNotFound": "there is no such repository, or it is private",
    "RevisionNotFound": "there is no such revision",
    "EntryNotFound": "there is no such file",
}
_FAILURES: Mapping[str, tuple[type[SelfhostError], str, str]] = {
    "OfflineModeIsEnabled": (OfflineError, "HF_HUB_OFFLINE forbids asking the Hub", _FORBIDDEN_HINT),
    "TimeoutException": (OfflineError, "{endpoint} did not answer in time", _LATER),
    "ProxyError": (OfflineError, "the proxy did not let the request through", _OFFLINE_HINT),
    "RemoteProtocolError": (MalformedAnswerError, "the answer broke off", _AGAIN),
    "DecodingError": (MalformedAnswerError, "the answer is not what its headers say", _AGAIN),
    "TooManyRedirects": (MalformedAnswerError, "the Hub redirects in a circle", _AGAIN),
    "UnsupportedProtocol": (
        MalformedAnswerError,
        "the Hub redirects to something that is no web page",
        _AGAIN,
    ),
    "InvalidURL": (MalformedAnswerError, "the Hub redirects to an invalid address", _AGAIN),
    "NetworkError": (OfflineError, "{endpoint} cannot be reached", _OFFLINE_HINT),
    "TransportError": (OfflineError, "{endpoint} cannot be reached", _OFFLINE_HINT),
    "HTTPError": (OfflineError, "the request failed", _LATER),
}


def retry_after(headers: Mapping[str, str]) -> int | None:
    """Seconds from Retry-After, or from the draft RateLimit header (`"api";r=0;t=55`)."""
    plain = headers.get("Retry-After", "").strip()
    if plain.isdecimal() and len(plain) < 7:
        return int(plain)
    for field in headers.get("RateLimit", "").split(";"):
        name, _, value = field.strip().partition("=")
        if name == "t" and value.isdecimal() and len(value) < 7:
            return int(value)
    return None


def _content_range(text: str, what: str) -> tuple[int, int | None]:
    """First byte and file length of `bytes 0-99/1234`."""
    span, _, total = text.removeprefix("bytes ").partition("/")
    first = span.partition("-")[0]
    if not first.isdecimal() or len(first) > 18 or len(total) > 18:
        raise MalformedAnswerError(f"{what}: the Hub sent a part without saying which.", hint=_AGAIN)
    return int(first), int(total) if total.isdecimal() else None

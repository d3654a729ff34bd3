"""An object store on loopback: the part of S3's REST protocol that an upload and its checks use, and its faults.

Requests are believed only when their signature (SigV4), body hash, MD5 and CRC-32 are right, so that a client which
sends other bytes than it signed is refused as by the real service (docs.aws.amazon.com/AmazonS3/latest/API, 2026-11).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

KEY, SECRET = "AKIAFAKEFAKEFAKEFAKE", "fake+secret/of+the+test+store"
LEAST_PART_BYTES = 5 << 20  # all parts but the last


@dataclass(slots=True, kw_only=True)
class Stored:
    """One object."""

    data: bytes
    etag: str
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class FakeS3:
    """State of the server; tests change it between requests."""

    buckets: dict[str, dict[str, Stored]] = field(default_factory=lambda: {"models": {}})
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    begun: dict[str, dict[str, str]] = field(default_factory=dict)  # metadata of running uploads
    refuse: str | None = None  # error code for every write, such as AccessDenied
    answers: list[tuple[int, str]] = field(default_factory=list)  # status and code, sent first to writes
    drop: str | None = None  # key part at whose writes the connection is cut
    truncate: str | None = None  # key part of which less is kept than was sent
    spoil: str | None = None  # key part whose stored bytes differ from what was sent
    encrypted: bool = False  # ETags say nothing about the content (SSE-KMS)
    requests: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def environ(self) -> dict[str, str]:
        """An environment whose credentials this store knows."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def writes(self) -> list[str]:
        """Keys that were written, parts counted once each."""
        return [path for method, path in self.requests if method == "PUT"]


@contextmanager
def serve(**state: Any) -> Iterator[FakeS3]:
    """Run a store until the block ends."""
    store = FakeS3(**state)

    class Handler(_Handler):
        fake = store

    server = _Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    store.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Stay quiet: connections are cut on purpose here."""


class _Refused(Exception):  # noqa: N818
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeS3

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay quiet."""

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        with self.fake.lock:
            self.fake.requests.append((self.command, f"{bucket}/{key}"))
        try:
            body = self._body()
            self._check_signature(body)
            data = self._content(body)
            if self.fake.drop and self.fake.drop in key and self.command == "PUT":
                self.close_connection = True
                return
            with self.fake.lock:
                if self.command in ("PUT", "POST") and self.fake.answers:
                    raise _Refused(*self.fake.answers.pop(0))
                if self.command in ("PUT", "POST") and self.fake.refuse:
                    raise _Refused(403, self.fake.refuse)
                if bucket not in self.fake.buckets:
                    raise _Refused(404, "NoSuchBucket")
                self._answer(bucket, key, query, data)
        except _Refused as refused:
            text = f"<Error><Code>{refused.code}</Code><Message>told by the store: {refused.code}</Message></Error>"
            self._send(refused.status, text.encode())

    def _body(self) -> bytes:
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return b""
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _content(self, body: bytes) -> bytes:
        """The object's bytes out of the body, with every sum that came along checked."""
        sums = {name.lower(): value for name, value in self.headers.items()}
        if "aws-chunked" in self.headers.get("Content-Encoding", ""):
            body, trailers = _unchunked(body)
            sums |= trailers
        if "content-md5" in sums and sums["content-md5"] != base64.b64encode(_md5(body).digest()).decode():
            raise _Refused(400, "BadDigest")
        crc = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
        if self.command == "PUT" and sums.get("x-amz-checksum-crc32", crc) != crc:
            raise _Refused(400, "BadDigest")
        return body

    def _check_signature(self, body: bytes) -> None:
        """SigV4 as docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html says."""
        match = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d+)/([^/]+)/s3/aws4_request, "
            r"SignedHeaders=([^,]+), Signature=([0-9a-f]{64})",
            self.headers.get("Authorization", ""),
        )
        if match is None:
            raise _Refused(403, "AccessDenied")
        key, date, region, signed, signature = match.groups()
        if key != KEY:
            raise _Refused(403, "InvalidAccessKeyId")
        said = self.headers["x-amz-content-sha256"]
        if len(said) == 64 and said != hashlib.sha256(body).hexdigest():
            raise _Refused(400, "XAmzContentSHA256Mismatch")
        parts = urlsplit(self.path)
        pairs = sorted(
            (quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in parse_qsl(parts.query, True)
        )
        headers = "".join(
            f"{name}:{' '.join((self.headers.get(name) or '').split())}\n" for name in signed.split(";")
        )
        query = "&".join(f"{name}={value}" for name, value in pairs)
        request = "\n".join((self.command, parts.path, query, headers, signed, said))
        scope = f"{date}/{region}/s3/aws4_request"
        hashed = hashlib.sha256(request.encode()).hexdigest()
        text = "\n".join(("AWS4-HMAC-SHA256", self.headers["x-amz-date"], scope, hashed))
        secret = f"AWS4{SECRET}".encode()
        for word in (date, region, "s3", "aws4_request"):
            secret = hmac.digest(secret, word.encode(), "sha256")
        if hmac.new(secret, text.encode(), "sha256").hexdigest() != signature:
            raise _Refused(403, "SignatureDoesNotMatch")

    def _answer(self, bucket: str, key: str, query: Mapping[str, str], data: bytes) -> None:
        objects = self.fake.buckets[bucket]
        if not key:
            self._list(bucket, query)
        elif self.command in ("GET", "HEAD"):
            self._read(objects, key)
        elif self.command == "DELETE":
            self.fake.uploads.pop(query.get("uploadId", ""), None)
            if "uploadId" not in query:
                objects.pop(key, None)
            self._send(204, b"")
        elif "uploads" in query:
            upload = f"upload-{len(self.fake.begun)}"
            self.fake.uploads[upload], self.fake.begun[upload] = {}, self._metadata()
            self._send(200, f"<R><UploadId>{upload}</UploadId></R>".encode())
        elif self.command == "POST":
            self._complete(objects, key, query["uploadId"], data)
        elif "uploadId" in query:
            self.fake.uploads[query["uploadId"]][int(query["partNumber"])] = data
            self._send(200, b"", {"ETag": f'"{_md5(data).hexdigest()}"'})
        else:
            kept = self._kept(key, data)
            etag = self._etag(_md5(kept).hexdigest())
            objects[key] = Stored(data=kept, etag=etag, metadata=self._metadata())
            self._send(200, b"", {"ETag": f'"{objects[key].etag}"'})

    def _complete(self, objects: dict[str, Stored], key: str, upload: str, body: bytes) -> None:
        parts = self.fake.uploads.pop(upload)
        named = [int(number) for number in re.findall(rb"<PartNumber>(\d+)</PartNumber>", body)]
        if named != sorted(parts):
            raise _Refused(400, "InvalidPart")
        if any(len(parts[number]) < LEAST_PART_BYTES for number in named[:-1]):
            raise _Refused(400, "EntityTooSmall")
        sums = b"".join(_md5(parts[number]).digest() for number in named)
        data = b"".join(parts[number] for number in named)
        etag = self._etag(f"{_md5(sums).hexdigest()}-{len(named)}")
        objects[key] = Stored(data=self._kept(key, data), etag=etag, metadata=self.fake.begun[upload])
        self._send(200, f"<R><ETag>&quot;{etag}&quot;</ETag></R>".encode())

    def _read(self, objects: dict[str, Stored], key: str) -> None:
        found = objects.get(key)
        if found is None:
            raise _Refused(404, "NoSuchKey")
        headers = {f"x-amz-meta-{name}": value for name, value in found.metadata.items()}
        if self.fake.encrypted:
            headers["x-amz-server-side-encryption"] = "aws:kms"
        headers |= {"ETag": f'"{found.etag}"', "Last-Modified": "Tue, 24 Nov 2026 08:00:00 GMT"}
        data, status = found.data, 200
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
            headers["Content-Range"], status = f"bytes {first}-{last}/{len(data)}", 206
            data = data[first : last + 1]
        self._send(status, data, headers)

    def _list(self, bucket: str, query: Mapping[str, str]) -> None:
        prefix = query.get("prefix", "")
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(found.data)}</Size><ETag>{found.etag}</ETag>"
            "<LastModified>2026-11-24T08:00:00.000Z</LastModified></Contents>"
            for key, found in sorted(self.fake.buckets[bucket].items())
            if key.startswith(prefix)
        )
        self._send(
            200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode()
        )

    def _etag(self, honest: str) -> str:
        return _md5(honest.encode()).hexdigest() if self.fake.encrypted else honest

    def _kept(self, key: str, data: bytes) -> bytes:
        if self.fake.truncate and self.fake.truncate in key:
            return data[:-1]
        if self.fake.spoil and self.fake.spoil in key:
            return bytes([data[0] ^ 1]) + data[1:]
        return data

    def _metadata(self) -> dict[str, str]:
        start = "x-amz-meta-"
        return {
            k.lower().removeprefix(start): v for k, v in self.headers.items() if k.lower().startswith(start)
        }

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _md5(data: bytes) -> Any:
    return hashlib.md5(data, usedforsecurity=False)


def _unchunked(body: bytes) -> tuple[bytes, dict[str, str]]:
    """The `aws-chunked` encoding: chunks with their length, then trailers."""
    data, place = b"", 0
    while True:
        end = body.index(b"\r\n", place)
        size = int(body[place:end].partition(b";")[0], 16)
        if size == 0:
            break
        data += body[end + 2 : end + 2 + size]
        place = end + 2 + size + 2
    lines = body[end + 2 :].decode().split("\r\n")
    return data, {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name
    }

"""A certificate authority of the tests' own and a certificate for loopback, made by the openssl command."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

AVAILABLE = shutil.which("openssl") is not None
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """The authority's certificate as a client is given it (SSL_CERT_FILE), and what a server needs."""

    certificate: Path
    server: ssl.SSLContext


def make_authority(folder: Path) -> Authority:
    """Make an authority that nobody trusts by itself, and a server certificate for 127.0.0.1 and localhost.

    Args:
        folder: an existing directory that takes the keys.
    """
    ca, ca_key, server, key = (folder / name for name in ("ca.pem", "ca.key", "server.pem", "server.key"))
    _openssl("req", "-x509", *_KEY, "-keyout", ca_key, "-out", ca, "-days", "2", "-subj", "/CN=loopback tests",
             "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    _openssl("req", "-x509", *_KEY, "-keyout", key, "-out", server, "-days", "2", "-subj", "/CN=localhost",
             "-CA", ca, "-CAkey", ca_key, "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
             "-addext", "basicConstraints=critical,CA:FALSE")  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server, key)
    return Authority(certificate=ca, server=context)


def _openssl(*words: str | Path) -> None:
    done = subprocess.run(
        ["openssl", *map(str, words)], capture_output=True, text=True, check=False, timeout=30
    )
    if done.returncode:
        raise RuntimeError(f"openssl {words[0]}: {done.stderr.strip()}")

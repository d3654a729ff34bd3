"""Answers that are not the API server's own, and certificates that are not trusted: said at once, in plain words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import urllib3

from selfhost.cli._deploying import labelled
from selfhost.cluster import Api, ForbiddenError
from selfhost.cluster.answers import error_of
from selfhost.cluster.connect import Connection
from selfhost.cluster.kinds import CONFIG_MAP
from selfhost.errors import ClusterError


@pytest.mark.parametrize("status", [302, 307, 403])
def test_a_proxys_own_answer_is_no_missing_right(status: int) -> None:
    error = error_of(status, {}, what="list configmaps in llm", who="context it")
    assert not isinstance(error, ForbiddenError)
    assert error.message == (
        f"Something in front of the API server answered {status} when asked to list configmaps in llm."
    )
    assert "HTTPS_PROXY" in (error.hint or "")


def test_the_servers_own_refusal_is() -> None:
    body: dict[str, Any] = {"kind": "Status", "reason": "Forbidden", "code": 403}
    assert isinstance(error_of(403, body, what="list nodes", who="context it"), ForbiddenError)


def test_a_certificate_that_is_not_trusted_is_said_at_once() -> None:
    asked = []

    class Pool:
        def request(self, method: str, address: str, **_: Any) -> Any:
            asked.append(address)
            raise urllib3.exceptions.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate")

    configuration = SimpleNamespace(host="https://127.0.0.1:6443", auth_settings=dict)
    client = SimpleNamespace(
        configuration=configuration, user_agent="it", rest_client=SimpleNamespace(pool_manager=Pool())
    )
    api = Api(Connection(client=client, name="context it"), sleep=lambda _: pytest.fail("it waits"))
    with pytest.raises(ClusterError, match=r"certificate of https://127.0.0.1:6443 is not trusted"):
        api.list(CONFIG_MAP, "llm")
    assert len(asked) == 1


def test_nothing_that_is_printed_moves_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    labelled("Note", "by \x1b[2Jbob\u202e: gone\rnot")
    out = capsys.readouterr().out
    assert out.rstrip("\n").isprintable()
    assert "bob?: gone?not" in out

"""The way to a Kubernetes API server: the official client reads the kubeconfig, renews tokens and speaks TLS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from selfhost.cluster.values import printable
from selfhost.errors import ClusterError


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """The official client, and how an error calls whose credentials it uses.

    Args:
        client: `kubernetes.client.ApiClient`.
        name: `context NAME`, `the current context` or `this pod's service account`.
    """

    client: Any
    name: str

    @property
    def host(self) -> str:
        """Address of the API server."""
        return str(self.client.configuration.host)

    @property
    def pool(self) -> Any:
        """urllib3's pool of connections."""
        return self.client.rest_client.pool_manager

    def headers(self) -> dict[str, str]:
        """Who asks, and with what right; tokens are renewed on the way."""
        made = {"Accept": "application/json", "User-Agent": self.client.user_agent}
        for setting in self.client.configuration.auth_settings().values():
            if setting.get("in") == "header" and setting.get("value"):
                made[setting["key"]] = setting["value"]
        return made


def connect(context: str | None, kubeconfig: str | None, *, connections: int = 4) -> Connection:
    """The API server of a kubeconfig's context, or the one that this pod runs under.

    Args:
        context: of the kubeconfig; its current one by default.
        kubeconfig: path of the file, where it is not the usual one.
        connections: how many are open at once.

    Raises:
        ClusterError: no client, no kubeconfig, or no such context.
    """
    try:
        import kubernetes
        from kubernetes.config.config_exception import ConfigException
    except ImportError:
        raise ClusterError(
            "The Kubernetes client is not installed.", hint="pip install 'selfhost[cluster]' brings it."
        ) from None
    client: Any = kubernetes.client
    config: Any = kubernetes.config
    made = client.Configuration()
    made.connection_pool_maxsize = connections
    try:
        with _logged() as said:
            config.load_kube_config(config_file=kubeconfig, context=context, client_configuration=made)
        name = f"context {context}" if context else "the current context"
    except ConfigException as error:
        if context is not None or kubeconfig is not None:
            raise _no_context(config, context, kubeconfig, error) from None
        try:
            config.load_incluster_config(client_configuration=made)
            name = "this pod's service account"
        except ConfigException:
            raise _no_context(config, context, kubeconfig, error) from None
    except Exception as error:  # not YAML, or names files that are not there
        raise ClusterError(
            f"The kubeconfig cannot be used: {printable(' '.join(str(error).split()))[:200]}.",
            hint="`kubectl config view` shows what is wrong with it.",
        ) from None
    if said:
        raise ClusterError(
            f"The credentials of {name} cannot be had: {printable(said[0])[:200]}.",
            hint="`kubectl get nodes` asks for them in the same way.",
        )
    if (
        not made.verify_ssl
    ):  # as the kubeconfig says; a warning for each request would say it a thousand times
        import urllib3

        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return Connection(client=client.ApiClient(made), name=name)


@contextmanager
def _logged() -> Iterator[list[str]]:
    """Errors that the client only logs, and goes on without credentials: those of a program that should give them."""
    import logging

    said: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    ear, root = Ear(logging.ERROR), logging.getLogger()
    root.addHandler(ear)
    try:
        yield said
    finally:
        root.removeHandler(ear)


def _no_context(config: Any, context: str | None, kubeconfig: str | None, error: Exception) -> ClusterError:
    try:
        names = [str(one["name"]) for one in config.list_kube_config_contexts(kubeconfig)[0]]
    except Exception:  # whatever is wrong with the file was said by the first error
        return ClusterError(
            f"There is no kubeconfig that can be used ({printable(str(error))[:200]}).",
            hint="Set KUBECONFIG; `kubectl config get-contexts` lists what there is.",
        )
    if context is not None and context not in names:
        return ClusterError(
            f"The kubeconfig has no context {context}.",
            hint=f"It has {', '.join(names[:10])}." if names else "It has none.",
        )
    return ClusterError(
        f"The kubeconfig cannot be used ({printable(str(error))[:200]}).",
        hint="`kubectl config view` shows what is wrong with it.",
    )

"""A Kubernetes API server, as selfhost talks to it: objects by server-side apply, lists, watches and logs."""

from selfhost.cluster.api import MANAGER, Api
from selfhost.cluster.connect import Connection, connect
from selfhost.cluster.paths import collection_path, path_of
from selfhost.cluster.types import (
    AbsentError,
    ApiError,
    Applied,
    Change,
    Claim,
    ConflictError,
    ExpiredError,
    ForbiddenError,
    Kind,
    Listed,
    Object,
    Ref,
    RefusedError,
    TakenError,
)
from selfhost.cluster.watch import Wanted, Watcher

__all__ = [
    "MANAGER",
    "AbsentError",
    "Api",
    "ApiError",
    "Applied",
    "Change",
    "Claim",
    "ConflictError",
    "Connection",
    "ExpiredError",
    "ForbiddenError",
    "Kind",
    "Listed",
    "Object",
    "Ref",
    "RefusedError",
    "TakenError",
    "Wanted",
    "Watcher",
    "collection_path",
    "connect",
    "path_of",
]

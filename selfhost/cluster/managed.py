"""What an object's managedFields say of us: whether an apply changed anything."""

from __future__ import annotations

from datetime import datetime
from email.utils import parsedate_to_datetime

from selfhost.cluster.types import Object
from selfhost.cluster.values import part, parts, text

_NEAR_SECONDS = 3.0  # Ours: both times are whole seconds, and API servers may be several machines


def is_old(item: Object, manager: str, date: str) -> bool:
    """Whether a manager's last apply that changed an object was before this answer, by the server's own clock.

    The server sets the time of a manager's entry only where an apply changes the object (apimachinery
    managedfields/internal/managedfieldsupdater.go, since Kubernetes 1.22), in a dry-run too.

    Args:
        item: the object, as the server answered.
        manager: of the fields.
        date: the answer's header Date.
    """
    for entry in parts(part(item, "metadata"), "managedFields"):
        if text(entry, "manager") == manager and text(entry, "operation") == "Apply":
            try:
                since = parsedate_to_datetime(date) - datetime.fromisoformat(text(entry, "time"))
            except (ValueError, TypeError):
                return False
            return since.total_seconds() >= _NEAR_SECONDS
    return False

"""Every error a user can meet, in one tree. `cli/_errors.py` is the one place that prints them."""

from __future__ import annotations


def shown_address(text: str) -> str:
    """An address as a sentence may quote it: nothing of what could be a user and a password."""
    before, at, after = text.rpartition("@")
    scheme, colons, _ = before.partition("://")
    return f"{scheme if colons else ''}{colons}…{at}{after}" if at else text


class SelfhostError(Exception):
    """Something a user can act on.

    Args:
        message: one sentence that says what is wrong.
        hint: one sentence that says what to do about it.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SelfhostError):
    """Options that contradict each other or are out of range."""

    exit_code = 2


class ModelReferenceError(SelfhostError):
    """A model reference that is not one of the four forms, or that climbs out of its directory."""


class ModelNotFoundError(SelfhostError):
    """No such repository, revision, directory, file or bundled model."""


class GatedModelError(SelfhostError):
    """The repository exists and asks for a token or for its terms to be accepted."""


class RenamedModelError(SelfhostError):
    """The repository moved; the error names where to."""


class LicenceError(SelfhostError):
    """A licence that does not permit the named use, whose terms are not accepted, or that is not in the catalogue."""


class OfflineError(SelfhostError):
    """The Hub cannot be reached, or offline mode forbids asking it.

    Args:
        passing: a further try may succeed.
    """

    def __init__(self, message: str, *, hint: str | None = None, passing: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.passing = passing


class RateLimitedError(SelfhostError):
    """The Hub answered 429.

    Args:
        after_seconds: how long it asks to wait, None where it does not say.
    """

    def __init__(self, message: str, *, hint: str | None = None, after_seconds: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.after_seconds = after_seconds


class MalformedAnswerError(SelfhostError):
    """A file or an answer that is truncated, lies about its length, or is not what it claims to be."""


class ConfigError(SelfhostError):
    """A model configuration that selfhost does not understand.

    Args:
        field: dotted name of the field that stopped it.
    """

    def __init__(self, message: str, *, field: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.field = field


class UnsupportedError(SelfhostError):
    """A combination that the engine or the GPU cannot run; the hint names what can."""


class UnknownGpuError(SelfhostError):
    """A GPU name that the catalogue does not have."""


class PlanFormatError(SelfhostError):
    """A plan.json of another version, or with unknown or missing fields."""


class OutputError(SelfhostError):
    """A file or directory that cannot be written."""


class PullError(SelfhostError):
    """A transfer that could not be finished; what is there already is kept, and the next pull goes on from it."""


class VerifyError(SelfhostError):
    """Files on disk that are not what their lock file says."""


class BundleError(SelfhostError):
    """A bundle that is cut off, was changed on the way, or is none."""


class ProviderError(SelfhostError):
    """An optional provider whose process did not answer, was killed, or answered what is no answer."""


class ClusterError(SelfhostError):
    """A Kubernetes API that cannot be reached, does not accept the credentials, or does not permit what is asked."""


class NoRoomError(SelfhostError):
    """A change that does not fit the GPUs it is for.

    Args:
        short_bytes: what is missing on each GPU.
    """

    exit_code = 4

    def __init__(self, message: str, *, short_bytes: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.short_bytes = short_bytes

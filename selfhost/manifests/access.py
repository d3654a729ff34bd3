"""The key that clients have to send, and the Secrets that images are pulled with: names only, never what is in them."""

from __future__ import annotations

from dataclasses import dataclass

from selfhost.engines import Argument, Key, engine_names, get_engine, parse_engine
from selfhost.errors import UnsupportedError
from selfhost.manifests.options import RenderOptions
from selfhost.manifests.pod import Additions, FileItem, Files, Mount, SecretKey, Variable, Volume
from selfhost.plan import Plan

SECRET_KEY = "api-key"
_RANDOM = "$(openssl rand -hex 32)"
KEY_PATH = "/var/run/secrets/selfhost-key"
_BECAUSE = "clients have to send it; without the Secret the pod does not start"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What the reader has to make before, and how clients call.

    Args:
        key_secret: Secret with the key, None where no key is asked for.
        key_literal: entry of that Secret, as `kubectl create secret` is told it, with a key of random bytes.
        key_caution: where the engine itself shows the key.
        pull_secrets: Secrets that images are pulled with.
        checks_keys: whether the engine could check a key.
    """

    key_secret: str | None
    key_literal: str
    key_caution: str | None
    pull_secrets: tuple[str, ...]
    checks_keys: bool


def access(plan: Plan, options: RenderOptions) -> Access:
    """Who may call.

    Raises:
        UnsupportedError: a key for an engine that checks none.
    """
    key = _key(plan, options)
    return Access(
        key_secret=options.access.api_key_secret,
        key_literal="" if key is None else f'{_entry(key)}="{key.file_text.replace("{key}", _RANDOM)}"',
        key_caution=None if key is None else key.caution,
        pull_secrets=options.access.image_pull_secrets,
        checks_keys=plan.engine.key is not None,
    )


def key_additions(plan: Plan, options: RenderOptions) -> Additions:
    """The key as the engine takes it: a variable from the Secret, or a file of it.

    Raises:
        UnsupportedError: the engine checks no key.
    """
    secret, key = options.access.api_key_secret, _key(plan, options)
    if secret is None or key is None:
        return Additions()
    if key.variable is not None:
        reference = SecretKey(name=secret, key=_entry(key))
        return Additions(env=(Variable(name=key.variable, because=_because(key), secret=reference),))
    items = (FileItem(key=_entry(key), path=_entry(key)),)
    return Additions(
        mounts=(Mount(name="api-key", path=KEY_PATH, read_only=True),),
        volumes=(Volume(name="api-key", secret=Files(name=secret, items=items, because=_because(key))),),
    )


def metrics_secret(plan: Plan, options: RenderOptions) -> SecretKey | None:
    """What Prometheus has to send to read the metrics, None where they are open."""
    secret, key = options.access.api_key_secret, plan.engine.key
    if secret is None or key is None or not key.guards_metrics:
        return None
    return SecretKey(name=secret, key=_entry(key))


def _entry(key: Key) -> str:
    """The entry of the Secret."""
    return key.file_name or SECRET_KEY


def _because(key: Key) -> str:
    """Why the key is there, and where the engine itself shows it."""
    return _BECAUSE if key.caution is None else f"{_BECAUSE}; {key.caution}"


def key_arguments(plan: Plan, options: RenderOptions) -> tuple[Argument, ...]:
    """The argument that names the file with the key, for an engine that has no variable for it.

    Raises:
        UnsupportedError: the engine checks no key.
    """
    key = _key(plan, options)
    if key is None or key.variable is not None or key.file_flag is None:
        return ()
    because = "a file of the Secret: an argument with the key in it could be read by everybody"
    path = f"{KEY_PATH}/{_entry(key)}"
    if key.separate:
        return (Argument(flag=key.file_flag, because=because), Argument(value=path, because="that file"))
    return (Argument(flag=key.file_flag, value=path, because=because),)


def _checking() -> tuple[str, ...]:
    """Engines whose newest release checks a key."""
    return tuple(name for name in engine_names() if get_engine(name).key(parse_engine(name)) is not None)


def _key(plan: Plan, options: RenderOptions) -> Key | None:
    """How the engine takes the key that is asked for."""
    if options.access.api_key_secret is None:
        return None
    if plan.engine.key is None:
        raise UnsupportedError(
            f"--api-key-secret: {plan.engine.name} {plan.engine.version} checks no key of its own.",
            hint="Let what stands in front check it (selfhost render --target hybrid), or plan for one that does: "
            f"{', '.join(_checking())}.",
        )
    return plan.engine.key

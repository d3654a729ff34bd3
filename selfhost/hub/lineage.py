"""The models that a model was made from, as far as their licences bind it too."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from selfhost.catalog import models
from selfhost.errors import SelfhostError
from selfhost.licence import Declared, Use, strictness
from selfhost.model.raw import RawModel

DEPTH = 5  # a model made from a model made from …
MOST = 12  # merges name many
SECONDS = 15.0

Ask = Callable[[str], Declared | None]


def binding_base(declared: Declared, *, ask: Ask, use: Use | None = None) -> tuple[str, Declared] | None:
    """The base model whose licence binds most, and its repository; None where none declares anything.

    The whole chain is asked, because one link that declares a freer licence than its own base frees nobody.

    Args:
        declared: what the model says.
        ask: what a repository declares, None where that cannot be found out.
        use: what the model is meant for.
    """
    found: list[tuple[str, Declared]] = []
    seen: set[str] = set()
    level = declared.base_models
    for _ in range(DEPTH):
        names = [name for name in dict.fromkeys(level) if name not in seen][: MOST - len(seen)]
        seen.update(names)
        answers = [(name, answer) for name in names if (answer := ask(name)) is not None]
        found += [(name, answer) for name, answer in answers if answer.licence or answer.name or answer.link]
        level = tuple(base for _, answer in answers for base in answer.base_models)
        if not level:
            break
    if not found:
        return None

    def bound(one: tuple[str, Declared]) -> int:
        return (1, 2, 0, 3)[strictness(one[1], use=use, repo=one[0])]  # what is unknown binds least

    return max(found, key=bound)


def ask_bundled(name: str) -> Declared | None:
    """What the bundled models know of a repository."""
    bundled = models.find(name) if "/" in name else None
    return None if bundled is None or bundled.licence is None else Declared(licence=bundled.licence)


def base_of(
    raw: RawModel,
    *,
    use: Use | None = None,
    environ: Mapping[str, str] = os.environ,
    timeout_seconds: float = SECONDS,
) -> tuple[str, Declared] | None:
    """The base model of a loaded model whose licence binds most.

    The bundled models answer first, so that a known base costs no wait. The Hub is asked only for a model that
    came from it, and what it does not answer counts as not known.

    Args:
        raw: the model.
        use: what it is meant for.
        environ: as for `load_model`.
        timeout_seconds: longest wait for the Hub, all requests together.
    """
    from selfhost.hub.load import is_offline

    if not raw.declared.base_models:
        return None
    ask: Ask = ask_bundled
    if raw.origin == "hub" and not is_offline(environ):
        ask = _online(environ, timeout_seconds)
    return binding_base(raw.declared, ask=ask, use=use)


def _online(environ: Mapping[str, str], timeout_seconds: float) -> Ask:
    from selfhost.hub.references import Reference, check_repository
    from selfhost.hub.remote import connect, within
    from selfhost.hub.repository import ask_about

    deadline = time.monotonic() + timeout_seconds
    hub = connect(environ, deadline=deadline)

    def ask(name: str) -> Declared | None:
        known = ask_bundled(name)
        if known is not None:
            return known
        try:
            check_repository(name)
            reference = Reference(text=name, kind="hub", name=name)
            left = max(0.1, deadline - time.monotonic())
            return within(left, lambda: ask_about(reference, hub).declared, what=name)
        except SelfhostError:
            return None

    return ask

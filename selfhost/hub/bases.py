"""Who is asked about a loaded model's licence and its bases: the bundled models, and the Hub for what came from it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from selfhost.catalog import models
from selfhost.errors import SelfhostError
from selfhost.hub.lineage import Ask, binding_base
from selfhost.licence import Declared, Use
from selfhost.model.raw import RawModel

SECONDS = 15.0


def declared_of(raw: RawModel) -> Declared:
    """What a loaded model declares."""
    return Declared(licence=raw.licence) if raw.declared is None else raw.declared


def read_licence(
    raw: RawModel, *, environ: Mapping[str, str] = os.environ, timeout_seconds: float = SECONDS
) -> Declared:
    """What a loaded model declares, and what its LICENSE file speaks of where the Hub can be asked for it.

    Args:
        raw: a model whose card does not say which licence it has.
        environ: as for `load_model`.
        timeout_seconds: longest wait for the Hub, all requests together.
    """
    from selfhost.hub.licence_text import TEXT_BYTES, with_clauses
    from selfhost.hub.load import is_offline
    from selfhost.hub.remote import connect, file_path, within

    declared, repo, commit = declared_of(raw), raw.repository, raw.revision
    if raw.origin != "hub" or repo is None or commit is None or is_offline(environ):
        return declared
    deadline = time.monotonic() + timeout_seconds
    hub = connect(environ, deadline=deadline)

    def read(name: str) -> bytes:
        left = max(0.1, deadline - time.monotonic())
        path = file_path(repo, commit, name)
        return within(left, lambda: hub.start(path, TEXT_BYTES, what=name).data, what=name)

    return with_clauses(declared, read)


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

    declared = declared_of(raw)
    if not declared.base_models:
        return None
    ask: Ask = ask_bundled
    if raw.origin == "hub" and not is_offline(environ):
        ask = _online(environ, timeout_seconds)
    return binding_base(declared, ask=ask, use=use)


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

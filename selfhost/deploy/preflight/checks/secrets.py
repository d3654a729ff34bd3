"""Secrets that somebody has to make before: whether they are there, with the entries that are read.

Only metadata is ever asked for: which entries a Secret has is told by the fields that its writers own
(metadata.managedFields), never by its data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from selfhost.cluster.types import Object
from selfhost.cluster.values import part, parts, text
from selfhost.deploy.preflight.facts import Look, Unread
from selfhost.deploy.preflight.needs import SecretUse, needs_of
from selfhost.deploy.types import Finding

_TLS = ("tls.crt", "tls.key")  # core/v1 SecretTypeTLS


def secrets(look: Look) -> Iterator[Finding]:
    """Secrets of keys, tokens, certificates and clouds."""
    uses = needs_of(look.desired).secrets
    needed = [use for use in uses if not use.optional or _gated(look, use)]
    if not needed:
        return
    read = look.facts.secrets
    if isinstance(read, Unread):
        names = ", ".join(dict.fromkeys(use.name for use in needed))
        yield Finding(
            code="secret",
            level="unknown",
            message=f"Whether the Secret {names} is there is not known: {read.sentence}.",
            hint=f"Look yourself: kubectl -n {look.desired.namespace} describe secret {needed[0].name} (the right to "
            "list Secrets is the right to read them, so no role that is asked for has it).",
        )
        return
    there = {_name(item): item for item in read}
    wrong = False
    for use in needed:
        found = there.get(use.name)
        keys = _TLS if use.tls else (use.key,) if use.key else ()
        if found is None:
            wrong = True
            yield _absent(look, use)
            continue
        known = entries(found)
        lacking = [key for key in keys if known is not None and key not in known]
        if lacking:
            wrong = True
            has = ", ".join(sorted(known or ())) or "none"
            yield Finding(
                code="secret",
                level="error",
                message=f"Secret {use.name} has no entry `{lacking[0]}`, which is read (it has {has}).",
                hint=f"Add the entry, or delete the Secret and make it anew: {_how(look, use)}",
            )
    if not wrong:
        yield Finding(
            code="secret",
            level="ok",
            message="secrets",
            evidence=tuple(dict.fromkeys(f"{use.name} {use.key}".strip() for use in needed)),
        )


def entries(item: Object) -> frozenset[str] | None:
    """Entries of a Secret by who owns them; None where nobody's fields are told."""
    managed = parts(part(item, "metadata"), "managedFields")
    if not managed:
        return None
    found = set()
    for one in managed:
        fields = part(one, "fieldsV1")
        for place in ("f:data", "f:stringData"):
            found |= {key.removeprefix("f:") for key in part(fields, place) if key.startswith("f:")}
    return frozenset(found)


def _gated(look: Look, use: SecretUse) -> bool:
    """The Hub's token may be absent, but not where the repository asks for one."""
    licence = look.desired.plan.licence
    gated = licence is not None and licence.gate not in ("none", "unknown")
    return use.name == look.desired.options.token_secret and gated


def _absent(look: Look, use: SecretUse) -> Finding:
    plan = look.desired.plan
    if _gated(look, use):
        message = f"{plan.model.id} asks for a token, and there is no Secret {use.name} with it."
    elif use.tls:
        message = f"There is no Secret {use.name} with the certificate of the Ingress."
    else:
        message = f"There is no Secret {use.name}{f' with the entry `{use.key}`' if use.key else ''}."
    return Finding(
        code="secret",
        # an Ingress works without its certificate, and cert-manager may be about to make it
        level="warning" if use.tls else "error",
        message=message,
        hint=_how(look, use),
    )


def _how(look: Look, use: SecretUse) -> str:
    place = f"kubectl -n {look.desired.namespace} create secret"
    if use.tls:
        return f"{place} tls {use.name} --cert FILE --key FILE, or let cert-manager make it."
    if use.name == look.desired.options.token_secret:
        return f"{place} generic {use.name} --from-file=token=FILE, with a token of huggingface.co/settings/tokens."
    if use.name == look.desired.options.access.api_key_secret and use.key == "api-key":
        return f'{place} generic {use.name} --from-literal=api-key="$(openssl rand -hex 32)"'
    return f"{place} generic {use.name} --from-file={use.key or 'KEY'}=FILE"


def pull_secrets(look: Look) -> Iterator[Finding]:
    """Credentials of registries: whether they are there, and of the type that kubelets read."""
    names = needs_of(look.desired).pull_secrets
    if not names:
        return
    everything, typed = look.facts.secrets, look.facts.pull_secrets
    if isinstance(everything, Unread):
        yield Finding(
            code="image-pull-secret",
            level="unknown",
            message=f"Whether the image pull secret {', '.join(names)} is there is not known: {everything.sentence}.",
            hint=f"Look yourself: kubectl -n {look.desired.namespace} get secret {names[0]}",
        )
        return
    there = {_name(item) for item in everything}
    wrong = False
    for name in names:
        how = (
            f"kubectl -n {look.desired.namespace} create secret docker-registry {name} "
            f"--docker-server={_registry(look)} --docker-username=USER --docker-password=…"
        )
        if name not in there:
            wrong = True
            yield Finding(
                code="image-pull-secret",
                level="error",
                message=f"There is no Secret {name} to pull images with.",
                hint=how,
            )
        elif not isinstance(typed, Unread) and name not in _names(typed):
            wrong = True
            yield Finding(
                code="image-pull-secret",
                level="error",
                message=f"Secret {name} is not of the type kubernetes.io/dockerconfigjson, which kubelets pull with.",
                hint=f"Delete it and make it anew: {how}",
            )
    if not wrong:
        yield Finding(
            code="image-pull-secret",
            level="ok",
            message="pull secret",
            evidence=(
                f"for {_registry(look)}: whether it is for that registry would show in its data alone",
            ),
        )


def _registry(look: Look) -> str:
    image = look.desired.options.image or look.desired.plan.engine.image.reference
    first = image.partition("/")[0]
    return first if "." in first or ":" in first or first == "localhost" else "docker.io"


def _names(items: Sequence[Object]) -> set[str]:
    return {_name(item) for item in items}


def _name(item: Object) -> str:
    return text(part(item, "metadata"), "name")


CHECKS = (secrets, pull_secrets)

"""Keys and tokens where everybody who may read a manifest reads them. What was found is never repeated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from selfhost.lint.model import Lot
from selfhost.lint.nodes import Map, Span, text_of
from selfhost.lint.types import Found, Rule, Severity

# Tokens by their own form: Hugging Face, OpenAI and those who copied its form, GitHub, AWS, Google, Slack,
# NVIDIA.
_TOKEN = re.compile(
    r"\b(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{30,}"
    r"|xox[bp]-[A-Za-z0-9-]{20,}|nvapi-[A-Za-z0-9_-]{40,})"
)
_NAME = re.compile(
    r"(^|_)(HF_TOKEN|HUGGING_?FACE(_?HUB)?(_API)?_TOKEN|[A-Z0-9_]*API_?KEY|ACCESS_KEY|SECRET_ACCESS_KEY|[A-Z0-9_]*PASSWORD"
    r"|[A-Z0-9_]*AUTH_TOKEN|[A-Z0-9_]*API_TOKEN|[A-Z0-9_]*SECRET(_KEY)?|[A-Z_]*_TOKEN|MASTER_KEY)$"
)
_FLAGS = frozenset(("api-key", "admin-api-key", "hf-token", "token"))
# What people write where a client asks for a key that nobody checks.
_DUMMY = frozenset(
    (
        "",
        "empty",
        "none",
        "null",
        "dummy",
        "fake",
        "na",
        "n/a",
        "no-key",
        "not-needed",
        "ignored",
        "test",
        "false",
        "true",
    )
)
_PLACEHOLDER = re.compile(
    r"^((?-i:nvapi-|hf_|sk-)?(?-i:[A-Z_]+))$|your|insert|replace|change|example|placeholder|xxx|<|>|\.\.\.|\*\*\*|todo|token-here",
    re.IGNORECASE,
)
_UNSET = re.compile(r"\$\{?[A-Za-z_]|\$\(")

_NO_SPAN = Span(0, 0, 0, 0)
_Kind = Literal["secret", "placeholder", "shell", "no"]


def _kind(value: str | None, *, named: bool) -> _Kind:
    """What a value is: a secret, a place that waits for one, a variable that a shell fills in, or nothing of it."""
    if value is None:
        return "no"
    text = value.strip()
    if _TOKEN.search(text):
        return "placeholder" if _PLACEHOLDER.search(text) or len(set(text)) < 8 else "secret"
    if (
        not named
        or text.lower() in _DUMMY
        or text.startswith(("/", "http://", "https://", "vault:", "ref+"))
        or text.isdigit()
    ):
        return "no"
    if _UNSET.match(text):
        return "shell"
    return "placeholder" if _PLACEHOLDER.search(text) else "secret"


_SAID: dict[_Kind, tuple[str, Severity]] = {
    "secret": ("stands in plain text", "error"),
    "placeholder": ("is meant to be written here in plain text", "warning"),
    "shell": ("will stand in plain text once the variable is filled in", "warning"),
}


def _environment(lot: Lot) -> Iterator[Found]:
    for pod in lot.pods:
        for container in pod.containers:
            for variable in container.variables:
                if variable.source != "value":
                    continue
                written = text_of(variable.body.get("value"))
                if written is not None and "$(" in written:
                    continue
                kind = _kind(written, named=_NAME.search(variable.name.upper()) is not None)
                if kind == "secret" and written == variable.name:
                    kind = "placeholder"
                if kind != "no":
                    said, severity = _SAID[kind]
                    yield Found(
                        where=variable.where,
                        message=f"the value of {variable.name} {said}",
                        fix=f"put it in a Secret and take {variable.name} by valueFrom.secretKeyRef",
                        severity=severity,
                    )


def _arguments(lot: Lot) -> Iterator[Found]:
    for pod in lot.pods:
        for container in pod.containers:
            seen: set[int] = set()
            flags = container.engine.flags if container.engine is not None else ()
            for flag in flags:
                if flag.key in _FLAGS and flag.known and not _from_variable(container.body, flag.written):
                    kind = _kind(flag.value, named=True)
                    if kind != "no":
                        seen |= {flag.where.line, (flag.value_span or flag.span or _NO_SPAN).line}
                        yield Found(
                            where=container.at(flag.where.line, "args"),
                            message=f"the value of {flag.written} {_SAID[kind][0]}",
                            fix="put it in a Secret and pass it by an environment variable",
                            severity=_SAID[kind][1],
                        )
            for key in ("command", "args"):
                items = container.body.seq(key)
                for index, item in enumerate(items):
                    line = items.line(index)
                    if isinstance(item, str) and _kind(item, named=False) == "secret" and line not in seen:
                        yield Found(
                            where=container.at(line, f"{key}[{index}]"),
                            message=f"a token stands in plain text in {key}",
                        )


def _from_variable(body: Map, written: str) -> bool:
    """The option's value is `$(VAR)`: the variable is looked at where it stands."""
    items = [text_of(item) or "" for key in ("command", "args") for item in body.seq(key)]
    for index, text in enumerate(items):
        if text == written and index + 1 < len(items):
            return "$(" in items[index + 1]
        if text.startswith(f"{written}=") and "$(" in text:
            return True
        if "\n" in text or " " in text:
            after = text.partition(written)[2].lstrip(" =\"'")
            if after.startswith("$"):
                return True
    return False


def _config_maps(lot: Lot) -> Iterator[Found]:
    for item in lot.of_kind("ConfigMap"):
        data = item.body.map("data")
        for key, value in data.items():
            text = text_of(value)
            kind = _kind(text, named=_NAME.search(key.upper()) is not None and "\n" not in (text or ""))
            if kind != "no":
                said, severity = _SAID[kind]
                yield Found(
                    where=item.at(data.line(key), f"data.{key}"),
                    message=f"the value of {key} {said} in a ConfigMap",
                    fix=f"put {key} in a Secret",
                    severity=severity,
                )


RULES = (
    Rule(
        code="SH008",
        title="Secret in the manifest",
        severity="error",
        reason="Who may read the manifest, the pod or its repository reads the key; arguments show in "
        "every process list.",
        fix="Put it in a Secret and pass it by secretKeyRef or a file.",
        sources=("https://kubernetes.io/docs/concepts/configuration/secret/, 2026-11-21",),
        compose=True,
        compose_fix="Take it from an env_file that is not in the repository, or from `secrets:`.",
        check=lambda lot: (*_environment(lot), *_arguments(lot)),
    ),
    Rule(
        code="SH040",
        title="Secret in a ConfigMap",
        severity="error",
        reason="A ConfigMap is read by many more than a Secret, and is shown and logged in plain text.",
        fix="Put it in a Secret and pass it by secretKeyRef.",
        sources=(
            "https://kubernetes.io/docs/concepts/configuration/secret/; opea-project's GenAIInfra charts, 2026-11-21",
        ),
        check=_config_maps,
    ),
)

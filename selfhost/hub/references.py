"""The one syntax for naming a model, and what each form means.

| written | means |
|---|---|
| `org/name`, `name` | the bundled model of that name if there is one, else the Hub's repository |
| `org/name@revision` | the Hub's repository at a branch, tag or commit |
| `org/name[@revision]:file.gguf` | one GGUF file of a Hub repository |
| `./dir`, `../dir`, `/dir`, `~/dir` | a local directory in Hugging Face layout |
| `file.gguf`, `./file.gguf` | a local GGUF file |
| `catalog:name` | the bundled model and nothing else |

A directory has to be written with a leading `./`, `../`, `/` or `~`, so that a folder which happens to be called
like a repository never takes its place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from selfhost.errors import ModelReferenceError

Kind = Literal["hub", "directory", "gguf", "catalogue"]

FORMS = (
    "write org/name, org/name@revision, ./directory, file.gguf or catalog:name; "
    "`selfhost models` lists the bundled ones."
)

# The Hub's own rules (huggingface_hub 2.4, utils/_validators.py): ASCII letters, digits, `-`, `_`, `.`; each part
# starts and ends with a letter, digit or `_`; no `--` or `..`; not `.git`.
_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")
# What git accepts in a ref name, less what a shell or YAML reads (git-check-ref-format(1)).
_REVISION = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._/+-]{0,253}[A-Za-z0-9_+-])?")
_FILE_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+ -]{0,254}")
_WEB = re.compile(
    r"(?:https?://)?(?:huggingface\.co|hf\.co)/([^/?#]+/[^/?#]+)(?:/(?:tree|blob|resolve)/([^/?#]+))?.*"
)
_MAXIMUM_LENGTH = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A model reference that has been understood.

    Args:
        text: what the user wrote.
        kind: which of the four places it names.
        name: repository id, path as written, or bundled name.
        revision: branch, tag or commit; Hub only.
        file: GGUF file inside a repository; Hub only.
    """

    text: str
    kind: Kind
    name: str
    revision: str | None = None
    file: str | None = None


def parse_reference(text: str) -> Reference:
    """Understand a model reference by its form alone; nothing is looked up.

    Raises:
        ModelReferenceError: when it has none of the forms, or its name breaks the Hub's rules.
    """
    _check_characters(text)
    for prefix in ("catalog:", "catalogue:"):
        if text.startswith(prefix):
            return _catalogue(text, text.removeprefix(prefix))
    if is_path(text):
        kind: Kind = "gguf" if text.lower().endswith(".gguf") else "directory"
        return Reference(text=text, kind=kind, name=text)
    if text.lower().endswith(".gguf") and ":" not in text:
        return Reference(text=text, kind="gguf", name=text)
    web = _WEB.fullmatch(text)
    if web:
        name = web[1] + (f"@{web[2]}" if web[2] else "")
        raise ModelReferenceError(f"{text} is a web address.", hint=f"write {name}")
    return _hub(text)


def is_path(text: str) -> bool:
    """Whether a reference is written as a path: `.`, `..`, `/...`, `./...`, `../...` or `~...`."""
    return text in (".", "..") or text.startswith(("./", "../", "/", "~"))


def check_repository(name: str) -> str:
    """A repository id that follows the Hub's rules, as written.

    Raises:
        ModelReferenceError: when it does not.
    """
    parts = name.split("/")
    if len(parts) > 2:
        raise ModelReferenceError(
            f"{shown(name)} has more than one slash, so it is no Hub repository.",
            hint=f"for a local directory write ./{name}" if _PART.fullmatch(parts[0]) else FORMS,
        )
    for part in parts:
        if not _PART.fullmatch(part):
            raise ModelReferenceError(f"{shown(name)} is not a model reference.", hint=FORMS)
        if "--" in part or ".." in part or part.endswith(".git"):
            raise ModelReferenceError(
                f"{shown(name)} is not a Hub repository: a name has no '--', no '..' and does not end in '.git'.",
                hint=FORMS,
            )
    return name


def check_revision(revision: str, *, text: str) -> str:
    """A branch, tag or commit that git would accept.

    Raises:
        ModelReferenceError: when it would not.
    """
    bad = (
        not _REVISION.fullmatch(revision)
        or ".." in revision
        or "//" in revision
        or "/." in revision
        or any(part.endswith(".lock") for part in revision.split("/"))
    )
    if bad:
        raise ModelReferenceError(
            f"{shown(text)} names the revision {shown(revision)!r}, which is no branch, tag or commit.",
            hint="write the part after @ as the Hub shows it, such as main, v1.0, refs/pr/2 or a commit's 40 digits.",
        )
    return revision


def check_file(name: str, *, text: str) -> str:
    """A file inside a repository that stays inside it.

    Raises:
        ModelReferenceError: when it climbs out or is oddly named.
    """
    parts = name.split("/")
    if not name or any(not _FILE_PART.fullmatch(part) or ".." in part for part in parts):
        raise ModelReferenceError(
            f"{shown(text)} names the file {shown(name)!r}, which no repository has.", hint=FORMS
        )
    return name


def shown(text: str, limit: int = 120) -> str:
    """Text for an error message: printable and not endless."""
    safe = "".join(char if char.isprintable() else "�" for char in text[: limit + 1])
    return safe if len(text) <= limit else safe[:limit] + "…"


def _check_characters(text: str) -> None:
    if not text or text != text.strip():
        raise ModelReferenceError("The model reference is empty or has spaces around it.", hint=FORMS)
    if len(text) > _MAXIMUM_LENGTH:
        raise ModelReferenceError(f"The model reference has {len(text):,} characters.", hint=FORMS)
    if not all(char.isprintable() for char in text):
        raise ModelReferenceError(f"{shown(text)} holds characters that cannot be printed.", hint=FORMS)


def _catalogue(text: str, name: str) -> Reference:
    if not name:
        raise ModelReferenceError(
            "catalog: needs a name after it.", hint="`selfhost models` lists the bundled ones."
        )
    return Reference(text=text, kind="catalogue", name=check_repository(name))


def _hub(text: str) -> Reference:
    if text.endswith("/config.json") and not {"@", ":"} & set(text):
        raise ModelReferenceError(
            f"{shown(text)} names a file, not a model.", hint=f"write ./{text.removesuffix('/config.json')}"
        )
    rest, colon, file = text.partition(":")
    name, at, revision = rest.partition("@")
    check_repository(name)
    if at:
        check_revision(revision, text=text)
    if colon:
        check_file(file, text=text)
        if not file.lower().endswith(".gguf"):
            raise ModelReferenceError(f"{shown(text)} names a file that is no GGUF file.", hint=FORMS)
    return Reference(text=text, kind="hub", name=name, revision=revision or None, file=file or None)

"""A migrated server as one line of shell; what is secret is named, and its value is not written."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from selfhost.hush import is_secret

if TYPE_CHECKING:
    from selfhost.migrate.assemble import Assembled

REFERENCE = re.compile(r"\$\([A-Za-z_]\w*\)|\$\{?[A-Za-z_]\w*\}?")


def joined(words: tuple[str, ...]) -> str:
    """Words for a shell; references to variables stay references, Kubernetes' `$(NAME)` in the shell's own form."""
    return " ".join(
        f'"{re.sub(r"[()]", "", word)}"' if REFERENCE.fullmatch(word) else shlex.quote(word) for word in words
    )


def shell_line(
    made: Assembled, image: str, command: tuple[str, ...], words: tuple[str, ...],
    env: tuple[tuple[str, str | None], ...],
) -> str:  # fmt: skip
    """The line that starts the server: of a `docker run`, with its own options."""
    given = made.given
    if given.kind != "docker":
        before = [f"{name}={shlex.quote(value)}" for name, value in env if value is not None]
        # What TGI was given besides stays in the environment of whoever starts it; secrets are not written here.
        return " ".join([*before, *command, joined(words)])
    kept = {piece.setting.name for piece in made.pieces if piece.keep and piece.setting}
    options = list(given.options)
    old, new = made.old_port, made.port
    if old is not None and new is not None and old != new:
        options = [re.sub(rf"^((?:--publish=|-p)?(?:.*:)?){old}(/tcp)?$", rf"\g<1>{new}\g<2>", word)
                   if index and (options[index - 1] in ("-p", "--publish") or word.startswith(("--publish=", "-p")))
                   else word for index, word in enumerate(options)]  # fmt: skip
    secret = [each.name for each in given.settings if each.name in kept]
    variables = [
        *((name, value) for name, value in given.env if name not in dict(env)), *env,
        *((name, None) for name in secret),
    ]  # fmt: skip
    written = [
        word
        for name, value in variables
        for word in ("-e", name if value is None or is_secret(name) else f"{name}={value}")
    ]
    if made.port is not None and needs_entry(command):
        return " ".join([joined((*options, *written)), image, *command, joined(words)])
    return " ".join([joined((*options, *written)), image, joined(words)])


def needs_entry(command: tuple[str, ...]) -> bool:
    """The image starts what it is given, so its command is written; vLLM's starts its server by itself."""
    return command[:1] != ("vllm",)

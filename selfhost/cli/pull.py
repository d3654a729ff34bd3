"""Bring a model's weights onto disk: chosen, lawful, resumable, and verified byte by byte."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from selfhost.cli._licence import licence_options
from selfhost.cli._options import AT_LEAST, SIZE, NamedPath, json_option
from selfhost.errors import UsageError

if TYPE_CHECKING:
    from selfhost.licence import Use

SERVE_PORT = 8765


@click.command()
@click.argument("model", required=False, metavar="MODEL[@REV]")
@click.option("--dry-run", is_flag=True, help="Say what would be pulled and why; write nothing.")
@click.option(
    "--dir", "directory", type=NamedPath(path_type=Path, file_okay=False), metavar="DIR",
    help="Plain directory instead of the Hub's cache.",
)  # fmt: skip
@click.option(
    "--to", "destination", metavar="DEST",
    help="Also bring it on: s3://BUCKET/PREFIX, oci:DIR[:TAG] or oci-artifact:DIR[:TAG].",
)  # fmt: skip
@click.option("--include", multiple=True, metavar="GLOB", help="Only files that match; repeat for several.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave out files that match; repeat.")
@click.option(
    "--quant", metavar="NAME", help="A quantized version of MODEL on the Hub instead (awq, gptq, fp8 …)."
)
@click.option("--trust-remote-code", is_flag=True, help="Also pull Python files that come with the model.")
@click.option(
    "--allow-pickle", is_flag=True, help="Pull pickled weights where there are no others, and scan them."
)
@licence_options
@click.option(
    "--token-file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="File that holds the Hub token; else HF_TOKEN or HF_TOKEN_PATH.",
)  # fmt: skip
@click.option(
    "--limit-rate", type=SIZE, metavar="SIZE", help="Most bytes a second over the network, such as 50MiB."
)
@click.option("--jobs", type=AT_LEAST[1], metavar="N", help="Files at once.  [default: 4]")
@click.option(
    "--ready-file", type=NamedPath(path_type=Path, dir_okay=False), metavar="FILE",
    help="Written last, when everything is there and verified.",
)  # fmt: skip
@click.option(
    "--serve", is_flag=False, flag_value=f":{SERVE_PORT}", metavar="[HOST]:PORT",
    help=f"Then serve it to other machines as their HF_ENDPOINT.  [default: :{SERVE_PORT}]",
)  # fmt: skip
@click.option("--allow-gated", is_flag=True, help="Serve models of which the owner grants access one by one.")
@json_option
def command(
    model: str | None,
    dry_run: bool,
    directory: Path | None,
    destination: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    quant: str | None,
    trust_remote_code: bool,
    allow_pickle: bool,
    use: Use | None,
    accept_licence: tuple[str, ...],
    token_file: Path | None,
    limit_rate: int | None,
    jobs: int | None,
    ready_file: Path | None,
    serve: str | None,
    allow_gated: bool,
    as_json: bool,
) -> int:
    """Pull the files that serving MODEL needs, at one commit, and verify each against the Hub's hash.

    One weight format is chosen, without copies in other formats. A pull that was stopped, however, goes on where it
    stopped; several pulls of one model share the work. At the end selfhost.lock.json says what is there, for
    `selfhost verify`. HF_TOKEN, HF_ENDPOINT, HF_HUB_CACHE and the usual proxy variables are honoured.
    """
    from selfhost.cli import _pull_onward, _pull_output, _pulling
    from selfhost.pull.choose import Wish

    if model is not None and serve is not None and not _is_address(serve) and _is_address(model):
        model, serve = serve, model  # `--serve MODEL`: the option took the next word
    if model is not None and serve is not None and not _is_address(serve):
        raise UsageError(f"--serve {serve!r} is no address.", hint=f"Write --serve :{SERVE_PORT}.")
    if model is None and serve is not None and not _is_address(serve):
        model, serve = serve, f":{SERVE_PORT}"
    if model is None:
        if serve is None:
            raise UsageError("Name a MODEL to pull.", hint="write selfhost pull Qwen/Qwen3-32B --dry-run")
        return _pull_onward.serve_all(serve, directory, allow_gated=allow_gated)
    wish = Wish(
        include=include, exclude=exclude, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle
    )
    asked = _pulling.Asked(
        model=model,
        directory=directory,
        wish=wish,
        use=use,
        accepted=accept_licence,
        quant=quant,
        limit_rate=limit_rate,
        jobs=jobs,
        as_json=as_json,
        environ=_environ(token_file),
    )
    if destination is not None:
        _pull_onward.check_destination(destination)
    if dry_run:
        more = {
            "--to": destination, "--token-file": token_file, "--limit-rate": limit_rate, "--jobs": jobs,
            "--ready-file": ready_file, "--serve": serve, "--allow-gated": "" if allow_gated else None,
        }  # fmt: skip
        return _pull_output.show_plan(asked, more)
    pulled = _pulling.pull(asked)
    push = None
    if destination is not None:
        push = _pull_onward.bring_on(pulled.snapshot, destination, limit_rate=limit_rate, quiet=as_json)
    if ready_file is not None:
        from selfhost.pull.lockfile import write_whole

        write_whole(ready_file, f"{pulled.snapshot.root}\n".encode())
    _pull_output.show_pulled(asked, pulled, destination, push)
    if serve is not None:
        return _pull_onward.serve_these(serve, (pulled.snapshot,), allow_gated=allow_gated)
    return 0


def _is_address(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    return port.isdecimal() and int(port[:6]) < 1 << 16 and "/" not in host and (bool(colon) or not host)


def _environ(token_file: Path | None) -> dict[str, str]:
    """The process's environment, with the token of a file in it; a token never stands on the command line."""
    environ = dict(os.environ)
    if token_file is not None:
        try:
            environ["HF_TOKEN"] = token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise UsageError(f"--token-file {token_file} cannot be read: {reason}.") from None
    return environ

"""Print the shell completion script for bash, zsh or fish."""

from __future__ import annotations

import click


@click.command(
    epilog='bash: eval "$(selfhost completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc; '
    "fish: selfhost completion fish > ~/.config/fish/completions/selfhost.fish"
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for SHELL; commands, options, GPUs and bundled models complete."""
    from click.shell_completion import get_completion_class

    from selfhost.cli import app

    kind = get_completion_class(shell)
    if kind is None:  # click.Choice has refused every other name already
        raise click.UsageError(f"no completion for {shell}")
    script = kind(app, {}, "selfhost", "_SELFHOST_COMPLETE")
    # Not script.source(): it starts bash to ask its version, which need not be the shell this is for.
    click.echo(script.source_template % script.source_vars())

"""Completion of words in a shell: `bgpvpn completion`."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Let a shell complete words.

    Prints a script for the shell, which then completes commands, options, and names that the daemon knows.

    \b
    bash: eval "$(bgpvpn completion bash)"        in ~/.bashrc
    zsh:  eval "$(bgpvpn completion zsh)"         in ~/.zshrc, after compinit
    fish: bgpvpn completion fish | source         in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    script = get_completion_class(shell)
    assert script is not None, "click knows the three shells"
    click.echo(script(ctx.find_root().command, {}, "bgpvpn", "_BGPVPN_COMPLETE").source())

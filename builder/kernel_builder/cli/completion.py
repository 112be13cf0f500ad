"""`kernel-builder completion`: the line that makes a shell complete our commands and options."""

from __future__ import annotations

from typing import cast

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from kernel_builder.cli.console import Console
from kernel_builder.cli.options import pass_console, talk_options

_SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}

# The lines under the backspace are not joined by click.
_HELP = """Print a shell completion script.

Put it where the shell looks for it:

\b
bash:  ~/.local/share/bash-completion/completions/kernel-builder
zsh:   _kernel-builder, in a directory of $fpath
fish:  ~/.config/fish/completions/kernel-builder.fish
"""


@click.command(help=_HELP)
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@talk_options
@click.pass_context
@pass_console
def completion(console: Console, context: click.Context, shell: str) -> None:
    """Print the completion script of a shell."""
    program = cast("str", context.find_root().info_name)
    variable = f"_{program}_COMPLETE".replace("-", "_").upper()
    console.write(_SHELLS[shell](context.find_root().command, {}, program, variable).source())

"""The reference of the command line says what `--help` says. `UPDATE_GOLDEN=1` writes it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click

from kernel_builder.cli import COMMANDS, PROGRAM, commands
from kernel_builder.errors import ExitCode

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
MARK = "`make golden` writes it. -->\n"


def render_help() -> Iterator[str]:
    parent = commands.make_context(PROGRAM, ["check"], resilient_parsing=True)
    for name in COMMANDS:
        yield from render_command(commands.get_command(parent, name), name, parent)


def render_command(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent, terminal_width=100, max_content_width=100)
    yield f"\n### {context.command_path.partition(' ')[2]}\n\n```\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None
            yield from render_command(found, inner, context)


def test_the_reference_is_what_help_says() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    head, mark, _ = text.partition(MARK)
    expected = head + mark + "".join(render_help())
    if os.environ.get("UPDATE_GOLDEN"):
        REFERENCE.write_text(expected, encoding="utf-8")
    assert REFERENCE.read_text(encoding="utf-8") == expected


def test_every_exit_code_is_documented() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    for code in ExitCode:
        assert f"\n| {int(code)} |" in text

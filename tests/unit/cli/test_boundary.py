"""The one place where exceptions become words and exit codes."""

from __future__ import annotations

import errno
import re
import tempfile
from pathlib import Path

import click
import pytest

from kernel_builder import cli
from kernel_builder.cli.console import Console
from kernel_builder.errors import AuditError, BadInputError, CompileError, NothingSelectedError, ToolchainMissingError


@pytest.fixture(autouse=True)
def _logs_of_this_test_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadInputError("x"), 2),
        (NothingSelectedError("x"), 3),
        (ToolchainMissingError("x"), 4),
        (CompileError("x"), 5),
        (AuditError("x"), 6),
        (click.UsageError("x"), 2),
        (KeyboardInterrupt(), 130),
        (cli._Terminated(), 143),
        (OSError(errno.ENOSPC, "No space left on device", "some/file"), 1),
        (ZeroDivisionError("x"), 1),
    ],
)
def test_each_kind_of_end_has_its_code(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._end(Console(), error, []) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err
    assert "Traceback" not in captured.err


def test_an_unforeseen_exception_leaves_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._end(Console(), ZeroDivisionError("by\nzero"), ["check", "x"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: internal error: ZeroDivisionError: by\n\nhint: this is a bug: please report it")
    match = re.search(r"`(\S+\.log)`", told)
    assert match is not None
    log = Path(match[1])
    text = log.read_text(encoding="utf-8")
    assert "['check', 'x']" in text
    assert "ZeroDivisionError: by" in text


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    cli._end(Console(debug=True), ZeroDivisionError(), [])
    told = capsys.readouterr().err
    assert told.startswith("ZeroDivisionError")


def test_the_system_refusing_is_not_called_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    cli._end(Console(), OSError(errno.ENOSPC, "No space left on device", "some/file"), [])
    assert capsys.readouterr().err == ("error: the system refused an operation: `some/file`: No space left on device\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["chek"], "error: No such command `chek`. Did you mean `check`?"),
        (["plan", "--jsn"], "error: No such option `--jsn`. Did you mean `--json`?"),
        (["check", "a", "b"], "error: Got unexpected extra argument (b)"),
        (["build", "--jobs", "0"], "error: Invalid value for `-j` / `--jobs`"),
        (["plan", "--backend", "gpu"], "error: Invalid value for `--backend`"),
        (["generate"], "error: Missing option `-o` / `--output`"),
        (["check-config"], "error: `check-config` is called `check` here"),
        (["build-and-copy", "-L"], "error: `build-and-copy` is called `build` here"),
    ],
)
def test_a_wrong_command_line_is_told_with_a_way_out(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(told)
    assert "--help` lists what it takes" in captured.err


def test_every_command_has_a_module_a_first_sentence_and_the_talk_options() -> None:
    context = click.Context(cli.commands)
    for name in cli.COMMANDS:
        command = cli.commands.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert command.get_short_help_str(limit=60).endswith(".")
        assert not command.get_short_help_str(limit=60).endswith("...")
        # A command with commands of its own has the options there.
        for each in command.commands.values() if isinstance(command, click.Group) else [command]:
            options = {option for parameter in each.params for option in parameter.opts}
            assert {"--quiet", "--verbose", "--debug"} <= options
            assert ("--json" in options) == (name != "completion")


def test_an_option_that_is_not_given_takes_nothing_back() -> None:
    console = Console(debug=True)
    context = cli.commands.make_context("kernel-builder", ["check", "nowhere"], obj=console)
    with context, pytest.raises(BadInputError):
        cli.commands.invoke(context)
    assert console.debug

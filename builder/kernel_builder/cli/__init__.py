"""The command line: one file per command, and here the one boundary where errors become words and exit codes."""

from __future__ import annotations

import errno
import os
import platform
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from itertools import takewhile
from keyword import iskeyword
from pathlib import Path
from types import FrameType

import click

from kernel_builder import __version__
from kernel_builder.cli.console import Console
from kernel_builder.endpoint import check_endpoint
from kernel_builder.errors import BadInputError, BuilderError, ExitCode, Problem

PROGRAM = "kernel-builder"
_COMPLETION_VARIABLE = "_KERNEL_BUILDER_COMPLETE"


COMMANDS = (
    "check",
    "plan",
    "generate",
    "build",
    "audit",
    "test",
    "bench",
    "upload",
    "export",
    "import",
    "key",
    "wheel",
    "sdk",
    "clean",
    "doctor",
    "serve",
    "completion",
)
"""Each is a module of this package with a click command of the same name; `import` is called `import_` in Python."""


_OF_A_HUB = {"upload", "import"}
"""What imports a Hub's client, whose import ends in a traceback where `HF_ENDPOINT` is no URL."""


_BAD_PATHS = {errno.ENAMETOOLONG, errno.ELOOP}
"""What the system says of paths that only a user can have named."""


_ELSEWHERE = {
    "benchmark": "bench",
    "build-and-copy": "build",
    "build-and-upload": "upload",
    "check-abi": "audit",
    "check-builds": "audit",
    "check-config": "check",
    "ci-test": "test",
    "clean-pyproject": "clean",
    "completions": "completion",
    "create-pyproject": "generate",
    "list-variants": "plan",
}
"""What commands of ours are called in the other builder of `build.toml` projects."""


class _Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, as an exception, so that every `finally` on the way out runs."""


class _Commands(click.Group):
    """A group that imports a command when it is asked for: completing a word need not load a compiler's worth."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        if cmd_name in _ELSEWHERE:
            raise click.UsageError(f"`{cmd_name}` is called `{_ELSEWHERE[cmd_name]}` here", ctx)
        if cmd_name not in COMMANDS:
            close = get_close_matches(cmd_name, COMMANDS, n=1)
            guess = f". Did you mean `{close[0]}`?" if close else ""
            raise click.UsageError(f"No such command `{cmd_name}`{guess}", ctx)
        if cmd_name in _OF_A_HUB and (endpoint := os.environ.get("HF_ENDPOINT")):
            check_endpoint(endpoint, "HF_ENDPOINT")
        name = f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name
        command: click.Command = getattr(import_module(f"kernel_builder.cli.{name}"), name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", prog_name=PROGRAM)
def commands() -> None:
    """Build, audit and test compute kernels that any PyTorch can load, from one `build.toml`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. No exception leaves it, except for shell completion's exit."""
    _fill_closed_streams()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    flags = set(takewhile(lambda word: word != "--", arguments))  # known before parsing, for parsing's own errors
    debug = "--debug" in flags or os.environ.get("KERNEL_BUILDER_DEBUG", "") not in {"", "0"}
    console = Console(as_json="--json" in flags, debug=debug)
    console.command = next((word for word in arguments if word in COMMANDS), "")
    try:
        for number in _termination_signals():
            signal.signal(number, _raise_terminated)
        code = _run(arguments, console)
        sys.stdout.flush()
        return int(code or ExitCode.OK)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the boundary: `_end` tells every one of them
        try:
            return _end(console, error, arguments)
        except BrokenPipeError:
            return _leave()


def _fill_closed_streams() -> None:
    """Whoever starts us may have closed our streams; the next file that is opened would take their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - stays open, as streams do


def _run(arguments: Sequence[str], console: Console) -> int | None:
    if _COMPLETION_VARIABLE in os.environ:
        commands.main(prog_name=PROGRAM)
    # Not `commands.main`, which has an opinion of its own on exceptions and readers that leave.
    try:
        with commands.make_context(PROGRAM, list(arguments), obj=console) as context:
            code: int | None = commands.invoke(context)
    except click.exceptions.Exit as end:  # after `--help` and `--version`
        return end.exit_code
    return code


def _end(console: Console, error: BaseException, arguments: Sequence[str]) -> ExitCode:
    """Tell why the command ended early, and choose the exit code."""
    match error:
        case click.exceptions.NoArgsIsHelpError():
            console.say(error.format_message())
            code = ExitCode.BAD_INPUT
        case click.ClickException():
            code = _show(console, _from_click(error))
        case BuilderError():
            code = _show(console, error)
        case _Terminated():
            console.say("terminated")
            code = ExitCode.TERMINATED
        case KeyboardInterrupt() | click.Abort():
            console.say("interrupted")
            code = ExitCode.INTERRUPTED
        case BrokenPipeError():
            code = _leave()
        case _:  # whatever got this far is our mistake, and must be told
            code = _show(console, _from_unexpected(error, arguments, debug=console.debug))
    return code


def _leave() -> ExitCode:
    """The reader is gone: say nothing more, not even when the streams are flushed at the very end."""
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(silence, stream.fileno())
    return ExitCode.BROKEN_PIPE


def _show(console: Console, error: BuilderError) -> ExitCode:
    console.show_error(error)
    return error.exit_code


def _termination_signals() -> list[signal.Signals]:
    return [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def _raise_terminated(_number: int, _frame: FrameType | None) -> None:
    raise _Terminated


def _from_click(error: click.ClickException) -> BuilderError:
    hint = None
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"`{error.ctx.command_path} --help` lists what it takes"
    return BadInputError(Problem(error.format_message().rstrip(".").replace("'", "`"), hint=hint))


def _from_unexpected(error: BaseException, arguments: Sequence[str], *, debug: bool) -> BuilderError:
    """Say an exception that nobody foresaw in a sentence; the traceback goes to a log file, or to `--debug`."""
    if debug:
        traceback.print_exception(error)
    if isinstance(error, OSError) and error.strerror:
        place = "" if error.filename is None else f"`{error.filename}`: "
        kind = BadInputError if error.errno in _BAD_PATHS else BuilderError
        return kind(Problem(f"the system refused an operation: {place}{error.strerror}"))
    about = f"{PROGRAM} {__version__}, Python {platform.python_version()}, {platform.platform()}, {list(arguments)}"
    message = f"internal error: {type(error).__name__}: {error}".splitlines()[0]
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix=f"{PROGRAM}-", suffix=".log", encoding="utf-8", errors="backslashreplace", delete=False
        ) as log:
            log.write(f"{about}\n{Path.cwd()}\n\n{''.join(traceback.format_exception(error))}")
    except OSError:
        return BuilderError(Problem(message, hint="this is a bug: run again with `--debug` and report what it prints"))
    return BuilderError(Problem(message, hint=f"this is a bug: please report it with the file `{log.name}`"))

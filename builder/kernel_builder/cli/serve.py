"""`kernel-builder serve`: a registry of one's own, for a site without a Hub and for trying things out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from kernel_builder.cli.console import Console
from kernel_builder.cli.options import json_option, pass_console, talk_options
from kernel_builder.cli.serialize import as_json
from kernel_builder.endpoint import check_endpoint
from kernel_builder.errors import AuditError, Problem, ToolchainMissingError
from kernel_builder.serve.tokens import Access, Accounts, load_accounts, token_accounts
from kernel_builder.serve.upkeep import check_registry

_MB = 1 << 20
_LOGGERS = ("kernel_builder.serve", "uvicorn.error")


@click.command()
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    default=Path("registry"),
    metavar="DIR",
    show_default=True,
    help="Where everything is kept.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8470, metavar="PORT", show_default=True, help="0 for any."
)
@click.option("--url", metavar="URL", help="How clients reach the registry, when they do so through a proxy.")
@click.option(
    "--token-file", type=click.Path(path_type=Path), metavar="FILE", help="Users, their tokens, and organisations."
)
@click.option(
    "--write-token",
    envvar="KERNEL_BUILDER_WRITE_TOKEN",
    metavar="TOKEN",
    help="A token that may publish. Other users see it here; better set `KERNEL_BUILDER_WRITE_TOKEN`.",
)
@click.option(
    "--read-token",
    envvar="KERNEL_BUILDER_READ_TOKEN",
    metavar="TOKEN",
    help="A token that may read, which nobody may without one then; or `KERNEL_BUILDER_READ_TOKEN`.",
)
@click.option(
    "--trust",
    "trusted",
    multiple=True,
    metavar="NAME",
    help="A publisher whose kernels load without `trust_remote_code`.  [default: all; repeatable]",
)
@click.option("--lfs", is_flag=True, help="Take large files one by one; clients must set `HF_HUB_DISABLE_XET=1`.")
@click.option(
    "--max-file",
    type=click.IntRange(1, 1 << 20),
    default=4096,
    metavar="MB",
    show_default=True,
    help="Refuse larger files.",
)
@click.option(
    "--part",
    type=click.IntRange(1, 1 << 20),
    default=64,
    metavar="MB",
    show_default=True,
    help="With `--lfs`, take larger files in parts of this size.",
)
@click.option(
    "--patience",
    type=click.FloatRange(0.1, 86400),
    default=60.0,
    metavar="SECONDS",
    show_default=True,
    help="Give up on clients that neither send nor take anything for so long.",
)
@click.option("--insecure", is_flag=True, help="Without tokens, let everybody who reaches a public address write.")
@click.option("--check", is_flag=True, help="Do not serve: read all that is stored, and tell what is damaged.")
@click.option("--sweep", is_flag=True, help="Do not serve: check, then remove contents that nothing names any more.")
@json_option
@talk_options
@pass_console
def serve(
    console: Console,
    /,
    *,
    root: Path,
    url: str | None,
    token_file: Path | None,
    write_token: str | None,
    read_token: str | None,
    trusted: Sequence[str],
    max_file: int,
    part: int,
    patience: float,
    check: bool,
    sweep: bool,
    **options: Any,
) -> None:
    """Serve a registry that clients use in place of the Hub.

    Those that have `HF_ENDPOINT` set to its URL publish to it and load from it. It runs until it is interrupted.
    """
    if check or sweep:
        _look_after(console, root, sweep=sweep)
        return
    server, registries = _import_server()
    accounts = _collect_accounts(token_file, write_token, read_token)
    setup = server.Setup(
        root=root,
        url=None if url is None else check_endpoint(url, "--url"),
        accounts=accounts,
        trusted=frozenset(name.lower() for name in trusted) or None,
        limits=registries.Limits(file=max_file * _MB, commit=3 * max_file * _MB, patience=patience, part=part * _MB),
        **options,
    )

    def tell(endpoint: str) -> None:
        if console.as_json:
            console.write_json({"endpoint": endpoint, "root": str(root.absolute()), "open": accounts.is_open})
        else:
            console.write(f"export HF_ENDPOINT={endpoint}")
            console.say(f"serving `{root}`; press Ctrl-C to stop", style="dim")

    _send_logs(console)
    server.launch(setup, tell)
    console.say("stopped")


def _look_after(console: Console, root: Path, *, sweep: bool) -> None:
    found = check_registry(root, sweep=sweep)
    if found.damaged:
        raise AuditError([Problem(text, hint="restore it from a backup, or upload it again") for text in found.damaged])
    if console.as_json:
        console.write_json({"root": str(root.absolute()), "swept": sweep, "content": as_json(found)})
        return
    console.write(
        f"{found.repositories} repositories, {found.commits} commits, {found.contents} contents "
        f"({found.size / 1e6:.1f} MB): all as they were received"
    )
    verb = "removed" if sweep else "nothing names"
    console.write(f"{verb} {found.unused} contents ({found.unused_size / 1e6:.1f} MB)")


def _import_server() -> tuple[Any, Any]:
    """What the server is made of, which is an extra: whoever only builds kernels does without."""
    try:
        return import_module("kernel_builder.serve.launch"), import_module("kernel_builder.serve.registry")
    except ModuleNotFoundError as error:
        raise ToolchainMissingError(
            Problem(f"`{error.name}` is not installed", hint="`pip install 'kernel-builder[serve]'` brings it")
        ) from error


def _collect_accounts(token_file: Path | None, write_token: str | None, read_token: str | None) -> Accounts:
    accounts = Accounts() if token_file is None else load_accounts(token_file)
    if write_token:
        accounts = accounts.merge(token_accounts(write_token, Access.WRITE, "writer"))
    if read_token:
        accounts = accounts.merge(token_accounts(read_token, Access.READ, "reader"))
    return accounts


class _ToConsole(logging.Handler):
    """Log records as talk; tracebacks only for whoever debugs."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Say one."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            text = f"{text.strip()}: {type(error).__name__}: {error}"
            if self.console.debug:
                text += f"\n{logging.Formatter().formatException(record.exc_info)}"
        if record.levelno >= logging.WARNING:
            self.console.warn(text)
        else:
            self.console.say_details(text)


def _send_logs(console: Console) -> None:
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [_ToConsole(console)]
        logger.propagate = False
        logger.setLevel(logging.INFO)

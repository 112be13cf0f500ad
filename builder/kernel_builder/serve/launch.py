"""From what a user asked for to a registry that listens."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from kernel_builder.errors import BadInputError, Problem
from kernel_builder.serve.catalog import Catalog
from kernel_builder.serve.registry import Limits, Registry
from kernel_builder.serve.running import is_loopback, open_socket, run_server, url_of
from kernel_builder.serve.storage import Storage
from kernel_builder.serve.tokens import Accounts


@dataclass(frozen=True, slots=True)
class Setup:
    """How a registry is to be served; as the options of the command say."""

    root: Path
    host: str
    port: int
    url: str | None = None
    accounts: Accounts = field(default_factory=Accounts)
    trusted: frozenset[str] | None = None
    limits: Limits = field(default_factory=Limits)
    lfs: bool = False
    insecure: bool = False


def launch(setup: Setup, started: Callable[[str], None]) -> None:
    """Serve until a signal comes. started: called with the URL once clients can connect. Raises `BadInputError`."""
    with open_socket(setup.host, setup.port) as listener:
        if setup.accounts.is_open and not setup.insecure and not is_loopback(listener):
            raise BadInputError(
                Problem(
                    f"`{setup.host}` can be reached from other machines, and without tokens everybody could write",
                    hint="give `--token-file` or `KERNEL_BUILDER_WRITE_TOKEN`, or allow it with `--insecure`",
                )
            )
        with closing(Storage(setup.root)) as storage:
            registry = Registry(
                storage,
                Catalog(storage),
                setup.accounts,
                setup.limits,
                lfs=setup.lfs,
                url=setup.url,
                trusted=setup.trusted,
                local=setup.accounts.is_open and setup.url is None and is_loopback(listener),
            )
            run_server(registry, listener, lambda: started(setup.url or url_of(listener, setup.host)))

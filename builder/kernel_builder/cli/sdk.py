"""`kernel-builder sdk`: what compiles fetch of torch and of CUDA's libraries; fetch it ahead, list it, remove it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from kernel_builder.backend import FACTS, Backend
from kernel_builder.cli.console import Console
from kernel_builder.cli.options import dry_run_option, json_option, pass_console, talk_options
from kernel_builder.cli.progress import format_traffic, show_progress
from kernel_builder.errors import BadInputError, FetchError, Problem
from kernel_builder.host import HostPlatform, probe_host
from kernel_builder.plan import ToolchainKey
from kernel_builder.progress import BytesReceived, Event, Listener
from kernel_builder.sdk.cuda_libraries import LIBRARIES, find_cuda_library, obtain_cuda_libraries
from kernel_builder.sdk.settings import IndexSettings, load_settings
from kernel_builder.sdk.slicing import open_source
from kernel_builder.sdk.store import Leftover, Slice, Store, measure, open_store
from kernel_builder.sdk.torch_slice import choose_link, find_torch_slice, obtain_torch_slice
from kernel_builder.sdk.wheel import TorchNeed
from kernel_builder.toolchains import obtain_toolkits, offer_chosen
from kernel_builder.version import MinorVersion


@click.group()
def sdk() -> None:
    """Fetch, list and remove headers of torch and CUDA.

    A build fetches what it lacks by itself; this is for doing so ahead, and for looking after the cache.
    """


def _parse_version(_context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
    texts = value if isinstance(value, tuple) else (value,)
    try:
        versions = tuple(None if text is None else MinorVersion.parse_release(text) for text in texts)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return versions if isinstance(value, tuple) else versions[0]


def _parse_hosts(
    _context: click.Context, _parameter: click.Parameter, value: Sequence[str]
) -> tuple[HostPlatform, ...]:
    try:
        return tuple(HostPlatform.parse(text) for text in value) or (probe_host(),)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@dataclass(slots=True)
class _Meter:
    """Passes events on, and keeps the count of what the last fetches moved."""

    listener: Listener
    steps: dict[str, tuple[int, int]]

    def __call__(self, event: Event) -> None:
        if isinstance(event, BytesReceived):
            self.steps[event.step] = (event.received, event.requests)
        self.listener(event)

    @property
    def received(self) -> int:
        return sum(received for received, _ in self.steps.values())

    @property
    def requests(self) -> int:
        return sum(requests for _, requests in self.steps.values())


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of `fetch`, which gives a row for each slice."""

    settings: IndexSettings
    meter: _Meter
    lock_file: Path | None
    offline: bool
    dry_run: bool

    @property
    def store(self) -> Store:
        return open_store(self.settings, self.meter)

    def fetch_torch(self, need: TorchNeed) -> dict[str, Any]:
        cached = find_torch_slice(self.store, need)
        if self.dry_run and cached is not None:
            return _describe(cached, cached=True)
        if self.dry_run and not self.offline:
            name = f"ask for torch {need.release}"
            with open_source(self.settings, self.store, self.lock_file, self.meter, name) as source:
                link = choose_link(source, need)
            return {"package": "torch", "host": str(need.host), "wheel": link.filename, "cached": False}
        found = obtain_torch_slice(
            need,
            settings=self.settings,
            store=self.store,
            offline=self.offline,
            lock_file=self.lock_file,
            listener=self.meter,
        )
        return _describe(found, cached=cached is not None)

    def fetch_cuda(
        self, toolkit: MinorVersion, host: HostPlatform, libraries: Iterable[str]
    ) -> Iterator[dict[str, Any]]:
        before = {name for name in libraries if find_cuda_library(self.store, toolkit, name, host) is not None}
        if not self.dry_run:
            obtain_cuda_libraries(
                toolkit,
                host=host,
                libraries=libraries,
                offline=self.offline,
                lock_file=self.lock_file,
                settings=self.settings,
                listener=self.meter,
            )
        for name in libraries:
            found = find_cuda_library(self.store, toolkit, name, host)
            row = {"package": name, "host": str(host), "wheel": None, "cached": False}
            yield row if found is None else _describe(found, cached=name in before)

    def fetch_compiler(self, version: MinorVersion) -> dict[str, Any]:
        key, host = ToolchainKey(Backend.CUDA, version), probe_host()
        cached = not offer_chosen(key, host).fetched
        if self.offline and not cached:
            raise FetchError(Problem(f"the compiler of CUDA {version} is not here, and nothing is fetched offline"))
        row = {"package": "nvcc", "host": str(host), "wheel": None, "cached": cached}
        if self.dry_run:
            return row
        toolkit = obtain_toolkits([key], self.meter)[key]
        return {**row, "version": toolkit.tool.version, "root": str(toolkit.root)}


@sdk.command()
@click.argument("releases", nargs=-1, metavar="[RELEASE]...", callback=_parse_version)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    callback=_parse_hosts,
    metavar="PLATFORM",
    help="For this platform, such as `aarch64-linux`.  [default: this machine; repeatable]",
)
@click.option(
    "--backend",
    type=click.Choice([str(backend) for backend in Backend if FACTS[backend].is_compiled]),
    default=str(Backend.CPU),
    show_default=True,
    help="For variants of this backend.",
)
@click.option("--toolkit", metavar="VERSION", callback=_parse_version, help="Prefer a torch built for this toolkit.")
@click.option("--cuda", metavar="VERSION", callback=_parse_version, help="Headers of this CUDA's libraries as well.")
@click.option(
    "--library",
    "libraries",
    multiple=True,
    default=LIBRARIES,
    show_default=True,
    metavar="NAME",
    help="With --cuda: this library.  [repeatable]",
)
@click.option("--compiler", is_flag=True, help="With --cuda: its compiler for this machine, if it is not installed.")
@click.option("--lock", "lock_file", type=click.Path(path_type=Path), metavar="FILE", help="Pin wheels in this file.")
@click.option("--offline", is_flag=True, help="Fetch nothing; fail where something is missing.")
@dry_run_option
@json_option
@talk_options
@pass_console
def fetch(
    console: Console,
    releases: Sequence[MinorVersion],
    hosts: Sequence[HostPlatform],
    *,
    backend: str,
    toolkit: MinorVersion | None,
    cuda: MinorVersion | None,
    libraries: Sequence[str],
    compiler: bool,
    lock_file: Path | None,
    offline: bool,
    dry_run: bool,
) -> None:
    """Bring headers of torch RELEASEs into the cache.

    They come out of the wheels of the index that pip or uv are configured for, without the wheels themselves.
    """
    if not releases and cuda is None:
        raise BadInputError(
            Problem("nothing to fetch", hint="name a release of torch, such as `2.13`, or `--cuda 13.0`")
        )
    if compiler and cuda is None:
        raise BadInputError(Problem("`--compiler` is that of a CUDA", hint="name it: `--cuda 13.0`"))
    if toolkit is not None and not FACTS[Backend(backend)].versioned:
        problem = f"`{backend}` has no toolkit with a version"
        raise BadInputError(Problem(problem, hint="leave out `--toolkit`, or name a backend such as `--backend cuda`"))
    with show_progress(console) as listener:
        meter = _Meter(listener, {})
        run = _Run(load_settings(), meter, lock_file, offline=offline, dry_run=dry_run)
        needs = [TorchNeed(release, host, Backend(backend), toolkit) for release in releases for host in hosts]
        rows = [run.fetch_torch(need) for need in needs]
        if cuda is not None:
            rows.extend(row for host in hosts for row in run.fetch_cuda(cuda, host, libraries))
            rows.extend([run.fetch_compiler(cuda)] if compiler else [])
    if console.as_json:
        totals = {"received": meter.received, "requests": meter.requests}
        console.write_json({"dry-run": dry_run, "slices": rows, **totals})
        return
    for row in rows:
        state = "in the cache" if row["cached"] else "would be fetched" if dry_run else "fetched"
        console.write(f"{row['package']} {row.get('version') or row['wheel'] or ''} for {row['host']}: {state}")
    if meter.requests:
        console.say(format_traffic(meter.received, meter.requests))


@sdk.command("list")
@json_option
@talk_options
@pass_console
def list_command(console: Console) -> None:
    """List what is in the cache."""
    store = open_store(load_settings(), lambda _event: None)
    found = list(store.list_slices())
    if console.as_json:
        rows = [{**_describe(item, cached=True), "size": measure(item.root)} for item in found]
        console.write_json({"cache": str(store.root), "slices": rows})
        return
    rows = [_describe(item, cached=True) for item in found]
    console.write_table(
        ("package", "version", "for", "MB", "where"),
        [
            (
                str(row["package"]), str(row["version"] or ""), str(row["host"] or ""),
                f"{measure(item.root) / 1e6:.1f}", str(item.root),
            )
            for row, item in zip(rows, found, strict=True)
        ],
    )  # fmt: skip
    if not found:
        console.say(f"the cache `{store.root}` is empty")


@sdk.command()
@click.argument("releases", nargs=-1, metavar="[RELEASE]...", callback=_parse_version)
@click.option("--all", "everything", is_flag=True, help="Remove every slice.")
@click.option("--older-than", type=click.IntRange(min=0), metavar="DAYS", help="Remove slices not used for so long.")
@dry_run_option
@json_option
@talk_options
@pass_console
def prune(
    console: Console, releases: Sequence[MinorVersion], older_than: int | None, *, everything: bool, dry_run: bool
) -> None:
    """Remove slices from the cache.

    Those of torch RELEASEs, those that were not used, or all; parts of interrupted downloads go in any case. What
    another process is fetching stays.
    """
    store = open_store(load_settings(), lambda _event: None)
    leaving = [
        found
        for found in store.list_slices()
        if everything
        or (older_than is not None and store.days_unused(found) >= older_than)
        or (found.facts.get("package") == "torch" and _release_of(found) in releases)
    ]
    leftovers: list[Leftover] = [store.weigh(found) for found in leaving] + list(store.list_interrupted())
    if not dry_run:
        for found in leaving:
            store.remove(found)
        store.remove_interrupted()
    if console.as_json:
        rows = [{"path": str(item.path), "size": item.size} for item in leftovers]
        console.write_json({"dry-run": dry_run, "removed": rows})
        return
    for item in leftovers:
        console.write(f"{'would remove' if dry_run else 'removed'} `{item.path}` ({item.size / 1e6:.1f} MB)")
    if not leftovers:
        console.write("there is nothing to remove")


def _release_of(found: Slice) -> MinorVersion | None:
    try:
        return MinorVersion.parse_release(str(found.facts.get("version", "")))
    except ValueError:
        return None


def _describe(found: Slice, *, cached: bool) -> dict[str, Any]:
    facts = found.facts
    names: Iterable[str] = ("package", "version", "host", "wheel", "sha256", "record", "requests", "received")
    return {**{name: facts.get(name) for name in names}, "root": str(found.root), "cached": cached}

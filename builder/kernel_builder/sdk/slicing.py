"""From a link to a slice: fetch the parts that are wanted, hold them against RECORD and the lock, and keep them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kernel_builder.errors import BuilderError, FetchError, Problem, ToolchainMissingError
from kernel_builder.progress import BytesReceived, Listener, step
from kernel_builder.sdk.connections import redact_url
from kernel_builder.sdk.index import Link, list_links
from kernel_builder.sdk.pins import Pin, check_pin, load_pins, write_pin
from kernel_builder.sdk.ranges import DamagedWheelError, PartialWheel
from kernel_builder.sdk.record import Archive, is_safe
from kernel_builder.sdk.settings import IndexSettings
from kernel_builder.sdk.store import Slice, Store, hash_text
from kernel_builder.sdk.transport import Traffic, Transport

LOCK_NAME = "sdk.lock"
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Cut:
    """What is taken out of a wheel.

    kind: names the cut and its version, such as `torch-1`; another version is another slice. select: whether a member
    is wanted, by its path and its size in the wheel. complete: called with the unpacked files before they are kept, to
    add what the wheel lacks; gives facts for `slice.json`. tail: what to read first of the wheel's end, so that its
    list of files and RECORD are in it.
    """

    kind: str
    select: Callable[[str, int], bool]
    complete: Callable[[Path, Archive], Mapping[str, Any]]
    tail: int


@dataclass(frozen=True, slots=True)
class Source:
    """Everything that fetching takes: where from, where to, who is told.

    pinned: the wheels that the project's lock file names; they go before others. passed_over: what was wrong with the
    indexes that failed while others had something.
    """

    settings: IndexSettings
    store: Store
    transport: Transport
    lock_file: Path
    pinned: frozenset[str]
    listener: Listener
    passed_over: list[Problem] = field(default_factory=list)

    def list_links(self, project: str, variant: str = "") -> tuple[Link, ...]:
        """The wheels of a project, see `index.list_links`."""
        return list_links(
            project,
            self.settings,
            self.transport,
            variant=variant,
            listener=self.listener,
            passed_over=self.passed_over,
        )

    def explain_lack(self, problem: Problem) -> BuilderError:
        """The error to raise when no index has a wheel: one that failed may have it."""
        if not self.passed_over:
            return ToolchainMissingError(problem)
        failures = dict.fromkeys(self.passed_over)
        return FetchError([*failures, replace(problem, hint="an index that failed may have it: try again")])

    def fetch_slice(self, link: Link, cut: Cut) -> Slice:
        """Give the slice of a wheel, from the cache or else from its index. Raises `FetchError`."""
        with self.store.open_partial(f"{link.filename} {link.sha256 or redact_url(link.url)}") as directory:
            found = _find(self.store, cut, link)
            if found is not None:  # another process may have brought it while this one waited
                return found
            try:
                return _fetch(self, link, cut, directory)
            except DamagedWheelError:
                # What came before a crash, or what a proxy kept, may be at fault: once more from nothing.
                self.transport.distrust_caches()
                return _fetch(self, link, cut, directory)


@contextmanager
def open_source(
    settings: IndexSettings, store: Store, lock_file: Path | None, listener: Listener, name: str
) -> Iterator[Source]:
    """Open a way to the indexes; what goes over it is told as the step `name`.

    lock_file: the project's; by default what was seen is locked in the cache, and does not keep newer wheels away.
    """

    def tell(traffic: Traffic) -> None:
        listener(BytesReceived(name, traffic.received, traffic.requests))

    with step(listener, name):
        pinned = frozenset(load_pins(lock_file)) if lock_file is not None else frozenset[str]()
        transport = Transport(settings, tell)
        yield Source(settings, store, transport, lock_file or store.root / LOCK_NAME, pinned, listener)


def pin_of(found: Slice) -> tuple[str, Pin]:
    """The wheel of a slice, and what a lock file says of it."""
    return str(found.facts["wheel"]), Pin(found.facts.get("sha256"), str(found.facts["record"]))


def _find(store: Store, cut: Cut, link: Link) -> Slice | None:
    for found in store.list_slices():
        facts = found.facts
        if facts.get("kind") == cut.kind and facts.get("wheel") == link.filename:
            same = facts.get("sha256") == link.sha256 if link.sha256 else facts.get("url") == redact_url(link.url)
            if same:
                return store.take(found)
    return None


def _fetch(source: Source, link: Link, cut: Cut, directory: Path) -> Slice:
    store, traffic = source.store, source.transport.traffic
    before = (traffic.requests, traffic.received)
    wheel = PartialWheel(link, directory, source.transport, tail=cut.tail)
    try:
        with wheel.open_archive() as members:
            archive = Archive(wheel, members, link.filename)
            pin = Pin(link.sha256, archive.record.sha256)
            try:
                check_pin(source.lock_file, load_pins(source.lock_file), link.filename, pin)
                names = _choose_members(cut, archive, link)
            except FetchError:  # no more of it is wanted, and what came must not stand in for another one
                wheel.discard()
                raise
            archive.fetch(names)
            if wheel.is_whole:
                _check_digest(wheel, link)
            key = hash_text(f"{cut.kind} {link.filename} {archive.record.sha256}")
            with store.open_slice(key) as staging:
                archive.extract({name: staging / name for name in names})
                (staging / "RECORD").write_bytes(archive.record.text)
                facts = {
                    **cut.complete(staging, archive),
                    "kind": cut.kind,
                    "wheel": link.filename,
                    "url": redact_url(link.url),
                    "sha256": link.sha256,
                    "record": archive.record.sha256,
                    "wheel-size": wheel.size,
                    "requests": traffic.requests - before[0],
                    "received": traffic.received - before[1],
                }
                store.write_facts(staging, facts)
    except DamagedWheelError:
        wheel.discard()
        raise
    with store.explain():
        write_pin(source.lock_file, link.filename, pin, source.listener)
    store.forget_partial(directory)
    found = store.find(key)
    assert found is not None  # noqa: S101 - renamed into place above
    return found


def _choose_members(cut: Cut, archive: Archive, link: Link) -> list[str]:
    """What the cut wants. Raises `FetchError` when that is nothing, or would be written elsewhere."""
    names = sorted(name for name in archive.names if cut.select(name, archive.size_of(name)))
    archive.demand(name for name in archive.record.files if cut.select(name, 0))
    unsafe = next((name for name in names if not is_safe(name)), None)
    if unsafe is not None:
        problem = f"`{link.filename}` has a member that would leave its directory: `{unsafe}`"
        raise FetchError(Problem(problem, hint="do not use this index before you know why"))
    if not names:
        problem = f"`{link.filename}` holds none of the files that are wanted"
        raise FetchError(Problem(problem, hint="try another release"))
    return names


def _check_digest(wheel: PartialWheel, link: Link) -> None:
    if link.sha256 is None:
        return
    digest = hashlib.sha256()
    with wheel.open() as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != link.sha256:
        raise DamagedWheelError(
            Problem(
                f"`{link.filename}` has the sha256 {digest.hexdigest()[:16]}..., its index says {link.sha256[:16]}...",
                hint="try again; when it stays so, tell who runs the index, or use another one",
            )
        )

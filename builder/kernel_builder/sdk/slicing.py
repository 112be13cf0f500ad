"""From a link to a slice: fetch the parts that are wanted, hold them against RECORD and the lock, and keep them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel_builder.errors import FetchError, Problem
from kernel_builder.progress import Listener
from kernel_builder.sdk.index import Link
from kernel_builder.sdk.pins import Pin, check_pin, load_pins, write_pin
from kernel_builder.sdk.ranges import PartialWheel
from kernel_builder.sdk.record import Archive, DamagedWheelError, is_safe
from kernel_builder.sdk.store import Slice, Store, hash_text
from kernel_builder.sdk.transport import Transport, redact_url

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Cut:
    """What is taken out of a wheel.

    kind: names the cut and its version, such as `torch-1`; another version is another slice. select: the members that
    are wanted, by path and size in the wheel. complete: called with the unpacked files before they are kept, to add
    what the wheel lacks; gives facts for `slice.json`.
    """

    kind: str
    select: Callable[[Archive], Iterable[str]]
    complete: Callable[[Path, Archive], Mapping[str, Any]]


def fetch_slice(
    link: Link, cut: Cut, *, store: Store, transport: Transport, lock_file: Path, listener: Listener
) -> Slice:
    """Give the slice of a wheel, from the cache or else from its index. Raises `FetchError`."""
    with store.open_partial(f"{link.filename} {link.sha256 or redact_url(link.url)}") as directory:
        found = _find(store, cut, link)
        if found is not None:  # another process may have brought it while this one waited
            return found
        try:
            return _fetch(
                link, cut, directory, store=store, transport=transport, lock_file=lock_file, listener=listener
            )
        except DamagedWheelError:
            # What came before a crash, or what a proxy kept, may be at fault: once more from nothing.
            return _fetch(
                link, cut, directory, store=store, transport=transport, lock_file=lock_file, listener=listener
            )


def _find(store: Store, cut: Cut, link: Link) -> Slice | None:
    for found in store.list_slices():
        facts = found.facts
        if facts.get("kind") == cut.kind and facts.get("wheel") == link.filename:
            same = facts.get("sha256") == link.sha256 if link.sha256 else facts.get("url") == redact_url(link.url)
            if same:
                return found
    return None


def _fetch(
    link: Link,
    cut: Cut,
    directory: Path,
    *,
    store: Store,
    transport: Transport,
    lock_file: Path,
    listener: Listener,
) -> Slice:
    before = (transport.traffic.requests, transport.traffic.received)
    wheel = PartialWheel(link, directory, transport)
    try:
        archive = Archive(wheel, link.filename)
        pin = Pin(link.sha256, archive.record.sha256)
        check_pin(lock_file, load_pins(lock_file), link.filename, pin)
        names = sorted(set(cut.select(archive)))
        if not names:
            raise FetchError(
                Problem(f"`{link.filename}` holds none of the files that are wanted", hint="try another release")
            )
        unsafe = [name for name in names if not is_safe(name)]
        if unsafe:
            raise FetchError(
                Problem(
                    f"`{link.filename}` has a member that would leave its directory: `{unsafe[0]}`",
                    hint="do not use this index before you know why",
                )
            )
        archive.fetch(names)
        if wheel.is_whole:
            _check_digest(wheel, link)
        key = hash_text(f"{cut.kind} {link.filename} {archive.record.sha256}")
        with store.open_slice(key) as staging:
            archive.extract({name: staging / name for name in names})
            (staging / "RECORD").write_bytes(archive.record.text)
            facts = cut.complete(staging, archive)
            store.write_facts(
                staging,
                {
                    **facts,
                    "kind": cut.kind,
                    "wheel": link.filename,
                    "url": redact_url(link.url),
                    "sha256": link.sha256,
                    "record": archive.record.sha256,
                    "files": len(names),
                    "wheel-size": wheel.size,
                    "requests": transport.traffic.requests - before[0],
                    "received": transport.traffic.received - before[1],
                },
            )
        archive.close()
    except DamagedWheelError:
        wheel.discard()
        raise
    with store.explain():
        write_pin(lock_file, link.filename, pin, listener)
    store.forget_partial(directory)
    found = store.find(key)
    assert found is not None  # noqa: S101 - renamed into place above
    return found


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

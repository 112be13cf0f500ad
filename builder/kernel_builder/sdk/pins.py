"""The lock file: what wheels were when they were first seen, so that nobody can change them later."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kernel_builder.errors import BadInputError, FetchError, Location, Problem
from kernel_builder.lock import hold_lock
from kernel_builder.progress import Listener

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Pin:
    """One wheel: the sha256 that its index gives for the whole, None where it gives none, and that of its RECORD."""

    sha256: str | None
    record: str


def load_pins(path: Path) -> dict[str, Pin]:
    """Read a lock file: wheel -> pin; empty when there is none. Raises `BadInputError` for a damaged one."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version = document["version"]
        pins = {str(name): Pin(entry["sha256"], str(entry["record"])) for name, entry in document["wheels"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInputError(
            Problem(
                f"the lock file `{path}` cannot be read: {error}",
                Location(str(path)),
                "restore it, or delete it to trust the index anew",
            )
        ) from error
    if version != _VERSION:
        problem = f"the lock file `{path}` has the format {version}, this release reads {_VERSION}"
        raise BadInputError(Problem(problem, Location(str(path)), "use a newer kernel-builder"))
    return pins


def check_pin(path: Path, pins: Mapping[str, Pin], filename: str, found: Pin) -> None:
    """Raise `FetchError` when a wheel is not what was locked."""
    pin = pins.get(filename)
    if pin is None:
        return
    changed = pin.record != found.record or (None not in {pin.sha256, found.sha256} and pin.sha256 != found.sha256)
    if changed:
        raise FetchError(
            Problem(
                f"the index serves another `{filename}` than the one that is locked",
                Location(str(path)),
                "find out why; to trust what is served now, remove the wheel from the lock file",
            )
        )


def hold_to_pin(path: Path, filename: str, pin: Pin, listener: Listener) -> None:
    """Check a wheel against the lock file, and add it when it is new there."""
    check_pin(path, load_pins(path), filename, pin)
    write_pin(path, filename, pin, listener)


def write_pin(path: Path, filename: str, pin: Pin, listener: Listener) -> None:
    """Add a wheel to the lock file, beside what others add at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with hold_lock(path.parent, listener):
        pins = load_pins(path)
        old = pins.get(filename)
        if old is not None and pin.sha256 is None:  # an index without hashes says less, not otherwise
            pin = Pin(old.sha256, pin.record)
        if old == pin:
            return
        pins[filename] = pin
        wheels = {name: {"sha256": pins[name].sha256, "record": pins[name].record} for name in sorted(pins)}
        text = json.dumps({"version": _VERSION, "wheels": wheels}, indent=2) + "\n"
        staging = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            staging.write_text(text, encoding="utf-8")
            staging.replace(path)
        finally:
            staging.unlink(missing_ok=True)

"""The cache: slices that are whole or not there, and what may be removed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from kernel_builder.errors import BadInputError, FetchError
from kernel_builder.progress import Event
from kernel_builder.sdk.pins import Pin, hold_to_pin, load_pins
from kernel_builder.sdk.settings import IndexSettings
from kernel_builder.sdk.store import Slice, Store, open_store

FACTS = {"kind": "test-1", "package": "torch", "version": "2.11.0", "host": "any", "wheel": "x.whl", "record": "0"}


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def store(tmp_path: Path, events: list[Event]) -> Store:
    return Store(tmp_path, events.append)


def add(store: Store, key: str = "abc") -> Slice:
    with store.open_slice(key) as staging:
        (staging / "include").mkdir()
        (staging / "include" / "a.h").write_text("// a\n", encoding="utf-8")
        store.write_facts(staging, FACTS)
    found = store.find(key)
    assert found is not None
    return found


def test_a_slice_appears_when_it_is_whole(store: Store) -> None:
    def stop_halfway() -> None:
        with store.open_slice("abc") as staging:
            (staging / "half").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stop_halfway()
    assert list(store.list_slices()) == []
    assert list((store.root / "slices").iterdir()) == []
    found = add(store)
    assert found.key == "abc"
    assert store.take(found) == found


def test_what_a_killed_process_left_is_cleared_by_the_next(store: Store) -> None:
    left = store.root / "slices" / ".abc.999999"
    left.mkdir(parents=True)
    add(store)
    assert not left.exists()


def test_one_that_is_there_already_stays(store: Store) -> None:
    before = add(store).root.stat().st_ino
    assert add(store).root.stat().st_ino == before


@pytest.mark.parametrize("name", ["slice.json", "include/a.h"])
def test_one_that_lost_a_file_is_not_taken(store: Store, name: str) -> None:
    found = add(store)
    (found.root / name).unlink()
    if name == "slice.json":
        assert store.find("abc") is None
        assert add(store).root.is_dir(), "what is left of it is replaced"
    else:
        assert store.take(found) is None
        assert store.find("abc") is None


@pytest.mark.parametrize("text", ["{", "[]", '{"kind": "test-1"}', "\x00"])
def test_facts_that_cannot_be_read_are_no_slice(store: Store, text: str) -> None:
    found = add(store)
    (found.root / "slice.json").write_text(text, encoding="utf-8")
    assert list(store.list_slices()) == []


def test_use_is_noted(store: Store) -> None:
    found = add(store)
    long_ago = time.time() - 40 * 86400
    os.utime(found.root / "slice.json", (long_ago, long_ago))
    assert 39 < store.days_unused(found) < 41
    store.take(found)
    assert store.days_unused(found) < 1


def test_a_download_that_somebody_works_on_is_not_removed(store: Store) -> None:
    with store.open_partial("a wheel") as directory:
        (directory / "wheel").write_bytes(b"part")
        assert list(store.list_interrupted()) == []
        store.remove_interrupted()
        assert (directory / "wheel").exists()
    (left,) = store.list_interrupted()
    assert left.path == directory
    assert left.size > 0
    store.remove_interrupted()
    assert not directory.exists()


def test_the_cache_says_what_it_is(store: Store) -> None:
    add(store)
    assert (
        (store.root / "CACHEDIR.TAG").read_text(encoding="utf-8").startswith("Signature: 8a477f597d28d172789f06886806")
    )


def test_the_place_of_the_cache(tmp_path: Path, events: list[Event]) -> None:
    settings = IndexSettings(cache_dir=tmp_path / "settings")
    assert open_store(settings, events.append, {}).root.is_relative_to(tmp_path / "settings")
    named = {"KERNEL_BUILDER_CACHE": str(tmp_path / "named")}
    assert open_store(settings, events.append, named).root.is_relative_to(tmp_path / "named")
    assert open_store(IndexSettings(), events.append, {}).root.is_absolute()


def test_a_lock_file_keeps_what_it_saw_first(tmp_path: Path, events: list[Event]) -> None:
    path = tmp_path / "new" / "sdk.lock"
    first = Pin("a" * 64, "b" * 64)
    hold_to_pin(path, "x.whl", first, events.append)
    hold_to_pin(path, "y.whl", Pin(None, "c" * 64), events.append)
    assert load_pins(path) == {"x.whl": first, "y.whl": Pin(None, "c" * 64)}
    hold_to_pin(path, "x.whl", Pin(None, "b" * 64), events.append)  # an index without hashes says less, not otherwise
    assert load_pins(path)["x.whl"] == first
    for other in (Pin("a" * 64, "d" * 64), Pin("d" * 64, "b" * 64)):
        with pytest.raises(FetchError, match=r"another `x\.whl`"):
            hold_to_pin(path, "x.whl", other, events.append)
    assert [item.name for item in path.parent.iterdir()] == ["sdk.lock"]


LOCKS = ("", "[]", '{"version": 1}', '{"version": 9, "wheels": {}}', '{"version": 1, "wheels": [1]}')


@pytest.mark.parametrize("text", LOCKS)
def test_a_lock_file_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sdk.lock"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInputError) as raised:
        load_pins(path)
    (problem,) = raised.value.problems
    assert problem.location is not None
    assert problem.hint

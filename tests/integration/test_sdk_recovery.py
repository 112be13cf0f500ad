"""After an index that lied comes one that does not: nothing of the first may be believed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_builder.errors import FetchError
from tests.sdk.loopback_index import LoopbackIndex, serve_index
from tests.sdk.places import Place
from tests.sdk.wheels import WheelRecipe, make_wheel

RECIPE = WheelRecipe(padding=200_000)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "wheels").mkdir()
    return Place(tmp_path / "wheels", tmp_path / "cache")


@pytest.fixture
def wheel(place: Place) -> Path:
    return make_wheel(RECIPE, place.wheels)


@pytest.fixture
def index(place: Place, wheel: Path) -> Iterator[LoopbackIndex]:
    assert wheel.is_file()
    with serve_index(place.wheels) as served:
        yield served


@pytest.mark.parametrize("marker", [b"PK\x05\x06", b"PK\x01\x02", b"dist-info/RECORD"])
@pytest.mark.parametrize("skip", [0, 12, 24])
def test_damage_in_the_list_of_files_is_forgotten(
    place: Place, wheel: Path, index: LoopbackIndex, marker: bytes, skip: int
) -> None:
    data = wheel.read_bytes()
    index.manners.flipped = frozenset({data.rindex(marker) + skip})
    try:
        damaged = place.obtain(index.url).root
    except FetchError:
        assert place.slices == []
        index.manners.flipped = frozenset()
        damaged = place.obtain(index.url).root
    assert sum(1 for _ in damaged.glob("include/ATen/ops/*.h")) == 40


def test_a_size_that_changed_is_forgotten(place: Place, wheel: Path, index: LoopbackIndex) -> None:
    index.manners.no_hash = True  # so that both wheels are taken for one
    good = wheel.read_bytes()
    index.manners.truncations, index.manners.truncate_at = 1000, 400_000
    wheel.write_bytes(good[: len(good) // 2])
    with pytest.raises(FetchError):
        place.obtain(index.url)
    wheel.write_bytes(good)
    index.manners.truncations = 0
    assert place.obtain(index.url).version == "2.11.0+cu130"


def test_a_wheel_that_the_lock_refused_is_forgotten(place: Place, index: LoopbackIndex, tmp_path: Path) -> None:
    index.manners.no_hash = True
    lock_file = tmp_path / "sdk.lock"
    place.obtain(index.url, lock_file=lock_file)
    shutil.rmtree(place.cache)
    make_wheel(WheelRecipe(padding=200_000, extra={"torch/include/new.h": b"// new\n"}), place.wheels)
    with pytest.raises(FetchError, match="than the one that is locked"):
        place.obtain(index.url, lock_file=lock_file)
    assert place.strays == []
    make_wheel(RECIPE, place.wheels)
    place.obtain(index.url, lock_file=lock_file)


def test_a_wheel_of_unknown_length_that_breaks_off_is_fetched_again(place: Place, index: LoopbackIndex) -> None:
    index.manners.ranges, index.manners.lengths = False, False
    index.manners.truncations = 1
    try:
        place.obtain(index.url)
    except FetchError as error:  # an end without a length looks like any other end
        assert error.problems[0].hint  # noqa: PT017 - either outcome is right
        assert place.slices == []
        assert place.strays == []
    place.obtain(index.url)


def test_a_link_to_nothing_is_named(place: Place) -> None:
    page = place.wheels / "index.html"
    page.write_text(f'<a href="{RECIPE.filename}">x</a>', encoding="utf-8")
    with pytest.raises(FetchError, match="is not there"):
        place.obtain(settings=place.settings(find_links=(str(place.wheels),)))

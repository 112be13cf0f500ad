"""Wheels with damage anywhere: what comes out of one is what was put in, or an error that says so."""

from __future__ import annotations

import json
import shutil
import tempfile
from functools import cache
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_builder.errors import BuilderError, FetchError
from kernel_builder.sdk.index import parse_page
from kernel_builder.sdk.transport import Page
from kernel_builder.sdk.wheel import list_wheels
from tests.sdk.places import Place, list_files
from tests.sdk.wheels import WheelRecipe, make_wheel

SMALL = WheelRecipe(libraries=("libc10.so", "libtorch.so"), padding=100)
DAMAGES = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "insert", "swap"]), st.floats(0, 1), st.integers(1, 255)),
    min_size=1,
    max_size=3,
)
TAIL = 0.4  # the list of files and RECORD are most of what can be damaged in interesting ways


@cache
def make_good() -> tuple[bytes, dict[str, bytes]]:
    """A wheel, and what a slice of it holds. No fixture, whose value would be printed with each failure."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = make_wheel(SMALL, Path(folder) / "wheels")
        sdk = obtain(Path(folder))
        return wheel.read_bytes(), {name: (sdk / name).read_bytes() for name in list_files(sdk)}


def obtain(folder: Path) -> Path:
    place = Place(folder / "wheels", folder / "cache")
    return place.obtain(settings=place.settings(find_links=(str(place.wheels),))).root


def damage(data: bytes, kind: str, where: float, amount: int) -> bytes:
    offset = min(int(len(data) * where), len(data) - 1)
    match kind:
        case "flip":
            return data[:offset] + bytes([data[offset] ^ amount]) + data[offset + 1 :]
        case "cut":
            return data[:offset] + data[offset + amount :]
        case "insert":
            return data[:offset] + bytes(amount) + data[offset:]
        case _:
            return data[:offset] + data[offset + amount : offset + 2 * amount] + data[offset : offset + amount]


@settings(max_examples=200, deadline=None)
@given(damages=DAMAGES, in_tail=st.booleans())
def test_a_slice_of_a_damaged_wheel_is_right_or_is_not(damages: list[tuple[str, float, int]], *, in_tail: bool) -> None:
    data, expected = make_good()
    for kind, where, amount in damages:
        data = damage(data, kind, 1 - where * TAIL if in_tail else where, amount)
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "wheels").mkdir()
        (folder / "wheels" / SMALL.filename).write_bytes(data)
        try:
            sdk = obtain(folder)
        except BuilderError as error:
            assert all(problem.hint for problem in error.problems)  # noqa: PT017 - either outcome is right
            assert not list(folder.glob("cache/sdk/1/slices/*"))
        else:
            assert {name: (sdk / name).read_bytes() for name in list_files(sdk)} == expected
    finally:
        shutil.rmtree(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("torch-2.0-py3-none-any.whl"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["files", "url", "filename", "hashes", "sha256", "size", "yanked"]), inner)
    ),
    max_leaves=12,
)
MARKUP = st.text(alphabet="<a href=\"'/>#%:[]\x00sha256=&;.whl-", max_size=80)
PAGES = st.one_of(
    st.tuples(st.just("application/vnd.pypi.simple.v1+json"), JSON.map(lambda value: json.dumps(value).encode())),
    st.tuples(st.sampled_from(["text/html", "", "application/json", "image/png"]), st.binary(max_size=200)),
    st.tuples(st.just("text/html"), MARKUP.map(str.encode)),
)


@settings(deadline=None)
@given(PAGES)
def test_a_page_gives_links_or_an_error(page: tuple[str, bytes]) -> None:
    try:
        links = parse_page(Page("https://box/s/torch/", *page))
    except FetchError as error:
        assert all(problem.hint for problem in error.problems)  # noqa: PT017 - either outcome is right
    else:
        assert list_wheels(links) is not None

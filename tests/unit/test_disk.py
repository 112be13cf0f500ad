from __future__ import annotations

from pathlib import Path

import pytest

from kernel_builder.disk import check_directory, explain_disk
from kernel_builder.errors import BadInputError

HINT = "choose another place"


def test_a_place_that_can_be_made_is_fine_and_not_made(tmp_path: Path) -> None:
    check_directory(tmp_path, HINT)
    check_directory(tmp_path / "a" / "b", HINT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/below", "loop", "loop/below", "dangling", "x" * 300])
def test_a_place_where_nothing_can_be_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(BadInputError) as raised:
        check_directory(tmp_path / name, HINT)
    assert raised.value.problems[0].hint == HINT


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder here in which the system makes the folders")
def test_a_folder_that_only_the_system_fills_is_told_with_what_to_do() -> None:
    place = Path("/proc/registry")
    with pytest.raises(BadInputError) as raised, explain_disk(f"the registry `{place}`", HINT):
        place.mkdir(parents=True)
    assert "cannot write to the registry `/proc/registry`" in str(raised.value)
    assert raised.value.problems[0].hint == HINT

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from kernel_builder.container import EngineName, Image
from kernel_builder.container.inside import list_loans, list_probe_words, parse_inside
from kernel_builder.container.run import check_places, list_mount_words
from kernel_builder.errors import BadInputError, ToolchainMissingError

IMAGE = Image("some/image:1", "sha256:" + "0" * 64)
ANSWER = """\
--- python /usr/bin/python3
Python 3.11.2
--- cxx /usr/bin/c++
c++ (Debian 12.2.0-14+deb12u1) 12.2.0
Copyright (C) 2022 Free Software Foundation, Inc.
--- cmake /kernel-builder/python/cmake/data/bin/cmake
cmake version 4.4.1
--- path /usr/bin:/bin
--- machine x86_64
"""


def test_what_an_image_says_of_itself_is_read() -> None:
    inside = parse_inside(ANSWER.splitlines(), IMAGE)
    assert (inside.python, inside.search_path) == ("/usr/bin/python3", "/usr/bin:/bin")
    assert inside.tools.cxx is not None
    assert (inside.tools.cxx.name, inside.tools.cxx.version) == ("gcc", "12.2.0")
    assert inside.tools.cmake is not None
    assert inside.tools.cmake.version == "4.4.1"
    assert inside.tools.ninja is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("", "no program can be run"),
        ("sh: not found", "no program can be run"),
        ("--- path /bin", "has no Python 3.11 or later"),
    ],
)
def test_an_image_that_cannot_build_is_refused(answer: str, words: str) -> None:
    with pytest.raises(ToolchainMissingError, match=words):
        parse_inside(answer.splitlines(), IMAGE)


def test_the_builder_lends_what_it_runs() -> None:
    loans = list_loans()
    assert {path.name for path in loans} >= {"scikit_build_core", "packaging", "pathspec"}
    assert all(source.exists() for source in loans.values())
    *shell, cmake, ninja = list_probe_words(loans)
    assert shell[:2] == ["/bin/sh", "-c"]
    assert all(word == "" or PurePosixPath(word).is_absolute() for word in (cmake, ninja))


@pytest.mark.parametrize("place", ["/", "/usr", "/usr/bin", "/etc", "/tmp"])  # noqa: S108 - refused
def test_directories_that_an_image_has_are_not_hidden(place: str) -> None:
    with pytest.raises(BadInputError, match="it would hide"):
        check_places([Path("/srv/project"), Path(place)])


def test_a_path_is_one_field_whatever_is_in_it() -> None:
    target = PurePosixPath("/b")
    assert list_mount_words(EngineName.DOCKER, Path("/a"), target, writable=False) == [
        "--mount", "type=bind,source=/a,target=/b,readonly"]  # fmt: skip
    assert list_mount_words(EngineName.DOCKER, Path('/a,readonly=false "b"'), target, writable=False)[1] == (
        'type=bind,"source=/a,readonly=false ""b""",target=/b,readonly'
    )
    assert list_mount_words(EngineName.BUILDAH, Path("/a"), target, writable=True)[1].endswith(",rw=true")

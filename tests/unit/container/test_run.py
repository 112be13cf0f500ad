from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from kernel_builder.container import Engine, EngineName, Image, Mounts
from kernel_builder.container.inside import list_loans, list_probe_words, parse_inside
from kernel_builder.container.permissions import check_places, list_limits, list_mount_words, list_mounts, list_user
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


def test_files_belong_to_whoever_runs_the_builder() -> None:
    own = f"{os.getuid()}:{os.getgid()}"
    docker, podman, buildah = (Engine(name, f"/usr/bin/{name}", "1.0") for name in EngineName)
    assert list_user(docker) == list_user(podman) == ["--user", own]
    assert list_user(replace(docker, remaps_users=True)) == ["--userns", "host", "--user", own]
    assert list_user(replace(docker, is_rootless=True)) == ["--user", "0:0"]
    assert list_user(replace(podman, is_rootless=True)) == ["--userns", "keep-id", "--user", own]
    assert list_user(replace(buildah, is_rootless=True)) == ["--user", "0:0"]


def test_a_container_is_limited_as_far_as_the_engine_can() -> None:
    engine = Engine(EngineName.DOCKER, "/usr/bin/docker", "1.0")
    words = list_limits(engine)
    assert " --network none " in f" {' '.join(words)} "
    assert {"--read-only", "--cap-drop", "no-new-privileges"} <= set(words)
    assert not {"--memory", "--pids-limit", "label=disable"} & set(words)
    able = list_limits(replace(engine, has_selinux=True, can_limit=frozenset({"memory", "pids"})))
    assert {"--memory", "--pids-limit", "label=disable"} <= set(able)


def test_what_lies_in_the_project_is_mounted_after_it() -> None:
    mounts = Mounts(read_only=(Path("/p"), Path("/sdk")), writable=(Path("/p/.kernel-builder"),))
    words = list_mounts(EngineName.DOCKER, mounts, {PurePosixPath("/kernel-builder/bin/ninja"): Path("/v/ninja")})
    assert words[1::2] == [
        "type=bind,source=/p,target=/p,readonly",
        "type=bind,source=/sdk,target=/sdk,readonly",
        "type=bind,source=/p/.kernel-builder,target=/p/.kernel-builder,readonly=false",
        "type=bind,source=/v/ninja,target=/kernel-builder/bin/ninja,readonly",
    ]

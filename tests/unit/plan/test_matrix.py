"""The matrix: what ships, what a user's own file does to it, and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel_builder.backend import FACTS, Backend
from kernel_builder.errors import BadInputError
from kernel_builder.host import HostPlatform
from kernel_builder.plan import TorchBuild, plan_build
from kernel_builder.plan.matrix import load_matrix
from kernel_builder.version import MinorVersion
from tests.unit.plan.projects import DIGEST, LINUX, make_environment, make_spec

NEW = """
[[torch]]
release = "2.16"
cxx-standard = 23
python = "3.12"
cpu = { hosts = ["x86_64-linux"] }
cuda = { hosts = ["x86_64-linux"], toolkits = ["13.0", "14.1"] }
"""


def test_the_shipped_releases() -> None:
    matrix = load_matrix()
    assert [str(torch.release) for torch in matrix.torches] == ["2.10", "2.11", "2.12", "2.13", "2.14", "2.15"]
    for torch in matrix.torches:
        assert torch.cxx_standard == (17 if torch.release < MinorVersion(2, 12) else 20)
        assert torch.python is not None
        assert torch.builds is not None
        assert {build.backend for build in torch.builds} == {b for b, facts in FACTS.items() if facts.is_compiled}
        assert {build.host for build in torch.builds if build.backend is Backend.METAL} == {
            HostPlatform("aarch64", "darwin")
        }
        for build in torch.builds:
            assert FACTS[build.backend].versioned == (build.toolkit is not None)


def test_a_new_release_is_data_alone(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(NEW, encoding="utf-8")
    matrix = load_matrix(mine)
    newest = matrix.torches[-1]
    assert (str(newest.release), newest.cxx_standard, str(newest.python)) == ("2.16", 23, "3.12")
    assert TorchBuild(Backend.CUDA, MinorVersion(14, 1), LINUX) in (newest.builds or ())
    plan = plan_build(make_spec(Backend.CPU, Backend.CUDA), make_environment(newest, cuda="14.1"), DIGEST)
    assert [str(variant.variant) for variant in plan.variants] == [
        "torch216-cxx11-cpu-x86_64-linux",
        "torch216-cxx11-cu141-x86_64-linux",
    ]
    assert {variant.cxx_standard for variant in plan.variants} == {23}


def test_an_entry_takes_the_place_of_a_shipped_one(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('[[torch]]\nrelease = "2.13"\ncxx-standard = 17\n', encoding="utf-8")
    matrix = load_matrix(mine)
    assert len(matrix.torches) == len(load_matrix().torches)
    changed = matrix.find(MinorVersion(2, 13))
    assert changed is not None
    assert (changed.cxx_standard, changed.builds, changed.python) == (17, frozenset(), None)


def test_a_release_that_nobody_entered_is_like_the_one_before_it() -> None:
    matrix = load_matrix()
    assert matrix.find(MinorVersion(2, 99)) is None
    assert matrix.describe(MinorVersion(2, 99)).cxx_standard == 20
    assert matrix.describe(MinorVersion(2, 5)).cxx_standard == 17
    assert matrix.describe(MinorVersion(2, 99)).builds is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[torch]\n", "this is not TOML"),
        ("[torches]\n", "a matrix has no key `torches`"),
        ("torch = 3\n", "`torch` is a list of tables"),
        ("torch = [3]\n", "an entry is a table, not `3`"),
        ("[[torch]]\ncxx-standard = 20\n", "`release` is missing"),
        ('[[torch]]\nrelease = "2.16"\n', "`cxx-standard` is missing"),
        ("[[torch]]\nrelease = 2.16\ncxx-standard = 20\n", '`release` is a version in quotes such as `"2.13"`'),
        ('[[torch]]\nrelease = "2"\ncxx-standard = 20\n', "exactly two numeric components"),
        ('[[torch]]\nrelease = "2.16"\ncxx-standard = "c++20"\n', "`cxx-standard` is one of 14, 17, 20, 23, 26"),
        ('[[torch]]\nrelease = "2.16"\ncxx-standard = 20\ncxx11 = 1\n', "`cxx11` is true or false"),
        ('[[torch]]\nrelease = "2.16"\ncxx-standard = 20\ntpu = {}\n', "an entry has no key `tpu`"),
        ('[[torch]]\nrelease = "2.16"\ncxx-standard = 20\ncpu = 1\n', "`cpu` is a table, not `1`"),
        ('[[torch]]\nrelease = "2.16"\ncxx-standard = 20\ncpu = {}\n', "`hosts` is missing"),
        ('[[torch]]\nrelease = "2.16"\ncxx-standard = 20\ncpu = { hosts = "x" }\n', "is a list of strings"),
        ('[[torch]]\nrelease = "2.16"\ncxx-standard = 20\ncpu = { hosts = ["x64-linus"] }\n', "is not a host platform"),
        (
            '[[torch]]\nrelease = "2.16"\ncxx-standard = 20\ncpu = { hosts = [], toolkits = ["1.0"] }\n',
            "`cpu` has no toolkits",
        ),
        ('[[torch]]\nrelease = "2.16"\ncxx-standard = 20\ncuda = { hosts = [] }\n', "`toolkits` is missing"),
        ('[[torch]]\nrelease = "2.16"\ncxx-standard = 20\ncuda = { archs = [] }\n', "has `hosts` and `toolkits`"),
        (NEW + NEW, "torch 2.16 is there twice"),
        ("\x00", "this is not TOML"),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, text: str, told: str) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(text, encoding="utf-8")
    with pytest.raises(BadInputError, match=r"mine\.toml") as raised:
        load_matrix(mine)
    assert told in str(raised.value)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_bytes(b"#" * ((1 << 20) + 1))
    for name in ("nowhere", ".", "bytes", "large"):
        with pytest.raises(BadInputError):
            load_matrix(tmp_path / name)

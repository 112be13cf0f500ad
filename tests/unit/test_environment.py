"""Which torches are planned for, and what is known about those that are installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kernel_builder.backend import Backend
from kernel_builder.environment import TorchChoice, choose_torches, describe_installed, list_pythons
from kernel_builder.errors import BadInputError
from kernel_builder.host import HostPlatform
from kernel_builder.plan import TorchBuild
from kernel_builder.plan.matrix import load_matrix
from kernel_builder.torch_sdk import TorchSdk
from kernel_builder.version import MinorVersion

LINUX = HostPlatform("x86_64", "linux")
MATRIX = load_matrix()
ALL = ["2.10", "2.11", "2.12", "2.13", "2.14", "2.15"]


def make_sdk(release: str, root: Path = Path("torch"), **accelerators: str) -> TorchSdk:
    built_for = {Backend(name): MinorVersion.parse(version) for name, version in accelerators.items()}
    return TorchSdk(root, f"{release}.0", MinorVersion.parse(release), cxx11=True, accelerators=built_for)


def choose(choice: TorchChoice, *installed: str) -> list[str]:
    sdks = [make_sdk(release) for release in installed]
    return [str(torch.release) for torch in choose_torches(choice, sdks, LINUX, MATRIX)]


def ask(*releases: str, whole: bool = False, installed: tuple[Path, ...] = ()) -> TorchChoice:
    return TorchChoice(installed, tuple(map(MinorVersion.parse, releases)), whole)


@pytest.mark.parametrize(
    ("choice", "installed", "chosen"),
    [
        (ask(), ["2.13"], ["2.13"]),
        (ask(), ["2.9"], ["2.9"]),
        (ask(), [], ALL),
        (ask("2.15", "2.11"), ["2.13"], ["2.11", "2.15"]),
        (ask("2.9"), ["2.9"], ["2.9"]),
        (ask("2.15", installed=(Path("venv"),)), ["2.9"], ["2.9", "2.15"]),
        (ask(whole=True), ["2.13"], ALL),
        (ask("2.11", whole=True), [], ALL),
        (ask(whole=True, installed=(Path("venv"),)), ["2.9"], ["2.9", *ALL]),
    ],
)
def test_the_choice_decides_and_what_is_here_is_the_default(
    choice: TorchChoice, installed: list[str], chosen: list[str]
) -> None:
    assert choose(choice, *installed) == chosen


def test_every_release_that_nobody_knows_is_told() -> None:
    with pytest.raises(BadInputError) as raised:
        choose(ask("2.13", "2.98", "2.99"), "2.13")
    assert [problem.message.split(" is ")[0] for problem in raised.value.problems] == ["torch 2.98", "torch 2.99"]


def test_an_installed_torch_is_its_release_and_what_it_was_built_for() -> None:
    known = describe_installed(make_sdk("2.13", cuda="13.1"), LINUX, MATRIX)
    assert known.cxx_standard == 20
    assert TorchBuild(Backend.CUDA, MinorVersion(13, 1), LINUX) in (known.builds or ())
    assert TorchBuild(Backend.CUDA, MinorVersion(13, 0), LINUX) in (known.builds or ())
    old = describe_installed(make_sdk("2.9"), LINUX, MATRIX)
    assert old.cxx_standard == 17
    assert {build.backend for build in old.builds or ()} >= {Backend.CPU}
    assert Backend.CUDA not in {build.backend for build in old.builds or ()}


def test_other_environments_lend_their_python(tmp_path: Path) -> None:
    root = tmp_path / "lib" / "python3.12" / "site-packages" / "torch"
    root.mkdir(parents=True)
    sdk = make_sdk("2.11", root)
    assert list(list_pythons([sdk])) == []
    (tmp_path / "pyvenv.cfg").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    assert list(list_pythons([sdk])) == [tmp_path / "bin" / "python"]
    own = make_sdk("2.13", Path(sys.prefix) / "lib" / "python3" / "site-packages" / "torch")
    assert list(list_pythons([own])) == []

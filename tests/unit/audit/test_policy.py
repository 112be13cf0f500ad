from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest

from kernel_builder.audit.policy import load_policy, load_torch_shims, shipped_policies
from kernel_builder.backend import Backend
from kernel_builder.errors import BadInputError
from kernel_builder.version import MinorVersion


def write(directory: Path, text: str, name: str = "mine.toml") -> Path:
    (directory / name).write_text(text)
    return directory / name


def test_the_policies_that_are_shipped() -> None:
    assert shipped_policies() == ("hub", "local", "manylinux_2_28")
    assert load_policy().name == "hub"
    assert load_policy("local").provides_version("GLIBC_2.99")
    assert not load_policy("local").provides_version("GLIBC_PRIVATE")


def test_hub_is_manylinux_2_28_and_python_3_9() -> None:
    hub = load_policy("hub")
    assert hub.python_abi == MinorVersion(3, 9)
    limits = {name: hub.symbol_versions[name] for name in ("GLIBC", "GLIBCXX", "CXXABI", "GCC")}
    assert limits == {"GLIBC": (2, 28), "GLIBCXX": (3, 4, 24), "CXXABI": (1, 3, 11), "GCC": (7, 0, 0)}


def test_a_policy_extends_another(tmp_path: Path) -> None:
    base = write(tmp_path, 'extends = ["hub"]\n[libraries]\nsystem = ["libnuma.so.*"]\n', "base.toml")
    policy = load_policy(
        write(
            tmp_path,
            f'name = "mine"\nextends = ["{base.name}"]\npython-abi = "3.11"\n'
            '[symbol-versions]\nGLIBC = "2.34"\n[python-depends.cpu]\nnumpy = "numpy"\n',
        )
    )
    assert policy.name == "mine"
    assert policy.python_abi == MinorVersion(3, 11)
    assert policy.provides_version("GLIBC_2.34")
    assert not policy.provides_version("GLIBC_2.35")
    assert policy.provides_library("libnuma.so.1", "system")
    assert policy.provides_library("libc.so.6", "system")
    assert policy.module_of("numpy", Backend.CPU) == "numpy"
    assert policy.module_of("numpy", Backend.CUDA) is None
    assert policy.module_of("einops", Backend.CPU) == "einops"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('extends = ["hub"]\nglibc = "2.28"\n', "unknown key `glibc`"),
        ('extends = "hub"\n', "`extends` must be a list"),
        ('extends = ["hub"]\npython-abi = "3.9.1"\n', "`python-abi` must be a version"),
        ('extends = ["hub"]\npython-abi = 3.9\n', "got `3.9`"),
        ('extends = ["hub"]\n[symbol-versions]\nGLIBC = "2.x"\n', "`symbol-versions.GLIBC`"),
        ('extends = ["hub"]\n[libraries]\nsytem = []\n', "unknown key `libraries.sytem`"),
        ('extends = ["hub"]\n[libraries]\nsystem = "libc.so.6"\n', "must be a list of strings"),
        ('extends = ["hub"]\n[python-depends]\neinops = "einops"\n', "is not `general` or a backend"),
        ('extends = ["hub"]\nlibraries = 3\n', "`libraries` must be a table"),
        ('extends = ["mine.toml"]\n', "extends itself"),
        ('extends = ["absent.toml"]\n', "cannot read the policy"),
        ('name = "empty"\n', "has no `python-abi`"),
        ("= 3\n", "cannot read the policy"),
        ("name = 3\n", "`name` must be a string"),
    ],
)
def test_a_wrong_policy_is_the_users_error(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(BadInputError) as caught:
        load_policy(write(tmp_path, text))
    assert part in str(caught.value)


def test_all_problems_of_a_policy_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadInputError) as caught:
        load_policy(write(tmp_path, "a = 1\nb = 2\nname = 3\n"))
    assert len(caught.value.problems) == 3


def test_a_policy_that_is_not_there(tmp_path: Path) -> None:
    for source in ("manylinux_1", tmp_path, tmp_path / "absent.toml"):
        with pytest.raises(BadInputError, match="cannot read the policy"):
            load_policy(source)


def test_the_table_of_torch_functions() -> None:
    newest, introduced = load_torch_shims()
    assert newest >= MinorVersion(2, 15)
    assert introduced["aoti_torch_delete_tensor_object"] == MinorVersion(2, 9)
    assert introduced["torch_call_dispatcher"] == MinorVersion(2, 10)
    assert introduced["torch_from_blob"] == MinorVersion(2, 11)
    assert introduced["torch_library_def_with_tags"] == MinorVersion(2, 12)
    assert introduced["torch_exception_get_what_without_backtrace"] == MinorVersion(2, 13)
    assert introduced["torch_tensor_to_pyobject"] == MinorVersion(2, 14)
    assert introduced["torch_is_tensor_pyobject"] == MinorVersion(2, 15)


def test_the_table_lists_each_function_once() -> None:
    table = json.loads((files("kernel_builder.audit") / "policies" / "torch_shims.json").read_text())
    names = [name for group in table["introduced"].values() for name in group]
    assert len(names) == len(set(names))
    assert all(group == sorted(group) for group in table["introduced"].values())

"""What authors get to know without being stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel_builder.spec.model import TorchFramework, TorchNoarchFramework
from kernel_builder.spec.reader import LoadedSpec, read_spec
from kernel_builder.version import MinorVersion

HEAD = '[general]\nname = "relu"\nversion = 1\nedition = 5\nlicense = "MIT"\nbackends = ["cuda"]\n'
TORCH = '[torch]\nsrc = ["torch-ext/binding.cpp"]\n'


def read(text: str) -> LoadedSpec:
    return read_spec(text, root=Path())


def component(name: str, src: str, more: str = "") -> str:
    return f'[kernel.{name}]\nbackend = "cuda"\ndepends = []\nsrc = [{src}]\n{more}'


def test_edition_4_is_lifted_with_a_word() -> None:
    loaded = read(HEAD.replace("edition = 5\n", "") + TORCH)
    assert loaded.spec.edition == 4
    assert loaded.notices == (
        "build.toml:1: read as edition 4; to move to edition 5, write `edition = 5` in `[general]`",
    )


def test_edition_3_is_lifted_with_what_it_left_open() -> None:
    loaded = read('[general]\nname = "flash_attn3"\nbackends = ["cuda"]\n\n[general.cuda]\nminver = "12"\n')
    spec = loaded.spec
    assert (spec.edition, spec.general.name, spec.general.python_name) == (3, "flash-attn3", "flash_attn3")
    assert (spec.general.version, spec.general.license) == (1, "unknown")
    assert spec.framework == TorchNoarchFramework()
    assert [section.minver for section in spec.general.per_backend.values()] == [MinorVersion(12, 0)]
    assert loaded.notices == (
        "build.toml:1: no `license` is declared: metadata will say `unknown`",
        (
            "build.toml:1: read as edition 3; to move to edition 5, write `edition = 5`, `version = 1` and a `license` "
            "in `[general]`, and an empty table `[torch-noarch]`"
        ),
        "build.toml:2: the kernel is called `flash-attn3`: `flash_attn3` has underscores",
    )


@pytest.mark.parametrize("edition", [3, 4])
def test_an_older_edition_may_say_which_it_is(edition: int) -> None:
    loaded = read(HEAD.replace("= 5", f"= {edition}") + TORCH + 'minver = "2.9.1"\n')
    assert loaded.spec.edition == edition
    assert isinstance(loaded.spec.framework, TorchFramework)
    assert loaded.spec.framework.minver == MinorVersion(2, 9)


@pytest.mark.parametrize(
    ("text", "notice"),
    [
        (
            component("a", '"x.cu"') + component("b", '"x.cu", "x.h"'),
            "build.toml:16: `x.cu` is in `kernel.a.src` as well as in `kernel.b.src`: it is compiled once",
        ),
        (component("a", '"x.h", "x.cu", "./x.h"'), "build.toml:12: `x.h` is listed twice in `kernel.a.src`"),
        (
            component("a", '"x.cu"', 'cuda-capabilities = ["8.0", "11.8"]\n'),
            (
                "build.toml:13: `kernel.a.cuda-capabilities[1]` is a CUDA capability that no GPU has: `11.8`; "
                "it is left out"
            ),
        ),
        (
            component("a", '"x.cu"', 'cuda-minver = "13.1"\n') + '[general.cuda]\nmaxver = "12.9"\n',
            "build.toml:13: `kernel.a` is never built: it needs CUDA 13.1, and `general.cuda.maxver` is 12.9",
        ),
        (
            "[general.xpu]\n",
            "build.toml:9: `[general.xpu]` has no effect: `general.backends` does not list `xpu`",
        ),
        (
            '[general.backend-capabilities]\nxpu = ["float16"]\n',
            "build.toml:10: `general.backend-capabilities.xpu` has no effect: `general.backends` does not list `xpu`",
        ),
        (
            '[torch.stable-abi]\nrocm = "2.10"\n',
            "build.toml:10: `torch.stable-abi.rocm` has no effect: `general.backends` does not list `rocm`",
        ),
    ],
)
def test_notice(text: str, notice: str) -> None:
    assert read(HEAD + TORCH + text).notices == (notice,)


def test_components_without_compilation() -> None:
    loaded = read(HEAD + "[torch-noarch]\n" + component("a", '"x.cu"'))
    assert loaded.notices == ("build.toml:8: `kernel.a` is not compiled: the project is `[torch-noarch]`",)


def test_headers_may_be_shared_in_silence() -> None:
    assert read(HEAD + TORCH + component("a", '"x.h", "a.cu"') + component("b", '"x.h", "b.cu"')).notices == ()

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kernel_builder.container.image import (
    BASE_VARIABLE,
    ImageChoice,
    Recipe,
    check_reference,
    find_dockerfile,
    list_arguments,
)
from kernel_builder.errors import BadInputError
from kernel_builder.host import HostPlatform

ROOT = Path(__file__).parents[3]
X86, ARM = HostPlatform("x86_64", "linux"), HostPlatform("aarch64", "linux")


def test_an_image_is_named_after_all_that_is_in_it() -> None:
    recipes = [
        Recipe(b"FROM a AS cpu\n", "cpu", {}),
        Recipe(b"FROM b AS cpu\n", "cpu", {}),
        Recipe(b"FROM a AS cpu\n", "cuda", {}),
        Recipe(b"FROM a AS cpu\n", "cpu", {"BASE_IMAGE": "a"}),
        Recipe(b"FROM a AS cpu\n", "cpu", {"BASE_IMAGE": "b"}),
    ]
    assert len({recipe.image_name for recipe in recipes}) == len(recipes)
    assert recipes[0].image_name == Recipe(b"FROM a AS cpu\n", "cpu", {}).image_name
    assert all(re.fullmatch(r"kernel-builder:(cpu|cuda)-[0-9a-f]{16}", recipe.image_name) for recipe in recipes)


@pytest.mark.parametrize("name", ["gcc:14", "debian", "ghcr.io/a/b_c:1.2-x@sha256:" + "0" * 64, "localhost:5000/a"])
def test_names_of_images(name: str) -> None:
    assert check_reference(name) == name


@pytest.mark.parametrize("name", ["", "-v", "--privileged", "a b", "a;b", "$(a)", "../a", "a\nb", "ä"])
def test_what_is_no_name_of_an_image(name: str) -> None:
    with pytest.raises(BadInputError):
        check_reference(name)


def test_the_base_is_the_default_of_the_dockerfile_or_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BASE_VARIABLE, raising=False)
    assert list_arguments(ImageChoice(), X86) == {}
    assert "manylinux_2_28_aarch64@sha256:" in list_arguments(ImageChoice(), ARM)["BASE_IMAGE"]
    monkeypatch.setenv(BASE_VARIABLE, "debian:12")
    assert list_arguments(ImageChoice(), ARM) == {"BASE_IMAGE": "debian:12"}
    assert list_arguments(ImageChoice(base="debian:13"), ARM) == {"BASE_IMAGE": "debian:13"}
    monkeypatch.setenv(BASE_VARIABLE, "--privileged")
    with pytest.raises(BadInputError):
        list_arguments(ImageChoice(), X86)


def test_the_dockerfile_has_a_pinned_base_and_a_stage_for_each_toolchain() -> None:
    assert find_dockerfile() == ROOT / "Dockerfile"
    text = find_dockerfile().read_text(encoding="utf-8")
    assert re.search(r"^ARG BASE_IMAGE=\S+/manylinux_2_28_x86_64@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    assert re.findall(r"^FROM \S+ AS (\w+)$", text, re.MULTILINE) == ["cpu", "cuda", "rocm"]
    for source in re.findall(r"^COPY (\S+) ", text, re.MULTILINE):
        assert (ROOT / source).is_file()

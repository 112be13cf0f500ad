"""Our reader beside the one in the `kernels` package, on the same files of edition 5.

What it accepts we accept, but for the values listed here, which nobody can use; what it refuses we refuse.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from kernels import _rust

from kernel_builder.errors import BadInputError, Problem
from kernel_builder.spec.reader import read_spec
from tests.properties.toml_documents import documents, write_document

CORPUS = sorted((Path(__file__).parents[1] / "fixtures" / "corpus").glob("*/build.toml"))

# Keys whose strings only we look into; and versions, which must be spelled in one way.
STRICTER = {
    *("license", "repo-id", "branch", "revision", "upstream", "source", "python-depends", "pyext"),
    *("src", "include", "cxx-flags", "cuda-flags", "hip-flags", "sycl-flags", "cuda-capabilities", "cuda_capabilities"),
    *("rocm-archs", "rocm_archs", "minver", "maxver", "cuda-minver", "stable-abi"),
}


def refusals(text: str) -> tuple[Problem, ...]:
    """What the reader alone refuses: the rules between sections are ours and left out."""
    try:
        read_spec(text, root=Path(), rules=())
    except BadInputError as error:
        return error.problems
    return ()


def is_accepted_by_the_loader(text: str) -> bool:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "build.toml").write_text(text, encoding="utf-8")
        try:
            _rust.Build.open(Path(directory))
        except (ValueError, OSError):
            return False
    return True


def is_ours_to_refuse(problem: Problem) -> bool:
    if problem.message.startswith("the name of `[kernel."):
        return True
    if "must be a table, got an" in problem.message:
        return True  # the other parser takes an array for the values of a table, in some order
    key = "" if problem.location is None else str(problem.location.key)
    return any(part.partition("[")[0].strip('"') in STRICTER for part in key.split("."))


@given(documents())
def test_the_two_readers_agree(document: dict[str, Any]) -> None:
    general = document.get("general")
    if not isinstance(general, dict) or general.get("edition", 4) in [3, 4]:
        return  # editions 3 and 4 may say so here, and are read with fewer demands
    if "face" in document or {"cuda-capabilities", "rocm-archs"} & set(document.get("torch-noarch", ())):
        return  # extensions of ours
    text = write_document(document)
    problems = refusals(text)
    if is_accepted_by_the_loader(text):
        assert all(is_ours_to_refuse(problem) for problem in problems), f"{problems}\n{text}"
    else:
        assert problems, text


@pytest.mark.parametrize("file", CORPUS, ids=[file.parent.name for file in CORPUS])
def test_the_two_readers_agree_on_the_corpus(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert is_accepted_by_the_loader(text)
    assert all(is_ours_to_refuse(problem) for problem in refusals(text))

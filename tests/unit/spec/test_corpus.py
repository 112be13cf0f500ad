"""Files that people wrote: every one loads, and says about itself what the loader's own parser says."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel_builder.errors import BadInputError
from kernel_builder.spec.reader import load_spec

CORPUS = Path(__file__).parents[2] / "fixtures" / "corpus"
FILES = sorted(CORPUS.glob("*/build.toml"))
BROKEN_ON_PURPOSE = "example-relu-invalid-capability"


def test_the_corpus_is_whole() -> None:
    assert len(FILES) == 47


@pytest.mark.parametrize("file", FILES, ids=[file.parent.name for file in FILES])
def test_it_loads(file: Path) -> None:
    if file.parent.name == BROKEN_ON_PURPOSE:
        with pytest.raises(BadInputError) as caught:
            load_spec(file, check_files=False)
        assert [str(problem.location).rpartition(", at ")[2] for problem in caught.value.problems] == [
            "kernel.relu_rocm.rocm-archs[0]",
            "kernel.relu.cuda-capabilities[0]",
        ]
        return
    loaded = load_spec(file, check_files=False)
    assert loaded.spec.edition == (5 if "edition = 5" in file.read_text(encoding="utf-8") else 4)
    assert loaded.spec.root == file.parent
    assert len(loaded.notices) <= 2


@pytest.mark.parametrize("file", FILES, ids=[file.parent.name for file in FILES])
def test_without_its_sources_it_is_refused_for_nothing_else(file: Path) -> None:
    if file.parent.name == BROKEN_ON_PURPOSE:
        return
    with pytest.raises(BadInputError) as caught:
        load_spec(file)
    for problem in caught.value.problems:
        assert "does not exist" in problem.message or "more than these" in problem.message

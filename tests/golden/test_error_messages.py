"""One broken `build.toml` per folder of `errors/`, and the very words that its author gets to read.

The files that a `build.toml` names are looked at in those folders that have other files too. `UPDATE_GOLDEN=1`
rewrites `expected.txt`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel_builder.errors import BadInputError
from kernel_builder.spec.reader import load_spec

ERRORS = Path(__file__).parent / "errors"
CASES = sorted(path for path in ERRORS.iterdir() if path.is_dir())
OWN_FILES = {"build.toml", "expected.txt"}


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_error_message(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case)
    has_files = any(path.name not in OWN_FILES for path in case.iterdir())
    with pytest.raises(BadInputError) as caught:
        load_spec(Path(), check_files=has_files)
    expected = case / "expected.txt"
    text = f"{caught.value}\n"
    if os.environ.get("UPDATE_GOLDEN"):
        expected.write_text(text, encoding="utf-8")
    assert expected.read_text(encoding="utf-8") == text


def test_every_case_is_complete() -> None:
    assert len(CASES) >= 30
    assert sorted(ERRORS.iterdir()) == CASES, "a stray file"
    for case in CASES:
        assert {path.name for path in case.iterdir()} >= OWN_FILES, case.name

"""Units of the project's templates, as the builder makes them, for tests that compile one by itself."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from kernel_builder.spec.reader import load_spec
from kernel_builder.spec.units import make_units
from tests.kernels.artifact import ROOT


def list_units(folder: str) -> dict[PurePosixPath, bytes]:
    """The units whose templates lie in a folder of the project: path beside the template -> text."""
    matrices = [matrix for component in load_spec(ROOT).spec.components for matrix in component.instantiate]
    return {
        path: text
        for matrix in matrices
        if matrix.template.parent == PurePosixPath(folder)
        for path, text in make_units(ROOT, matrix).items()
    }


def write_unit(path: PurePosixPath, target: Path) -> Path:
    """Write one of them into the directory `target`; it includes what lies beside its template."""
    unit = target / path.name
    unit.write_bytes(list_units(str(path.parent))[path])
    return unit

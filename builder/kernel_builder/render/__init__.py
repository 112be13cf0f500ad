"""Stage 3: BuildPlan -> FileSet, the generated CMake project in memory."""

from __future__ import annotations

from kernel_builder.render.fileset import FileSet
from kernel_builder.render.project import render_project

__all__ = ["FileSet", "render_project"]

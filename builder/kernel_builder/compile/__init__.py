"""Stage 4: FileSet -> compiled tree. The only stage that needs a compiler."""

from __future__ import annotations

from kernel_builder.compile.model import CompiledTree, FileTiming
from kernel_builder.compile.project import compile_project
from kernel_builder.compile.workspace import Workspace, open_workspace

__all__ = ["CompiledTree", "FileTiming", "Workspace", "compile_project", "open_workspace"]

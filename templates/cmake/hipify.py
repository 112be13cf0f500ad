"""Translate CUDA sources of a kernel project to HIP with torch's hipify, which is run from its files, without torch.

Prints the files to compile, one a line, in the order of the sources: translated ones for CUDA files, others unchanged.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

CODE = {".cu", ".cuh", ".c", ".cc", ".cpp", ".cxx", ".h", ".hh", ".hip", ".hpp", ".hxx", ".inc", ".inl"}


def load_hipify(torch: Path) -> ModuleType:
    """Import torch's hipify from the files of a torch package, which need not be importable itself."""
    package = torch / "utils" / "hipify"
    spec = importlib.util.spec_from_file_location(
        "kernel_hipify", package / "__init__.py", submodule_search_locations=[str(package)]
    )
    if spec is None or not package.is_dir():
        sys.exit(f"`{package}` is not there: give a torch that has its Python files")
    sys.modules["kernel_hipify"] = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(package))  # the package imports its own `version` by that name
    return importlib.import_module("kernel_hipify.hipify_python")


def copy_code(project: Path, output: Path) -> None:
    """Hipify writes beside what it reads, so it reads a copy; hidden directories and results of builds stay out."""
    for path in sorted(project.rglob("*")):
        relative = path.relative_to(project)
        hidden = any(part.startswith(".") for part in relative.parts) or relative.parts[0] in {"build", "result"}
        if path.is_file() and path.suffix in CODE and not hidden:
            target = output / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.is_file() or target.read_bytes() != path.read_bytes():
                shutil.copyfile(path, target)


def main() -> None:
    """Translate what the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--torch", type=Path, required=True)
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--units", type=Path, help="sources below it stand for files of the project")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--include", type=Path, action="append", default=[])
    parser.add_argument("sources", type=Path, nargs="*")
    arguments = parser.parse_args()

    roots = [root for root in (arguments.units, arguments.project) if root is not None]
    for root in roots:
        copy_code(root, arguments.output)
    output = arguments.output
    copies = {
        path: output / next(path.relative_to(root) for root in roots if path.is_relative_to(root))
        for path in arguments.sources + arguments.include
    }
    cuda = [str(copies[source]) for source in arguments.sources if source.suffix == ".cu"]
    translated = {}
    if cuda:
        with contextlib.redirect_stdout(sys.stderr):
            result = load_hipify(arguments.torch).hipify(
                project_directory=str(output),
                output_directory=str(output),
                includes=[f"{output}/*"],
                header_include_dirs=[str(copies[directory]) for directory in arguments.include],
                extra_files=cuda,
                show_progress=False,
                is_pytorch_extension=True,
                hipify_extra_files_only=True,
            )
        translated = {name: outcome.hipified_path for name, outcome in result.items()}
    for source in arguments.sources:
        sys.stdout.write(f"{translated[str(copies[source])] if source.suffix == '.cu' else source}\n")


if __name__ == "__main__":
    main()

"""Translate CUDA sources of a kernel project to HIP with torch's hipify, which is run from its files, without torch.

Prints the files to compile, one a line, in the order of the sources: translated ones for CUDA files, others unchanged.
"""

import argparse
import contextlib
import importlib.util
import shutil
import sys
from pathlib import Path

CODE = {".cu", ".cuh", ".c", ".cc", ".cpp", ".cxx", ".h", ".hh", ".hip", ".hpp", ".hxx", ".inc", ".inl"}


def load_hipify(torch: Path):
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
    """hipify writes beside what it reads, so it reads a copy; hidden directories and results of builds stay out."""
    for path in sorted(project.rglob("*")):
        relative = path.relative_to(project)
        hidden = any(part.startswith(".") for part in relative.parts) or relative.parts[0] in {"build", "result"}
        if path.is_file() and path.suffix in CODE and not hidden:
            target = output / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.is_file() or target.read_bytes() != path.read_bytes():
                shutil.copyfile(path, target)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--torch", type=Path, required=True)
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("sources", type=Path, nargs="*")
    arguments = parser.parse_args()

    copy_code(arguments.project, arguments.output)
    cuda = [str(source.relative_to(arguments.project)) for source in arguments.sources if source.suffix == ".cu"]
    translated = {}
    if cuda:
        with contextlib.redirect_stdout(sys.stderr):
            result = load_hipify(arguments.torch).hipify(
                project_directory=str(arguments.project),
                output_directory=str(arguments.output),
                includes=[f"{arguments.output}/*"],
                extra_files=cuda,
                show_progress=False,
                is_pytorch_extension=True,
                hipify_extra_files_only=True,
            )
        translated = {name: outcome.hipified_path for name, outcome in result.items()}
    for source in arguments.sources:
        copy = str(arguments.output / source.relative_to(arguments.project)) if source.suffix == ".cu" else None
        print(translated.get(copy, source) if copy is not None else source)


if __name__ == "__main__":
    main()
